#!/usr/bin/python3
"""Jobs while everything breaks: gateways are killed and restarted, the disk is full, the clock is set, and clients ask again.

    chaos.py [--mode one|systemd|three|postgres] [--seed N] [--jobs N] [--plan]

    one       clients over HTTP and on pipes take turns with one gateway: the installed service, or one on pipes
    systemd   the same, and the service is a real user service manager's: each of its jobs has a scope of its own
    three     the installed service, another gateway over HTTP and one on pipes, at the same time, on one database
    postgres  three gateways, each with a home, a host name and a network of its own, on one database server, which is restarted too

What is asked and what happens meanwhile is decided beforehand by a seed, which is printed: the same seed makes the same plan.
What really happened is not taken from the gateway: the fakes keep a ledger of their own, outside of its home, of each start, of
each end, and of every byte that they have written. In the end each job must have its true end and its true bytes, exactly
once, and nothing may be left of any. With --deep: 2,000 jobs, 50 kills, 10 restarts.
"""
import argparse
import collections
import contextlib
import ctypes
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request

from harness import DEEP, FIXTURES, PYTHON, Skip, Tally, Unanswered, body_of, check, command_of, equal, product, run, section, skip, text_of, within
from installed import Bundle, Client, Home, alive, free_port, namespace, under_systemd
from service import bundle
from systemd_service import Inside, ServiceHome

PROVIDERS = ("claude", "codex", "gemini", "grok", "mistral")
COMMANDS = {"gemini": "agy", "mistral": "vibe"}
# How often a job is of a kind, of 100.
KINDS = {"answer": 38, "long": 14, "fails": 9, "crash": 8, "hang": 7, "flood": 4, "deaf": 4, "family": 6, "empty": 3, "passing": 3, "brief": 4}
# Kinds that are run again when they are asked for again: whoever has lost such an answer looks for its job first.
UNSHARED = {"fails", "crash", "hang", "flood", "empty", "passing", "brief"}
OUTPUT_LIMIT = 1 << 20
FLOOD = 3 << 20
SYNC_DEADLINE = 3
PATIENCE = 150
# A home that nothing but the filler fills: a flood takes 1 MB, in the end in the database.
DISK = ("160m", "800m")
# Set where mounts are this driver's own.
INSIDE = "LLM_GATEWAY_CHAOS_INSIDE"
WORDS = "one zwei três чотири pět 六 שבע otto neuf dix — „elf“ 🜁 zwölf→ x=13; \\n not-a-line {json} 'quoted' \"twice\"".split()

# --------------------------------------------------------------------------------------------------------------------
# the plan


class Ask:
    """One request as it is planned."""

    def __init__(self, chance, number, clients):
        self.number, self.token = number, f"[{number}]"
        self.provider = chance.choice(PROVIDERS)
        self.kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
        self.client = chance.randrange(clients)
        self.waits = self.kind in ("hang", "brief") or chance.random() < 0.5
        self.isAwaited = self.kind not in ("hang", "brief") and chance.random() < 0.45
        # Others who send the same request at about the same time.
        self.others = chance.choice((1, 1, 2, 3)) if self.kind in ("answer", "long", "family") and chance.random() < 0.2 else 0
        self.wait = round(chance.choice((0, 0.05, 0.3, 1.0)) * chance.random() * 2, 2)
        self.cancel = round(chance.random() * 0.6, 3) if self.kind in ("hang", "brief") else None
        self.prompt = " ".join(part for part in (self.token, *self.scene(chance)) if part)

    def scene(self, chance):
        def words(most):
            return " ".join(chance.choice(WORDS) for _ in range(chance.randint(1, most)))

        self.text = f"{self.token} {words(2500 if self.kind == 'long' else 12)}".replace("@", "")
        wait = f"@@wait {self.wait}@@"
        started = [f"@@stderr {words(6)}@@" if chance.random() < 0.4 else "", f"@@first {words(8)} @@" if chance.random() < 0.5 else ""]
        said = f"@@say {self.text}@@"
        if self.kind in ("answer", "brief"):
            return [f"@@stderr {words(20)}@@" if chance.random() < 0.3 else "", wait, said]
        if self.kind == "long":
            return [f"@@slow {round(chance.random() * 2, 2)}@@", said]
        if self.kind == "fails":
            return [started[1], wait, f"@@exit {chance.randint(1, 99)} {words(6)}@@"]
        if self.kind == "crash":
            return [*started, wait, f"@@signal {chance.choice((6, 9, 11, 15))}@@"]
        if self.kind == "hang":
            return [*started, *(f"@@{name}@@" for name in ("stubborn", "grandchild", "daemon") if chance.random() < 0.4), "@@silent@@"]
        if self.kind == "flood":
            return [f"@@flood {FLOOD}@@"]
        if self.kind == "deaf":
            return ["@@stubborn@@", wait, said]
        if self.kind == "family":
            return ["@@grandchild@@", "@@daemon@@" if chance.random() < 0.5 else "", wait, said]
        if self.kind == "empty":
            return [wait, "@@empty@@"]
        return [f"@@fails 1 fetch failed: ECONNRESET {self.number}@@", said]

    def __str__(self):
        return json.dumps(vars(self), ensure_ascii=False, sort_keys=True)


class Event:
    """Something that happens once so many requests were begun, and a moment later."""

    def __init__(self, chance, after, verb, slots):
        self.after, self.verb, self.slot = after, verb, chance.randrange(slots)
        self.moment = round(chance.random() * 0.06, 4)
        self.step = chance.choice((-7200, -600, -90, 45, 300, 3600, 5400)) if verb == "clock" else 0
        self.lasts = round(1 + chance.random() * 2, 2) if verb == "disk" else 0

    def __str__(self):
        more = {"clock": f" by {self.step} s", "disk": f" for {self.lasts} s"}.get(self.verb, "")
        return f"after {self.after} requests and {self.moment} s: {self.verb}{more}" + (f", gateway {self.slot}" if self.verb in ("kill", "restart") else "")


class Plan:
    def __init__(self, seed, mode, jobs, deep):
        chance = random.Random(f"{seed} {mode} {jobs}")
        self.seed, self.mode, self.isDeep = seed, mode, deep
        # Whether gateways take turns.
        self.isOne = mode in ("one", "systemd")
        self.slots = 1 if self.isOne else 3
        self.clients = 24 if deep else 18
        self.asks = [Ask(chance, number, self.clients) for number in range(jobs)]
        counts = {"kill": 50 if deep else 5, "restart": 10 if deep else 2, "clock": 8 if deep else 2, "disk": 1}
        if self.isOne:
            counts["turn"] = 9 if deep else 3
        if mode == "postgres":
            counts["database"] = 5 if deep else 1
        self.events = sorted((Event(chance, chance.randint(jobs // 20, jobs * 9 // 10), verb, self.slots)
                              for verb, count in counts.items() for _ in range(count)), key=lambda event: (event.after, event.moment))

    def show(self, whole):
        kinds = collections.Counter(ask.kind for ask in self.asks)
        text = "\n".join(map(str, [*self.asks, *self.events]))
        print(f"# seed {self.seed}, mode {self.mode}: {len(self.asks)} jobs of {self.clients} clients, "
              f"{sum(ask.others for ask in self.asks)} of them asked for by others too; plan {hashlib.sha256(text.encode()).hexdigest()[:16]}")
        print(f"#   {', '.join(f'{count} {kind}' for kind, count in kinds.most_common())}")
        for event in self.events:
            print(f"#   {event}")
        if whole:
            print(text)
        sys.stdout.flush()


# --------------------------------------------------------------------------------------------------------------------
# the gateways


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


# --------------------------------------------------------------------------------------------------------------------
# the run


class Chaos:
    def __init__(self, world, plan, home=None, release=None):
        self.world, self.plan, self.home = world, plan, home
        self.violations, self.small = [], None
        self.refused, self.lost, self.answers = collections.Counter(), 0, 0
        self.changed = threading.Condition()
        self.requests, self.blocked, self.left = 0, set(), set()
        self.jobs, self.places, self.canceled = {}, {}, set()
        self.over = threading.Event()
        self.samples, self.disk, self.isFull = [], [], False
        self.book = Ledger(world.directory("ledger"))
        self.install(release)

    def install(self, release):
        world, starts, tools = self.world, self.world.directory("starts"), self.world.directory("tools")
        for provider in PROVIDERS:
            name = COMMANDS.get(provider, provider)
            program = name if name in ("agy", "grok") else "scenario"
            os.symlink(os.path.join(os.environ.get("FIXTURES", FIXTURES), "fakes", program), os.path.join(tools, name))
        world.environment["PATH"] += f":{tools}"
        self.log = open(os.path.join(world.root, "gateways.log"), "ab")
        self.environment = {
            "FAKE_CLI_LEDGER": self.book.folder, "FAKE_CLI_LOG": starts, "PYTHONDONTWRITEBYTECODE": "1", "SWIFT_BACKTRACE": "enable=no",
            "SYNC_DEADLINE_MS": str(SYNC_DEADLINE * 1000), "LLM_GATEWAY_DEDUP_WINDOW_MS": "86400000"}
        self.clock, self.server = Clock(world), None
        if self.plan.mode == "postgres":
            return self.install_hosts()
        if self.home is None:
            self.home = Home(world, "home")
            self.cover(self.home.state)
            release = built(world)
        self.home.environment["PATH"] += f":{tools}"
        self.home.json("setup", "--port", str(self.home.port))
        self.home.json("install-bundle", *release.flags)
        # What runs is what is installed.
        os.environ["LLM_GATEWAY_E2E_BIN"] = self.home.file("current", "bin")
        self.home.program = self.home.link
        self.home.json("setup")
        with open(self.home.file("environment"), "a") as file:
            file.writelines(f"{name}={value}\n" for name, value in self.environment.items())
        self.home.write("config.toml", configuration(world))
        self.environment.update(HOME=self.home.path, LLM_GATEWAY_HOME=self.home.state)
        self.token = self.home.read("auth-token").strip()
        self.world.undo.append(lambda: self.home.run("stop"))
        self.service, self.pipe = Service(self), Pipe(self)
        self.slots = [self.service, self.pipe] if self.plan.isOne else [self.service, Standing(self), self.pipe]

    def cover(self, folder):
        """A small disk over a folder that can be filled."""
        os.makedirs(folder, mode=0o700, exist_ok=True)
        size = f"size={DISK[self.plan.isDeep]},mode=700"
        self.small = os.environ.get(INSIDE) and self.world.call(["mount", "-t", "tmpfs", "-o", size, "none", folder]).returncode == 0 and folder
        if not self.small:
            return skip("the disk is full", "private mounts are not allowed here")
        self.world.undo.insert(0, lambda: self.world.call(["umount", "--lazy", folder]))

    def install_hosts(self):
        folder = self.world.directory("hosts")
        self.cover(folder)
        self.server, self.token = Server(self.world), self.world.token
        hosts = [Host(self.world, folder, self.server, number) for number in range(3)]
        self.slots = [Pipe(self, hosts[0]), Standing(self, hosts[1]), Pipe(self, hosts[2])]

    def rows(self, query):
        """What the database says."""
        if self.server:
            return self.server.rows(query)
        with contextlib.closing(sqlite3.connect(self.home.file("logs.db"), timeout=30)) as database:
            return database.execute(query).fetchall()

    def wrong(self, text):
        with self.changed:
            self.violations.append(text)
            print(f"    {text}", flush=True)

    def ledger(self):
        return self.book.refresh()

    def known(self, ask, job, caller):
        with self.changed:
            self.jobs[job] = (ask, caller.transport)
            # The others who ask for the same may have it from elsewhere.
            if ask.others == 0:
                self.places[job] = caller.slot.host

    # ---- clients and events

    def begun(self, ask):
        with self.changed:
            self.requests += 1
            self.changed.notify_all()

    def leave(self, caller):
        with self.changed:
            self.left.add(caller)
            self.changed.notify_all()

    def await_slot(self, caller):
        """A client whose gateway has not its turn waits for that."""
        with self.changed:
            while not caller.slot.isUp:
                self.blocked.add(caller)
                self.changed.notify_all()
                self.changed.wait(5)
            self.blocked.discard(caller)

    def carry_out(self):
        for slot in self.slots[:1] if self.plan.isOne else self.slots:
            slot.start()
        self.callers = [Caller(self, number) for number in range(self.plan.clients)]
        for ask in self.plan.asks:
            first = self.callers[ask.client]
            same = [caller for caller in self.callers if caller.transport == first.transport and caller is not first]
            for caller in [first, *same[ask.number % len(same):][:ask.others]]:
                caller.tasks.append(ask)
        self.everything = sum(len(caller.tasks) for caller in self.callers)
        sampler = threading.Thread(target=self.sample, daemon=True)
        sampler.start()
        for caller in self.callers:
            caller.start()
        for event in self.plan.events:
            self.await_requests(event.after * self.everything // len(self.plan.asks))
            time.sleep(event.moment)  # A moment within what the gateway does just then: there is nothing to wait for.
            print(f"#   {time.monotonic() - self.began:6.1f} s: {event}", flush=True)
            self.happen(event)
        while not self.is_done():
            self.await_requests(self.everything + 1)
            if not self.is_done():
                self.turn()
        for caller in self.callers:
            caller.join(PATIENCE)
        for slot in self.slots:
            if not slot.isUp:
                slot.start()
        with self.changed:
            self.changed.notify_all()
        self.settle()
        self.over.set()
        sampler.join(30)

    def is_done(self):
        with self.changed:
            return len(self.left) == len(self.callers)

    def await_requests(self, count):
        """Until so many requests were begun, or nobody can begin one."""
        end = time.monotonic() + 4 * PATIENCE
        with self.changed:
            while self.requests < count and len(self.left) + sum(not caller.slot.isUp for caller in self.blocked) < len(self.callers):
                if not self.changed.wait(max(0, end - time.monotonic())):
                    self.violations.append("the clients stand still")
                    return

    def happen(self, event):
        slot = self.slots[event.slot] if not self.plan.isOne else next(slot for slot in self.slots if slot.isUp)
        if event.verb == "kill":
            slot.kill()
        elif event.verb == "restart":
            slot.restart()
        elif event.verb == "turn":
            self.turn()
        elif event.verb == "clock" and self.clock.isSet:
            self.clock.step(event.step)
        elif event.verb == "database":
            self.server.restart()
        elif event.verb == "disk" and self.small:
            self.fill(event.lasts)

    def turn(self):
        """The gateway that serves goes, and the one for the other clients comes."""
        going, coming = (self.service, self.pipe) if self.service.isUp else (self.pipe, self.service)
        going.stop()
        coming.start()
        with self.changed:
            self.changed.notify_all()

    def fill(self, seconds):
        """Nothing more can be written in the home for a while."""
        self.isFull = True
        path, began = os.path.join(self.small, "filler"), time.monotonic()
        with open(path, "wb", buffering=0) as file:
            while time.monotonic() - began < seconds:
                # What others give back is taken, too.
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\0" * (1 << 16))
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\0" * 512)
                self.over.wait(0.02)
        os.unlink(path)
        self.disk.append((began, time.monotonic()))
        self.isFull = False

    # ---- health

    def sample(self):
        """Asks now and then what runs, by a client of each kind."""
        watchers = [Caller(self, number) for number in (1, 2)]
        while not self.over.wait(0.25):
            for watcher in watchers:
                for slot in watcher.slots:
                    if slot.isUp and not self.over.is_set():
                        watcher.slot, watcher.connection = slot, None
                        began = time.monotonic()
                        with contextlib.suppress(Lost):
                            told = body_of(watcher.tool("llm_process_health"))
                            until = time.monotonic()
                            standing = {entry["jobId"] for entry in told["jobs"] if entry["processHealth"] and alive(entry["processHealth"]["pid"])}
                            self.samples.append((began, until, slot, told, standing))

    # ---- the end

    def reader(self, transport, job=""):
        """A client that may see a job, of any gateway."""
        reader = self.readers[transport]
        slot = reader.slots[sum(job.encode()) % len(reader.slots)]
        if reader.slot is not slot:
            reader.slot, reader.connection = slot, None
        return reader

    def settle(self):
        """Waits until all jobs are over that are known to anybody."""
        self.readers = {"HTTP": Caller(self, 1), "pipes": Caller(self, 2)}
        book = self.ledger()
        asks = {ask.token: ask for ask in self.plan.asks}
        for job, token in book.tokens.items():
            if job not in self.jobs:
                ask = asks[token]
                self.jobs[job] = (ask, self.callers[ask.client].transport)
        end = time.monotonic() + PATIENCE
        self.states = {}
        for job, (ask, transport) in self.jobs.items():
            while True:
                state = self.reader(transport, job).state(job, wait=5000)
                if state.get("exited") or not state or time.monotonic() > end:
                    break
            self.states[job] = state
        self.finals = {job: state.get("status") for job, state in self.states.items()}


class Clock:
    """The time of day of all that is started here: a library in front of the C library's adds what a file says.

    It is named by an /etc/ld.so.preload that only this driver's processes see: not every process gets our environment.
    """

    SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
static const volatile long *offset;
static int (*real)(clockid_t, struct timespec *);
__attribute__((constructor)) static void begin(void) {
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int file = open(OFFSET, O_RDONLY | O_CLOEXEC);
    void *page = file < 0 ? MAP_FAILED : mmap(0, 4096, PROT_READ, MAP_SHARED, file, 0);
    if (file >= 0) close(file);
    offset = page == MAP_FAILED ? 0 : page;
}
int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!real) begin();
    int result = real(clock, time);
    if (result == 0 && clock == CLOCK_REALTIME && offset) time->tv_sec += *offset;
    return result;
}
"""

    def __init__(self, world):
        self.path, self.offset, self.isSet = os.path.join(world.root, "clock"), 0, False
        library, source = os.path.join(world.root, "clock.so"), world.write("clock.c", self.SOURCE)
        with open(self.path, "wb") as file:
            file.write(bytes(4096))
        if not shutil.which("cc"):
            return skip("the clock is set", "there is no C compiler")
        made = world.call(["cc", "-shared", "-fPIC", "-O1", f'-DOFFSET="{self.path}"', "-o", library, source, "-ldl"])
        equal("a clock that can be set is made", (made.returncode, made.stderr), (0, ""))
        if os.environ.get(INSIDE) is None:
            return skip("the clock is set", "private mounts are not allowed here")
        etc = [world.directory("etc", name) for name in ("upper", "work")]
        # Others read there, too.
        for folder in (world.root, etc[0]):
            os.chmod(folder, 0o755)
        mounted = world.call(["mount", "-t", "overlay", "-o", f"lowerdir=/etc,upperdir={etc[0]},workdir={etc[1]}", "none", "/etc"])
        if mounted.returncode != 0:
            return skip("the clock is set", f"/etc cannot be covered ({mounted.stderr.strip()})")
        world.undo.insert(0, lambda: world.call(["umount", "--lazy", "/etc"]))
        with open("/etc/ld.so.preload", "w") as file:
            file.write(f"{library}\n")
        self.isSet = True
        before = self.told(world)
        self.step(86400)
        check("what is started here has the time that we set", 86390 < self.told(world) - before < 86410, 86400, self.told(world) - before)
        self.step(-86400)

    @staticmethod
    def told(world):
        return int(world.call(["date", "+%s"]).stdout)

    def step(self, seconds):
        self.offset += seconds
        with open(self.path, "r+b") as file:
            file.write(self.offset.to_bytes(8, "little", signed=True))


# --------------------------------------------------------------------------------------------------------------------
# the judgement


def result_of(chaos, job, transport):
    """What llm_job_result says, all parts put together."""
    reader, out, err, pieces = chaos.reader(transport, job), 0, 0, {"stdout": [], "stderr": []}
    while True:
        answer = body_of(reader.patiently("llm_job_result", jobId=job, rawOutput=True, stdoutOffsetChars=out, stderrOffsetChars=err,
                                          maxChars=400_000))
        if not answer.get("success"):
            return None
        result = answer["result"]
        for name in pieces:
            pieces[name].append(result[name])
        out, err = result["stdoutNextOffsetChars"], result["stderrNextOffsetChars"]
        if not result["stdoutTruncated"] and not result["stderrTruncated"]:
            return {**result, **{name: "".join(parts) for name, parts in pieces.items()}}


def judge(chaos):
    book, ends = chaos.ledger(), collections.Counter()
    never = collections.Counter()
    reruns = 0
    for job, (ask, transport) in chaos.jobs.items():
        result = result_of(chaos, job, transport)
        if result is None:
            if book.has_started(job):
                chaos.wrong(f"{ask.token} {ask.kind}: job {job} has run and is not found")
            continue
        runs, status = book.runs.get(job, []), result["status"]
        ends[status] += 1
        problem = end_of(chaos, job, ask, result, runs, never) or bytes_of(book, job, ask, result, runs)
        if problem:
            chaos.wrong(f"{ask.token} {ask.kind} of {ask.provider}, job {job}: {problem}; "
                        f"{ {name: result[name] for name in ('status', 'exitCode', 'error', 'outputTruncated', 'stdoutBytes', 'correlationId')} }, ledger {runs}")
    # A request is run once, unless its run failed: then who asks again gets another.
    by_token = collections.defaultdict(list)
    for job, (ask, _) in chaos.jobs.items():
        if book.has_started(job):
            by_token[ask.token].append((book.runs[job][0]["began"], job))
    for token, runs in by_token.items():
        runs.sort()
        reruns += len(runs) - 1
        for (_, job), (began, following) in zip(runs, runs[1:]):
            state = chaos.states.get(job, {})
            ask = chaos.jobs[job][0]
            if ask.kind == "empty" and state.get("status") == "completed":
                continue
            if state.get("status") not in ("failed", "orphaned") or (ask.kind not in ("empty",) and not in_disk(chaos, job)):
                chaos.wrong(f"{token} {ask.kind} was run twice: {job} ({state.get('status')}), {following}; {chaos.plan.mode}, {ask}")
    # Without a run there must be a job that says why, or a cancel that came first.
    told = {ask.token for ask, _ in chaos.jobs.values()}
    equal("every request has become a job", [ask.token for ask in chaos.plan.asks if ask.token not in told], [])
    print(f"#   ends: {dict(ends)}; never started: {dict(never)}; run again after a failure of the disk: {reruns}", flush=True)


def in_disk(chaos, job):
    """Whether the disk was full while a job ran."""
    runs = chaos.book.runs[job]
    end = runs[-1]["end"]["at"] if runs[-1]["end"] else runs[0]["began"] + 60
    return any(began - 1 < end and runs[0]["began"] < until + 1 for began, until in chaos.disk)


def disk_was_full(chaos, error):
    return "no space is left on the disk" in error and bool(chaos.disk or chaos.isFull)


def shortened(error):
    """An error text without what differs each time."""
    return re.sub(r"'/[^']*/", "'…/", error)[:120]


def end_of(chaos, job, ask, result, runs, never):
    """What is wrong with the state of a job; None when it is true."""
    status, code, error = result["status"], result["exitCode"], result["error"] or ""
    if not result["exited"]:
        return "is not over"
    if not runs:
        never[f"{status}: {shortened(error)}"] += 1
        if status == "completed" or status == "running":
            return "was never started"
        if status == "canceled":
            return None if job in chaos.canceled and error == "canceled by caller" else "was canceled, but not by its caller"
        if status == "failed" and not (disk_was_full(chaos, error) or "waited" in error):
            return "was not started"
        return None
    attempts = 2 if ask.kind == "passing" else 1
    if len(runs) > attempts:
        return f"was started {len(runs)} times"
    if status == "canceled" and job in chaos.canceled:
        return None if error == "canceled by caller" else "was canceled, but not by its caller"
    if status == "failed" and disk_was_full(chaos, error):
        return None if in_disk(chaos, job) else "says that the disk was full"
    end = runs[-1]["end"]
    if ask.kind == "flood":
        return None if (status, code, result["outputTruncated"]) == ("failed", 126, True) else "was not ended at the limit"
    if end is None:
        return "did not end by itself, and nobody has ended it"
    wanted = ("completed", 0) if end.get("code") == 0 else ("failed", end.get("code", 128 + end.get("signal", 0)))
    return None if (status, code) == wanted else f"has ended as {wanted}"


def bytes_of(book, job, ask, result, runs):
    """What is wrong with the output of a job; None when it is what was written."""
    if not runs:
        return None if not result["stdout"] else "has output"
    run = runs[-1]
    cut = "disk" in (result["error"] or "")
    for stream, name in (("stdout", "out"), ("stderr", "err")):
        got, true = result[stream], book.written(job, run["pid"], name).decode()
        if ask.kind == "flood" and stream == "stdout":
            # What the CLI said before is in its own copy, and the flood, which is not, follows from how it is made.
            wanted = (true + ("x" * 65535 + "\n") * (FLOOD // 65536))[:len(got)]
            if got != wanted or len(got) + result["stderrBytes"] != OUTPUT_LIMIT and not cut:
                return f"{len(got)} bytes of a flood"
        elif run["end"] is None:
            # It was ended while it wrote: what it wrote last may not be in its own copy.
            if not got.startswith(true) and not (cut and true.startswith(got)):
                return f"{stream} is {got[-300:]!r} ({len(got)}) in place of {true[-300:]!r} ({len(true)})"
        elif got != true and not (cut and true.startswith(got)):
            return f"{stream} is {got[-300:]!r} ({len(got)}) in place of {true[-300:]!r} ({len(true)})"
    return None


def judge_health(chaos):
    """Each job that was named as running was running, and each that ran all the time was named."""
    book, lies, named = chaos.ledger(), [], 0
    for began, until, slot, told, standing in chaos.samples:
        listed = {entry["jobId"]: entry for entry in told["jobs"]}
        if min(told[name] for name in ("runningJobs", "deadJobs", "zombieJobs", "queuedJobs")) < 0 or \
                told["runningJobs"] + told["deadJobs"] + told["zombieJobs"] < len(listed):
            lies.append(f"counts {told}")
        for job, entry in listed.items():
            named += 1
            process, runs, age = entry["processHealth"], book.runs.get(job, []), entry["runningForMs"] / 1000
            if age < 0:
                lies.append(f"{job} has been running for {age} s")
            if process is None:
                continue
            run = next((run for run in runs if run["pid"] == process["pid"]), None)
            over = chaos.finals.get(job)
            # Its runner was there before it, by the time that starting takes.
            if run and not began - run["began"] - 0.1 <= age <= until - run["began"] + 10:
                lies.append(f"{job} has been running for {age} s, and for {began - run['began']:.3f} s")
            if run is None:
                # A CLI that was ended before its first words has noted nothing.
                if process["alive"] and job not in chaos.canceled and not over:
                    lies.append(f"{job} runs as {process['pid']}, and never did")
            elif process["alive"] and job not in standing and run["end"] and run["end"]["at"] < began - 1:
                # From its last words to its end it takes a moment.
                lies.append(f"{job} is alive as {process['pid']} {began - run['end']['at']:.3f} s after its end")
            elif not process["alive"] and job in standing:
                lies.append(f"{job} is dead, and runs as {process['pid']}")
        for job, runs in book.runs.items():
            run = runs[-1]
            ask, owner = chaos.jobs.get(job, (None, None))
            # A gateway tells of the jobs of its home.
            isHere = owner == slot.transport and chaos.places.get(job, None if chaos.server is None else slot) == slot.host
            if isHere and len(runs) == 1 and run["began"] < began and job not in listed and job not in chaos.canceled:
                if (run["end"] and run["end"]["at"] > until) and ask.kind not in ("flood",):
                    lies.append(f"{job} was running from {run['began']:.3f} to {run['end']['at']:.3f}, and not told from {began:.3f} to {until:.3f}")
    equal(f"llm_process_health was asked {len(chaos.samples)} times, named {named} jobs, and never lied", lies, [])


def final(chaos):
    """Nothing is left once all is over."""
    for slot in chaos.slots:
        reader = chaos.readers[slot.transport]
        reader.slot, reader.connection = slot, None
        told = body_of(reader.patiently("llm_process_health"))
        equal(f"no job runs in the end, says gateway {chaos.slots.index(slot)}", (told["runningJobs"], told["deadJobs"], told["zombieJobs"],
                                                                                 told["queuedJobs"], told["jobs"]), (0, 0, 0, 0, []))
    own = (".instance-", ".adoption")

    def left():
        return [name for folder in {slot.jobs for slot in chaos.slots} for name in os.listdir(folder) if not name.startswith(own)]

    within(20, lambda: not left())
    equal("no directory of a job is left", left(), [])
    equal("the database is whole", chaos.rows("PRAGMA integrity_check") if chaos.server is None else [("ok",)], [("ok",)])
    equal("no row is left running", chaos.rows("SELECT id, error FROM jobs WHERE status = 'running'"), [])
    equal("no finished job's request is left open", chaos.rows(
        "SELECT request_id, j.status FROM gateway_metadata m JOIN jobs j ON j.id = m.async_job_id WHERE m.status = 'started'"), [])
    equal("no request has two jobs", chaos.rows("SELECT correlation_id, count(*) FROM jobs GROUP BY 1 HAVING count(*) > 1"), [])
    descriptors(chaos)
    odd = [os.path.join(folder, name) for state in {os.path.dirname(slot.jobs) for slot in chaos.slots} for folder, _, names in os.walk(state)
           for name in names if ".tmp" in name or ".part" in name or name.startswith(".new") or name == "filler"]
    equal("no temporary file is left", odd, [])
    for place in (*chaos.slots, *([chaos.server] if chaos.server else [])):
        place.stop()
    if chaos.plan.mode == "systemd":
        equal("no scope is left", chaos.home.systemctl("list-units", "--all", "--plain", "--no-legend", "llm-cli-gateway-job-*"), "")
    book = chaos.ledger()
    equal("nothing that a job has started is left", [pid for job in book.runs for pid in book.processes(job) if alive(pid) and is_fake(pid)], [])
    if not chaos.world.nothing_left("no process is left", seconds=20):
        for pid in chaos.world.leftovers():
            for job, runs in book.runs.items():
                if pid in book.processes(job):
                    print(f"    {pid} is of {chaos.jobs.get(job, [None])[0]}, job {job}: {chaos.states.get(job)}, ledger {runs}", flush=True)


def is_fake(pid):
    command = command_of(pid)
    return "sleep 600" in command or any(f"/tools/{COMMANDS.get(name, name)}" in command for name in PROVIDERS)


def descriptors(chaos):
    """A gateway that has seen many jobs has no more open than before them."""
    reader = chaos.reader("pipes")
    pid = reader.slot.pid()

    def opened():
        return sorted(os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd"))

    def burst(number):
        jobs = [body_of(reader.tool(f"{provider}_request_async", prompt=f"[burst] @@wait 0.1@@@@say {number}@@", createNewSession=True,
                                    forceRefresh=True))["job"]["id"] for provider in PROVIDERS for _ in range(2)]
        for job in jobs:
            reader.state(job, wait=20000)

    burst(0)
    before = opened()
    for number in range(1, 4):
        burst(number)
    within(10, lambda: len(opened()) <= len(before))
    after = opened()
    check("no descriptor is left of 30 more jobs", len(after) <= len(before), before, after)


def built(world):
    """A bundle of the built programs."""
    version = world.call([product("llm-gateway"), "--version"]).stdout.split()[-1]
    return Bundle(bundle(world.root, version)[0], version)


def drive(world):
    options = arguments(sys.argv[1:])
    if options.mode == "systemd" and not options.plan:
        words = ["--mode", "systemd", "--seed", str(options.seed), "--jobs", str(options.jobs), *(["--deep"] if options.deep else [])]
        ended = under_systemd(world, "EndToEnd/chaos.py", built(world), *words, timeout=3000 if options.deep else 400)
        equal("everything held under systemd", ended.returncode, 0)
    else:
        story(world, options)


def inside(archive, manager, *words):
    world = Inside()
    try:
        story(world, arguments(words), ServiceHome(world, manager), Bundle(archive))
    finally:
        world.close()
    sys.exit(1 if Tally.failed else 0)


def story(world, options, home=None, release=None):
    plan = Plan(options.seed, options.mode, options.jobs, options.deep)
    plan.show(options.plan)
    if options.plan:
        raise Skip("only the plan was wanted")
    chaos = Chaos(world, plan, home, release)
    chaos.began = time.monotonic()
    chaos.carry_out()
    print(f"#   all over after {time.monotonic() - chaos.began:.1f} s: {chaos.requests} requests, {chaos.answers} answered at once, "
          f"{chaos.lost} lost their gateway, {sum(chaos.refused.values())} were refused", flush=True)
    for text, count in chaos.refused.most_common():
        print(f"#     {count} times: {text!r}")
    with section("the jobs"):
        judge(chaos)
        equal(f"{len(chaos.jobs)} jobs had their true ends and bytes, once", chaos.violations, [])
    with section("health"):
        judge_health(chaos)
    with section("what is left"):
        final(chaos)
    print(f"#   judged after {time.monotonic() - chaos.began:.1f} s", flush=True)


def arguments(words):
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=("one", "systemd", "three", "postgres"), default=os.environ.get("CHAOS_MODE", "one"))
    parser.add_argument("--seed", type=int, default=os.environ.get("LLM_GATEWAY_TEST_SEED"))
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--deep", action="store_true", default=DEEP)
    parser.add_argument("--plan", action="store_true")
    options = parser.parse_args(words)
    options.jobs = options.jobs or (2000 if options.deep else 100)
    options.seed = int(options.seed) if options.seed is not None else time.time_ns() % 1_000_000
    return options


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        inside(*sys.argv[2:])
    if os.environ.get(INSIDE) is None and "--plan" not in sys.argv:
        # A small disk is mounted over the home, for this driver and what it starts alone.
        probe = subprocess.run([*namespace("mount -t tmpfs none /mnt"), "true"], check=False, stderr=subprocess.DEVNULL)
        if probe.returncode == 0:
            os.environ[INSIDE] = "1"
            words = namespace("true")
            if any("postgres" in word for word in sys.argv):
                words.insert(1, "--net")
            os.execvp(words[0], [*words, PYTHON, *sys.argv])
    run(drive)
