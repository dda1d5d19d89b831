#!/usr/bin/python3
"""Starts, stops, upgrades and uninstalls at a moment that is bad for them: a port that is to change or is taken, a version that fails while
its supervising process is gone, processes that are suspended, a home that was moved, a service manager that cannot be asked.

    bad_moments.py            without systemd: under our own supervising process
    bad_moments.py systemd    under a real user service manager
"""
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

from harness import Tally, check, contains, equal, run, section, within
from installed import Bundle, Home, alive, free_port, release, renamed, under_systemd
from last_word import anew, left, programs
from systemd_service import UNIT, Inside, ServiceHome

NOWHERE = {"XDG_RUNTIME_DIR": "/nonexistent", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent/bus"}


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


def answers(home, path):
    """Whether MCP is at a path, and whether it is at the usual one."""
    found = []
    for place in (path, "/mcp"):
        try:
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{home.port}{place}", b"{}", {"Content-Type": "application/json"}), timeout=10)
        except urllib.error.HTTPError as error:
            found.append(error.code != 404)
    return found


# ---- with and without systemd


def ports(home, good, supervisor):
    first, second, _ = good
    with section("a port that is to change"):
        told = anew(home, first, supervisor)
        before, url = told["pid"], told["url"]
        home.port = free_port()
        told = home.json("setup", "--port", str(home.port)).json
        equal("setup says what would apply it", told["next"], "Run llm-cli-gateway restart.")
        told = home.status()
        equal("status asks it where it listens", (told["healthy"], told["url"]), (True, url))
        contains("and says where it is to", " ".join(told["notices"]), f"restart' moves it to 127.0.0.1:{home.port}")
        equal("a start leaves it alone", home.json("start").status["pid"], before)
        told = home.json("upgrade", *second.flags).json
        equal("an upgrade replaces it", (told["restarted"], current(home)), (True, "7.1.0"))
        told = home.status()
        equal("where its clients are", (told["healthy"], told["url"], told["pid"] != before), (True, url, True))
        home.json("rollback")
        equal("so does a rollback", (home.status()["healthy"], home.status()["url"], current(home)), (True, url, "7.0.0"))
        home.json("repair")
        told = home.json("restart").status
        equal("a restart moves it", (told["healthy"], told["url"].split(":")[-1].split("/")[0]), (True, str(home.port)))
        told = home.json("upgrade", *second.flags, environment={"LLM_GATEWAY_HTTP_PORT": str(free_port())}).json
        equal("a variable of the caller's shell does not mislead an upgrade", (told["restarted"], home.status()["healthy"]), (True, True))
        gone(home)
    with section("a host that is to change"):
        anew(home, first, supervisor)
        for host in ("0.0.0.0", "::"):
            home.json("setup", "--host", host)
            home.json("start")
            home.json("upgrade", *(second if current(home) == "7.0.0" else first).flags, "--allow-downgrade")
            told = home.status()
            contains(f"to {host}: the gateway stays where it was", " ".join(told["notices"]), f"the gateway listens on 127.0.0.1:{home.port}; ")
            equal("and is well", told["healthy"], True)
        before = told["pid"]
        home.json("setup", "--host", "192.0.2.1")
        refused(home, "restart", code="address-unavailable", help="setup --host")
        equal("for an address that cannot be had it is not ended", (alive(before), home.status()["healthy"]), (True, True))
        gone(home)
    with section("a path that is to change"):
        anew(home, first, supervisor)
        told = home.json("setup", "--path", "/other").json
        equal("setup says what would apply it", told["next"], "Run llm-cli-gateway restart.")
        told = home.json("restart").status
        equal("a restart does", (told["healthy"], told["url"]), (True, f"http://127.0.0.1:{home.port}/other"))
        equal("and clients find it there", answers(home, "/other"), [True, False])
        home.json("setup", "--path", "/mcp")
        gone(home)
    with section("a port that is taken"), taken_port() as port:
        before = anew(home, first, supervisor)["pid"]
        own, home.port = home.port, port
        home.json("setup", "--port", str(port))
        error = refused(home, "restart", code="port-in-use", help="stop that process")
        contains("it is named", error.get("message", ""), f"process {os.getpid()} ")
        told = home.status()
        equal("the gateway goes on where it was", (told["healthy"], told["pid"]), (True, before))
        equal("an upgrade works there", (home.json("upgrade", *second.flags).json["restarted"], current(home)), (True, "7.1.0"))
        equal("and is well", home.status()["healthy"], True)
        home.port = own
        gone(home)


def moved(home, good, supervisor):
    first, second, bad = good
    with section("a home that was moved, and is upgraded there"):
        before = anew(home, first, supervisor)["pid"]
        place = os.path.join(home.path, "moved")
        there = {"LLM_GATEWAY_HOME": place}
        os.rename(home.state, place)
        home.program = os.path.join(place, "current/bin/llm-cli-gateway")
        if supervisor == "systemd":
            refused(home, "upgrade", *second.flags, code="home-moved", help="restart", environment=there)
            equal("and nothing has changed", (alive(before), os.readlink(f"{place}/current")), (True, "versions/7.0.0"))
            home.json("restart", environment=there)
        refused(home, "upgrade", *bad.flags, code="unhealthy-version", environment=there)
        told = home.json("status", environment=there).status
        equal("after a version that fails, the one before runs again", (told["healthy"], os.readlink(f"{place}/current")), (True, "versions/7.0.0"))
        equal("one that works replaces it", home.json("upgrade", *second.flags, environment=there).json["restarted"], True)
        home.json("uninstall", "--yes", "--purge", environment=there)
        equal("nothing is left", left(home), [])


# ---- without systemd


def failing(home, good):
    first, _, bad = good

    def killed():
        os.kill(supervisor_of(home), signal.SIGKILL)
        within(5, lambda: home.status()["notices"])

    def forgotten():
        os.unlink(home.file("supervisor.json"))

    def both():
        killed()
        forgotten()

    def moving():
        home.port = free_port()
        home.json("setup", "--port", str(home.port))

    for title, happens in (("the supervising process was killed", killed), ("its record is lost", forgotten), ("both", both), ("the port is to change", moving)):
        with section(f"an upgrade to a version that fails, when {title}"):
            anew(home, first, "detached")
            happens()
            told = home.status()
            equal("it is known to run", (told["running"], told["healthy"], told["supervisor"]), (True, True, "detached"))
            error = refused(home, "upgrade", *bad.flags, code="unhealthy-version")
            contains("it says what is in use", error.get("message", ""), "'7.0.0' is in use again")
            told = home.status()
            equal("and that is true", (told["healthy"], current(home)), (True, "7.0.0")) or print(told, flush=True)
            home.json("stop")
            equal("a stop is the last word all the same", (home.status()["running"], home.json("upgrade", *good[1].flags).json["restarted"]), (False, False))
            gone(home)


def killed(home, good):
    first, second, _ = good
    with section("an upgrade that is killed after it has ended a gateway whose supervising process is gone"):
        for title in ("killed", "moved"):
            for _ in range(4):
                before = anew(home, first, "detached")["pid"]
                there, place = {}, home.state
                if title == "killed":
                    os.kill(supervisor_of(home), signal.SIGKILL)
                else:
                    place = os.path.join(home.path, "moved")
                    there = {"LLM_GATEWAY_HOME": place}
                    os.rename(home.state, place)
                    home.program = os.path.join(place, "current/bin/llm-cli-gateway")
                upgrading = home.world.start([home.program, "upgrade", *second.flags, "--json"], {**home.environment, **there},
                                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                within(20, lambda: not alive(before) or upgrading.poll() is not None)
                upgrading.kill()
                upgrading.wait()
                home.json("repair", environment=there)
                told = home.json("status", environment=there).status
                check(f"{title}: the next command leaves one running", told["healthy"], True, told)
                home.json("uninstall", "--yes", "--purge", environment=there)
        equal("nothing is left", left(home), [])


def swept(home, good, bundle):
    hanging = renamed(bundle, os.path.join(home.world.root, "7.3.0.tar.gz"), "7.3.0", level=0, gateway="exec sleep 600")
    with section("an upgrade whose supervising process and new gateway are both killed while it waits"):
        for lives in (True, False):
            before = anew(home, good[0], "detached")["pid"]
            supervisor = supervisor_of(home)
            upgrading = home.world.start([home.program, "upgrade", *hanging.flags, "--json"], home.environment,
                                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

            def following():
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError), open(home.file("supervisor.json"), encoding="utf-8") as file:
                    found = json.load(file)["gateway"]["pid"]
                    return found if found != before and alive(found) else None
                return None

            check("the new gateway is being started", bool(within(30, following)), "it hangs", home.status())
            if not lives:
                upgrading.kill()
            for pid in (supervisor, following()):
                os.kill(pid, signal.SIGKILL)
            upgrading.wait(60)
            if not lives:
                # It goes on with the new version, which does not start, and says so.
                refused(home, "repair", code="unhealthy-version")
            told = home.status()
            equal("the version before runs", (told["healthy"], current(home)), (True, "7.0.0"))
            gone(home)


def astray(home, good):
    first, second, _ = good
    with section("an upgrade while a port is to change and the supervising process is gone"), taken_port() as taken:
        own = home.port
        for port in (taken, free_port()):
            home.port = own
            url = anew(home, first, "detached")["url"]
            os.kill(supervisor_of(home), signal.SIGKILL)
            home.json("setup", "--port", str(port))
            equal("it is replaced", home.json("upgrade", *second.flags).json["restarted"], True)
            told = home.status()
            equal("where it was", (told["healthy"], told["url"], told["supervisor"]), (True, url, "detached"))
            gone(home)
        home.port = own


def suspended(home, good):
    first, second, _ = good
    with section("a supervising process that is suspended"):
        before = anew(home, first, "detached")["pid"]
        os.kill(supervisor_of(home), signal.SIGSTOP)
        equal("an upgrade goes on with it", home.json("upgrade", *second.flags).json["restarted"], True)
        told = home.status()
        check("by another gateway", told["healthy"] and told["pid"] != before, "another", told)
        supervisor = supervisor_of(home)
        os.kill(supervisor, signal.SIGSTOP)
        began = time.monotonic()
        equal("a stop stops it", home.json("stop").status["running"], False)
        print(f"    after {time.monotonic() - began:.1f} s", flush=True)
        equal("with its gateway", (alive(supervisor), alive(told["pid"])), (False, False))
        gone(home)


def unreadable(home, good):
    with section("a record that is no file"):
        before = anew(home, good[0], "detached")["pid"]
        os.unlink(home.file("supervisor.json"))
        os.mkdir(home.file("supervisor.json"))
        told = home.status()
        equal("status knows the gateway", (told["healthy"], told["pid"]), (True, before))
        refused(home, "restart", code="in-the-way", help="move it away")
        refused(home, "upgrade", *good[1].flags, code="in-the-way", help="move it away")
        equal("which goes on, of the same version", (alive(before), current(home)), (True, "7.0.0"))
        equal("a stop ends it", (home.json("stop").status["running"], alive(before)), (False, False))
        os.rmdir(home.file("supervisor.json"))
        gone(home)
    with section("settings that are broken"):
        before = anew(home, good[0], "detached")["pid"]
        home.write("settings.json", "{")
        equal("a stop stops", (home.json("stop").status["running"], alive(before)), (False, False))
        gone(home)


# ---- under systemd


def unmanaged(home, good):
    """As by `su` after the end of the session: nobody can be asked."""
    own = f"/run/user/{os.getuid()}"

    def hide(on):
        for name in ("systemd", "bus"):
            names = [os.path.join(own, name), os.path.join(own, f"{name}-hidden")]
            if os.path.lexists(names[not on]):
                os.rename(names[not on], names[on])

    with section("a manager that cannot be asked"):
        before = anew(home, good[0], "systemd")["pid"]
        hide(True)
        try:
            refused(home, "upgrade", *good[1].flags, code="user-manager-unreachable", environment=NOWHERE)
            equal("and nothing has changed", (alive(before), current(home)), (True, "7.0.0"))
            refused(home, "start", "--detached", code="already-supervised", environment=NOWHERE)
            told = home.json("uninstall", "--yes", "--purge", environment=NOWHERE).json
            equal("an uninstall removes all", (told["removed"], left(home)), (True, []))
            contains("and says what it did itself", " ".join(told["notices"]), "was ended without it, and nothing starts with your session")
            check("the gateway has ended", within(10, lambda: not alive(before)), "gone", before)
            equal("it starts with no session", [name for name in home.tree() if UNIT in name], [])
        finally:
            hide(False)
        home.systemctl("stop", f"{UNIT}.socket")
        home.systemctl("daemon-reload")
    with section("a manager that cannot be asked, and clients that connect all the time"):
        anew(home, good[0], "systemd")
        over = threading.Event()

        def connect():
            while not over.wait(0.02):
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", home.port), 1).close()

        client = threading.Thread(target=connect)
        client.start()
        hide(True)
        try:
            home.json("uninstall", "--yes", "--purge", environment=NOWHERE)
            equal("nothing is left", left(home), [])
            check("and nothing runs", within(5, lambda: not programs(home)), "nothing", programs(home))
        finally:
            hide(False)
            over.set()
            client.join()
        home.systemctl("stop", f"{UNIT}.socket", f"{UNIT}.service")
        home.systemctl("reset-failed")
        home.systemctl("daemon-reload")


def socketed(home, good):
    for title, line in (("other settings", "Backlog=64"), ("another address", f"ListenStream=127.0.0.1:{free_port()}")):
        with section(f"a socket with {title} of the user's beside ours"):
            url = anew(home, good[0], "systemd")["url"]
            folder = os.path.join(home.path, f".config/systemd/user/{UNIT}.socket.d")
            os.makedirs(folder)
            with open(os.path.join(folder, "mine.conf"), "w", encoding="utf-8") as file:
                file.write(f"[Socket]\n{line}\n")
            home.json("stop")
            home.json("start")
            home.port = free_port()
            home.json("setup", "--port", str(home.port))
            home.json("start")
            home.json("upgrade", *good[1].flags)
            equal("an upgrade leaves ours where it is", (home.status()["healthy"], home.status()["url"]), (True, url))
            told = home.json("restart").status
            equal("a restart moves it", (told["healthy"], told["url"]), (True, f"http://127.0.0.1:{home.port}/mcp"))
            shutil.rmtree(folder)
            gone(home)
    with section("a socket that the user has moved"), taken_port() as taken:
        anew(home, good[0], "systemd")
        folder, port = os.path.join(home.path, f".config/systemd/user/{UNIT}.socket.d"), free_port()
        os.makedirs(folder)
        with open(os.path.join(folder, "mine.conf"), "w", encoding="utf-8") as file:
            file.write(f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{port}\n")
        home.json("stop")
        told = home.json("start").status
        equal("the gateway is where the user wants it", (told["healthy"], told["url"]), (True, f"http://127.0.0.1:{port}/mcp"))
        check("nobody speaks of moving it", not any("moves it" in notice for notice in told["notices"]), "nothing", told["notices"])
        home.json("setup", "--port", str(taken))
        equal("a port that is not used may be taken", home.json("restart").status["healthy"], True)
        shutil.rmtree(folder)
        home.json("setup", "--port", str(home.port))
        home.json("restart")
        gone(home)
    with section("a socket that waits, and a host that is to change"):
        anew(home, good[0], "systemd")
        home.systemctl("stop", f"{UNIT}.service")
        home.json("setup", "--host", "0.0.0.0")
        equal("it moves", home.json("start").status["healthy"], True)
        home.systemctl("stop", f"{UNIT}.service")
        home.json("setup", "--host", "127.0.0.1")
        equal("and back", home.json("restart").status["healthy"], True)
        gone(home)
    with section("a socket that waits, and a port that is taken"), taken_port() as taken:
        anew(home, good[0], "systemd")
        own = home.port
        home.systemctl("stop", f"{UNIT}.service")
        home.json("setup", "--port", str(taken))
        refused(home, "start", code="port-in-use", help="stop that process")
        equal("the socket waits on", home.systemctl("is-active", f"{UNIT}.socket"), "active")
        home.json("repair")
        home.systemctl("daemon-reload")
        with socket.create_connection(("127.0.0.1", own), 10):
            check("and starts the gateway", within(10, lambda: home.status()["running"]), "running", home.status())
        home.json("setup", "--port", str(own))
        gone(home)


def invalid(home, good):
    with section("a unit that the user has broken"):
        before = anew(home, good[0], "systemd")["pid"]
        folder = os.path.join(home.path, f".config/systemd/user/{UNIT}.service.d")
        os.makedirs(folder)
        with open(os.path.join(folder, "mine.conf"), "w", encoding="utf-8") as file:
            file.write("[Service]\nExecStart=\n")
        refused(home, "upgrade", *good[1].flags, code="unit-invalid", help=f"{UNIT}.service.d")
        equal("before anything is switched", (alive(before), current(home)), (True, "7.0.0"))
        shutil.rmtree(folder)
        equal("afterwards it works", home.json("upgrade", *good[1].flags).json["restarted"], True)
        gone(home)


def twofold(home, good):
    with section("a gateway without systemd beside one of the session's start"):
        anew(home, good[0], "systemd")
        home.json("stop")
        home.json("start", "--detached")
        home.port = free_port()
        home.json("setup", "--port", str(home.port))
        home.json("repair")
        home.systemctl("daemon-reload")
        home.systemctl("start", f"{UNIT}.socket", f"{UNIT}.service")
        check("both run", within(10, lambda: len(programs(home)) == 3), 3, programs(home))
        equal("a stop stops both", home.json("stop").status["running"], False)
        check("nothing runs", within(10, lambda: not programs(home)), "nothing", programs(home))
        equal("and nothing listens", home.systemctl("is-active", f"{UNIT}.socket"), "inactive")
        gone(home)
    with section("a record that a killed supervising process has left, in a home that cannot be written"):
        anew(home, good[0], "systemd")
        home.json("stop")
        home.json("start", "--detached")
        with open(home.file("supervisor.json"), encoding="utf-8") as file:
            record = json.load(file)
        for who in ("supervisor", "gateway"):
            os.kill(record[who]["pid"], signal.SIGKILL)
        within(10, lambda: not programs(home))
        before = home.json("start").status["pid"]
        equal("a start under systemd removes it", os.path.exists(home.file("supervisor.json")), False)
        home.write("supervisor.json", json.dumps(record))
        os.chmod(home.state, 0o500)
        equal("a stop stops all the same", (home.json("stop").status["running"], alive(before)), (False, False))
        os.chmod(home.state, 0o700)
        gone(home)


def parts(home, bundle, supervisor):
    home.bundle, home.bootstrap = bundle, home.program
    good = versions(bundle, home)
    ports(home, good, supervisor)
    moved(home, good, supervisor)
    if supervisor == "detached":
        swept(home, good, bundle)
    for part in (failing, killed, astray, suspended, unreadable) if supervisor == "detached" else (unmanaged, socketed, invalid, twofold):
        part(home, good)


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
        equal("everything held under systemd", under_systemd(world, "EndToEnd/bad_moments.py", bundle).returncode, 0)
    else:
        parts(Home(world, "home"), bundle, "detached")


if __name__ == "__main__":
    inside(*sys.argv[2:]) if sys.argv[1:2] == ["inside"] else run(drive)
