#!/usr/bin/python3
"""The installed gateway is upgraded, and thrown back from versions that do not work, while clients use it all the time: no
request fails.

    upgrade_under_load.py              without systemd: under our own supervising process
    upgrade_under_load.py systemd      under a real user service manager, in namespaces of its own

Clients of both eras, on kept and on fresh connections, hundreds of requests a second, and synchronous provider runs that
take longer than an upgrade. Every answer is looked at. The one thing that a client may see is the end of a kept connection
instead of an answer: it asks once more, on a fresh one; those are counted. With --deep: 20 upgrades and 5 forced rollbacks.
"""
import http.client
import json
import os
import subprocess
import sys
import threading
import time

from harness import DEEP, FIXTURES, LEGACY, MODERN, PYTHON, Skip, Tally, check, envelope, equal, events, run, section
from installed import Bundle, Home, release, renamed, under_systemd

# What a gateway of a bad version does; the last two take as long as the manager is patient.
BROKEN = [
    ("that ends at once", "exit 3"),
    ("that crashes", "kill -SEGV $$"),
    ("that ends after a moment", "sleep 0.3; exit 1"),
    ("that never says that it is ready", "exec sleep 300"),
    ("that says so and does not answer", "exec %s -c '%s'" % (PYTHON, "; ".join((
        "import os, socket, time", 'name = os.environ["NOTIFY_SOCKET"]', "notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)",
        'notify.sendto(b"READY=1", chr(0) + name[1:] if name[0] == "@" else name)', "time.sleep(300)")))),
]
UPGRADES, ROLLBACKS = (20, 5) if DEEP else (4, 1)
# Requests per second of one client; there are eight, and two that wait for provider runs.
PACE = 100
LEAST = 200
PATIENCE = 120

# ---------------------------------------------------------------------------------------------------------------------
# one client


class Bad(Exception):
    """A request that did not get the answer that it should."""


class Asker:
    """A client of one era on kept or fresh connections; counts what it asked and what went wrong."""

    def __init__(self, port, token, era, keeps):
        self.port, self.token, self.era, self.keeps = port, token, era, keeps
        self.connection, self.session, self.number = None, None, 0
        self.good, self.retried, self.longest, self.failures = 0, 0, 0.0, []
        self.deferred, self.answered = 0, 0

    def exchange(self, method, headers, body):
        """One HTTP exchange; a kept connection that ends instead of an answer is replaced once."""
        for attempt in (0, 1):
            reused = self.connection is not None and self.connection.sock is not None
            if not reused:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            try:
                self.connection.request(method, "/mcp", body, headers)
                answer = self.connection.getresponse()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
                self.connection.close()
                if not reused or attempt:
                    raise Bad(f"a fresh connection ended without an answer: {error!r}") from None
                self.retried += 1
                continue
            data = answer.read()
            if not self.keeps:
                self.connection.close()
            return answer, data
        raise Bad("unreachable")

    def ask(self, method, params=None, session=None, expected=200):
        """Asks and judges. -> the result, or None where another status than 200 was expected."""
        self.number += 1
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json",
                   "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": self.era}
        params = envelope(params, self.era)
        if self.era == MODERN:
            headers["Mcp-Method"] = method
            if "name" in params:
                headers["Mcp-Name"] = params["name"]
        elif session or self.session:
            headers["Mcp-Session-Id"] = session or self.session
        message = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}
        began = time.monotonic()
        answer, data = self.exchange("POST", headers, json.dumps(message))
        self.count(began)
        if answer.status != expected:
            raise Bad(f"{method}: status {answer.status}: {data[:300]!r}")
        if expected != 200:
            return None
        if method == "initialize":
            self.session = answer.headers["Mcp-Session-Id"]
        if (answer.headers["Content-Type"] or "").startswith("text/event-stream"):
            found = [one for one in events(data) if one.get("id") == self.number]
            if len(found) != 1:
                raise Bad(f"{method}: a stream without its answer: {data[-300:]!r}")
            reply = found[0]
        else:
            reply = json.loads(data)
        if reply.get("id") != self.number or "result" not in reply or reply["result"].get("isError"):
            raise Bad(f"{method}: {data[:500]!r}")
        return reply["result"]

    def count(self, began):
        self.longest = max(self.longest, time.monotonic() - began)
        self.good += 1

    def initialize(self):
        self.session = None
        self.ask("initialize", {"protocolVersion": self.era, "capabilities": {}, "clientInfo": {"name": "load", "version": "1"}})

    def delete(self, session):
        began = time.monotonic()
        answer, data = self.exchange("DELETE", {"Authorization": f"Bearer {self.token}", "Mcp-Session-Id": session}, None)
        self.count(began)
        if answer.status != 204:
            raise Bad(f"DELETE: status {answer.status}: {data[:300]!r}")

    def carry(self, work, *arguments):
        """Does a piece of work; what goes wrong is one failure."""
        try:
            return work(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, a request failed
            self.failures.append(f"{time.monotonic():.2f} {self.era} {'kept' if self.keeps else 'fresh'}: {error!r}"[:600])
            if self.connection:
                self.connection.close()


CHEAP = [("session_list", {}), ("llm_process_health", {}), ("list_models", {"cli": "claude"}), ("session_list", {"cli": "codex"})]


def cheap(asker, over):
    """Cheap requests at a steady pace; legacy clients keep one session all the time, and close others."""
    opened, dead = None, []
    if asker.era == LEGACY:
        asker.carry(asker.initialize)
    number = 0
    while not over.is_set():
        began = time.monotonic()
        number += 1
        if asker.era == LEGACY and number % 40 == 0:
            kept = asker.session
            asker.carry(asker.initialize)
            if opened:
                asker.carry(asker.delete, opened)
                dead.append(opened)
            opened, asker.session = asker.session, kept
        elif dead and number % 10 == 0:
            asker.carry(asker.ask, "ping", None, dead[number // 10 % len(dead)], 404)
        elif number % 7 == 0:
            asker.carry(asker.ask, "tools/list")
        else:
            name, arguments = CHEAP[number % len(CHEAP)]
            asker.carry(asker.ask, "tools/call", {"name": name, "arguments": arguments})
        rest = 1 / PACE - (time.monotonic() - began)
        if rest > 0:
            time.sleep(rest)


def tool(asker, name, **arguments):
    return asker.ask("tools/call", {"name": name, "arguments": arguments})


def provider(asker, over):
    """Synchronous runs of a CLI that takes its time; a handle instead of the answer leads to it later."""
    if asker.era == LEGACY:
        asker.carry(asker.initialize)
    number = 0
    while not over.is_set():
        number += 1
        asker.carry(provider_run, asker, f"answer {asker.era} {number}", 1 + number % 3)


def provider_run(asker, wanted, seconds):
    # From a second on the answer of a call that reports is a stream.
    result = tool(asker, "claude_request", prompt=f"@@wait {seconds}@@@@say {wanted}@@")
    told = result.get("structuredContent", {})
    if told.get("status") != "deferred":
        if told.get("response") != wanted:
            raise Bad(f"claude_request: {json.dumps(result)[:500]}")
        asker.answered += 1
        return
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        record = tool(asker, "llm_request_result", correlationId=told["correlationId"])["structuredContent"]["request"]
        if record["status"] != "started":
            if record.get("response") != wanted:
                raise Bad(f"the deferred run: {json.dumps(record)[:500]}")
            asker.deferred += 1
            return
        time.sleep(0.1)
    raise Bad(f"the deferred run {told['correlationId']} does not end")


def load(kind, port, token):
    """A process of clients: works until its input ends, and prints what came of it."""
    work, keeps = (provider, (True,)) if kind == "provider" else (cheap, (True, False))
    askers = [Asker(int(port), token, era, kept) for era in (MODERN, LEGACY) for kept in keeps]
    over = threading.Event()
    threads = [threading.Thread(target=work, args=(asker, over)) for asker in askers]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    print(json.dumps([{name: getattr(asker, name) for name in (
        "era", "keeps", "good", "retried", "longest", "failures", "deferred", "answered")} for asker in askers]))


class Load:
    """The clients: processes of their own, so that they do not wait for each other."""

    def __init__(self, home):
        self.began = time.monotonic()
        token = home.read("auth-token").strip()
        self.processes = [home.world.start([PYTHON, os.path.abspath(__file__), "load", kind, str(home.port), token],
                                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                          for kind in ("mixed", "mixed", "provider")]
        home.world.background += self.processes

    def end(self):
        """Lets the clients finish. -> what each of them says"""
        self.took = time.monotonic() - self.began
        reports = []
        for process in self.processes:
            out, _ = process.communicate(timeout=2 * PATIENCE)
            reports += json.loads(out)
        return reports


# ---------------------------------------------------------------------------------------------------------------------
# the story


def healthy(home):
    """The version whose gateway answers: by the program that its process runs."""
    told = home.status()
    if not told.get("healthy"):
        return told
    return os.readlink(f"/proc/{told['pid']}/exe").removeprefix(home.file("versions") + "/").partition("/")[0]


def story(home, supervisor):
    world = home.world
    tools = world.directory("tools")
    os.symlink(os.path.join(os.environ.get("FIXTURES", FIXTURES), "fakes", "scenario"), os.path.join(tools, "claude"))
    home.environment["PATH"] += f":{tools}"
    home.json("setup", "--port", str(home.port))
    with open(home.file("environment"), "a") as file:
        file.write("PYTHONDONTWRITEBYTECODE=1\nSYNC_DEADLINE_MS=0\nSWIFT_BACKTRACE=enable=no\n")
    home.write("config.toml", f'[workspaces]\ndefault = "main"\n\n[[workspaces.repos]]\nalias = "main"\npath = "{world.work}"\nkind = "folder"\n')
    home.json("install-bundle", *home.bundle.flags)
    home.program = os.path.join(home.state, "current", "bin", "llm-cli-gateway")
    equal("the gateway runs", home.json("start").status["supervisor"], supervisor, vital=True)
    # One session from before everything until after it.
    client = home.client()
    client.initialize()
    steps = ["upgrade"] * UPGRADES
    for number in range(ROLLBACKS):
        steps.insert((number + 1) * (UPGRADES + 1) // (ROLLBACKS + 1) + number, "rollback")
    crowd = Load(home)
    quiet, current, good, bad = 0.0, home.bundle.version, 0, 0
    path = os.path.join(world.root, "next.tar.gz")
    for number, step in enumerate(steps, 1):
        time.sleep(0.5)
        if step == "upgrade":
            good += 1
            bundle = renamed(home.bundle, path, f"90.{number}.0", level=0)
            told = home.json("upgrade", *bundle.flags).json
            current = bundle.version
            equal(f"upgrade {good}: version {current} answers", (healthy(home), told["restarted"]), (current, True))
        else:
            name, gateway = BROKEN[bad]
            bad += 1
            bundle = renamed(home.bundle, path, f"91.{number}.0", gateway, level=0)
            began = time.monotonic()
            home.refused("upgrade", *bundle.flags, code=1, error="unhealthy-version", says=[bundle.version])
            quiet += time.monotonic() - began
            equal(f"rollback {bad} from a version {name}: version {current} answers", healthy(home), current)
    time.sleep(1)
    reports = crowd.end()
    judge(crowd, reports, quiet)
    equal("a session from before the first upgrade is served after the last", client.tool("session_list").get("isError", False), False)
    for words in (["stop"], ["uninstall", "--yes", "--purge"]):
        home.json(*words)


def judge(crowd, reports, quiet):
    """The numbers, and what must hold of them."""
    total = {name: sum(report[name] for report in reports) for name in ("good", "retried", "deferred", "answered")}
    failures = [failure for report in reports for failure in report["failures"]]
    # While a version that does not work is tried, nobody is there to answer.
    served = crowd.took - quiet
    rate = total["good"] / served
    print(f"    {total['good']} requests in {crowd.took:.1f} s, {rate:.0f}/s in the {served:.1f} s with a version that works", flush=True)
    for report in reports:
        print(f"    {report['era']} {'kept ' if report['keeps'] else 'fresh'}: {report['good']} requests, {len(report['failures'])} failed, "
              f"{report['retried']} asked again, longest wait {report['longest']:.2f} s", flush=True)
    print(f"    {total['answered']} provider runs answered, {total['deferred']} by their handle after an upgrade; "
          f"{total['retried']} kept connections ended instead of an answer", flush=True)
    for failure in failures[:20]:
        print(f"    {failure}", flush=True)
    equal(f"{UPGRADES} upgrades and {ROLLBACKS} forced rollbacks: failed requests", len(failures), 0)
    check("the load was hundreds of requests a second", rate >= LEAST, f">= {LEAST}/s", f"{rate:.0f}/s")
    check("calls that waited for a run got its handle, which led to the answer", total["deferred"] > 0, "> 0", total)


def inside(bundle, manager):
    """The part that runs as an ordinary user under the user manager."""
    from systemd_service import Inside, ServiceHome
    world = Inside()
    try:
        home = ServiceHome(world, manager)
        home.bundle = Bundle(bundle, os.environ["RELEASE_VERSION"])
        with section("under systemd"):
            story(home, "systemd")
    finally:
        world.close()
    print(f"# {Tally.passed} passed, {Tally.failed} failed inside", flush=True)
    sys.exit(1 if Tally.failed else 0)


def drive(world):
    bundle = release()
    if sys.argv[1:] != ["systemd"]:
        if os.path.isdir("/run/systemd/system"):
            raise Skip("this machine has systemd, which would be used")
        home = Home(world, "home")
        home.bundle = bundle
        return story(home, "detached")
    ended = under_systemd(world, "EndToEnd/upgrade_under_load.py", bundle, timeout=900,
                          environment={"LLM_GATEWAY_DEEP_TESTS": "1" if DEEP else ""})
    equal("everything held under systemd", ended.returncode, 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["load"]:
        load(*sys.argv[2:])
    elif sys.argv[1:2] == ["inside"]:
        inside(*sys.argv[2:])
    else:
        run(drive)
