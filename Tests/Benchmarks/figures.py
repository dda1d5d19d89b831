"""What the benchmarks share: a figure's lines, and what a process costs."""
import json
import os
import re
import subprocess
import sys

missed = []


def report(figure, measured, bar, holds, command):
    """The lines of one figure; a bar that is missed makes the whole run fail."""
    print(f"{figure}\n  measured  {measured}\n  bar       {bar}{'' if holds else '   MISSED'}\n  command   {command}", flush=True)
    if not holds:
        missed.append(figure)


def finish():
    sys.exit(1 if missed else 0)


def memory(pid, name="VmRSS"):
    """MB that a process has; `VmHWM`: the most it ever had."""
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(rf"^{name}:\s+(\d+)", file.read(), re.M).group(1)) / 1024


def wakeups(pid):
    """How often the threads of a process have gone to sleep, and so been woken."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status") as file:
            total += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", file.read(), re.M).group(1))
    return total


def processor_time(pid):
    """Seconds that all threads of a process have run."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
            total += int(file.read().split()[0])
    return total / 1e9


# How a request in the stateless era is sent; wrk counts an answer whose status is no success.
SCRIPT = """wrk.method = "POST"
{headers}
wrk.body = [[{body}]]
done = function(summary, latency)
  io.write(string.format("requests=%d errors=%d rate=%f p50=%f p99=%f\\n", summary.requests,
    summary.errors.status + summary.errors.read + summary.errors.write + summary.errors.connect + summary.errors.timeout,
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""


def wrk(world, url, name, token=None, seconds=4, **arguments):
    """Calls one tool over 8 connections, each as soon as the last call is answered. Without a token it is a peer's, of the handshake era.

    -> {requests, rate: in a second, p50, p99: milliseconds}
    """
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Mcp-Method": "tools/call",
               "Mcp-Name": name, "MCP-Protocol-Version": "2026-07-28" if token else "2025-06-18"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
        body["params"]["_meta"] = {"io.modelcontextprotocol/protocolVersion": "2026-07-28",
                                   "io.modelcontextprotocol/clientCapabilities": {}}
    lines = "\n".join(f'wrk.headers["{key}"] = "{value}"' for key, value in headers.items())
    script = world.write("wrk.lua", SCRIPT.format(headers=lines, body=json.dumps(body)))
    command = ["wrk", "-t1", "-c8", f"-d{seconds}s", "--timeout", "30s", "-s", script, url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {key: float(value) for key, value in re.findall(r"(\w+)=([\d.]+)", text)}
    assert found["errors"] == 0, text
    return found
