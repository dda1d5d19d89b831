#!/usr/bin/python3
"""The installed gateway as a service: installed from a bundle, started, crashed, replaced, stopped and removed.

    service.py              without systemd: under our own supervising process
    service.py systemd      under a real user service manager, in namespaces of its own

The bundle is made here of the built programs, by nothing but Python's own modules.
"""
import concurrent.futures
import contextlib
import hashlib
import io
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request

from harness import FIXTURES, PYTHON, Skip, Tally, check, contains, equal, product, run, section, within

PROGRAMS = ("llm-cli-gateway", "llm-gateway")


def bundle(directory, version):
    """A release bundle of the built programs. -> (path, digest)"""
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    files = []
    for name in PROGRAMS:
        with open(product(name), "rb") as file:
            files.append((f"bin/{name}", file.read(), 0o755))
    libraries = os.path.join(os.path.dirname(os.path.dirname(product("llm-gateway"))), "lib")
    for name in os.listdir(libraries) if os.path.isdir(libraries) else ():
        with open(os.path.join(libraries, name), "rb") as file:
            files.append((f"lib/{name}", file.read(), 0o644))
    manifest = json.dumps({
        "schema_version": "bundle-manifest.v1", "name": "llm-cli-gateway", "version": version, "platform": f"linux-{arch}",
        "files": [{"path": path, "sha256": hashlib.sha256(data).hexdigest(), "mode": f"0{mode:o}", "size": len(data)}
                  for path, data, mode in files],
    }).encode()
    path = os.path.join(directory, "bundle.tar.gz")
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, data, mode in [("manifest.json", manifest, 0o644), *files]:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            archive.addfile(entry, io.BytesIO(data))
    with open(path, "rb") as file:
        return path, hashlib.sha256(file.read()).hexdigest()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Manager:
    """The installed command in one home."""

    def __init__(self, call, program):
        self.call, self.program = call, program

    def __call__(self, *words, code=0, title=None):
        """Runs a command with JSON output. -> what it printed"""
        ended = self.call([self.program, *words, "--json"])
        equal(title or f"'{' '.join(words)}' ends with {code}", ended.returncode, code)
        try:
            return json.loads(ended.stdout)
        except ValueError:
            check(f"'{' '.join(words)}' prints JSON", False, "JSON", ended.stdout + ended.stderr, vital=True)


def health(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
        return json.load(answer)


def supervised(manager, port, supervisor, home):
    """What must hold for an installed gateway, whoever supervises it."""
    with section("start"):
        started = manager("start")["status"]
        equal("it runs", (started["running"], started["healthy"], started["supervisor"]), (True, True, supervisor), vital=True)
        equal("its process is the one that answers", health(port)["pid"], started["pid"])
        again = manager("start")["status"]
        equal("a second start leaves it alone", again["pid"], started["pid"])
        equal("status says the same", manager("status")["status"]["pid"], started["pid"])
    with section("crash"):
        before = manager("status")["status"]["pid"]
        os.kill(before, signal.SIGSEGV)
        waited = within(15, lambda: (now := manager.quietly("status")["status"])["healthy"] and now["pid"] != before and now)
        check("it is started again after a crash", bool(waited), "another pid", manager.quietly("status"))
        equal("the restart is counted", waited and waited["restarts"], 1)
    with section("restart"):
        before = manager("status")["status"]["pid"]
        # Connections that come while it is replaced wait for the new one: not one is refused.
        asked = subprocess.Popen([PYTHON, "-c", REFUSALS, str(port)], stdout=subprocess.PIPE, text=True)
        equal("connections come", asked.stdout.readline().strip(), "asking")
        after = manager("restart")["status"]
        output, _ = asked.communicate(timeout=30)
        check("it is another process afterwards", after["pid"] != before and after["healthy"], "another pid", after)
        equal("no connection was refused meanwhile", output.strip(), "0 refused")
    with section("logs"):
        lines = manager("logs", "--lines", "50")["lines"]
        check("the gateway's words can be read", len(lines) > 0, "lines", lines)
    with section("stop"):
        stopped = manager("stop")["status"]
        equal("it has stopped", (stopped["running"], stopped["healthy"]), (False, False))
        with socket.socket() as probe:
            check("its port is free", probe.connect_ex(("127.0.0.1", port)) != 0, "refused", "connected")
        equal("stopping again is no error", manager("stop")["status"]["running"], False)
    at_once(manager, port, supervisor)
    with section("stop after an uninstall that was killed"):
        # As one leaves it that is killed once the gateway was stopped.
        path = os.path.join(home_of(manager), ".llm-cli-gateway/receipt.json")
        units = ["llm-cli-gateway.service", "llm-cli-gateway.socket"] if supervisor == "systemd" else []
        for stops in (False, True):
            with open(path) as file:
                receipt = json.load(file)
            receipt["operation"] = {"verb": "uninstall", "startedAt": "2026-01-01T00:00:00.000Z", "service": {
                "enabled": [], "active": units, "detached": not units, "lingers": False}}
            with open(path, "w") as file:
                json.dump(receipt, file)
            if stops:
                equal("nothing runs", manager("stop")["status"]["running"], False)
            repaired = manager("repair")
            contains("'repair' undoes it", " ".join(repaired["notices"]), "an interrupted uninstall had not come to version")
            equal("the gateway stays stopped" if stops else "which starts the gateway, unless it was stopped",
                  manager.quietly("status")["status"]["running"], not stops)
            manager.quietly("stop")
    with section("foreign process on the port"):
        foreign = subprocess.Popen([PYTHON, "-c", FOREIGN, str(port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                   text=True)
        try:
            foreign.stdout.readline()
            refusal = manager("start", code=1, title="start fails")["error"]
            equal("its code", refusal["code"], "port-in-use")
            contains("it names the process", refusal["message"], f"process {foreign.pid} (")
            equal("status names it as well", manager("status")["status"]["port_owner"]["pid"], foreign.pid)
        finally:
            foreign.kill()
            foreign.wait()
        equal("afterwards it starts", manager("start")["status"]["healthy"], True)


def at_once(manager, port, supervisor):
    """Commands of one home that start and stop it at the same time, from a stopped gateway to a stopped one."""
    def crowd(*verbs):
        """Runs commands at the same time. -> [(verb, exit code, what it printed)] in their order"""
        with concurrent.futures.ThreadPoolExecutor(len(verbs)) as pool:
            ended = pool.map(lambda verb: manager.call([manager.program, *verb.split(), "--json"]), verbs)
            return [(verb, each.returncode, json.loads(each.stdout)) for verb, each in zip(verbs, ended)]

    def only_one(title):
        now = manager.quietly("status")["status"]
        equal(f"{title}: it runs", (now["running"], now["healthy"]), (True, True))
        equal(f"{title}: its process is the one that answers", health(port)["pid"], now["pid"])
        if supervisor == "detached":
            equal(f"{title}: one process watches over it", len(supervisors(manager)), 1)
        return now["pid"]

    with section("20 starts at once"):
        ended = crowd(*["start"] * 20)
        equal("all end well", [code for _, code, _ in ended], [0] * 20) or print(ended, flush=True)
        pid = only_one("20 starts")
        equal("all speak of the same process", {each["status"]["pid"] for _, code, each in ended if code == 0}, {pid})
    with section("starts beside restarts"):
        ended = crowd(*["start", "restart"] * 3)
        equal("all end well", [code for _, code, _ in ended], [0] * 6) or print(ended, flush=True)
        only_one("restarts")
        equal("a stop is the last word", manager("stop")["status"]["running"], False)
    with section("starts beside stops"):
        for _ in range(4):
            ended = crowd("start", "stop", "start", "restart", "stop")
            equal("stops end well", [code for verb, code, _ in ended if verb == "stop"], [0, 0]) or print(ended, flush=True)
            # A start that a stop overtakes has started nothing that would go on.
            refused = [each["error"] for verb, code, each in ended if code]
            check("a start ends well, or says that it was stopped or nobody is there any more",
                  all(error["code"] in ("service-stopped", "start-failed", "unhealthy") for error in refused), "start-failed", refused)
        equal("a stop is the last word", manager("stop")["status"]["running"], False)
        with socket.socket() as probe:
            check("the port is free", probe.connect_ex(("127.0.0.1", port)) != 0, "refused", "connected")
    if supervisor == "systemd":
        with section("starts with and without systemd"):
            for _ in range(3):
                ended = crowd(*["start", "start --detached"] * 3)
                refused = [(verb, each["error"]["code"]) for verb, code, each in ended if code]
                check("whoever comes first decides; a start that insists on the other way says so",
                      all(each == ("start --detached", "already-supervised") for each in refused), "nothing else", refused)
                only_one("both ways")
                equal("a stop is the last word", manager("stop")["status"]["running"], False)
    if supervisor == "detached":
        killed_start(manager, port)


def killed_start(manager, port):
    """A start that is killed when its supervising process has the port and nobody can know of that process yet."""
    with section("a start that is killed"):
        log = os.path.join(home_of(manager), ".llm-cli-gateway/log/gateway.log")
        os.rename(log, f"{log}.kept")
        # The log is opened between the port and the record, and a pipe is only opened once somebody reads it.
        os.mkfifo(log)
        killed = manager.begin([manager.program, "start"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def listens():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0
        check("the port is opened", within(20, listens), "connected", "refused")
        killed.kill()
        killed.wait()
        waiting = manager.begin([manager.program, "start", "--json"], stdout=subprocess.PIPE, text=True)
        check("the next start waits", within(20, lambda: "file-lock" in threads(waiting.pid) or waiting.poll() is not None)
              and waiting.poll() is None, "it waits", "it has ended")
        reader = manager.begin(["/usr/bin/cat", log], stdout=subprocess.DEVNULL)
        answer = waiting.communicate(timeout=60)[0]
        equal("it ends well", waiting.returncode, 0) or print(answer, flush=True)
        equal("one process watches over the gateway", len(supervisors(manager)), 1)
        equal("it stops", manager("stop")["status"]["running"], False)
        equal("none is left", supervisors(manager), [])
        reader.wait(20)
        os.rename(f"{log}.kept", log)


def threads(pid):
    """The names of a process's threads."""
    names = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/comm", encoding="utf-8") as file:
                names.append(file.read().strip())
    return names


def home_of(manager):
    return os.path.dirname(os.path.dirname(os.path.dirname(manager.program)))


def supervisors(manager):
    """The supervising processes of this home."""
    home = home_of(manager)
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().decode().split("\0")
        except OSError:
            continue
        if words[1:2] == ["supervise"] and words[0].startswith(home + "/"):
            found.append(int(pid))
    return found


REFUSALS = """
import socket, sys, time
refused, asked, end = 0, False, time.monotonic() + 2
while time.monotonic() < end:
    try:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10) as connection:
            connection.sendall(b"GET /healthz HTTP/1.0\\r\\n\\r\\n")
            if connection.recv(100) and not asked:
                asked = True
                print("asking", flush=True)
    except ConnectionRefusedError:
        refused += 1
    except ConnectionResetError:
        pass
    time.sleep(0.01)
print(refused, "refused")
"""

FOREIGN = """
import http.server, sys
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)
print("ready", flush=True)
server.serve_forever()
"""


def tree(home):
    return sorted(os.path.relpath(os.path.join(parent, name), home)
                  for parent, folders, files in os.walk(home) for name in folders + files)


def story(call, home, archive, digest, supervisor, begin=subprocess.Popen):
    state = os.path.join(home, ".llm-cli-gateway")
    before = tree(home)
    bootstrap = Manager(call, product("llm-cli-gateway") if supervisor == "detached" else os.path.join(
        os.path.dirname(archive), "llm-cli-gateway"))
    port = free_port()
    bootstrap("setup", "--port", str(port))
    # A crash on purpose must not wait for the toolchain's interactive backtrace.
    with open(os.path.join(state, "environment"), "a") as file:
        file.write("SWIFT_BACKTRACE=enable=no\n")
    installed = bootstrap("install-bundle", "--url", f"file://{archive}", "--sha256", digest)
    equal("the bundle is installed", installed["changed"], True, vital=True)
    manager = Manager(call, os.path.join(home, ".local/bin/llm-cli-gateway"))
    manager.begin = begin
    manager.quietly = lambda *words: json.loads(call([manager.program, *words, "--json"]).stdout)
    check("the command is on the usual path", os.path.islink(manager.program), "a link", os.listdir(home))
    supervised(manager, port, supervisor, home)
    if supervisor == "systemd":
        systemd_only(manager, call, home)
    with section("uninstall"):
        listed = manager("uninstall")
        equal("a listing stops nothing", manager("status")["status"]["healthy"], True)
        check("it lists the version", any("/versions/" in path for path in listed["would_remove"]), "a path", listed)
        # The installed command removes itself with the rest.
        equal("it removes", manager("uninstall", "--yes", "--purge")["removed"], True)
        equal("nothing is left behind", [path for path in tree(home) if path not in before], [])
        equal("and nothing else was taken", [path for path in before if path not in tree(home)], [])
    check("its folder is gone", not os.path.exists(state), "gone", state)


def systemd_only(manager, call, home):
    units = os.path.join(home, ".config/systemd/user")
    with section("units"):
        verified = call(["systemd-analyze", "--user", "verify", *(os.path.join(units, f"llm-cli-gateway.{kind}")
                                                                 for kind in ("service", "socket", "slice"))])
        equal("systemd-analyze has nothing to say", (verified.returncode, verified.stderr), (0, ""))
        journal = call(["journalctl", "--user", "-u", "llm-cli-gateway.service", "--no-pager"])
        contains("the journal knows the service", journal.stdout, "Started llm-cli-gateway.service")
    with section("enable"):
        enabled = manager("setup", "--enable")
        equal("it starts with the session", enabled["status"]["enabled"], True)
    with section("the user's own settings"):
        service = os.path.join(units, "llm-cli-gateway.service")
        os.makedirs(service + ".d")
        with open(os.path.join(service + ".d", "mine.conf"), "w") as file:
            file.write("[Service]\nNice=5\n")
        notices = manager("restart")["status"]["notices"]
        contains("a drop-in applies and is reported", "\n".join(notices), "mine.conf")
        nice = call(["systemctl", "--user", "show", "-P", "Nice", "llm-cli-gateway.service"])
        equal("systemd has it", nice.stdout.strip(), "5")
        shutil.rmtree(service + ".d")
        with open(service) as file:
            ours = file.read()
        with open(service, "a") as file:
            file.write("# mine\n")
        notices = manager("restart")["status"]["notices"]
        contains("an edited unit is reported", "\n".join(notices), "left as it is")
        with open(service) as file:
            check("and left alone", file.read() == ours + "# mine\n", "the edited text", None)
        with open(service, "w") as file:
            file.write(ours)
    with section("a shell without XDG_RUNTIME_DIR, as after su"):
        ended = call(["env", "-u", "XDG_RUNTIME_DIR", "-u", "DBUS_SESSION_BUS_ADDRESS", manager.program, "status", "--json"])
        equal("it finds the manager all the same", json.loads(ended.stdout)["status"]["supervisor"], "systemd")


def inside(archive, digest):
    """The part that runs as an ordinary user under the user manager."""
    home = os.environ["HOME"]

    def call(words):
        return subprocess.run(words, capture_output=True, text=True, timeout=180, cwd=home)

    story(call, home, archive, digest, "systemd")
    print(f"# {Tally.passed} passed, {Tally.failed} failed inside", flush=True)
    sys.exit(1 if Tally.failed else 0)


def drive(world):
    # A shell's token and home would hide the ones that `setup` makes.
    for name in ("LLM_GATEWAY_HOME", "LLM_GATEWAY_AUTH_TOKEN"):
        world.environment.pop(name)
    archive, digest = bundle(world.root, "0.1.0")
    if sys.argv[1:] != ["systemd"]:
        world.environment["PATH"] = f"{world.bin}:/usr/bin:/bin"
        if os.path.isdir("/run/systemd/system"):
            raise Skip("this machine has systemd, which would be used")
        return story(lambda words: world.call(words), world.home, archive, digest, "detached", world.start)
    # Another user reads these there.
    shutil.copy(product("llm-cli-gateway"), world.root)
    os.chmod(world.root, 0o755)
    ended = world.call([os.path.join(FIXTURES, "systemd-user.sh"), "-e", "PYTHONDONTWRITEBYTECODE=1", "--", PYTHON,
                        os.path.abspath(__file__), "inside", archive, digest], timeout=300)
    if ended.returncode == 77:
        raise Skip(ended.stdout.strip() or "no user manager can be had")
    print(ended.stdout + ended.stderr, end="")
    equal("everything held under systemd", ended.returncode, 0)


if __name__ == "__main__":
    inside(*sys.argv[2:]) if sys.argv[1:2] == ["inside"] else run(drive)
