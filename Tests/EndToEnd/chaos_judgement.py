"""Whether every job had its true end and its true bytes, exactly once, and what is left."""
import collections
import os

from chaos_gateways import OUTPUT_LIMIT, disk_was_full, shortened
from chaos_plan import COMMANDS, FLOOD, PROVIDERS
from harness import body_of, check, command_of, equal, within
from installed import alive


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
            continue
        if cut:
            # A full disk takes a page of it, which may end in the middle of a character.
            got = got.removesuffix("\ufffd")
        if run["end"] is None:
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
            elif process["alive"] and job not in standing and run["end"] and run["end"]["at"] < began - 5:
                # From its last words to its end it takes a moment, and more of one where twenty others want to be served.
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
                    lies.append(f"{job} ({ask.kind}) was running as {run['pid']} from {run['began']:.3f} to {run['end']['at']:.3f}, and not told "
                                f"from {began:.3f} to {until:.3f} by gateway {chaos.slots.index(slot)}, which told of {told['runningJobs']} "
                                f"and saw {len(listed)}: {sorted(listed)}; its end is {chaos.finals.get(job)}")
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
