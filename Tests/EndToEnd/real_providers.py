#!/usr/bin/python3
"""The real claude, codex and vibe as providers, against the fake provider API on loopback.

What the API received is looked at, too: that the second call of a conversation carries the first, that a prompt of 1 MB
came whole.
"""
import time

from harness import DEEP, body_of, check, contains, equal, matches, run, section, text_of, together, within

# name: (tool, wire, the user turns that the API sees beside the prompts, parameter that goes on with the latest)
PROVIDERS = {
    "claude": ("claude_request", "anthropic", 0, "continueSession"),
    "codex": ("codex_request", "responses", 1, "resumeLatest"),  # one turn is its description of the environment
    "vibe": ("mistral_request", "chat", 0, "resumeLatest"),
}


def drive(world):
    api = world.fake_api()
    there = world.real_clis(PROVIDERS, api)
    world.configure("[limits]\nmax_prompt_chars = 1500000\n")
    gateway = world.stdio_gateway()

    for title, part in (("versions", versions), ("success and resume", conversations), ("a conversation with a failed run", after_a_failure), ("a leading dash", dashes),
                        ("failures of the API", failures), ("an unknown model", unknown_models),
                        ("a prompt of 1 MB", large_prompts), ("a hang", hangs), *([("a crowd", crowd)] if DEEP else [])):
        with section(title):
            part(world, gateway, api, there)
    equal("nothing but protocol came on standard output", gateway.noise, [])
    equal("the gateway ends well", gateway.hang_up(), 0)


def each(title, there, work):
    """Calls `work(name, tool, wire)` for all providers at the same time. -> {name: result}."""
    return together(title, {name: lambda name=name: work(name, *PROVIDERS[name][:2]) for name in there})


def answer_of(result):
    return result.get("structuredContent", {})


def error(title, result, category, *patterns, codes=None):
    seen = answer_of(result)
    if check(f"{title} is an error", bool(result.get("isError")), "isError", result):
        equal(f"{title}: its category", seen.get("errorCategory"), category)
        if codes:
            check(f"{title}: the exit status of the CLI", seen.get("exitCode") in codes, codes, seen.get("exitCode"))
        for pattern in patterns:
            matches(f"{title}: its text", text_of(result), pattern)


def versions(world, gateway, api, there):
    found = {entry["cli"]: entry for entry in body_of(gateway.tool("cli_versions"))["versions"]}
    for name in there:
        entry = found.get("mistral" if name == "vibe" else name, {})
        check(f"{name}: its version is found", entry.get("installed") is True and any(
            part.isdigit() for part in entry.get("version") or ""), "installed, with a version", entry)


def conversations(world, gateway, api, there):
    api.reset()
    first = each("first call", there, lambda name, tool, wire: gateway.tool(tool, prompt=f"remember the word zebra-{name}"))
    for name, result in first.items():
        beside = PROVIDERS[name][2]
        seen = answer_of(result)
        equal(f"{name}: the answer", text_of(result).strip(), f"ok[{1 + beside}]: remember the word zebra-{name}", vital=False)
        equal(f"{name}: structuredContent mirrors it", seen.get("response"), text_of(result))
        equal(f"{name}: exit status and retries", [seen.get("exitCode"), seen.get("retryCount")], [0, 0])
        check(f"{name}: its usage is told", (seen.get("inputTokens") or 0) >= 1000 and (seen.get("outputTokens") or 0) > 0
              and seen.get("cacheReadTokens") == 200, "inputTokens >= 1000, outputTokens > 0, cacheReadTokens 200", seen)
        if name != "codex":  # which tells no cost
            check(f"{name}: its cost is told", (seen.get("costUsd") or 0) > 0, "more than 0", seen)
        kept = body_of(gateway.tool("llm_request_result", correlationId=seen.get("correlationId") or "?")).get("request", {})
        equal(f"{name}: it can be read back", [kept.get("status"), kept.get("response")], ["completed", text_of(result)])

    def again(name, tool, wire):
        session, latest = answer_of(first[name]).get("sessionId") or "gw-", PROVIDERS[name][3]
        # An id of the gateway's own is no conversation of the CLI's.
        way = {latest: True} if session.startswith("gw-") else {"sessionId": session}
        return gateway.tool(tool, prompt="which word was it now", **way)

    second = each("second call", there, again)
    third = each("third call", there, lambda name, tool, wire: gateway.tool(tool, prompt="and the third one", **{PROVIDERS[name][3]: True}))
    for name in there:
        tool, wire, beside, latest = PROVIDERS[name]
        sent = [entry for entry in api.requests(wire) if "which word was it now" in str(entry["body"]) and "third" not in str(entry["body"])]
        if check(f"{name}: resumed by its id, the API is asked", bool(sent) and name in second, "a request", second.get(name)):
            equal(f"{name}: with both turns", sent[-1]["users"], 2 + beside)
            contains(f"{name}: with the first conversation", str(sent[-1]["body"]), f"zebra-{name}")
            contains(f"{name}: and the second answer comes back", text_of(second[name]), f"ok[{2 + beside}]: which word")
            before, after = answer_of(first[name]), answer_of(second[name])
            equal(f"{name}: the usage is this run's own, no running total", after.get("inputTokens"), before.get("inputTokens"))
            if name == "claude":
                check("claude: so is the cost", 0 < (after.get("costUsd") or 0) < 1.5 * (before.get("costUsd") or 0),
                      f"about {before.get('costUsd')}", after.get("costUsd"))
        contains(f"{name}: resumed as the latest", text_of(third.get(name, {})), f"ok[{3 + beside}]: and the third one")


def after_a_failure(world, gateway, api, there):
    """claude and codex report totals; what a run used that did not say so is in the next one, and is not charged to it."""
    counted = {"claude": "costUsd", "codex": "inputTokens"}
    those = {name: there[name] for name in counted if name in there}
    first = each("before it", those, lambda name, tool, wire: gateway.tool(tool, prompt="@@say good@@", createNewSession=True))
    session = {name: answer_of(first[name])["sessionId"] for name in those}

    # Not by their prompts: claude sends those again with the next one.
    if "codex" in those:
        api.control(fail="400", fail_count=1000)
        result = gateway.tool("codex_request", prompt="this fails", sessionId=session["codex"])
        api.control(fail=None, fail_count=0)
        check("codex: a run of it fails", bool(result.get("isError")), "isError", result)
    if "claude" in those:
        api.control(first_byte_delay=20)
        call = gateway.begin("tools/call", {"name": "claude_request", "arguments": {"prompt": "cut off", "sessionId": session["claude"]}})
        began = within(20, lambda: any(session["claude"] in command for command in world.leftovers([gateway.process]).values()))
        check("claude: a run of it begins", began, "a claude that resumes it", world.leftovers([gateway.process]))
        gateway.notify("notifications/cancelled", {"requestId": call, "reason": "enough"})
        world.nothing_left("claude: and is ended", expected=[gateway.process], seconds=20)
        api.control(first_byte_delay=0)

    def on(prompt):
        return each(prompt, those, lambda name, tool, wire: gateway.tool(tool, prompt=prompt, sessionId=session[name]))

    after, last = on("@@say better@@"), on("@@say best@@")
    for name in those:
        seen = answer_of(after[name])
        equal(f"{name}: the run after it has no {counted[name]}", [text_of(after[name]), seen.get(counted[name])], ["better", None])
        equal(f"{name}: and says why", [warning["code"] for warning in seen.get("warnings", []) if "total" in warning["code"]], ["usage_total_unknown"])
        ratio = (answer_of(last[name]).get(counted[name]) or 0) / (answer_of(first[name]).get(counted[name]) or 1)
        check(f"{name}: the one after that has its own", 0.5 < ratio < 2, "about that of the first run", ratio)


def dashes(world, gateway, api, there):
    prompt = "--help -p is how this prompt begins"
    for name, result in each("a leading dash", there, lambda name, tool, wire: gateway.tool(tool, prompt=prompt, createNewSession=True)).items():
        equal(f"{name}: a prompt that starts with a dash is a prompt", text_of(result).strip(), f"ok[{1 + PROVIDERS[name][2]}]: {prompt}")


def failures(world, gateway, api, there):
    results = each("status 400", there, lambda name, tool, wire: gateway.tool(tool, prompt="@@fail 400@@", createNewSession=True))
    for name, result in results.items():
        error(f"{name}: status 400 of the API", result, "cli_error", r"400|fake failure", codes={"claude": [1], "codex": [1], "vibe": [2]}[name])
    results = each("status 401", there, lambda name, tool, wire: gateway.tool(tool, prompt="@@fail 401@@", createNewSession=True))
    for name, result in results.items():
        error(f"{name}: status 401 of the API", result, "auth_error", codes=[1])
    # A broken stream may be whole at the next attempt; a gateway of its own, because it leaves the provider alone then.
    other = world.stdio_gateway()
    results = each("a broken stream", there, lambda name, tool, wire: other.tool(tool, prompt="@@fail garbage@@", createNewSession=True))
    for name, result in results.items():
        error(f"{name}: an answer that is no answer", result, "cli_error", codes=[1, 2])
    equal("the other gateway ends well", other.hang_up(), 0)
    for name in [name for name in there if name != "vibe"]:
        api.control(fail="500", fail_count=1)
        result = gateway.tool(PROVIDERS[name][0], prompt="hello after all", createNewSession=True)
        seen = result.get("structuredContent", {})
        check(f"{name}: one status 500 is followed by another attempt", not result.get("isError") and seen.get("retryCount") == 1
              and text_of(result).strip().endswith("hello after all"), "an answer, retryCount 1", result)
    api.control(fail=None, fail_count=0)
    world.nothing_left("after the failures nothing runs", expected=[gateway.process])


def unknown_models(world, gateway, api, there):
    api.control(models=["fake-model"])
    try:
        results = each("unknown model", there, lambda name, tool, wire: gateway.tool(
            tool, prompt="hello", model="no-such-model", createNewSession=True))
        for name, result in results.items():
            error(f"{name}: an unknown model", result, "cli_error", r"(?i)model|404", codes=[1, 2])
    finally:
        api.control(models=[])
    if "vibe" in there:
        # The CLI itself would fall back to its default model and succeed.
        result = gateway.tool("mistral_request", prompt="hello", model="never-configured", createNewSession=True)
        check("vibe: a model that it does not know is never silently another", bool(result.get("isError"))
              and "never-configured" in text_of(result), "an error that names the model", result)


def large_prompts(world, gateway, api, there):
    api.reset()
    prompt = "a long story " * 80_000 + "@@say all of it came@@ THE END"
    results = each("1 MB", there, lambda name, tool, wire: gateway.tool(tool, prompt=prompt, createNewSession=True))
    for name, result in results.items():
        equal(f"{name}: a prompt of {len(prompt)} characters is answered", text_of(result).strip(), "all of it came")
        sent = [str(entry["body"]) for entry in api.requests(PROVIDERS[name][1])]
        check(f"{name}: and came whole", any("THE END" in body and len(body) > 1_000_000 for body in sent),
              "a request of more than 1,000,000 characters", [len(body) for body in sent])
    result = gateway.tool("claude_request", prompt="x" * 1_500_001)
    check("one that is over the configured limit is refused", bool(result.get("isError")) and "1500000" in text_of(result).replace(",", "").replace("_", "")
          or "1500k" in text_of(result), "an error with the limit", result)


def crowd(world, gateway, api, there):
    """Twelve runs of each CLI at the same time, a third of them failing, in one home and one working directory."""
    def call(name, number):
        prompt = "@@fail 400@@" if number % 3 == 0 else f"@@say {name} {number}@@"
        return gateway.tool(PROVIDERS[name][0], prompt=prompt, createNewSession=True, timeout=600)

    results = together("a crowd", {(name, number): lambda name=name, number=number: call(name, number)
                                   for name in there for number in range(12)})
    wrong = {f"{name} {number}": text_of(result) for (name, number), result in results.items()
             if bool(result.get("isError")) != (number % 3 == 0)
             or number % 3 and text_of(result).strip() != f"{name} {number}"}
    equal("a crowd: everybody gets the own answer", wrong, {})
    world.nothing_left("a crowd: nothing of it is left", expected=[gateway.process], seconds=10)


def hangs(world, gateway, api, there):
    began = time.monotonic()
    work = {name: lambda name=name: gateway.tool(PROVIDERS[name][0], prompt="@@fail hang@@", idleTimeoutMs=30_000, createNewSession=True)
            for name in there}
    results = together("hang", work)
    took = time.monotonic() - began
    check("a hang is ended after the idle timeout", 29 < took < 75, "30 s and some", f"{took:.1f} s")
    for name, result in results.items():
        error(f"{name}: a hang", result, "idle_timeout", "inactivity", codes=[125])
    world.nothing_left("nothing that hung is left", expected=[gateway.process], seconds=10)
    if "claude" in there:
        hanging_tool(world, gateway)


def hanging_tool(world, gateway):
    """A tool that runs long is no silence: claude says every 30 s that it lives. A caller may end it, tool and all."""
    # Its tool shells lead sessions of their own, so a kill of claude's group alone would miss this one.
    program = world.write("work/forever.py", "import time\ntime.sleep(900)\n")
    call = gateway.begin("tools/call", {"name": "claude_request", "arguments": {
        "prompt": '@@tool Bash {"command": "python3 %s", "description": "wait"}@@' % program,
        "allowedTools": ["Bash"], "createNewSession": True}})
    running = within(60, lambda: any("forever.py" in command and "bash" not in command
                                     for command in world.leftovers([gateway.process]).values()))
    check("claude's tool runs", running, "a python3 with forever.py", world.leftovers([gateway.process]))
    gateway.notify("notifications/cancelled", {"requestId": call, "reason": "enough"})
    world.nothing_left("cancelling ends claude and its tool", expected=[gateway.process], seconds=20)


run(drive)
