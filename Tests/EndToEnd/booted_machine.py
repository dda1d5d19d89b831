#!/usr/bin/python3
"""A user's machine from its first boot to its last: what a real pid 1, logind and polkit make of the service.

The machine is a Debian 12 with systemd in a container of its own, on a copy of its root file system that lasts as long as the
driver: each boot finds the files of the one before. Installed without a login; running without a login from the next boot on;
upgraded; its power lost; removed, with every file as it was before. It keeps no journal on its disk, so that the gateway
needs a log file.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import time

from harness import FIXTURES, PYTHON, Skip, check, contains, equal, matches, product, run, section, tool, within
from installed import Ended, Home, namespace, release, renamed

UNIT = "llm-cli-gateway"
USER = "tester"

# Everything below some folders: kind, mode, owner, and what is in it.
LISTING = """
import hashlib, json, os, stat, sys
found = {}
for top in sys.argv[1:]:
    for parent, folders, files in os.walk(top):
        for name in folders + files:
            path = os.path.join(parent, name)
            info = os.lstat(path)
            content = None
            if stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(info.st_mode):
                content = hashlib.sha256(open(path, "rb").read()).hexdigest()
            found[path] = [oct(info.st_mode), info.st_uid, info.st_gid, content]
print(json.dumps(found))
"""

HEALTH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())"


class Machine:
    """A root file system in a mount namespace that lasts as long as the driver, and at times a machine that runs on it."""

    def __init__(self, world, base, given):
        self.world, self.given, self.process, self.first = world, given, None, None
        top = world.directory("machine")
        self.root = f"{top}/root"
        script = (f"mount -t tmpfs -o mode=755 none '{top}'\nmkdir '{top}/upper' '{top}/work' '{top}/root'\n"
                  f"mount -t overlay overlay -o 'lowerdir={base},upperdir={top}/upper,workdir={top}/work' '{self.root}'\n"
                  f"mkdir -p '{self.root}/etc/systemd/journald.conf.d'\n"
                  f"printf '[Journal]\\nStorage=volatile\\n' >'{self.root}/etc/systemd/journald.conf.d/memory.conf'\n"
                  f"/usr/sbin/chroot '{self.root}' /usr/sbin/useradd --create-home --shell /bin/bash --uid 1000 {USER}\n")
        self.holder = world.start([*namespace(script), "/bin/sh", "-c", "echo ready; exec cat"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.holder.stdout.readline() != "ready\n":
            raise Skip(f"no root file system can be put together here: {self.holder.stderr.read().strip()}")
        world.background.append(self.holder)
        self.outside = ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt"]

    def boot(self):
        began = time.monotonic()
        self.process = self.world.start([*self.outside, os.path.join(FIXTURES, "booted-machine.sh"), self.root, self.given],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        line = self.process.stdout.readline().strip()
        if not line.startswith("ready"):
            self.process.wait()
            raise Skip(line or "the machine said nothing")
        self.first = self.pid_one()
        print(f"    {line} after {time.monotonic() - began:.1f} s", flush=True)

    def pid_one(self):
        """The machine's pid 1, by the number that it has out here: the deepest one below our process."""
        table = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/status") as file:
                        text = file.read()
                except OSError:
                    continue
                numbers = re.search(r"^NSpid:\s+(.*)$", text, re.M).group(1).split()
                table[int(entry)] = (int(re.search(r"^PPid:\s+(\d+)", text, re.M).group(1)), numbers)

        def is_ours(pid):
            while pid in table and pid != self.process.pid:
                pid = table[pid][0]
            return pid == self.process.pid

        found = [pid for pid, (_, numbers) in table.items() if numbers[-1] == "1" and is_ours(pid)]
        return max(found, key=lambda pid: len(table[pid][1]))

    @property
    def inside(self):
        return ["nsenter", f"--target={self.first}", *(f"--{name}" for name in
                ("mount", "uts", "ipc", "net", "pid", "cgroup", "root", "wd")), "--"]

    def call(self, *words, **options):
        """A command as root, outside of every session."""
        return self.world.call([*self.inside, *words], **options)

    def ask(self, url):
        """What an address of the machine answers to a program in its network."""
        ended = self.world.call(["nsenter", f"--net=/proc/{self.first}/ns/net", PYTHON, "-c", HEALTH, url])
        return json.loads(ended.stdout) if ended.returncode == 0 else ended.stderr.strip().splitlines()[-1]

    def power_off(self):
        began = time.monotonic()
        self.call("systemctl", "poweroff")
        self.process.wait(60)
        print(f"    powered off in {time.monotonic() - began:.1f} s", flush=True)
        return self.process.returncode

    def lose_power(self):
        os.kill(self.first, signal.SIGKILL)
        self.process.wait(60)

    def listing(self):
        """{path: what is there} of all that an install could touch, while the machine is off."""
        folders = [f"{self.root}/{name}" for name in ("home", "etc", "var/lib/systemd/linger", "usr/local", "root")]
        ended = self.world.call([*self.outside, PYTHON, "-c", LISTING, *folders])
        return {path[len(self.root):]: facts for path, facts in json.loads(ended.stdout).items()}


class User(Home):
    """A person of that machine, at first without a login: as `su` and cron have it."""

    def __init__(self, world, machine):
        super().__init__(world, "unused")
        self.machine = machine
        self.path = f"/home/{USER}"
        self.state, self.link = f"{self.path}/.llm-cli-gateway", f"{self.path}/.local/bin/{UNIT}"
        self.program = "/given/llm-cli-gateway"

    def words(self, *words):
        return [*self.machine.inside, "systemd-run", "--quiet", "--wait", "--pipe", f"--uid={USER}", f"--working-directory={self.path}",
                f"--setenv=HOME={self.path}", f"--setenv=PATH={self.path}/.local/bin:/usr/bin:/bin", *words]

    def run(self, *words, text=None, environment=None, prefix=(), timeout=180):
        return Ended(self.world.call(self.words(self.program, *words), text=text, timeout=timeout))

    def shell(self, script):
        """A script with the session's variables, as a login has them."""
        return self.world.call(self.words("--setenv=XDG_RUNTIME_DIR=/run/user/1000", "/bin/sh", "-c", script))

    def systemctl(self, *words):
        return self.shell(f"systemctl --user {' '.join(words)}").stdout.strip()

    def receipt(self):
        return json.loads(self.shell(f"cat {self.state}/receipt.json").stdout)

    def lingers(self):
        return self.machine.call("ls", "/var/lib/systemd/linger").stdout.split()

    def health(self):
        return self.machine.ask(f"http://127.0.0.1:{self.port}/healthz")


def sessions(machine):
    return machine.call("loginctl", "list-sessions", "--no-legend").stdout.strip()


def first(user, machine, bundle):
    """From nothing to a gateway that runs, without a login."""
    with section("a machine on which nobody has logged in"):
        equal("there is no session", sessions(machine), "")
        user.json("setup", "--port", str(user.port))
        flags = ["--url", f"file:///given/{os.path.basename(bundle.path)}", "--sha256", bundle.digest]
        equal("the bundle is installed", user.json("install-bundle", *flags).json.get("changed"), True, vital=True)
        user.program = user.link
        user.refused("start", code=1, error="user-manager-unreachable", says=["enable-linger", "start --detached"])
    with section("lingering that is refused"):
        machine.call("systemctl", "mask", "--runtime", "--now", "polkit.service")
        user.refused("setup", "--linger", code=1, error="linger-refused",
                     says=[f"user '{USER}'", f"sudo loginctl enable-linger {USER}"])
        equal("leaves nothing behind", (user.lingers(), user.receipt()["enabledLinger"]), ([], False))
        machine.call("systemctl", "unmask", "--runtime", "polkit.service")
    with section("setup --linger"):
        began = time.monotonic()
        ended = user.json("setup", "--linger")
        print(f"    it took {time.monotonic() - began:.1f} s", flush=True)
        told = ended.status
        equal("starts the gateway under the manager that logind has just started",
              (told.get("running"), told.get("healthy"), told.get("supervisor"), told.get("enabled"), told.get("starts_at_boot")),
              (True, True, "systemd", True, True), vital=True) or print(f"    {ended!r}", flush=True)
        contains("says what it did", json.dumps(ended.json["changes"]), "switched lingering on")
        equal("logind has it, and the receipt has it", (user.lingers(), user.receipt()["enabledLinger"]), ([USER], True))
        equal("start has nothing to do", user.json("start").status["pid"], told["pid"])
        equal("asked again, nothing changes", user.json("setup", "--linger").json["changes"], [])
    with section("setup --no-linger"):
        told = user.json("setup", "--no-linger").json
        contains("switches off what it switched on", json.dumps(told["changes"]), "switched lingering off")
        equal("logind has it, and the receipt has it", (user.lingers(), user.receipt()["enabledLinger"]), ([], False))
        machine.call("loginctl", "enable-linger", USER)
        told = user.json("setup", "--no-linger").json
        contains("leaves alone what somebody else switched on", json.dumps(told["notices"]), f"sudo loginctl disable-linger {USER}")
        equal("logind still has it", user.lingers(), [USER])
        user.json("setup", "--linger")
        equal("and setup --linger does not claim it", user.receipt()["enabledLinger"], False)
        machine.call("loginctl", "disable-linger", USER)
        user.json("setup", "--linger")
        equal("in the end it is ours", (user.lingers(), user.receipt()["enabledLinger"]), ([USER], True))


def timer(user):
    """Upgrades by a timer."""
    with section("upgrade --auto"):
        equal("is switched on", user.json("upgrade", "--auto", "notify").json["auto"], "notify")
        equal("its timer is active and enabled", [user.systemctl(word, f"{UNIT}-upgrade.timer") for word in ("is-active", "is-enabled")],
              ["active", "enabled"])
        shown = user.systemctl("show", f"{UNIT}-upgrade.timer", "--property=Persistent", "--property=RandomizedDelayUSec")
        equal("with jitter, and made up for when it was missed", sorted(shown.splitlines()), ["Persistent=yes", "RandomizedDelayUSec=8h"])
        verified = user.shell(f"systemd-analyze --user verify {user.path}/.config/systemd/user/{UNIT}*.*")
        equal("systemd-analyze verify has nothing to say", (verified.returncode, verified.stdout, verified.stderr), (0, "", ""))
        folder = f"{user.path}/.config/systemd/user/{UNIT}-upgrade.timer"
        user.shell(f"mkdir {folder}.d; printf '[Timer]\\nRandomizedDelaySec=1h\\n' >{folder}.d/mine.conf; cp {folder} /tmp/timer; "
                   f"echo '# mine' >>{folder}")
        told = user.json("upgrade", "--auto", "on").json
        contains("a unit that was edited is reported and kept", json.dumps(told["notices"]), "left as it is")
        contains("a drop-in is in force", user.systemctl("show", f"{UNIT}-upgrade.timer", "--property=RandomizedDelayUSec"), "=1h")
        user.shell(f"cat /tmp/timer >{folder}; rm -r {folder}.d /tmp/timer")
        user.json("restart")
        contains("without them all is as before", user.systemctl("show", f"{UNIT}-upgrade.timer", "--property=RandomizedDelayUSec"), "=8h")
        user.systemctl("start", f"{UNIT}-upgrade.service")
        last = user.status()["auto_upgrade"]["last"]
        equal("a run that fails is in the state", (last["outcome"], last["failures"]), ("failed", 1))
        report = user.run("doctor", "--json").json
        found = [finding for finding in report["findings"] if finding["code"] == "auto-upgrade-failed"]
        equal("and a finding of the doctor", [finding["severity"] for finding in found], ["warning"])
        print(f"    {found and found[0]['text']}", flush=True)
        equal("which says that the gateway starts at boot", (report["service"]["starts_at_boot"], report["service"]["auto_upgrade"]["scheduled"]),
              (True, True))


def running(user, machine):
    """The version of the program that runs, by the place of its file: one that was renamed says the number of the original."""
    pid = user.status().get("pid")
    path = machine.call("readlink", f"/proc/{pid}/exe").stdout.strip()
    return path.removeprefix(f"{user.state}/versions/").split("/")[0]


def booted(user, machine, version, title):
    with section(title):
        equal("nobody has logged in", sessions(machine), "")
        answer = within(20, lambda: (now := user.health()) and isinstance(now, dict) and now)
        equal("the gateway answers", (answer or {}).get("ok"), True, vital=True)
        told = user.status()
        equal("status says the same", (told["running"], told["healthy"], told["pid"] == answer["pid"], told["starts_at_boot"]),
              (True, True, True, True))
        equal(f"it is version {version}", running(user, machine), version)
        equal("the timer waits as well", user.systemctl("is-active", f"{UNIT}-upgrade.timer"), "active")


def rotation(user):
    with section("a log where there is no journal"):
        log = f"{user.state}/log/gateway.log"
        equal("is a file", user.status()["log_path"], log)
        contains("with the words of the gateway", user.run("logs").out, "listening")
        user.shell(f"head -c 11000000 /dev/zero | tr '\\0' x >>{log}; echo >>{log}")
        user.json("restart")
        sizes = user.shell(f"cd {os.path.dirname(log)}; stat --format='%n %s %a' *").stdout.split("\n")
        sizes = {line.split()[0]: int(line.split()[1]) for line in sizes if line}
        check("that is kept within bounds: a new one is begun", sizes.get("gateway.log.1", 0) > 11e6 and sizes["gateway.log"] < 1e6,
              "a large gateway.log.1 and a small gateway.log", sizes)
        contains("in which the gateway goes on", user.run("logs").out, "listening")


def upgrade(user, machine, bundle):
    with section("an upgrade"):
        flags = ["--url", f"file:///given/{os.path.basename(bundle.path)}", "--sha256", bundle.digest]
        told = user.json("upgrade", *flags).json
        equal("restarts the service", (told.get("changed"), told.get("restarted")), (True, True), vital=True)
        equal("which is the new version, and answers", (running(user, machine), user.status()["healthy"]), (bundle.version, True))


def removal(user, machine):
    with section("uninstall"):
        listed = user.run("uninstall", "--purge", "--text").out
        contains("says that lingering goes off", listed, "lingering, which this program switched on, goes off")
        ended = user.json("uninstall", "--purge", "--yes")
        equal("has nothing to complain of", ended.json["notices"], [])
        equal("nobody lingers", user.lingers(), [])
        answer = user.health()
        matches("the port is closed", answer if isinstance(answer, str) else str(answer), "refused")


def drive(world):
    base = tool("machine")
    given = world.directory("given")
    bundle = release()
    following = renamed(bundle, os.path.join(given, "next.tar.gz"), "8.0.0")
    for path in (bundle.path, product("llm-cli-gateway")):
        shutil.copy(path, given)
    # The people of the machine read these.
    subprocess.run(["chmod", "-R", "a+rX", given], check=True)
    os.chmod(world.root, 0o755)
    machine = Machine(world, base, given)
    user = User(world, machine)
    machine.boot()
    equal("the machine can be powered off", machine.power_off(), 0)
    before = machine.listing()
    machine.boot()
    first(user, machine, bundle)
    timer(user)
    rotation(user)
    machine.power_off()
    machine.boot()
    booted(user, machine, bundle.version, "the next boot")
    upgrade(user, machine, following)
    machine.lose_power()
    machine.boot()
    booted(user, machine, following.version, "the boot after a loss of power")
    removal(user, machine)
    machine.power_off()
    with section("what is left"):
        after = machine.listing()
        different = {path: (before.get(path), after.get(path)) for path in {*before, *after} if before.get(path) != after.get(path)}
        equal(f"every one of the {len(before)} files is as before, and no other is there", different, {})


run(drive)
