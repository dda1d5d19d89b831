#!/usr/bin/python3
"""Backup and moving house: a home in one file while its gateway works under load, put into another home of another machine.

"Another machine" is another HOME with another port; the records, sessions and configuration have to answer there.
"""
import contextlib
import fcntl
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tarfile
import threading
import time

from harness import Skip, body_of, check, contains, equal, run, section, within
from installed import CLEAN, NEXT, Client, Home, killed_after, namespace, namespaces_work, next_release, release, version_in_use
from service import bundle

HASH = "scrypt:N=32768,r=8,p=1:c2FsdHNhbHQ:aGFzaGhhc2hoYXNo"
KEY = "sk-ant-a-key-of-the-user"


def configuration(world):
    return f"""# mine: a note of my own
[workspaces]
default = "main"

[[workspaces.repos]]
alias = "main"
path = "{world.work}"
kind = "folder"

[http.oauth]
enabled = false

[[http.oauth.clients]]
client_id = "my-client"
client_secret_hash = "{HASH}"
allowed_redirect_uris = ["https://client.example/callback"]
"""


class Load:
    """Writes to the records of a home as fast as it goes, two rows that belong together in each transaction."""

    def __init__(self, path):
        self.path, self.ends, self.count = path, threading.Event(), 0
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as database:
            database.execute("CREATE TABLE IF NOT EXISTS left_rows (n INTEGER PRIMARY KEY, filler TEXT)")
            database.execute("CREATE TABLE IF NOT EXISTS right_rows (n INTEGER PRIMARY KEY, filler TEXT)")
            # So much that the load goes on while it is copied.
            for name in ("left", "right"):
                database.executemany(f"INSERT INTO {name}_rows (filler) VALUES (?)", ([os.urandom(400).hex()] for _ in range(15000)))
            database.commit()
        self.thread = threading.Thread(target=self.work)

    def work(self):
        with contextlib.closing(sqlite3.connect(self.path, timeout=30)) as database:
            while not self.ends.is_set():
                database.execute("INSERT INTO left_rows (filler) VALUES (?)", [os.urandom(400).hex()])
                database.execute("INSERT INTO right_rows (filler) VALUES (?)", [os.urandom(400).hex()])
                database.commit()
                self.count += 1

    def __enter__(self):
        self.thread.start()
        within(10, lambda: self.count > 50)
        return self

    def __exit__(self, *_):
        self.ends.set()
        self.thread.join()


def members(path):
    """{name: bytes} of a tar.gz."""
    with tarfile.open(path) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive}


def packed(path, files, level=1, extra=()):
    """A backup with these {path: bytes}, and a manifest that fits unless it is among them."""
    manifest = files.get("backup.json") or json.dumps({
        "schema_version": "backup-manifest.v1", "name": "llm-cli-gateway", "version": "0.1.0",
        "created_at": "2026-01-01T00:00:00.000Z", "home": "/h", "with_secrets": False, "left_out": [],
        "files": [{"path": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "mode": "0600"}
                  for name, data in files.items()]}).encode()
    with tarfile.open(path, "w:gz", compresslevel=level) as archive:
        for name, data in [("backup.json", manifest)] + [(f"home/{name}", data) for name, data in files.items() if name != "backup.json"]:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for entry, data in extra:
            archive.addfile(entry, io.BytesIO(data))
    return path


def answers(home, token, title, record):
    client = Client(token, home.port)
    client.initialize()
    found = body_of(client.tool("llm_request_result", correlationId=record["id"]))
    equal(f"{title}: an old request is found by its correlation id", found.get("request", {}).get("response"), record["response"])
    sessions = body_of(client.tool("session_list"))["sessions"]
    check(f"{title}: the old sessions are listed", record["session"] in [entry["id"] for entry in sessions], record["session"], sessions)


def furnish(world, home, archive):
    """A home with a running gateway, a real request in its records, and all that is the user's."""
    home.json("setup", "--port", str(home.port))
    home.json("install-bundle", *archive)
    home.write("config.toml", configuration(world))
    home.write("environment", home.read("environment") + f"ANTHROPIC_API_KEY={KEY}\n")
    home.write("notes.md", "mine\n")
    home.write("server.key", "-----BEGIN PRIVATE KEY-----\n")
    settings = json.loads(home.read("settings.json"))
    home.write("settings.json", json.dumps({**settings, "chatgpt_no_auth_path": "/secret-path-of-mine"}))
    session = "11111111-2222-4333-8444-555555555555"
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    home.write("sessions.json", json.dumps({"sessions": {session: {
        "id": session, "cli": "claude", "createdAt": now, "lastUsedAt": now, "description": "Claude Session",
        "ownerPrincipal": "gateway-bearer"}}, "activeSession": {"claude": session}}))
    home.json("start")
    client = home.client()
    client.initialize()
    result = client.tool("grok_request", prompt="reply with the word pear", correlationId="moved-1")
    content = result["structuredContent"]
    with contextlib.closing(sqlite3.connect(home.file("logs.db"))) as database:
        database.execute("INSERT INTO jobs (id, cli, status, started_at, expires_at, owner_instance) VALUES "
                         "('under-way', 'codex', 'running', '2026-01-01T00:00:00Z', '9999-12-31T23:59:59.999Z', 'gone')")
        database.commit()
    return {"id": "moved-1", "response": content["response"], "session": session}


def story(world, archive):
    old = Home(world, "old-house", environment={"PATH": f"{world.bin}:/usr/bin:/bin"})
    record = furnish(world, old, archive)
    plain, full = os.path.join(world.root, "plain.tar.gz"), os.path.join(world.root, "full.tar.gz")
    with section("backup"):
        with Load(old.file("logs.db")) as load:
            began, written = time.monotonic(), load.count
            taken = old.json("backup", plain)
            lines = [json.loads(line) for line in old.run("backup", full, "--with-secrets", "--progress").out.splitlines()]
            seconds = time.monotonic() - began
            check("the load goes on meanwhile", load.count > written, f"more than {written}", load.count)
            print(f"    {load.count - written} transactions in {seconds:.1f} s of two backups", flush=True)
        equal("only the user may read it", stat.S_IMODE(os.stat(plain).st_mode), 0o600)
        with open(plain, "rb") as file:
            equal("its digest is told", hashlib.file_digest(file, "sha256").hexdigest(), taken.json["sha256"])
        phases = [line.get("phase") for line in lines if line["event"] == "progress"]
        check("progress is told as events", {"copy", "pack"} <= set(phases) and lines[-1]["event"] == "result", "copy, pack, result", lines)
        found = members(plain)
        print("    " + ", ".join(sorted(found)), flush=True)
        everything = b"".join(found.values())
        for secret in (old.read("auth-token").encode(), KEY.encode(), HASH.encode(), b"secret-path-of-mine", b"PRIVATE KEY"):
            check(f"without asking it has no {secret[:12]}…", secret not in everything, "no secret", None)
        contains("the configuration is in it all the same", found["home/config.toml"].decode(), "# mine: a note of my own")
        equal("so are files of the user's", found["home/notes.md"], b"mine\n")
        left = {entry["path"] for entry in taken.json["left_out"]}
        check("what is left out is told", {"auth-token", "environment", "server.key", "config.toml", "settings.json"} <= left, "five names", left)
        check("neither programs nor logs are in it", not [name for name in found if "versions" in name or "log/" in name or "receipt" in name],
              "none", sorted(found))
        copy = world.write("copy.db", "")
        with open(copy, "wb") as file:
            file.write(found["home/logs.db"])
        with contextlib.closing(sqlite3.connect(copy)) as database:
            equal("the records are whole", database.execute("PRAGMA integrity_check").fetchone(), ("ok",))
            rows = [database.execute(f"SELECT count(*), max(n) FROM {name}_rows").fetchone() for name in ("left", "right")]
            check("and of one instant", rows[0] == rows[1] and rows[0][0] > 0, "as many on both sides", rows)
        check("nothing is left in the home", not os.listdir(old.file("staging")), [], os.listdir(old.file("staging")))
        old.refused("backup", plain, code=2, error="file-exists", says=["is there already", "--force"])
        equal("with --force it is replaced", old.run("backup", plain, "--force").code, 0)
        old.refused("backup", old.file("x.tar.gz"), code=2, error="inside-home", says=["inside the home"])
        old.refused("backup", code=2, error="missing-value", says=["FILE"])
        old.refused("backup", os.path.join(world.root, "none/x.tar.gz"), code=1, error="file-not-found")
        old.refused("backup", full + "2", code=1, error="nothing-to-back-up", environment={"LLM_GATEWAY_HOME": os.path.join(world.root, "nowhere")})

    with section("moving without secrets"):
        new = Home(world, "new-house")
        moved = new.json("restore", plain)
        equal("a new token is made", moved.json["token"], "new")
        contains("and told", "\n".join(moved.json["changes"]), "made a token in")
        check("it is another one", new.read("auth-token") != old.read("auth-token"), "another", None)
        equal("the record of a run that stayed behind is closed", moved.json["closed_runs"], 1)
        new.json("setup", "--port", str(new.port))
        new.json("install-bundle", *archive)
        new.json("start")
        answers(new, new.read("auth-token").strip(), "in the new house", record)
        contains("the configuration has moved", new.read("config.toml"), 'alias = "main"')
        again = new.refused("restore", plain, code=2, error="home-not-empty", says=["logs.db", "--replace"])
        check("a refusal leaves the gateway alone", new.status()["healthy"] and again.code == 2, "healthy", new.status())

    with section("replacing"):
        pid = new.status()["pid"]
        rehearsed = new.json("restore", full, "--dry-run")
        check("a dry run says what would be replaced", "logs.db" in rehearsed.json["replaced"] and not rehearsed.json["changed"],
              "logs.db", rehearsed.json)
        equal("and stops nothing", new.status()["pid"], pid)
        token = new.read("auth-token")
        replaced = new.json("restore", full, "--replace", environment={"LLM_GATEWAY_HTTP_PORT": str(new.port)})
        equal("the token of the backup is here", (replaced.json["token"], new.read("auth-token")), ("restored", old.read("auth-token")))
        equal("the gateway was started again", (replaced.status.get("healthy"), replaced.status.get("pid") != pid), (True, True))
        with open(os.path.join(replaced.json["replaced_in"], "auth-token"), encoding="utf-8") as file:
            equal("what was here is kept", file.read(), token)
        contains("keys have moved", new.read("environment"), KEY)
        answers(new, old.read("auth-token").strip(), "after replacing", record)
        check("nothing is left over", not os.path.exists(new.file("restore.json")) and not os.listdir(new.file("staging")), "nothing",
              os.listdir(new.state))

    with section("a backup with which the gateway does not start"):
        files = {name[5:]: data for name, data in members(full).items() if name.startswith("home/")}
        files["config.toml"] = b'[persistence]\nbackend = "no such thing"\n'
        broken = packed(os.path.join(world.root, "broken.tar.gz"), files)
        before = {name: new.read(name) for name in ("config.toml", "settings.json", "sessions.json", "auth-token")}
        undone = new.refused("restore", broken, "--replace", code=1, error="restore-undone", says=["in use again", ".undone"])
        equal("what was there is back", {name: new.read(name) for name in before}, before)
        check("and the gateway runs with it", new.status().get("healthy"), "healthy", undone)
        answers(new, old.read("auth-token").strip(), "after undoing", record)

    with section("killed while restoring"):
        kills = interrupted = 0
        for delay in (0.03, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3):
            with contextlib.closing(sqlite3.connect(new.file("logs.db"))) as database:
                database.execute("CREATE TABLE IF NOT EXISTS other (n INTEGER)")
                database.execute("INSERT INTO other VALUES (1)")
                database.commit()
            kills += killed_after(new, delay, "restore", full, "--replace", environment={"LLM_GATEWAY_HTTP_PORT": str(new.port)})
            interrupted += os.path.exists(new.file("restore.json"))
            with contextlib.closing(sqlite3.connect(new.file("logs.db"))) as database:
                if database.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                    check("the records are whole after a kill", False, "ok", delay)
        new.json("repair")
        equal(f"after {kills} kills nothing is half done", os.path.exists(new.file("restore.json")), False)
        last = new.json("restore", full, "--replace", environment={"LLM_GATEWAY_HTTP_PORT": str(new.port)})
        equal("the next one comes to its end", last.code, 0)
        new.run("start", environment={"LLM_GATEWAY_HTTP_PORT": str(new.port)})
        answers(new, old.read("auth-token").strip(), "after being killed", record)

    with section("a half-done restore"):
        new.json("stop")
        journal = {"source": new.file("staging/restore-0123456789abcdef/home"), "aside": new.file("replaced-x"),
                   "placed": ["notes.md"], "removed": []}
        os.makedirs(journal["source"])
        new.write("staging/restore-0123456789abcdef/home/notes.md", "restored\n")
        new.write("restore.json", json.dumps(journal))
        ended = world.call([new.file("current/bin/llm-gateway"), "--transport=http"], new.environment)
        contains("status says that a restore was interrupted", "\n".join(new.status()["notices"]), "a restore was interrupted")
        found = [finding["code"] for finding in new.run("doctor", "--json").json["findings"] if finding["severity"] == "error"]
        check("so does the doctor", "restore-interrupted" in found, "restore-interrupted", found)
        check("and a rehearsed repair", any("interrupted restore" in step for step in new.run("repair", "--dry-run").json["steps"]),
              "a step", None)
        check("the gateway does not serve two halves", ended.returncode != 0 and "a restore was interrupted" in ended.stderr,
              "a refusal", ended.stderr)
        contains("starting it finishes the restore first", "\n".join(new.json("start").status["notices"]), "finished an interrupted restore")
        equal("every file is in its place", (new.read("notes.md"), os.path.exists(new.file("restore.json"))), ("restored\n", False))
        with open(new.file("replaced-x/notes.md"), encoding="utf-8") as file:
            equal("and what was there is kept", file.read(), "mine\n")

    with section("a client's own gateway"):
        stdio = world.start([new.file("current/bin/llm-gateway"), "--transport=stdio"], new.environment, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        stdio.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
        stdio.stdin.flush()
        stdio.stdout.readline()
        new.refused("restore", plain, "--replace", code=4, error="home-in-use", says=[f"process {stdio.pid}"])
        world.end(stdio)
    new.json("stop")
    old.json("stop")


def versions(world):
    """A backup of one version in a home of another one, and what that one added to it back in a home of the first."""
    first = release()
    second = next_release(world, first)
    homes = [Home(world, name, environment={"PATH": f"{world.bin}:/usr/bin:/bin"}) for name in ("first-version", "second-version")]
    one, two = homes
    files = [os.path.join(world.root, name) for name in ("of-the-first.tar.gz", "of-the-second.tar.gz")]
    record = furnish(world, one, first.flags)
    two.json("setup", "--port", str(two.port))
    two.json("install-bundle", *second.flags)
    for home in homes:
        home.program = home.link
    two.json("start")
    equal("they are of two versions", (version_in_use(one), version_in_use(two)), (first.version, second.version), vital=True)

    def carried(source, target, file, version, title):
        """Backs one home up and restores it in the other. -> the version that the backup says it is of"""
        source.json("backup", file, "--with-secrets")
        told = target.json("restore", file, "--replace", environment={"LLM_GATEWAY_HTTP_PORT": str(target.port)})
        equal(f"{title}: the gateway was started again, and is of its own version",
              (told.status.get("healthy"), version_in_use(target)), (True, version))
        # The port of a home came along with its settings; here both are on one machine.
        target.json("setup", "--port", str(target.port))
        target.json("restart")
        answers(target, target.read("auth-token").strip(), title, record)
        findings = target.run("doctor", "--json").json["findings"]
        equal(f"{title}: the doctor finds no error", [found for found in findings if found["severity"] == "error"], [])
        return json.loads(members(file)["backup.json"])["version"]

    try:
        said = [carried(one, two, files[0], second.version, f"{first.version} on {second.version}")]
        client = two.client()
        client.initialize()
        added = client.tool("grok_request", prompt="reply with the word plum", correlationId="moved-2")["structuredContent"]["response"]
        said.append(carried(two, one, files[1], first.version, f"{second.version} on {first.version}"))
        client = one.client()
        client.initialize()
        found = body_of(client.tool("llm_request_result", correlationId="moved-2"))
        equal("a request that the second version recorded is found by the first", found.get("request", {}).get("response"), added)
        if second.path.startswith(NEXT):
            equal("each backup says of which version it is", said, [first.version, second.version])
        else:
            print(f"    both programs were compiled as {said[0]}; setup_up.py builds a second version", flush=True)
        equal("nothing is left to repair", [home.json("repair", "--dry-run").json["message"] for home in homes], [CLEAN, CLEAN])
    finally:
        for home in homes:
            home.run("stop")


def bystanders(world, archive):
    """A restore among other commands, of a gateway that does not just run, and of files that are elsewhere."""
    home = Home(world, "busy-house", environment={"PATH": f"{world.bin}:/usr/bin:/bin"})
    home.json("setup", "--port", str(home.port))
    home.json("install-bundle", *archive)
    home.write("config.toml", "# mine\n")
    home.write("notes.md", "restored\n")
    home.json("start")
    full = os.path.join(world.root, "busy.tar.gz")
    home.json("backup", full, "--with-secrets")
    command = [home.program, "restore", full, "--replace", "--json"]

    def launched(*words):
        return world.start([home.program, *words], {**world.environment, **home.environment}, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ended(process):
        out, err = process.communicate(timeout=120)
        return process.returncode, out + err

    def running(title):
        status = home.status()
        check(f"{title}: the gateway runs", status.get("running") and status.get("healthy"), "a running gateway", status)
        return status

    def undone():
        return [name for name in os.listdir(home.state) if name.endswith(".undone")]

    with section("a rehearsal beside a note that the gateway has to be started"):
        home.json("stop")
        home.write("start-pending", "")
        home.write("notes.md", "mine\n")
        with socket.socket() as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stranger.bind(("127.0.0.1", home.port))
            stranger.listen()
            before = home.tree()
            told = home.json("restore", full, "--replace", "--dry-run")
        equal("says what it would do", (told.json["dry_run"], told.json["restored"]), (True, ["logs.db", "notes.md"]))
        equal("and moves nothing", (home.tree(), home.read("notes.md")), (before, "mine\n"))
        equal("nor does it start anything", home.status()["running"], False)
        home.json("start")

    with section("other commands wait for the lock"):
        for others in (["print-client-config"], ["print-client-config"], command[1:], command[1:]):
            home.write("notes.md", f"{others}\n")
            with open(home.file(".lock"), "rb") as lock:
                # Until both have begun, nobody gets it.
                fcntl.flock(lock, fcntl.LOCK_EX)
                first = launched(*command[1:])
                time.sleep(0.15)
                second = launched(*others)
                time.sleep(0.15)
            results = [ended(process) for process in (first, second)]
            equal(f"a restore and '{others[0]}' both come to their end", [code for code, _ in results], [0, 0]) or print(results)
            equal("the backup's file is there", home.read("notes.md"), "restored\n")
            running(others[0])
        equal("nothing was undone", undone(), [])
        check("no note is left", not os.path.exists(home.file("start-pending")), "none", os.listdir(home.state))

    with section("a gateway that was started without systemd where there is one"):
        namespaces_work(world)
        prefix = namespace("mount -t tmpfs none /run && mkdir -p /run/systemd/system")
        home.json("stop")
        home.json("start", "--detached", prefix=prefix)
        home.write("notes.md", "mine\n")
        told = home.json("restore", full, "--replace", prefix=prefix)
        equal("is started without it again", (told.status.get("supervisor"), told.status.get("healthy")), ("detached", True))
        home.json("stop")
        home.write("start-pending", json.dumps({"detached": True}))
        home.run("print-client-config", prefix=prefix)
        equal("so it is by the next command", running("after a note").get("supervisor"), "detached")

    with section("a gateway that crashes again and again"):
        home.write("config.toml", '[persistence]\nbackend = "no such thing"\n')
        os.kill(home.status()["pid"], signal.SIGKILL)
        check("is at it", within(20, lambda: home.status()["state"].startswith("activating")), "activating", home.status())
        home.json("restore", full, "--replace")
        running("after the backup put it right")

    with section("files that are kept elsewhere"):
        elsewhere = world.directory("dotfiles")
        for name in ("settings.json", "config.toml"):
            shutil.move(home.file(name), elsewhere)
            os.symlink(os.path.join(elsewhere, name), home.file(name))
        same = home.json("restore", full, "--replace")
        equal("what is the same through a link stays", same.json["restored"], [])
        with open(os.path.join(elsewhere, "config.toml"), "w", encoding="utf-8") as file:
            file.write("# another\n")
        told = home.json("restore", full, "--replace")
        equal("the links stay", [os.readlink(home.file(name)) for name in ("settings.json", "config.toml")],
              [os.path.join(elsewhere, name) for name in ("settings.json", "config.toml")])
        equal("and what they lead to is written", home.read("config.toml"), "# mine\n")
        with open(os.path.join(told.json["replaced_in"], "config.toml"), encoding="utf-8") as file:
            equal("what was there is kept", file.read(), "# another\n")
        running("with links")

    with section("an interrupted restore, and a program that is missing"):
        home.json("stop")
        os.makedirs(home.file("staging/restore-0123456789abcdef/home"))
        home.write("restore.json", json.dumps({
            "source": home.file("staging/restore-0123456789abcdef/home"), "aside": home.file("replaced-x"), "placed": [],
            "removed": [], "was_running": True, "was_detached": True, "state": "placing"}))
        os.unlink(os.path.realpath(home.file("current/bin/llm-gateway")))
        home.json("repair")
        running("after the repair")

    with section("an uninstall that waits"):
        # What is nobody's but the user's would keep the home.
        os.unlink(home.file("notes.md"))
        home.json("backup", full, "--with-secrets", "--force")
        home.write("config.toml", "# another\n")
        with open(home.file(".lock"), "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            first = launched(*command[1:])
            time.sleep(0.15)
            second = launched("uninstall", "--yes", "--purge", "--json")
            time.sleep(0.15)
        code, said = ended(first)
        equal("comes to its end", ended(second)[0], 0)
        print(f"    the restore ends with {code}", flush=True)
        check("no home is made again", not os.path.exists(home.state), "nothing",
              os.path.isdir(home.state) and os.listdir(home.state))


def hostile(world):
    """What is no backup, is altered, or wants more than its place."""
    home = Home(world, "wary-house")
    home.json("setup")
    before = {name: home.read(name) for name in ("auth-token", "environment")}
    outside = os.path.join(world.root, "outside")

    def refused(title, path, code, error, says=()):
        home.refused("restore", path, "--replace", code=code, error=error, says=says)

    def entry(name, kind, link=""):
        made = tarfile.TarInfo(name)
        made.type, made.linkname = kind, link
        return made

    path = os.path.join(world.root, "bad.tar.gz")
    world.write(path, "<html>")
    refused("a web page", path, 3, "not-a-backup", ["no backup of llm-cli-gateway"])
    refused("nothing", path + ".none", 1, "file-not-found")
    with tarfile.open(path, "w:gz"):
        pass
    refused("an empty archive", path, 3, "not-a-backup", ["does not begin with 'backup.json'"])
    packed(path, {"backup.json": b"{}"})
    refused("a manifest of nothing", path, 3, "backup-invalid")
    packed(path, {"backup.json": json.dumps({"schema_version": "backup-manifest.v9", "version": "9.0.0"}).encode()})
    refused("a newer form", path, 3, "backup-too-new", ["9.0.0", "backup-manifest.v9"])
    for name in ("../outside", "/outside", "a/../../outside"):
        packed(path, {name: b"x"})
        refused(f"the path {name}", path, 3, "unsafe-archive")
    for name in ("versions/9/bin/llm-gateway", "current", "receipt.json", ".lock", "restore.json", "logs.db-wal"):
        packed(path, {name: b"x"})
        refused(f"the name {name}", path, 3, "unsafe-archive", [name])
    good = {"notes.md": b"mine"}
    for made in (entry("home/link", tarfile.SYMTYPE, outside), entry("home/hard", tarfile.LNKTYPE, "home/notes.md"),
                 entry("home/pipe", tarfile.FIFOTYPE), entry("home/more", tarfile.REGTYPE), entry("home/folder", tarfile.DIRTYPE)):
        packed(path, good, extra=[(made, b"")])
        refused(f"an entry {made.name} that is not listed", path, 3, "unsafe-archive")
    packed(path, good)
    with open(path, "rb") as file:
        whole = file.read()
    world.write(path, "")
    with open(path, "wb") as file:
        file.write(whole[:len(whole) // 2])
    refused("half a backup", path, 3, "archive-damaged")
    manifest = members(packed(path, good))["backup.json"]
    packed(path, {"backup.json": manifest, "notes.md": b"evil"})
    refused("an altered file", path, 3, "backup-mismatch", ["'notes.md' is altered"])
    packed(path, {"backup.json": manifest})
    refused("a missing file", path, 3, "backup-mismatch", ["'notes.md' is missing"])
    packed(path, {"backup.json": manifest, "notes.md": bytes(64 << 20)}, level=9)
    refused("a bomb", path, 3, "archive-too-large", ["unpacks to more than"])
    packed(path, {"backup.json": manifest.replace(b'"size": 4', b'"size": 4000000000000')})
    refused("a claim of 4 TB", path, 1, "disk-full")
    packed(path, {"backup.json": manifest.replace(b'"size": 4', b'"size": 9000000000000000000')})
    refused("a claim that no number holds", path, 3, "backup-invalid")
    packed(path, {"backup.json": manifest.replace(b'"mode": "0600"', b'"mode": "0600", "kind": "database"'), "notes.md": b"mine"})
    refused("a database that is none", path, 3, "backup-invalid", ["'notes.md' of the backup is damaged"])
    newer = world.write("newer.db", "")
    os.unlink(newer)
    with contextlib.closing(sqlite3.connect(newer)) as database:
        database.execute("CREATE TABLE gateway_migrations (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL)")
        database.execute("INSERT INTO gateway_migrations VALUES ('99-from-the-future', '')")
        database.commit()
    with open(newer, "rb") as file:
        packed(path, {"logs.db": file.read()})
    files = members(path)
    packed(path, {"backup.json": files["backup.json"].replace(b'"mode": "0600"', b'"mode": "0600", "kind": "database"'),
                  "logs.db": files["home/logs.db"]})
    refused("records of a newer version", path, 3, "backup-too-new", ["99-from-the-future", "install the version that made the backup"])
    with gzip.open(path, "wb") as file:
        file.write(b"not a tar file at all" * 100)
    refused("no tar", path, 3, "archive-damaged")
    equal("nothing was changed by any of them", {name: home.read(name) for name in before}, before)
    check("nothing was written outside", not os.path.exists(outside), "nothing", outside)
    equal("nothing is left in the home", [name for name in home.tree() if "staging/" in name or "replaced-" in name], [])
    with section("an older form of the records"):
        old = world.write("older.db", "")
        os.unlink(old)
        with contextlib.closing(sqlite3.connect(old)) as database:
            database.execute("CREATE TABLE requests (id TEXT PRIMARY KEY, cli TEXT NOT NULL, model TEXT, prompt TEXT, system TEXT, "
                             "response TEXT, session_id TEXT, duration_ms INTEGER, datetime_utc TEXT NOT NULL)")
            database.execute("INSERT INTO requests (id, cli, datetime_utc) VALUES ('r', 'claude', '2026-01-01T00:00:00Z')")
            database.commit()
        with open(old, "rb") as file:
            packed(path, {"logs.db": file.read()})
        files = members(path)
        packed(path, {"backup.json": files["backup.json"].replace(b'"mode": "0600"', b'"mode": "0600", "kind": "database"'),
                      "logs.db": files["home/logs.db"]})
        home.json("restore", path)
        with contextlib.closing(sqlite3.connect(home.file("logs.db"))) as database:
            names = [row[1] for row in database.execute("PRAGMA table_info(requests)")]
        check("is brought up to date", "owner_principal" in names, "owner_principal", names)


def drive(world):
    if os.path.isdir("/run/systemd/system"):
        raise Skip("this machine has systemd, which would be used")
    world.fake_clis("grok")
    world.environment["SYNC_DEADLINE_MS"] = "0"
    path, digest = bundle(world.root, "0.1.0")
    archive = ("--url", f"file://{path}", "--sha256", digest)
    if not sys.argv[1:]:
        with section("hostile"):
            hostile(world)
    if sys.argv[1:] in ([], ["story"]):
        with section("story"):
            story(world, archive)
    if sys.argv[1:] in ([], ["bystanders"]):
        with section("bystanders"):
            bystanders(world, archive)
    if not sys.argv[1:]:
        with section("another version"):
            versions(world)


if __name__ == "__main__":
    sys.exit(run(drive))
