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
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time

from chaos_gateways import PATIENCE, Caller, Host, Ledger, Lost, Pipe, Server, Service, Standing, configuration
from chaos_judgement import final, judge, judge_health
from chaos_plan import COMMANDS, PROVIDERS, Plan
from harness import DEEP, FIXTURES, PYTHON, Skip, Tally, body_of, check, equal, product, run, section, skip, text_of
from installed import Bundle, Home, alive, namespace, under_systemd
from service import bundle
from systemd_service import Inside, ServiceHome

SYNC_DEADLINE = 3
# A home that nothing but the filler fills: a flood takes 1 MB, in the end in the database.
DISK = ("160m", "800m")
# Set where mounts are this driver's own.
INSIDE = "LLM_GATEWAY_CHAOS_INSIDE"


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
                            result = watcher.tool("llm_process_health")
                            until = time.monotonic()
                            if result.get("isError"):
                                self.wrong(f"llm_process_health is refused: {text_of(result)}")
                                continue
                            told = body_of(result)
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
