#!/usr/bin/python3
"""The release on other distributions' C libraries, with their own loaders: one sentence on those that are too old, an answer on the
oldest that can be had beside the one promised.
"""
import json
import os

from harness import check, contains, equal, product, run, section, tool
from installed import namespace

SENTENCE = "this system has glibc {}, and llm-cli-gateway needs 2.34 or newer"
HELLO = ('{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},'
         '"clientInfo":{"name":"old","version":"1"}}}\n')


def system(world, root):
    """What runs a program of the release in a root file system that holds nothing but a C library and the release."""
    folder = world.directory(os.path.basename(root))
    script = (f"mount -t tmpfs none '{folder}'\ncp -R '{root}/.' '{folder}'\nmkdir -p '{folder}/given' '{folder}/home' '{folder}/proc'\n"
              f"cp '{product('llm-cli-gateway')}' '{product('llm-gateway')}' '{folder}/given'\nmount --rbind /proc '{folder}/proc'")

    def within(program, *words, text=""):
        return world.call([*namespace(script), "/usr/sbin/chroot", folder, f"/given/{program}", *words],
                          {"HOME": "/home", "PATH": "/given:/usr/sbin:/usr/bin:/sbin:/bin"}, text)
    return within


def drive(world):
    libraries = os.path.dirname(tool("c-libraries"))
    for version in ["2.23", "2.31"]:
        with section(f"glibc {version}"):
            within = system(world, os.path.join(libraries, version))
            for program, words in [("llm-cli-gateway", ["version"]), ("llm-cli-gateway", ["doctor", "--json"]),
                                   ("llm-gateway", ["--version"])]:
                ended = within(program, *words)
                contains(f"{program} {' '.join(words)} says what it needs", ended.stderr, SENTENCE.format(version))
                contains("and what to do, as the last word", ended.stderr.splitlines()[-1], "help: use Debian 12, Ubuntu 22.04")
                equal("fails", (ended.returncode, ended.stdout), (1, ""))
    with section("glibc 2.35"):
        within = system(world, os.path.join(libraries, "2.35"))
        ended = within("llm-cli-gateway", "version")
        check("the manager starts", ended.returncode == 0 and ended.stderr == "", "its version", ended.stderr)
        ended = within("llm-cli-gateway", "status", "--json")
        equal("and answers", json.loads(ended.stdout)["status"]["running"], False)
        contains("the gateway speaks", within("llm-gateway", text=HELLO).stdout, '"serverInfo"')


run(drive)
