#!/usr/bin/python3
"""`doctor --json` in good and bad circumstances, held against our published schema by an outside validator."""
import json
import os
import time

from harness import PYTHON, ROOT, check, contains, equal, product, run, section, tool
from installed import namespace, namespaces_work

SCHEMA = os.path.join(ROOT, "setup", "status.schema.json")
VALIDATE = """
import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
kind = jsonschema.validators.validator_for(schema)
assert kind is jsonschema.Draft202012Validator, kind
kind.check_schema(schema)
for error in sorted(kind(schema).iter_errors(json.load(sys.stdin)), key=lambda error: list(map(str, error.path))):
    print("/".join(map(str, error.absolute_path)) or "(root)", "-", error.message[:300])
"""


def drive(world):
    validator = tool("schema")
    program = product("llm-cli-gateway")
    # The doctor may look for a service; in this world there is neither a bus nor a unit.
    world.environment.pop("LLM_GATEWAY_AUTH_TOKEN")

    def examine(title, codes=(0, 1), patience=30):
        """-> the report; its schema and exit status are checked on the way."""
        began = time.monotonic()
        ended = world.call([program, "doctor", "--json"], timeout=120)
        took = time.monotonic() - began
        check(f"{title}: the exit status", ended.returncode in codes, codes, (ended.returncode, ended.stderr))
        check(f"{title}: it takes its time, but no more", took < patience, f"< {patience} s", f"{took:.1f} s")
        try:
            report = json.loads(ended.stdout)
        except ValueError:
            check(f"{title}: standard output is one JSON", False, "JSON", ended.stdout, vital=True)
        verdict = world.call([validator, "-c", VALIDATE, SCHEMA], text=ended.stdout)
        equal(f"{title}: the outside validator finds nothing", verdict.stdout + verdict.stderr, "")
        errors = [finding["code"] for finding in report["findings"] if finding["severity"] == "error"]
        equal(f"{title}: the exit status says whether there is an error", ended.returncode, 1 if errors else 0)
        return report

    with section("an empty home"):
        report = examine("an empty home")
        check("an empty home: there is a next action", bool(report["next_actions"]), "at least one", report["next_actions"])
        equal("an empty home: no CLI is there", [name for name, entry in report["providers"].items() if entry["cli_available"]], [])
        equal("an empty home: the doctor changes nothing", os.path.exists(world.state), False)

    with section("after setup"):
        ended = world.call([program, "setup", "--json"])
        equal("setup ends well", ended.returncode, 0, vital=True)
        world.fake_clis("claude", "codex", "agy", "grok", "vibe")
        world.configure()
        report = examine("after setup", codes=(0,))
        equal("after setup: every CLI is found", [name for name in ("claude", "codex", "gemini", "grok", "mistral")
                                                  if not report["providers"][name]["cli_available"]], [])
        contains("after setup: with its version", report["providers"]["claude"]["version"], "2.1.329")
        with open(os.path.join(world.state, "auth-token")) as file:
            token = file.read().strip()
        check("after setup: the token is not in the report", token not in json.dumps(report), "no token", "the token")
        ended = world.call([program, "doctor", "--text"])
        check("for people it is no JSON", ended.returncode == 0 and not ended.stdout.lstrip().startswith("{"), "a table", ended.stdout)

    with section("a disk that is full or read-only"):
        namespaces_work(world)
        for options, code, words in (("size=8m", "disk-low", "8 MB are free where"), ("ro", "home-not-writable", "its file system is read-only")):
            ended = world.call([*namespace(f"mount -t tmpfs -o {options},mode=700 none '{world.state}'"), program, "doctor", "--json"], timeout=120)
            report = json.loads(ended.stdout)
            found = {finding["code"]: finding for finding in report["findings"]}
            contains(f"{code}: is a finding", json.dumps(found.get(code)), words)
            check(f"{code}: with what to do", found[code]["help"] in report["next_actions"], found[code]["help"], report["next_actions"])
            verdict = world.call([validator, "-c", VALIDATE, SCHEMA], text=ended.stdout)
            equal(f"{code}: the outside validator finds nothing", verdict.stdout + verdict.stderr, "")

    with section("a CLI that hangs"):
        hanging = world.write("hanging", f"#!{PYTHON}\nimport time\ntime.sleep(600)\n", 0o755)
        for name in ("codex", "grok"):
            world.link(name, hanging)
        examine("two CLIs that hang", patience=25)
        world.nothing_left("and none of them is left")

    with section("a parent that ignores the end of its children"):
        failing = world.write("failing", "#!/bin/sh\nexit 3\n", 0o755)
        for name in ("codex", "grok"):
            world.link(name, failing)
        # As some service managers and old shells start their children; it is handed down through exec.
        ignoring = [PYTHON, "-c", "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"]
        ended = world.call(ignoring + [program, "doctor", "--json"], timeout=120)
        contains("a CLI that fails is seen to fail", json.dumps(json.loads(ended.stdout)["findings"]), "exited with 3")

    with section("files of a far future"):
        settings = os.path.join(world.state, "settings.json")
        environment = os.path.join(world.state, "environment")
        for path in (settings, environment, world.state):
            if os.path.exists(path):
                os.utime(path, (13569465600, 13569465600))
        examine("files of the year 2400")
        ended = world.call([program, "status", "--json"])
        check("status does not mind them either", ended.returncode in (0, 1), "0 or 1", (ended.returncode, ended.stderr))

    with section("a broken configuration"):
        world.write(os.path.join(world.state, "config.toml"), "[persistence\nbackend = 5\n")
        report = examine("a broken configuration")
        contains("a broken configuration: is a finding", json.dumps(report["findings"]), "config.toml")
        with open(os.path.join(world.state, "config.toml")) as file:
            equal("a broken configuration: is left as it was", file.read(), "[persistence\nbackend = 5\n")


run(drive)
