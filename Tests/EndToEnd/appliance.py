#!/usr/bin/python3
"""The built appliance in an empty home, without systemd: installed from its bundle, used, damaged, repaired, upgraded, removed.

The next version is the one that setup_up.py built in its clean checkout, else this one under another number.
"""
import glob
import json
import os
import re
import signal
import subprocess
import time

from harness import PYTHON, body_of, check, contains, descendants, equal, matches, product, run, section, together, within
from installed import Home, alive, free_port, next_release, release, renamed

FOREIGN = """
import http.server, sys
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)
print("ready", flush=True)
server.serve_forever()
"""


def command_lines(home):
    with section("command lines"):
        before = home.tree()
        matches("version says the version", home.run("version").out, r"\d+\.\d+\.\d+")
        equal("-v says the same", home.run("-v").out, home.run("version").out)
        overview = home.run("help")
        contains("help lists the commands", overview.out, "install-bundle")
        verbs = re.findall(r"^  ([a-z][a-z-]+) {2,}", overview.out, re.M)
        bad = [verb for verb in verbs if (ended := home.run(verb, "--help")).code or f"usage: llm-cli-gateway {verb}" not in ended.out]
        equal(f"--help describes each of the {len(verbs)} commands", bad, [])
        bad = [verb for verb in verbs if not isinstance(home.run(verb, "--help", "--json").json, dict)]
        equal("--help --json is JSON for each", bad, [])
        bad = [verb for verb in verbs if (ended := home.run(verb, "--jsom")).code != 2 or "did you mean '--json'" not in ended.err]
        equal("each refuses an unknown flag with status 2, and suggests the nearest", bad, [])
        home.refused("instal-bundle", code=2, error="unknown-verb", says=["did you mean 'install-bundle'", "help"])
        home.refused("statsu", code=2, error="unknown-verb", says=["did you mean 'status'"])
        home.refused("xyzzy", code=2, error="unknown-verb", says=["unknown command 'xyzzy'"])
        home.refused("install-bundle", "--ur", "x", code=2, error="unknown-flag", says=["did you mean '--url'"])
        home.refused("install-bundle", "--url", code=2, error="missing-value", says=["'--url' needs a value"])
        home.refused("setup", "--port", "70000", code=2, error="invalid-value", says=["70000", "65535"])
        home.refused("logs", "--lines", "many", code=2, error="invalid-value", says=["'many'"])
        home.refused("status", "now", code=2, error="usage", says=["unexpected argument 'now'"])
        home.refused("print-client-config", "cladue", code=2, error="invalid-value", says=["did you mean 'claude'"])
        ended = home.run("instal-bundle")
        equal("without --json an error is two lines on standard error", (ended.out, ended.err.count("\n")), ("", 2))
        home.refused("status", code=1, error="home-undefined", says=["HOME", "LLM_GATEWAY_HOME"], environment={"HOME": ""})
        for words in (["start"], ["status"], ["setup"], ["uninstall"], ["repair"], ["doctor"], ["logs"]):
            home.refused(*words, code=1, error="home-undefined", says=["HOME is not set", "units"],
                         environment={"HOME": "", "LLM_GATEWAY_HOME": home.state})
        home.refused("start", "--detached", code=1, error="gateway-missing", says=["install-bundle"])
        home.refused("logs", code=1, error="no-log")
        home.refused("restart", code=1, error="gateway-missing", says=["install-bundle"])
        home.refused("restore", "/nope", code=1, error="file-not-found", says=["/nope"])
        for words in (["status"], ["repair"], ["repair", "--dry-run"], ["print-client-config"], ["uninstall"]):
            home.json(*words)
        equal("no question and no refusal leaves anything behind", home.tree(), before)


def first_steps(home, bundle):
    with section("setup and installation"):
        told = home.json("setup", "--port", str(home.port)).json
        check("setup says what comes next", "install-bundle" in told["next"], "install-bundle", told["next"])
        equal("the home is private", oct(os.stat(home.state).st_mode & 0o777), "0o700")
        equal("so is the token", oct(os.stat(home.file("auth-token")).st_mode & 0o777), "0o600")
        matches("the token is 64 hexadecimal digits", home.read("auth-token"), r"^[0-9a-f]{64}$")
        equal("a second setup changes nothing", home.json("setup").json["changed"], False)
        installed = home.json("install-bundle", *bundle.flags).json
        equal("the bundle is installed", (installed["changed"], installed["bundle_version"], installed["sha256"]),
              (True, bundle.version, bundle.digest), vital=True)
        equal("the command is linked", os.readlink(home.link), home.file("current", "bin", "llm-cli-gateway"))
        home.program = home.link
        contains("the linked command says the version of the bundle", home.run("version").out, bundle.version)
        equal("a second installation changes nothing", home.json("install-bundle", *bundle.flags).json["changed"], False)
        again = home.run("install-bundle", environment={"RVWR_GATEWAY_BUNDLE_URL": f"file://{bundle.path}",
                                                         "RVWR_GATEWAY_BUNDLE_SHA256": bundle.digest})
        equal("the pair of variables names it too", (again.code, again.json["bundle_source"]), (0, "env"))
        equal("nothing has to be repaired", home.json("repair").json["message"], "No repair actions were required.")


def follow(home):
    """`logs --follow --json` is an object a line, and ends with its reader."""
    world = home.world
    stream = world.start([home.program, "logs", "--follow", "--json", "-n", "2"], home.environment,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = home.file("log", "gateway.log")
    found = [json.loads(stream.stdout.readline()) for _ in range(2)]
    with open(log, encoding="utf-8") as file:
        equal("logs --follow --json begins with the last lines", found,
              [{"source": "file", "path": log, "line": line} for line in file.read().splitlines()[-2:]])
    with open(log, "a", encoding="utf-8") as file:
        file.write('a "new" line\n')
    equal("and goes on with what comes", json.loads(stream.stdout.readline())["line"], 'a "new" line')
    reader = descendants(stream.pid)
    equal("by one program that reads the log", len(reader), 1)
    stream.stdout.close()
    equal("it ends when nobody reads any more", stream.wait(10), -signal.SIGPIPE)
    equal("without a word", stream.stderr.read(), "")
    check("and so does the program", within(5, lambda: not any(map(alive, reader))), "gone", reader)


def life(home):
    with section("start, and a call over HTTP"):
        started = home.json("start", "--detached").status
        equal("it runs and answers", (started["running"], started["healthy"], started["supervisor"]), (True, True, "detached"),
              vital=True)
        equal("starting again leaves it alone", home.json("start", "--detached").status["pid"], started["pid"])
        text = home.run("status", "--text")
        contains("status in words", text.out, f"the gateway runs at http://127.0.0.1:{home.port}/mcp (process {started['pid']}")
        client = home.client()
        client.initialize()
        sessions = client.tool("session_list")
        equal("a tool answers", (sessions.get("isError", False), isinstance(body_of(sessions), dict)), (False, True))
        client.world.token = "0" * 64
        equal("another token gets nothing", client.raw("POST", body=b"{}")[0], 401)
        logs = home.run("logs")
        contains("logs show what the gateway wrote", logs.out, "listening")
        equal("--lines limits them", home.run("logs", "-n", "1").out.count("\n"), 1)
        follow(home)

    with section("a killed gateway"):
        before = home.status()
        os.kill(before["pid"], signal.SIGKILL)
        after = within(15, lambda: (now := home.status())["healthy"] and now["pid"] != before["pid"] and now)
        check("is started again by its supervisor", bool(after), "another healthy process", home.status(), vital=True)
        equal("that is counted", after["restarts"], 1)
        contains("the log says why", home.run("logs").out, "the gateway ended: signal 9")

    with section("a killed supervisor"):
        with open(home.file("supervisor.json")) as file:
            record = json.load(file)
        os.kill(record["supervisor"]["pid"], signal.SIGKILL)
        within(5, lambda: not alive(record["supervisor"]["pid"]))
        left = home.json("status").status
        print(f"    status: {json.dumps({key: left[key] for key in ('running', 'pid', 'healthy', 'state', 'notices')})}", flush=True)
        equal("status goes on to name the gateway that is left", (left["running"], left["pid"], left["healthy"]),
              (True, record["gateway"]["pid"], True))
        contains("and says that nobody watches over it", " ".join(left["notices"]), "start")
        equal("it is no stranger on the port", left["port_owner"], None)
        healed = home.json("start", "--detached").status
        check("start puts a supervised one in its place", healed["healthy"] and healed["pid"] != record["gateway"]["pid"],
              "another process", healed)
        check("the one that was left is gone", not alive(record["gateway"]["pid"]), "gone", record["gateway"])

    with section("restart and stop"):
        before = home.status()["pid"]
        after = home.json("restart").status
        check("restart gives another healthy process", after["healthy"] and after["pid"] != before, "another pid", after)
        stopped = home.json("stop").status
        equal("stop stops", (stopped["running"], alive(after["pid"])), (False, False))
        equal("stopping again is no error", home.json("stop").status["running"], False)
        contains("status in words says so", home.run("status", "--text").out, "not running")

    with section("a foreign process on the port"):
        foreign = home.world.start([PYTHON, "-c", FOREIGN, str(home.port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        foreign.stdout.readline()
        home.refused("start", "--detached", code=1, error="port-in-use", says=[f"process {foreign.pid} (", "python3", "--port"])
        seen = home.json("status").status
        equal("status names it and does not take it for ours",
              (seen["running"], seen["healthy"], seen["port_owner"]["pid"]), (False, False, foreign.pid))
        contains("with its command", seen["port_owner"]["command"], "python3")
        home.json("stop")
        check("stop leaves it alone", alive(foreign.pid), "alive", "gone")
        home.world.end(foreign)
        equal("afterwards the gateway starts", home.json("start", "--detached").status["healthy"], True)


def doctor(home):
    with section("the doctor"):
        healthy = home.json("doctor").json
        equal("finds no error while all is well", [found["code"] for found in healthy["findings"] if found["severity"] == "error"], [])
        table = home.run("doctor", "--text")
        check("says it in a table of words", table.code == 0 and "{" not in table.out and table.out.count("\n") > 5, "a table", table)
        library = glob.glob(home.file("current", "lib", "*"))[0]
        os.rename(library, library + ".away")
        ill = home.json("doctor", code=1).json
        print("".join(f"    {found['severity']}: {found['title']}\n" for found in ill["findings"]), end="", flush=True)
        check("finds an error where a file is missing", any(found["severity"] == "error" for found in ill["findings"]), "an error",
              ill["findings"])
        os.rename(library + ".away", library)
        equal("and none once it is back", home.json("doctor").code, 0)


def upgrades(home, bundle, following):
    with section("upgrade"):
        before = home.status()
        done = home.json("upgrade", *following.flags).json
        equal("the next version is installed and the gateway restarted",
              (done["changed"], done["bundle_version"], done["restarted"]), (True, following.version, True), vital=True)
        after = home.status()
        equal("the new version answers", (after["version"] == following.version or following.path.endswith("next.tar.gz"),
                                          after["healthy"], after["pid"] != before["pid"]), (True, True, True))
        contains("the command is the new one", home.run("version").out, following.version)
        equal("both versions are kept", sorted(os.listdir(home.file("versions"))), sorted([bundle.version, following.version]))
        home.refused("upgrade", *bundle.flags, code=3, error="downgrade-refused", says=[bundle.version, "--allow-downgrade"])

    with section("what changes nothing restarts nothing"):
        pid = home.status()["pid"]
        told = home.json("install-bundle", *following.flags).json
        equal("the same bundle again", (told["changed"], told["restarted"], home.status()["pid"]), (False, False, pid))
        home.write("environment", home.read("environment") + "\nSOME_WORD=new\n")
        contains("start says that the environment has changed", " ".join(home.json("start").status["notices"]), "restart")
        equal("and leaves the gateway alone", home.status()["pid"], pid)
        told = home.json("install-bundle", *following.flags).json
        equal("with another environment, it is restarted", (told["changed"], told["restarted"], home.status()["pid"] != pid),
              (False, True, True))
        equal("but only once", home.json("install-bundle", *following.flags).json["restarted"], False)

    with section("rollback"):
        planned = home.json("rollback", "--dry-run").json
        equal("a dry run says what would be done", (planned["version"], planned["restarted"]), (bundle.version, True))
        told = home.json("rollback").json
        equal("the version before is in use again, and the gateway healthy",
              (told["version"], told["restarted"], home.status()["healthy"], os.path.basename(os.readlink(home.file("current")))),
              (bundle.version, True, True, bundle.version))
        equal("a second one undoes the first", (home.json("rollback").json["version"], home.status()["healthy"]),
              (following.version, True))
        home.refused("rollback", "--to", "7.7.7", code=2, error="version-not-kept", says=[bundle.version, following.version])

    with section("an upgrade to a version that does not work"):
        before = home.status()
        broken = renamed(bundle, os.path.join(home.world.root, "broken.tar.gz"), "9.0.0",
                         gateway='echo "broken: cannot run" >&2; exit 3')
        began = time.monotonic()
        home.refused("upgrade", *broken.flags, code=1, error="unhealthy-version",
                     says=["9.0.0", f"'{following.version}' is in use again"])
        print(f"    it took {time.monotonic() - began:.1f} s", flush=True)
        after = home.status()
        equal("the version before answers", (after["healthy"], after["version"]), (True, before["version"]))
        equal("current leads to it", os.path.basename(os.readlink(home.file("current"))), following.version)
        equal("nothing of the other is left", [os.listdir(home.file(name)) for name in ("staging", "cache")], [[], []])
        check("its folder is gone", not os.path.exists(home.file("versions", "9.0.0")), "gone", os.listdir(home.file("versions")))
        contains("the log has what it said", home.run("logs").out, "broken: cannot run")
        equal("nothing is left to repair", home.json("repair").json["changed"], False)
        client = home.client()
        client.initialize()
        equal("and a tool answers", client.tool("session_list").get("isError", False), False)


def damage(home, following):
    with section("repair"):
        home.json("stop")
        os.chmod(home.file("auth-token"), 0o644)
        os.chmod(home.state, 0o755)
        os.chmod(home.file("current", "bin", "llm-gateway"), 0o644)
        os.unlink(home.link)
        home.program = home.file("current", "bin", "llm-cli-gateway")
        os.mkdir(home.file("staging", "deadbeefdeadbeef"))
        planned = home.json("repair", "--dry-run").json
        equal("a dry run changes nothing", (planned["changed"], oct(os.stat(home.file("auth-token")).st_mode & 0o777)),
              (False, "0o644"))
        done = home.json("repair").json
        print("".join(f"    {step}\n" for step in done["steps"]), end="", flush=True)
        equal("modes are as they should be", [oct(os.stat(path).st_mode & 0o777) for path in
                                              (home.state, home.file("auth-token"), home.file("current", "bin", "llm-gateway"))],
              ["0o700", "0o600", "0o755"])
        equal("link and leftovers too", (os.path.islink(home.link), os.listdir(home.file("staging"))), (True, []))
        equal("the dry run had announced as much", len(planned["steps"]), len(done["steps"]))
        # The link of the command leads nowhere now, so the manager is the one that was downloaded.
        os.unlink(home.file("current"))
        home.program = product("llm-cli-gateway")
        home.json("repair")
        check("repair makes 'current' again", os.path.islink(home.file("current")), "a link", os.listdir(home.state))

    with section("deleted files of a version"):
        version = os.path.basename(os.readlink(home.file("current")))
        library = glob.glob(home.file("current", "lib", "*"))[0]
        with open(library, "rb") as file:
            before = file.read()
        os.unlink(library)
        planned = home.json("repair", "--dry-run").json
        contains("a dry run says from where it would come back", " ".join(planned["steps"]), library.replace("current", f"versions/{version}"))
        equal("and brings nothing back", os.path.exists(library), False)
        home.json("repair")
        with open(library, "rb") as file:
            equal("repair brings it back, bit for bit", file.read() == before, True)
        os.unlink(home.file("current", "manifest.json"))
        away = following.path + ".away"
        os.rename(following.path, away)
        left = home.json("repair", code=1).json
        os.rename(away, following.path)
        contains("without the bundle, repair says what remains", " ".join(left["remaining"]), "could not be installed again")
        other = os.path.basename(os.readlink(home.file("current")))
        check("the damaged version is no longer in use", other != version, "the other one", other)
        equal("with the bundle, nothing remains", home.json("repair").json["remaining"], [])
        told = home.json("rollback").json
        equal("and the repaired version is there to go back to", (told["changed"], told["version"]), (True, following.version))
        home.json("rollback")
        home.program = home.link
        equal("the intact one starts", home.json("start", "--detached").status["healthy"], True)
        equal("the bundle of the damaged one puts it back", home.json("install-bundle", *following.flags).json["restarted"], True)
        equal("nothing is left to repair", home.json("repair").json["changed"], False)

    with section("a token that means nothing"):
        home.write("auth-token", "\n")
        told = home.json("restart").status
        contains("a blank one is replaced and that is said", " ".join(told["notices"]), "replaced the empty token")
        matches("by a real one", home.read("auth-token"), r"^[0-9a-f]{64}$")
        os.chmod(home.file("auth-token"), 0o644)
        token = home.read("auth-token")
        told = home.json("setup").json
        contains("a loose mode is repaired and that is said", " ".join(told["changes"]), "0644")
        equal("the token stays the same", (home.read("auth-token"), oct(os.stat(home.file("auth-token")).st_mode & 0o777)),
              (token, "0o600"))
        client = home.client()
        client.initialize()
        equal("the running gateway takes it", client.tool("session_list").get("isError", False), False)

    with section("settings that cannot be read"):
        good = home.read("settings.json")
        home.write("settings.json", '{"port": 3333, "ho')
        home.refused("status", code=1, error="settings-corrupt", says=["settings.json", "llm-cli-gateway setup"])
        equal("a question does not touch them", home.read("settings.json"), '{"port": 3333, "ho')
        done = home.json("repair").json
        contains("repair keeps them aside and says so", " ".join(done["steps"]), "settings.json.corrupt-")
        aside = glob.glob(home.file("settings.json.corrupt-*"))
        equal("with every byte", [open(path).read() for path in aside], ['{"port": 3333, "ho'])
        home.write("settings.json", good)

    with section("a configuration that cannot be read"):
        home.write("config.toml", "[http\nmax_sessions = many\n")
        told = home.run("restart", "--json")
        logs = home.run("logs", "-n", "20").out
        contains("what is wrong is in the log, with its line", logs, "config.toml")
        print(f"    restart: status {told.code} {told.error.get('message')}", flush=True)
        equal("the file is as it was", home.read("config.toml"), "[http\nmax_sessions = many\n")
        home.write("config.toml", '[http]\nmax_sesions = 5\n')
        home.json("restart")
        warning = next((line for line in home.run("logs", "-n", "20").out.splitlines() if "max_sesions" in line), "")
        matches("an unknown key is named with its line and the nearest known one", warning, r"(?=.*line 2)(?=.*max_sessions)")
        os.unlink(home.file("config.toml"))
        equal("without it all is well", home.json("restart").status["healthy"], True)


    with section("another port"):
        home.port, old = free_port(), home.port
        home.json("setup", "--port", str(home.port))
        told = home.json("status").status
        equal("until the restart, status says where the gateway is", (told["healthy"], told["url"]),
              (True, f"http://127.0.0.1:{old}/mcp"))
        contains("and how it moves", " ".join(told["notices"]), "restart")
        told = home.json("restart").status
        equal("then it is at the other", (told["healthy"], told["url"]), (True, f"http://127.0.0.1:{home.port}/mcp"))

    with section("two commands at once"):
        ended = together("two installations", {name: lambda: home.run("install-bundle", *following.flags, "--force", "--json")
                                               for name in ("one", "other")})
        equal("one waits for the other, and both end well", sorted(end.code for end in ended.values()), [0, 0])
        equal("the gateway is healthy, and nothing is left to repair",
              (home.status()["healthy"], home.json("repair").json["changed"]), (True, False))


def clients(home):
    with section("connecting clients"):
        told = home.json("print-client-config").json
        equal("the address is the one that answers", told["local_url"], f"http://127.0.0.1:{home.port}/mcp")
        check("the token is not shown", home.read("auth-token") not in json.dumps(told), "<redacted>", "the token")
        line = home.run("print-client-config", "claude", "--text").out
        contains("claude's command is there", line, "claude mcp add --transport http llm-cli-gateway http://127.0.0.1:")
        equal("with --show-token it is", home.read("auth-token") in home.run("print-client-config", "--show-token").out, True)
    question = "".join(json.dumps(message) + "\n" for message in (
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "drivers", "version": "1"}}},
        {"jsonrpc": "2.0", "method": "notifications/initialized"}, {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}))
    with section("the gateway on standard input"):
        for words in (["stdio"], []):
            ended = home.run(*words, text=question)
            answers = [json.loads(line) for line in ended.out.splitlines()]
            equal(f"'llm-cli-gateway {' '.join(words)}' with a pipe is the gateway, and ends with its input",
                  (ended.code, sorted(answer["id"] for answer in answers)), (0, [1, 2]))
        ended = home.run()
        contains("without a pipe the bare command says how things are", ended.out, "the gateway runs at")


def removal(home, before):
    with section("uninstall"):
        listed = home.json("uninstall").json
        equal("a listing stops nothing", (listed["removed"], home.status()["healthy"]), (False, True))
        check("it lists versions and link", {home.link, home.file("current")} <= set(listed["would_remove"]), "both",
              listed["would_remove"])
        token = home.read("auth-token")
        pid = home.status()["pid"]
        home.json("uninstall", "--yes")
        equal("the gateway has ended", alive(pid), False)
        equal("the user's data stays", home.read("auth-token"), token)
        check("the program is gone", not any(os.path.lexists(path) for path in (home.link, home.file("current"), home.file("versions"))),
              "gone", home.tree())
        print(f"    what stays: {home.tree()}", flush=True)
        home.program = product("llm-cli-gateway")
        home.json("uninstall", "--yes", "--purge")
        equal("with --purge the home is as it was before", home.tree(), before)
        equal("uninstalling nothing is no error", home.json("uninstall", "--yes").json["removed"], False)


def neighbours(world, bundle):
    with section("a command of somebody else at ~/.local/bin"):
        home = Home(world, "neighbour")
        os.makedirs(os.path.dirname(home.link))
        with open(home.link, "w") as file:
            file.write("#!/bin/sh\necho theirs\n")
        told = home.json("install-bundle", *bundle.flags).json
        contains("is left alone, and that is said", " ".join(told["notices"]), "is not from this program")
        with open(home.link) as file:
            equal("with every byte", file.read(), "#!/bin/sh\necho theirs\n")
        home.json("uninstall", "--yes", "--purge")
        equal("uninstall leaves it too", home.tree(), [".local", ".local/bin", ".local/bin/llm-cli-gateway"])
    with section("a receipt that cannot be read"):
        home = Home(world, "forgetful")
        home.json("install-bundle", *bundle.flags)
        home.write("receipt.json", "garbage")
        home.json("status")
        contains("repair begins it anew and says so", " ".join(home.json("repair").json["notices"]), "receipt.json.damaged-")
        equal("then nothing is left to repair", home.json("repair").json["changed"], False)
        home.json("uninstall", "--yes", "--purge")
        # Who made these folders, nobody knows any more.
        equal("uninstall finds what is ours all the same", home.tree(), [".local", ".local/bin"])
    with section("a second home"):
        home = Home(world, "second")
        other = os.path.join(home.path, "elsewhere")
        variables = {"LLM_GATEWAY_HOME": other}
        home.json("setup", "--port", str(home.port), environment=variables)
        told = home.json("install-bundle", *bundle.flags, environment=variables).json
        contains("gets no link of the default home", " ".join(told["notices"]), "belongs to the default home")
        home.program = os.path.join(other, "current", "bin", "llm-cli-gateway")
        equal("starts", home.json("start", "--detached", environment=variables).status["healthy"], True)
        home.json("uninstall", "--yes", "--purge", environment=variables)
        equal("and leaves nothing", home.tree(), [])


def drive(world):
    bundle = release()
    home = Home(world, "empty")
    before = home.tree()
    command_lines(home)
    first_steps(home, bundle)
    life(home)
    doctor(home)
    following = next_release(world, bundle)
    upgrades(home, bundle, following)
    damage(home, following)
    clients(home)
    removal(home, before)
    neighbours(world, bundle)


run(drive)
