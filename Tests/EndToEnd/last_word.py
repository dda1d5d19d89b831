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
from installed import Bundle, Home, alive, free_port, release, renamed, under_systemd
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
        told = home.json("status", environment=there).status
        equal("status knows its gateway", (told["running"], told["healthy"], told["pid"]), (True, True, before))
        equal("doctor has nothing against it", home.run("doctor", "--json", environment=there).code, 0)
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
            equal("it starts there, and with the session as before", (told["healthy"], told["supervisor"], told["enabled"]),
                  (True, "systemd", True))
            contains("which it says", " ".join(told["notices"]), "starts with your session from here")
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
        if supervisor == "systemd":
            home.refused("uninstall", "--yes", code=1, error="foreign-unit", says=["was moved away from"])
            check("an uninstall at the former place leaves it alone", alive(before), "alive", before)
        home.json("uninstall", "--yes", "--purge", environment={"LLM_GATEWAY_HOME": moved}, timeout=40)
        check("its gateway has ended", within(10, lambda: not alive(before)), "gone", before)
        left = [name for name in home.tree() if "llm-cli-gateway" in name or name.startswith("moved")]
        equal("nothing of it is left", left, [])


def anew(home, first, supervisor, environment=None):
    """A home with its gateway running, and with the session where there is one. -> its status"""
    home.program = home.bootstrap
    home.json("setup", "--port", str(home.port), environment=environment)
    home.json("install-bundle", *first.flags, environment=environment)
    told = home.json(*(("setup", "--enable") if supervisor == "systemd" else ("start",)), environment=environment).status
    equal("a gateway runs", (told["healthy"], told["supervisor"]), (True, supervisor), vital=True)
    return told


def left(home):
    """What of ours is in the home directory."""
    return [name for name in home.tree() if "llm-cli-gateway" in name or name.startswith("moved")]


def followed(home, first, supervisor):
    with section("a home that is moved while its gateway runs, and another one in its place"):
        before = anew(home, first, supervisor)["pid"]
        client = home.client()
        client.initialize()
        moved = os.path.join(home.path, "moved")
        os.rename(home.state, moved)
        there = {"LLM_GATEWAY_HOME": moved}
        with contextlib.suppress(Exception):
            client.tool("session_create", cli="claude", timeout=20)
        equal("the gateway does not make its home again", os.path.lexists(home.state), False)
        # An earlier version's gateway did.
        os.makedirs(home.file("jobs"))
        told = home.json("status", environment=there).status
        equal("whatever is in its place, it is known", (told["healthy"], told["pid"]), (True, before))
        os.rmdir(home.file("jobs"))
        os.rmdir(home.state)
        home.json("repair", environment=there)
        home.json("setup", "--port", str(home.port))
        home.json("install-bundle", *first.flags)
        told = home.json("status", environment=there).status
        equal("beside a new home it is known as well", (told["healthy"], told["pid"]), (True, before))
        home.refused("start", code=1, error="foreign-unit" if supervisor == "systemd" else "port-in-use")
        check("a start of the new home leaves it alone", alive(before), "it runs", "it has ended")
        home.json("stop", environment=there)
        check("stop ends it", within(10, lambda: not alive(before)), "gone", before)
        fresh = anew(home, first, supervisor)
        home.json("uninstall", "--yes", "--purge", environment=there)
        equal("nothing is left of the moved one", os.path.lexists(moved), False)
        told = home.status()
        equal("the new one goes on, its units are there", (told["pid"], told["healthy"], told["enabled"]),
              (fresh["pid"], True, fresh["enabled"]))
        equal("and its command", os.readlink(home.link), home.file("current/bin/llm-cli-gateway"))
        home.json("uninstall", "--yes", "--purge")
        equal("nothing is left", left(home), [])


def crossed(home, first, supervisor):
    with section("a home that is moved to another file system while its gateway runs"):
        moved = os.path.join("/dev/shm", f"llm-cli-gateway-{os.getpid()}")
        if os.stat("/dev/shm").st_dev == os.stat(home.path).st_dev:
            return print("    skipped: there is only one file system", flush=True)
        there = {"LLM_GATEWAY_HOME": moved}
        try:
            for starts in (True, False):
                before = anew(home, first, supervisor)["pid"]
                subprocess.run(["mv", home.state, moved], check=True)
                if starts:
                    told = home.json("start", environment=there).status
                    equal("it starts there", (told["healthy"], told["supervisor"]), (True, supervisor))
                home.json("uninstall", "--yes", "--purge", environment=there)
                check("its former gateway has ended", within(10, lambda: not alive(before)), "gone", before)
                equal("nothing of it is left", left(home) + [name for name in [moved] if os.path.lexists(name)], [])
            before = anew(home, first, supervisor)["pid"]
            subprocess.run(["mv", home.state, moved], check=True)
            os.symlink(moved, home.state)
            told = home.status()
            equal("one that a link leads to is known", (told["healthy"], told["pid"]), (True, before))
            contains("and status says that it has to be started again", " ".join(told["notices"]), "was removed, and it does not write")
            told = home.json("restart").status
            check("which puts it right", told["healthy"] and told["pid"] != before and not told["notices"], "no notice", told)
            home.json("uninstall", "--yes", "--purge")
            os.unlink(home.state)
            equal("nothing is left", left(home), [])
        finally:
            shutil.rmtree(moved, ignore_errors=True)


def removed(home, first, supervisor):
    with section("a home that is removed by hand while its gateway runs"):
        before = anew(home, first, supervisor)["pid"]
        shutil.rmtree(home.state)
        told = home.json("uninstall").json
        equal("uninstall knows that there is something", (told["removed"], told["running"]), (False, True))
        equal("and makes nothing for the listing", os.path.lexists(home.state), False)
        home.json("uninstall", "--yes")
        check("its gateway has ended", within(10, lambda: not alive(before)), "gone", before)
        equal("nothing is left", left(home), [])
        if supervisor == "systemd":
            equal("its units are forgotten", home.systemctl("is-enabled", f"{UNIT}.service") in ("", "not-found"), True)
        before = anew(home, first, supervisor)["pid"]
        shutil.rmtree(home.state)
        told = anew(home, first, supervisor)
        check("one that is installed there anew runs in its place", told["pid"] != before and not alive(before), "another", told)
        home.json("uninstall", "--yes", "--purge")
        equal("and goes whole", left(home), [])


def linked(home, first):
    with section("a home that is removed by hand, and whose path has a link in it"):
        link = os.path.join(home.world.root, "link")
        os.symlink(home.path, link)
        there = {"HOME": link}
        before = anew(home, first, "detached", there)["pid"]
        home.program = home.bootstrap
        shutil.rmtree(home.state)
        home.json("uninstall", "--yes", "--purge", environment=there)
        check("uninstall ends its gateway", within(10, lambda: not alive(before)), "gone", before)
        equal("nothing is left", left(home), [])
        os.unlink(link)


def contained(home, first):
    with section("a container with the same home"):
        anew(home, first, "detached")
        home.json("stop")
        world = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        inside = home.world.start(["unshare", *world, "--pid", "--fork", "--mount", "--mount-proc", "--net", "--kill-child", "/bin/sh", "-c",
                                   f"ip link set lo up; {home.program} start --json >/dev/null && echo started; exec cat"], home.environment,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        equal("its gateway starts", inside.stdout.readline(), "started\n", vital=True)
        before = set(programs(home))
        equal("outside, none is known", home.status()["running"], False)
        home.json("start")
        home.json("stop")
        equal("and what starts and stops there leaves it alone", before - set(programs(home)), set())
        inside.stdin.close()
        inside.wait(20)
        home.json("uninstall", "--yes", "--purge")


def lost(home, first, bundle):
    with section("a gateway whose record is lost"):
        before = anew(home, first, "detached")["pid"]
        os.unlink(home.file("supervisor.json"))
        told = home.status()
        equal("status knows it", (told["running"], told["healthy"], told["pid"], told["supervisor"]), (True, True, before, "detached"))
        newer = hanging(bundle, home, "7.0.1")
        home.json("upgrade", *newer.flags)
        told = home.status()
        check("an upgrade replaces it", told["healthy"] and told["pid"] != before and not alive(before), "another", told)
        equal("by the new version", os.path.basename(os.path.dirname(os.path.dirname(os.readlink(f"/proc/{told['pid']}/exe")))),
              os.readlink(home.file("current")).split("/")[-1])
        os.unlink(home.file("supervisor.json"))
        before = told["pid"]
        told = home.json("restart").status
        check("restart replaces it", told["healthy"] and told["pid"] != before, "another", told)
        with open(home.file("supervisor.json"), encoding="utf-8") as file:
            supervisor = json.load(file)["supervisor"]["pid"]
        before = told["pid"]
        os.kill(supervisor, signal.SIGKILL)
        check("its supervisor is gone", within(5, lambda: not alive(supervisor)), "gone", supervisor)
        os.unlink(home.file("supervisor.json"))
        home.json("uninstall", "--yes", "--purge")
        check("uninstall ends it", within(10, lambda: not alive(before)), "gone", before)
        equal("nothing is left", left(home), [])


def unrecorded(home, first, bundle):
    with section("a gateway without systemd whose record is lost, on a machine with systemd"):
        anew(home, first, "systemd")
        home.json("stop")
        before = home.json("start", "--detached").status["pid"]
        os.unlink(home.file("supervisor.json"))
        told = home.status()
        equal("status knows who supervises it", (told["healthy"], told["pid"], told["supervisor"]), (True, before, "detached"))
        home.json("upgrade", *hanging(bundle, home, "7.0.1").flags)
        told = home.status()
        check("an upgrade replaces it", told["healthy"] and told["pid"] != before and not alive(before), "another", told)
        equal("and it stays without systemd", told["supervisor"], "detached")
        home.json("stop")
        before = home.json("start", "--detached").status["pid"]
        shutil.rmtree(home.state)
        told = anew(home, first, "systemd")
        check("one whose home was removed ends, and systemd has the new one", not alive(before) and told["supervisor"] == "systemd",
              "systemd", told)
        home.json("uninstall", "--yes", "--purge")
        equal("nothing is left", left(home), [])


def swapped(home, first):
    with section("two homes that change places while their gateways run"):
        other = os.path.join(home.path, "moved")
        there, port = {"LLM_GATEWAY_HOME": other}, home.port
        one = anew(home, first, "detached")["pid"]
        home.port = free_port()
        two = anew(home, first, "detached", there)["pid"]
        home.port = port
        os.rename(home.state, f"{other}-too")
        os.rename(other, home.state)
        os.rename(f"{other}-too", other)
        for environment, pid in ((None, two), (there, one)):
            told = home.json("status", environment=environment).status
            equal("each is known where it is", (told["healthy"], told["pid"]), (True, pid))
        home.json("stop")
        check("stop ends the one that is there", within(10, lambda: not alive(two)) and alive(one), "one goes on", (one, two))
        told = home.json("start").status
        equal("it starts there", told["healthy"], True)
        home.json("uninstall", "--yes", "--purge", environment=there)
        equal("an uninstall leaves the other alone", (alive(one), home.status()["pid"]), (False, told["pid"]))
        home.json("uninstall", "--yes", "--purge")
        equal("nothing is left", left(home), [])


def files(home, first):
    with section("unit files that are not as they were left"):
        anew(home, first, "systemd")
        os.unlink(home.file("receipt.json"))
        home.json("uninstall", "--yes", "--purge", environment={"LLM_GATEWAY_HTTP_PORT": "4555"})
        equal("without a receipt they are known whatever the port is", left(home), [])
        anew(home, first, "systemd")
        place, kept = os.path.join(home.path, f".config/systemd/user/{UNIT}.service"), os.path.join(home.path, "dotfile.service")
        shutil.move(place, kept)
        os.symlink(kept, place)
        home.systemctl("daemon-reload")
        home.json("uninstall", "--yes", "--purge")
        equal("a link of the user's stays, and starts nothing", [name for name in left(home) if not os.path.isdir(os.path.join(home.path, name))],
              [f".config/systemd/user/{UNIT}.service"])
        equal("what it leads to stays", os.path.exists(kept), True)
        os.unlink(place)
        os.unlink(kept)
        home.systemctl("daemon-reload")
    with section("two homes, of which the one that made the folders goes first"):
        other = {"LLM_GATEWAY_HOME": os.path.join(home.path, "moved")}
        shutil.rmtree(os.path.join(home.path, ".config"), ignore_errors=True)
        anew(home, first, "systemd")
        port, home.port = home.port, free_port()
        anew(home, first, "systemd", other)
        home.port = port
        home.json("uninstall", "--yes", "--purge")
        equal("the second goes on", home.json("status", environment=other).status["healthy"], True)
        home.json("uninstall", "--yes", "--purge", environment=other)
        equal("no folder is left", [name for name in home.tree() if name.startswith(".config")], [])
    with section("a umask that takes away everything"):
        for words in (["setup", "--port", str(home.port)], ["install-bundle", *first.flags], ["start"], ["uninstall", "--yes", "--purge"]):
            told = home.run(*words, "--json", prefix=["/bin/sh", "-c", 'umask 777; exec "$@"', "sh"])
            equal(f"{words[0]} works", told.code, 0) or print(told.out, told.err, flush=True)
        equal("nothing is left", left(home), [])


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
    followed(home, first, supervisor)
    crossed(home, first, supervisor)
    removed(home, first, supervisor)
    if supervisor == "detached":
        linked(home, first)
        contained(home, first)
        lost(home, first, bundle)
        swapped(home, first)
    else:
        unrecorded(home, first, bundle)
        files(home, first)


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
