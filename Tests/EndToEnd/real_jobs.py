#!/usr/bin/python3
"""Jobs of the real claude, codex and vibe, against the fake provider API: a gateway killed in the middle of their answers, a
conversation that goes on after that, and a job cancelled while its tool runs.
"""
import time

from harness import body_of, check, contains, equal, run, section, text_of, together, within

# How many words a reply has, 20 in a second from the kill on; slower before: vibe takes seconds to begin, and all of them have
# to be at it then.
WORDS = {"claude": 240, "codex": 240, "vibe": 80}
# name: (tool, wire, the user turns that the API sees beside the prompts)
PROVIDERS = {"claude": ("claude", "anthropic", 0), "codex": ("codex", "responses", 1), "vibe": ("mistral", "chat", 0)}


def drive(world):
    api = world.fake_api()
    there = world.real_clis(PROVIDERS, api)
    world.configure()
    with section("a killed gateway"):
        killed(world, api, there)
    if "claude" in there:
        with section("a tool that runs"):
            tool_that_runs(world)


def killed(world, api, there):
    first = world.stdio_gateway()
    api.control(token_delay=0.5)
    jobs, prompts = {}, {name: f"@@words {count}@@" for name, count in WORDS.items()}
    for name, (tool, wire, _) in there.items():
        answer = body_of(first.tool(f"{tool}_request_async", prompt=prompts[name], createNewSession=True, correlationId=f"long-{name}"))
        check(f"{name} is started", answer.get("success") is True, "success", answer, vital=True)
        jobs[name] = answer["job"]["id"]
    wires = {wire for _, wire, _ in there.values()}
    within(60, lambda: wires <= set(api.answering()))
    equal("the models of all of them are answering", sorted(wires & set(api.answering())), sorted(wires), vital=True)
    first.process.kill()
    first.process.wait()
    api.control(token_delay=0.05)

    second = world.stdio_gateway()
    states = {name: body_of(second.tool("llm_job_status", jobId=job))["job"]["status"] for name, job in jobs.items()}
    equal("they run on without their gateway", states, {name: "running" for name in jobs})

    def end(name):
        for _ in range(4):
            seen = body_of(second.tool("llm_job_watch", jobId=jobs[name], until="end"))["job"]
            if seen["exited"]:
                break
        return seen

    ended = together("the ends", {name: lambda name=name: end(name) for name in there})
    api.control(token_delay=0)
    for name, (tool, _, _) in there.items():
        equal(f"{name}: the run ends well", [ended[name]["status"], ended[name]["exitCode"]], ["completed", 0])
        kept = body_of(second.tool("llm_request_result", correlationId=f"long-{name}"))["request"]
        answer = body_of(second.tool("llm_job_result", jobId=jobs[name]))
        reply = answer["parsed"]["text"] if "parsed" in answer else answer["result"]["stdout"]
        equal(f"{name}: with its whole reply, in the job and in the record", [len(reply.split()), kept["response"].strip() == reply.strip()],
              [WORDS[name], True])
        check(f"{name}: its usage is recorded", (kept["inputTokens"] or 0) > 0 and kept["durationMs"] > 3000 and kept["status"] == "completed",
              "tokens, and more than 3 s", kept)
        equal(f"{name}: the model was asked once", len([entry for entry in api.requests(there[name][1])
                                                        if prompts[name] in str(entry["body"])]), 1)
        jobs[name] = kept["sessionId"]

    again = together("going on", {name: lambda name=name: second.tool(f"{there[name][0]}_request", prompt="and then", sessionId=jobs[name])
                                  for name in there})
    for name, result in again.items():
        contains(f"{name}: the conversation goes on", text_of(result), f"ok[{2 + there[name][2]}]: and then")
    equal("the gateway ends well", second.hang_up(), 0)
    world.nothing_left("and nothing is left", seconds=10)


def tool_that_runs(world):
    """Its tool shells lead sessions of their own; a gateway that did not start the run ends them all the same."""
    program = world.write("work/forever.py", "import time\ntime.sleep(900)\n")
    first = world.stdio_gateway()
    job = body_of(first.tool("claude_request_async", allowedTools=["Bash"], createNewSession=True, prompt=(
        '@@tool Bash {"command": "python3 %s", "description": "wait"}@@' % program)))["job"]["id"]

    def runs():
        return any("forever.py" in command and "bash" not in command for command in world.leftovers([first.process]).values())

    check("claude's tool runs", within(60, runs), "a python3 with forever.py", world.leftovers([first.process]), vital=True)
    first.process.kill()
    first.process.wait()
    second = world.stdio_gateway()
    began = time.monotonic()
    equal("the next gateway cancels the job", body_of(second.tool("llm_job_cancel", jobId=job)).get("success"), True)
    last = body_of(second.tool("llm_job_watch", jobId=job, until="end"))["job"]
    check("it is canceled soon", [last["status"], last["error"]] == ["canceled", "canceled by caller"] and time.monotonic() - began < 20,
          "canceled by caller within 20 s", last)
    world.nothing_left("with claude and its tool", expected=[second.process], seconds=20)
    equal("the gateway ends well", second.hang_up(), 0)


run(drive)
