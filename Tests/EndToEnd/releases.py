#!/usr/bin/python3
"""Releases from a source: an index over HTTP and in a folder, channels, checks for scripts, downgrades, signatures by a Sigstore
instance of our own, mirrors that lie, and downloads that are cut off.

The bundles are small: shell scripts take the place of the programs. The manager is the built one.
"""
import contextlib
import glob
import hashlib
import http.server
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time

from absurd_servers import absurd
from harness import FIXTURES, ROOT, Skip, Tally, World, check, contains, equal, matches, product, run, section, skip, tool
from installed import ARCH, Bundle, Home, digest_of, manifest_of, packed, under_systemd

IDENTITY = "https://github.com/acme/tool/.github/workflows/release.yml@refs/tags/v1.0.0"
ISSUER = "https://token.actions.githubusercontent.com"
OTHER_ARCH = {"amd64": "arm64", "arm64": "amd64"}[ARCH]

# Signs every SHA256SUMS below a folder, and writes the trust root beside it.
SIGN = """
import json, pathlib, sys
sys.path.insert(0, sys.argv[1])
import sigstore_instance
instance = sigstore_instance.Instance()
folder = pathlib.Path(sys.argv[2])
for sums in folder.glob('*/SHA256SUMS'):
    (sums.parent / 'SHA256SUMS.sigstore.json').write_text(json.dumps(instance.sign(sums.read_bytes())))
(folder / 'trusted_root.json').write_text(json.dumps(instance.trusted_root()))
"""


class Shelf:
    """A folder of releases for two platforms, as releases/build and releases/index leave it."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def name(self, version, arch=ARCH):
        return f"llm-cli-gateway-bundle-{version}-linux-{arch}.tar.gz"

    def bundle(self, version):
        return self.path(version, self.name(version))

    def add(self, version, says=None, ballast=300_000):
        says = says or version
        files = {f"bin/{name}": (f'#!/bin/sh\necho "{name} {says}"\n'.encode(), 0o755) for name in ("llm-gateway", "llm-cli-gateway")}
        files["lib/ballast"] = (random.Random(version).randbytes(ballast), 0o644)
        os.makedirs(self.path(version), exist_ok=True)
        start = json.dumps({"schema_version": "bundle-manifest.v1", "version": says, "platform": f"linux-{ARCH}", "files": []})
        packed(self.bundle(version), files, manifest_of(files, json.loads(start)))
        # First in every list, so that whoever takes the first takes the wrong one.
        other = self.path(version, self.name(version, OTHER_ARCH))
        with open(other, "w", encoding="utf-8") as file:
            file.write(f"the bundle of {version} for another platform\n")
        manifest = {"schema_version": "release-manifest.v1", "version": version, "artifacts": [
            {"name": os.path.basename(path), "os": "linux", "arch": arch, "role": "platform-bundle", "size": os.path.getsize(path),
             "unpacked_size": ballast + 4096, "sha256": digest_of(path)} for arch, path in ((OTHER_ARCH, other), (ARCH, self.bundle(version)))]}
        with open(self.path(version, "release-manifest.json"), "w", encoding="utf-8") as file:
            file.write(json.dumps(manifest, indent=2) + "\n")
        names = [os.path.basename(other), self.name(version), "release-manifest.json"]
        with open(self.path(version, "SHA256SUMS"), "w", encoding="utf-8") as file:
            file.writelines(f"{digest_of(self.path(version, name))}  {name}\n" for name in names)

    def list(self):
        done = subprocess.run([os.path.join(ROOT, "releases", "index"), self.folder], capture_output=True, text=True, check=False)
        equal("releases/index lists the releases", (done.returncode, done.stderr), (0, ""))

    def sign(self):
        if not os.path.exists(os.path.join(FIXTURES, "sigstore_instance.py")):
            raise Skip("there is no Sigstore instance to sign with")
        subprocess.run([tool("sigstore"), "-c", SIGN, FIXTURES, self.folder], check=True)

    def copy(self, folder):
        shutil.copytree(self.folder, folder)
        return Shelf(folder)


# Validates files by a published schema, with PyPI jsonschema: prints what is wrong.
VALIDATE = """
import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
for path in sys.argv[2:]:
    for error in jsonschema.Draft202012Validator(schema).iter_errors(json.load(open(path))):
        print(path, error.json_path, error.message)
"""


def schemas(world, shelf):
    """What releases/index writes, and the manifests of this shelf, by the schemas that are published."""
    with section("the published schemas"):
        try:
            validator = tool("schema")
        except Skip as reason:
            skip("list and manifests against their schemas", reason)
            return
        def complaints(name, *paths):
            ended = world.call([validator, "-c", VALIDATE, os.path.join(ROOT, "releases", f"{name}.schema.json"), *paths])
            return ended.stdout + ended.stderr
        manifests = glob.glob(shelf.path("*", "release-manifest.json"))
        equal("the list is of the published form", complaints("release-index", shelf.path("releases.json")), "")
        equal(f"{len(manifests)} manifests are as well", complaints("release-manifest", *manifests), "")
        contains("a manifest is no list", complaints("release-index", manifests[0]), "'releases' is a required property")


class Server:
    """A static file server on loopback with ranges; it can cut its answers short and keeps a list of requests."""

    def __init__(self, folder):
        self.requests, self.cuts, self.wait = [], [], []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.requests.append((self.path, self.headers.get("Range")))
                if outer.wait and self.path.endswith(".gz"):
                    self.send_response(503)
                    self.send_header("Retry-After", outer.wait.pop(0))
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                path = os.path.join(folder, self.path.lstrip("/"))
                if not os.path.isfile(path):
                    self.send_error(404)
                    return
                with open(path, "rb") as file:
                    body = file.read()
                tag, first = f'"{hashlib.md5(body).hexdigest()}"', 0
                asked = self.headers.get("Range")
                if asked and self.headers.get("If-Range", tag) == tag:
                    first = int(asked.removeprefix("bytes=").rstrip("-"))
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
                else:
                    self.send_response(200)
                self.send_header("ETag", tag)
                self.send_header("Content-Length", str(len(body) - first))
                self.end_headers()
                if outer.cuts and self.path.endswith(".gz"):
                    self.wfile.write(body[first:first + outer.cuts.pop(0)])
                    self.close_connection = True
                    return
                with contextlib.suppress(OSError):
                    self.wfile.write(body[first:])

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def pinned(shelf, version):
    return ["--sha256", digest_of(shelf.bundle(version))]


def unsigned(world, shelf):
    """What works without any signature: digests that the user gives."""
    home = Home(world, "unsigned")
    source = ["--source", shelf.folder]
    with section("releases without a signature"):
        home.refused("install-bundle", code=2, error="no-release-source", says=["--source", "LLM_GATEWAY_RELEASE_SOURCE"])
        home.refused("install-bundle", *source, code=3, error="unsigned-release", says=["1.10.0 is not signed", "--sha256"])
        home.refused("upgrade", "--check", *source, code=3, error="unsigned-release")
        home.refused("install-bundle", *source, "--version", "5.0.0", code=5, error="release-not-found", says=["2.0.0-rc.10"])
        equal("nothing was made", home.tree(), [])
        dry = home.json("install-bundle", *source, *pinned(shelf, "1.10.0"), "--dry-run")
        equal("a dry run says what it would do and makes nothing", (dry.json["available"], dry.json["latest_version"], home.tree()),
              (True, "1.10.0", []))
        done = home.json("install-bundle", *source, *pinned(shelf, "1.10.0"))
        equal("the newest stable release is 1.10.0, not 1.9.0", (done.json["bundle_version"], done.json["trust"]), ("1.10.0", "pinned-checksum"))
        again = home.json("upgrade", *source)
        equal("nothing is new, and nothing is verified or fetched", again.json["changed"], False)
        home.refused("upgrade", *source, "--version", "1.9.0", *pinned(shelf, "1.9.0"), code=3, error="downgrade-refused", says=["1.10.0"])
        older = home.json("upgrade", *source, "--version", "1.9.0", *pinned(shelf, "1.9.0"), "--allow-downgrade")
        equal("an older one comes when it is asked for", older.json["bundle_version"], "1.9.0")
        check_ = home.json("upgrade", "--check", *source, *pinned(shelf, "1.10.0"), code=1)
        equal("a script sees that there is a newer one", (check_.json["available"], check_.json["latest_version"]), (True, "1.10.0"))
        early = home.json("upgrade", *source, "--channel", "prerelease", *pinned(shelf, "2.0.0-rc.10"))
        equal("the channel of prereleases ends with rc.10, not rc.9", early.json["bundle_version"], "2.0.0-rc.10")
        stays = home.json("upgrade", *source)
        equal("the channel is remembered", (stays.json["changed"], json.loads(home.read("settings.json"))["release_channel"]), (False, "prerelease"))


def signed(world, shelf):
    """Signatures decide: the index is fetched, SHA256SUMS is verified, and only then the bundle comes."""
    server = Server(shelf.folder)
    home = Home(world, "signed")
    believes = ["--identity", IDENTITY, "--issuer", ISSUER, "--trust-root", shelf.path("trusted_root.json")]
    try:
        with section("signed releases over HTTP"):
            source = ["--source", server.base, *believes]
            home.refused("install-bundle", "--source", server.base, code=2, error="no-release-signer", says=["--identity"])
            home.refused("install-bundle", *source[:2], "--identity", "https://evil.example", *believes[2:], code=3,
                         error="signature-identity-refused")
            home.refused("install-bundle", *source[:2], *believes[:4], code=3, error="signature-certificate-untrusted")
            equal("no bundle was asked for", [path for path, _ in server.requests if path.endswith(".gz")], [])
            done = home.json("install-bundle", *source, "--version", "1.9.0")
            equal("a signed release is installed", (done.json["bundle_version"], done.json["trust"], done.json["bundle_source"]),
                  ("1.9.0", "sigstore", "release-index"))
            equal("who signed is known", (done.json["signer"]["identity"], done.json["signer"]["issuer"]), (IDENTITY, ISSUER))
            receipt = json.loads(home.read("receipt.json"))["installed"][0]
            equal("the receipt keeps it", (receipt["trust"], receipt["signer"]["identity"]), ("sigstore", IDENTITY))
            state = home.json("status").status["installed"]
            equal("status shows it", (state["version"], state["trust"], state["signer"]["identity"]), ("1.9.0", "sigstore", IDENTITY))
            install = home.run("doctor", "--json").json["gateway"]["install"]
            equal("doctor shows it", (install["trust"], install["signer"]["identity"]), ("sigstore", IDENTITY))
            newer = home.json("upgrade", "--check", *source, code=1)
            equal("--check verifies what it offers", (newer.json["trust"], newer.json["latest_version"]), ("sigstore", "1.10.0"))
            home.json("upgrade", *source)
            server.requests.clear()
            began = time.monotonic()
            same = home.json("upgrade", *source)
            print(f"    nothing new took {(time.monotonic() - began) * 1000:.0f} ms", flush=True)
            equal("nothing new: one request", (same.json["changed"], server.requests), (False, [("/releases.json", None)]))

        with section("a download that is cut off"):
            other = Home(world, "cut")
            server.requests.clear()
            server.cuts[:] = [100_000, 50_000]
            server.wait[:] = ["1"]
            done = other.run("install-bundle", *source, "--text")
            equal("it comes to its end", done.code, 0) or print(f"    {done!r}")
            asked = [asked for path, asked in server.requests if path.endswith(".gz")]
            equal("by going on where it stopped", asked, [None, None, "bytes=100000-", "bytes=150000-"])
            contains("and says so", done.err, "trying again in")
            third = Home(world, "cut-twice")
            server.cuts[:] = [100_000] + [0] * 5
            failed = third.refused("install-bundle", *source, code=5, error="network", says=["(0.1 MB) is kept"])
            equal("what came is kept", [os.path.getsize(path) for path in glob.glob(third.file("cache", "*.part"))], [100_000])
            check("nothing is installed", not os.path.exists(third.file("current")), got=failed.out)
            server.requests.clear()
            third.json("install-bundle", *source)
            equal("the next command goes on", [asked for path, asked in server.requests if path.endswith(".gz")], ["bytes=100000-"])
            equal("and leaves nothing behind", os.listdir(third.file("cache")), [])

        with section("the reference's release service"):
            assets = [{"name": name, "browser_download_url": f"{server.base}/1.10.0/{name}"} for name in os.listdir(shelf.path("1.10.0"))]
            for name, answer in {"latest": {"tag_name": "v1.10.0", "prerelease": False, "assets": assets},
                                 "all": [{"tag_name": "v1.10.0", "prerelease": False, "assets": assets},
                                         {"tag_name": "v9.0.0", "prerelease": True, "assets": []}]}.items():
                with open(shelf.path(name), "w", encoding="utf-8") as file:
                    json.dump(answer, file)
                third = Home(world, f"service-{name}")
                done = third.json("upgrade", *believes, environment={"RVWR_RELEASE_API_URL": f"{server.base}/{name}"})
                equal(f"{name}: its newest stable release is installed",
                      (done.json["bundle_version"], done.json["bundle_source"], done.json["trust"]), ("1.10.0", "github-latest", "sigstore"))
    finally:
        server.close()
    by_itself(world, shelf, believes)
    by_the_timer(world, shelf)
    without_network(world, shelf, believes)
    hostile(world, shelf, believes)


def by_itself(world, shelf, believes):
    """What the timer runs; the timer itself is the business of booted_machine.py."""
    with section("an automatic upgrade"):
        home = Home(world, "by-itself")
        home.json("install-bundle", "--source", shelf.folder, *believes, "--version", "1.9.0")
        timer = ["upgrade", "--auto-run", "--source", shelf.folder]

        def mode(word):
            with open(home.file("settings.json"), "w", encoding="utf-8") as file:
                json.dump({"auto_upgrade": word}, file)
            os.chmod(home.file("settings.json"), 0o600)

        def findings():
            return [finding["code"] for finding in home.run("doctor", "--json").json["findings"]]

        mode("off")
        equal("does nothing when it was switched off meanwhile", home.json(*timer, *believes).json["last"], None)
        mode("notify")
        told = home.json(*timer, *believes).json["last"]
        equal("only tells of a newer release", (told["outcome"], told["version"], home.status()["installed"]["version"]),
              ("available", "1.10.0", "1.9.0"))
        check("the doctor tells of it too", "upgrade-available" in findings(), "upgrade-available", findings())
        mode("on")
        home.refused(*timer, *believes[2:], "--identity", "https://evil.example", code=3, error="signature-identity-refused")
        equal("installs nothing that another one signed", home.status()["installed"]["version"], "1.9.0")
        check("the doctor says that it failed", "auto-upgrade-failed" in findings(), "auto-upgrade-failed", findings())
        done = home.json(*timer, *believes).json["last"]
        equal("installs a release whose signature holds",
              (done["outcome"], home.status()["installed"]["version"], home.status()["installed"]["trust"]), ("upgraded", "1.10.0", "sigstore"))
        # That there is no timer is true here.
        equal("the doctor has nothing more to say of it", [code for code in findings() if "upgrade" in code], ["auto-upgrade-inactive"])
        equal("has nothing to do the next time", home.json(*timer, *believes).json["last"]["outcome"], "up-to-date")


def by_the_timer(world, shelf):
    """What the unit itself runs, under a real user service manager: it has no flags, only what `upgrade --auto on` was told."""
    with section("an automatic upgrade by its unit"):
        files = {"bin/llm-gateway": (b'#!/bin/sh\necho "llm-gateway 1.9.0"\n', 0o755)}
        with open(product("llm-cli-gateway"), "rb") as file:
            files["bin/llm-cli-gateway.real"] = (file.read(), 0o755)
        files["bin/llm-cli-gateway"] = (b'#!/bin/sh\n[ "$1" = version ] && { echo "llm-cli-gateway 1.9.0"; exit 0; }\n'
                                        b'exec "$(dirname "$(readlink -f "$0")")/llm-cli-gateway.real" "$@"\n', 0o755)
        start = {"schema_version": "bundle-manifest.v1", "version": "1.9.0", "platform": f"linux-{ARCH}", "files": []}
        bundle = packed(os.path.join(world.root, "timer.tar.gz"), files, manifest_of(files, start))
        shared = shutil.copytree(shelf.folder, os.path.join(world.root, "timer-shelf"))
        subprocess.run(["chmod", "-R", "a+rX", shared], check=True)
        try:
            ended = under_systemd(world, "EndToEnd/releases.py", bundle, shared)
        except Skip as reason:
            skip("the unit of an automatic upgrade", reason)
            return
        equal("the unit did what it was told", ended.returncode, 0)


def inside(bundle, manager, shelf):
    """As an ordinary user under the user manager."""
    world = World()
    for name in ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"):
        world.environment[name] = os.environ[name]
    server = Server(shelf)
    try:
        home = Home(world, "home", manager)
        # The home that the manager knows: its units belong there.
        home.path = os.environ["HOME"]
        home.state = os.path.join(home.path, ".llm-cli-gateway")
        home.environment.update({"HOME": home.path, "PATH": "/usr/bin:/bin"})

        def systemctl(*words):
            return world.call(["systemctl", "--user", *words], home.environment)

        def settings():
            return {name: value for name, value in json.loads(home.read("settings.json")).items() if name.startswith("auto_")}

        unit, signer = "llm-cli-gateway-upgrade", ["--identity", IDENTITY, "--issuer", ISSUER]
        root = ["--trust-root", os.path.join(shelf, "trusted_root.json")]
        home.json("install-bundle", *Bundle(bundle).flags)
        home.refused("upgrade", "--auto", "on", "--source", server.base, code=2, error="no-release-signer")
        home.refused("upgrade", "--auto", "on", "--source", server.base, *signer[:2], code=2, error="usage", says=["--issuer"])
        check("nothing is remembered of what was refused", not os.path.exists(home.file("settings.json")))
        told = home.json("upgrade", "--auto", "on", "--source", server.base, *signer, *root)
        wanted = {"source": server.base, "signer": IDENTITY, "issuer": ISSUER, "key": None, "trust_root": root[1]}
        equal("upgrade --auto on says what it will believe", (told.json["auto"], told.json["source"]), ("on", wanted))
        equal("and remembers it", settings(), {"auto_upgrade": "on", "auto_upgrade_source": {
            "source": server.base, "identity": IDENTITY, "issuer": ISSUER, "trust_root": root[1]}})
        command = systemctl("show", f"{unit}.service", "--property=ExecStart").stdout
        contains("the unit has no flags of its own", command, "upgrade --auto-run --text ;")
        equal("the unit runs to its end", systemctl("start", f"{unit}.service").returncode, 0)
        state = home.status()
        equal("it has installed the newest release that the signer signed",
              (state["installed"]["version"], state["installed"]["trust"], state["installed"]["signer"]["identity"]), ("1.10.0", "sigstore", IDENTITY))
        equal("status shows what it believes, and what it came to", (state["auto_upgrade"]["source"], state["auto_upgrade"]["last"]["outcome"]),
              (wanted, "upgraded"))
        equal("the doctor shows it as well", home.run("doctor", "--json").json["service"]["auto_upgrade"]["source"], wanted)
        kept = home.json("upgrade", "--auto", "notify")
        equal("another mode keeps it", (kept.json["source"], settings()["auto_upgrade"]), (wanted, "notify"))
        off = home.json("upgrade", "--auto", "off")
        equal("--auto off forgets it", (off.json["source"], settings()), (None, {}))
        equal("and takes the units away", [name for name in os.listdir(os.path.join(home.path, ".config/systemd/user")) if "upgrade" in name], [])
        return 1 if Tally.failed else 0
    finally:
        server.close()
        world.close()


def without_network(world, shelf, believes):
    with section("from a folder, from a file, without any network"):
        for title, place in {"a folder of releases": shelf.folder, "a release": shelf.path("1.10.0"), "a bundle": shelf.bundle("1.10.0")}.items():
            home = Home(world, f"from {title}".replace(" ", "-"))
            done = home.json("install-bundle", "--from", place, *believes, prefix=offline(world))
            equal(f"{title} is verified and installed", (done.json["bundle_version"], done.json["trust"]), ("1.10.0", "sigstore"))


def offline(world):
    """The words that run a command without a network, where that is allowed."""
    prefix = ["unshare", "--net"] + ([] if os.getuid() == 0 else ["--user", "--map-root-user"])
    return prefix if world.call([*prefix, "true"]).returncode == 0 else []


def hostile(world, shelf, believes):
    """Sources that lie: each is refused with a reason of its own, and the version before stays."""
    home = Home(world, "hostile")
    home.json("install-bundle", "--source", shelf.folder, *believes, "--version", "1.9.0")

    def lying(name, change, code, error, says=()):
        copy = shelf.copy(os.path.join(world.root, f"hostile-{name}".replace(" ", "-")))
        change(copy)
        with section(name):
            home.refused("upgrade", "--source", copy.folder, *believes, code=code, error=error, says=says)
            equal(f"{name}: 1.9.0 stays", json.loads(home.read("receipt.json"))["installed"][0]["version"], "1.9.0")
        shutil.rmtree(copy.folder)

    def edit(path, change):
        with open(path, encoding="utf-8") as file:
            text = change(file.read())
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def newest(*parts):
        return lambda copy: copy.path("1.10.0", *parts)

    sums, proof, manifest = newest("SHA256SUMS"), newest("SHA256SUMS.sigstore.json"), newest("release-manifest.json")
    lying("altered checksums", lambda copy: edit(sums(copy), lambda text: "0" * 64 + text[64:]), 3, "signature-mismatch")
    lying("checksums with one line more", lambda copy: edit(sums(copy), lambda text: text + f"{'0' * 64}  more\n"), 3, "signature-mismatch")
    lying("no signature", lambda copy: os.unlink(proof(copy)), 3, "unsigned-release", ["SHA256SUMS.sigstore.json"])
    lying("a signature that is none", lambda copy: edit(proof(copy), lambda text: "{}"), 3, "signature-bundle-invalid")
    lying("another release's signature", lambda copy: shutil.copy(copy.path("1.9.0", "SHA256SUMS.sigstore.json"), proof(copy)), 3,
          "signature-mismatch")
    lying("an altered manifest", lambda copy: edit(manifest(copy), lambda text: text + "\n"), 3, "digest-mismatch", ["release-manifest.json"])

    def flip(copy):
        with open(copy.bundle("1.10.0"), "r+b") as file:
            file.seek(150_000)
            byte = file.read(1)
            file.seek(150_000)
            file.write(bytes([byte[0] ^ 1]))

    lying("an altered bundle", flip, 3, "digest-mismatch")
    lying("a bundle of another size", lambda copy: open(copy.bundle("1.10.0"), "ab").write(b"x"), 3, "wrong-size")

    def rename(copy):
        edit(copy.path("releases.json"), lambda text: text.replace('"path": "1.10.0"', '"path": "1.9.0"'))

    lying("an old release under a new number", rename, 3, "wrong-version", ["1.9.0"])
    lying("a list that leads out", lambda copy: edit(copy.path("releases.json"), lambda text: text.replace('"path": "1.10.0"', '"path": "../x"')),
          3, "release-index-invalid")
    lying("a list that is none", lambda copy: edit(copy.path("releases.json"), lambda text: "<html>"), 3, "release-index-invalid")
    lying("an empty folder", lambda copy: [shutil.rmtree(copy.folder), os.mkdir(copy.folder)], 5, "release-incomplete")


def scripts(world, shelf):
    with section("releases/sign"):
        folder = world.directory("to-sign")
        tools = os.path.join(folder, "bin")
        os.mkdir(tools)
        for name in ("bash", "sed", "sha256sum", "grep", "find", "head", "mktemp", "cp", "chmod", "rm", "uname"):
            os.symlink(shutil.which(name), os.path.join(tools, name))
        words = [os.path.join(ROOT, "releases", "sign"), shelf.path("1.9.0")]
        ended = world.call(["/usr/bin/env", "-i", f"PATH={tools}", *words])
        for given, lacking in (("IDENTITY", "ISSUER"), ("ISSUER", "IDENTITY")):
            for script in (words, [os.path.join(ROOT, "releases", "build"), "--skip-build"]):
                ended_ = world.call(script, {f"RELEASE_SIGNING_{given}": "x"})
                equal(f"{os.path.basename(script[0])} wants RELEASE_SIGNING_{lacking} as well",
                      (ended_.returncode, f"RELEASE_SIGNING_{given} is given without RELEASE_SIGNING_{lacking}" in ended_.stderr), (2, True))
        equal("it says that cosign is missing", (ended.returncode, "cosign is missing; install it" in ended.stderr), (1, True)) or print(ended)
        fake = os.path.join(tools, "cosign")
        with open(fake, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\n[ "$2" = --help ] && exit 0\necho "$@" >"{folder}/said"\nwhile [ $# -gt 0 ]; do [ "$1" = --bundle ] && '
                       'echo signed >"$2"; shift; done\n')
        os.chmod(fake, 0o755)
        copy = shelf.copy(os.path.join(folder, "copy"))
        ended = world.call(["/usr/bin/env", "-i", f"PATH={tools}", words[0], copy.path("1.9.0")])
        equal("it signs the checksums", (ended.returncode, os.path.exists(copy.path("1.9.0", "SHA256SUMS.sigstore.json"))), (0, True)) or print(ended)
        with open(os.path.join(folder, "said"), encoding="utf-8") as file:
            matches("with cosign's own words", file.read(), r"^sign-blob --yes .*--bundle \S+/SHA256SUMS\.sigstore\.json \S+/SHA256SUMS$")
        for arch, script in ((ARCH, f'#!{shutil.which("bash")}\necho "$@" >"{folder}/verified"\n'), (OTHER_ARCH, "#!/nowhere\n")):
            with open(copy.path("1.9.0", f"llm-cli-gateway-1.9.0-linux-{arch}"), "w", encoding="utf-8") as file:
                file.write(script)
        ended = world.call(["/usr/bin/env", "-i", f"PATH={tools}", "RELEASE_SIGNING_IDENTITY=us", "RELEASE_SIGNING_ISSUER=https://issuer.example",
                            words[0], copy.path("1.9.0")])
        equal("it verifies what it signed", (ended.returncode, ended.stderr), (0, ""))
        with open(os.path.join(folder, "verified"), encoding="utf-8") as file:
            matches("by the manager for this machine", file.read(), r"^verify \S+/1\.9\.0/SHA256SUMS .*--identity-pattern us --issuer https://issuer\.example$")
        with open(copy.bundle("1.10.0"), "ab") as file:
            file.write(b"x")
        ended = world.call(["/usr/bin/env", "-i", f"PATH={tools}", words[0], copy.path("1.10.0")])
        equal("it signs nothing that does not fit its checksums", (ended.returncode, "is not what its SHA256SUMS says" in ended.stderr), (1, True))


def drive(world):
    product("llm-cli-gateway")
    shelf = Shelf(world.directory("shelf"))
    for version in ("1.9.0", "1.10.0", "2.0.0-rc.9", "2.0.0-rc.10"):
        shelf.add(version)
    shelf.list()
    schemas(world, shelf)
    unsigned(world, shelf)
    absurd(world, shelf, "1.9.0", "1.10.0")
    scripts(world, shelf)
    try:
        shelf.sign()
    except Skip as reason:
        skip("signed releases", reason)
        return
    signed(world, shelf)


if sys.argv[1:2] == ["inside"]:
    sys.exit(inside(*sys.argv[2:5]))
run(drive)
