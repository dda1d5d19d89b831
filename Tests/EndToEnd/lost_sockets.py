#!/usr/bin/python3
"""A socket that systemd closes under the gateway, or could not open again, and units that are gone: what runs goes on, commands say what is
wrong before they end anything, and 'restart' puts it right. Always under a real user service manager.

    lost_sockets.py           as an ordinary user
    lost_sockets.py hidden    whose manager may do more than its user, so that nobody can see what it holds, as since systemd 254
"""
import os
import shutil
import signal
import socket
import sys

from bad_moments_tools import begin, current, gone, listens, refused, taken_port, versions
from bad_moments_units import beside, keeps_socket, kill_restart, unit_folder
from harness import Tally, check, contains, equal, run, section, within
from installed import CLEAN, Bundle, alive, free_port, release, under_systemd
from last_word import anew
from systemd_service import UNIT, Inside, ServiceHome

CLOSED = "systemd has closed the socket of the gateway"


def says(told, text):
    return any(text in notice for notice in told["notices"])


def own_address(home, *lines):
    return beside(home, "socket", "\n".join(("[Socket]", *(f"ListenStream={line}" for line in lines))))


def is_lost(home, good, url):
    """What every command says of a gateway whose socket is closed."""
    told = home.status()
    equal("the gateway answers where it was", (told["healthy"], told["url"]), (True, url))
    check("status says that its socket is closed", says(told, CLOSED), CLOSED, told["notices"])
    for words in (("repair", "--dry-run"), ("repair",)):
        told = home.json(*words, code=1).json
        contains(f"so does '{' '.join(words)}'", " ".join(told["remaining"]), CLOSED)
        check("which does not call that nothing", told["message"] != CLEAN, "another message", told["message"])
    refused(home, "upgrade", *good[1].flags, code="socket-lost", help="llm-cli-gateway restart")
    equal("and nothing is switched", current(home), "7.0.0")


def closed(home, good):
    with section("a restart that was killed, and then a 'daemon-reload'"):
        url, own = anew(home, good[0], "systemd")["url"], home.port
        home.port = other = kill_restart(home)
        home.systemctl("daemon-reload")
        is_lost(home, good, url)
        told = home.json("restart").status
        equal("a restart opens it where the settings say", (told["healthy"], told["url"]), (True, f"http://127.0.0.1:{other}/mcp"))
        keeps_socket(home, told["url"])
        home.port = own
        home.json("setup", "--port", str(own))
        gone(home)


def parts_of_it(home, good):
    with section("our address taken away beside one that the user has added"):
        own, other = home.port, free_port()
        anew(home, good[0], "systemd")
        folder = own_address(home, f"127.0.0.1:{other}")
        url = home.json("restart").status["url"]
        home.port = other
        equal("a restart opens what was added", (url, listens(home, "127.0.0.1")), (f"http://127.0.0.1:{own}/mcp", True))
        home.port = own
        shutil.rmtree(folder)
        folder = own_address(home, "", f"127.0.0.1:{other}")
        home.systemctl("daemon-reload")
        is_lost(home, good, url)
        told, home.port = home.json("restart").status, other
        equal("a restart applies it", (told["healthy"], told["url"]), (True, f"http://127.0.0.1:{other}/mcp"))
        keeps_socket(home, told["url"])
        home.port = own
        shutil.rmtree(folder)
        gone(home)
    for line, title, why in (("ListenStream=127.0.0.1:99999", "with an address that is none", "at '127.0.0.1:99999' first"),
                             ("ListenStream=", "without any address", "listen nowhere")):
        with section(f"settings of the socket {title}"):
            told = anew(home, good[0], "systemd")
            folder = beside(home, "socket", f"[Socket]\n{line}" if line.endswith("=") else f"[Socket]\nListenStream=\n{line}")
            home.systemctl("daemon-reload")
            what = f"the service manager cannot make sense of '{UNIT}.socket'"
            check("status names the unit", says(home.status(), what), what, home.status()["notices"])
            contains("and so does a repair", " ".join(home.json("repair", code=1).json["remaining"]), what)
            error = refused(home, "restart", code="unit-invalid", help=f"{UNIT}.socket.d")
            contains("and a restart, which ends nothing", error.get("message") or "", why)
            equal("the gateway goes on", (alive(told["pid"]), home.status()["healthy"]), (True, True))
            shutil.rmtree(folder)
            home.systemctl("daemon-reload")
            is_lost(home, good, told["url"])
            equal("a restart opens it again", home.json("restart").status["healthy"], True)
            keeps_socket(home, told["url"])
            gone(home)


def files_gone(home, good):
    for kind, code, help, words in (("service", "unit-missing", "llm-cli-gateway start", "start"), ("socket", "socket-lost", "llm-cli-gateway restart", "restart")):
        with section(f"a unit file that is gone: that of the {kind}"):
            told = anew(home, good[0], "systemd")
            home.json("upgrade", *good[1].flags)
            told = home.status()
            os.unlink(os.path.join(unit_folder(home), f"{UNIT}.{kind}"))
            home.systemctl("daemon-reload")
            for command in (("rollback",), ("upgrade", *good[2].flags)):
                refused(home, *command, code=code, help=help)
            equal("and nothing is switched", (alive(told["pid"]), current(home)), (True, "7.1.0"))
            home.json(words)
            equal(f"after a {words} it works", (home.json("rollback").json["restarted"], home.status()["healthy"]), (True, True))
            keeps_socket(home, told["url"])
            gone(home)


def unopenable(home, good):
    with section("a restart whose socket could not be opened"), taken_port() as taken:
        told = anew(home, good[0], "systemd")
        for address, code in ((f"127.0.0.1:{taken}", "port-in-use"), (f"192.0.2.1:{home.port}", "address-unavailable")):
            for is_read in (False, True):
                folder = own_address(home, "", address)
                if is_read:
                    home.systemctl("daemon-reload")
                refused(home, "restart", code=code)
                equal(f"{address}, {'read' if is_read else 'not read'}: the gateway goes on", (alive(told["pid"]), home.status()["healthy"]), (True, True))
                shutil.rmtree(folder)
                home.systemctl("daemon-reload")
                if is_read:
                    told = home.json("restart").status
        other = free_port()
        folder = own_address(home, f"0.0.0.0:{other}")
        home.json("setup", "--port", str(other))
        refused(home, "restart", code="port-in-use", help="take it out there")
        equal("an address of the user's that includes it: the gateway goes on", (alive(told["pid"]), home.status()["healthy"]), (True, True))
        shutil.rmtree(folder)
        home.json("setup", "--port", str(home.port))
        folder = own_address(home, "", "%t/gateway.sock")
        contains("one that is none of TCP is refused", refused(home, "restart", code="unit-invalid").get("message") or "", "%t/gateway.sock")
        equal("and the gateway goes on", (alive(told["pid"]), home.status()["healthy"]), (True, True))
        shutil.rmtree(folder)
        gone(home)
    with section("a stranger on the same port, for the other family alone"), socket.socket(socket.AF_INET6) as stranger:
        url = anew(home, good[0], "systemd")["url"]
        stranger.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        stranger.bind(("::", home.port))
        stranger.listen()
        told = home.json("restart").status
        equal("is not in the way of a restart", (told["healthy"], told["url"]), (True, url))
        gone(home)


def edited(home, good):
    def edit(kind, old, new):
        path = os.path.join(unit_folder(home), f"{UNIT}.{kind}")
        with open(path, encoding="utf-8") as file:
            text = file.read()
        equal("the unit has what is to be edited", text.count(old), 1)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace(old, new))
        return path

    with section("a socket whose unit file the user has edited"), taken_port() as taken:
        told, own, other = anew(home, good[0], "systemd"), home.port, free_port()
        path = edit("socket", f":{own}", f":{taken}")
        refused(home, "restart", code="port-in-use")
        equal("to an address that is taken: the gateway goes on", (alive(told["pid"]), home.status()["healthy"]), (True, True))
        edit("socket", f":{taken}", f":{other}")
        home.json("setup", "--port", str(taken))
        told, home.port = home.json("restart").status, other
        equal("to another one: there it is, whoever has that of the settings", (told["healthy"], told["url"]), (True, f"http://127.0.0.1:{other}/mcp"))
        keeps_socket(home, told["url"])
        home.port = own
        os.unlink(path)
        home.json("setup", "--port", str(own))
        equal("taken away, it is where the settings say", home.json("restart").status["url"], f"http://127.0.0.1:{own}/mcp")
        gone(home)
    with section("a service whose unit file the user has edited, so that it does not go with its socket"):
        anew(home, good[0], "systemd")
        own = home.port
        path = edit("service", f"Requires={UNIT}.socket\n", "")
        home.systemctl("daemon-reload")
        home.port = free_port()
        home.json("setup", "--port", str(home.port))
        told = home.json("restart").status
        equal("a restart moves both", (told["healthy"], told["url"]), (True, f"http://127.0.0.1:{home.port}/mcp"))
        keeps_socket(home, told["url"])
        home.port = own
        os.unlink(path)
        home.json("setup", "--port", str(own))
        home.json("restart")
        gone(home)


def interrupted(home, good):
    with section("a restart to another port while the gateway that was killed is not gone yet"):
        own, other = home.port, free_port()
        anew(home, good[0], "systemd")
        marks = [os.path.join(home.path, name) for name in ("ending", "may-end")]
        folder = beside(home, "service", f"[Service]\nExecStopPost=/bin/sh -c 'touch {marks[0]}; while [ ! -e {marks[1]} ]; do sleep 0.05; done'")
        home.systemctl("daemon-reload")
        os.kill(home.status()["pid"], signal.SIGKILL)
        check("it ends", within(20, lambda: os.path.exists(marks[0])), "it ends", home.status())
        home.json("setup", "--port", str(other))
        restarting = begin(home, "restart")
        check("the restart waits for that", within(20, lambda: "stop" in home.systemctl("list-jobs", "--no-legend")), "a job", home.systemctl("list-jobs"))
        with open(marks[1], "w", encoding="utf-8"):
            pass
        equal("and comes to its end", restarting.wait(60), 0)
        told, home.port = home.status(), other
        equal("the next one is where the settings say", (told["healthy"], told["url"]), (True, f"http://127.0.0.1:{other}/mcp"))
        keeps_socket(home, told["url"])
        home.port = own
        home.json("setup", "--port", str(own))
        shutil.rmtree(folder)
        home.systemctl("daemon-reload")
        gone(home)
        for mark in marks:
            os.unlink(mark)
    for number in (signal.SIGINT, signal.SIGKILL):
        with section(f"a restart to another port that gets {number.name} while the gateway ends"):
            own, other = home.port, free_port()
            anew(home, good[0], "systemd")
            marks = [os.path.join(home.path, name) for name in ("ending", "may-end")]
            folder = beside(home, "service", f"[Service]\nExecStop=/bin/sh -c 'touch {marks[0]}; while [ ! -e {marks[1]} ]; do sleep 0.05; done'")
            before = home.json("start").status["pid"]
            home.systemctl("daemon-reload")
            home.json("setup", "--port", str(other))
            restarting = begin(home, "restart")
            check("the gateway ends", within(20, lambda: os.path.exists(marks[0])), "it ends", home.status())
            restarting.send_signal(number)
            restarting.wait()
            with open(marks[1], "w", encoding="utf-8"):
                pass
            home.port = other
            told = within(20, lambda: (lambda status: status if status["healthy"] and status["pid"] != before else None)(home.status())) or home.status()
            equal("the next one runs, where the settings say", (told["healthy"], told["url"], told["pid"] != before), (True, f"http://127.0.0.1:{other}/mcp", True))
            keeps_socket(home, told["url"])
            home.port = own
            home.json("setup", "--port", str(own))
            shutil.rmtree(folder)
            home.systemctl("daemon-reload")
            gone(home)
            for mark in marks:
                os.unlink(mark)


def other_commands(home, good):
    with section("other commands that would restart a gateway whose socket is closed"):
        url = anew(home, good[0], "systemd")["url"]
        kill_restart(home)
        home.systemctl("daemon-reload")
        refused(home, "upgrade", *good[0].flags, code="socket-lost", help="llm-cli-gateway restart")
        program = os.path.join(home.state, "current", "bin", "llm-gateway")
        with open(program, "rb") as file:
            data = file.read()
        os.rename(program, f"{program}.before")
        with open(program, "wb") as file:
            file.write(data + b"altered")
        os.chmod(program, 0o755)
        os.unlink(f"{program}.before")
        told = home.json("repair", code=1).json
        contains("a repair puts the file right, and restarts nothing", " ".join(told["notices"]), "the gateway was not restarted")
        contains("it says why", " ".join(told["remaining"]), CLOSED)
        told = home.status()
        equal("the gateway is where it was", (told["healthy"], told["url"]), (True, url))
        home.json("setup", "--port", str(home.port))
        told = home.json("restart").status
        equal("a restart puts that right", (told["healthy"], told["url"], home.json("repair").json["message"]), (True, url, CLEAN))
        gone(home)
    with section("a socket that waits at another address than that of the settings"):
        url = anew(home, good[0], "systemd")["url"]
        home.systemctl("stop", f"{UNIT}.service")
        home.json("setup", "--port", str(free_port()))
        told = home.status()
        equal("status says where it waits", (told["url"], says(told, "the next connection starts the gateway")), (url, True))
        with socket.create_connection(("127.0.0.1", home.port), 10):
            check("and a connection there starts the gateway", within(10, lambda: home.status()["running"]), "running", home.status())
        home.json("setup", "--port", str(home.port))
        gone(home)
    with section("'setup --enable' beside settings of the socket that the manager has not read"):
        anew(home, good[0], "systemd")
        home.systemctl("disable", f"{UNIT}.socket", f"{UNIT}.service")
        folder = own_address(home, "", f"127.0.0.1:{free_port()}")
        equal("says what it did", home.json("setup", "--enable").status["enabled"], True)
        equal("and so does status", (home.status()["enabled"], home.systemctl("is-enabled", f"{UNIT}.service")), (True, "enabled"))
        shutil.rmtree(folder)
        gone(home)


def inside(bundle, manager, *words):
    world = Inside()
    try:
        home = ServiceHome(world, manager)
        home.bundle, home.bootstrap = Bundle(bundle, os.environ["RELEASE_VERSION"]), home.program
        good = versions(home.bundle, home)
        if words:
            hidden(home, good)
        else:
            for part in (closed, parts_of_it, files_gone, unopenable, edited, interrupted, other_commands):
                part(home, good)
    finally:
        world.close()
    sys.exit(1 if Tally.failed else 0)


def hidden(home, good):
    told = anew(home, good[0], "systemd")
    with open(f"/proc/{told['pid']}/stat", encoding="utf-8") as file:
        manager = file.read().rpartition(") ")[2].split()[1]
    try:
        seen = len([os.readlink(f"/proc/{manager}/fd/{name}") for name in os.listdir(f"/proc/{manager}/fd")])
    except PermissionError:
        seen = "hidden"
    equal("what the manager holds cannot be seen", seen, "hidden", vital=True)
    equal("which is no reason to call its socket closed", [notice for notice in told["notices"] if CLOSED in notice], [])
    gone(home)
    closed(home, good)


def drive(world):
    words = sys.argv[1:]
    options = ("-c", "wake_alarm") if words else ()
    equal("everything held under systemd", under_systemd(world, "EndToEnd/lost_sockets.py", release(), *words, options=options).returncode, 0)


if __name__ == "__main__":
    inside(*sys.argv[2:]) if sys.argv[1:2] == ["inside"] else run(drive)
