"""What the end-to-end drivers share: a world of their own, the built gateway in it, checks, and the search for leftovers.

A driver is a plain script: status 0 when everything held, 77 with a reason when it can't run here, else a failure. It
prints one line per check: `ok - …`, `not ok - …` with what was expected, or `skip - …: reason`. Its shape is

    def drive(world):
        gateway = world.stdio_gateway()
        equal("it answers ping", gateway.request("ping"), {})

    run(drive)

`run` makes the world (a temporary home, nothing of the caller's environment), and takes it down in reverse order, however
the driver ends; processes that are left over then are a failure, named and killed.

The built programs are in $LLM_GATEWAY_E2E_BIN, else in .build/releases/tree/bin, .build/release or .build/debug; the tools that
setup/test-tools installed are in $LLM_GATEWAY_TEST_TOOLS, else in its default place.
"""
import contextlib
import ctypes
import http.client
import io
import json
import os
import queue
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FIXTURES = os.path.join(ROOT, "Tests", "Fixtures")
FAKES = os.path.join(FIXTURES, "fakes")
PYTHON = "/usr/bin/python3"
DEEP = bool(os.environ.get("LLM_GATEWAY_DEEP_TESTS"))

LEGACY = "2025-11-25"
MODERN = "2026-07-28"

PR_SET_CHILD_SUBREAPER = 36

# --------------------------------------------------------------------------------------------------------------------
# checks


class Skip(Exception):
    """This can't run here; the text says why."""


class Stop(Exception):
    """A check failed on which all that follows depends."""


class Tally:
    passed = failed = skipped = 0


def shown(value, limit=1500):
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def check(title, holds, expected=None, got=None, vital=False):
    """One line for one claim; what was expected and what came when it does not hold. -> whether it holds."""
    if holds:
        Tally.passed += 1
        print(f"ok - {title}", flush=True)
        return True
    Tally.failed += 1
    print(f"not ok - {title}", flush=True)
    if expected is not None:
        print(f"    expected: {shown(expected)}", flush=True)
    print(f"    got:      {shown(got)}", flush=True)
    if vital:
        raise Stop(title)
    return False


def equal(title, got, expected, vital=False):
    return check(title, got == expected, expected, got, vital)


def contains(title, got, part, vital=False):
    return check(title, part in (got or ""), f"something with {part!r} in it", got, vital)


def matches(title, got, pattern, vital=False):
    return check(title, bool(re.search(pattern, got or "", re.S)), f"something that matches /{pattern}/", got, vital)


def skip(title, reason):
    Tally.skipped += 1
    print(f"skip - {title}: {reason}", flush=True)


@contextlib.contextmanager
def section(title):
    """What goes wrong inside is a failure of this section only; the next one still runs."""
    try:
        yield
    except Stop:
        print(f"    (the rest of '{title}' depends on that)", flush=True)
    except Skip as reason:
        skip(title, reason)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this section's failure
        check(f"{title} runs to its end", False, got="".join(traceback.format_exception_only(type(error), error)).strip())
        traceback.print_exc(file=sys.stdout)


def together(title, work):
    """Runs {name: function} at the same time. -> {name: result}; an exception is raised after all have ended."""
    results, errors = {}, []

    def carry(name, function):
        try:
            results[name] = function()
        except Exception as error:  # noqa: BLE001
            errors.append((name, error))

    threads = [threading.Thread(target=carry, args=item) for item in work.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, error in errors:
        check(f"{title}, {name}: runs to its end", False, got=repr(error))
    return results


def end_with(parent):
    """When the test process dies, so does the driver, in order: whoever would have read its output is gone by then."""
    select.select([parent], [], [])
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.kill(os.getpid(), signal.SIGTERM)


def run(drive):
    """The body of a driver's script."""
    libc = ctypes.CDLL(None, use_errno=True)
    # Orphans of whatever we start become our children, so that none is out of sight.
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def leave(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
    threading.Thread(target=end_with, args=(os.pidfd_open(os.getppid()),), daemon=True).start()
    status = 0
    world = World()
    try:
        drive(world)
    except Skip as reason:
        print(f"skip - {os.path.basename(sys.argv[0])}: {reason}", flush=True)
        status = 77
    except Stop:
        status = 1
    except KeyboardInterrupt:
        print("not ok - ended from outside", flush=True)
        status = 1
    except Exception as error:  # noqa: BLE001
        print(f"not ok - the driver runs to its end: {error!r}", flush=True)
        traceback.print_exc(file=sys.stdout)
        status = 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        world.close()
    print(f"# {Tally.passed} passed, {Tally.failed} failed, {Tally.skipped} skipped", flush=True)
    if status == 0 and Tally.failed == 0 and Tally.passed == 0:
        print("not ok - nothing was checked", flush=True)
        status = 1
    sys.exit(status or (1 if Tally.failed else 0))


# --------------------------------------------------------------------------------------------------------------------
# programs


def product(name):
    """The path of a built product."""
    named = os.environ.get("LLM_GATEWAY_E2E_BIN")
    places = [named] if named else [os.path.join(ROOT, ".build", kind) for kind in ("releases/tree/bin", "release", "debug")]
    for place in places:
        path = os.path.join(place, name)
        if os.access(path, os.X_OK):
            return path
    raise RuntimeError(f"'{name}' is not in {' or '.join(places)}; setup/test builds it")


TOOLS = {
    "claude": "claude/claude", "codex": "codex/codex_cli_bin/bin/codex", "vibe": "vibe/bin/vibe",
    "mcp-1": "mcp-1/bin/python", "mcp-2": "mcp-2/bin/python", "schema": "schema/bin/python",
    "sigstore": "sigstore/bin/python",
    "debian": "debian/base", "machine": "machine/root", "c-libraries": "c-libraries/2.35",
    "arm64": "arm64/12", "swift-for-arm64": "swift-for-arm64/root",
}


def tool(name):
    """The path of a program that setup/test-tools installs; Skip with its reason where it could not."""
    cache = os.environ.get("LLM_GATEWAY_TEST_TOOLS") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "llm-cli-gateway-tests")
    with contextlib.suppress(OSError), open(os.path.join(cache, f"{name}.skip")) as file:
        raise Skip(f"{name} {file.read().strip()}")
    path = os.path.join(cache, TOOLS[name])
    if not os.access(path, os.X_OK):
        raise Skip(f"{name} is not installed in '{cache}'; run setup/test-tools")
    return path


# --------------------------------------------------------------------------------------------------------------------
# processes


def processes():
    """{pid: (parent, start time)} of everything alive and not a zombie."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
                if fields[0] != b"Z":
                    found[int(entry)] = (int(fields[1]), int(fields[19]))
    return found


def command_of(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()[:300]
    return "?"


def descendants(pid, table=None):
    table = table or processes()
    found, frontier = set(), {pid}
    while frontier:
        frontier = {child for child, (parent, _) in table.items() if parent in frontier} - found
        found |= frontier
    return found


def within(seconds, condition):
    """Whether the condition becomes true in time. -> its last value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() >= end:
            return value
        time.sleep(0.05)


def reap():
    """Collects orphans that became our children and ended; nobody waits for their status."""
    awaited = {process.pid for process in World.started}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) not in awaited:
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
                if fields[0] == b"Z" and int(fields[1]) == os.getpid():
                    os.waitid(os.P_PID, int(entry), os.WEXITED | os.WNOHANG)


# --------------------------------------------------------------------------------------------------------------------
# the world


class World:
    """A temporary home with a workspace, its environment, and everything that was started in it."""

    started = []

    def __init__(self, place="/var/tmp"):
        # Not below /tmp: codex warns of a CODEX_HOME there on each run.
        self.root = tempfile.mkdtemp(prefix="llm-gateway-test-", dir=place)
        self.home = self.directory("home")
        self.state = os.path.join(self.home, ".llm-cli-gateway")
        self.work = self.directory("work")
        self.bin = self.directory("home/.local/bin")
        self.token = secrets.token_hex(32)
        self.undo = []
        self.background = []
        self.environment = {
            "HOME": self.home, "LLM_GATEWAY_HOME": self.state, "PATH": f"{self.bin}:/usr/bin:/bin", "LANG": "C.UTF-8",
            "USER": "tester", "TMPDIR": self.directory("tmp"), "LLM_GATEWAY_TEST_ID": self.root,
            "LLM_GATEWAY_AUTH_TOKEN": self.token, "SWIFT_BACKTRACE": "enable=no",
            # A synchronous call waits for its answer however long that takes; drivers about deferral set their own.
            "SYNC_DEADLINE_MS": "0",
            # A request that is sent again is run again; the driver about sharing sets its own.
            "LLM_GATEWAY_DEDUP_WINDOW_MS": "0",
        }

    def directory(self, *parts):
        path = os.path.join(self.root, *parts)
        os.makedirs(path, mode=0o700, exist_ok=True)
        return path

    def write(self, path, text, mode=0o600):
        """A file below the world's root, or at an absolute path in it."""
        path = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def link(self, name, target):
        """Puts a program on the world's search path."""
        path = os.path.join(self.bin, name)
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.symlink(target, path)
        return path

    def start(self, arguments, environment=None, **options):
        """A process of this world; killed at the end if it still runs."""
        process = subprocess.Popen(arguments, env={**self.environment, **(environment or {})}, cwd=options.pop("cwd", self.work),
                                   start_new_session=True, **options)
        World.started.append(process)
        self.undo.append(lambda: self.end(process))
        return process

    @staticmethod
    def end(process, patience=10):
        """SIGTERM, then SIGKILL."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()

    def call(self, arguments, environment=None, text=None, timeout=120, cwd=None):
        """Runs a program to its end. -> CompletedProcess with texts."""
        process = self.start(arguments, environment, stdin=subprocess.PIPE if text is not None else subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd or self.work, text=True)
        try:
            out, err = process.communicate(text, timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise TimeoutError(f"{arguments[0]} did not end within {timeout} s; its output: {shown(out)} {shown(err)}") from None
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def leftovers(self, expected=()):
        """{pid: command} of what is alive in this world beside the expected Popens: descendants, orphans, bearers of its mark."""
        reap()
        table = processes()
        own = {os.getpid()} | {process.pid for process in (*expected, *self.background)}
        found = descendants(os.getpid(), table) - own
        mark = self.root.encode()
        for pid in table:
            if pid not in own and pid not in found:
                with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
                    if mark in file.read():
                        found.add(pid)
        return {pid: command_of(pid) for pid in found}

    def nothing_left(self, title, expected=(), seconds=5):
        """Checks that nothing runs but the expected processes, within the time that ending takes."""
        within(seconds, lambda: not self.leftovers(expected))
        return equal(title, self.leftovers(expected), {})

    def close(self):
        """Takes down what was started, last first; what still runs then is a failure, and killed."""
        while self.undo:
            self.undo.pop()()
        self.background = []
        within(5, lambda: not self.leftovers())
        left = self.leftovers()
        if left:
            check("nothing is left running at the end", False, {}, left)
            for pid in left:
                with contextlib.suppress(OSError):
                    handle = os.pidfd_open(pid)
                    # Looked up again once the handle holds: the number alone could be somebody else's by now.
                    if pid in self.leftovers():
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                    os.close(handle)
            within(5, lambda: not self.leftovers())
        shutil.rmtree(self.root, ignore_errors=True)

    # ---- what runs in it

    def fake_api(self, *options):
        return FakeAPI(self, options)

    def configure(self, text="", workspace=True):
        """Writes the gateway's configuration: one workspace, the default, and what the driver adds."""
        tables = text
        if workspace:
            tables += (f'\n[workspaces]\ndefault = "main"\n\n[[workspaces.repos]]\nalias = "main"\npath = "{self.work}"\n'
                       'kind = "folder"\n')
        return self.write(os.path.join(self.state, "config.toml"), tables)

    def stdio_gateway(self, environment=None, arguments=("--transport=stdio",), era=LEGACY, handshake=True, program=None):
        return StdioGateway(self, environment, arguments, era, handshake, program)

    def http_gateway(self, environment=None, arguments=("--transport=http",)):
        return HTTPGateway(self, environment, arguments)

    # ---- provider CLIs

    def fake_clis(self, *names):
        """Puts fakes on the search path; their starts are recorded."""
        for name in names:
            self.link(name, os.path.join(FAKES, name if name in ("agy", "grok") else "scenario"))
        self.environment["FAKE_CLI_LOG"] = self.directory("starts")

    def starts(self, name=None):
        """How fakes were started so far, oldest first."""
        directory, found = self.environment["FAKE_CLI_LOG"], []
        for entry in sorted(os.listdir(directory)):
            if entry.endswith(".json"):
                with open(os.path.join(directory, entry)) as file:
                    found.append(json.load(file))
        return [start for start in found if name in (None, start["name"])]

    def real_clis(self, wanted, api):
        """Puts the real CLIs among some that can be had on the search path. -> those of `wanted`; Skip when there is none"""
        there = {}
        for name in wanted:
            try:
                getattr(self, f"real_{name}")(api)
                there[name] = wanted[name]
            except Skip as reason:
                skip(f"{name} as a provider", reason)
        if not there:
            raise Skip("none of the provider CLIs could be installed")
        return there

    def real_claude(self, api):
        self.link("claude", tool("claude"))
        self.environment.update({
            "ANTHROPIC_BASE_URL": api.url, "ANTHROPIC_API_KEY": "fake-key", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_TELEMETRY": "1", "DISABLE_AUTOUPDATER": "1", "DISABLE_ERROR_REPORTING": "1",
            "CLAUDE_CODE_MAX_RETRIES": "0", "CLAUDE_CODE_TMPDIR": self.environment["TMPDIR"],
        })

    def real_codex(self, api):
        self.link("codex", tool("codex"))
        self.environment.update({"CODEX_HOME": self.directory("home/.codex"), "FAKE_KEY": "fake-key"})
        self.write("home/.codex/config.toml", f"""
model = "fake-model"
model_provider = "fake"
check_for_update_on_startup = false
[analytics]
enabled = false
[feedback]
enabled = false
[features]
plugins = false
[model_providers.fake]
name = "Fake loopback"
base_url = "{api.url}/v1"
env_key = "FAKE_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
stream_idle_timeout_ms = 120000
""")

    def real_vibe(self, api):
        self.link("vibe", tool("vibe"))
        self.environment["MISTRAL_API_KEY"] = "fake-key"
        self.write("home/.vibe/config.toml", f"""
active_model = "fake"
enable_telemetry = false
enable_update_checks = false
enable_auto_update = false
enable_connectors = false
console_base_url = "{api.url}"
vibe_base_url = "{api.url}"
api_retry_max_elapsed_time = 2.0
[experiments]
enable = false
[session_logging]
generate_titles = false
[[providers]]
name = "mistral"
api_base = "{api.url}/v1"
api_key_env_var = "MISTRAL_API_KEY"
api_style = "openai"
backend = "mistral"
[[models]]
name = "fake-model"
provider = "mistral"
alias = "fake"
input_price = 1.0
output_price = 2.0
auto_compact_threshold = 10000000
[[models]]
name = "no-such-model"
provider = "mistral"
alias = "no-such-model"
input_price = 1.0
output_price = 2.0
""")


class FakeAPI:
    """The fake model provider of Tests/Fixtures, on a free port."""

    def __init__(self, world, options):
        self.process = world.start([PYTHON, os.path.join(FIXTURES, "fake_provider_api.py"), "--until-eof", *options],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        world.background.append(self.process)
        line = self.process.stdout.readline()
        if "listening on" not in line:
            raise RuntimeError(f"the fake provider API did not start: {line!r}")
        self.url = line.split()[-1]
        self.port = int(self.url.rpartition(":")[2])

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def requests(self, wire=None):
        """The requests to a model so far, each with `body`, `users` (turns carried), `status`."""
        return [entry for entry in self.ask("GET", "/__requests") if entry.get("wire") and wire in (None, entry["wire"])]

    def answering(self):
        """The wires of the requests to a model that are being answered now."""
        return self.ask("GET", "/__health")["answering"]

    def control(self, **settings):
        return self.ask("POST", "/__control", settings)

    def reset(self):
        self.ask("POST", "/__reset")


# --------------------------------------------------------------------------------------------------------------------
# the gateway and its clients


class Unanswered(Exception):
    """No answer came in time."""


def envelope(params, era):
    """The parameters of a request, with the metadata that a stateless request carries."""
    params = dict(params or {})
    if era == MODERN:
        params["_meta"] = {**params.get("_meta", {}), "io.modelcontextprotocol/protocolVersion": MODERN,
                           "io.modelcontextprotocol/clientCapabilities": {},
                           "io.modelcontextprotocol/clientInfo": {"name": "drivers", "version": "1"}}
    return params


class ToolCalls:
    """What both transports share. `request` raises RuntimeError on a JSON-RPC error."""

    def request(self, method, params=None, timeout=120, era=None):
        answer = self.exchange(method, params, timeout, era)
        if "error" in answer:
            raise RuntimeError(f"{method}: {json.dumps(answer['error'])}")
        return answer["result"]

    def tool(self, name, timeout=120, era=None, **arguments):
        """Calls a tool. -> its result."""
        return self.request("tools/call", {"name": name, "arguments": arguments}, timeout, era)


def text_of(result):
    """The first text of a tool's result."""
    return next((part["text"] for part in result.get("content", []) if part.get("type") == "text"), "")


def body_of(result):
    """The JSON in the first text of a tool's result."""
    return json.loads(text_of(result))


class StdioGateway(ToolCalls):
    """The gateway on pipes. Every line that it prints is kept in `lines`, and what is no JSON-RPC message in `noise`."""

    def __init__(self, world, environment, arguments, era, handshake, program=None):
        self.world, self.era = world, era
        self.lines, self.noise, self.notifications, self.log = [], [], [], []
        # Answers without an id that we know: errors about what could not be read.
        self.unasked = queue.Queue()
        self.waiting, self.lock, self.sending, self.next = {}, threading.Lock(), threading.Lock(), 0
        self.isOver = False
        self.process = world.start([program or product("llm-gateway"), *arguments], environment, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        self.readers = [threading.Thread(target=self.read, daemon=True), threading.Thread(target=self.read_log, daemon=True)]
        for reader in self.readers:
            reader.start()
        if handshake and era != MODERN:
            self.initialized = self.request("initialize", {
                "protocolVersion": era, "capabilities": {}, "clientInfo": {"name": "drivers", "version": "1"}}, timeout=30)
            self.notify("notifications/initialized")

    def read(self):
        # A pipe without a buffer is read byte by byte.
        for raw in io.BufferedReader(self.process.stdout):
            self.lines.append(raw)
            try:
                message = json.loads(raw)
                if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
                    raise ValueError("not JSON-RPC 2.0")
            except ValueError:
                self.noise.append(raw)
                continue
            if "method" in message:
                self.notifications.append(message)
            else:
                with self.lock:
                    waiting = self.waiting.get(message.get("id"))
                (waiting or self.unasked).put(message)
        with self.lock:
            self.isOver = True
            for waiting in self.waiting.values():
                waiting.put(None)

    def read_log(self):
        for raw in self.process.stderr:
            self.log.append(raw.decode("utf-8", "replace"))

    def send(self, raw):
        rest = memoryview(raw if isinstance(raw, bytes) else raw.encode())
        with self.sending:
            while rest:
                rest = rest[self.process.stdin.write(rest):]

    def notify(self, method, params=None):
        self.send(json.dumps({"jsonrpc": "2.0", "method": method, **({"params": params} if params else {})}) + "\n")

    def begin(self, method, params=None, era=None):
        """Sends a request. -> its id."""
        era = era or self.era
        with self.lock:
            self.next += 1
            identifier = self.next
            self.waiting[identifier] = queue.Queue()
            if self.isOver:
                self.waiting[identifier].put(None)
        params = envelope(params, era)
        self.send(json.dumps({"jsonrpc": "2.0", "id": identifier, "method": method, **({"params": params} if params else {})}) + "\n")
        return identifier

    def finish(self, identifier, timeout=120):
        """-> the answer to a request that was begun."""
        try:
            answer = self.waiting[identifier].get(timeout=timeout)
        except queue.Empty:
            raise Unanswered(f"no answer within {timeout} s; the log ends with: {''.join(self.log[-5:])}") from None
        finally:
            with self.lock:
                self.waiting.pop(identifier, None)
        if answer is None:
            raise Unanswered(f"the gateway closed its output (status {self.process.poll()}); its log ends with: "
                             f"{''.join(self.log[-5:])}")
        return answer

    def exchange(self, method, params=None, timeout=120, era=None):
        return self.finish(self.begin(method, params, era), timeout)

    def hang_up(self, timeout=15):
        """Closes its standard input. -> the exit status."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait(timeout)
        for reader in self.readers:
            reader.join(5)
        return self.process.returncode


class HTTPGateway(ToolCalls):
    """The gateway on a free loopback port."""

    def __init__(self, world, environment, arguments):
        self.world, self.log, self.session, self.next = world, [], None, 0
        self.process = world.start([product("llm-gateway"), *arguments],
                                   {"LLM_GATEWAY_HTTP_PORT": "0", "LLM_GATEWAY_HTTP_HOST": "127.0.0.1", **(environment or {})},
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.port, ready = None, threading.Event()

        def read():
            for line in self.process.stderr:
                self.log.append(line)
                found = re.search(r"127\.0\.0\.1:(\d+)", line)
                if found and int(found.group(1)) and not ready.is_set():
                    self.port = int(found.group(1))
                    ready.set()
            ready.set()

        threading.Thread(target=read, daemon=True).start()
        ready.wait(30)
        if not self.port:
            check("the gateway says on which port it listens", False, "127.0.0.1:<port> in its log", "".join(self.log), vital=True)
        self.url = f"http://127.0.0.1:{self.port}/mcp"

    def raw(self, method, path="/mcp", headers=None, body=None, timeout=120, token=True, host=None):
        """-> (status, headers, body as bytes)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            wanted = {"Host": host or f"127.0.0.1:{self.port}", "Accept": "application/json, text/event-stream"}
            if token:
                wanted["Authorization"] = f"Bearer {self.world.token}"
            if body is not None:
                wanted.update({"Content-Type": "application/json", "Content-Length": str(len(body))})
            for name, value in {**wanted, **(headers or {})}.items():
                connection.putheader(name, value)
            connection.endheaders()
            if body is not None:
                # A server that refuses a body may answer and close before all of it was sent.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.send(body if isinstance(body, bytes) else body.encode())
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def post(self, message, headers=None, timeout=120, **options):
        return self.raw("POST", "/mcp", headers, json.dumps(message).encode(), timeout, **options)

    def initialize(self, era=LEGACY):
        answer = self.exchange("initialize", {"protocolVersion": era, "capabilities": {},
                                              "clientInfo": {"name": "drivers", "version": "1"}}, era=era)
        self.exchange("notifications/initialized", era=era, notification=True)
        return answer["result"]

    def exchange(self, method, params=None, timeout=120, era=None, notification=False):
        era = era or (LEGACY if self.session else MODERN)
        headers = {"MCP-Protocol-Version": era}
        message = {"jsonrpc": "2.0", "method": method}
        if not notification:
            self.next += 1
            message["id"] = self.next
        params = envelope(params, era)
        if params:
            message["params"] = params
        if era == MODERN:
            headers["Mcp-Method"] = method
            name = params.get("name") or params.get("uri")
            if name:
                headers["Mcp-Name"] = name
        elif self.session:
            headers["Mcp-Session-Id"] = self.session
        status, answered, body = self.post(message, headers, timeout)
        self.status = status
        if answered.get("mcp-session-id"):
            self.session = answered["mcp-session-id"]
        if notification:
            return None
        if answered.get("content-type", "").startswith("text/event-stream"):
            messages = events(body)
            return next(found for found in messages if found.get("id") == message["id"])
        try:
            return json.loads(body)
        except ValueError:
            raise RuntimeError(f"{method}: status {status} with a body that is not JSON: {body[:300]!r}") from None


def events(body):
    """The JSON messages in the data of a server-sent event stream."""
    found = []
    for block in re.split(r"\r?\n\r?\n", body.decode("utf-8", "replace")):
        data = "\n".join(line[5:].lstrip() for line in block.splitlines() if line.startswith("data:"))
        if data.strip():
            found.append(json.loads(data))
    return found
