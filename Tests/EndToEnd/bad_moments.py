#!/usr/bin/python3
"""Starts, stops, upgrades and uninstalls at a moment that is bad for them: a port that is to change or is taken, a version that fails while
its supervising process is gone, processes that are suspended, a home that was moved, a service manager that cannot be asked.

    bad_moments.py            without systemd: under our own supervising process
    bad_moments.py systemd    under a real user service manager
"""
import contextlib
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request

from bad_moments_tools import begin, current, gone, is_told_to_end, refused, supervisor_of, suspend, taken_port, versions
from bad_moments_units import invalid, socketed, twofold, unmanaged, unread
from harness import Tally, check, contains, equal, run, section, within
from installed import Bundle, Home, alive, free_port, release, renamed, under_systemd
from last_word import anew, left, programs
from systemd_service import Inside, ServiceHome


def answers(home, path):
    """Whether MCP is at a path, and whether it is at the usual one."""
    found = []
    for place in (path, "/mcp"):
        try:
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{home.port}{place}", b"{}", {"Content-Type": "application/json"}), timeout=10)
        except urllib.error.HTTPError as error:
            found.append(error.code != 404)
    return found


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
                upgrading = begin(home, "upgrade", *second.flags, environment=there)
                within(20, lambda: not alive(before) or upgrading.poll() is not None)
                upgrading.kill()
                upgrading.wait()
                home.json("repair", environment=there)
                told = home.json("status", environment=there).status
                check(f"{title}: the next command leaves one running", told["healthy"], True, told)
                home.json("uninstall", "--yes", "--purge", environment=there)
        equal("nothing is left", left(home), [])


def held(home, good):
    with section("an upgrade whose supervising process and gateway are both killed while the gateway ends"):
        for lives in (True, False):
            told = anew(home, good[0], "detached")
            before, url = told["pid"], told["url"]
            supervisor, own = supervisor_of(home), home.port
            home.port = free_port()
            home.json("setup", "--port", str(home.port))
            suspend(before)
            upgrading = begin(home, "upgrade", *good[1].flags)
            check("the gateway is told to end", within(30, lambda: is_told_to_end(before)), "SIGTERM", "nothing")
            if not lives:
                upgrading.kill()
            for pid in (supervisor, before):
                os.kill(pid, signal.SIGKILL)
            upgrading.wait(60)
            if not lives:
                home.json("repair")
            told = home.status()
            program = os.readlink(f"/proc/{told['pid']}/exe") if told["pid"] else ""
            equal("where it was", told["url"], url)
            home.port = own
            check("one runs, of the version in use", told["healthy"] and f"/versions/{current(home)}/" in program, current(home), (told, program))
            gone(home)
    with section("a stop, and a replacement after it, of a gateway that takes its time to end"):
        before = anew(home, good[0], "detached")["pid"]
        supervisor = supervisor_of(home)
        suspend(before)
        os.kill(supervisor, signal.SIGTERM)
        check("the gateway is told to end", within(30, lambda: is_told_to_end(before)), "SIGTERM", "nothing")
        os.kill(supervisor, signal.SIGHUP)
        os.kill(before, signal.SIGCONT)
        check("both end", within(30, lambda: not alive(before) and not alive(supervisor)), "gone", programs(home))
        equal("and nobody misses them", os.path.exists(home.file("supervisor.json")), False)
        gone(home)
    with section("a first start that fails"):
        home.json("setup", "--port", str(home.port))
        home.json("install-bundle", *good[2].flags)
        refused(home, "start", code="start-failed", help="logs")
        check("nobody misses what never ran", not any("is to run" in notice for notice in home.status()["notices"]), "nothing", home.status())
        equal("a repair starts nothing", (home.json("repair").json["steps"], home.status()["running"]), ([], False))
        gone(home)
    with section("a restart that is killed while the gateway ends"):
        before = anew(home, good[0], "detached")["pid"]
        supervisor = supervisor_of(home)
        suspend(before)
        home.port = free_port()
        home.json("setup", "--port", str(home.port))
        restarting = begin(home, "restart")
        check("the gateway is told to end", within(30, lambda: is_told_to_end(before)), "SIGTERM", "nothing")
        restarting.kill()
        restarting.wait()
        os.kill(before, signal.SIGCONT)
        check("it ends", within(30, lambda: not alive(before) and not alive(supervisor)), "gone", programs(home))
        told = home.status()
        contains("status says what is missing", " ".join(told["notices"]), "the gateway is to run")
        contains("a repair would start it", " ".join(home.json("repair", "--dry-run").json["steps"]), "start the gateway")
        contains("and does", " ".join(home.json("repair").json["steps"]), "start the gateway")
        told = home.status()
        equal("where it was to be", (told["healthy"], told["url"]), (True, f"http://127.0.0.1:{home.port}/mcp"))
        check("and nothing is missing", not any("is to run" in notice for notice in told["notices"]), "nothing", told["notices"])
        gone(home)


def swept(home, good, bundle):
    hanging = renamed(bundle, os.path.join(home.world.root, "7.3.0.tar.gz"), "7.3.0", level=0, gateway="exec sleep 600")
    with section("an upgrade whose supervising process and new gateway are both killed while it waits"):
        for lives, has_supervisor in ((True, True), (False, True), (True, False), (False, False)):
            before = anew(home, good[0], "detached")["pid"]
            if not has_supervisor:
                os.kill(supervisor_of(home), signal.SIGKILL)
            upgrading = begin(home, "upgrade", *hanging.flags)

            def following():
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError), open(home.file("supervisor.json"), encoding="utf-8") as file:
                    found = json.load(file)["gateway"]["pid"]
                    return found if found != before and alive(found) else None
                return None

            check("the new gateway is being started", bool(within(30, following)), "it hangs", home.status())
            if not lives:
                upgrading.kill()
            for pid in (supervisor_of(home), following()):
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
    with section("an upgrade while a path is to change, and supervising process and record are gone"):
        url = anew(home, first, "detached")["url"]
        os.kill(supervisor_of(home), signal.SIGKILL)
        os.unlink(home.file("supervisor.json"))
        home.json("setup", "--path", "/other")
        equal("it is replaced", home.json("upgrade", *second.flags).json["restarted"], True)
        told = home.status()
        equal("where it was", (told["healthy"], told["url"]), (True, url))
        told = home.json("restart").status
        equal("a restart moves it", (told["healthy"], told["url"]), (True, url.removesuffix("/mcp") + "/other"))
        gone(home)


def suspended(home, good):
    first, second, _ = good
    with section("a supervising process that is suspended"):
        before = anew(home, first, "detached")["pid"]
        suspend(supervisor_of(home))
        equal("an upgrade goes on with it", home.json("upgrade", *second.flags).json["restarted"], True)
        told = home.status()
        check("by another gateway", told["healthy"] and told["pid"] != before, "another", told)
        supervisor = supervisor_of(home)
        suspend(supervisor)
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


def parts(home, bundle, supervisor):
    home.bundle, home.bootstrap = bundle, home.program
    good = versions(bundle, home)
    ports(home, good, supervisor)
    moved(home, good, supervisor)
    if supervisor == "detached":
        swept(home, good, bundle)
    for part in (failing, killed, held, astray, suspended, unreadable) if supervisor == "detached" else (unmanaged, socketed, unread, invalid, twofold):
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
