#!/usr/bin/python3
"""The official Python MCP client, of both generations, against the gateway: stdio and HTTP, with handshake and stateless.

Each client runs in its own virtual environment (`official_client.py`) and reports what it saw as one JSON object.
"""
import json
import os

from harness import LEGACY, MODERN, ROOT, check, equal, product, run, section, tool

CLIENT = os.path.join(ROOT, "Tests", "EndToEnd", "official_client.py")
REQUEST_TOOLS = ["claude_request", "codex_request", "gemini_request", "grok_request", "mistral_request"]
OTHER_TOOLS = [f"{name}_async" for name in REQUEST_TOOLS] + [
    "llm_job_status", "llm_job_watch", "llm_job_result", "llm_job_cancel", "llm_request_result", "list_models", "cli_versions",
    "llm_process_health", "session_create", "session_list", "session_get", "session_set_active", "session_delete", "session_clear_all"]


def drive(world):
    world.fake_clis("claude", "agy", "grok")
    world.configure()
    server = world.http_gateway()
    for generation, modes in (("mcp-1", ["legacy"]), ("mcp-2", ["legacy", "auto", MODERN])):
        with section(generation):
            python = tool(generation)
            for mode in modes:
                for transport in ("stdio", "http"):
                    title = f"{generation}, {mode}, {transport}"
                    with section(title):
                        verify(world, title, mode, transport, generation, python, server)
    world.nothing_left("no process of any client or provider is left", expected=[server.process])


def verify(world, title, mode, transport, generation, python, server):
    spec = {"mode": mode, "tools": [
        ["session_list", {}],
        ["gemini_request", {"prompt": "hello from the official client"}],
        ["claude_request", {"prompt": "@@say one@@", "correlationId": f"{generation}-{mode}-{transport}"}],
        ["llm_request_result", {"correlationId": f"{generation}-{mode}-{transport}"}],
        ["gemini_request", {"prompt": 5}],
    ]}
    if transport == "stdio":
        keep = ("HOME", "LLM_GATEWAY_HOME", "PATH", "LANG", "TMPDIR", "SYNC_DEADLINE_MS", "FAKE_CLI_LOG", "LLM_GATEWAY_TEST_ID")
        spec["stdio"] = {"command": product("llm-gateway"), "args": ["--transport=stdio"],
                         "env": {name: world.environment[name] for name in keep}, "cwd": world.work}
    else:
        spec["http"] = {"url": server.url, "headers": {"Authorization": f"Bearer {world.token}"}}
    ended = world.call([python, CLIENT], text=json.dumps(spec), timeout=120)
    if not equal(f"{title}: the client ends well", ended.returncode, 0):
        print(f"    {ended.stderr[-3000:]}")
        return
    seen = json.loads(ended.stdout)

    equal(f"{title}: the protocol version", seen["version"], LEGACY if mode == "legacy" else MODERN)
    if mode != MODERN:  # a pinned version is used without asking the server anything
        equal(f"{title}: the server's name", seen["server"].get("name"), "llm-cli-gateway")
    if mode == "legacy":
        equal(f"{title}: ping is answered", seen["ping"], True)
    missing = [name for name in REQUEST_TOOLS + OTHER_TOOLS if name not in seen["tools"]]
    equal(f"{title}: every tool is listed", missing, [])
    listed, reply, said, kept, wrong = seen["calls"]
    check(f"{title}: session_list counts", listed["ok"] and "total" in json.loads(listed["text"]), "a JSON with 'total'", listed)
    check(f"{title}: a provider answers", reply["ok"] and reply["text"].strip() == "ok[1]: hello from the official client",
          "ok[1]: hello from the official client", reply)
    equal(f"{title}: structuredContent mirrors the answer", (reply["structured"] or {}).get("response"), reply["text"])
    check(f"{title}: the other provider answers", said["ok"] and said["text"].strip() == "one", "one", said)
    check(f"{title}: the request can be read back",
          kept["ok"] and json.loads(kept["text"])["request"]["response"].strip() == "one", "response 'one'", kept)
    check(f"{title}: a wrong argument is refused by its name", not wrong["ok"] and "prompt" in wrong["text"],
          "an error that names 'prompt'", wrong)


run(drive)
