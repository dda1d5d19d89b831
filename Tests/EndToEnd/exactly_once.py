#!/usr/bin/python3
"""The same request is run once, whoever asks, how many at once, and through however many gateways; and a lost client finds
its run again by asking again.

The fakes write down each of their starts, so that they can be counted.
"""
import concurrent.futures
import json
import os
import random
import signal
import sqlite3
import time

from harness import DEEP, body_of, check, contains, equal, run, section, text_of, together, within

WINDOW = {"LLM_GATEWAY_DEDUP_WINDOW_MS": "3600000"}


def drive(world):
    world.fake_clis("claude", "codex", "grok")
    world.configure()
    world.environment.update(WINDOW)
    gateway = world.stdio_gateway()
    with section("fifty at once"):
        fifty(world, gateway)
    with section("asking again"):
        again(world, gateway)
    with section("what is not the same"):
        different(world, gateway)
    with section("conversations"):
        conversations(world, gateway)
    with section("callers that leave"):
        leaving(world, gateway)
    with section("gateways that die"):
        dying(world)
    equal("nothing but protocol came on standard output", gateway.noise, [])
    equal("the gateway ends well", gateway.hang_up(), 0)
    with section("another attempt"):
        attempts(world)
    with section("a provider that keeps failing"):
        failing(world)
    with section("one place for many"):
        turns(world)
    with section("too much output"):
        output(world)


def starts(world, part):
    """How many runs had these words in their prompt."""
    return sum(part in json.dumps([start["argv"], start["stdin"]]) for start in world.starts())


def leader_of(result):
    """The record of the run that a shared answer comes from; None for a run of its own."""
    return next((warning["runCorrelationId"] for warning in result.get("structuredContent", {}).get("warnings", [])
                 if warning["code"] == "shared_run"), None)


def record(gateway, identifier):
    return body_of(gateway.tool("llm_request_result", correlationId=identifier)).get("request", {})


def fifty(world, gateway):
    gateways = [gateway] + [world.stdio_gateway() for _ in range(4)]
    prompt = "@@wait 0.5@@@@say one answer for all@@"
    requests = [(by, by.begin("tools/call", {"name": "claude_request", "arguments": {"prompt": prompt, "correlationId": f"fifty-{n}"}}))
                for n in range(10) for by in gateways]
    # The ids are told apart by the gateway that they were sent to; each client has ten requests of its own.
    results = [by.finish(identifier)["result"] for by, identifier in requests]
    equal("fifty requests through five gateways have fifty answers", [text_of(result) for result in results], ["one answer for all"] * 50)
    equal("from one start", starts(world, "one answer for all"), 1)
    leaders = [result for result in results if leader_of(result) is None]
    equal("which one of them made", len(leaders), 1)
    leader = leaders[0]["structuredContent"]["correlationId"]
    equal("and the others say whose it is", {leader_of(result) for result in results} - {None}, {leader})
    identifiers = {result["structuredContent"]["correlationId"] for result in results}
    equal("each has a record of its own", len(identifiers), 50)
    records = [record(gateway, identifier) for identifier in identifiers]
    equal("with the answer", {(kept.get("status"), kept.get("response")) for kept in records}, {("completed", "one answer for all")})
    equal("and of the same job", len({kept.get("asyncJobId") for kept in records}), 1)
    with sqlite3.connect(os.path.join(world.state, "logs.db")) as database:
        counted = database.execute("SELECT COUNT(*) FROM gateway_metadata WHERE cost_usd > 0").fetchone()[0]
    equal("its cost is counted once", counted, 1)

    http = world.http_gateway()
    with concurrent.futures.ThreadPoolExecutor(50) as clients:
        def ask(_):
            status, _, body = http.post({
                "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
                    "name": "claude_request", "arguments": {"prompt": "@@wait 0.5@@@@say over HTTP@@"},
                    "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
                              "io.modelcontextprotocol/clientInfo": {"name": "drivers", "version": "1"}}}},
                {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "claude_request"})
            return status, text_of(json.loads(body).get("result", {}))
        answers = list(clients.map(ask, range(50)))
    equal("fifty connections over HTTP have fifty answers", set(answers), {(200, "over HTTP")})
    equal("from one start", starts(world, "over HTTP"), 1)
    result = gateway.tool("claude_request", prompt="@@wait 0.5@@@@say over HTTP@@")
    equal("another principal gets a run of its own", [text_of(result), leader_of(result)], ["over HTTP", None])
    equal("which is the second", starts(world, "over HTTP"), 2)
    world.end(http.process)
    for other in gateways[1:]:
        equal("the gateway ends well", other.hang_up(), 0)


def again(world, gateway):
    first = gateway.tool("codex_request", prompt="@@say said before@@")
    second = gateway.tool("codex_request", prompt="@@say said before@@")
    equal("an answer is given again", [text_of(second), leader_of(second)], ["said before", first["structuredContent"]["correlationId"]])
    usage = ("inputTokens", "outputTokens", "sessionId", "response")
    equal("as it was", [second["structuredContent"].get(name) for name in usage], [first["structuredContent"].get(name) for name in usage])
    equal("without a start", starts(world, "said before"), 1)
    other = world.stdio_gateway()
    third = other.tool("codex_request", prompt="@@say said before@@")
    equal("through another gateway too", [text_of(third), leader_of(third)], ["said before", first["structuredContent"]["correlationId"]])
    equal("that gateway ends well", other.hang_up(), 0)
    result = gateway.tool("codex_request", prompt="@@say said before@@", forceRefresh=True)
    equal("who wants a new one has it", [leader_of(result), starts(world, "said before")], [None, 2])
    off = world.stdio_gateway({"LLM_GATEWAY_DEDUP_WINDOW_MS": "0"})
    result = off.tool("codex_request", prompt="@@say said before@@")
    equal("so has who has switched it off", [leader_of(result), starts(world, "said before")], [None, 3])
    equal("that gateway ends well", off.hang_up(), 0)
    for _ in range(2):
        check("a failure", bool(gateway.tool("claude_request", prompt="@@exit 7 no luck@@").get("isError")), "isError")
    equal("is not given again", starts(world, "no luck"), 2)
    for _ in range(2):
        check("an empty answer", bool(gateway.tool("claude_request", prompt="@@empty@@ please").get("isError")), "isError")
    equal("is none, and not given again", starts(world, "@@empty@@ please"), 2)

    # A client whose connection is lost in the middle, with its gateway: it asks again, through another one.
    brief = world.stdio_gateway()
    brief.begin("tools/call", {"name": "claude_request", "arguments": {"prompt": "@@wait 2@@@@say found again@@", "correlationId": "lost"}})
    within(10, lambda: starts(world, "found again") == 1)
    brief.process.kill()
    brief.process.wait()
    result = gateway.tool("claude_request", prompt="@@wait 2@@@@say found again@@")
    equal("a client that lost its connection finds its run by asking again", [text_of(result), leader_of(result)], ["found again", "lost"])
    equal("which was started once", starts(world, "found again"), 1)
    equal("and is found by its id", record(gateway, "lost").get("response"), "found again")


def different(world, gateway):
    """One request, and what makes it another one."""
    prompt = "@@say what differs@@"
    gateway.tool("codex_request", prompt=prompt)
    other = world.directory("work", "elsewhere")
    for title, arguments in (("another format", {"outputFormat": "json"}), ("another model", {"model": "gpt-5"}),
                             ("another folder", {"workingDir": other}), ("another right", {"sandboxMode": "workspace-write"})):
        before = starts(world, "what differs")
        result = gateway.tool("codex_request", prompt=prompt, **arguments)
        equal(f"{title} is another request", [leader_of(result), starts(world, "what differs") - before], [None, 1])
    notes = world.write("work/notes.md", "the first text")
    ask = {"promptFile": notes, "outputFormat": "plain"}
    first = gateway.tool("grok_request", **ask)
    equal("a file that was not changed is the same request", leader_of(gateway.tool("grok_request", **ask)),
          first["structuredContent"].get("correlationId"))
    world.write("work/notes.md", "another text")
    result = gateway.tool("grok_request", **ask)
    equal("a file that was changed is another one", [leader_of(result), text_of(result)], [None, "ok[1]: another text"])


def conversations(world, gateway):
    session = gateway.tool("codex_request", prompt="@@say a beginning@@")["structuredContent"]["sessionId"]
    ask = {"prompt": "@@wait 1@@@@say going on@@", "sessionId": session}
    results = together("going on", {f"client {n}": lambda: gateway.tool("codex_request", **ask) for n in range(5)})
    equal("five who continue a conversation at once continue it once", [starts(world, "going on"), len(results)], [1, 5])
    equal("and one of them leads", sum(leader_of(result) is None for result in results.values()), 1)
    result = gateway.tool("codex_request", **ask)
    equal("later it is continued once more", [leader_of(result), starts(world, "going on")], [None, 2])

    # claude is told the id of a new conversation, and finds it begun when the request comes again.
    ask = {"prompt": "@@wait 1.5@@@@say named@@", "sessionId": "3b7cbb2b-5c8c-4a36-9b7d-0123456789ab"}
    request = gateway.begin("tools/call", {"name": "claude_request", "arguments": {**ask, "correlationId": "named"}})
    within(10, lambda: starts(world, "say named") == 1)
    world.write(f"home/.claude/projects/-work/{ask['sessionId']}.jsonl", "{}\n")
    result = gateway.tool("claude_request", **ask)
    equal("a conversation of the caller's own id is begun once", [text_of(result), leader_of(result), starts(world, "say named")], ["named", "named", 1])
    equal("and both are answered", text_of(gateway.finish(request)["result"]), "named")


def leaving(world, gateway):
    def begin(by, prompt, identifier):
        return by.begin("tools/call", {"name": "claude_request", "arguments": {"prompt": prompt, "correlationId": identifier}})

    prompt = "@@wait 2@@@@say for who stays@@"
    leads = begin(gateway, prompt, "leaves-1")
    within(10, lambda: starts(world, "for who stays") == 1)
    other = world.stdio_gateway()
    stays = begin(other, prompt, "stays")
    within(10, lambda: record(gateway, "stays").get("sharedWith") == "leaves-1")
    gateway.notify("notifications/cancelled", {"requestId": leads, "reason": "enough"})
    result = other.finish(stays)["result"]
    equal("a run whose first caller leaves goes on for another gateway's", [text_of(result), starts(world, "for who stays")], ["for who stays", 1])
    prompt = "@@wait 20@@@@say for nobody@@"
    requests = [begin(gateway, prompt, f"nobody-{n}") for n in range(3)]
    within(10, lambda: starts(world, "for nobody") == 1)
    pid = world.starts()[-1]["pid"]
    for request in requests:
        check("it runs while somebody waits", os.path.exists(f"/proc/{pid}"), "running")
        gateway.notify("notifications/cancelled", {"requestId": request, "reason": "enough"})
    check("and ends when the last one leaves", within(10, lambda: not os.path.exists(f"/proc/{pid}")), "gone")
    within(5, lambda: all(record(gateway, f"nobody-{n}").get("status") == "failed" for n in range(3)))
    equal("the records of all say so", [record(gateway, f"nobody-{n}").get("errorMessage") for n in range(3)], ["canceled by caller"] * 3)
    result = gateway.tool("claude_request", prompt="@@say for nobody@@")
    equal("what was canceled is not given again", [text_of(result), leader_of(result)], ["for nobody", None])
    equal("the gateway ends well", other.hang_up(), 0)


def dying(world):
    """Gateways are killed at any instant after a request came; whoever is asked next has the one answer."""
    rounds = 400 if DEEP else 40
    seed = int(os.environ.get("LLM_GATEWAY_TEST_SEED") or time.time_ns() % 1_000_000)
    print(f"# seed {seed}", flush=True)
    chance = random.Random(seed)
    heir = world.stdio_gateway()
    wrong, late = [], []
    for number in range(rounds):
        # A conversation of its own: claude would go on with the active one, which nobody is given the answer of later.
        ask = {"prompt": f"@@wait 0.1@@@@say round {number}.@@", "createNewSession": True}
        victim = world.stdio_gateway()
        victim.begin("tools/call", {"name": "claude_request", "arguments": ask})
        early = heir.begin("tools/call", {"name": "claude_request", "arguments": ask}) if chance.random() < 0.5 else None
        time.sleep(chance.random() * 0.03)
        victim.process.send_signal(signal.SIGKILL)
        victim.process.wait()
        results = [heir.finish(early)["result"]] if early else []
        results.append(heir.tool("claude_request", **ask))
        for result in results:
            if text_of(result) == f"round {number}.":
                continue
            # Reserved and never started: its waiter is told, and asks again.
            late.append(number)
            contains("what was never started says so", text_of(result), "the gateway ended before the job was started")
            result = heir.tool("claude_request", **ask)
            if text_of(result) != f"round {number}.":
                wrong.append((number, result))
        if starts(world, f"round {number}.") != 1:
            wrong.append((number, starts(world, f"round {number}.")))
    equal(f"after {rounds} killed gateways each request was run once and answered", wrong, [])
    print(f"# {len(late)} of them were killed between the reservation and the start", flush=True)
    with sqlite3.connect(os.path.join(world.state, "logs.db")) as database:
        within(10, lambda: not database.execute("SELECT COUNT(*) FROM jobs WHERE status = 'running'").fetchone()[0])
        equal("no row is left running", database.execute("SELECT id FROM jobs WHERE status = 'running'").fetchall(), [])
    jobs = os.path.join(world.state, "jobs")
    within(10, lambda: not [name for name in os.listdir(jobs) if not name.startswith(".")])
    equal("and nothing of them is left", [name for name in os.listdir(jobs) if not name.startswith(".")], [])
    equal("the heir ends well", heir.hang_up(), 0)


def attempts(world):
    """A failure that may pass is tried again, where nothing can have been done twice; also after a crash."""
    gateway = world.stdio_gateway()
    result = gateway.tool("claude_request", prompt="@@fails 2 fetch failed: ECONNRESET one@@@@say third time@@", createNewSession=True)
    seen = result.get("structuredContent", {})
    equal("a run is tried again until it answers", [text_of(result), seen.get("retryCount")], ["third time", 2])
    found = [start["argv"] for start in world.starts("claude") if "third time" in json.dumps([start["argv"], start["stdin"]])]
    equal("at the third start", len(found), 3)
    equal("each with a conversation of its own", len({argv[argv.index("--session-id") + 1] for argv in found}), 3)
    equal("the answer is of the last one", seen.get("sessionId"), found[-1][found[-1].index("--session-id") + 1])
    kept = record(gateway, seen.get("correlationId") or "?")
    equal("and its record says so", [kept.get("status"), kept.get("retryCount"), kept.get("circuitBreakerState")], ["completed", 2, "closed"])
    for title, tool, arguments in (
            ("a run that has used a tool", "claude_request", {"prompt": "@@tool@@@@fails 9 ECONNRESET two@@", "createNewSession": True}),
            ("a command that codex has run", "codex_request", {"prompt": "@@tool@@@@fails 9 ECONNRESET three@@"}),
            ("a conversation that goes on", "claude_request", {"prompt": "@@fails 9 ECONNRESET four@@", "sessionId": seen.get("sessionId")}),
            ("a CLI that does not tell its tools", "grok_request", {"prompt": "@@exit 1 ECONNRESET five@@"}),
            ("a failure that will not pass", "claude_request", {"prompt": "@@fails 9 the disk is on fire@@", "createNewSession": True})):
        before = len(world.starts())
        result = gateway.tool(tool, **arguments)
        equal(f"{title} is not tried again", [result.get("isError"), result["structuredContent"].get("retryCount"), len(world.starts()) - before],
              [True, 0, 1])

    # Killed in the pause before the next attempt: it is written down, so the next gateway makes it, once.
    brief = world.stdio_gateway()
    brief.begin("tools/call", {"name": "claude_request", "arguments": {
        "prompt": "@@fails 1 ECONNRESET six@@@@say after the crash@@", "createNewSession": True, "correlationId": "crashed"}})
    jobs = os.path.join(world.state, "jobs")
    written = within(10, lambda: [name for name in os.listdir(jobs) if os.path.exists(os.path.join(jobs, name, "attempt-1", "exit.json"))])
    brief.process.kill()
    brief.process.wait()
    check("the decision is on disk before the next attempt", bool(written), "attempt-1", written)
    within(20, lambda: record(gateway, "crashed").get("status") != "started")
    kept = record(gateway, "crashed")
    equal("another gateway goes on as it was decided", [kept.get("response"), kept.get("retryCount")], ["after the crash", 1])
    equal("with one more start", starts(world, "after the crash"), 2)
    equal("the gateway ends well", gateway.hang_up(), 0)


def failing(world):
    gateway = world.stdio_gateway()
    results = together("failing", {f"request {n}": lambda n=n: gateway.tool("codex_request", prompt=f"@@fails 9 ECONNREFUSED {n}@@")
                                   for n in range(3)})
    check("all fail", all(result.get("isError") for result in results.values()), "isError", results)
    started = len(world.starts("codex"))
    result = gateway.tool("codex_request", prompt="@@say too early@@")
    seen = result.get("structuredContent", {})
    contains("then nothing of it is tried for a while", text_of(result),
             "[CircuitBreaker] Circuit is open. Failing fast. Will not try for another")
    equal("which is a refusal that may pass", [seen.get("errorCategory"), seen.get("retryable")], ["saturated", True])
    check("with the time", 0 < seen.get("retryAfterMs", 0) <= 60_000, "up to 60000", seen)
    equal("nothing was started", len(world.starts("codex")), started)
    circuits = body_of(gateway.tool("llm_process_health"))["circuitBreakers"]
    equal("llm_process_health shows it", circuits["codex"]["state"], "open")
    kept = [record(gateway, result["structuredContent"]["correlationId"]) for result in results.values()]
    check("so do the records", "open" in [entry.get("circuitBreakerState") for entry in kept], "open", kept)
    equal("another provider is not concerned", text_of(gateway.tool("claude_request", prompt="@@say fine@@", createNewSession=True)), "fine")
    if DEEP:
        time.sleep(circuits["codex"]["retryAfterMs"] / 1000 + 0.5)
        equal("after its time it is tried again", text_of(gateway.tool("codex_request", prompt="@@say back again@@")), "back again")
        equal("and all is well", body_of(gateway.tool("llm_process_health"))["circuitBreakers"]["codex"]["state"], "closed")
    equal("the gateway ends well", gateway.hang_up(), 0)


def turns(world):
    """Two clients of one gateway that runs one job at a time: each has its turns, and who waits goes first."""
    world.configure("[limits]\nmax_running_jobs = 1\nmax_queued_jobs = 12\n")
    gateway = world.http_gateway()
    tokens = []
    for _ in range(2):
        gateway.session = None
        gateway.initialize()
        tokens.append(gateway.session)

    def ask(token, tool, prompt):
        status, _, body = gateway.post(
            {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {"prompt": prompt}}},
            {"MCP-Protocol-Version": "2025-11-25", "Mcp-Session-Id": token})
        return json.loads(body)["result"] if status == 200 else {"status": status}

    def job(token, name):
        return body_of(ask(token, "codex_request_async", f"@@wait 0.2@@@@say turn {name};@@")).get("success")

    first = len(world.starts())
    check("a client brings nine jobs", all(job(tokens[0], f"busy-{n}") for n in range(9)), "accepted")
    check("another one brings two", all(job(tokens[1], f"calm-{n}") for n in range(2)), "accepted")
    result = ask(tokens[0], "codex_request", "@@say turn waits;@@")
    equal("and the first one waits for an answer", text_of(result), "turn waits;")
    within(20, lambda: len(world.starts()) == first + 12)
    order = []
    for start in world.starts()[first:]:
        order += [word.split(";")[0] for word in json.dumps([start["argv"], start["stdin"]]).split("@@say turn ")[1:]]
    equal("all of them ran", sorted(order), sorted([f"busy-{n}" for n in range(9)] + ["calm-0", "calm-1", "waits"]))
    check("who waits did not wait for the background", order.index("waits") <= 2, "among the first three", order)
    check("the client with two did not wait for the nine", order.index("calm-1") <= 6, "among the first seven", order)
    check("each client's jobs ran in order", [name for name in order if name.startswith("busy")] == [f"busy-{n}" for n in range(9)],
          "in order", order)
    within(20, lambda: body_of(gateway.tool("llm_process_health", era="2026-07-28"))["runningJobs"] == 0)

    check("the places are taken", all(job(tokens[0], f"long-{n}") for n in range(13)), "accepted")
    began = time.monotonic()
    result = ask(tokens[0], "codex_request", "@@say one too many@@")
    took = time.monotonic() - began
    seen = result.get("structuredContent", {})
    equal("one too many is refused", [result.get("isError"), seen.get("errorCategory"), seen.get("retryable")], [True, "saturated", True])
    check("at once", took < 1, "< 1 s", f"{took:.2f} s")
    check("with a hint of when", 1000 <= seen.get("retryAfterMs", 0) <= 60_000, "1000 to 60000", seen)
    contains("in words too", text_of(result), "try again in about")
    check("another client is not kept out", job(tokens[1], "calm-2"), "accepted")
    within(20, lambda: starts(world, "turn calm-2;") == 1)
    equal("and has its turn", starts(world, "turn calm-2;"), 1)
    within(20, lambda: starts(world, "turn long-12;") == 1)
    world.end(gateway.process)
    equal("what was refused was never started", starts(world, "one too many"), 0)


def output(world):
    world.configure("[limits]\nmax_total_output_bytes = 100000\n")
    gateway = world.stdio_gateway()
    jobs = []
    for number in range(5):
        started = body_of(gateway.tool("claude_request_async", prompt=f"@@flood 40000@@ number {number}", forceRefresh=True))
        jobs.append(started["job"]["id"])
        within(20, lambda: body_of(gateway.tool("llm_job_status", jobId=jobs[-1]))["job"]["exited"])

    def kept():
        with sqlite3.connect(os.path.join(world.state, "logs.db")) as database:
            return [database.execute("SELECT length(stdout) FROM jobs WHERE id = ?", (job,)).fetchone()[0] for job in jobs]

    within(10, lambda: sum(kept()) <= 100_000)
    check("the oldest output is removed beyond the limit", sum(kept()) <= 100_000 and kept()[0] == 0 and kept()[-1] > 0, "<= 100000", kept())
    first = body_of(gateway.tool("llm_job_status", jobId=jobs[0]))["job"]
    check("what is known of its job stays", first["exited"] and first["stdoutBytes"] >= 40_000 and first["outputTruncated"], "its size", first)
    equal("the gateway ends well", gateway.hang_up(), 0)


run(drive)
