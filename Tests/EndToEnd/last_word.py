#!/usr/bin/python3
"""Who has the last word about a gateway that several commands start, stop, replace, move and restore at once.

    last_word.py              without systemd: under our own supervising process
    last_word.py systemd      under a real user service manager

The gateway is the real one behind a script: while a file is there, it hangs instead of starting.
"""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from harness import Tally, check, contains, equal, run, section, within
from installed import Bundle, Home, alive, release, renamed, under_systemd
from systemd_service import UNIT, Inside, ServiceHome

REAL = 'exec "$(dirname "$(readlink -f "$0")")/llm-gateway.real" "$@"'


def hanging(bundle, home, version):
    """The bundle under another version, whose gateway hangs while the file `hang` of the home's directory is there."""
    return renamed(bundle, os.path.join(home.world.root, f"{version}.tar.gz"), version, level=0,
                   gateway=f'[ -e "{home.world.root}/hang" ] && exec sleep 600\n{REAL}')


def hang(home, on):
    path = os.path.join(home.world.root, "hang")
    if on:
        with open(path, "w", encoding="utf-8"):
            pass
    else:
        os.unlink(path)


def begin(home, *words, environment=None):
    """Starts a command and does not wait for it."""
    return home.world.start([home.program, *words, "--json"], {**home.environment, **(environment or {})},
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process, limit=90):
    """-> (exit status, what it printed as JSON)"""
    out, err = process.communicate(timeout=limit)
    try:
        return process.returncode, json.loads(out)
    except ValueError:
        return process.returncode, {"out": out, "err": err}


def programs(home):
    """What runs from the home: {pid: command line}."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
            with open(f"/proc/{pid}/environ", "rb") as file:
                environ = file.read()
            if f"{home.state}/" in line or (line == "sleep 600" and f"LLM_GATEWAY_HOME={home.state}\0".encode() in environ):
                found[int(pid)] = line
    return found


def nothing_runs(home, title):
    told = home.status()
    equal(f"{title}: nothing runs", (told["running"], told["healthy"]), (False, False))
    check(f"{title}: no process is left", within(10, lambda: not programs(home)), "none", programs(home))


def starts(home):
    with section("a stop beside starts of a gateway that hangs"):
        hang(home, True)
        waiting = [begin(home, "start") for _ in range(4)]
        check("one is under way", within(20, lambda: any("sleep 600" in line for line in programs(home).values())), "it hangs",
              programs(home))
        told = home.json("stop", timeout=30)
        equal("the stop does not wait for it", told.status and told.status["running"], False)
        codes = [ended(process) for process in waiting]
        wrong = [told for code, told in codes if told.get("error", {}).get("code") != "service-stopped"]
        equal("every start says that it was stopped", wrong, [])
        nothing_runs(home, "afterwards")
        hang(home, False)


def restores(home, supervisor):
    with section("a stop beside a restore"):
        backup = os.path.join(home.world.root, "home.tgz")
        home.json("start")
        home.json("backup", backup)
        # So that its end takes a while, as with calls in flight; systemd would wake up one that was stopped by a signal.
        slow = os.path.join(home.path, f".config/systemd/user/{UNIT}.service.d")
        if supervisor == "systemd":
            os.makedirs(slow)
            with open(f"{slow}/slow.conf", "w", encoding="utf-8") as file:
                file.write("[Service]\nExecStop=/bin/sleep 2\n")
            home.systemctl("daemon-reload")
        for _ in range(3):
            pid = home.json("start").status["pid"]
            if supervisor == "detached":
                os.kill(pid, signal.SIGSTOP)
            restoring = begin(home, "restore", backup, "--replace")
            check("the restore waits for the gateway's end", within(20, lambda: os.path.exists(home.file("restore.json"))), "its journal",
                  os.listdir(home.state))
            stopping = begin(home, "stop")
            # It waits for the restore by now, or will in a moment: either way it comes second.
            time.sleep(0.5)
            if supervisor == "detached":
                os.kill(pid, signal.SIGCONT)
            restored, stopped = ended(restoring), ended(stopping)
            equal("both end well", (restored[0], stopped[0]), (0, 0)) or print(restored, stopped, flush=True)
            nothing_runs(home, "afterwards")
        if supervisor == "systemd":
            shutil.rmtree(slow)
            home.systemctl("daemon-reload")
        home.json("start")
    if supervisor == "systemd":
        equal("its unit is what runs", home.shown("ActiveState")["ActiveState"], "active")


def upgrades(home, bundle):
    with section("a stop during an upgrade"):
        following = hanging(bundle, home, "8.0.0")
        hang(home, True)
        upgrading = begin(home, "upgrade", *following.flags)
        check("the new version is being started", within(40, lambda: any("sleep 600" in line for line in programs(home).values())),
              "it hangs", programs(home))
        equal("the stop ends well", home.json("stop", timeout=40).status["running"], False)
        code, told = ended(upgrading)
        equal("the upgrade does not blame the version", (code, told.get("restarted")), (0, False)) or print(told, flush=True)
        nothing_runs(home, "afterwards")
        hang(home, False)
        told = home.json("start").status
        equal("the new version is what starts", (told["healthy"], os.readlink(home.file("current"))), (True, "versions/8.0.0"))


def names(home):
    with section("one home by two names"):
        link = os.path.join(home.world.root, "by-another-name")
        os.symlink(home.state, link)
        other = {"LLM_GATEWAY_HOME": link}
        before = home.json("start").status
        told = home.json("status", environment=other).status
        equal("status knows the gateway", (told["running"], told["healthy"], told["pid"]), (True, True, before["pid"]))
        equal("start leaves it alone", home.json("start", environment=other).status["pid"], before["pid"])
        equal("doctor has nothing against it", home.run("doctor", "--json", environment=other).code, 0)
        equal("stop stops it", home.json("stop", environment=other).status["running"], False)
        nothing_runs(home, "afterwards")
        os.unlink(link)


def strays(home, bundle):
    with section("an upgrade after the supervising process was killed"):
        home.json("start")
        with open(home.file("supervisor.json"), encoding="utf-8") as file:
            supervisor = json.load(file)["supervisor"]["pid"]
        os.kill(supervisor, signal.SIGKILL)
        check("it is gone", within(5, lambda: not alive(supervisor)), "gone", supervisor)
        told = home.json("upgrade", *hanging(bundle, home, "8.1.0").flags)
        equal("it ends well", told.json and told.json.get("restarted"), True)
        now = home.status()
        equal("the new version is watched over again", (now["healthy"], now["supervisor"], now["version"]),
              (True, "detached", home.bundle.version))
        with open(home.file("supervisor.json"), encoding="utf-8") as file:
            check("by another process", json.load(file)["supervisor"]["pid"] != supervisor, "another", supervisor)


def others(home):
    with section("another home directory of the same user"):
        before = home.json("start").status["pid"]
        for copied in (False, True):
            other = os.path.join(home.world.root, "copied" if copied else "fresh")
            if copied:
                subprocess.run(["cp", "-a", home.path, other], check=True)
            else:
                os.mkdir(other)
            there = {"HOME": other}
            home.json("setup", "--port", "47123", environment=there)
            if not copied:
                home.json("install-bundle", *home.bundle.flags, environment=there)
            home.refused("start", code=1, error="foreign-unit", says=["home directory"], environment=there)
            equal("its status is its own", home.json("status", environment=there).status["running"], False)
            home.json("stop", environment=there)
            home.json("uninstall", "--yes", "--purge", environment=there)
            told = home.status()
            equal("the gateway of the first goes on, enabled", (told["pid"], told["healthy"], told["enabled"]), (before, True, True))


def moves(home, supervisor):
    with section("a home that is moved while its gateway runs"):
        before = home.json("start").status["pid"]
        moved = os.path.join(home.path, "moved")
        os.rename(home.state, moved)
        home.program = os.path.join(moved, "current/bin/llm-cli-gateway")
        there, said = {"LLM_GATEWAY_HOME": moved}, []
        if supervisor == "detached":
            told = home.json("restart", environment=there, timeout=40).status
            check("restart replaces it, and its supervisor", told["healthy"] and told["pid"] != before, "another", told)
            before, said = told["pid"], told["notices"]
        home.json("stop", environment=there)
        check("stop ends it", within(10, lambda: not alive(before)), "gone", before)
        told = home.json("repair", environment=there)
        contains("the first command that could says that it was moved", " ".join(said + told.json["notices"]), f"moved here from '{home.state}'")
        if supervisor == "systemd":
            told = home.json("start", environment=there).status
            equal("it starts there", (told["healthy"], told["supervisor"]), (True, "systemd"))
            equal("the units of the former place are gone", os.path.exists(os.path.join(home.path, f".config/systemd/user/{UNIT}.service")),
                  False)
            equal("and forgotten", home.systemctl("is-enabled", f"{UNIT}.service") in ("", "not-found"), True)
        home.json("uninstall", "--yes", "--purge", environment=there)
        left = [name for name in home.tree() if "llm-cli-gateway" in name or name.startswith("moved")]
        equal("nothing of it is left after an uninstall", left, [])


def leaves(home, first, supervisor):
    """Nothing but an uninstall comes after the move."""
    with section("a home that is moved while its gateway runs, and uninstalled at once"):
        home.program = home.bootstrap
        home.json("setup", "--port", str(home.port))
        home.json("install-bundle", *first.flags)
        told = home.json("start").status
        equal("its supervisor", told["supervisor"], supervisor)
        before = told["pid"]
        moved = os.path.join(home.path, "moved")
        os.rename(home.state, moved)
        home.program = os.path.join(moved, "current/bin/llm-cli-gateway")
        home.json("uninstall", "--yes", "--purge", environment={"LLM_GATEWAY_HOME": moved}, timeout=40)
        check("its gateway has ended", within(10, lambda: not alive(before)), "gone", before)
        left = [name for name in home.tree() if "llm-cli-gateway" in name or name.startswith("moved")]
        equal("nothing of it is left", left, [])


def parts(home, bundle, supervisor):
    first = hanging(bundle, home, "7.0.0")
    home.bundle = bundle
    home.json("setup", "--port", str(home.port))
    home.json("install-bundle", *first.flags)
    home.bootstrap, home.program = home.program, home.link
    if supervisor == "systemd":
        home.json("setup", "--enable")
        home.json("stop")
    starts(home)
    restores(home, supervisor)
    upgrades(home, bundle)
    names(home)
    if supervisor == "detached":
        strays(home, bundle)
    else:
        others(home)
    moves(home, supervisor)
    leaves(home, first, supervisor)


def inside(bundle, manager):
    world = Inside()
    try:
        parts(ServiceHome(world, manager), Bundle(bundle, os.environ["RELEASE_VERSION"]), "systemd")
    finally:
        world.close()
    sys.exit(1 if Tally.failed else 0)


def drive(world):
    bundle = release()
    if sys.argv[1:2] == ["systemd"]:
        ended_there = under_systemd(world, "EndToEnd/last_word.py", bundle)
        equal("everything held under systemd", ended_there.returncode, 0)
    else:
        parts(Home(world, "home"), bundle, "detached")


if __name__ == "__main__":
    inside(*sys.argv[2:]) if sys.argv[1:2] == ["inside"] else run(drive)
