"""The peer: a hello tool on FastMCP (PyPI `mcp` 1.x), on stdio or on a port, stateless and with JSON answers."""
import sys

from mcp.server.fastmcp import FastMCP

port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
server = FastMCP("hello", host="127.0.0.1", port=port, stateless_http=True, json_response=True, log_level="ERROR")


@server.tool()
def hello() -> str:
    return "hello"


server.run(transport="streamable-http" if port else "stdio")
