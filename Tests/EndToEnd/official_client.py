"""Run by mcp_clients.py in a virtual environment of the official MCP client.

Reads from standard input {"stdio": {command, args, env, cwd} | "http": {url, headers}, "mode", "tools": [[name, arguments]…]},
connects, lists, calls, and prints {"version", "server", "ping", "tools", "calls": [{"ok", "text", "structured"}…]}.
"""
import asyncio
import contextlib
import json
import sys


def seen_of(result):
    """A tool's result in one shape for both generations of the client."""
    raw = result.model_dump(mode="json", by_alias=True)
    return {"ok": not raw.get("isError"), "structured": raw.get("structuredContent"),
            "text": next((part["text"] for part in raw.get("content", []) if part.get("type") == "text"), "")}


async def calls(client, tools, error_type):
    found = []
    for name, arguments in tools:
        try:
            found.append(seen_of(await client.call_tool(name, arguments)))
        except error_type as error:
            found.append({"ok": False, "structured": None, "text": f"{error}"})
    return found


async def first_generation(spec):
    from mcp import ClientSession, McpError, StdioServerParameters, stdio_client
    from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client

    async with contextlib.AsyncExitStack() as stack:
        if "stdio" in spec:
            read, write = await stack.enter_async_context(stdio_client(StdioServerParameters(**spec["stdio"])))
        else:
            http = await stack.enter_async_context(create_mcp_http_client(headers=spec["http"]["headers"]))
            read, write, _ = await stack.enter_async_context(streamable_http_client(spec["http"]["url"], http_client=http))
        session = await stack.enter_async_context(ClientSession(read, write))
        hello = await session.initialize()
        await session.send_ping()
        tools = await session.list_tools()
        return {"version": hello.protocolVersion, "server": hello.serverInfo.model_dump(mode="json"), "ping": True,
                "tools": [tool.name for tool in tools.tools], "calls": await calls(session, spec["tools"], McpError)}


async def second_generation(spec):
    from mcp import Client, MCPError, StdioServerParameters
    from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client

    async with contextlib.AsyncExitStack() as stack:
        if "stdio" in spec:
            server = StdioServerParameters(**spec["stdio"])
        else:
            http = await stack.enter_async_context(create_mcp_http_client(headers=spec["http"]["headers"]))
            server = streamable_http_client(spec["http"]["url"], http_client=http)
        client = await stack.enter_async_context(Client(server, mode=spec["mode"]))
        legacy = spec["mode"] == "legacy"
        if legacy:
            await client.send_ping()
        tools = await client.list_tools()
        info = client.server_info
        return {"version": client.protocol_version, "ping": legacy,
                "server": info.model_dump(mode="json", by_alias=True) if info else {},
                "tools": [tool.name for tool in tools.tools], "calls": await calls(client, spec["tools"], MCPError)}


try:
    from mcp import Client  # noqa: F401
    generation = second_generation
except ImportError:
    generation = first_generation
print(json.dumps(asyncio.run(asyncio.wait_for(generation(json.load(sys.stdin)), 100))))
