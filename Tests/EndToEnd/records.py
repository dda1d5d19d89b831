#!/usr/bin/python3
"""What is kept of requests and what is not: retention, recording in part or not at all."""
import os
import sqlite3

from harness import body_of, check, equal, run, section, text_of, within

PAST = "2020-01-01T00:00:00.000Z"


def drive(world):
    world.fake_clis("claude", "codex")
    with section("what is recorded"):
        recording(world)
    with section("what has expired"):
        expiry(world)


def files_with(world, secret):
    """Every file of the home that holds a text, the database's log among them."""
    found = []
    for folder, _, names in os.walk(world.state):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                if secret.encode() in file.read():
                    found.append(os.path.relpath(path, world.state))
    return sorted(found)


def database(world):
    return sqlite3.connect(os.path.join(world.state, "logs.db"), isolation_level=None, timeout=10)


def rows(world, query, *values):
    with database(world) as connection:
        return connection.execute(query, values).fetchall()


def recording(world):
    world.configure()
    gateway = world.stdio_gateway()
    for record, stays in (("full", True), ("metadata", False), ("none", False)):
        prompt, answer, error = f"prompt{record}Q7", f"answer{record}Q7", f"error{record}Q7"
        result = gateway.tool("claude_request", prompt=f"{prompt} @@say {answer}@@", record=record, correlationId=f"c-{record}",
                              createNewSession=True)
        equal(f"record={record} is answered", text_of(result).strip(), answer)
        failed = gateway.tool("claude_request", prompt=f"{prompt} @@exit 3 {error}@@", record=record, correlationId=f"f-{record}",
                              createNewSession=True)
        check(f"record={record} fails with the CLI's words", error in text_of(failed), error, failed)
        # A directory that is recorded goes after the answer.
        within(5, lambda: not [name for name in os.listdir(os.path.join(world.state, "jobs")) if name[0] != "."])
        where = {text: files_with(world, text) for text in (prompt, answer, error)}
        if stays:
            check("full: prompt, answer and error are kept", all(where.values()), "files with each", where)
        else:
            equal(f"{record}: none of prompt, answer and error is in any file of the home", where, {prompt: [], answer: [], error: []})
    equal("metadata keeps how it ended and what it used, without texts",
          rows(world, "SELECT prompt, response, status, exit_code, duration_ms > 0 FROM requests JOIN gateway_metadata ON "
                      "request_id = id WHERE id IN ('c-metadata', 'f-metadata') ORDER BY id"),
          [("", "", "completed", 0, 1), ("", "", "failed", 3, 1)])
    equal("and of the job its state", rows(world, "SELECT status, stdout, stderr, args_json, request_key FROM jobs WHERE "
                                           "correlation_id = 'c-metadata'"), [("completed", "", "", "[]", "")])
    equal("none leaves no row", [rows(world, f"SELECT count(*) FROM {table} WHERE {column} LIKE '%-none'")[0][0] for table, column in
                                 (("requests", "id"), ("gateway_metadata", "request_id"), ("jobs", "correlation_id"))], [0, 0, 0])
    check("llm_request_result finds none of it", body_of(gateway.tool("llm_request_result", correlationId="c-none"))["success"] is False)
    equal("nothing is left in the spool", [name for name in os.listdir(os.path.join(world.state, "jobs")) if "instance" not in name
                                           and name != ".adoption"], [])
    equal("the gateway ends well", gateway.hang_up(), 0)

    world.configure('[persistence]\nrecord = "metadata"\n')
    strict = world.stdio_gateway()
    strict.tool("claude_request", prompt="widerQ7 @@say widerQ7@@", record="full", createNewSession=True)
    equal("a request cannot widen what the configuration allows", files_with(world, "widerQ7"), [])
    equal("that gateway ends well", strict.hang_up(), 0)
    world.configure()


def expiry(world):
    with database(world) as connection:
        connection.executemany("INSERT INTO jobs (id, correlation_id, cli, status, stdout, started_at, expires_at) VALUES "
                               "(?, ?, 'claude', 'completed', 'oldQ7', ?, ?)", [(f"x{n}", f"x{n}", PAST, PAST) for n in range(2000)])
        connection.executemany("INSERT INTO requests (id, cli, prompt, datetime_utc, expires_at) VALUES (?, 'claude', 'oldQ7', ?, ?)",
                               [(f"x{n}", PAST, PAST) for n in range(2000)] + [("reference", PAST, None)])
    connection.close()
    gateway = world.stdio_gateway()
    answered = gateway.tool("claude_request", prompt="@@say meanwhile@@", createNewSession=True)
    equal("a gateway answers while it removes what has expired", text_of(answered).strip(), "meanwhile")
    gone = within(20, lambda: rows(world, "SELECT count(*) FROM jobs WHERE expires_at = ?", PAST) == [(0,)]
                  and rows(world, "SELECT count(*) FROM requests WHERE expires_at = ?", PAST) == [(0,)])
    check("expired jobs and requests are gone", gone)
    equal("what the reference wrote is kept", rows(world, "SELECT prompt FROM requests WHERE id = 'reference'"), [("oldQ7",)])
    equal("the gateway ends well", gateway.hang_up(), 0)


run(drive)
