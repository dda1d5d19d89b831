#!/usr/bin/python3
"""Runs as jobs: started, watched, collected in parts, cancelled and handed over, also when their gateway is killed.

The fakes of fake_providers.py run under gateways that share a home; each section says what its users would see.
"""
import hashlib
import json
import os
import sqlite3
import time

from harness import LEGACY, MODERN, body_of, check, contains, envelope, equal, events, product, run, section, text_of, within
from installed import namespace, namespaces_work

JOB_TOOLS = ["llm_job_status", "llm_job_watch", "llm_job_result", "llm_job_cancel"]
ASYNC_TOOLS = [f"{name}_request_async" for name in ("claude", "codex", "gemini", "grok", "mistral")]
SNAPSHOT = {"id", "cli", "status", "startedAt", "finishedAt", "exitCode", "correlationId", "outputTruncated", "stdoutBytes",
            "stderrBytes", "error", "exited"}


def drive(world):
    world.fake_clis("claude", "codex", "agy", "grok", "vibe")
    world.configure()
    gateway = world.stdio_gateway()
    with section("from start to result"):
        start_to_result(gateway)
    with section("news"):
        news(world, gateway)
    with section("cancelling"):
        cancelling(world, gateway)
    with section("a killed gateway"):
        killed_gateway(world)
    with section("a full disk"):
        full_disk(world)
    with section("deferral"):
        deferral(world)
    with section("another principal"):
        another_principal(world)
    with section("without a store"):
        without_store(world)
    with section("sessions"):
        sessions(world, gateway)
    equal("nothing but protocol came on standard output", gateway.noise, [])
    equal("the gateway ends well", gateway.hang_up(), 0)
    with section("long output"):
        long_output(world)


def start(gateway, tool, prompt, **arguments):
    """Starts a job. -> its answer; the job's id is vital."""
    result = gateway.tool(f"{tool}_request_async", prompt=prompt, **arguments)
    answer = body_of(result)
    check(f"{tool} is started", not result.get("isError") and answer.get("success") is True and set(answer.get("job", {})) == SNAPSHOT
          and answer == result.get("structuredContent"), "success and a snapshot of the job, in both forms", result, vital=True)
    return answer


def state(gateway, job):
    return body_of(gateway.tool("llm_job_status", jobId=job)).get("job", {})


def ended(gateway, job, seconds=30):
    """Waits for the end of a job. -> its last snapshot."""
    end = time.monotonic() + seconds
    while True:
        seen = body_of(gateway.tool("llm_job_watch", jobId=job, until="end")).get("job", {})
        if seen.get("exited") or time.monotonic() > end:
            return seen


def collected(gateway, job, **arguments):
    return body_of(gateway.tool("llm_job_result", jobId=job, **arguments))


def start_to_result(gateway):
    for tool, arguments in (("claude", {}), ("codex", {}), ("gemini", {}), ("grok", {}), ("mistral", {})):
        began = time.monotonic()
        answer = start(gateway, tool, "@@wait 0.7@@@@say well done@@@@stderr a word@@", correlationId=f"job-{tool}", **arguments)
        job = answer["job"]["id"]
        check(f"{tool}: the answer does not wait for the run", time.monotonic() - began < 0.6, "< 0.6 s", time.monotonic() - began)
        equal(f"{tool}: what the contract has beside the job", [answer.get("approval", "absent"), answer.get("mcpServers")], [None, {"requested": []}])
        check(f"{tool}: resumable is told where it is a question", ("resumable" in answer) == (tool not in ("claude", "codex")), None, answer)
        equal(f"{tool}: its id and correlation", [answer["job"]["cli"], answer["job"]["correlationId"], answer["job"]["exited"]],
              [tool, f"job-{tool}", False])
        last = ended(gateway, job)
        equal(f"{tool}: it ends", [last.get(name) for name in ("status", "exitCode", "error", "exited")], ["completed", 0, None, True])
        check(f"{tool}: it ended after it began", last["finishedAt"] > last["startedAt"], "finishedAt > startedAt", last)
        answer = collected(gateway, job)
        result = answer["result"]
        equal(f"{tool}: the result repeats the snapshot", {name: result.get(name) for name in SNAPSHOT}, last)
        contains(f"{tool}: its standard error", result["stderr"], "a word")
        if tool == "claude":
            contains("claude: the stream as the tool's format is a stream", result["stdout"], '"type": "result"')
            parsed = answer.get("parsed", {})
            equal("claude: what the stream says", [parsed.get("text"), parsed.get("costUsd"), parsed.get("numTurns")], ["well done", 0.01, 1])
            equal("claude: with its usage", parsed.get("usage"), {
                "inputTokens": 1000, "outputTokens": 2, "cacheReadInputTokens": 200, "cacheCreationInputTokens": 300})
        else:
            equal(f"{tool}: the reply", [result["stdout"].strip(), "parsed" in answer], ["well done", False])
        record = body_of(gateway.tool("llm_request_result", correlationId=f"job-{tool}"))["request"]
        equal(f"{tool}: the request is recorded with its job", [record["status"], record["response"].strip(), record["asyncJobId"]],
              ["completed", "well done", job])
        if tool == "codex":
            raw = collected(gateway, job, rawOutput=True)["result"]["stdout"]
            check("codex: the raw output has the lines of the CLI", '"thread.started"' in raw and raw.count("\n") > 3, "JSON lines", raw)

    # A conversation goes on, and parsed has this run's cost and not the conversation's.
    first = start(gateway, "claude", "@@say one@@", createNewSession=True)
    check("a new conversation of claude has its id at once", len(first["sessionId"] or "") == 36, "a UUID", first)
    ended(gateway, first["job"]["id"])
    second = start(gateway, "claude", "@@say two@@", sessionId=first["sessionId"])
    ended(gateway, second["job"]["id"])
    equal("a job that continues a conversation tells its own cost", collected(gateway, second["job"]["id"])["parsed"]["costUsd"], 0.01)

    for record in ("metadata", "none"):
        job = start(gateway, "claude", f"@@say {record} words@@", record=record)["job"]["id"]
        equal(f"recorded as {record}: it ends", ended(gateway, job).get("status"), "completed")
        equal(f"recorded as {record}: its caller has the answer", collected(gateway, job)["parsed"]["text"], f"{record} words")
    text = start(gateway, "claude", "@@say plain words@@", outputFormat="text")["job"]["id"]
    ended(gateway, text)
    answer = collected(gateway, text)
    equal("claude as text is its reply", [answer["result"]["stdout"], "parsed" in answer], ["plain words", False])
    failed = start(gateway, "codex", "@@exit 7 the disk is on fire@@")["job"]["id"]
    equal("a run that fails has its own status", [ended(gateway, failed).get(name) for name in ("status", "exitCode")], ["failed", 7])
    contains("and its words", collected(gateway, failed)["result"]["stderr"], "the disk is on fire")
    refused = gateway.tool("claude_request_async", prompt="x", workspace="nowhere")
    equal("what is refused starts nothing", [refused.get("isError"), refused["structuredContent"]["errorCategory"]], [True, "invalid_input"])
    for tool in JOB_TOOLS:
        result = gateway.tool(tool, jobId="../../etc")
        reason = body_of(result)
        equal(f"{tool}: an unknown job", [result.get("isError"), reason.get("success"), reason.get("error") or reason.get("reason")],
              [True, False, "Job not found"])


def news(world, gateway):
    job = start(gateway, "gemini", "@@wait 1@@@@slow 3@@@@say a b c d e f g h@@")["job"]["id"]
    began = time.monotonic()
    first = body_of(gateway.tool("llm_job_watch", jobId=job, waitMs=200))
    check("a watch ends at its time when nothing happens", 0.15 < time.monotonic() - began < 1.5 and not first["job"]["exited"],
          "about 0.2 s", [time.monotonic() - began, first])
    seen = body_of(gateway.tool("llm_job_watch", jobId=job, afterProgressSeq=first["progressSeq"], waitMs=20_000))
    check("and as soon as there is output", seen["progressSeq"] > first["progressSeq"] and seen["job"]["stdoutBytes"] > 0
          and not seen["job"]["exited"], "output, and no end", seen)
    before = len(gateway.notifications)
    call = gateway.begin("tools/call", {"name": "llm_job_watch", "arguments": {"jobId": job, "until": "end"}, "_meta": {"progressToken": "w"}})
    last = body_of(gateway.finish(call)["result"])
    equal("until the end, output is no reason to answer", last["job"]["status"], "completed")
    told = [note["params"]["progress"] for note in gateway.notifications[before:] if note["method"] == "notifications/progress"]
    check("but is told as progress", len(told) >= 3 and told == sorted(set(told)), "at least 3 rising values", told)
    began = time.monotonic()
    again = body_of(gateway.tool("llm_job_watch", jobId=job, afterProgressSeq=last["progressSeq"]))
    check("a job that is over is not waited for", time.monotonic() - began < 1 and again == {**last, "hasProgressed": False}, "at once, the same", again)
    # A watcher does not hold up a gateway that stops.
    brief = world.stdio_gateway()
    silent = start(brief, "gemini", "@@wait 20@@")["job"]["id"]
    call = brief.begin("tools/call", {"name": "llm_job_watch", "arguments": {"jobId": silent, "until": "end"}})
    time.sleep(0.3)
    began = time.monotonic()
    brief.process.terminate()
    answer = brief.finish(call, 10)
    check("a watcher is answered when the gateway stops", body_of(answer["result"])["job"]["status"] == "running"
          and time.monotonic() - began < 4, "running, soon", answer)
    brief.process.wait(15)
    gateway.tool("llm_job_cancel", jobId=silent)
    ended(gateway, silent)


def cancelling(world, gateway):
    job = start(gateway, "claude", "@@grandchild@@@@silent@@")["job"]["id"]
    within(10, lambda: any("grandchild" in entry for entry in world.starts("claude")[-1:]))
    equal("a running job is cancelled", body_of(gateway.tool("llm_job_cancel", jobId=job)), {"success": True, "jobId": job})
    last = ended(gateway, job)
    equal("it is canceled", [last.get(name) for name in ("status", "error")], ["canceled", "canceled by caller"])
    world.nothing_left("with all that it had started", expected=[gateway.process], seconds=10)
    result = gateway.tool("llm_job_cancel", jobId=job)
    equal("once more there is nothing to cancel", [result.get("isError"), body_of(result)],
          [True, {"success": False, "jobId": job, "reason": "Job is already canceled"}])
    record = body_of(gateway.tool("llm_request_result", correlationId=last["correlationId"]))["request"]
    equal("the record says so", [record["status"], record["errorMessage"]], ["failed", "canceled by caller"])

    # Under another gateway of the same home: running, and waiting for its turn.
    world.configure("[limits]\nmax_running_jobs = 1\n")
    other = world.stdio_gateway()
    running = start(other, "claude", "@@stubborn@@@@silent@@")["job"]["id"]
    waiting = start(other, "claude", "@@say never@@")["job"]
    equal("the second one waits for its turn", waiting["status"], "queued")
    # To another gateway it runs once its runner has said so.
    within(10, lambda: state(gateway, running).get("status") == "running")
    equal("which every gateway of the home sees", [state(gateway, running).get("status"), state(gateway, waiting["id"]).get("status")],
          ["running", "queued"])

    def health():
        return body_of(gateway.tool("llm_process_health"))

    within(10, lambda: [entry["processHealth"] is not None for entry in health()["jobs"]] == [True])
    seen = health()
    check("and the health of the running one", [entry["jobId"] for entry in seen["jobs"]] == [running]
          and (seen["jobs"][0]["processHealth"] or {}).get("alive") is True and seen["runningJobs"] == 1, running, seen)
    equal("another gateway cancels the waiting one", body_of(gateway.tool("llm_job_cancel", jobId=waiting["id"])).get("success"), True)
    last = ended(gateway, waiting["id"])
    equal("it is canceled and was never run", [last["status"], last["error"], [entry for entry in world.starts("claude") if "never" in entry["stdin"] + str(entry["argv"])]],
          ["canceled", "canceled by caller", []])
    equal("and the running one", body_of(gateway.tool("llm_job_cancel", jobId=running)).get("success"), True)
    last = ended(gateway, running)
    equal("which is canceled", [last["status"], last["error"]], ["canceled", "canceled by caller"])
    equal("as its own gateway sees it", [state(other, job).get("status") for job in (running, waiting["id"])], ["canceled", "canceled"])
    within(10, lambda: not left_in(world))
    equal("nothing of them is left", left_in(world), [])
    equal("the other gateway ends well", other.hang_up(), 0)
    world.configure()


def left_in(world):
    """What the jobs folder holds beside the gateways' own files and what is kept aside for a caller."""
    own = (".instance-", ".adoption", ".kept-")
    return [name for name in os.listdir(os.path.join(world.state, "jobs")) if not name.startswith(own)]


def killed_gateway(world):
    """What was read before a crash and what is read after it are one text, and the run is not started again."""
    words = " ".join(f"wörd{number}→" for number in range(160))
    first, before = world.stdio_gateway(), len(world.starts("agy"))
    job = start(first, "gemini", f"@@slow 4@@@@say {words}@@", correlationId="survivor")["job"]["id"]
    text, offset = "", 0
    while len(text) < 100:
        first.tool("llm_job_watch", jobId=job, afterProgressSeq=offset)
        part = collected(first, job, stdoutOffsetChars=offset)["result"]
        text, offset = text + part["stdout"], part["stdoutNextOffsetChars"]
    first.process.kill()
    first.process.wait()
    time.sleep(0.5)
    second = world.stdio_gateway()
    equal("the job runs on", state(second, job).get("status"), "running")
    last = ended(second, job)
    equal("it ends with its true end", [last["status"], last["exitCode"]], ["completed", 0])
    part = collected(second, job, stdoutOffsetChars=offset)["result"]
    equal("what was read before and after is one text", (text + part["stdout"]).strip(), words)
    whole = collected(second, job)["result"]["stdout"]
    equal("the same that is there now", text + part["stdout"], whole)
    pieces, offset = [], 0
    while True:
        piece = collected(second, job, maxChars=1000, stdoutOffsetChars=offset)["result"]
        pieces.append(piece["stdout"])
        offset = piece["stdoutNextOffsetChars"]
        if not piece["stdoutTruncated"]:
            break
    equal("and in parts", ["".join(pieces) == whole, len(pieces), max(map(len, pieces))], [True, len(whole) // 1000 + 1, 1000])
    def recorded():
        found = body_of(second.tool("llm_request_result", correlationId="survivor"))["request"]
        return found if found["status"] != "started" else None

    # The files tell of an end before it is written down.
    record = within(10, recorded) or {"status": "started", "response": ""}
    equal("the record has it", [record["status"], record["response"].strip() == words], ["completed", True])
    equal("it was started once", len(world.starts("agy")), before + 1)

    # One that ends while no gateway is there at all.
    job = start(second, "claude", "@@wait 1@@@@say alone@@")["job"]["id"]
    second.process.kill()
    second.process.wait()
    time.sleep(2)
    third = world.stdio_gateway()
    equal("a job that ended while no gateway ran has its true end", [ended(third, job).get(name) for name in ("status", "exitCode")], ["completed", 0])
    equal("and its answer", collected(third, job)["parsed"]["text"], "alone")
    equal("the gateway ends well", third.hang_up(), 0)


def long_output(world):
    """50 MB through a job whose gateway is killed while it writes them down: read back in parts, they are the same."""
    size, line = 50_000_000, 0
    text = bytearray()
    while len(text) < size - 200:
        text += f"line {line} wörd → 🙂 {'x' * (line % 90)}\n".encode()
        line += 1
    text += b"end"
    flood = world.write("flood", text.decode())
    world.link("agy", world.write("bin/agy", f"#!/bin/sh\nexec cat {flood}\n", 0o755))
    characters = len(text.decode().encode("utf-16-le")) // 2
    first = world.stdio_gateway()
    first.tool("llm_process_health")
    job = start(first, "gemini", "warm up")["job"]["id"]
    equal("a long job ends", ended(first, job).get("stdoutBytes"), len(text))
    database = sqlite3.connect(os.path.join(world.state, "logs.db"), isolation_level=None, timeout=10)

    def held():
        return database.execute("SELECT count(*) FROM job_output WHERE job_id = ?", (job,)).fetchone()[0]

    equal("it is kept in pieces", [held(), database.execute(
        "SELECT stdout_pieces, length(CAST(stdout AS BLOB)) < 70000 FROM jobs WHERE id = ?", (job,)).fetchone()], [191, (191, 1)])
    # As if the disk were full in the middle of it.
    database.execute("CREATE TRIGGER stop BEFORE INSERT ON job_output WHEN NEW.number = 100 BEGIN SELECT RAISE(ABORT, 'no more'); END")
    job = start(first, "gemini", "much", correlationId="long")["job"]["id"]
    check("some of it is written", within(20, lambda: held() == 96), 96, held())
    check("and what is there of it is not its end", state(first, job).get("status") in ("running", "completed")
          and database.execute("SELECT status, stdout FROM jobs WHERE id = ?", (job,)).fetchone() == ("running", None))
    first.process.kill()
    first.process.wait()
    database.execute("DROP TRIGGER stop")
    second = world.stdio_gateway()
    last = ended(second, job)
    equal("the next gateway brings it to its end", [last.get(name) for name in ("status", "exitCode", "stdoutBytes")], ["completed", 0, len(text)])
    check("its files go", within(10, lambda: not left_in(world)), [], left_in(world))
    digest, offset, parts = hashlib.sha256(), 0, 0
    while True:
        part = collected(second, job, maxChars=2_000_000, stdoutOffsetChars=offset)["result"]
        digest.update(part["stdout"].encode())
        offset, parts = part["stdoutNextOffsetChars"], parts + 1
        if not part["stdoutTruncated"]:
            break
    equal("in parts it is read to its end", [offset, parts], [characters, -(-characters // 2_000_000)])
    equal("and is the same, byte by byte", digest.hexdigest(), hashlib.sha256(text).hexdigest())
    beginning = text[:8_000_000].decode(errors="ignore").encode("utf-16-le")[:4_000_000].decode("utf-16-le", "ignore")
    record = body_of(second.tool("llm_request_result", correlationId="long", maxChars=2_000_000))["request"]
    equal("its record has the beginning, and says how long it is",
          [record["status"], record["responseTruncated"], record["responseChars"], record["response"] == beginning],
          ["completed", True, characters, True])
    equal("there are the pieces of it and no others", held(), 191)
    database.close()
    equal("the gateway ends well", second.hang_up(), 0)


# Takes every byte and every inode of the disk that it runs on; what ended it is known by its code.
FILL = "cat /dev/zero 2>/dev/null >../big; n=0; while { true >../f$n; } 2>/dev/null; do n=$((n + 1)); done; exit 7"
# The same, then makes room, but for not one file more, and says a word.
FILL_WITH_FILES = FILL.replace("exit", "echo >../big; echo word >&2; exit")
# Leaves one page of it, and that is not enough for all that a job needs.
NEARLY_FILL = "cat /dev/zero >../big 2>/dev/null; truncate -s -4096 ../big"
# Starts a runner where there is no room for anything at all, then a second one beside it, and makes room.
BESIDE_A_WAITING_ONE = """cat >job/spec.json; cat /dev/zero 2>/dev/null >big; cd job
'{program}' run-job "$PWD" & first=$!
until [ -e stderr ]; do :; done
'{program}' run-job "$PWD"; echo "second $?"
rm ../big; wait $first; echo "first $?"; cat exit.json; echo; ls"""
# Runs a job on a small disk, and says what is there of it then.
ON_SMALL_DISK = """cat >job/spec.json; cd job
{before}
'{program}' run-job "$PWD"
echo "status $?"; cat exit.json; echo; ls"""


def full_disk(world):
    """How a job ended is written down also where no byte and no inode are left; where nothing can be begun, nothing is."""
    namespaces_work(world)
    disk = world.directory("disk")

    def small_disk(before, script, what=ON_SMALL_DISK):
        spec = {"version": 1, "job": {"id": "job", "provider": "grok", "correlationId": "c", "context": {}, "collected": [], "instance": "gone",
                                      "submittedAt": "2026-11-21T10:10:00.000Z", "bootId": None},
                "run": {"executable": "/bin/sh", "arguments": ["-c", script], "environment": {"PATH": "/usr/bin:/bin"},
                        "hasInput": False, "outputBytes": 1 << 20, "graceMs": 300}}
        mount = f"mount -t tmpfs -o size=256k,nr_inodes=40,mode=700 none '{disk}'; cd '{disk}'; mkdir job"
        script = what.format(before=before, program=product("llm-gateway"))
        ended = world.call([*namespace(mount), "sh", "-c", script], text=json.dumps(spec))
        lines = ended.stdout.splitlines()
        [(place, record)] = [(place, line) for place, line in enumerate(lines) if line.startswith("{")]
        return ", ".join(lines[:place]), json.loads(record), lines[place + 1:], ended.stderr

    written = ["exit.json", "runner.jsonl", "spec.json", "stderr", "stdout"]
    status, record, files, told = small_disk("", FILL)
    equal("the runner ends well", [status, told], ["status 0", ""])
    equal("its record has the true end", [record["exitCode"], record["intervention"], record["error"]], [7, None, None])
    equal("in place of what was kept for it", files, written)
    status, record, files, told = small_disk("", FILL_WITH_FILES)
    equal("without a file to be had, but with room, its first word on standard error is kept",
          [status, record["exitCode"], record["error"], record["stderrBytes"], files, told], ["status 0", 7, None, 5, written, ""])
    status, record, files, told = small_disk(NEARLY_FILL, "true")
    equal("where there is no room for a job, its runner says so", [status, record["exitCode"], record["error"]["code"], told],
          ["status 0", 126, "disk-full", ""])
    contains("in words", record["error"]["message"], "no space is left on the disk")
    equal("and has begun nothing", files, ["exit.json", "spec.json", "stderr", "stdout"])
    status, record, files, told = small_disk("", "true", BESIDE_A_WAITING_ONE)
    equal("one that waits for room to say so is the only one", [status, record["exitCode"], record["error"]["code"], files, told],
          ["second 4, first 0", 126, "disk-full", ["exit.json", "spec.json", "stderr", "stdout"], ""])


def deferral(world):
    gateway = world.stdio_gateway({"SYNC_DEADLINE_MS": "1000"})
    contains("a model is told of the deadline", gateway.initialized["instructions"], "deferred")
    began, started = time.monotonic(), len(world.starts("claude"))
    result = gateway.tool("claude_request", prompt="@@wait 2.5@@@@say late but here@@", correlationId="late")
    told = body_of(result)
    check("a call is answered at its deadline", 0.9 < time.monotonic() - began < 3 and not result.get("isError"), "after 1 s", result)
    equal("with the handle", {name: told.get(name) for name in ("status", "cli", "correlationId", "pollWith", "collectWith", "cancelWith")}, {
        "status": "deferred", "cli": "claude", "correlationId": "late", "pollWith": "llm_job_status", "collectWith": "llm_job_result",
        "cancelWith": "llm_job_cancel"})
    equal("in both forms", result.get("structuredContent"), told)
    check("with the conversation, as far as it is known", "sessionId" in told and told.get("message"), "sessionId and message", told)
    equal("the run goes on", state(gateway, told["jobId"]).get("status"), "running")
    equal("and is recorded", body_of(gateway.tool("llm_request_result", correlationId="late"))["request"]["status"], "started")
    equal("it ends by itself", ended(gateway, told["jobId"]).get("status"), "completed")
    equal("its answer is in the job", collected(gateway, told["jobId"])["parsed"]["text"], "late but here")
    record = body_of(gateway.tool("llm_request_result", correlationId="late"))["request"]
    equal("and in the record", [record["status"], record["response"]], ["completed", "late but here"])
    equal("it was started once", len(world.starts("claude")), started + 1)
    equal("the conversation is kept", told["sessionId"] in [entry["id"] for entry in body_of(gateway.tool("session_list"))["sessions"]], True)
    equal("a quick one is answered as before", text_of(gateway.tool("claude_request", prompt="@@say quick@@")), "quick")
    equal("the gateway ends well", gateway.hang_up(), 0)

    world.configure("[limits]\nsync_deadline_ms = 400\n")
    configured = world.stdio_gateway({"SYNC_DEADLINE_MS": ""})
    told = body_of(configured.tool("claude_request", prompt="@@wait 1@@@@say x@@"))
    equal("config.toml sets the deadline", told.get("status"), "deferred")
    ended(configured, told["jobId"])
    configured.hang_up()
    patient = world.stdio_gateway({"SYNC_DEADLINE_MS": "0"})
    equal("0 in the environment is never", text_of(patient.tool("claude_request", prompt="@@wait 1@@@@say patient@@")), "patient")
    patient.hang_up()
    world.configure()


def another_principal(world):
    """Two callers of one HTTP gateway: each finds its own jobs and sessions only."""
    header = "X-Principal"
    gateway = world.http_gateway({"LLM_GATEWAY_TRUSTED_PRINCIPAL_HEADER": header})

    def ask(principal, tool, **arguments):
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": envelope({"name": tool, "arguments": arguments}, MODERN)}
        _, _, body = gateway.post(message, {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": tool, header: principal,
                                            "Accept": "application/json"})
        return json.loads(body)["result"]

    talk = body_of(ask("ann", "gemini_request_async", prompt="@@slow 2@@@@say a b c d@@"))["job"]["id"]
    message = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": envelope(
        {"name": "llm_job_watch", "arguments": {"jobId": talk, "until": "end"}, "_meta": {"progressToken": "p"}}, MODERN)}
    _, answered, body = gateway.post(message, {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "llm_job_watch", header: "ann"})
    equal("over HTTP news come as a stream", answered.get("content-type"), "text/event-stream")
    *told, last = events(body)
    check("of progress, and then the answer", len(told) >= 2 and all(note["method"] == "notifications/progress" for note in told)
          and body_of(last["result"])["job"]["status"] == "completed", "progress, completed", [told, last])

    begun = body_of(ask("ann", "claude_request_async", prompt="@@wait 2@@@@say for ann@@", createNewSession=True))
    job = begun["job"]["id"]
    for moment in ("running", "completed"):
        for tool, arguments in (("llm_job_status", {}), ("llm_job_result", {}), ("llm_job_watch", {"waitMs": 0}), ("llm_job_cancel", {})):
            result = ask("bob", tool, jobId=job, **arguments)
            said = body_of(result)
            equal(f"{moment}: {tool} of somebody else's job", [result.get("isError"), said.get("error") or said.get("reason")], [True, "Job not found"])
        health = body_of(ask("bob", "llm_process_health"))
        equal(f"{moment}: its process is not shown", health["jobs"], [])
        if moment == "running":
            equal("its owner sees it run", body_of(ask("ann", "llm_job_status", jobId=job))["job"]["status"], "running")
            body_of(ask("ann", "llm_job_watch", jobId=job, until="end"))
    equal("its owner has the answer", body_of(ask("ann", "llm_job_result", jobId=job))["parsed"]["text"], "for ann")
    within(10, lambda: body_of(ask("ann", "session_list", cli="claude"))["total"])
    session = body_of(ask("ann", "session_list", cli="claude"))["sessions"][0]["id"]
    equal("bob sees no session", body_of(ask("bob", "session_list"))["total"], 0)
    ask("ann", "session_set_active", cli="claude", sessionId=session)
    made = body_of(ask("bob", "session_create", cli="claude"))["session"]
    equal("each has an active one of its own", [
        made["isActive"], body_of(ask("ann", "session_list"))["activeSessions"]["claude"]], [True, session])
    for tool, arguments in (("session_get", {"sessionId": session}), ("session_delete", {"sessionId": session}),
                            ("session_set_active", {"cli": "claude", "sessionId": session})):
        equal(f"{tool} of somebody else's session", ask("bob", tool, **arguments).get("isError"), True)
    equal("session_clear_all takes bob's own", body_of(ask("bob", "session_clear_all")), {"success": True, "deletedCount": 1, "cli": "all"})
    equal("ann still has hers", body_of(ask("ann", "session_list", cli="claude"))["total"], 1)
    gateway.process.terminate()
    equal("the gateway ends well", gateway.process.wait(20), 0)


def without_store(world):
    """One gate decides about the tools, the deferral and what a model is told."""
    for title, table, deadline in (("backend none", '[persistence]\nbackend = "none"\n', "400"),
                                   ("asyncJobsEnabled = false", "[persistence]\nasyncJobsEnabled = false\n", "400")):
        world.configure(table)
        for era in (LEGACY, MODERN):
            gateway = world.stdio_gateway({"SYNC_DEADLINE_MS": deadline}, era=era)
            names = [tool["name"] for tool in gateway.request("tools/list")["tools"]]
            equal(f"{title}, {era}: no tool for jobs", [name for name in names if name.endswith("_async") or name in JOB_TOOLS], [])
            said = gateway.initialized["instructions"] if era == LEGACY else gateway.request("server/discover")["instructions"]
            equal(f"{title}, {era}: no word of them", [word for word in ("_async", "llm_job", "deferred", "jobId") if word in said], [])
            result = gateway.tool("claude_request", prompt="@@wait 1@@@@say as long as it takes@@")
            equal(f"{title}, {era}: a call waits for its answer", text_of(result), "as long as it takes")
            health = body_of(gateway.tool("llm_process_health"))
            equal(f"{title}, {era}: and health says so", health["persistence"]["asyncJobsEnabled"], False)
            equal(f"{title}, {era}: the gateway ends well", gateway.hang_up(), 0)
    world.configure()
    gateway = world.stdio_gateway()
    names = [tool["name"] for tool in gateway.request("tools/list")["tools"]]
    equal("with a store every one is there", [name for name in ASYNC_TOOLS + JOB_TOOLS if name not in names], [])
    equal("and health says so, too", body_of(gateway.tool("llm_process_health"))["persistence"]["asyncJobsEnabled"], True)
    gateway.hang_up()


def sessions(world, gateway):
    other = world.stdio_gateway()
    gateway.tool("session_clear_all")
    made = body_of(gateway.tool("session_create", cli="codex", description="the parser"))["session"]
    equal("a session is made", [made["cli"], made["description"], made["isActive"], len(made["id"])], ["codex", "the parser", True, 36])
    second = body_of(other.tool("session_create", cli="codex", setAsActive=False))["session"]
    equal("one more by another gateway, which is not active", [second["isActive"], second["description"]], [False, "Codex Session"])
    listing = body_of(gateway.tool("session_list", cli="codex"))
    equal("both are in the list", [listing["total"], [entry["id"] for entry in listing["sessions"]], listing["activeSessions"]["codex"]],
          [2, [made["id"], second["id"]], made["id"]])
    equal("the other is made active", body_of(gateway.tool("session_set_active", cli="codex", sessionId=second["id"])),
          {"success": True, "cli": "codex", "activeSessionId": second["id"]})
    equal("as the other gateway sees", body_of(other.tool("session_get", sessionId=second["id"]))["session"]["isActive"], True)
    result = gateway.tool("session_set_active", cli="claude", sessionId=second["id"])
    equal("not for another provider", [result.get("isError"), body_of(result)["error"]],
          [True, "Session not found or does not belong to the specified provider"])
    equal("none is active", body_of(other.tool("session_set_active", cli="codex", sessionId=None)),
          {"success": True, "cli": "codex", "activeSessionId": None})
    equal("one is deleted", body_of(other.tool("session_delete", sessionId=made["id"])),
          {"success": True, "deletedSession": {"id": made["id"], "cli": "codex", "description": "the parser"}})
    result = gateway.tool("session_delete", sessionId=made["id"])
    equal("once", [result.get("isError"), body_of(result)["error"]], [True, "Session not found"])
    gateway.tool("session_create", cli="grok-api")
    equal("those of one provider are cleared", body_of(gateway.tool("session_clear_all", cli="codex")),
          {"success": True, "deletedCount": 1, "cli": "codex"})
    equal("and the rest", [body_of(other.tool("session_clear_all")), body_of(gateway.tool("session_list"))["total"]],
          [{"success": True, "deletedCount": 1, "cli": "all"}, 0])
    equal("the other gateway ends well", other.hang_up(), 0)


run(drive)
