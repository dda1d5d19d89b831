#!/usr/bin/python3
"""The provider CLIs as MCP clients of the gateway, over HTTP with the bearer: claude, and codex and vibe where they are.

Each is told by the fake provider API to call `gemini_request`, whose CLI is a fake; its answer has to come all the way
back: fake agy -> gateway -> MCP client -> fake API -> final answer.
"""
import json

from harness import check, contains, matches, run, section, tool

ASKED = json.dumps({"prompt": "hello from far away"})
ANSWER = "ok[1]: hello from far away"


def drive(world):
    api = world.fake_api()
    world.fake_clis("agy")
    world.configure()
    gateway = world.http_gateway()
    with section("claude"):
        claude(world, api, gateway)
    with section("codex"):
        codex(world, api, gateway)
    with section("vibe"):
        vibe(world, api, gateway)
    world.nothing_left("nothing of the clients is left", expected=[gateway.process])


def claude(world, api, gateway):
    program = tool("claude")
    world.real_claude(api)

    def add(name, token):
        ended = world.call([program, "mcp", "add", "-s", "user", "--transport", "http", name, gateway.url,
                            "--header", f"Authorization: Bearer {token}"])
        check(f"claude mcp add {name}", ended.returncode == 0, 0, ended.stdout + ended.stderr, vital=True)

    add("gw", world.token)
    listed = world.call([program, "mcp", "list"]).stdout
    matches("claude mcp list: connected", listed, r"gw:[^\n]*✔ Connected")
    ended = world.call([program, "-p", f"@@tool mcp__gw__gemini_request {ASKED}@@", "--allowedTools", "mcp__gw", "--output-format", "json"])
    check("claude -p ends well", ended.returncode == 0, 0, ended.stdout + ended.stderr, vital=True)
    contains("claude -p calls our tool and gets its answer", json.loads(ended.stdout).get("result"), ANSWER)

    add("stranger", "wrong")
    listed = world.call([program, "mcp", "list"]).stdout
    stranger = next((line for line in listed.splitlines() if line.startswith("stranger")), "")
    check("claude mcp list: not connected with a wrong bearer", bool(stranger) and "✔ Connected" not in stranger, "not connected", listed)


def codex(world, api, gateway):
    program = tool("codex")
    world.real_codex(api)
    server = f'{{url="{gateway.url}", bearer_token_env_var="GW_TOKEN", required=true, default_tools_approval_mode="approve"}}'
    ended = world.call([program, "exec", "--json", "--skip-git-repo-check", "-s", "read-only", "-c", f"mcp_servers.gw={server}",
                        f"@@tool mcp__gw/gemini_request {ASKED}@@"], {"GW_TOKEN": world.token})
    check("codex exec ends well", ended.returncode == 0, 0, ended.stdout + ended.stderr, vital=True)
    said = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    called = [entry["item"] for entry in said if entry.get("item", {}).get("type") == "mcp_tool_call" and entry["type"] == "item.completed"]
    contains("codex exec calls our tool and gets its answer", json.dumps(called), ANSWER)


def vibe(world, api, gateway):
    program = tool("vibe")
    world.real_vibe(api)
    environment = {"GW_TOKEN": world.token}
    ended = world.call([program, "mcp", "add", "gw", "--url", gateway.url, "--api-key-env", "GW_TOKEN"], environment)
    check("vibe mcp add", ended.returncode == 0, 0, ended.stdout + ended.stderr, vital=True)
    script = json.dumps({"code": f"const answer = await tools.mcp_gw.gemini_request({ASKED}); return JSON.stringify(answer);"})
    ended = world.call([program, "--auto-approve", "--trust", "--output", "json", "-p", f"@@tool run_typescript {script}@@"], environment)
    check("vibe -p ends well", ended.returncode == 0, 0, ended.stdout + ended.stderr, vital=True)
    contains("vibe -p calls our tool and gets its answer", ended.stdout, ANSWER)


run(drive)
