#!/usr/bin/python3
"""What a broken, hostile or merely mistaken client meets: on standard input and over HTTP."""
import contextlib
import json
import os
import socket
import time

from harness import LEGACY, MODERN, Unanswered, check, contains, equal, events, matches, run, section, text_of, within

WRONG = {"prompt": 5, "outputFormat": "xml", "allowedTools": "Read", "maxTurns": -1}


def drive(world):
    world.fake_clis("claude", "agy")
    world.configure()
    with section("standard input"):
        standard_input(world)
    with section("the end of standard input"):
        end_of_input(world)
    with section("HTTP"):
        over_http(world)


def standard_input(world):
    gateway = world.stdio_gateway({"DEBUG": "1"})
    equal("initialize answers the version that was asked for", gateway.initialized["protocolVersion"], LEGACY)
    equal("initialize names the server", gateway.initialized["serverInfo"]["name"], "llm-cli-gateway")

    def unasked(title, raw, code):
        gateway.send(raw)
        try:
            answer = gateway.unasked.get(timeout=20)
        except Exception:  # noqa: BLE001 - queue.Empty: nothing came
            answer = None
        check(f"{title} is answered with {code}", bool(answer) and answer.get("error", {}).get("code") == code
              and answer.get("id") is None, {"id": None, "error": {"code": code}}, answer)

    unasked("a line that is not JSON", "{this is not json\n", -32700)
    unasked("bytes that are not UTF-8", b'{"jsonrpc":"2.0","id":1,"method":"\xff\xfe"}\n', -32700)
    unasked("a batch", '[{"jsonrpc":"2.0","id":901,"method":"ping"}]\n', -32600)
    unasked("a JSON value that is no request", '"hello"\n', -32600)
    equal("ping is still answered", gateway.request("ping", timeout=20), {})

    answer = gateway.exchange("no/such/method", timeout=20)
    equal("an unknown method is -32601", answer.get("error", {}).get("code"), -32601)
    answer = gateway.exchange("tools/call", {"name": "no_such_tool", "arguments": {}}, timeout=20)
    equal("an unknown tool is -32602", answer.get("error", {}).get("code"), -32602)
    contains("and is named", json.dumps(answer), "no_such_tool")
    answer = gateway.exchange("tools/call", {"name": "claude_reqest", "arguments": {}}, timeout=20)
    contains("a misspelt tool is answered with the nearest one", json.dumps(answer), "claude_request")

    result = gateway.tool("claude_request", **WRONG)
    equal("wrong argument types are a tool error", result.get("isError"), True)
    for name in WRONG:
        contains(f"which names '{name}'", text_of(result), name)
    equal("and nothing was started", world.starts(), [])
    for title, arguments, part in (
        ("an empty prompt", {"prompt": ""}, "Prompt cannot be empty"),
        ("a prompt over the limit", {"prompt": "x" * 100_001}, "Prompt too long (max 100k chars)"),
        ("no prompt", {}, "one of `prompt` or `promptParts` is required"),
        ("two prompts", {"prompt": "a", "promptParts": {"task": "b"}}, "provide exactly one of `prompt` or `promptParts`"),
        ("an idle timeout below the limit", {"prompt": "a", "idleTimeoutMs": 29_999}, "idleTimeoutMs"),
        ("an idle timeout over the limit", {"prompt": "a", "idleTimeoutMs": 3_600_001}, "idleTimeoutMs"),
    ):
        result = gateway.tool("claude_request", **arguments)
        check(f"{title} is refused", bool(result.get("isError")) and part in text_of(result), part, result)
    equal("and still nothing was started", world.starts(), [])

    identifier = gateway.begin("tools/call", {"name": "gemini_request", "arguments": {"prompt": "@@silent@@"}})
    within(20, lambda: world.starts("agy"))
    equal("a call that will never end has started its CLI", len(world.starts("agy")), 1)
    gateway.notify("notifications/cancelled", {"requestId": identifier, "reason": "enough"})
    world.nothing_left("cancelling ends the CLI", expected=[gateway.process], seconds=15)
    with contextlib.suppress(Unanswered):
        gateway.finish(identifier, timeout=0.5)
    equal("ping is answered after that", gateway.request("ping", timeout=20), {})

    discovered = gateway.request("server/discover", era=MODERN, timeout=20)
    equal("the stateless protocol works in the same process", discovered["supportedVersions"], [MODERN])
    equal("nothing but protocol came on standard output", gateway.noise, [])
    equal("it ends well when its input ends", gateway.hang_up(), 0)
    equal("still nothing but protocol", gateway.noise, [])
    check("its log went to standard error", bool(gateway.log), "at least a line", gateway.log)


def end_of_input(world):
    gateway = world.stdio_gateway(handshake=False)
    began = time.monotonic()
    equal("a gateway that was never spoken to ends well", gateway.hang_up(), 0)
    check("at once", time.monotonic() - began < 2, "less than 2 s", f"{time.monotonic() - began:.2f} s")
    gateway = world.stdio_gateway()
    gateway.send('{"jsonrpc":"2.0","id":1,"meth')
    equal("an input that ends in the middle of a message ends well, too", gateway.hang_up(), 0)
    equal("with nothing but protocol on standard output", gateway.noise, [])
    world.nothing_left("nothing is left of them")


def over_http(world):
    gateway = world.http_gateway()
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}

    status, headers, body = gateway.post(ping, token=False)
    equal("without a bearer: 401", status, 401)
    equal("with the error's name", json.loads(body).get("error"), "Unauthorized")
    matches("and the challenge", headers.get("www-authenticate"), '^Bearer realm="llm-cli-gateway"')
    status, _, _ = gateway.post(ping, {"Authorization": "Bearer wrong"}, token=False)
    equal("with a wrong bearer: 401", status, 401)
    status, _, _ = gateway.post(ping, {"Authorization": f"Bearer {world.token}x"}, token=False)
    equal("with a longer bearer: 401", status, 401)

    status, _, body = gateway.raw("GET", "/healthz", token=False)
    check("/healthz needs none", status == 200 and json.loads(body).get("ok") is True, (200, {"ok": True}), (status, body))

    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "drivers", "version": "1"}}}
    equal("a foreign Origin: 403", gateway.post(hello, {"Origin": "https://evil.example"})[0], 403)
    equal("a foreign Origin is refused before the bearer is looked at", gateway.post(
        hello, {"Origin": "https://evil.example"}, token=False)[0], 403)
    equal("the Origin 'null': 403", gateway.post(hello, {"Origin": "null"})[0], 403)
    equal("a local Origin passes", gateway.post(hello, {"Origin": f"http://127.0.0.1:{gateway.port}"})[0], 200)
    status = gateway.post(hello, host="evil.example")[0]
    check("a foreign Host is refused", status in (400, 403, 421), "400, 403 or 421", status)
    status = gateway.post(hello, host=f"127.0.0.1.evil.example:{gateway.port}")[0]
    check("a Host that only begins like ours is refused", status in (400, 403, 421), "400, 403 or 421", status)
    equal("the Host 'localhost' passes", gateway.post(hello, host=f"localhost:{gateway.port}")[0], 200)

    status, _, body = gateway.raw("POST", body=b"{not json")
    check("bad JSON: 400 and -32700", status == 400 and json.loads(body)["error"]["code"] == -32700, (400, -32700), (status, body))
    status, _, body = gateway.post([ping])
    check("a batch: 400 and -32600", status == 400 and json.loads(body)["error"]["code"] == -32600, (400, -32600), (status, body))
    equal("an unknown path: 404", gateway.raw("GET", "/nowhere")[0], 404)
    status, headers, _ = gateway.raw("GET", headers={"MCP-Protocol-Version": MODERN})
    check("GET in the stateless protocol: 405 with Allow", status == 405 and "POST" in headers.get("allow", ""), 405, (status, headers))
    status, headers, _ = gateway.raw("PUT", body=b"{}")
    equal("PUT: 405", status, 405)
    equal("an unknown session: 404", gateway.post(ping, {"Mcp-Session-Id": "no-such-session", "MCP-Protocol-Version": LEGACY})[0], 404)
    status, _, _ = gateway.post({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, {"MCP-Protocol-Version": LEGACY})
    equal("no session: 400", status, 400)

    hundred = os.environ.get("LLM_GATEWAY_TEST_BODY_MB", "100")
    began = time.monotonic()
    status = large_body(gateway, int(hundred) << 20)
    check(f"a body of {hundred} MB: 413", status == 413, 413, status)
    check("within seconds", time.monotonic() - began < 10, "< 10 s", f"{time.monotonic() - began:.1f} s")
    memory = resident(gateway.process.pid)
    check("and is never held in memory", memory < 64, "< 64 MB resident", f"{memory:.0f} MB")

    gateway.initialize()
    check("initialize gives a session", bool(gateway.session), "an Mcp-Session-Id", gateway.session)
    equal("ping in the session", gateway.request("ping"), {})
    status, _, body = gateway.post({"jsonrpc": "2.0", "method": "notifications/initialized"},
                                   {"Mcp-Session-Id": gateway.session, "MCP-Protocol-Version": LEGACY})
    check("a notification: 202 without a body", status == 202 and body == b"", (202, b""), (status, body))
    result = gateway.tool("claude_request", **WRONG)
    equal("wrong argument types are a tool error here, too", [name for name in WRONG if name not in text_of(result)], [])
    equal("another version in the middle of a session: 400", gateway.post(
        ping, {"Mcp-Session-Id": gateway.session, "MCP-Protocol-Version": "1999-01-01"})[0], 400)
    status = gateway.raw("DELETE", headers={"Mcp-Session-Id": gateway.session, "MCP-Protocol-Version": LEGACY})[0]
    check("DELETE ends the session", status in (200, 204), "200 or 204", status)
    equal("which is unknown then", gateway.post(ping, {"Mcp-Session-Id": gateway.session, "MCP-Protocol-Version": LEGACY})[0], 404)

    gateway.session = None
    meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    listing = {"jsonrpc": "2.0", "id": 3, "method": "tools/list", "params": {"_meta": meta}}
    check("a stateless request without the version header: 400 and -32020",
          coded(gateway.post(listing)) == (400, -32020), (400, -32020), coded(gateway.post(listing)))
    right = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/list"}
    equal("with its headers it is served", gateway.post(listing, right)[0], 200)
    equal("a session id beside it is ignored", gateway.post(listing, {**right, "Mcp-Session-Id": "bogus"})[0], 200)
    equal("a header that contradicts the body: 400 and -32020", coded(gateway.post(listing, {**right, "Mcp-Method": "ping"})), (400, -32020))
    future = {**listing, "params": {"_meta": {**meta, "io.modelcontextprotocol/protocolVersion": "2099-01-01"}}}
    equal("an unknown version: 400 and -32022", coded(gateway.post(future, {**right, "MCP-Protocol-Version": "2099-01-01"})), (400, -32022))
    removed = {**listing, "method": "initialize"}
    equal("initialize in the stateless protocol: 404 and -32601", coded(gateway.post(removed, {**right, "Mcp-Method": "initialize"})), (404, -32601))

    second = world.call([gateway.process.args[0], "--transport=http"], {"LLM_GATEWAY_HTTP_PORT": str(gateway.port)}, timeout=30)
    check("a second gateway on the port ends with an error", second.returncode not in (0, 139), "a status that is not 0", second.returncode)
    contains("which names the port", second.stderr, str(gateway.port))
    equal("and prints nothing on standard output", second.stdout, "")

    gateway.process.terminate()
    equal("SIGTERM ends it well", gateway.process.wait(15), 0)
    equal("nothing came on its standard output", gateway.process.stdout.read(), "")


def coded(answer):
    """(HTTP status, JSON-RPC error code) of a raw answer."""
    status, headers, body = answer
    if headers.get("content-type", "").startswith("text/event-stream"):
        return status, events(body)[-1].get("error", {}).get("code")
    try:
        return status, json.loads(body).get("error", {}).get("code")
    except (ValueError, AttributeError):
        return status, body[:200].decode("utf-8", "replace")


def large_body(gateway, size):
    """Sends a request with a huge body as a client would that does not look up. -> the HTTP status."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as connection:
        connection.sendall((f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\nAuthorization: Bearer {gateway.world.token}\r\n"
                            f"Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n").encode())
        block, left = b" " * 65536, size
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while left > 0:
                connection.sendall(block[:left])
                left -= len(block)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            answer = connection.recv(4096)
        return int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else f"no answer: {answer[:100]!r}"


def resident(pid):
    """Megabytes."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:")) / 1024


run(drive)
