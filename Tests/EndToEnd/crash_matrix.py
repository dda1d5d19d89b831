#!/usr/bin/python3
"""The built manager, killed with SIGKILL right before a call that changes a file: every verb that changes anything, at many calls.

After each: the old or the new version works, the user's data is there, `repair` leaves nothing behind, the command repeated
comes to its end, and `uninstall --yes --purge` leaves what was there before. Then the same commands on a file system that
runs full. The plain run tries every few calls; with LLM_GATEWAY_DEEP_TESTS every single one.
"""
import json
import os
import shutil

from harness import DEEP, Skip, check, equal, run, section, skip
from installed import (CLEAN, Home, killed_at, namespace, namespaces_work, release, renamed, small_bundle,
                       version_in_use)

DATA = {"config.toml": "[http]\n", "logs.db": "records", "auth-token": "0123456789abcdef" * 4}
POINTS = 8


class Case:
    """A command, the home it is run in, and what is there once it has come to its end."""

    def __init__(self, name, home, words, uses=None, gone=False, purged=False):
        self.name, self.home, self.words, self.uses, self.gone, self.purged = name, home, words, uses, gone, purged
        self.base, self.after = f"{home.path}.base-{len(os.listdir(home.world.root))}", None
        shutil.copytree(home.path, self.base, symlinks=True)

    def restore(self):
        shutil.rmtree(self.home.path)
        shutil.copytree(self.base, self.home.path, symlinks=True)


def data_of(home):
    found = {}
    for name in DATA:
        if os.path.exists(home.file(name)):
            found[name] = home.read(name)
    return found


def problems(case, pristine, number):
    """Kills the command at one call and looks at everything. -> (sentences about what is wrong, whether it was killed)"""
    home, wrong = case.home, []
    case.restore()
    had, allowed = version_in_use(home), {version_in_use(home), case.uses}
    report = killed_at(home, case.words, number)
    if not report["killed"]:
        return [], False
    receipt = json.loads(home.read("receipt.json")) if os.path.exists(home.file("receipt.json")) else {}
    interrupted = (receipt.get("operation") or {}).get("verb")
    now = version_in_use(home)
    if had and now not in allowed and not (case.gone and (interrupted == "uninstall" or not receipt)):
        wrong.append(f"{now} is in use, expected one of {allowed}")
    kept = data_of(home)
    if not case.purged and had and kept != DATA:
        wrong.append(f"the user's data is {kept}")
    looked = home.run("status", "--json")
    if looked.code != 0:
        wrong.append(f"a question fails: {looked!r}")
    if case.gone:
        again = home.run(*case.words, "--json")
        if again.code != 0:
            wrong.append(f"repeated, it fails: {again!r}")
        if home.tree() != case.after:
            wrong.append(f"repeated, it leaves {sorted(set(home.tree()) ^ set(case.after))}")
    else:
        done = home.run("repair", "--json")
        if done.code != 0 or (interrupted and not any("interrupted" in told for told in done.json["notices"] + done.json["steps"])):
            wrong.append(f"repair does not say what it finished or undid: {done!r}")
        again = home.run("repair", "--dry-run", "--json")
        if again.code != 0 or again.json["steps"] or again.json["message"] != CLEAN:
            wrong.append(f"something is left to repair: {again!r}")
        for folder in ("staging", "cache"):
            if os.path.isdir(home.file(folder)) and os.listdir(home.file(folder)):
                wrong.append(f"{folder} holds {os.listdir(home.file(folder))}")
        again = home.run(*case.words, "--json")
        if again.code != 0 or (case.uses and version_in_use(home) != case.uses):
            wrong.append(f"repeated, it ends with {again!r} and {version_in_use(home)} in use")
    home.run("uninstall", "--yes", "--purge", "--json")
    if home.tree() != pristine:
        wrong.append(f"after uninstall --purge there is {home.tree()}")
    return [f"call {number} ({report['calls'][-1]}): {sentence}" for sentence in wrong], True


def numbers(count):
    """Which of so many calls to kill at: all of them, or some, the last ones included."""
    if DEEP or count <= POINTS:
        return list(range(1, count + 1))
    step = (count - 1) / (POINTS - 1)
    return sorted({1 + round(step * index) for index in range(POINTS)})


def killed(cases, pristine):
    total = 0
    for case in cases:
        with section(f"{case.name}, killed"):
            case.restore()
            whole = killed_at(case.home, case.words, 0)
            equal(f"{case.name}: comes to its end when it is not killed", whole["status"], 0, vital=True)
            case.after = case.home.tree()
            check(f"{case.name}: leaves what it should", not case.purged or case.after == pristine, pristine, case.after)
            wrong, tried = [], 0
            for number in numbers(len(whole["calls"])):
                found, was_killed = problems(case, pristine, number)
                tried += was_killed
                wrong += found
            total += tried
            equal(f"{case.name}: killed at {tried} of {len(whole['calls'])} calls, all is well each time", wrong[:5], [])
            check(f"{case.name}: it was killed at all", tried > 0, "some", tried)
    print(f"    killed at {total} points", flush=True)
    return total


FULL = """
mount -t tmpfs -o size={size},mode=700 none '{home}'
cp -a '{base}/.' '{home}/'
if [ {spare} != none ]; then
  free=$(df --output=avail -k '{home}' | tail -1)
  if [ $free -gt {spare} ]; then head -c $(((free - {spare}) * 1024)) /dev/zero > '{home}/filler'; fi
fi
set +e
"$@" > '{out}' 2>&1
echo $? > '{out}.status'
'{home}/.llm-cli-gateway/current/bin/llm-gateway' --version > '{out}.version' 2>&1
rm -f '{home}/filler'
'{manager}' repair --json > '{out}.repair' 2>&1
'{manager}' repair --dry-run --json > '{out}.again' 2>&1
'{home}/.llm-cli-gateway/current/bin/llm-gateway' --version > '{out}.after' 2>&1
cat '{home}/.llm-cli-gateway/config.toml' > '{out}.data' 2>&1
true
"""


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def full_disks(cases, world):
    total = 0
    for case in cases:
        with section(f"{case.name}, with the disk full"):
            home, wrong, statuses = case.home, [], set()
            case.restore()
            had = version_in_use(home)
            for spare in (0, 4, 8, 12, 16, 20, 28, 40, 64) if DEEP else (0, 8, 16, 28):
                out = os.path.join(world.root, "full")
                script = FULL.format(home=home.path, base=case.base, size="400k", spare=spare, out=out, manager=home.program)
                world.call([*namespace(script + "exit 0"), home.program, *case.words, "--json"], home.environment)
                status = int(read(out + ".status"))
                statuses.add(status)
                told = read(out)
                if status not in (0, 1) or (status == 1 and "disk-full" not in told):
                    wrong.append(f"{spare} KB free: status {status}: {told}")
                used, after = read(out + ".version").split()[-1:], read(out + ".after").split()[-1:]
                allowed = [[had], [case.uses]]
                if used not in allowed or after not in allowed:
                    wrong.append(f"{spare} KB free: {used} is in use, after repair {after}, expected one of {allowed}: {told}")
                if CLEAN not in read(out + ".again"):
                    wrong.append(f"{spare} KB free: after repair {read(out + '.repair')} there is {read(out + '.again')}")
                if read(out + ".data") != DATA["config.toml"]:
                    wrong.append(f"{spare} KB free: config.toml is {read(out + '.data')}")
                total += 1
            equal(f"{case.name}: with little or no space, all is well each time", wrong[:3], [])
            check(f"{case.name}: the disk was too full at least once", 1 in statuses, "status 1", sorted(statuses))
    print(f"    with the disk full: {total} points", flush=True)
    return total


def running(world):
    """Rollbacks under a running gateway, killed: afterwards it runs what `current` leads to."""
    bundle = release()
    following = renamed(bundle, os.path.join(world.root, "following.tar.gz"), "9.1.0")
    home = Home(world, "running")
    home.json("setup", "--port", str(home.port))
    home.json("install-bundle", *bundle.flags)
    home.json("start", "--detached")
    equal("the gateway is restarted by an upgrade", home.json("upgrade", *following.flags).json["restarted"], True, vital=True)
    words = ["rollback", "--to", bundle.version]
    calls = killed_at(home, words, 0)["calls"]
    wrong, tried = [], 0
    for number in numbers(len(calls)):
        home.run("rollback", "--to", following.version)
        tried += killed_at(home, words, number)["killed"]
        done, now = home.run("repair", "--json"), home.status()
        used = os.path.realpath(home.file("current"))
        runs = os.readlink(f"/proc/{now['pid']}/exe") if now.get("pid") else "nothing"
        if done.code or not now["healthy"] or not runs.startswith(used + "/"):
            wrong.append(f"call {number} ({calls[number - 1]}): {runs} runs, {used} is in use: {done!r}")
    equal(f"killed at {tried} of {len(calls)} calls under a running gateway, it runs what is in use each time", wrong[:3], [])
    home.json("uninstall", "--yes", "--purge")
    return tried


def prepared(home, bundles):
    """Installs bundles one after the other into a home that holds the user's data."""
    for name, text in DATA.items():
        home.write(name, text)
    for bundle in bundles:
        ended = home.run("install-bundle", *bundle.flags, "--json")
        equal(f"{bundle.version} is installed to begin with", ended.code, 0, vital=True)


def drive(world):
    one, two, three = (small_bundle(world, version) for version in ("1.0.0", "2.0.0", "3.0.0"))
    home = Home(world, "empty")
    os.makedirs(os.path.join(home.path, ".config"))
    pristine = home.tree()
    cases = [Case("setup", home, ["setup"]), Case("install-bundle", home, ["install-bundle", *one.flags], uses="1.0.0")]
    total = killed(cases, pristine)
    home.run("setup")
    prepared(home, [one, two])
    cases = [
        Case("upgrade", home, ["upgrade", *three.flags], uses="3.0.0"),
        Case("rollback", home, ["rollback", "--to", "1.0.0"], uses="1.0.0"),
        Case("uninstall", home, ["uninstall", "--yes"], gone=True),
        Case("uninstall --purge", home, ["uninstall", "--yes", "--purge"], gone=True, purged=True),
    ]
    os.chmod(home.file("auth-token"), 0o644)
    os.unlink(home.link)
    os.unlink(home.file("versions", "2.0.0", "setup", "page.html"))
    cases.append(Case("repair", home, ["repair"], uses="2.0.0"))
    total += killed(cases[:4], pristine)
    total += killed(cases[4:], pristine)
    try:
        namespaces_work(world)
        total += full_disks([cases[0], cases[1]], world)
    except Skip as reason:
        skip("full disks", str(reason))
    with section("a running gateway"):
        total += running(world)
    print(f"    {total} points in all", flush=True)


run(drive)
