#!/usr/bin/python3
"""Gateways of several machines on one PostgreSQL database: a job is found, watched, shared and cancelled through any of them, the
server may restart while jobs run, and the jobs of a machine that is gone are orphaned with its name.

The machines are host names of their own (uts_namespaces(7)) with homes of their own; a gateway never looks into the files of
another host's. The server is started here and gone at the end.
"""
import concurrent.futures
import glob
import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time

from harness import DEEP, Skip, body_of, check, contains, equal, processes, product, reap, run, section, skip, text_of, within

PASSWORD = "not-to-be-told"


class Server:
    """A PostgreSQL server, reached by a socket in a directory of its own."""

    def __init__(self, world):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
        if not found:
            raise Skip("no PostgreSQL server is installed")
        self.programs = os.path.dirname(found[-1])
        self.directory = tempfile.mkdtemp(prefix="llm-gateway-postgres-", dir="/tmp")
        world.undo.append(self.remove)
        self.who = []
        if os.getuid() == 0:
            # initdb(1) does nothing for root.
            user = pwd.getpwnam("nobody")
            os.chown(self.directory, user.pw_uid, user.pw_gid)
            self.who = ["/usr/bin/setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        self.data = os.path.join(self.directory, "data")
        self.program("initdb", "-D", self.data, "-U", "gateway", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()

    @property
    def dsn(self):
        return f"postgresql://gateway:{PASSWORD}@/postgres?host={self.directory}"

    def program(self, name, *arguments):
        subprocess.run([*self.who, os.path.join(self.programs, name), *arguments], check=True, cwd="/", timeout=60,
                       env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    def start(self):
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.directory}' -c fsync=off"
        self.program("pg_ctl", "-D", self.data, "-w", "-l", os.path.join(self.directory, "log"), "-o", options, "start")

    def stop(self, how="fast"):
        self.program("pg_ctl", "-D", self.data, "-w", "-m", how, "stop")
        reap()

    def remove(self):
        if os.path.exists(os.path.join(self.data, "postmaster.pid")):
            self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    def ask(self, query):
        """The first column of a query's rows."""
        line = ["psql", "-h", self.directory, "-U", "gateway", "-d", "postgres", "-Atc", f"SET search_path = llm_gateway; {query}"]
        out = subprocess.run(line, check=True, capture_output=True, text=True, timeout=30, env={"PATH": "/usr/bin:/bin"}).stdout
        return out.splitlines()[1:]


def separate():
    """The beginning of a command line that has a host name of its own."""
    start = ["/usr/bin/unshare", "--uts"] + ([] if os.getuid() == 0 else ["--user", "--map-root-user"])
    if subprocess.run([*start, "/bin/hostname", "probe"], capture_output=True).returncode != 0:
        raise Skip("no host name of its own can be had here (unshare --uts)")
    return start


def home_of(world, host):
    return os.path.join(world.home, host)


def gateway(world, server, host, more=None):
    """A gateway on a machine of that name."""
    home = world.directory("home", host)
    with open(os.path.join(world.state, "config.toml")) as file:
        world.write(os.path.join(home, "config.toml"), file.read())
    first, *rest = separate()
    arguments = [*rest, "/bin/sh", "-c", f'hostname {host} && exec "$0" "$@"', product("llm-gateway"), "--transport=stdio"]
    environment = {"LLM_GATEWAY_HOME": home, "LLM_GATEWAY_DEDUP_WINDOW_MS": "3600000", **(more or {})}
    return world.stdio_gateway(environment, arguments=arguments, program=first)


def drive(world):
    separate()
    server = Server(world)
    world.fake_clis("claude", "codex")
    world.configure(f'[persistence]\nbackend = "postgres"\ndsn = "{server.dsn}"\n')
    alpha, beta = gateway(world, server, "alpha"), gateway(world, server, "beta")
    with section("found anywhere"):
        anywhere(world, alpha, beta)
    with section("run once"):
        once(world, alpha, beta)
    with section("cancelled from elsewhere"):
        cancelled(alpha, beta)
    with section("conversations"):
        conversations(alpha, beta)
    with section("a server that restarts"):
        restarts(world, server, alpha, beta)
    with section("a machine that is gone"):
        if DEEP:
            gone(world, server, beta)
        else:
            skip("orphaned with its name", "takes more than 90 s; runs with setup/test --deep")
    for each in (alpha, beta):
        equal("nothing but protocol came on standard output", each.noise, [])
        equal("the gateway ends well", each.hang_up(), 0)
        check("the password is in no log", PASSWORD not in "".join(each.log))
    for host in ("alpha", "beta"):
        equal("no database is in the home", os.path.exists(os.path.join(home_of(world, host), "logs.db")), False)
        left = [name for name in os.listdir(os.path.join(home_of(world, host), "jobs")) if not name.startswith(".")]
        equal("nor is anything of a job", left, [])
    with section("the doctor"):
        doctor(world, server)


def start(by, prompt, **arguments):
    """A job that runs. -> its id"""
    body = body_of(by.tool("claude_request_async", prompt=prompt, **arguments))
    return body["job"]["id"] if "job" in body else body.get("jobId")


def status(by, job):
    return body_of(by.tool("llm_job_status", jobId=job)).get("job", {})


def starts(world, part):
    return sum(part in json.dumps([start["argv"], start["stdin"]]) for start in world.starts())


def anywhere(world, alpha, beta):
    job = start(alpha, "@@wait 3@@@@say from alpha@@", correlationId="anywhere")
    seen = status(beta, job)
    equal("the other machine sees that it runs, and where", [seen.get("status"), seen.get("host")], ["running", "alpha"])
    part = body_of(beta.tool("llm_job_result", jobId=job))
    contains("its output says where it is", part.get("message", ""), "'alpha'")
    began = time.monotonic()
    over = body_of(beta.tool("llm_job_watch", jobId=job, until="end", waitMs=30000)).get("job", {})
    equal("who waits for its end is woken", [over.get("status"), over.get("exitCode")], ["completed", 0])
    check("when it ends", time.monotonic() - began < 15, "less than 15 s", time.monotonic() - began)
    contains("and has its output", json.dumps(body_of(beta.tool("llm_job_result", jobId=job))), "from alpha")
    record = body_of(beta.tool("llm_request_result", correlationId="anywhere")).get("request", {})
    equal("and its record", [record.get("status"), record.get("response")], ["completed", "from alpha"])
    equal("the CLI was started once", starts(world, "from alpha"), 1)
    equal("a job that nobody has is found by nobody", beta.tool("llm_job_status", jobId="none").get("isError"), True)


def once(world, alpha, beta):
    prompt = "@@wait 2@@@@say one for all machines@@"
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        results = list(clients.map(lambda by: by.tool("claude_request", prompt=prompt), [alpha, beta] * 4))
    equal("every caller has the answer", [text_of(result) for result in results], ["one for all machines"] * 8)
    equal("from one start", starts(world, "one for all machines"), 1)
    result = beta.tool("claude_request", prompt=prompt)
    equal("also who asks later", [text_of(result), starts(world, "one for all machines")], ["one for all machines", 1])


def cancelled(alpha, beta):
    job = start(alpha, "@@wait 60@@@@say too late@@")
    within(10, lambda: status(alpha, job).get("status") == "running")
    equal("the wish is taken", body_of(beta.tool("llm_job_cancel", jobId=job)).get("success"), True)
    over = body_of(beta.tool("llm_job_watch", jobId=job, until="end", waitMs=30000)).get("job", {})
    equal("and followed", [over.get("status"), over.get("error")], ["canceled", "canceled by caller"])
    equal("once", body_of(beta.tool("llm_job_cancel", jobId=job)).get("reason"), "Job is already canceled")


def conversations(alpha, beta):
    made = body_of(alpha.tool("session_create", cli="codex", description="of alpha"))["session"]["id"]
    seen = body_of(beta.tool("session_list", cli="codex"))
    check("a conversation of one machine is the other's", made in json.dumps(seen), made, seen)
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        list(clients.map(lambda n: (alpha, beta)[n % 2].tool("session_create", cli="grok", description=f"number {n}"), range(20)))
    counts = [len(body_of(by.tool("session_list", cli="grok"))["sessions"]) for by in (alpha, beta)]
    equal("of those made at once none is lost", counts, [20, 20])
    beta.tool("session_delete", sessionId=made)
    equal("what is deleted is gone", made in json.dumps(body_of(alpha.tool("session_list"))), False)


def restarts(world, server, alpha, beta):
    jobs = [start((alpha, beta)[n % 2], f"@@wait {1 + n / 2}@@@@say kept {n}.@@") for n in range(8)]
    waiting = [by.begin("tools/call", {"name": "codex_request", "arguments": {"prompt": "@@wait 2@@@@say waited for@@", "forceRefresh": True}})
               for by in (alpha, beta)]
    for how in ("fast", "immediate"):
        server.stop(how)
        server.start()
    answers = [text_of(by.finish(identifier, timeout=60)["result"]) for by, identifier in zip((alpha, beta), waiting)]
    equal("callers that waited have their answers", answers, ["waited for"] * 2)
    ended = lambda: all(status(by, job).get("status") == "completed" for by in (alpha, beta) for job in jobs)
    check("every job is completed, for both machines", within(40, ended), True, [status(beta, job) for job in jobs])
    for number, job in enumerate(jobs):
        text = json.dumps(body_of(alpha.tool("llm_job_result", jobId=job)))
        check(f"job {number} has its output", f"kept {number}." in text, f"kept {number}.", text)
    equal("each was run once", [starts(world, f"kept {number}.") for number in range(8)], [1] * 8)
    equal("and is there once", server.ask("SELECT COUNT(*) FROM jobs WHERE status = 'completed' AND stdout_bytes IS NULL"), ["0"])


def gone(world, server, beta):
    """The gateway of a machine and everything that it runs disappear at one moment."""
    gamma = gateway(world, server, "gamma", {"GAMMA": "1"})
    job = start(gamma, "@@wait 300@@@@say never heard@@")
    within(10, lambda: starts(world, "never heard") == 1)
    equal("it runs there", [status(beta, job).get("status"), status(beta, job).get("host")], ["running", "gamma"])
    # The gateway has its home in its environment, the runner in its arguments, and the CLI the job's id.
    marks = home_of(world, "gamma").encode(), job.encode()
    ended = []
    for pid in processes():
        try:
            with open(f"/proc/{pid}/environ", "rb") as environment, open(f"/proc/{pid}/cmdline", "rb") as line:
                told = environment.read() + line.read()
        except OSError:
            continue
        if any(mark in told for mark in marks):
            os.kill(pid, signal.SIGKILL)
            ended.append(pid)
    check("its gateway, runner and CLI are gone", len(ended) >= 3, "3 processes", len(ended))
    reap()
    check("the job is orphaned", within(180, lambda: status(beta, job).get("status") == "orphaned"), "orphaned", status(beta, job))
    contains("with the name of its machine", status(beta, job).get("error", ""), "the gateway on 'gamma'")
    equal("and is not run again", starts(world, "never heard"), 1)


def doctor(world, server):
    line = [product("llm-cli-gateway"), "doctor", "--json"]
    def findings():
        out = world.call(line).stdout
        check("the password is not in the report", PASSWORD not in out)
        return [finding for finding in json.loads(out)["findings"] if finding["code"].startswith("database")]
    equal("the doctor finds nothing wrong with a server that is there", findings(), [])
    masked(world)
    server.stop()
    found = findings()
    equal("and finds one that is away", [finding["code"] for finding in found], ["database-unreachable"])
    contains("by its name", json.dumps(found), server.directory)


def masked(world):
    """A machine without the client library."""
    libraries = [path for path in glob.glob("/usr/lib/*/libpq.so.5*") if not os.path.islink(path)]
    mount = " && ".join(f"mount --bind /dev/null {path}" for path in libraries)
    start = ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", f'{mount} && exec "$0" "$@"']
    if os.getuid() != 0 or subprocess.run([*start, "/bin/true"], capture_output=True).returncode != 0:
        skip("without libpq it says which package to install", "its file can't be masked here")
        return
    ended = world.call([*start, product("llm-gateway"), "--transport=stdio"], text="")
    check("without libpq the gateway does not start", ended.returncode != 0, "a failure", ended.returncode)
    contains("and says which package to install", ended.stderr, "apt install libpq5")
    report = json.loads(world.call([*start, product("llm-cli-gateway"), "doctor", "--json"]).stdout)
    contains("so does the doctor", json.dumps(report["findings"]), "libpq-missing")


run(drive)
