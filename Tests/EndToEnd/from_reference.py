#!/usr/bin/python3
"""Coming from the Node gateway: its home, made up as its users have it, with its process running, is taken over by `setup`.

The old process is a program named `node` with the words that the Node product's own manager starts: Python in that name,
serving a page of its own, so that what answers before and after can be told apart.
"""
import contextlib
import http.client
import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
import time

from harness import PYTHON, Skip, body_of, check, contains, equal, run, section, within
from installed import Client, Home, alive, killed_after
from service import bundle

INDEX = """
import http.server, json, os, signal, subprocess, sys

class Old(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"ok": True, "sessions": {"active": 0}, "ready": True}).encode()
        self.send_response(200 if self.path == "/healthz" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        if self.path.startswith("/run/"):
            subprocess.Popen(["sleep", self.path[5:]])
        # The token as the manager passes it: the bytes of the file.
        known = self.headers.get("Authorization") == "Bearer " + os.environ["LLM_GATEWAY_AUTH_TOKEN"].strip()
        body = b'{"old": true}' if known else b'{"error":"Unauthorized"}'
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
address = (os.environ["LLM_GATEWAY_HTTP_HOST"], int(os.environ["LLM_GATEWAY_HTTP_PORT"]))
http.server.ThreadingHTTPServer.allow_reuse_address = True
server = http.server.ThreadingHTTPServer(address, Old)
server.serve_forever()
"""

# As version 2.11 makes it: no columns of later versions.
SCHEMA = """
CREATE TABLE jobs (id TEXT PRIMARY KEY, correlation_id TEXT, request_key TEXT, cli TEXT NOT NULL, args_json TEXT,
    output_format TEXT, status TEXT NOT NULL, exit_code INTEGER, stdout TEXT, stderr TEXT, output_truncated INTEGER DEFAULT 0,
    error TEXT, started_at TEXT NOT NULL, finished_at TEXT, pid INTEGER, expires_at TEXT, owner_principal TEXT,
    transport TEXT DEFAULT 'process', http_status INTEGER, payload_json TEXT);
CREATE TABLE requests (id TEXT PRIMARY KEY, cli TEXT NOT NULL, model TEXT, prompt TEXT, system TEXT, response TEXT,
    session_id TEXT, duration_ms INTEGER, datetime_utc TEXT NOT NULL, input_tokens INTEGER, output_tokens INTEGER,
    cache_read_tokens INTEGER, cache_creation_tokens INTEGER, stable_prefix_hash TEXT, stable_prefix_tokens INTEGER,
    cache_control_blocks INTEGER, cache_control_ttl_seconds INTEGER, owner_principal TEXT);
CREATE TABLE gateway_metadata (request_id TEXT PRIMARY KEY REFERENCES requests(id), retry_count INTEGER DEFAULT 0,
    circuit_breaker_state TEXT, cost_usd REAL, approval_decision TEXT, optimization_applied INTEGER, thinking_blocks TEXT,
    exit_code INTEGER, error_message TEXT, async_job_id TEXT, status TEXT DEFAULT 'started', http_status INTEGER);
CREATE TABLE _migrations (version INTEGER PRIMARY KEY, applied_at TEXT);
"""

# What codex wrote in a run of the Node gateway.
CODEX_LINES = "\n".join(json.dumps(line) for line in (
    {"type": "thread.started", "thread_id": "22222222-2222-4333-8444-555555555555"},
    {"type": "item.completed", "item": {"type": "agent_message", "text": "an old reply"}},
    {"type": "turn.completed", "usage": {"input_tokens": 10, "output_tokens": 3}})) + "\n"


def stamp(ago=0):
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - ago))


class Reference:
    """A home as the Node product leaves it, and its process."""

    def __init__(self, world, home):
        self.world, self.home, self.token = world, home, secrets.token_hex(32)
        self.session = "11111111-2222-4333-8444-555555555555"
        self.process = None
        for folder in ("", "gateway/dist", "gateway/node_modules/zod", "runtime"):
            os.makedirs(home.file(folder), mode=0o700, exist_ok=True)
        home.write("gateway/package.json", json.dumps({"name": "llm-cli-gateway", "version": "2.11.1"}))
        home.write("gateway/dist/index.js", INDEX)
        home.write("gateway/node_modules/zod/index.js", "module.exports = {}\n")
        home.write("runtime/.llm-cli-gateway-runtime", "24.4.0\n")
        shutil.copy(os.path.realpath(PYTHON), home.file("runtime/node"))
        # With a line end, as an editor leaves it: the old product took that for the same token.
        home.write("auth-token", self.token + "\n", 0o644)
        home.write("settings.json", json.dumps({"public_url": "https://me.example/mcp", "verify_public_url": True}, indent=2) + "\n")
        home.write("config.toml", f'[workspaces]\ndefault = "main"\n\n[[workspaces.repos]]\nalias = "main"\npath = "{world.work}"\n'
                                  'kind = "folder"\n')
        home.write("approvals.jsonl", json.dumps({"id": "a", "ts": stamp(), "status": "approved", "policy": "balanced"}) + "\n")
        for name, text in (("gateway.log", "old\n"), ("gateway.err.log", ""), ("tunnel.log", ""), ("tunnel.pid", "999999"),
                           ("tunnel.json", json.dumps({"provider": "cloudflare", "public_url": "https://me.example"}))):
            home.write(name, text)
        home.write("sessions.json", json.dumps({"sessions": {self.session: {
            "id": self.session, "cli": "claude", "createdAt": stamp(7200), "lastUsedAt": stamp(3600),
            "description": "Claude Session", "ownerPrincipal": "gateway-bearer"}},
            "activeSession": {"claude": self.session, "codex": None}}, indent=2))
        with contextlib.closing(sqlite3.connect(home.file("logs.db"))) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(SCHEMA)
            database.execute("INSERT INTO requests (id, cli, model, prompt, response, datetime_utc, owner_principal) VALUES "
                             "('old-1', 'claude', 'sonnet', 'what is it?', 'an old answer', ?, 'gateway-bearer')", [stamp(3600)])
            database.execute("INSERT INTO gateway_metadata (request_id, exit_code, status) VALUES ('old-1', 0, 'completed')")
            database.execute("INSERT INTO jobs (id, cli, status, started_at, expires_at, pid, owner_principal) VALUES "
                             "('old-job', 'codex', 'running', ?, '9999-12-31T23:59:59.999Z', 999999, 'gateway-bearer')", [stamp(60)])
            database.execute("INSERT INTO jobs (id, cli, status, exit_code, output_format, stdout, stderr, started_at, finished_at, "
                             "expires_at, owner_principal) VALUES ('done-job', 'codex', 'completed', 0, 'text', ?, '', ?, ?, ?, "
                             "'gateway-bearer')", [CODEX_LINES, stamp(3600), stamp(3500), stamp(-86400)])
            database.commit()
        os.chmod(home.file("logs.db"), 0o600)

    def start(self, **environment):
        """Starts its process as its manager does, and writes the pid file."""
        with open(self.home.file("auth-token"), encoding="utf-8") as file:
            token = file.read()
        self.process = self.world.start(
            [self.home.file("runtime/node"), self.home.file("gateway/dist/index.js"), "--transport=http"],
            {"HOME": self.home.path, "LLM_GATEWAY_TRANSPORT": "http", "LLM_GATEWAY_HTTP_HOST": "127.0.0.1",
             "LLM_GATEWAY_HTTP_PORT": str(self.home.port), "LLM_GATEWAY_AUTH_TOKEN": token,
             "SYNC_DEADLINE_MS": "30000", **environment},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.home.write("gateway.pid", str(self.process.pid))
        check("the old gateway answers", within(10, lambda: self.asked()[1] == b'{"old": true}'), "an answer", None, vital=True)

    def asked(self, path="/mcp"):
        """What its address answers a client with the token. -> (status, body)"""
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self.home.port, timeout=5)
            connection.request("POST", path, "{}", {"Authorization": f"Bearer {self.token}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        return None, b""


def snapshot(home):
    """Every file below the home with its bytes and mode; the database's own working files aside."""
    found = {}
    for parent, _, files in os.walk(home.state):
        for name in files:
            path = os.path.join(parent, name)
            if not name.endswith(("-wal", "-shm")):
                with open(path, "rb") as file:
                    found[os.path.relpath(path, home.state)] = (file.read(), os.stat(path).st_mode)
    return found


def joined(ended):
    return "\n".join(ended.json["changes"] + ended.json["notices"])


def serves(home, old, title):
    """Checks that this program's gateway has the old one's place, with everything that was there."""
    client = Client(old.token, home.port)
    client.initialize()
    answer = body_of(client.tool("llm_request_result", correlationId="old-1"))
    equal(f"{title}: an old request is found by its correlation id", answer["request"]["response"], "an old answer")
    sessions = body_of(client.tool("session_list"))["sessions"]
    equal(f"{title}: the old session is listed", [entry["id"] for entry in sessions], [old.session])
    with contextlib.closing(sqlite3.connect(home.file("logs.db"))) as database:
        equal(f"{title}: a run that nobody can end any more is closed",
              database.execute("SELECT status FROM jobs WHERE id = 'old-job'").fetchall(), [("orphaned",)])
    equal(f"{title}: as its status says", body_of(client.tool("llm_job_status", jobId="old-job"))["job"]["status"], "orphaned")
    done = body_of(client.tool("llm_job_result", jobId="done-job"))["result"]
    equal(f"{title}: a finished run's reply is read from its output", [done["status"], done["stdout"]], ["completed", "an old reply"])
    with open(home.file("auth-token"), encoding="utf-8") as file:
        equal(f"{title}: the token is the same to the byte", file.read(), old.token + "\n")
    equal(f"{title}: and nobody else may read it", os.stat(home.file("auth-token")).st_mode & 0o777, 0o600)
    contains(f"{title}: configuration and public address stay", home.read("config.toml") + home.read("settings.json"), "me.example")
    left = [name for name in ("gateway", "runtime", "gateway.pid", "tunnel.pid", "gateway.log", "takeover.json")
            if os.path.exists(home.file(name))]
    equal(f"{title}: its program is out of the way", left, [])
    check(f"{title}: and kept", os.path.exists(home.file("reference/gateway/dist/index.js"))
          and os.access(home.file("reference/runtime/node"), os.X_OK), "gateway and runtime", os.listdir(home.file("reference")))


def story(world, archive):
    home = Home(world, "old-home")
    old = Reference(world, home)
    old.start()
    with section("looking"):
        before = snapshot(home)
        contains("status names it", "\n".join(home.status()["notices"]), "the Node gateway 2.11.1 is in this home, which runs as process")
        codes = [finding["code"] for finding in home.run("doctor", "--json").json["findings"]]
        check("the doctor finds it", "reference-found" in codes, "reference-found", codes)
        rehearsed = home.json("setup", "--dry-run")
        equal("a dry run says so", (rehearsed.json["dry_run"], rehearsed.json["changed"]), (True, False))
        contains("a dry run says that it waits for a bundle", joined(rehearsed), "install a bundle, then run")
        equal("looking changes nothing", {name for name, value in snapshot(home).items() if before.get(name) != value} - {".lock"}, set())
    with section("without a bundle"):
        waited = home.json("setup")
        equal("setup leaves the old gateway in its place", (waited.json["reference"]["state"], waited.json["reference"]["pid"]),
              ("waiting", old.process.pid))
        equal("it goes on", old.asked(), (200, b'{"old": true}'))
        equal("its port is this home's from now on", waited.json["url"], f"http://127.0.0.1:{home.port}/mcp")
    with section("taking over"):
        home.json("install-bundle", *archive)
        equal("installing leaves it alone", old.asked(), (200, b'{"old": true}'))
        home.refused("start", code=1, error="reference-running", says=["process", "setup"])
        before = snapshot(home)
        rehearsed = home.json("setup", "--dry-run")
        for part in (f"end the Node gateway 2.11.1 (process {old.process.pid})", "start this gateway in its place",
                     "SYNC_DEADLINE_MS from the Node gateway's process into", "move what is left of its program (gateway, gateway.err.log, gateway.log"):
            contains(f"a dry run says: {part}", joined(rehearsed), part)
        equal("and changes nothing", {name for name, value in snapshot(home).items() if before.get(name) != value}, set())
        # A run of the old gateway: it is waited for.
        old.asked("/run/3")
        taken = home.json("setup")
        contains("setup waits for what it runs", taken.err, "waiting for what the Node gateway 2.11.1 is running")
        equal("it is taken over", taken.json["reference"]["state"], "taken-over", vital=True)
        equal("this gateway runs in its place", (taken.status["running"], taken.status["healthy"]), (True, True))
        old.process.wait(5)
        equal("the old process was asked to end, not killed", old.process.returncode, 0)
        contains("what only its process knew is kept", home.read("environment"), "SYNC_DEADLINE_MS=30000")
        serves(home, old, "afterwards")
    with section("again"):
        again = home.json("setup")
        equal("a second setup changes nothing", (again.json["changed"], again.json["reference"]["state"]), (False, "kept"))
        contains("status says what is kept", "\n".join(home.status()["notices"]), "setup --remove-reference")
        codes = [finding["code"] for finding in home.run("doctor", "--json").json["findings"]]
        check("so does the doctor", "reference-kept" in codes and "reference-found" not in codes, "reference-kept", codes)
        removed = home.json("setup", "--remove-reference")
        equal("it is removed when asked", (removed.json["reference"]["state"], os.path.exists(home.file("reference"))), ("removed", False))
        check("and then not spoken of any more", "reference" not in home.run("setup", "--json").json, "no member", None)
    home.json("stop")


def reused(world, archive):
    """The number in gateway.pid belongs to a stranger by now."""
    home = Home(world, "reused-home")
    Reference(world, home)
    stranger = world.start(["sleep", "300"])
    home.write("gateway.pid", str(stranger.pid))
    home.json("setup", "--port", str(home.port))
    home.json("install-bundle", *archive)
    taken = home.json("setup")
    contains("a stranger with its number is named", joined(taken), f"process {stranger.pid} (sleep 300), which is left alone")
    check("and lives", alive(stranger.pid), "alive", None)
    equal("the rest is taken over", (taken.json["reference"]["state"], taken.json["reference"]["pid"]), ("taken-over", None))
    check("nothing is started that did not run", "status" not in taken.json, "no status", taken.json.get("status"))
    home.json("start")
    home.json("stop")


def interrupted(world, archive):
    """Killed at any time, the next setup goes on."""
    home = Home(world, "killed-home")
    old = Reference(world, home)
    home.json("setup", "--port", str(home.port))
    home.json("install-bundle", *archive)
    old.start()
    old.asked("/run/300")
    kills = 0
    for delay in (0.02, 0.05, 0.1, 0.2, 0.3, 0.4):
        kills += killed_after(home, delay, "setup", "--now")
    taken = home.json("setup", "--now")
    equal(f"after {kills} kills it comes to its end", taken.code, 0)
    equal("and this gateway runs", home.status().get("healthy"), True)
    serves(home, old, "after being killed")
    home.json("stop")


def drive(world):
    if os.path.isdir("/run/systemd/system"):
        raise Skip("this machine has systemd, which would be used")
    path, digest = bundle(world.root, "0.1.0")
    archive = ("--url", f"file://{path}", "--sha256", digest)
    for part in (story, reused, interrupted):
        with section(part.__name__):
            part(world, archive)


if __name__ == "__main__":
    sys.exit(run(drive))
