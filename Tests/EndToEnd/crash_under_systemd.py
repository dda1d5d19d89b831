#!/usr/bin/python3
"""The built manager under a real user service manager, killed with SIGKILL: right before a call that changes a file, right before
one that tells systemd to do something, and right after it, while systemd is at work.

Runs itself as an ordinary user inside Tests/Fixtures/systemd-user.sh. After each: the installed version works, no unit file is
half written, `status` answers; the command repeated, or `repair`, comes to its end, and then the service is what it should be: one
gateway and no other process, units that systemd-analyze has nothing to say of, enabled what is to be enabled. At the end of each
`uninstall --yes --purge` leaves what was there before, and systemd knows no unit of ours. The plain run tries a few calls of each
command, most of them to systemd; with LLM_GATEWAY_DEEP_TESTS every single one.
"""
import os
import sys

from harness import DEEP, Tally, check, equal, run, section, within
from installed import CLEAN, Bundle, killed_at, release, renamed, under_systemd, version_in_use
from systemd_service import UNIT, Inside, ServiceHome

UNITS = (f"{UNIT}.service", f"{UNIT}.socket")
TIMER = f"{UNIT}-upgrade.timer"


class Case:
    """A command, what comes before it, what the next one is, and what the service is to be after that."""

    def __init__(self, words, before=(), then=None, points=3, running=True, enabled=(), version=None):
        self.words, self.before, self.then, self.points = words, before, then or words, points
        self.running, self.enabled, self.version = running, list(enabled), version

    @property
    def name(self):
        return " ".join(word for word in self.words if not word.startswith(("file:", "-")) and len(word) < 40)


def folder(home):
    return os.path.join(home.path, ".config/systemd/user")


def unit_files(home):
    """{name: text} of the unit files, without the links that enable them and the staged forms that systemd takes for nothing."""
    found = {}
    for name in os.listdir(folder(home)) if os.path.isdir(folder(home)) else ():
        path = os.path.join(folder(home), name)
        if not os.path.isdir(path) and ".tmp." not in name:
            with open(path, encoding="utf-8") as file:
                found[name] = file.read()
    return found


def gateways(home):
    """{pid: program} of what runs from the versions of the home."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            program = os.readlink(f"/proc/{pid}/exe")
        except OSError:
            continue
        if program.startswith(home.file("versions") + "/"):
            found[int(pid)] = os.path.basename(program).removesuffix(" (deleted)")
    return found


def prepared(home, case):
    """The home with the release, and what comes before the command."""
    for words in (["setup", "--port", str(home.port)], ["install-bundle", *home.bundle.flags], *case.before):
        ended = home.run(*words, "--json")
        if ended.code != 0:
            raise RuntimeError(f"{words} ends with {ended!r}")


def as_it_should(home, case, version):
    """Sentences about what is not as it should be, with this version in use, once the next command has come to its end."""
    wrong = []

    def expect(what, got, wanted):
        if got != wanted:
            wrong.append(f"{what}: {got}, expected {wanted}")

    now = home.status()
    expect("it runs and answers", (now.get("running"), now.get("healthy")), (case.running, case.running))
    expect("under systemd", now.get("supervisor"), "systemd")
    program = "llm-gateway" if version == home.bundle.version else "llm-gateway.real"
    wanted = [(now.get("pid"), program)] if case.running else []
    within(5, lambda: sorted(gateways(home).items()) == wanted)
    expect("what runs", sorted(gateways(home).items()), wanted)
    expect("what starts with the session", [unit for unit in (*UNITS, TIMER) if home.systemctl("is-enabled", unit) == "enabled"],
           case.enabled)
    expect("what systemd has active", [unit for unit in (*UNITS, TIMER) if home.systemctl("is-active", unit) == "active"],
           [*(UNITS if case.running else ()), *(TIMER for _ in range(TIMER in case.enabled))])
    paths = [os.path.join(folder(home), name) for name in sorted(unit_files(home))]
    if paths:
        verified = home.world.call(["systemd-analyze", "--user", "verify", *paths], home.environment)
        expect("systemd-analyze verify", (verified.returncode, verified.stdout, verified.stderr), (0, "", ""))
    expect("the version in use", version_in_use(home), version)
    again = home.run("repair", "--dry-run", "--json")
    expect("what is left to repair", (again.code, again.json["steps"], again.json["message"]), (0, [], CLEAN))
    return wrong


def gone(home, pristine):
    """Removes all and says what is left of it."""
    ended = home.run("uninstall", "--yes", "--purge", "--json")
    left = sorted(set(home.tree()) ^ set(pristine))
    wrong = [f"uninstall --purge leaves {left}: {ended!r}"] if left or ended.code else []
    if not within(5, lambda: not gateways(home)):
        wrong.append(f"after uninstall --purge there runs {gateways(home)}")
    known = home.systemctl("list-units", "--all", "--plain", "--no-legend", f"{UNIT}*", "llm*.slice")
    return wrong + ([f"systemd still knows {known}"] if known else [])


def problems(home, case, number, texts, pristine):
    """Kills the command at one call and looks at everything. -> (the call or None, sentences about what is wrong)"""
    prepared(home, case)
    report = killed_at(home, case.words, number)
    if not report["killed"]:
        return None, gone(home, pristine)
    wrong = []
    allowed = {home.bundle.version, case.version or home.bundle.version}
    if version_in_use(home) not in allowed and case.words[0] != "uninstall":
        wrong.append(f"{version_in_use(home)} is in use")
    half = [name for name, text in unit_files(home).items() if text != texts[name]]
    if half:
        wrong.append(f"{half} are not as a command writes them")
    looked = home.run("status", "--json")
    if looked.code != 0:
        wrong.append(f"status fails: {looked!r}")
    told = home.run(*case.then, "--json")
    if told.code != 0:
        wrong.append(f"'{case.then[0]}' afterwards ends with {told!r}")
    version = version_in_use(home)
    if version in allowed:
        wrong += as_it_should(home, case, version)
    elif version or case.words[0] != "uninstall":
        wrong.append(f"{version} is in use after {told!r}")
    return report["calls"][-1], wrong + gone(home, pristine)


def numbers(calls, points):
    """Which calls to kill at: all of them, or some; two of three are those to systemd where there are as many."""
    if DEEP:
        return list(range(1, len(calls) + 1))
    orders = [number for number, name in enumerate(calls, 1) if name[0].isupper()]
    files = [number for number, name in enumerate(calls, 1) if not name[0].isupper()]

    def spread(found, count):
        count = min(count, len(found))
        return [found[round(index * (len(found) - 1) / max(1, count - 1))] for index in range(count)]

    chosen = spread(orders, max(points * 2 // 3, points - len(files)))
    return sorted(chosen + spread(files, points - len(chosen)))


def matrix(home, following, pristine):
    started, enabled = [["start"]], [["setup", "--enable"]]
    all_on = [*enabled, ["upgrade", "--auto", "on"]]
    cases = [
        Case(["start"], points=4),
        Case(["setup", "--enable"], points=4, enabled=UNITS),
        Case(["stop"], started, points=2, running=False),
        Case(["restart"], started, points=2),
        Case(["upgrade", "--auto", "on"], enabled, points=3, enabled=[*UNITS, TIMER]),
        Case(["upgrade", *following.flags], enabled, then=["repair"], points=3, enabled=UNITS, version=following.version),
        Case(["uninstall", "--yes"], all_on, then=["repair"], points=7, enabled=[*UNITS, TIMER]),
    ]
    prepared(home, Case(["status"], all_on))
    texts = unit_files(home)
    equal("all is gone before the first kill", gone(home, pristine), [], vital=True)
    total = 0
    for case in cases:
        with section(f"{case.name}, killed"):
            prepared(home, case)
            whole = killed_at(home, case.words, 0)
            equal(f"{case.name}: comes to its end when it is not killed", whole["status"], 0, vital=True)
            if case.words[0] != "uninstall":
                equal(f"{case.name}: then all is as it should be", as_it_should(home, case, case.version or home.bundle.version), [],
                      vital=True)
            equal(f"{case.name}: and is gone", gone(home, pristine), [], vital=True)
            wrong, tried = [], []
            for number in numbers(whole["calls"], case.points):
                call, found = problems(home, case, number, texts, pristine)
                if call:
                    tried.append(call)
                wrong += [f"call {number} ({call}): {sentence}" for sentence in found]
            total += len(tried)
            print(f"    killed at: {'; '.join(tried)}", flush=True)
            equal(f"{case.name}: killed at {len(tried)} of {len(whole['calls'])} calls, all is well each time", wrong[:5], [])
            check(f"{case.name}: it was killed at all", tried, "some", tried)
    print(f"    {total} points in all", flush=True)


def inside(bundle, manager):
    world = Inside()
    try:
        home = ServiceHome(world, manager)
        home.bundle = Bundle(bundle, os.environ["RELEASE_VERSION"])
        following = renamed(home.bundle, os.path.join(world.root, "following.tar.gz"), "90.0.0", level=0)
        matrix(home, following, home.tree())
    finally:
        world.close()
    sys.exit(1 if Tally.failed else 0)


def drive(world):
    deep = {"LLM_GATEWAY_DEEP_TESTS": "1"} if DEEP else {}
    ended = under_systemd(world, "EndToEnd/crash_under_systemd.py", release(), environment=deep, timeout=3400 if DEEP else 400)
    equal("everything held under systemd", ended.returncode, 0)


if __name__ == "__main__":
    inside(*sys.argv[2:]) if sys.argv[1:2] == ["inside"] else run(drive)
