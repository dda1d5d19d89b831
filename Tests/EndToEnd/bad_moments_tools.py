"""What the drivers of bad moments have in common: releases, processes that are to be met at their worst, and commands that are refused."""
import contextlib
import json
import os
import signal
import socket
import subprocess

from harness import check, contains, equal, within
from installed import renamed
from last_word import left, programs


def versions(bundle, home):
    """Three releases; the gateway of the last one ends at once."""
    def made(version, gateway=None):
        return renamed(bundle, os.path.join(home.world.root, f"{version}.tar.gz"), version, level=0, gateway=gateway)

    return made("7.0.0"), made("7.1.0"), made("7.2.0", "exit 3")


def current(home):
    return os.readlink(home.file("current")).split("/")[-1]


def supervisor_of(home):
    with open(home.file("supervisor.json"), encoding="utf-8") as file:
        return json.load(file)["supervisor"]["pid"]


def refused(home, *words, code, help=None, **more):
    """Runs a command that is to be refused. -> the error"""
    ended = home.run(*words, "--json", **more)
    error = ended.error or {}
    equal(f"'{words[0]}' is refused", error.get("code"), code) or print(ended.out, ended.err, flush=True)
    if help:
        contains("and says what to do", error.get("help") or "", help)
    return error


def gone(home):
    home.json("uninstall", "--yes", "--purge")
    equal("nothing is left", left(home), [])
    check("and nothing runs", within(10, lambda: not programs(home)), "nothing", programs(home))


@contextlib.contextmanager
def taken_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def begin(home, *words, environment={}):
    """Starts a command that is to be killed, or watched while it waits. -> its process"""
    return home.world.start([home.program, *words, "--json"], {**home.environment, **environment},
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def suspend(pid):
    """Stops a process; when this returns, none of its threads runs any more, whatever signal comes."""
    def stopped():
        states = []
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/stat", encoding="utf-8") as file:
                states.append(file.read().rpartition(") ")[2][0])
        return all(state == "T" for state in states)

    os.kill(pid, signal.SIGSTOP)
    check("it is suspended", bool(within(20, stopped)), "all threads", pid)


def is_told_to_end(pid):
    """Whether a process that is suspended will hear of it."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        pending = [int(line.split()[1], 16) for line in file if line.startswith(("SigPnd", "ShdPnd"))]
    return any(bits & 1 << signal.SIGTERM - 1 for bits in pending)


def listens(home, host):
    with contextlib.suppress(OSError), socket.create_connection((host, home.port), 10):
        return True
    return False
