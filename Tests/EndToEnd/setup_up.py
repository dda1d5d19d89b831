#!/usr/bin/python3
"""`./setup/up` on a clean checkout in an empty home, as the first thing that anybody does: a gateway that answers, and the line
that connects a client, which is then run. The checkout has the next version, so that appliance.py can upgrade to what it builds.
"""
import os
import re
import shutil
import subprocess
import time

from harness import ROOT, Skip, check, contains, equal, matches, run, section, tool
from installed import NEXT, Home


def git(*words, at=ROOT):
    return subprocess.run(["git", "-C", at, "-c", "user.name=tests", "-c", "user.email=tests@localhost", *words], check=True,
                          capture_output=True, text=True).stdout


def checkout():
    """A clean checkout of what is here, committed or not, with the next version. -> that version"""
    shutil.rmtree(NEXT, ignore_errors=True)
    try:
        names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")[:-1]
        git("clone", "--quiet", ROOT, NEXT)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Skip(f"this is no git checkout: {error}") from None
    for name in git("ls-files", "-z", at=NEXT).split("\0")[:-1]:
        os.unlink(os.path.join(NEXT, name))
    for name in names:
        if os.path.lexists(os.path.join(ROOT, name)):
            os.makedirs(os.path.dirname(os.path.join(NEXT, name)), exist_ok=True)
            shutil.copy2(os.path.join(ROOT, name), os.path.join(NEXT, name), follow_symlinks=False)
    path = os.path.join(NEXT, "Sources", "Appliance", "Product.swift")
    with open(path) as file:
        text = file.read()
    major, minor = re.search(r'static let version = "(\d+)\.(\d+)\.', text).groups()
    version = f"{major}.{int(minor) + 1}.0"
    with open(path, "w") as file:
        file.write(re.sub(r'(static let version = )".*"', rf'\1"{version}"', text))
    git("add", "--all", at=NEXT)
    git("commit", "--quiet", "--message", f"The next version: {version}", at=NEXT)
    equal("the checkout is clean", git("status", "--porcelain", "--ignored", at=NEXT), "")
    return version


def drive(world):
    version = checkout()
    home = Home(world, "newcomer")
    home.environment.update({"PATH": f"{home.path}/.local/bin:{os.environ['PATH']}", "LLM_GATEWAY_HTTP_PORT": str(home.port)})
    # A service manager would read the units of the real home.
    flags = ["--detached"] if os.path.isdir("/run/systemd/system") else []

    def up(title):
        began = time.monotonic()
        ended = world.call(["./setup/up", *flags], home.environment, timeout=1500, cwd=NEXT)
        print(f"    {title}: {time.monotonic() - began:.0f} s", flush=True)
        if not equal(f"{title} ends with 0", ended.returncode, 0):
            print(ended.stdout[-4000:] + ended.stderr[-4000:], flush=True)
        return ended

    first = up("the first setup/up")
    equal("nothing of the checkout was changed", git("status", "--porcelain", at=NEXT), "")
    steps = re.findall(r"^== (.+)$", first.stdout, re.M)
    equal("its steps", steps, ["packages", "build and bundle", "setup", "install", "start", "doctor", "connect a client"])
    print("".join(f"    {line}\n" for line in first.stdout[first.stdout.find("== setup"):].splitlines()), end="", flush=True)
    home.program = home.link
    home.environment.pop("LLM_GATEWAY_HTTP_PORT")
    with section("what is there afterwards"):
        contains("the linked command has the version", home.run("version").out, version)
        before = home.json("status").status
        equal("the gateway answers", (before["healthy"], before["version"]), (True, version), vital=True)
        findings = home.json("doctor").json["findings"]
        equal("the doctor finds no error", [found["code"] for found in findings if found["severity"] == "error"], [])
        client = home.client()
        client.initialize()
        equal("a tool answers over HTTP", client.tool("session_list").get("isError", False), False)
    with section("the line that connects a client"):
        line = first.stdout.rstrip().splitlines()[-1]
        matches("is the last one", line, rf"^claude mcp add --transport http llm-cli-gateway http://127\.0\.0\.1:{home.port}/mcp ")
        os.symlink(tool("claude"), os.path.join(home.path, ".local", "bin", "claude"))
        quiet = {**home.environment, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}
        added = world.call(["/bin/bash", "-c", line], quiet)
        equal("the real claude takes it", added.returncode, 0) or print(f"    {added.stdout}{added.stderr}")
        listed = world.call(["claude", "mcp", "list"], quiet)
        matches("and is connected", listed.stdout, r"llm-cli-gateway: .*Connected") or print(f"    {listed.stderr}")
        os.unlink(os.path.join(home.path, ".local", "bin", "claude"))
    with section("a second time"):
        home.environment["LLM_GATEWAY_HTTP_PORT"] = str(home.port)
        up("the second setup/up")
        home.environment.pop("LLM_GATEWAY_HTTP_PORT")
        after = home.json("status").status
        equal("leaves the running gateway alone", (after["pid"], after["healthy"]), (before["pid"], True))
    with section("removal"):
        home.json("uninstall", "--yes", "--purge")
        equal("takes all of it", [path for path in home.tree() if "llm-cli-gateway" in path and not path.startswith((".cache", ".claude"))],
              [])
        check("and stops the gateway", not os.path.exists(f"/proc/{before['pid']}"), "gone", before["pid"])


run(drive)
