"""What the drivers of the installed appliance share: homes, the release that was built, bundles made of it, MCP over HTTP.

The release is the one that setup/test builds: the unpacked bundle in .build/releases/tree, the files in .build/releases/dist.
"""
import contextlib
import glob
import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from types import SimpleNamespace

from harness import FIXTURES, PYTHON, ROOT, HTTPGateway, Skip, equal, product, shown

# A shell's own gateway must not shine through: an installed one has its home, its token and its port in files.
OWN_VARIABLES = ("LLM_GATEWAY_HOME", "LLM_GATEWAY_AUTH_TOKEN", "SYNC_DEADLINE_MS")
RELEASES = os.path.join(ROOT, ".build", "releases")
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
# The clean checkout that setup_up.py builds, with the next version.
NEXT = os.path.join(ROOT, ".build", "next")
# What `repair` says when all is well.
CLEAN = "No repair actions were required."


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def digest_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sources_of(checkout):
    """A digest of all that a build depends on, but for the version."""
    digest = hashlib.sha256()
    for parent, folders, files in os.walk(os.path.join(checkout, "Sources")):
        folders.sort()
        for name in sorted(set(files) - {"Product.swift"}):
            path = os.path.join(parent, name)
            digest.update(f"{os.path.relpath(path, checkout)} {digest_of(path)}\n".encode())
    return digest.hexdigest()


class Bundle:
    """A bundle file with the digest of its bytes."""

    def __init__(self, path, version=None):
        self.path, self.version, self.digest = path, version, digest_of(path)

    @property
    def flags(self):
        return ["--url", f"file://{self.path}", "--sha256", self.digest]


def release():
    """The bundle that releases/build made of this checkout."""
    found = glob.glob(os.path.join(RELEASES, "dist", f"llm-cli-gateway-bundle-*-linux-{ARCH}.tar.gz"))
    if len(found) != 1 or product("llm-gateway") != os.path.join(RELEASES, "tree", "bin", "llm-gateway"):
        raise Skip("no release was built: run releases/build --output .build/releases/dist --tree .build/releases/tree")
    return Bundle(found[0], re.search(r"bundle-(.+)-linux-", found[0]).group(1))


def members(bundle):
    """{name: (bytes, mode)} of a bundle's files, without the manifest, and the manifest."""
    files = {}
    with tarfile.open(bundle.path) as archive:
        for entry in archive:
            files[entry.name] = (archive.extractfile(entry).read(), entry.mode)
    manifest, _ = files.pop("manifest.json")
    return files, json.loads(manifest)


def manifest_of(files, manifest, **changes):
    """The manifest as a bundle with these files has it."""
    return json.dumps({**manifest, **changes, "files": [
        {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "mode": f"0{mode:o}", "size": len(data)}
        for path, (data, mode) in sorted(files.items())]}).encode()


def packed(path, files, manifest, extra=(), level=1):
    """Packs a tar.gz with a manifest, the files, and further (TarInfo, bytes). -> Bundle"""
    with tarfile.open(path, "w:gz", compresslevel=level) as archive:
        for name, (data, mode) in [("manifest.json", (manifest, 0o644)), *sorted(files.items())]:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            archive.addfile(entry, io.BytesIO(data))
        for entry, data in extra:
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return Bundle(path, json.loads(manifest).get("version"))


def renamed(bundle, path, version, gateway=None, level=1):
    """The same bundle under another version, with another gateway if one is given; its programs say that version.

    The programs are wrapped: what a program is, it was compiled with. Level 0 packs quickly.
    """
    files, manifest = members(bundle)
    for name, word in (("bin/llm-gateway", "--version"), ("bin/llm-cli-gateway", "version")):
        program, _ = files.pop(name)
        files[f"{name}.real"] = (program, 0o755)
        run = gateway if gateway and name == "bin/llm-gateway" else 'exec "$(dirname "$(readlink -f "$0")")/%s.real" "$@"' % name[4:]
        files[name] = (f'#!/bin/sh\n[ "$1" = {word} ] && {{ echo "{name[4:]} {version}"; exit 0; }}\n{run}\n'.encode(), 0o755)
    return packed(path, files, manifest_of(files, manifest, version=version), level=level)


def next_release(world, bundle):
    """A bundle with a higher version: what setup_up.py built of these sources, else the same programs wrapped."""
    if sources_of(NEXT) == sources_of(ROOT):
        for path in glob.glob(os.path.join(NEXT, "dist", "llm-cli-gateway-bundle-*.tar.gz")):
            return Bundle(path, re.search(r"bundle-(.+)-linux-", path).group(1))
    return renamed(bundle, os.path.join(world.root, "next.tar.gz"), "0.2.0")


def small_bundle(world, version):
    """A bundle whose programs are scripts: what is in it does not matter here, and small ones are quick."""
    script = f'#!/bin/sh\necho "program {version}"\n'.encode()
    files = {"bin/llm-cli-gateway": (script, 0o755), "bin/llm-gateway": (script, 0o755),
             "lib/libexample.so.1": (b"\7" * 9000, 0o644), "setup/page.html": (version.encode(), 0o644)}
    machine = f"linux-{ARCH}"
    manifest = {"schema_version": "bundle-manifest.v1", "version": version, "platform": machine}
    return packed(os.path.join(world.root, f"{version}.tar.gz"), files, manifest_of(files, manifest))


class Ended:
    """A command that ended: its status, its output, and its JSON if that is what it printed."""

    def __init__(self, ended):
        self.code, self.out, self.err = ended.returncode, ended.stdout, ended.stderr
        self.json = None
        with contextlib.suppress(ValueError):
            self.json = json.loads(ended.stdout)

    @property
    def error(self):
        return (self.json or {}).get("error", {}) if isinstance(self.json, dict) else {}

    @property
    def status(self):
        return (self.json or {}).get("status", {})

    def __repr__(self):
        return shown(f"status {self.code}\n{self.out}{self.err}")


class Home:
    """An empty home with the commands of a person who works in it."""

    def __init__(self, world, name, program=None, environment=None):
        for variable in OWN_VARIABLES:
            world.environment.pop(variable, None)
        self.world, self.path, self.port = world, world.directory(name), free_port()
        self.state = os.path.join(self.path, ".llm-cli-gateway")
        self.link = os.path.join(self.path, ".local", "bin", "llm-cli-gateway")
        self.program = program or product("llm-cli-gateway")
        self.environment = {"HOME": self.path, "PATH": f"{self.path}/.local/bin:/usr/bin:/bin", **(environment or {})}

    def file(self, *parts):
        return os.path.join(self.state, *parts)

    def read(self, *parts):
        with open(self.file(*parts), encoding="utf-8") as file:
            return file.read()

    def write(self, name, text, mode=0o600):
        with open(self.file(name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.file(name), mode)

    def run(self, *words, text=None, environment=None, prefix=(), timeout=180):
        """Runs a command of the manager as it stands. -> Ended"""
        return Ended(self.world.call([*prefix, self.program, *words], {**self.environment, **(environment or {})}, text, timeout))

    def json(self, *words, code=0, **options):
        """Runs a command with JSON output and checks its exit status. -> Ended"""
        ended = self.run(*words, "--json", **options)
        equal(f"'{' '.join(short(word) for word in words)}' ends with {code}", (ended.code, ended.json is not None), (code, True)) or \
            print(f"    {ended!r}", flush=True)
        return ended

    def refused(self, *words, code, error, says=(), **options):
        """Runs a command that must be refused, and checks status, error code and what the message says. -> Ended"""
        ended = self.run(*words, "--json", **options)
        title = f"'{' '.join(short(word) for word in words)}' is refused: {error}"
        if equal(title, (ended.code, ended.error.get("code")), (code, error)):
            told = f"{ended.error['message']} / {ended.error.get('help')}"
            missing = [part for part in says if part not in told]
            equal(f"{error} says {', '.join(repr(part) for part in says) or 'something'}", missing, []) or print(f"    {told}")
            print(f"    {told}", flush=True)
        else:
            print(f"    {ended!r}", flush=True)
        return ended

    def status(self):
        """What `status --json` says, unchecked."""
        return self.run("status", "--json").status

    def client(self):
        """An MCP client on HTTP with the token of this home."""
        return Client(self.read("auth-token").strip(), self.port)

    def tree(self):
        """Every path below the home."""
        return sorted(os.path.relpath(os.path.join(parent, name), self.path)
                      for parent, folders, files in os.walk(self.path) for name in folders + files)


def killed_at(home, words, number):
    """Runs a command until its n-th change of a file or of a unit, 0 for to its end. -> what kill_at.py reports"""
    report, tracer = os.path.join(home.world.root, "report.json"), os.path.join(os.environ.get("FIXTURES", FIXTURES), "kill_at.py")
    home.world.call([PYTHON, tracer, home.path + "/", str(number), report, home.program, *words, "--json"], home.environment)
    with open(report, encoding="utf-8") as file:
        return json.load(file)


def killed_after(home, delay, *words, environment=None):
    """Runs a command and kills it (SIGKILL) after so many seconds. -> whether it still ran"""
    process = home.world.start([home.program, *words, "--json"], {**home.environment, **(environment or {})}, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(delay)
    runs = process.poll() is None
    if runs:
        process.send_signal(signal.SIGKILL)
    process.wait()
    return runs


def version_in_use(home):
    """What the installed gateway says it is; None when it does not start."""
    program = home.file("current", "bin", "llm-gateway")
    if not os.path.exists(program):
        return None
    ended = subprocess.run([program, "--version"], stdout=subprocess.PIPE, check=False)
    return ended.stdout.decode().split()[-1] if ended.returncode == 0 else None


def short(word):
    """A word of a command line as a line of output can bear it."""
    return word if len(word) < 40 else f"…{os.path.basename(word)[-24:]}"


class Client(HTTPGateway):
    """A client of a gateway that somebody else started."""

    def __init__(self, token, port):  # noqa: super would start one
        self.world, self.log, self.session, self.next = SimpleNamespace(token=token), [], None, 0
        self.port, self.url = port, f"http://127.0.0.1:{port}/mcp"


def under_systemd(world, script, bundle, *words, options=(), environment=None, timeout=400):
    """Runs `SCRIPT inside BUNDLE MANAGER WORD…` as an ordinary user under a real user service manager, and shows its output.

    The options are those of the manager, see Tests/Fixtures/systemd-user.sh.

    The script is a path below Tests. It finds the fixtures in $FIXTURES, and the version of the bundle in $RELEASE_VERSION.
    """
    # Another user reads these there.
    shared = world.directory("shared")
    for path in (bundle.path, product("llm-cli-gateway")):
        shutil.copy(path, shared)
    for name in ("EndToEnd", "Fixtures", "Benchmarks"):
        shutil.copytree(os.path.join(ROOT, "Tests", name), os.path.join(shared, name))
    for path in (world.root, shared):
        os.chmod(path, 0o755)
    subprocess.run(["chmod", "-R", "a+rX", shared], check=True)
    settings = {"PYTHONDONTWRITEBYTECODE": "1", "FIXTURES": f"{shared}/Fixtures", "RELEASE_VERSION": bundle.version, **(environment or {})}
    ended = world.call([os.path.join(FIXTURES, "systemd-user.sh"), *options, *(word for item in settings.items() for word in ("-e", "=".join(item))),
                        "--", PYTHON, os.path.join(shared, script), "inside", os.path.join(shared, os.path.basename(bundle.path)),
                        f"{shared}/llm-cli-gateway", *words], timeout=timeout)
    if ended.returncode == 77:
        raise Skip(ended.stdout.strip() or "no user manager can be had")
    print(ended.stdout + ended.stderr, end="", flush=True)
    return ended


def namespace(script):
    """The words that run a command after a shell script, in a mount namespace of its own; Skip where that is not allowed."""
    unshare = ["unshare", "--mount", "--propagation", "private"] + ([] if os.getuid() == 0 else ["--user", "--map-root-user"])
    return [*unshare, "/bin/sh", "-ec", f'{script}\nexec "$@"', "sh"]


def namespaces_work(world):
    ended = world.call([*namespace("mount -t tmpfs none /mnt"), "true"])
    if ended.returncode != 0:
        raise Skip(f"private mounts are not allowed here ({ended.stderr.strip()})")


def alive(pid):
    """Whether a process exists and is no zombie."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] != b"Z"
    return False
