#!/usr/bin/python3
"""The release under a real user service manager: what systemd itself sees of the service, and what a service lacks of a shell.

Runs itself as an ordinary user inside Tests/Fixtures/systemd-user.sh. That it starts, restarts, stops and goes away like any
other is what service.py drives; here are the units, socket activation, the watchdog, the journal, a second home, and provider
CLIs and keys that only `setup` and the environment file know.
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

from harness import Tally, World, check, contains, descendants, equal, matches, run, section, skip, text_of, within
from installed import Bundle, Home, alive, release, renamed, under_systemd

UNIT = "llm-cli-gateway"


class Inside(World):
    """The world of the user under the manager: its home is the one that systemd knows."""

    def __init__(self):
        super().__init__()
        for name in ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"):
            self.environment[name] = os.environ[name]


class ServiceHome(Home):
    """The home that the user manager knows: units belong there."""

    def __init__(self, world, program, environment=None):
        super().__init__(world, "home", program, environment)
        self.path = os.environ["HOME"]
        self.state = os.path.join(self.path, ".llm-cli-gateway")
        self.link = os.path.join(self.path, ".local/bin/llm-cli-gateway")
        self.environment.update({"HOME": self.path, "PATH": f"{self.path}/.local/bin:/usr/bin:/bin"})

    def systemctl(self, *words):
        return self.world.call(["systemctl", "--user", *words], self.environment).stdout.strip()

    def shown(self, *properties, unit=f"{UNIT}.service"):
        """{property: value} of a unit, as systemd has it."""
        text = self.systemctl("show", unit, *(f"--property={name}" for name in properties))
        return dict(line.split("=", 1) for line in text.splitlines())


def units(home):
    with section("units"):
        told = home.json("setup", "--enable").status
        equal("setup --enable starts it, now and with the session",
              (told["running"], told["healthy"], told["supervisor"], told["enabled"]), (True, True, "systemd", True), vital=True)
        equal("service, socket and slice are active", [home.systemctl("is-active", f"{UNIT}.{kind}")
                                                       for kind in ("service", "socket", "slice")], ["active"] * 3)
        equal("service and socket are enabled", [home.systemctl("is-enabled", f"{UNIT}.{kind}") for kind in ("service", "socket")],
              ["enabled"] * 2)
        seen = home.shown("Type", "NotifyAccess", "StatusText", "MainPID", "Slice", "NRestarts", "WatchdogUSec", "Restart")
        equal("systemd waits for its word, and watches it",
              (seen["Type"], seen["Slice"], seen["Restart"], seen["WatchdogUSec"]), ("notify", f"{UNIT}.slice", "on-failure", "30s"))
        contains("its word names the address", seen["StatusText"], f"127.0.0.1:{home.port}")
        equal("status has the same process", told["pid"], int(seen["MainPID"]))
        folder = os.path.join(home.path, ".config/systemd/user")
        verified = home.world.call(["systemd-analyze", "--user", "verify", *sorted(
            os.path.join(folder, name) for name in os.listdir(folder) if name.startswith(UNIT) and not os.path.isdir(os.path.join(folder, name)))],
            home.environment)
        equal("systemd-analyze verify has nothing to say", (verified.returncode, verified.stdout, verified.stderr), (0, "", ""))
        client = home.client()
        client.initialize()
        equal("a tool answers through the socket unit", client.tool("session_list").get("isError", False), False)


def activation(home):
    with section("socket activation"):
        home.systemctl("stop", f"{UNIT}.service")
        stopped = home.json("status").status
        equal("status says that the service is not running", (stopped["running"], stopped["supervisor"]), (False, "systemd"))
        print(f"    {stopped['state']}; {stopped['notices']}", flush=True)
        equal("the socket still listens", home.systemctl("is-active", f"{UNIT}.socket"), "active")
        equal("looking did not start it", home.systemctl("is-active", f"{UNIT}.service"), "inactive")
        client = home.client()
        client.initialize()
        equal("a connection starts it, and is answered", client.tool("session_list").get("isError", False), False)
        equal("now it is active", home.systemctl("is-active", f"{UNIT}.service"), "active")
        home.json("stop")
        with socket.socket() as probe:
            check("after our stop the port is closed", probe.connect_ex(("127.0.0.1", home.port)) != 0, "refused", "connected")
        home.json("start")


def crashes(home):
    with section("crash"):
        before = home.status()
        os.kill(before["pid"], signal.SIGSEGV)
        after = within(15, lambda: (now := home.status())["healthy"] and now["pid"] != before["pid"] and now)
        check("a crash ends with another healthy process", bool(after), "healthy", home.status())
        equal("systemd counts it, and status says the same", (home.shown("NRestarts")["NRestarts"], after and after["restarts"]),
              ("1", 1))
    with section("watchdog"):
        folder = os.path.join(home.path, f".config/systemd/user/{UNIT}.service.d")
        os.makedirs(folder)
        with open(os.path.join(folder, "mine.conf"), "w") as file:
            file.write("[Service]\nWatchdogSec=2\nTimeoutAbortSec=2\n")
        told = home.json("restart").status
        contains("a drop-in of the user is reported", " ".join(told["notices"]), "mine.conf")
        equal("and in force", home.shown("WatchdogUSec")["WatchdogUSec"], "2s")
        def fed():
            return int(home.shown("WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"])  # microseconds

        first = fed()
        check("a gateway that works goes on feeding its watchdog", within(15, lambda: fed() - first > 2_000_000),
              "again after 2 s", fed() - first)
        equal("and is left alone", home.status()["pid"], told["pid"])
        began = time.monotonic()
        os.kill(told["pid"], signal.SIGSTOP)
        after = within(15, lambda: (now := home.status()).get("pid") not in (None, told["pid"]) and now["healthy"] and now)
        check("one that hangs is replaced", bool(after), "another process", home.status())
        print(f"    after {time.monotonic() - began:.1f} s", flush=True)
        check("the one that hung is gone", within(5, lambda: not alive(told["pid"])), "gone", told["pid"])
        contains("the journal has the reason", home.world.call(
            ["journalctl", f"--user-unit={UNIT}.service", "--no-pager"], home.environment).stdout, "watchdog")
        for words in (["repair"], ["setup"], ["stop"], ["start"]):
            home.json(*words)
        with open(os.path.join(folder, "mine.conf")) as file:
            contains("our commands keep the drop-in", file.read(), "WatchdogSec=2")
        shutil.rmtree(folder)
        home.json("restart")


def journal(home):
    with section("journal"):
        lines = home.world.call(["journalctl", f"--user-unit={UNIT}.service", "--output=json", "--no-pager",
                                 "--output-fields=MESSAGE,PRIORITY,SYSLOG_IDENTIFIER"], home.environment).stdout.splitlines()
        entries = [entry for entry in map(json.loads, lines) if entry.get("SYSLOG_IDENTIFIER") == UNIT]
        check("it has our lines", any("listening" in entry["MESSAGE"] for entry in entries), "'listening'", entries[-3:])
        home.write("config.toml", "[http]\nmax_sesions = 5\n")
        home.json("restart")
        os.unlink(home.file("config.toml"))
        found = home.world.call(["journalctl", f"--user-unit={UNIT}.service", "--priority=warning..warning", "--no-pager",
                                 "--output=cat"], home.environment).stdout
        contains("a warning has the priority of one", found, "max_sesions")
        check("and no ordinary line has", "listening" not in found, "warnings only", found)
        contains("'logs' shows the journal", home.run("logs").out, "listening")
        equal("as JSON it says so", home.json("logs").json["source"], "journal")
        stream = home.world.start([home.program, "logs", "-f", "-n", "1", "--json"], home.environment, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, text=True)
        line = json.loads(stream.stdout.readline())
        equal("so does each line that is followed", (sorted(line), line["source"]), (["line", "path", "source"], "journal"))
        reader = descendants(stream.pid)
        stream.kill()
        check("what reads the journal ends with the command", within(5, lambda: not any(map(alive, reader))), "gone", reader)


def surroundings(home):
    """A fake CLI in a folder that only the shell's PATH has, and a key that only the environment file has."""
    with section("what a service lacks of a shell"):
        odd = home.world.directory("tools of mine")
        starts = home.world.directory("starts")
        os.symlink(os.path.join(os.environ["FIXTURES"], "fakes", "scenario"), os.path.join(odd, "claude"))
        home.environment["PATH"] += f":{odd}"
        told = home.json("setup").json
        equal("setup finds the CLI where the shell does", told["providers"]["claude"], os.path.join(odd, "claude"))
        with open(home.file("environment"), "a") as file:
            file.write(f"ANTHROPIC_API_KEY=key-of-the-file\nFAKE_CLI_LOG={starts}\nPYTHONDONTWRITEBYTECODE=1\n")
        work = home.world.work
        home.write("config.toml", f'[workspaces]\ndefault = "main"\n\n[[workspaces.repos]]\nalias = "main"\npath = "{work}"\nkind = "folder"\n')
        home.json("restart")
        client = home.client()
        client.initialize()
        answer = client.tool("claude_request", prompt="hello", timeout=60)
        check("a run under the service answers", not answer.get("isError"), "an answer", text_of(answer))
        found = []
        for name in sorted(os.listdir(starts)):
            if name.endswith(".json"):
                with open(os.path.join(starts, name)) as file:
                    found.append(json.load(file))
        runs = [start for start in found if "hello" in json.dumps(start)]
        check("it was the CLI of that folder", bool(runs), "a start", found)
        keys = [start["env"].get("ANTHROPIC_API_KEY") for start in runs]
        equal("with the key of the environment file", keys[-1:], ["key-of-the-file"])
        os.unlink(home.file("config.toml"))


def edits(home):
    with section("an edited unit"):
        path = os.path.join(home.path, f".config/systemd/user/{UNIT}.service")
        with open(path) as file:
            ours = file.read()
        with open(path, "w") as file:
            file.write(ours.replace("RestartSec=1", "RestartSec=2"))
        told = home.json("restart").status
        contains("is reported", " ".join(told["notices"]), "left as it is")
        equal("and in force", home.shown("RestartUSec")["RestartUSec"], "2s")
        with open(path) as file:
            contains("and kept", file.read(), "RestartSec=2")
        with open(path, "w") as file:
            file.write(ours)
        home.json("restart")


def lost(home):
    with section("a unit whose file is gone"):
        before = home.status()
        os.unlink(os.path.join(home.path, f".config/systemd/user/{UNIT}.service"))
        home.systemctl("daemon-reload")
        told = home.json("status").status
        equal("status still knows the process", (told["running"], told["pid"]), (True, before["pid"]))
        contains("and says what is missing", " ".join(told["notices"]), "is gone")
        equal("stop stops it", home.json("stop").status["running"], False)
        check("the process is gone", within(5, lambda: not alive(before["pid"])), "gone", before["pid"])
        equal("start writes the file again", home.json("start").status["healthy"], True)


def second(home):
    with section("a second home"):
        other = Home(home.world, "second", home.program, {"HOME": home.path, "LLM_GATEWAY_HOME": os.path.join(home.path, "other")})
        other.state = os.path.join(home.path, "other")
        other.json("setup", "--port", str(other.port))
        other.json("install-bundle", *home.bundle.flags)
        told = other.json("start").status
        matches("has units of its own", told["unit"], rf"^{UNIT}-[0-9a-f]{{8}}\.service$")
        equal("both run", (told["healthy"], home.status()["healthy"], told["pid"] != home.status()["pid"]), (True, True, True))
        other.json("stop")
        equal("stopping one leaves the other", home.status()["healthy"], True)
        other.json("uninstall", "--yes", "--purge")
        left = [name for name in os.listdir(os.path.join(home.path, ".config/systemd/user")) if name.startswith(f"{UNIT}-")]
        equal("removing it takes its units only", (left, home.status()["healthy"]), ([], True))


def reach(home):
    with section("the manager from elsewhere"):
        bare = {"XDG_RUNTIME_DIR": "", "DBUS_SESSION_BUS_ADDRESS": ""}
        equal("without XDG_RUNTIME_DIR, as after su, it is found", home.json("status", environment=bare).status["supervisor"], "systemd")
        # Another user, who has no manager: root of a name space.
        prefix = ["unshare", "--user", "--map-root-user"]
        probe = home.world.call([*prefix, "true"], home.environment)
        if probe.returncode != 0:
            return skip("no manager within reach", f"no user name space can be had ({probe.stderr.strip()})")
        home.refused("start", code=1, error="user-manager-unreachable", says=["loginctl enable-linger", "start --detached"],
                     prefix=prefix, environment=bare)
        told = home.json("status", prefix=prefix, environment=bare).status
        contains("status says so and ends well", " ".join(told["notices"]), "cannot be reached")


def short_lived(ending):
    """A gateway that says it is ready, and ends before it answers anything."""
    return f"""exec {sys.executable} -c 'import os, socket, time
name = os.environ["NOTIFY_SOCKET"]
notice = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notice.connect("\\0" + name[1:] if name[0] == "@" else name)
notice.send(b"READY=1")
time.sleep(0.3)
{ending}'"""


def upgrades(home):
    with section("an upgrade to a version that does not work"):
        before = home.status()
        broken = renamed(home.bundle, os.path.join(home.world.root, "broken.tar.gz"), "9.0.0", gateway="exit 3")
        began = time.monotonic()
        home.refused("upgrade", *broken.flags, code=1, error="unhealthy-version", says=["9.0.0", "is in use again"])
        print(f"    it took {time.monotonic() - began:.1f} s", flush=True)
        after = home.status()
        equal("the version before answers", (after["healthy"], after["version"]), (True, before["version"]))
        equal("systemd sees no failure", home.shown("ActiveState", "Result"), {"ActiveState": "active", "Result": "success"})
    for version, ending in (("9.1.0", "os._exit(1)"), ("9.2.0", "os._exit(0)")):
        with section(f"an upgrade to a version that says it is ready and ends: {ending}"):
            before = home.status()
            broken = renamed(home.bundle, os.path.join(home.world.root, f"{version}.tar.gz"), version, gateway=short_lived(ending))
            home.refused("upgrade", *broken.flags, code=1, error="unhealthy-version", says=[version, "is in use again"])
            told = home.status()
            equal("the version before answers", (told["healthy"], told["version"]), (True, before["version"]))
            equal("behind its socket", home.systemctl("is-active", f"{UNIT}.service", f"{UNIT}.socket").split(), ["active", "active"])
    with section("an upgrade that is killed while its version fails for good"):
        before = home.status()
        broken = renamed(home.bundle, os.path.join(home.world.root, "9.3.0.tar.gz"), "9.3.0", gateway=short_lived("os._exit(1)"))
        upgrade = home.world.start([home.program, "upgrade", *broken.flags, "--json"], home.environment, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        within(60, lambda: home.shown("NRestarts", "ActiveState") and "9.3.0" in os.readlink(home.file("current"))
               and (home.shown("NRestarts")["NRestarts"] != "0" or home.shown("ActiveState")["ActiveState"] == "failed"))
        upgrade.kill()
        upgrade.wait()
        check("systemd gives it up", within(60, lambda: home.shown("ActiveState")["ActiveState"] == "failed"), "failed", home.shown("ActiveState"))
        home.refused("repair", code=1, error="unhealthy-version", says=["9.3.0", "is in use again"])
        told = home.status()
        equal("the version before answers", (told["healthy"], told["version"]), (True, before["version"]))
    with section("a masked unit"):
        home.json("stop")
        os.unlink(os.path.join(home.path, f".config/systemd/user/{UNIT}.service"))
        home.systemctl("mask", f"{UNIT}.service")
        home.refused("start", code=1, error="unit-masked", says=["masked", "unmask"])
        home.systemctl("unmask", f"{UNIT}.service")
        equal("started when it is unmasked", home.json("start").status["healthy"], True)
    with section("an upgrade"):
        following = renamed(home.bundle, os.path.join(home.world.root, "next.tar.gz"), "8.0.0")
        told = home.json("upgrade", *following.flags).json
        equal("to one that works restarts the service", (told["changed"], told["restarted"]), (True, True))
        equal("which answers", (home.status()["healthy"], home.shown("ActiveState")["ActiveState"]), (True, "active"))


def removal(home):
    with section("uninstall"):
        folder = os.path.join(home.path, ".config/systemd/user")
        home.json("uninstall", "--yes", "--purge")
        left = [os.path.join(parent, name) for parent, folders, files in os.walk(home.path) for name in folders + files
                if UNIT in os.path.join(parent, name)]
        equal("nothing of ours is left, units and links included", (left, os.path.exists(folder)), ([], False))
        equal("systemd has forgotten them", home.systemctl(
            "list-units", "--all", "--plain", "--no-legend", f"{UNIT}.service", f"{UNIT}.socket", "llm*.slice"), "")


def inside(bundle, manager):
    world = Inside()
    try:
        home = ServiceHome(world, manager)
        home.bundle = Bundle(bundle)
        home.json("setup", "--port", str(home.port))
        home.json("install-bundle", *home.bundle.flags)
        home.program = home.link
        for part in (units, activation, crashes, journal, surroundings, edits, lost, second, reach, upgrades, removal):
            part(home)
    finally:
        world.close()
    sys.exit(1 if Tally.failed else 0)


def drive(world):
    ended = under_systemd(world, "EndToEnd/systemd_service.py", release())
    equal("everything held under systemd", ended.returncode, 0)


if __name__ == "__main__":
    inside(*sys.argv[2:]) if sys.argv[1:2] == ["inside"] else run(drive)
