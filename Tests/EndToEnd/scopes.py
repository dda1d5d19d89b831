#!/usr/bin/python3
"""Jobs under a real user service manager: each in a scope of its own, outside of the service and of the gateway's life.

Runs itself as an ordinary user inside Tests/Fixtures/systemd-user.sh. The fakes leave daemons behind that are forked twice, in
sessions of their own, without an environment, and deaf to SIGTERM: only the scope's control group knows them once their runner
is gone.
"""
import contextlib
import json
import os
import signal
import sys
import threading
import time

from harness import LEGACY, StdioGateway, Tally, check, contains, equal, matches, run, section, skip, text_of, within
from installed import Bundle, alive, release, renamed, under_systemd
from systemd_service import UNIT, Inside, ServiceHome

CGROUPS = "/sys/fs/cgroup"


def group_of(pid):
    """The control group of a process; None when it is gone."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cgroup") as file:
        return next(line[3:].strip() for line in file if line.startswith("0::"))
    return None


def members(group):
    with contextlib.suppress(OSError), open(f"{CGROUPS}{group}/cgroup.procs") as file:
        return [int(line) for line in file]
    return []


class Jobs:
    """What the home's folder of jobs and the records of the fakes say."""

    def __init__(self, home, starts):
        self.home, self.starts = home, starts

    def records(self):
        """{id: what runner.jsonl says} of the jobs whose provider runs."""
        found, folder = {}, self.home.file("jobs")
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            with contextlib.suppress(OSError, ValueError), open(os.path.join(folder, name, "runner.jsonl")) as file:
                runner, provider = map(json.loads, file)
                found[name] = runner | provider
        return found

    def facts(self, pid):
        """What the fake with this pid noted about its start."""
        for name in os.listdir(self.starts):
            if name.endswith(f"-{pid}.json"):
                with open(os.path.join(self.starts, name)) as file:
                    return json.load(file)
        return {}

    def begin(self, prompt, **arguments):
        """Starts a run that nobody waits for. -> Job"""
        before = set(self.records())
        job = Job()
        job.thread = threading.Thread(target=job.call, args=(self.home.client(), prompt, arguments), daemon=True)
        job.thread.start()
        found = within(15, lambda: set(self.records()) - before)
        check("a job is started", bool(found), "a record", job.answer, vital=True)
        job.id = found.pop()
        job.record = self.records()[job.id]
        job.runner, job.provider = job.record["runner"]["pid"], job.record["provider"]["pid"]
        wanted = [name for name in ("daemon", "grandchild") if f"@@{name}@@" in prompt]
        within(10, lambda: all(name in self.facts(job.provider) for name in wanted))
        job.others = [self.facts(job.provider).get(name) for name in wanted]
        job.all = [job.runner, job.provider, *job.others]
        job.scope = f"{UNIT}-job-{job.id}.scope"
        return job


class Job:
    answer = None

    def call(self, client, prompt, arguments):
        try:
            client.initialize()
            self.answer = client.tool("claude_request", prompt=prompt, timeout=120, **arguments)
        except Exception as error:  # noqa: BLE001 - a gateway that goes away answers as it likes
            self.answer = repr(error)

    def gone(self, home, title):
        check(f"{title}: nothing of it is left", within(15, lambda: not any(map(alive, self.all))), "all gone",
              [pid for pid in self.all if alive(pid)])
        check(f"{title}: nor its scope", within(5, lambda: not home.systemctl(
            "list-units", "--all", "--plain", "--no-legend", self.scope)), "forgotten", self.scope)


def placed(home, jobs):
    with section("the scope of a job"):
        job = jobs.begin("@@daemon@@@@grandchild@@@@wait 4@@@@say placed@@")
        groups = {pid: group_of(pid) for pid in job.all}
        check("runner, provider and both that left its session are in it", all(
            (group or "").endswith(f"/{UNIT}.slice/{job.scope}") for group in groups.values()), job.scope, groups)
        equal("nobody else is", sorted(members(groups[job.runner])), sorted(job.all))
        equal("the job's record names its group", job.record["controlGroup"], groups[job.runner])
        seen = home.shown("ActiveState", "Slice", "Description", "CollectMode", "CPUAccounting", "TasksAccounting", unit=job.scope)
        equal("the manager knows it, in our slice", (seen["ActiveState"], seen["Slice"], seen["CollectMode"]),
              ("active", f"{UNIT}.slice", "inactive-or-failed"))
        equal("what it uses is counted", (seen["CPUAccounting"], seen["TasksAccounting"]), ("yes", "yes"))
        contains("it bears the provider's name", seen["Description"], "claude")
        contains("and the job's id", seen["Description"], job.id)
        job.thread.join(30)
        equal("the answer comes", text_of(job.answer), "placed")
        job.gone(home, "after its end")


def outlives(home, jobs):
    with section("a service that is stopped"):
        job = jobs.begin("@@slow 8@@@@say one two three four five six seven eight@@")
        home.systemctl("stop", f"{UNIT}.service")
        equal("systemd's stop leaves the job alone", (alive(job.runner), alive(job.provider)), (True, True))
        equal("the manager still has its scope", home.shown("ActiveState", unit=job.scope)["ActiveState"], "active")
        told = home.json("stop")
        equal("our stop counts it", (told.status["running"], told.status["jobs"]), (False, {"running": 1, "waiting": 0, "canceled": None}))
        matches("and says so to people", home.run("stop", "--text").out, "running jobs +1; the next start collects what comes of it")
        plan = home.json("uninstall").json
        equal("a listing of 'uninstall' has it", [(entry["id"], entry["provider"], entry["state"]) for entry in plan["jobs"]],
              [(job.id, "claude", "running")])
        equal("and stops nothing", alive(job.provider), True)
        check("it ends while no gateway runs", within(15, lambda: not alive(job.runner)), "ended", job.runner)
        job.gone(home, "after its end")
        check("how it ended is kept", os.path.exists(home.file("jobs", job.id, "exit.json")), "exit.json", os.listdir(home.file("jobs")))
        equal("the slice has gone with it", home.systemctl("is-active", f"{UNIT}.slice"), "inactive")
        home.json("start")
        check("the next gateway collects it", within(10, lambda: not os.path.exists(home.file("jobs", job.id))), "collected", job.id)
        job = jobs.begin("@@wait 4@@@@say replaced@@")
        told = home.json("restart").status
        equal("a restart leaves a job alone and counts it", (told["jobs"]["running"], alive(job.provider)), (1, True))
        check("the new gateway collects it", within(15, lambda: not os.path.exists(home.file("jobs", job.id))), "collected", job.id)
        job.gone(home, "after its end")


def upgraded(home, jobs, bundle):
    with section("an upgrade and a rollback while jobs run"):
        version = os.readlink(home.file("current"))
        following = renamed(bundle, os.path.join(home.world.root, "next.tar.gz"), "9.0.0", level=0)
        job = jobs.begin("@@slow 6@@@@say seen by three gateways of two versions to its end@@")
        told = home.json("upgrade", *following.flags)
        equal("the new version runs", (told.json["restarted"], os.readlink(home.file("current"))), (True, "versions/9.0.0"))
        equal("the job goes on in its scope", (alive(job.runner), alive(job.provider), within_scope(job)), (True, True, True))
        other = jobs.begin("@@slow 3@@@@say begun by the newer@@")
        home.json("rollback")
        equal("the old version runs again", (os.readlink(home.file("current")), home.status()["healthy"]), (version, True))
        equal("and both jobs go on", [alive(one.provider) for one in (job, other)], [True, True])
        equal("it knows both", home.status()["jobs"]["running"], 2)
        client = home.client()
        client.initialize()
        for one, text in ((job, "seen by three gateways of two versions to its end"), (other, "begun by the newer")):
            seen = json.loads(text_of(client.tool("llm_job_watch", jobId=one.id, until="end", waitMs=20000)))["job"]
            equal("its true end is told", (seen["status"], seen["exitCode"]), ("completed", 0))
            answer = json.loads(text_of(client.tool("llm_job_result", jobId=one.id)))
            contains("with its whole text", json.dumps(answer), text)
            one.gone(home, "after its end")


def within_scope(job):
    return all((group_of(pid) or "").endswith(f"/{UNIT}.slice/{job.scope}") for pid in job.all)


def many(home, jobs):
    with section("many at once"):
        before = set(jobs.records())
        calls = [Job() for _ in range(12)]
        for number, call in enumerate(calls):
            call.thread = threading.Thread(target=call.call, args=(home.client(), f"@@wait 2@@@@say {number}@@", {}), daemon=True)
            call.thread.start()
        within(15, lambda: len(set(jobs.records()) - before) == len(calls))
        found = {identifier: record for identifier, record in jobs.records().items() if identifier not in before}
        equal("each is in its own scope", [identifier for identifier, record in found.items() if not (
            group_of(record["provider"]["pid"]) or "").endswith(f"-job-{identifier}.scope")], [])
        for call in calls:
            call.thread.join(30)
        equal("all are answered", [text_of(call.answer) for call in calls], [str(number) for number in range(len(calls))])
        check("their scopes have gone", within(5, lambda: not home.systemctl("list-units", "--plain", "--no-legend", f"{UNIT}-job-*")),
              "none", "some")


def connections(home, jobs):
    with section("the connection to the manager"):
        home.systemctl("daemon-reexec")
        job = jobs.begin("@@wait 2@@@@say again@@")
        check("a manager that began anew is asked again", within_scope(job), job.scope, group_of(job.provider))
        home.systemctl("daemon-reexec")
        check("and keeps the scopes that it had", within_scope(job), job.scope, group_of(job.provider))
        job.thread.join(30)
        job.gone(home, "after its end")
        bus = os.path.join(os.environ["XDG_RUNTIME_DIR"], "bus")
        if not os.path.exists(bus):
            return skip("by the message bus", f"there is no '{bus}'")
        # Where the manager's own socket is not to be had, the message bus leads to it.
        folder = home.world.directory("runtime")
        os.symlink(bus, os.path.join(folder, "bus"))
        drop_in = os.path.join(home.path, f".config/systemd/user/{UNIT}.service.d")
        os.makedirs(drop_in)
        with open(os.path.join(drop_in, "bus.conf"), "w") as file:
            file.write(f"[Service]\nEnvironment=XDG_RUNTIME_DIR={folder}\n")
        home.json("restart")
        job = jobs.begin("@@wait 1@@@@say by the bus@@")
        check("the message bus will do as well", within_scope(job), job.scope, group_of(job.provider))
        job.thread.join(30)
        equal("and the job is answered", text_of(job.answer), "by the bus")
        os.unlink(os.path.join(drop_in, "bus.conf"))
        os.rmdir(drop_in)
        home.json("restart")


def ends(home, jobs):
    with section("bad ends"):
        job = jobs.begin("@@daemon@@@@grandchild@@@@stubborn@@@@silent@@")
        os.kill(job.runner, signal.SIGTERM)
        job.gone(home, "a cancelled job")
        job = jobs.begin("@@daemon@@@@grandchild@@@@silent@@")
        os.kill(job.runner, signal.SIGKILL)
        job.gone(home, "a job whose runner was killed")
        job.thread.join(30)
        check("its caller hears that", isinstance(job.answer, dict) and bool(job.answer.get("isError")), "an error", job.answer)
        job = jobs.begin("@@daemon@@@@grandchild@@@@silent@@")
        home.systemctl("stop", f"{UNIT}.service", f"{UNIT}.socket")
        os.kill(job.runner, signal.SIGKILL)
        check("a runner that is killed while no gateway runs leaves its provider", alive(job.provider), "alive", job.provider)
        home.json("start")
        job.gone(home, "once a gateway runs")
        job = jobs.begin("@@daemon@@@@silent@@")
        home.systemctl("stop", job.scope)
        job.gone(home, "a job whose scope was stopped")


def canceling(home, jobs):
    with section("stop --jobs"):
        running = [jobs.begin("@@daemon@@@@grandchild@@@@silent@@"), jobs.begin("@@stubborn@@@@silent@@")]
        began = time.monotonic()
        told = home.json("stop", "--jobs")
        equal("cancels what runs, and says how many", (told.status["running"], told.status["jobs"]),
              (False, {"running": 0, "waiting": 0, "canceled": 2}))
        print(f"    after {time.monotonic() - began:.1f} s", flush=True)
        for number, job in enumerate(running):
            job.gone(home, f"job {number + 1}")
        equal("nothing waits for the next gateway", [name for name in os.listdir(home.file("jobs")) if not name.startswith(".")], [])
        home.json("start")


def connections_to_manager():
    """How many sockets the manager has accepted at its own address, unix(7) and proc(5)."""
    address = os.path.join(os.environ["XDG_RUNTIME_DIR"], "systemd/private")
    with open("/proc/net/unix") as file:
        return sum(line.split()[5] == "03" and line.rstrip().endswith(address) for line in list(file)[1:])


def without(home, jobs):
    with section("a manager that refuses"):
        # A stdio gateway in a login session: its processes are not the manager's to move.
        folder = home.world.directory("aside")
        config = os.path.join(folder, "config.toml")
        with open(config, "w") as file:
            file.write(home.read("config.toml"))
        environment = {**home.environment, "LLM_GATEWAY_HOME": folder, "FAKE_CLI_LOG": jobs.starts}
        gateway = StdioGateway(home.world, environment, ("--transport=stdio",), LEGACY, True, home.file("current/bin/llm-gateway"))
        connected = connections_to_manager()
        for number in (1, 2):
            began = time.monotonic()
            equal(f"a job runs all the same, {number}", text_of(gateway.tool("claude_request", prompt=f"@@say plain {number}@@")), f"plain {number}")
            check("soon", time.monotonic() - began < 1.5, "< 1.5 s", f"{time.monotonic() - began:.2f} s")
        told = [line for line in gateway.log if "without a scope" in line]
        equal("the log says so once", len(told), 1)
        print(f"    {''.join(told).strip()}", flush=True)
        check("it lets go of a manager of which it asks nothing for a while", within(5, lambda: connections_to_manager() == connected),
              connected, connections_to_manager())
        equal("the gateway ends well", gateway.hang_up(), 0)


def removal(home, jobs):
    with section("uninstall"):
        job = jobs.begin("@@daemon@@@@grandchild@@@@silent@@")
        told = home.json("uninstall", "--yes", "--purge").json
        equal("cancels what runs, and says how many", (told["removed"], told["canceled_jobs"]), (True, 1))
        job.gone(home, "its job")
        equal("nothing of the home is left", os.path.exists(home.state), False)
        equal("systemd has forgotten scopes and slices", home.systemctl("list-units", "--all", "--plain", "--no-legend", "llm*"), "")


def inside(bundle, manager):
    world = Inside()
    try:
        home = ServiceHome(world, manager)
        home.json("setup", "--port", str(home.port))
        home.json("install-bundle", *Bundle(bundle).flags)
        home.program = home.link
        starts = world.directory("starts")
        tools = world.directory("tools")
        os.symlink(os.path.join(os.environ["FIXTURES"], "fakes", "scenario"), os.path.join(tools, "claude"))
        home.environment["PATH"] += f":{tools}"
        home.json("setup")
        with open(home.file("environment"), "a") as file:
            file.write(f"FAKE_CLI_LOG={starts}\nPYTHONDONTWRITEBYTECODE=1\n")
        home.write("config.toml", f'[workspaces]\ndefault = "main"\n\n[[workspaces.repos]]\nalias = "main"\npath = "{world.work}"\n'
                   'kind = "folder"\n')
        home.json("start")
        jobs = Jobs(home, starts)
        placed(home, jobs)
        outlives(home, jobs)
        upgraded(home, jobs, Bundle(bundle, os.environ["RELEASE_VERSION"]))
        for part in (many, connections, ends, canceling, without, removal):
            part(home, jobs)
    finally:
        world.close()
    sys.exit(1 if Tally.failed else 0)


def drive(world):
    ended = under_systemd(world, "EndToEnd/scopes.py", release())
    equal("everything held under systemd", ended.returncode, 0)


if __name__ == "__main__":
    inside(*sys.argv[2:]) if sys.argv[1:2] == ["inside"] else run(drive)
