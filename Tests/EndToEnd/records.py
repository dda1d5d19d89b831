#!/usr/bin/python3
"""What is kept of requests and what is not: retention, recording in part or not at all, forgetting, exporting."""
import json
import os
import sqlite3

from harness import body_of, check, contains, equal, product, run, section, text_of, within

PAST = "2020-01-01T00:00:00.000Z"


def drive(world):
    world.fake_clis("claude", "codex")
    with section("what is recorded"):
        recording(world)
    with section("what has expired"):
        expiry(world)
    with section("forgetting and exporting"):
        forgetting(world)
    with section("the budget of a day"):
        budget(world)


def files_with(world, secret):
    """Every file of the home that holds a text, the database's log among them."""
    found = []
    for folder, _, names in os.walk(world.state):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                if secret.encode() in file.read():
                    found.append(os.path.relpath(path, world.state))
    return sorted(found)


def database(world):
    return sqlite3.connect(os.path.join(world.state, "logs.db"), isolation_level=None, timeout=10)


def rows(world, query, *values):
    with database(world) as connection:
        return connection.execute(query, values).fetchall()


def recording(world):
    world.configure()
    gateway = world.stdio_gateway()
    for record, stays in (("full", True), ("metadata", False), ("none", False)):
        prompt, answer, error = f"prompt{record}Q7", f"answer{record}Q7", f"error{record}Q7"
        result = gateway.tool("claude_request", prompt=f"{prompt} @@say {answer}@@", record=record, correlationId=f"c-{record}",
                              createNewSession=True)
        equal(f"record={record} is answered", text_of(result).strip(), answer)
        failed = gateway.tool("claude_request", prompt=f"{prompt} @@exit 3 {error}@@", record=record, correlationId=f"f-{record}",
                              createNewSession=True)
        check(f"record={record} fails with the CLI's words", error in text_of(failed), error, failed)
        # A directory that is recorded goes after the answer.
        within(5, lambda: not [name for name in os.listdir(os.path.join(world.state, "jobs")) if name[0] != "."])
        where = {text: files_with(world, text) for text in (prompt, answer, error)}
        if stays:
            check("full: prompt, answer and error are kept", all(where.values()), "files with each", where)
        else:
            equal(f"{record}: none of prompt, answer and error is in any file of the home", where, {prompt: [], answer: [], error: []})
    parts = {"system": "be brief", "context": "c" * 40, "task": "@@say parted@@", "cacheControl": {"context": True}}
    for number in range(2):
        gateway.tool("claude_request", promptParts={**parts, "task": f"@@say parted{number}@@"}, correlationId=f"p{number}", createNewSession=True)
    gateway.tool("claude_request", promptParts=parts, record="metadata", correlationId="p2", createNewSession=True)
    facts = rows(world, "SELECT system, stable_prefix_hash, stable_prefix_tokens, cache_control_blocks, cache_control_ttl_seconds FROM "
                        "requests WHERE id IN ('p0', 'p1', 'p2') ORDER BY id")
    equal("prompts in parts are recorded with what they share", [facts[0] == facts[1], facts[0][0], len(facts[0][1]), facts[0][2:]],
          [True, "be brief", 64, (13, 1, 300)])
    equal("and without a digest where no prompt is kept", facts[2][:3], (None, None, 13))
    equal("metadata keeps how it ended and what it used, without texts",
          rows(world, "SELECT prompt, response, status, exit_code, duration_ms > 0 FROM requests JOIN gateway_metadata ON "
                      "request_id = id WHERE id IN ('c-metadata', 'f-metadata') ORDER BY id"),
          [("", "", "completed", 0, 1), ("", "", "failed", 3, 1)])
    equal("and of the job its state", rows(world, "SELECT status, stdout, stderr, args_json, request_key FROM jobs WHERE "
                                           "correlation_id = 'c-metadata'"), [("completed", "", "", "[]", "")])
    equal("none leaves no row", [rows(world, f"SELECT count(*) FROM {table} WHERE {column} LIKE '%-none'")[0][0] for table, column in
                                 (("requests", "id"), ("gateway_metadata", "request_id"), ("jobs", "correlation_id"))], [0, 0, 0])
    check("llm_request_result finds none of it", body_of(gateway.tool("llm_request_result", correlationId="c-none"))["success"] is False)
    equal("nothing is left in the spool", [name for name in os.listdir(os.path.join(world.state, "jobs")) if "instance" not in name
                                           and name != ".adoption"], [])

    job = body_of(gateway.tool("claude_request_async", prompt="@@wait 1@@@@say laterQ7@@", record="none", createNewSession=True))["job"]["id"]
    finished = body_of(gateway.tool("llm_job_watch", jobId=job, until="end"))["job"]["status"]
    equal("a job in the background that is not recorded ends", finished, "completed")
    equal("it is outside of what is recorded", {name.split("/")[1] for name in files_with(world, "laterQ7")}, {f".kept-{job}"})
    check("its caller collects it", "laterQ7" in body_of(gateway.tool("llm_job_result", jobId=job, rawOutput=True))["result"]["stdout"])
    equal("nothing of it is in the database", [name for name in files_with(world, job) if not name.startswith("jobs/")], [])
    equal("the gateway ends well", gateway.hang_up(), 0)
    heir = world.stdio_gateway()
    check("also from the next gateway", "laterQ7" in body_of(heir.tool("llm_job_result", jobId=job, rawOutput=True))["result"]["stdout"])
    directory = os.path.join(world.state, "jobs", f".kept-{job}")
    with open(os.path.join(directory, "end.json")) as file:
        record = json.load(file)
    past = json.loads(json.dumps(record).replace(record["finishedAt"], PAST)) if "finishedAt" in record else None
    check("its record says when it ended", past is not None, "finishedAt", record)
    with open(os.path.join(directory, "end.json"), "w") as file:
        json.dump(past, file)
    equal("the heir ends well", heir.hang_up(), 0)
    last = world.stdio_gateway()
    check("when its time is over, it is removed", within(10, lambda: not os.path.exists(directory)))
    equal("the last one ends well", last.hang_up(), 0)

    world.configure('[persistence]\nrecord = "metadata"\n')
    strict = world.stdio_gateway()
    strict.tool("claude_request", prompt="widerQ7 @@say widerQ7@@", record="full", createNewSession=True)
    equal("a request cannot widen what the configuration allows", files_with(world, "widerQ7"), [])
    equal("that gateway ends well", strict.hang_up(), 0)
    world.configure()


def expiry(world):
    with database(world) as connection:
        connection.executemany("INSERT INTO jobs (id, correlation_id, cli, status, stdout, started_at, expires_at) VALUES "
                               "(?, ?, 'claude', 'completed', 'oldQ7', ?, ?)", [(f"x{n}", f"x{n}", PAST, PAST) for n in range(2000)])
        connection.executemany("INSERT INTO requests (id, cli, prompt, datetime_utc, expires_at) VALUES (?, 'claude', 'oldQ7', ?, ?)",
                               [(f"x{n}", PAST, PAST) for n in range(2000)] + [("reference", PAST, None)])
    connection.close()
    gateway = world.stdio_gateway()
    answered = gateway.tool("claude_request", prompt="@@say meanwhile@@", createNewSession=True)
    equal("a gateway answers while it removes what has expired", text_of(answered).strip(), "meanwhile")
    gone = within(20, lambda: rows(world, "SELECT count(*) FROM jobs WHERE expires_at = ?", PAST) == [(0,)]
                  and rows(world, "SELECT count(*) FROM requests WHERE expires_at = ?", PAST) == [(0,)])
    check("expired jobs and requests are gone", gone)
    equal("what the reference wrote is kept", rows(world, "SELECT prompt FROM requests WHERE id = 'reference'"), [("oldQ7",)])
    equal("the gateway ends well", gateway.hang_up(), 0)


def manager(world, *arguments):
    """-> (status, standard output)"""
    done = world.call([product("llm-cli-gateway"), *arguments])
    return done.returncode, done.stdout if isinstance(done.stdout, str) else done.stdout.decode()


def forgetting(world):
    jobs = os.path.join(world.state, "jobs")
    gateway = world.stdio_gateway()
    kept = {}
    for number, tool in enumerate(("claude_request", "codex_request", "claude_request", "codex_request")):
        body = gateway.tool(tool, prompt=f"ask{number}Z9 @@say reply{number}Z9@@", correlationId=f"z{number}",
                            createNewSession=True)["structuredContent"]
        kept[number] = body["sessionId"]
    # What an earlier program removed without overwriting it.
    with database(world) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("INSERT INTO requests (id, cli, prompt, datetime_utc) VALUES ('ghost', 'claude', ?, ?)",
                           ("ghostZ9 " * 4000, PAST))
        connection.execute("INSERT INTO requests (id, cli, prompt, datetime_utc) VALUES ('elder', 'codex', 'elderZ9', ?)", (PAST,))
        connection.execute("DELETE FROM requests WHERE id = 'ghost'")
    connection.close()
    running = gateway.begin("tools/call", {"name": "claude_request", "arguments": {
        "prompt": "longZ9 @@wait 3@@@@say lateZ9@@", "correlationId": "zlong", "createNewSession": True}})
    within(10, lambda: rows(world, "SELECT count(*) FROM jobs WHERE status = 'running'") == [(1,)])

    status, out = manager(world, "export", "--request", "z1")
    lines = [json.loads(line) for line in out.splitlines()]
    equal("export gives a request and its job, one a line", [status, [line["type"] for line in lines]], [0, ["request", "job"]])
    equal("with prompt, answer and metadata", [lines[0]["prompt"], lines[0]["response"], lines[0]["metadata"]["status"]],
          ["ask1Z9 @@say reply1Z9@@", "reply1Z9", "completed"])
    file = os.path.join(world.work, "records.jsonl")
    status, out = manager(world, "export", file, "--provider", "claude", "--json")
    with open(file) as exported:
        lines = [json.loads(line) for line in exported]
    equal("export into a file says what it wrote", [status, json.loads(out)["requests"], json.loads(out)["jobs"]],
          [0, sum(line["type"] == "request" for line in lines), sum(line["type"] == "job" for line in lines)])
    check("and has the provider's alone", {line["cli"] for line in lines} == {"claude"})
    equal("only its owner reads the file", oct(os.stat(file).st_mode & 0o777), "0o600")
    status, out = manager(world, "export", file, "--json")
    equal("a file that is there is not replaced", [status, json.loads(out)["error"]["code"]], [2, "file-exists"])

    status, out = manager(world, "forget", "--json")
    equal("forget without anything said is refused", [status, json.loads(out)["error"]["code"]], [2, "usage"])
    status, out = manager(world, "forget", "--request", "z0", "--dry-run", "--json")
    plan = json.loads(out)
    equal("a rehearsal counts", [status, plan["dry_run"], plan["requests"], plan["jobs"], plan["scrubbed"]], [0, True, 1, 1, None])
    check("and removes nothing", files_with(world, "reply0Z9"))

    status, out = manager(world, "forget", "--request", "z0", "--json")
    done = json.loads(out)
    equal("forget by correlation id, beside a gateway", [status, done["requests"], done["jobs"], done["sessions"], done["scrubbed"]],
          [0, 1, 1, 0, True])
    equal("its bytes are in no file", [files_with(world, text) for text in ("ask0Z9", "reply0Z9", "ghostZ9")], [[], [], []])
    check("the others are there", all(files_with(world, f"reply{number}Z9") for number in (1, 2, 3)))
    status, out = manager(world, "forget", "--session", kept[1], "--json")
    done = json.loads(out)
    equal("forget by session takes its record, too", [done["requests"], done["jobs"], done["sessions"]], [1, 1, 1])
    equal("in no file either", [files_with(world, text) for text in ("ask1Z9", "reply1Z9", kept[1])], [[], [], []])
    status, out = manager(world, "forget", "--provider", "claude", "--json")
    done = json.loads(out)
    equal("a run that goes on is left alone and counted", [status, done["left_running"]], [0, 1])
    equal("the provider's other requests are gone", [files_with(world, "reply2Z9"), bool(files_with(world, "reply3Z9"))], [[], True])
    answer = gateway.finish(running)["result"]
    equal("and answers", text_of(answer).strip(), "lateZ9")
    equal("and is recorded", body_of(gateway.tool("llm_request_result", correlationId="zlong"))["request"]["status"], "completed")

    status, out = manager(world, "forget", "--older-than", "1h", "--json")
    done = json.loads(out)
    equal("forget by age leaves what is younger", [status, done["requests"], files_with(world, "elderZ9"), bool(files_with(world, "lateZ9"))],
          [0, 1, [], True])
    equal("the gateway works on", text_of(gateway.tool("codex_request", prompt="@@say stillZ9@@", createNewSession=True)).strip(), "stillZ9")
    equal("the gateway ends well", gateway.hang_up(), 0)

    status, out = manager(world, "forget", "--all", "--json")
    done = json.loads(out)
    check("forget everything", status == 0 and done["requests"] > 0 and done["scrubbed"] is True, "a count", done)
    equal("leaves none of it", [files_with(world, text) for text in ("Z9", "Q7")], [[], []])
    status, out = manager(world, "forget", "--all", "--text")
    contains("once more there is nothing", out, "there is nothing to forget")
    equal("the spool is empty", [name for name in os.listdir(jobs) if name[0] != "."], [])


def budget(world):
    world.configure("[budget]\nruns_per_day = 40\n[budget.codex]\nruns_per_day = 5\n")
    with database(world) as connection:
        connection.execute("DELETE FROM budget_days")
    connection.close()
    gateways = [world.stdio_gateway() for _ in range(2)]
    before = len(world.starts("codex"))
    calls = [(gateway, gateway.begin("tools/call", {"name": "codex_request", "arguments": {
        "prompt": f"number {number} @@say done@@", "createNewSession": True}})) for number in range(25) for gateway in gateways]
    answers = [gateway.finish(call)["result"] for gateway, call in calls]
    refused = [answer["structuredContent"] for answer in answers if answer.get("isError")]
    equal("of 50 requests at once through two gateways five run", [50 - len(refused), len(world.starts("codex")) - before], [5, 5])
    body = refused[0]
    equal("the others are refused by kind, to be tried again", [{part["errorCategory"] for part in refused}, body["retryable"]],
          [{"budget_exceeded"}, True])
    check("and told when: before the end of the day", 0 < body["retryAfterMs"] <= 86_400_000, "milliseconds of one day at most", body)
    contains("with the figures", body["response"], "the budget of codex for today is used up: 5 of 5 runs")
    equal("another provider runs", text_of(gateways[0].tool("claude_request", prompt="@@say other@@", createNewSession=True)).strip(), "other")
    status, out = manager(world, "doctor", "--json")
    report = json.loads(out)
    equal("doctor shows what is used", [report["budget"]["providers"]["codex"]["runs"], report["budget"]["providers"]["codex"]["runs_per_day"],
                                        report["budget"]["total"]["runs_per_day"]], [5, 5, 40])
    check("and says that it is used up", any(found["code"] == "budget-used-up" for found in report["findings"]), "budget-used-up",
          report["findings"])
    status, out = manager(world, "status", "--json")
    equal("status shows it, too", json.loads(out)["status"]["budget"]["ceilings"]["codex"]["runs"], 5)
    status, out = manager(world, "status", "--text")
    contains("and in words", out, "codex: 5 of 5 runs")
    equal("the gateways end well", [gateway.hang_up() for gateway in gateways], [0, 0])
    world.configure("[budget.codex]\nruns_per_day = -1\n")
    wrong = world.stdio_gateway(handshake=False)
    check("a ceiling that is none keeps the gateway from starting", wrong.process.wait(20) != 0)
    check("and it says why", within(5, lambda: any("Invalid [budget.codex]" in line or "[budget.codex]" in line for line in wrong.log)),
          "[budget.codex]", wrong.log)
    world.configure()


run(drive)
