"""Bad moments under a real user service manager: one that cannot be asked, sockets that the user has changed, units that were removed,
broken or written by halves. `bad_moments.py systemd` runs them."""
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import threading

from bad_moments_tools import begin, current, gone, is_told_to_end, listens, refused, supervisor_of, suspend, taken_port
from harness import check, contains, equal, section, within
from installed import alive, free_port, renamed
from last_word import anew, left, programs
from systemd_service import UNIT, short_lived

NOWHERE = {"XDG_RUNTIME_DIR": "/nonexistent", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent/bus"}


def beside(home, kind, text):
    """Writes settings of the user's beside our unit of a kind. -> their folder"""
    folder = os.path.join(home.path, f".config/systemd/user/{UNIT}.{kind}.d")
    os.makedirs(folder)
    with open(os.path.join(folder, "mine.conf"), "w", encoding="utf-8") as file:
        file.write(f"{text}\n")
    return folder


@contextlib.contextmanager
def hidden_manager():
    own = f"/run/user/{os.getuid()}"

    def hide(on):
        for name in ("systemd", "bus"):
            names = [os.path.join(own, name), os.path.join(own, f"{name}-hidden")]
            if os.path.lexists(names[not on]):
                os.rename(names[not on], names[on])

    hide(True)
    try:
        yield
    finally:
        hide(False)


def unmanaged(home, good):
    """As by `su` after the end of the session: nobody can be asked."""
    for title in ("", " and a socket with another address of the user's"):
        with section(f"a manager that cannot be asked{title}"):
            before = anew(home, good[0], "systemd")["pid"]
            folder = None
            if title:
                folder = beside(home, "socket", f"[Socket]\nListenStream=127.0.0.1:{free_port()}")
                home.json("stop")
                before = home.json("start").status["pid"]
            with hidden_manager():
                refused(home, "upgrade", *good[1].flags, code="user-manager-unreachable", environment=NOWHERE)
                equal("and nothing has changed", (alive(before), current(home)), (True, "7.0.0"))
                refused(home, "start", "--detached", code="already-supervised", environment=NOWHERE)
                if folder:
                    shutil.rmtree(folder)
                told = home.json("uninstall", "--yes", "--purge", environment=NOWHERE).json
                equal("an uninstall removes all", (told["removed"], left(home)), (True, []))
                contains("and says what it did itself", " ".join(told["notices"]),
                         "was ended without it, and nothing starts with your session")
                check("the gateway has ended", within(10, lambda: not alive(before)), "gone", before)
                equal("it starts with no session", [name for name in home.tree() if UNIT in name], [])
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
        try:
            with hidden_manager():
                home.json("uninstall", "--yes", "--purge", environment=NOWHERE)
                equal("nothing is left", left(home), [])
                check("and nothing runs", within(5, lambda: not programs(home)), "nothing", programs(home))
        finally:
            over.set()
            client.join()
        home.systemctl("stop", f"{UNIT}.socket", f"{UNIT}.service")
        home.systemctl("reset-failed")
        home.systemctl("daemon-reload")


def socketed(home, good):
    for title, line in (("other settings", "Backlog=64"), ("another address", f"ListenStream=127.0.0.1:{free_port()}")):
        with section(f"a socket with {title} of the user's beside ours"):
            url = anew(home, good[0], "systemd")["url"]
            folder = beside(home, "socket", f"[Socket]\n{line}")
            home.json("stop")
            told = home.json("start").status
            says = any("the gateway answers only at 127.0.0.1" in notice for notice in told["notices"])
            equal("status says that only ours is served", says, "ListenStream" in line)
            home.port = free_port()
            home.json("setup", "--port", str(home.port))
            home.json("start")
            home.json("upgrade", *good[1].flags)
            equal("an upgrade leaves ours where it is", (home.status()["healthy"], home.status()["url"]), (True, url))
            told = home.json("restart").status
            equal("a restart moves it", (told["healthy"], told["url"]), (True, f"http://127.0.0.1:{home.port}/mcp"))
            shutil.rmtree(folder)
            gone(home)
    with section("an address that the user's settings of the socket have already"):
        url, other = anew(home, good[0], "systemd")["url"], free_port()
        folder = beside(home, "socket", f"[Socket]\nListenStream=127.0.0.1:{other}")
        home.json("stop")
        before = home.json("start").status["pid"]
        home.json("setup", "--port", str(other))
        told = home.status()
        equal("the gateway is asked where it answers", (told["healthy"], told["url"]), (True, url))
        equal("a start leaves it alone", home.json("start").status["pid"], before)
        equal("an upgrade replaces it there", home.json("upgrade", *good[1].flags).json["restarted"], True)
        error = refused(home, "restart", code="port-in-use", help="take it out there")
        contains("and a restart is told what is in the way", error.get("message") or "", f"127.0.0.1:{other} is listened on by your own settings")
        told = home.status()
        equal("it goes on", (told["healthy"], told["url"]), (True, url))
        shutil.rmtree(folder)
        home.json("stop")
        home.json("setup", "--port", url.split(":")[-1].split("/")[0])
        before = home.json("start").status["pid"]
        home.json("setup", "--port", str(other))
        for line in (f"ListenStream = 127.0.0.1:{other}", f"ListenStream={other}"):
            folder = beside(home, "socket", f"[Socket]\n{line}")
            refused(home, "restart", code="port-in-use", help="take it out there")
            equal(f"'{line}', which the manager has not read yet: it goes on", (alive(before), home.status()["healthy"]), (True, True))
            shutil.rmtree(folder)
        folder = beside(home, "socket", f"[Socket]\nListenStream=127.0.0.1:{other}")
        home.json("stop")
        refused(home, "start", code="port-in-use", help="take it out there")
        shutil.rmtree(folder)
        home.systemctl("daemon-reload")
        told = home.json("start").status
        equal("taken out, it is where the settings say", (told["healthy"], told["url"]), (True, f"http://127.0.0.1:{other}/mcp"))
        home.json("setup", "--port", str(home.port))
        gone(home)
    with section("a socket that the user has moved"), taken_port() as taken:
        anew(home, good[0], "systemd")
        port = free_port()
        folder = beside(home, "socket", f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{port}")
        home.json("stop")
        told = home.json("start").status
        equal("the gateway is where the user wants it", (told["healthy"], told["url"]), (True, f"http://127.0.0.1:{port}/mcp"))
        check("nobody speaks of moving it", not any("moves it" in notice for notice in told["notices"]), "nothing", told["notices"])
        home.json("setup", "--port", str(taken))
        equal("a port that is not used may be taken", home.json("restart").status["healthy"], True)
        home.json("stop")
        told = home.json("start").status
        equal("also before a start", (told["healthy"], told["url"]), (True, f"http://127.0.0.1:{port}/mcp"))
        home.json("stop")
        with socket.socket() as occupied:
            occupied.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            occupied.bind(("127.0.0.1", port))
            occupied.listen()
            error = refused(home, "start", code="start-failed", help=f"systemctl --user status {UNIT}.socket")
            contains("taken, it is said what could not be done", error.get("message") or "", "could not open its socket")
        home.json("start")
        equal("setup asks for no restart, which would change nothing", home.json("setup").json["next"], "Run llm-cli-gateway doctor.")
        shutil.rmtree(folder)
        home.json("setup", "--port", str(home.port))
        home.json("restart")
        gone(home)
    with section("a socket that waits, and a host that is to change"):
        anew(home, good[0], "systemd")
        home.systemctl("stop", f"{UNIT}.service")
        home.json("setup", "--host", "0.0.0.0")
        equal("it moves", (home.json("start").status["healthy"], listens(home, "127.0.0.2")), (True, True))
        home.systemctl("stop", f"{UNIT}.service")
        home.json("setup", "--host", "127.0.0.1")
        equal("and back", (home.json("restart").status["healthy"], listens(home, "127.0.0.2")), (True, False))
        home.systemctl("stop", f"{UNIT}.service")
        home.json("setup", "--host", "192.0.2.1")
        refused(home, "start", code="address-unavailable", help="setup --host")
        equal("an address that cannot be had leaves the socket waiting", home.systemctl("is-active", f"{UNIT}.socket"), "active")
        with socket.socket() as other:
            other.bind(("127.0.0.2", home.port))
            other.listen()
            home.json("setup", "--host", "127.0.0.2")
            refused(home, "start", code="port-in-use", help="stop that process")
            equal("so does one that is taken, on the same port", home.systemctl("is-active", f"{UNIT}.socket"), "active")
        equal("free, it moves", (home.json("start").status["healthy"], listens(home, "127.0.0.2")), (True, True))
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


def unit_folder(home):
    return os.path.join(home.path, ".config/systemd/user")


def keeps_socket(home, url):
    """Kills the gateway: its socket stays open, and the next gateway is where it was."""
    pid = home.status()["pid"]
    os.kill(pid, signal.SIGKILL)
    within(10, lambda: not alive(pid))
    equal("its socket listens while it is away", listens(home, "127.0.0.1"), True)
    told = within(20, lambda: (lambda status: status if status["healthy"] else None)(home.status())) or home.status()
    equal("and the next one is where it was", (told["healthy"], told["url"]), (True, url))


def kill_restart(home):
    """Has a restart to another port killed when it has written the units. -> that port"""
    def socket_file():
        with open(os.path.join(unit_folder(home), f"{UNIT}.socket"), encoding="utf-8") as file:
            return file.read()

    turn = os.open(home.state, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(turn, fcntl.LOCK_EX)
    other = free_port()
    home.json("setup", "--port", str(other))
    restarting = begin(home, "restart")
    check("the restart has written the units", within(20, lambda: f":{other}" in socket_file()), str(other), socket_file())
    restarting.kill()
    restarting.wait()
    os.close(turn)
    return other


def unread(home, good):
    """Files of units that are not those of the gateway that runs: it keeps its socket, which is seen when it is killed."""
    units = unit_folder(home)
    with section("units that are removed while the gateway runs"):
        told = anew(home, good[0], "systemd")
        for kind in ("service", "socket"):
            os.unlink(os.path.join(units, f"{UNIT}.{kind}"))
        equal("a start leaves it alone", home.json("start").status["pid"], told["pid"])
        keeps_socket(home, told["url"])
        gone(home)
    for words in (("start",), ("upgrade", *good[1].flags)):
        with section(f"a restart that was killed when it had written the units, and then '{words[0]}'"):
            url = anew(home, good[0], "systemd")["url"]
            kill_restart(home)
            home.json(*words)
            told = home.status()
            equal("the gateway is where it was", (told["healthy"], told["url"]), (True, url))
            keeps_socket(home, url)
            home.json("setup", "--port", str(home.port))
            gone(home)

    def away(pid, kind):
        """Lets a gateway go, and its socket stay: between two crashes, or until the next connection."""
        if kind == "crashed":
            os.kill(pid, signal.SIGKILL)
            check("it is away until it is started again", within(10, lambda: home.status()["state"] == "activating (auto-restart)"), "auto-restart",
                  home.status())
        else:
            home.systemctl("stop", f"{UNIT}.service")

    for kind, words in (("crashed", ("upgrade", *good[1].flags)), ("crashed", ("repair",)), ("waiting", ("repair",)),
                        ("running", ("upgrade", "--auto", "on")), ("running", ("upgrade", "--auto", "off"))):
        with section(f"a restart that was killed, a gateway that is {kind}, and then '{' '.join(words[:3])}'"):
            anew(home, good[0], "systemd")
            folder = beside(home, "service", "[Service]\nRestartSec=600") if kind == "crashed" else None
            home.json("stop")
            if words[-1] == "off":
                home.json("upgrade", "--auto", "on")
            told = home.json("start").status
            url = told["url"]
            kill_restart(home)
            check("status says so", any("the files of its socket have changed since systemd opened it at" in notice for notice in home.status()["notices"]), "it",
                  home.status()["notices"])
            if kind != "running":
                away(told["pid"], kind)
            home.json(*words)
            if words[0] == "repair":
                home.systemctl("daemon-reload")
                # A connection would wait for the end of the 600 seconds.
                home.systemctl("restart", f"{UNIT}.service")
            equal("the socket is open", (home.systemctl("is-active", f"{UNIT}.socket"), listens(home, "127.0.0.1")), ("active", True))
            told = within(20, lambda: (lambda status: status if status["healthy"] else None)(home.status())) or home.status()
            equal("the gateway is where it was", (told["healthy"], told["url"]), (True, url))
            if folder:
                shutil.rmtree(folder)
            else:
                keeps_socket(home, url)
            home.json("setup", "--port", str(home.port))
            gone(home)
    for kind in ("waiting", "crashed"):
        with section(f"a restart that was killed, a gateway that is {kind}, and then 'start'"):
            anew(home, good[0], "systemd")
            folder = beside(home, "service", "[Service]\nRestartSec=600")
            home.json("stop")
            before = home.json("start").status["pid"]
            other = kill_restart(home)
            away(before, kind)
            shutil.rmtree(folder)
            told = home.json("start").status
            equal("it is where the settings say, at once", (told["healthy"], told["url"]), (True, f"http://127.0.0.1:{other}/mcp"))
            equal("and not where it was", listens(home, "127.0.0.1"), False)
            home.port, own = other, home.port
            keeps_socket(home, told["url"])
            home.port = own
            home.json("setup", "--port", str(own))
            gone(home)
    for words in (("start",), ("upgrade", *good[1].flags), ("upgrade", "--auto", "on"), ("repair",)):
        with section(f"a socket that the user has moved, which the manager has not read, and '{' '.join(words[:3])}'"):
            url, own, other = anew(home, good[0], "systemd")["url"], home.port, free_port()
            folder = beside(home, "socket", f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{other}")
            home.json(*words)
            told = home.status()
            check("status says what applies it", any("'llm-cli-gateway restart' applies them" in notice for notice in told["notices"]), "restart",
                  told["notices"])
            keeps_socket(home, url)
            told, home.port = home.json("restart").status, other
            equal("a restart applies it", (told["healthy"], told["url"]), (True, f"http://127.0.0.1:{other}/mcp"))
            keeps_socket(home, told["url"])
            home.port = own
            shutil.rmtree(folder)
            gone(home)
    for title in ("by 'systemctl edit'", "by what others have the manager read"):
        with section(f"a socket that was closed under the gateway, {title}"):
            url, own = anew(home, good[0], "systemd")["url"], home.port
            if "edit" in title:
                other = free_port()
                folder = beside(home, "socket", f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{other}")
            else:
                folder, other = None, kill_restart(home)
            home.systemctl("daemon-reload")
            told = home.status()
            equal("the gateway answers", (told["healthy"], told["url"]), (True, url))
            closed = "systemd has closed the socket of the gateway"
            check("status says it", any(closed in notice for notice in told["notices"]), closed, told["notices"])
            refused(home, "upgrade", *good[1].flags, code="socket-lost", help="llm-cli-gateway restart")
            equal("before anything is switched", (alive(told["pid"]), current(home)), (True, "7.0.0"))
            contains("and remains of a repair", " ".join(home.json("repair", code=1).json["remaining"]), closed)
            told, home.port = home.json("restart").status, other
            equal("a restart opens it", (told["healthy"], told["url"]), (True, f"http://127.0.0.1:{other}/mcp"))
            equal("and nothing is said", [notice for notice in told["notices"] if closed in notice], [])
            keeps_socket(home, told["url"])
            home.port = own
            if folder:
                shutil.rmtree(folder)
            home.json("setup", "--port", str(own))
            gone(home)
    with section("a gateway that was started without its socket, and a manager that cannot be asked"):
        before = anew(home, good[0], "systemd")["pid"]
        folder = beside(home, "socket", f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{free_port()}")
        home.systemctl("daemon-reload")
        os.kill(before, signal.SIGKILL)
        check("the next one runs", within(20, lambda: home.status().get("pid") not in (None, before)), "another", home.status())
        pid = home.status()["pid"]
        with hidden_manager():
            home.json("uninstall", "--yes", "--purge", environment=NOWHERE)
            check("it is ended", within(10, lambda: not alive(pid)), "gone", programs(home))
        shutil.rmtree(folder)
        home.systemctl("stop", f"{UNIT}.socket", f"{UNIT}.service")
        home.systemctl("daemon-reload")
    with section("an address in another spelling"):
        anew(home, good[0], "systemd")
        home.json("setup", "--host", "0:0:0:0:0:0:0:1")
        home.json("restart")
        equal("is no reason to write units", home.json("repair", "--dry-run").json["steps"], [])
        home.json("setup", "--host", "127.0.0.1")
        gone(home)
    with section("units that have failed, and what else there is"):
        anew(home, good[0], "systemd")
        folder = beside(home, "service", "[Unit]\nStartLimitBurst=1\n[Service]\nRestart=no\nExecStartPre=false")
        home.json("stop")
        refused(home, "start", code="start-failed")
        check("the socket fails with it", within(10, lambda: listens(home, "127.0.0.1") and home.systemctl("is-failed", f"{UNIT}.socket") == "failed"),
              "failed", home.status())
        home.json("start", "--detached")
        equal("nothing is repaired beside a gateway without systemd", home.json("repair").json["steps"], [])
        home.json("stop")
        shutil.rmtree(folder)
        folder = beside(home, "service", "[Service]\nExecStop=false")
        home.json("start")
        home.systemctl("stop", f"{UNIT}.socket", f"{UNIT}.service")
        equal("nor what was stopped by systemctl and did not end well", (home.status()["state"], home.json("repair").json["steps"], home.status()["running"]),
              ("failed (failed)", [], False))
        shutil.rmtree(folder)
        folder = beside(home, "service", "[Service]\nRestart=no\nExecStartPre=false")
        refused(home, "start", code="start-failed")
        shutil.rmtree(folder)
        folder = beside(home, "service", "[Service]\nExecStart=")
        home.systemctl("daemon-reload")
        contains("one that cannot be loaded remains", " ".join(home.json("repair", code=1).json["remaining"]), f"{UNIT}.service.d")
        home.json("stop")
        equal("until it is stopped", home.json("repair").json["remaining"], [])
        shutil.rmtree(folder)
        gone(home)
    with section("a gateway that failed for good, and a repair"):
        anew(home, good[0], "systemd")
        folder = beside(home, "service", "[Service]\nRestart=no\nExecStartPre=false")
        home.json("stop")
        refused(home, "start", code="start-failed", help="logs")
        step = "start the gateway, which has failed"
        equal("is planned", step in home.json("repair", "--dry-run").json["steps"], True)
        told = home.json("repair", code=1).json
        contains("what remains is that it does not start", " ".join(told["remaining"]), "the gateway, which is to run, does not start")
        equal("and nothing is said to be done", step in told["steps"], False)
        shutil.rmtree(folder)
        home.systemctl("daemon-reload")
        equal("with its cause gone it is started", step in home.json("repair").json["steps"], True)
        equal("and runs", home.status()["healthy"], True)
        home.json("stop")
        equal("one that was stopped stays so", (home.json("repair").json["steps"], home.status()["running"]), ([], False))
        gone(home)
    with section("an upgrade to a version that says it is ready and ends, again and again, while an address is to change that cannot be had"):
        url = anew(home, good[0], "systemd")["url"]
        home.json("setup", "--host", "192.0.2.1")
        broken = renamed(home.bundle, os.path.join(home.world.root, "7.4.0.tar.gz"), "7.4.0", level=0, gateway=short_lived("os._exit(1)"))
        refused(home, "upgrade", *broken.flags, code="unhealthy-version")
        told = home.status()
        equal("the version before runs where it was", (told["healthy"], told["url"], current(home)), (True, url, "7.0.0"))
        home.json("setup", "--host", "127.0.0.1")
        gone(home)


def invalid(home, good):
    for title in ("", ", and a socket with another address"):
        with section(f"a unit that the user has broken{title}"):
            before = anew(home, good[0], "systemd")["pid"]
            folders = []
            if title:
                folders.append(beside(home, "socket", f"[Socket]\nListenStream=127.0.0.1:{free_port()}"))
                home.json("stop")
                before = home.json("start").status["pid"]
            folders.append(beside(home, "service", "[Service]\nExecStart="))
            refused(home, "upgrade", *good[1].flags, code="unit-invalid", help=f"{UNIT}.service.d")
            equal("before anything is switched", (alive(before), current(home)), (True, "7.0.0"))
            for folder in folders:
                shutil.rmtree(folder)
            equal("afterwards it works", home.json("upgrade", *good[1].flags).json["restarted"], True)
            gone(home)
    with section("a gateway that crashes again and again, with an 'environment' that cannot be read"):
        anew(home, good[0], "systemd")
        folder = beside(home, "service", "[Service]\nExecStartPre=false\nRestartSec=600")
        home.json("stop")
        refused(home, "start", code="start-failed", help="logs")
        equal("it is to be started again", home.status()["state"], "activating (auto-restart)")
        os.unlink(home.file("environment"))
        os.mkdir(home.file("environment"))
        refused(home, "upgrade", *good[1].flags, code="file-error")
        equal("before anything is switched", current(home), "7.0.0")
        os.rmdir(home.file("environment"))
        shutil.rmtree(folder)
        equal("a new version is what it needs", home.json("upgrade", *good[1].flags).json["restarted"], True)
        equal("and it runs", home.status()["healthy"], True)
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
    with section("a replacement that is killed, where a unit has run before it"):
        anew(home, good[0], "systemd")
        home.json("stop")
        home.json("start", "--detached")
        own, home.port = home.port, free_port()
        home.json("setup", "--port", str(home.port))
        home.json("repair")
        home.systemctl("daemon-reload")
        home.systemctl("start", f"{UNIT}.socket", f"{UNIT}.service")
        check("both run", within(10, lambda: len(programs(home)) == 3), 3, programs(home))
        home.systemctl("stop", f"{UNIT}.socket", f"{UNIT}.service")
        home.port = own
        home.json("setup", "--port", str(own))
        before, supervisor = home.status()["pid"], supervisor_of(home)
        suspend(before)
        upgrading = begin(home, "upgrade", *good[1].flags)
        check("the gateway is told to end", within(30, lambda: is_told_to_end(before)), "SIGTERM", "nothing")
        upgrading.kill()
        upgrading.wait()
        for pid in (supervisor, before):
            os.kill(pid, signal.SIGKILL)
        home.json("repair")
        told = home.status()
        equal("a repair starts it", (told["healthy"], told["supervisor"]), (True, "detached"))
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
