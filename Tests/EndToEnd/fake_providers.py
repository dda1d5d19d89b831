#!/usr/bin/python3
"""agy and grok held strictly to their contract, and CLIs that misbehave: empty, flooding, silent, deaf, dying, forking;
and the record of their runs, also after a crash.

The fakes end with status 2 on whatever their contract does not have, so a run that succeeds had a right command line.
"""
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import time

from harness import LEGACY, body_of, check, contains, equal, matches, product, run, section, text_of, together, within


def drive(world):
    world.fake_clis("claude", "codex", "agy", "grok")
    world.configure("[limits]\nmax_prompt_chars = 2000000\n")
    gateway = world.stdio_gateway()
    with section("gemini"):
        gemini(world, gateway)
    with section("grok"):
        grok(world, gateway)
    with section("what a child inherits"):
        inheritance(world, gateway)
    with section("a CLI that is not there"):
        missing(gateway)
    with section("bad ends"):
        bad_ends(world, gateway)
    with section("silence"):
        silence(world, gateway)
    with section("no descriptors"):
        no_descriptors(world)
    with section("a version that is gone"):
        version_gone(world)
    with section("once and no more"):
        once(world)
    with section("the record"):
        record(world, gateway)
    equal("nothing but protocol came on standard output", gateway.noise, [])
    equal("the gateway ends well", gateway.hang_up(), 0)


def reply(title, result, text):
    """A good result, its text mirrored."""
    # One blank more in front of a dash is how agy's contract keeps it from being a flag.
    good = not result.get("isError") and text_of(result).strip().replace("  -", " -") == text
    check(title, good and result.get("structuredContent", {}).get("response") == text_of(result), text, result)
    return result.get("structuredContent", {})


def refused(world, title, gateway, tool, part, **arguments):
    """An error that says why, and no process."""
    before = len(world.starts())
    result = gateway.tool(tool, **arguments)
    check(f"{title} is refused", bool(result.get("isError")) and part in text_of(result), f"an error with '{part}'", result)
    equal(f"{title}: nothing is started", len(world.starts()), before)


def gemini(world, gateway):
    seen = reply("gemini answers", gateway.tool("gemini_request", prompt="hello"), "ok[1]: hello")
    check("the result has the contract's members", all(name in seen for name in (
        "response", "model", "cli", "correlationId", "sessionId", "durationMs", "exitCode")) and seen["cli"] == "gemini", "all of them", seen)
    reply("a prompt that starts with a dash", gateway.tool("gemini_request", prompt="--model is a flag?"), "ok[1]: --model is a flag?")
    extra = world.directory("work", "extra")
    reply("every option that agy has", gateway.tool(
        "gemini_request", prompt="go", model="gemini-3-pro", includeDirs=[extra], sandbox=True, yolo=True), "ok[1]: go")
    argv = world.starts("agy")[-1]["argv"]
    for part in (["--model", "gemini-3-pro"], ["--add-dir", extra], ["--sandbox"], ["--dangerously-skip-permissions"]):
        check(f"its command line has {' '.join(part)}", any(argv[at:at + len(part)] == part for at in range(len(argv))), part, argv)

    conversation = os.listdir(os.path.join(world.home, ".fake-agy", "sessions"))[0]
    reply("a conversation goes on by its id", gateway.tool("gemini_request", prompt="and then", sessionId=conversation), "ok[2]: and then")
    reply("and as the latest", gateway.tool("gemini_request", prompt="and now", resumeLatest=True), "ok[3]: and now")
    result = gateway.tool("gemini_request", prompt="hello", sessionId="3b7cbb2b-5c8c-4a36-9b7d-000000000000")
    check("an unknown conversation is an error", bool(result.get("isError")) and "not found" in text_of(result), "not found", result)

    for name, value in (("approvalMode", "plan"), ("approvalMode", "auto_edit"), ("allowedTools", ["read"]), ("outputFormat", "json"),
                        ("policyFiles", ["/p"]), ("adminPolicyFiles", ["/p"]), ("attachments", ["/p"]), ("skipTrust", True)):
        refused(world, f"gemini with {name} {value!r}", gateway, "gemini_request", f"{name} is not supported by Antigravity CLI (agy)",
                prompt="hello", **{name: value})
    refused(world, "an id of ours", gateway, "gemini_request", "gw-", prompt="hello", sessionId="gw-3b7cbb2b-5c8c-4a36-9b7d-000000000000")
    before = len(world.starts())
    result = gateway.tool("gemini_request", prompt="x" * 200_000)
    if check("a prompt that fits in no argument is an error", bool(result.get("isError")), "isError", result):
        equal("of its own category", result["structuredContent"].get("errorCategory"), "input_too_large")
    equal("and starts nothing", len(world.starts()), before)


def said_by_grok(text):
    """The answer, whether it is shown as text or as grok's own JSON."""
    if not text.lstrip().startswith("{"):
        return text.strip()
    found = [json.loads(line) for line in text.splitlines() if line.strip()]
    return "".join(part.get("data") or part.get("text") or "" for part in found if part.get("type", "text") == "text").strip()


def grok(world, gateway):
    reply("grok answers in plain text", gateway.tool("grok_request", prompt="hello grok", outputFormat="plain"), "ok[1]: hello grok")
    for form in ("json", "streaming-json"):
        result = gateway.tool("grok_request", prompt="hello grok", outputFormat=form)
        said = said_by_grok(text_of(result))
        check(f"grok answers in {form}", not result.get("isError") and said == "ok[1]: hello grok", "ok[1]: hello grok", result)
    reply("a prompt that starts with a dash", gateway.tool("grok_request", prompt="-p or not -p"), "ok[1]: -p or not -p")
    secret = "a prompt that nobody shall see in the process list"
    reply("a prompt in a file", gateway.tool("grok_request", prompt=secret), f"ok[1]: {secret}")
    check("is not in the command line", secret not in " ".join(world.starts("grok")[-1]["argv"]), "not there", world.starts("grok")[-1]["argv"])
    large = "word " * 200_000 + "@@say all of it came@@"
    reply("a prompt of 1 MB", gateway.tool("grok_request", prompt=large), "all of it came")
    def left():
        return [name for _, _, names in os.walk(world.state) for name in names if "prompt" in name]
    # The answer does not wait for the commit that removes the job's files.
    within(10, lambda: not left())
    equal("no prompt file is left behind", left(), [])

    notes = world.write("work/prompt.md", "-- a prompt that grok reads itself")
    for way, value, said, recorded in (
            ("promptFile", notes, "-- a prompt that grok reads itself", f"promptFile: {notes}"),
            ("promptJson", [{"type": "text", "text": "in blocks"}], "in blocks", '[{"type":"text","text":"in blocks"}]'),
            ("single", "a single one", "a single one", "a single one")):
        seen = reply(f"a prompt by {way}", gateway.tool("grok_request", **{way: value}), f"ok[1]: {said}")
        kept = body_of(gateway.tool("llm_request_result", correlationId=seen.get("correlationId") or "?", includePrompt=True))
        equal(f"{way}: is recorded", kept.get("request", {}).get("prompt"), recorded)
    for name in ("prompt", "promptFile"):
        refused(world, f"{name} beside another prompt", gateway, "grok_request", "one prompt", single="x", **{name: "y"})

    options = {
        "model": "grok-build", "permissionMode": "acceptEdits", "effort": "high", "reasoningEffort": "high", "allowedTools": ["read", "grep"],
        "disallowedTools": ["bash"], "maxTurns": 3, "sandbox": "read-only", "rules": "be brief", "systemPromptOverride": "you are brief",
        "allow": ["Read(*)", "Grep(*)"], "deny": ["Bash(*)"], "compactionMode": "summary", "compactionDetail": "minimal", "agent": "coder",
        "bestOfN": 2, "check": True, "disableWebSearch": True, "todoGate": True, "verbatim": True,
        "agents": {"reviewer": {"description": "reviews", "prompt": "review"}}, "experimentalMemory": True, "noAltScreen": True,
        "noMemory": True, "noPlan": True, "noSubagents": True, "oauth": True, "restoreCode": True, "nativeWorktree": "spike",
    }
    reply("every option that grok has", gateway.tool("grok_request", prompt="go", **options), "ok[1]: go")
    argv = world.starts("grok")[-1]["argv"]
    for part in (["--tools", "read,grep"], ["--allow", "Read(*)"], ["--allow", "Grep(*)"], ["--max-turns", "3"], ["--worktree", "spike"]):
        check(f"its command line has {' '.join(part)}", any(argv[at:at + 2] == part for at in range(len(argv))), part, argv)

    result = gateway.tool("grok_request", prompt="remember me", outputFormat="json")
    session = result.get("structuredContent", {}).get("sessionId")
    directory = os.path.join(world.home, ".fake-grok", "sessions")
    latest = max(os.listdir(directory), key=lambda name: os.stat(os.path.join(directory, name)).st_mtime_ns)
    equal("the session's id is grok's own", session, latest)
    reply("a session goes on by its id", gateway.tool("grok_request", prompt="go on", sessionId=latest), "ok[2]: go on")
    reply("and as the latest", gateway.tool("grok_request", prompt="and on", resumeLatest=True), "ok[3]: and on")
    reply("a new one is new", gateway.tool("grok_request", prompt="afresh", createNewSession=True), "ok[1]: afresh")
    result = gateway.tool("grok_request", prompt="hello", model="no-such-model")
    check("grok's own error is told", bool(result.get("isError")) and "unknown model" in text_of(result), "unknown model", result)
    equal("with its category and status", [result["structuredContent"].get(name) for name in ("errorCategory", "exitCode")], ["cli_error", 1])
    for name, value in (("effort", "enormous"), ("maxTurns", 0), ("outputFormat", "yaml"), ("permissionMode", "never")):
        refused(world, f"grok with {name} {value!r}", gateway, "grok_request", name, prompt="hello", **{name: value})


def inheritance(world, gateway):
    gateway.tool("gemini_request", prompt="look around")
    start = world.starts("agy")[-1]
    equal("the gateway's token does not reach a provider", [name for name, value in start["env"].items() if world.token in value], [])
    equal("nor does an open descriptor", [fd for fd in start["fds"] if fd > 3], [])
    equal("standard input is at its end", start["stdin"], "")
    check("the CLI leads a session of its own", start["sid"] != os.getsid(gateway.process.pid), "another session", start["sid"])
    equal("the home is the user's", start["env"].get("HOME"), world.home)


def missing(gateway):
    result = gateway.tool("mistral_request", prompt="hello")
    if check("is an error", bool(result.get("isError")), "isError", result):
        equal("of its own category", result["structuredContent"].get("errorCategory"), "spawn_error")
        contains("that names the command", text_of(result), "vibe")
        matches("where it was looked for", text_of(result), r"\.local/bin")
        matches("and how to install it", text_of(result), r"mistral-vibe|install")


def bad_ends(world, gateway):
    def outcome(title, category, code, part, tool="claude_request", **arguments):
        result = gateway.tool(tool, **arguments)
        seen = result.get("structuredContent", {})
        check(title, bool(result.get("isError")) and seen.get("errorCategory") == category and (code is None or seen.get("exitCode") == code)
              and part in text_of(result), f"{category}, status {code}, '{part}'", result)
        return result

    outcome("a status that is not 0", "cli_error", 7, "the disk is on fire", prompt="@@exit 7 the disk is on fire@@")
    outcome("an expired login", "auth_error", 1, "not logged in", prompt="@@exit 1 Error: not logged in@@")
    outcome("death by a signal", "cli_error", None, "11", prompt="@@signal 11@@")
    result = gateway.tool("claude_request", prompt="@@empty@@")
    check("an answer that is empty is no success", bool(result.get("isError")), "isError", result)
    began = time.monotonic()
    result = gateway.tool("claude_request", prompt="@@flood 80000000@@", timeout=120)
    seen = result.get("structuredContent", {})
    check("a flood is ended at 50 MB", bool(result.get("isError")) and seen.get("errorCategory") == "output_overflow", "output_overflow", result)
    check("soon", time.monotonic() - began < 30, "< 30 s", f"{time.monotonic() - began:.1f} s")
    with open(f"/proc/{gateway.process.pid}/status") as file:
        memory = next(int(line.split()[1]) for line in file if line.startswith("VmRSS:")) / 1024
    check("without being held in memory", memory < 120, "< 120 MB", f"{memory:.0f} MB")
    world.nothing_left("nothing runs on after these", expected=[gateway.process])
    answers = together("six at once", {f"run {n}": lambda n=n: text_of(gateway.tool("claude_request", prompt=f"@@wait 0.5@@@@say {n}@@"))
                                       for n in range(6)})
    equal("six runs at once get six answers", sorted(answers.values()), [str(n) for n in range(6)])
    kept = body_of(gateway.tool("llm_request_result", correlationId=seen.get("correlationId") or "?"))
    equal("a failure can be read back", kept.get("request", {}).get("status"), "failed")


def silence(world, gateway):
    began = time.monotonic()
    runs = together("silence", {
        "silent": lambda: gateway.tool("claude_request", prompt="@@silent@@", idleTimeoutMs=30_000),
        "deaf to SIGTERM": lambda: gateway.tool("claude_request", prompt="@@stubborn@@@@silent@@", idleTimeoutMs=30_000),
        "with a grandchild in its own session": lambda: gateway.tool("claude_request", prompt="@@grandchild@@@@silent@@", idleTimeoutMs=30_000),
        "always talking": lambda: gateway.tool(
            "grok_request", prompt="@@slow 40@@@@say one two three four five six seven eight@@", idleTimeoutMs=30_000, outputFormat="plain"),
    })
    took = time.monotonic() - began
    check("the idle timeout is kept", 29 < took < 60, "30 s, and some for the deaf one", f"{took:.1f} s")
    for name, result in runs.items():
        seen = result.get("structuredContent", {})
        if name == "always talking":
            check("a CLI that always talks is let alone", not result.get("isError") and text_of(result).strip().endswith("eight"), "…eight", result)
        else:
            equal(f"{name}: ended for idleness", [seen.get("errorCategory"), seen.get("exitCode")], ["idle_timeout", 125])
            contains(f"{name}: and says so", text_of(result), "inactivity")
    world.nothing_left("none of them is left, nor its grandchild", expected=[gateway.process], seconds=10)


def no_descriptors(world):
    """A run that ends while its gateway can open nothing is neither lost nor run again."""
    gateway, started = world.stdio_gateway(), len(world.starts("claude"))
    request = gateway.begin("tools/call", {"name": "claude_request", "arguments": {"prompt": "@@wait 1@@@@say still here@@"}})
    within(10, lambda: len(world.starts("claude")) > started)
    run = world.starts("claude")[-1]["pid"]
    allowed = resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    within(10, lambda: not os.path.exists(f"/proc/{run}"))
    time.sleep(2)
    resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE, allowed)
    answer = gateway.finish(request, 40)["result"]
    check("it is answered once descriptors are there again", not answer.get("isError") and text_of(answer) == "still here", "still here", answer)
    equal("and was started once", len(world.starts("claude")), started + 1)
    contains("the log says what was missing", "".join(gateway.log), "too many open files")
    equal("the gateway ends well after it", gateway.hang_up(), 0)


def version_gone(world):
    """A gateway that runs on after upgrades have removed its version starts its runs as before."""
    folder = world.directory("old-version", "bin")
    program = shutil.copy2(product("llm-gateway"), folder)
    gateway = world.stdio_gateway(program=program)
    shutil.rmtree(folder)
    request = gateway.begin("tools/call", {"name": "claude_request", "arguments": {"prompt": "@@wait 1@@@@say still here@@"}})
    runner = None

    def found():
        nonlocal runner
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline") as file:
                    words = file.read().split("\0")
                if words[0] == program and words[1:2] == ["run-job"]:
                    with open(f"/proc/{pid}/comm") as file:
                        runner = file.read().strip()
                    return runner == "llm-gateway"
            except OSError:
                continue
        return False

    check("its runner goes by the program's name", within(10, found), "llm-gateway", runner)
    answer = gateway.finish(request, 40)["result"]
    check("a request is answered", not answer.get("isError") and text_of(answer) == "still here", "still here", answer)
    equal("and the gateway ends well", gateway.hang_up(), 0)


def record(world, gateway):
    first = gateway.tool("codex_request", prompt="@@say ok fine@@", correlationId="nightly")["structuredContent"]
    again = gateway.tool("codex_request", prompt="@@say ok fine@@", correlationId="nightly", sessionId=first["sessionId"])
    seen = again["structuredContent"]
    equal("a run with the id of an earlier one is answered under the next one", [first["correlationId"], seen["correlationId"]], ["nightly", "nightly~2"])
    check("and says so", any(warning["code"] == "correlation_id_taken" and "'nightly~2'" in warning["message"]
                             for warning in seen.get("warnings", [])), "correlation_id_taken", again)
    usage = ("inputTokens", "outputTokens", "cacheReadTokens")

    def kept(by, identifier):
        return body_of(by.tool("llm_request_result", correlationId=identifier)).get("request", {})

    for body in (first, seen):
        record = kept(gateway, body["correlationId"])
        equal(f"{body['correlationId']} is recorded", [record.get("status"), record.get("asyncJobId") is not None], ["completed", True])
        equal(f"{body['correlationId']}: with its own usage", [record.get(name) for name in usage], [body.get(name) for name in usage])
    equal("each turn used the same", [seen.get(name) for name in usage], [first.get(name) for name in usage])

    # The crash falls between two writings: the conversation has its new total, and the database is held by somebody.
    sessions = os.path.join(world.state, "sessions.json")

    def total():
        with open(sessions) as file:
            return json.load(file)["sessions"][first["sessionId"]]["metadata"]["runningTotal"]

    before, started = total(), len(world.starts("codex"))
    other = world.stdio_gateway()
    other.begin("tools/call", {"name": "codex_request", "arguments": {
        "prompt": "@@wait 1@@@@say ok fine@@", "sessionId": first["sessionId"], "correlationId": "cut off"}})
    within(10, lambda: len(world.starts("codex")) > started)
    database = sqlite3.connect(os.path.join(world.state, "logs.db"), isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    try:
        check("the conversation's total is kept first", within(4.5, lambda: total() != before), "another total", before)
        other.process.kill()
        other.process.wait()
        equal("a gateway that is killed then leaves the record open", kept(gateway, "cut off").get("status"), "started")
    finally:
        database.execute("ROLLBACK")
        database.close()
    within(10, lambda: kept(gateway, "cut off").get("status") != "started")
    record = kept(gateway, "cut off")
    equal("another one that runs closes it", record.get("status"), "completed")
    equal("with what this run used, though its total was kept already", [record.get(name) for name in usage], [first.get(name) for name in usage])

    # A client that leaves while its run goes on: whoever serves then has the answer as soon as it is there.
    brief = world.stdio_gateway()
    brief.begin("tools/call", {"name": "claude_request", "arguments": {"prompt": "@@wait 2@@@@say after all@@", "correlationId": "left"}})
    within(10, lambda: kept(gateway, "left").get("status") == "started")
    equal("a client leaves while its run goes on", brief.hang_up(), 0)
    within(20, lambda: kept(gateway, "left").get("status") != "started")
    record = kept(gateway, "left")
    equal("a gateway that has run all the time has its answer", [record.get("status"), record.get("response")], ["completed", "after all"])

    heir = world.stdio_gateway()
    last = heir.tool("codex_request", prompt="@@say ok fine@@", sessionId=first["sessionId"])["structuredContent"]
    equal("and the run after it is counted from there", [last.get(name) for name in usage], [first.get(name) for name in usage])
    equal("the heir ends well", heir.hang_up(), 0)


def once(world):
    """Clients that are killed right after their answer, while their gateway clears up: nothing is run again."""
    rounds, before = 60, len(world.starts("claude"))
    words = "".join(json.dumps({"jsonrpc": "2.0", **message}) + "\n" for message in (
        {"id": 1, "method": "initialize", "params": {
            "protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "brief", "version": "1"}}},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": "claude_request", "arguments": {"prompt": "@@say once@@"}}}))
    answered = 0
    for _ in range(rounds):
        brief = world.start([product("llm-gateway")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        brief.stdin.write(words.encode())
        brief.stdin.flush()
        # Without a thread in between: the gateway needs a fraction of a millisecond to clear up.
        for line in iter(brief.stdout.readline, b""):
            if b'"id":2' in line:
                brief.kill()
                answered += b"once" in line
                break
        brief.stdout.close()
        brief.wait()
    equal("every client has its answer", answered, rounds)
    heir = world.stdio_gateway()
    jobs = os.path.join(world.state, "jobs")
    within(20, lambda: not [name for name in os.listdir(jobs) if not name.startswith((".instance-", ".adoption"))])
    equal("each run was started once", len(world.starts("claude")) - before, rounds)
    equal("and nothing of them is left", [name for name in os.listdir(jobs) if not name.startswith(".")], [])
    equal("the heir ends well", heir.hang_up(), 0)


run(drive)
