"""The gateways, the database server, the clients, and the ledger of the fakes."""
import collections
import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.request

from harness import Skip, Unanswered, body_of, check, product, text_of, within
from installed import Client, alive, free_port

# Kinds that are run again when they are asked for again: whoever has lost such an answer looks for its job first.
UNSHARED = {"fails", "crash", "hang", "flood", "empty", "passing", "brief"}
OUTPUT_LIMIT = 1 << 20
PATIENCE = 150


def configuration(world):
    return (f'[limits]\nmax_job_output_bytes = {OUTPUT_LIMIT}\n[workspaces]\ndefault = "main"\n[[workspaces.repos]]\nalias = "main"\n'
            f'path = "{world.work}"\nkind = "folder"\n')


class Lost(Exception):
    """The gateway went away before its answer came."""


class Slot:
    """A place that a gateway has, whichever process it is."""

    transport = "HTTP"

    def __init__(self, chaos, host=None):
        self.chaos, self.world, self.host, self.isUp = chaos, chaos.world, host, False
        self.lock = threading.RLock()
        self.prefix = host.prefix if host else []
        self.environment = {**chaos.environment, **({"LLM_GATEWAY_HOME": host.state} if host else {})}
        # Where this gateway's jobs are.
        self.jobs = os.path.join(host.state if host else chaos.home.state, "jobs")

    def client(self):
        return Client(self.chaos.token, self.port)

    def pid(self):
        with contextlib.suppress(OSError, ValueError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5) as answer:
            return json.load(answer)["pid"]
        return None

    def kill(self):
        pid = within(20, self.pid)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Service(Slot):
    """The installed service under our own supervising process."""

    def __init__(self, chaos):
        super().__init__(chaos)
        self.home, self.port, self.kills = chaos.home, chaos.home.port, 0

    def kill(self):
        super().kill()
        self.kills += 1
        # It is started again after a pause that doubles each time, unless somebody starts it.
        if self.kills % 2 == 0:
            self.restart()

    def manage(self, *words):
        ended = self.home.run(*words, "--json")
        if ended.code != 0:
            self.chaos.wrong(f"'{' '.join(words)}' ends with {ended!r}")

    def start(self):
        self.manage("start", *([] if self.chaos.plan.mode == "systemd" else ["--detached"]))
        if not within(20, self.pid):
            check("the service starts", False, "an answer", self.home.run("status"), vital=True)
        self.isUp = True

    def stop(self):
        self.isUp = False
        self.manage("stop")

    def restart(self):
        self.manage("restart")


class Standing(Slot):
    """A gateway over HTTP that nobody supervises but this driver."""

    def __init__(self, chaos, host=None):
        super().__init__(chaos, host)
        self.port, self.process = free_port(), None

    def client(self):
        if self.host:
            self.host.enter()
        return super().client()

    def start(self):
        with self.lock:
            self.process = self.world.start(
                [*self.prefix, product("llm-gateway"), "--transport=http"],
                {**self.environment, "LLM_GATEWAY_HTTP_PORT": str(self.port), "LLM_GATEWAY_HTTP_HOST": "127.0.0.1",
                 "LLM_GATEWAY_AUTH_TOKEN": self.chaos.token},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.chaos.log)
            self.isUp = True

    def stop(self):
        self.isUp = False
        self.world.end(self.process)

    def kill(self):
        with self.lock:
            self.process.kill()
            self.process.wait()
            self.start()

    def restart(self):
        with self.lock:
            self.world.end(self.process)
            self.start()


class Pipe(Slot):
    """A gateway on pipes, which its clients share."""

    transport = "pipes"

    def __init__(self, chaos, host=None):
        super().__init__(chaos, host)
        self.gateway = None

    def start(self):
        with self.lock:
            program = [*self.prefix, product("llm-gateway")]
            self.gateway = self.world.stdio_gateway(self.environment, (*program[1:], "--transport=stdio"), program=program[0])
            self.isUp = True

    def client(self):
        return self.gateway

    def pid(self):
        return self.gateway.process.pid

    def stop(self):
        self.isUp = False
        self.gateway.hang_up()

    def kill(self):
        with self.lock:
            self.gateway.process.kill()
            self.gateway.process.wait()
            self.start()

    def restart(self):
        with self.lock:
            self.gateway.hang_up()
            self.start()


class Server:
    """A PostgreSQL server in the driver's own network, at 10.77.0.1."""

    FOLDERS = [f"/usr/lib/postgresql/{number}/bin" for number in range(20, 11, -1)]

    def __init__(self, world):
        self.programs = next((folder for folder in self.FOLDERS if os.access(f"{folder}/initdb", os.X_OK)), None)
        if self.programs is None:
            raise Skip("no PostgreSQL server is installed (Debian and Ubuntu: apt install postgresql)")
        self.world, self.folder = world, world.directory("postgres")
        shutil.chown(self.folder, "nobody", "nogroup")
        for words in ("link set lo up", "link add bridge type bridge", "addr add 10.77.0.1/24 dev bridge", "link set bridge up"):
            network(world, words)
        self.run("initdb", "-D", f"{self.folder}/data", "-U", "gateway", "-A", "trust", "-E", "UTF8", "--no-sync")
        with open(f"{self.folder}/data/pg_hba.conf", "a") as file:
            file.write("host all all 10.77.0.0/24 trust\n")
        self.start()
        world.undo.append(self.stop)

    def run(self, program, *words):
        ended = self.world.call(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", f"{self.programs}/{program}", *words],
                                cwd=self.folder)
        if ended.returncode != 0:
            raise RuntimeError(f"{program}: {ended.stdout}{ended.stderr}")
        return ended.stdout

    def start(self):
        options = (f"-c listen_addresses=10.77.0.1 -c unix_socket_directories={self.folder} -c fsync=off -c shared_buffers=64MB "
                   "-c max_connections=100")
        # Its log must not hold our pipe.
        self.run("pg_ctl", "-D", f"{self.folder}/data", "-w", "-l", f"{self.folder}/log", "-o", options, "start")

    def stop(self):
        """As by a crash of it."""
        if os.path.exists(f"{self.folder}/data/postmaster.pid"):
            self.run("pg_ctl", "-D", f"{self.folder}/data", "-w", "-m", "immediate", "stop")

    def restart(self):
        self.stop()
        self.start()

    def rows(self, query):
        return [tuple(line.split("|")) for line in self.run("psql", "-h", self.folder, "-U", "gateway", "-d", "postgres", "-Atqc",
                                                                 f"SET search_path = llm_gateway; {query}").splitlines()]


def network(world, words, prefix=()):
    ended = world.call([*prefix, "ip", *words.split()])
    if ended.returncode != 0:
        raise Skip(f"no network can be made here ({ended.stderr.strip()})")


class Host:
    """A host name, a network and a home of its own."""

    def __init__(self, world, folder, server, number):
        self.state = os.path.join(folder, f"home-{number}")
        holder = world.start(["unshare", "--net", "--uts", "/bin/sh", "-ec", f"hostname host-{number}; echo; exec sleep infinity"],
                             stdout=subprocess.PIPE)
        world.background.append(holder)
        holder.stdout.readline()
        self.pid = holder.pid
        self.prefix = ["/usr/bin/nsenter", "--target", str(self.pid), "--net", "--uts", "--"]
        network(world, f"link add port-{number} type veth peer name uplink netns {self.pid}")
        for words in (f"link set port-{number} master bridge", f"link set port-{number} up"):
            network(world, words)
        for words in ("link set lo up", f"addr add 10.77.0.{10 + number}/24 dev uplink", "link set uplink up"):
            network(world, words, self.prefix)
        os.makedirs(self.state, mode=0o700)
        with open(os.path.join(self.state, "config.toml"), "w") as file:
            file.write('[persistence]\nbackend = "postgres"\ndsn = "host=10.77.0.1 user=gateway dbname=postgres"\n' + configuration(world))

    def enter(self):
        """What this thread connects to from now on is in this host's network."""
        with open(f"/proc/{self.pid}/ns/net") as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0) != 0:
                raise OSError(ctypes.get_errno(), "setns")


class Caller(threading.Thread):
    """A client: sends its requests, loses its gateway, and finds its jobs again."""

    def __init__(self, chaos, number):
        super().__init__(daemon=True)
        self.chaos, self.number = chaos, number
        self.slot = chaos.slots[min(number % 3, len(chaos.slots) - 1) if not chaos.plan.isOne else number % 3 // 2]
        self.transport = self.slot.transport
        self.slots = [slot for slot in chaos.slots if slot.transport == self.transport]
        self.tasks, self.connection = [], None

    # ---- calls

    def tool(self, name, **arguments):
        """One call. Raises Lost when its gateway goes away meanwhile."""
        self.chaos.await_slot(self)
        try:
            if self.connection is None:
                self.connection = self.slot.client()
                if self.transport == "HTTP" and self.number % 2:
                    self.connection.initialize()
            return self.connection.tool(name, timeout=PATIENCE, **arguments)
        except (OSError, ValueError, KeyError, RuntimeError, StopIteration, Unanswered, EOFError) as error:
            # A gateway that is gone has closed what it had open: that it hangs would be told by the time.
            if isinstance(error, TimeoutError) or "no answer within" in str(error):
                self.chaos.wrong(f"client {self.number}: {name} had no answer within {PATIENCE} s: {error!r}")
            self.connection = None
            self.chaos.lost += 1
            raise Lost(repr(error)) from None
        except Exception as error:
            if type(error).__module__ == "http.client":
                self.connection = None
                self.chaos.lost += 1
                raise Lost(repr(error)) from None
            raise

    def patiently(self, name, **arguments):
        """A call that changes nothing when it is repeated."""
        while True:
            try:
                return self.tool(name, **arguments)
            except Lost:
                # It is started again meanwhile; a connection that is refused takes no time.
                self.chaos.over.wait(0.05)

    # ---- requests

    def run(self):
        try:
            for ask in self.tasks:
                self.perform(ask)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
            self.chaos.wrong(f"client {self.number} runs to its end: {error!r}")
        finally:
            self.chaos.leave(self)

    def perform(self, ask):
        arguments = {"prompt": ask.prompt, "createNewSession": True}
        tool = f"{ask.provider}_request" + ("" if ask.isAwaited else "_async")
        self.chaos.begun(ask)
        end = time.monotonic() + PATIENCE
        attempts = []
        while time.monotonic() < end:
            attempts.append(f"{ask.number}-{self.number}-{len(attempts) + 1}")
            try:
                result = self.tool(tool, correlationId=attempts[-1], **arguments)
            except Lost:
                self.chaos.over.wait(0.05)
                job = self.found(attempts) if ask.kind in UNSHARED else None
                if job is None:
                    continue
                return self.follow(ask, job)
            seen = result.get("structuredContent") or {}
            job = (seen.get("job") or {}).get("id") or seen.get("jobId")
            if job:
                return self.follow(ask, job, seen)
            if self.is_refused(ask, result, seen):
                self.chaos.over.wait(min(seen.get("retryAfterMs", 200), 2000) / 1000)
                continue
            return self.answered(ask, result, seen)
        self.chaos.wrong(f"{ask.token} was not taken within {PATIENCE} s")

    def found(self, attempts):
        """The job of a request whose answer was lost; None when there was none."""
        for correlation in reversed(attempts):
            record = body_of(self.patiently("llm_request_result", correlationId=correlation)).get("request", {})
            job = record.get("asyncJobId")
            if not job:
                continue
            end = time.monotonic() + 30
            while time.monotonic() < end:
                state = body_of(self.patiently("llm_job_watch", jobId=job, until="end", waitMs=500))
                if not state.get("success"):
                    break
                state = state["job"]
                if state["status"] == "orphaned" and "before the job was started" in (state["error"] or ""):
                    break
                if state["exited"] or self.chaos.ledger().has_started(job):
                    return job
        return None

    def is_refused(self, ask, result, seen):
        """Whether a synchronous or asynchronous call was answered with the reason why nothing was run."""
        if not result.get("isError"):
            return False
        text = text_of(result)
        reasons = ("too many", "saturated", "no room", "disk", "space", "ask again", "circuit", "its turn", "waited", "database", "busy")
        correlation = seen.get("correlationId")
        if seen.get("retryable") or any(reason in text for reason in reasons):
            self.chaos.refused[shortened(text.partition("\n")[2].partition("\n")[0])] += 1
            record = body_of(self.patiently("llm_request_result", correlationId=correlation)).get("request", {}) if correlation else {}
            job = record.get("asyncJobId")
            # What has run is an answer, whatever it says.
            return not (job and self.chaos.ledger().has_started(job))
        return False

    def follow(self, ask, job, seen=None):
        """A job that is known: waited for, cancelled, or left to itself."""
        self.chaos.known(ask, job, self)
        if ask.cancel is not None:
            if ask.kind == "hang":
                # Somebody cancels it who has seen it running, or some time later.
                within(20, lambda: self.chaos.ledger().has_started(job) or self.state(job).get("exited"))
            self.chaos.over.wait(ask.cancel)
            self.chaos.canceled.add(job)
            self.patiently("llm_job_cancel", jobId=job)
        if not ask.waits:
            return
        end = time.monotonic() + PATIENCE
        while not (state := self.state(job, wait=5000)).get("exited"):
            if not state or time.monotonic() > end:
                return self.chaos.wrong(f"{ask.token} {ask.kind}: job {job} does not end: {state}")
        if state["status"] == "canceled":
            left = [pid for pid in self.chaos.ledger().processes(job) if alive(pid)]
            if left:
                self.chaos.wrong(f"{ask.token}: job {job} is canceled, and {left} are left of it")

    def state(self, job, wait=0):
        return body_of(self.patiently("llm_job_watch", jobId=job, until="end", waitMs=wait)).get("job", {})

    def answered(self, ask, result, seen):
        """A synchronous answer: the one that its run gave."""
        text = seen.get("response") or text_of(result)
        self.chaos.answers += 1
        if ask.kind in ("answer", "long", "deaf", "family", "passing"):
            if not result.get("isError") and text.strip() != ask.text.strip():
                self.chaos.wrong(f"{ask.token} {ask.kind}: answered with {text[-200:]!r} in place of {ask.text[-200:]!r}")
            elif result.get("isError") and ask.kind != "passing" and not disk_was_full(self.chaos, text):
                # One that may pass is not tried again by the next gateway.
                self.chaos.wrong(f"{ask.token} {ask.kind}: is an error: {text[:300]!r}")
        elif not result.get("isError"):
            self.chaos.wrong(f"{ask.token} {ask.kind}: is no error: {text[:200]!r}")
        job = body_of(self.patiently("llm_request_result", correlationId=seen.get("correlationId", ""))).get("request", {}).get("asyncJobId")
        if job:
            self.chaos.known(ask, job, self)


class Ledger:
    """What the fakes say."""

    def __init__(self, folder):
        self.folder, self.lock, self.offset = folder, threading.Lock(), 0
        self.runs, self.tokens = collections.defaultdict(list), {}

    def refresh(self):
        with self.lock:
            with contextlib.suppress(FileNotFoundError), open(os.path.join(self.folder, "ledger"), "rb") as file:
                file.seek(self.offset)
                data = file.read()
                data = data[:data.rfind(b"\n") + 1]
                self.offset += len(data)
                for line in data.splitlines():
                    self.take(json.loads(line))
        return self

    def take(self, line):
        runs = self.runs[line["job"]]
        if line["what"] == "start":
            runs.append({"pid": line["pid"], "began": line["at"], "name": line["name"], "end": None, "children": []})
            return
        found = next(entry for entry in reversed(runs) if entry["pid"] == line["pid"])
        if line["what"] == "prompt":
            self.tokens[line["job"]] = line["prompt"].partition(" ")[0]
        elif line["what"] == "child":
            found["children"].append(line["child"])
        else:
            found["end"] = line

    def has_started(self, job):
        return bool(self.runs.get(job))

    def processes(self, job):
        return [pid for entry in self.runs.get(job, []) for pid in (entry["pid"], *entry["children"])]

    def written(self, job, pid, stream):
        with contextlib.suppress(FileNotFoundError), open(os.path.join(self.folder, f"{job}.{pid}.{stream}"), "rb") as file:
            return file.read()
        return b""


def disk_was_full(chaos, error):
    """Whether an error says so, in the gateway's words or in those of a CLI."""
    return any(words in error for words in ("no space is left on the disk", "No space left on device")) and bool(chaos.disk or chaos.isFull)


def shortened(error):
    """An error text without what differs each time."""
    return re.sub(r"'/[^']*/", "'…/", error)[:120]
