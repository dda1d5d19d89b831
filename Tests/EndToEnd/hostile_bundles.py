#!/usr/bin/python3
"""What `install-bundle` meets in the wild: other digests, cut and hostile archives, wrong platforms, full and read-only disks,
missing libraries, addresses that must not be used. Each is refused with its status and leaves nothing behind.
"""
import functools
import gzip
import http.server
import io
import os
import shutil
import subprocess
import tarfile
import threading
import time
import zipfile

from harness import Skip, check, equal, product, run, section, skip
from installed import Bundle, Home, manifest_of, members, namespace, namespaces_work, packed, release


def entry(name, kind=tarfile.REGTYPE, target="", mode=0o644):
    """A tar entry for `packed`."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, target, mode
    return made


def crowd(path, count):
    """An archive of so many empty files, written without a tar program: it would take minutes."""
    header = bytearray(tarfile.TarInfo("files/0000000").tobuf(tarfile.USTAR_FORMAT))
    base = sum(header) - sum(header[148:156]) + 8 * 32 - sum(b"0000000")
    with gzip.open(path, "wb", compresslevel=1) as archive:
        chunk = []
        for number in range(count):
            digits = b"%07d" % number
            header[6:13] = digits
            header[148:156] = b"%06o\0 " % (base + sum(digits))
            chunk.append(bytes(header))
            if len(chunk) == 4096:
                archive.write(b"".join(chunk))
                chunk.clear()
        archive.write(b"".join(chunk) + bytes(1024))
    return Bundle(path)


def altered(bundle, path, change):
    """A copy of a bundle whose bytes were changed."""
    with open(bundle.path, "rb") as source, open(path, "wb") as copy:
        copy.write(change(source.read()))
    return Bundle(path)


def untouched(home, title):
    """Nothing came of it: no version, no staging, no download, nothing outside of the home."""
    left = [path for path in home.tree() if path.startswith((".llm-cli-gateway/versions/", ".llm-cli-gateway/staging/",
                                                             ".llm-cli-gateway/cache/", ".llm-cli-gateway/current", ".local"))]
    equal(f"{title}: nothing is left of it", (left, os.path.exists(os.path.join(home.world.root, "evil"))), ([], False))


def archives(home, bundle, world):
    def place(name):
        return os.path.join(world.root, name)

    files, manifest = members(bundle)
    fitting = manifest_of(files, manifest)
    with section("digests"):
        wrong = "0" * 64
        home.refused("install-bundle", *bundle.flags[:3], wrong, code=3, error="digest-mismatch", says=[wrong, bundle.digest])
        home.refused("install-bundle", *bundle.flags[:3], "abc", code=2, error="digest-malformed", says=["64 hexadecimal digits"])
        home.refused("install-bundle", *bundle.flags[:2], code=2, error="missing-value", says=["--sha256"])
        home.refused("install-bundle", code=2, error="no-release-source", says=["RVWR_GATEWAY_BUNDLE_URL"])
        home.refused("install-bundle", code=2, error="missing-value", says=["RVWR_GATEWAY_BUNDLE_SHA256"],
                     environment={"RVWR_GATEWAY_BUNDLE_URL": f"file://{bundle.path}"})
        untouched(home, "digests")

    with section("damaged archives"):
        cases = {
            "cut off": (altered(bundle, place("cut.tar.gz"), lambda data: data[:len(data) // 2]), "archive-damaged"),
            "a flipped bit": (altered(bundle, place("flip.tar.gz"), lambda data: data[:900_000] + bytes([data[900_000] ^ 1])
                                      + data[900_001:]), None),
            "no archive": (altered(bundle, place("page.tar.gz"), lambda data: b"<html>moved</html>"), "archive-damaged"),
            "empty": (altered(bundle, place("empty.tar.gz"), lambda data: b""), "archive-damaged"),
        }
        for name, (bad, code) in cases.items():
            ended = home.run("install-bundle", *bad.flags, "--json")
            equal(f"{name} is refused", (ended.code, ended.error.get("code") if code else None), (3, code)) or print(f"    {ended!r}")
            print(f"    {ended.error.get('message')}", flush=True)
        untouched(home, "damaged")

    with section("hostile archives"):
        outside = os.path.join(world.root, "evil")
        bomb = entry("share/zeros")
        cases = {
            "an absolute path": ([(entry(outside), b"evil")], "unsafe-archive", "absolute path"),
            "'..' in a path": ([(entry("bin/../../../../evil"), b"evil")], "unsafe-archive", "'..'"),
            "a link out": ([(entry("share/out", tarfile.SYMTYPE, "../../../.."), b"")], "unsafe-archive", "outside the bundle"),
            "a link and a file through it": ([(entry("door", tarfile.SYMTYPE, "/var/tmp"), b""), (entry("door/evil"), b"evil")],
                                             "unsafe-archive", "outside the bundle"),
            "a hard link out": ([(entry("share/passwd", tarfile.LNKTYPE, "/etc/passwd"), b"")], "unsafe-archive", "hard link"),
            "a device": ([(entry("share/null", tarfile.CHRTYPE), b"")], "unsafe-archive", "device"),
            "a pipe": ([(entry("share/pipe", tarfile.FIFOTYPE), b"")], "unsafe-archive", "share/pipe"),
            "a setuid program": ([(entry("bin/root", mode=0o4755), b"#!/bin/sh\n")], "unsafe-archive", "setuid"),
            "a file twice": ([(entry("bin/llm-gateway", mode=0o755), b"#!/bin/sh\n")], "unsafe-archive", "occurs twice"),
            "a file that no manifest names": ([(entry("bin/extra", mode=0o755), b"#!/bin/sh\n")], "manifest-mismatch", "bin/extra"),
            "a bomb": ([(bomb, bytes(700 << 20))], "archive-too-large", "decompression bomb"),
        }
        small = {name: (b"#!/bin/sh\n", 0o755) for name in ("bin/llm-gateway", "bin/llm-cli-gateway")}
        for name, (extra, code, says) in cases.items():
            bad = packed(place("hostile.tar.gz"), small, manifest_of(small, manifest), extra, level=9 if extra[0][0] is bomb else 1)
            began = time.monotonic()
            home.refused("install-bundle", *bad.flags, code=3, error=code, says=[says])
            took = time.monotonic() - began
            check(f"{name}: soon", took < 10, "< 10 s", f"{took:.1f} s")
        million = crowd(place("million.tar.gz"), 1_000_000)
        began = time.monotonic()
        home.refused("install-bundle", *million.flags, code=3, error="archive-too-large", says=["20000 entries"])
        print(f"    a million entries took {time.monotonic() - began:.1f} s", flush=True)
        untouched(home, "hostile")
        os.unlink(million.path)

    with section("manifests"):
        other = "linux-arm64" if manifest["platform"] == "linux-amd64" else "linux-amd64"
        cases = {
            "another platform": (manifest_of(files, manifest, platform=other), files, "wrong-platform", other),
            "another version than the programs say": (manifest_of(files, manifest, version="7.7.7"), files, "smoke-test-failed", "7.7.7"),
            "another form": (manifest_of(files, manifest, schema_version="bundle-manifest.v9"), files, "manifest-invalid", "v9"),
            "no JSON": (b"{", files, "manifest-invalid", "manifest.json"),
            "an altered file": (fitting, {**files, "manifest.txt": (b"x", 0o644)}, "manifest-mismatch", "manifest.txt"),
        }
        for name, (text, content, code, says) in cases.items():
            path = place("manifest.tar.gz")
            if text == b"{":
                with tarfile.open(path, "w:gz", compresslevel=1) as archive:
                    made = entry("manifest.json")
                    made.size = 1
                    archive.addfile(made, io.BytesIO(text))
                bad = Bundle(path)
            else:
                bad = packed(path, content, text)
            home.refused("install-bundle", *bad.flags, code=3, error=code, says=[says])
        untouched(home, "manifests")

    with section("other forms of a good bundle"):
        path = place("good.zip")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, (data, mode) in [("manifest.json", (fitting, 0o644)), *files.items()]:
                made = zipfile.ZipInfo(name)
                made.external_attr, made.compress_type = (0o100000 | mode) << 16, zipfile.ZIP_DEFLATED
                archive.writestr(made, data)
        good = [Bundle(path)]
        plain = place("good.tar")
        with gzip.open(bundle.path) as source, open(plain, "wb") as copy:
            copy.write(source.read())
        subprocess.run(["zstd", "-q", "-1", plain, "-o", place("good.tar.zst")], check=True)
        good.append(Bundle(place("good.tar.zst")))
        for made in good:
            told = home.json("install-bundle", *made.flags, "--force").json
            equal(f"{os.path.basename(made.path)} is installed", told["bundle_version"], bundle.version)
        home.json("uninstall", "--yes")


class Server:
    """A loopback web server with the files of a folder; it counts what it was asked for."""

    def __init__(self, world, folder):
        seen = self.seen = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self):
                seen.append(self.path)
                if self.path.startswith("/away"):
                    self.send_response(302)
                    self.send_header("Location", "http://192.0.2.1/bundle.tar.gz" if "far" in self.path else "/bundle.tar.gz")
                    self.send_header("Content-Length", "0")
                    return self.end_headers()
                super().do_GET()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        world.undo.append(self.server.shutdown)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


def addresses(home, bundle, world):
    folder = world.directory("published")
    shutil.copy(bundle.path, os.path.join(folder, "bundle.tar.gz"))
    server = Server(world, folder)
    pin = ["--sha256", bundle.digest]
    with section("addresses"):
        home.refused("install-bundle", "--url", "http://192.0.2.1/bundle.tar.gz", code=3, error="insecure-url", says=["https", "--sha256"])
        for url, says in {"ftp://example.org/x": "ftp", "https://": "host", "bundle.tar.gz": "absolute URL", "https://a b/": "space",
                          "http://127.0.0.1:99999/x": "99999", "file://elsewhere/x": "elsewhere", "https://[::1/x": "'['"}.items():
            home.refused("install-bundle", "--url", url, *pin, code=2, error="malformed-url", says=[says])
        home.refused("install-bundle", "--url", "https://user:s3cret@/x?token=s3cret", *pin, code=2, error="malformed-url")
        ended = home.run("install-bundle", "--url", "https://user:s3cret@/x?token=s3cret", *pin)
        equal("a secret in a URL is not repeated", "s3cret" in ended.out + ended.err, False)
        home.refused("install-bundle", "--url", f"file://{world.root}/absent.tar.gz", *pin, code=1, error="file-not-found",
                     says=["absent.tar.gz"])
        home.refused("install-bundle", "--url", f"{server.url}/absent.tar.gz", *pin, code=5, error="http-status", says=["404"])
        home.refused("install-bundle", "--url", "http://127.0.0.1:1/bundle.tar.gz", *pin, code=5, error="network",
                     says=["127.0.0.1:1"])
        untouched(home, "addresses")
        told = home.json("install-bundle", "--url", f"{server.url}/away", *pin).json
        equal("a download over http with its digest is installed, after a redirect", told["sha256"], bundle.digest)
        equal("it was asked for once each", server.seen[-2:], ["/away", "/bundle.tar.gz"])
        home.json("uninstall", "--yes")


def machines(home, bundle, world):
    try:
        namespaces_work(world)
    except Skip as reason:

        return skip("full and read-only disks, a missing libcurl", str(reason))
    home.json("uninstall", "--yes", "--purge")
    with section("a full disk"):
        for size in ("4m", "30m"):
            prefix = namespace(f"mount -t tmpfs -o size={size},mode=700 none '{home.path}'")
            ended = home.refused("install-bundle", *bundle.flags, code=1, error="disk-full", says=["space"], prefix=prefix)
            del ended
        script = (f"mount -t tmpfs -o size=30m,mode=700 none '{home.path}'\n"
                  f"'{home.program}' install-bundle --url 'file://{bundle.path}' --sha256 {bundle.digest} >/dev/null 2>&1 || true\n"
                  f"find '{home.path}' -type f -o -type l")
        left = world.call([*namespace(script), "true"], home.environment).stdout.split()
        print(f"    left on the full disk: {[os.path.relpath(path, home.state) for path in left]}", flush=True)
        equal("nothing of the bundle is left on it", [path for path in left if "/versions/" in path or "/staging/" in path
                                                      or "/cache/" in path], [])
    with section("a home that cannot be written"):
        prefix = namespace(f"mount -t tmpfs -o ro none '{home.path}'")
        for words in (["setup"], ["install-bundle", *bundle.flags]):
            home.refused(*words, code=1, error="read-only-file-system", says=[home.path, "LLM_GATEWAY_HOME"], prefix=prefix)
        # Nothing is written where there is nothing to start or to point a client at.
        home.refused("start", "--detached", code=1, error="gateway-missing", prefix=prefix)
        home.json("print-client-config", prefix=prefix)
        ended = home.run("status", "--json", prefix=prefix)
        equal("a question needs no writing", (ended.code, ended.status.get("running")), (0, False))
        if os.getuid() == 0:
            program = os.path.join(world.directory("for-others"), "llm-cli-gateway")
            os.chmod(world.root, 0o711)
            os.chmod(os.path.dirname(program), 0o755)
            subprocess.run(["cp", product("llm-cli-gateway"), program], check=True)
            own, home.program = home.program, program
            nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
            home.refused("setup", code=1, error="permission-denied", says=["/.llm-cli-gateway"], prefix=nobody,
                         environment={"HOME": "/"})
            home.program = own
    with section("a machine without libcurl"):
        hidden = "".join(f"mount --bind /dev/null '{path}'\n" for path in libraries("libcurl.so.4"))
        if not hidden:
            raise Skip("this machine has no libcurl to hide")
        server = Server(world, os.path.dirname(bundle.path))
        prefix = namespace(hidden)
        home.refused("install-bundle", "--url", f"{server.url}/{os.path.basename(bundle.path)}", "--sha256", bundle.digest, code=5,
                     error="libcurl-missing", says=["libcurl4", "apt"], prefix=prefix)
        equal("nobody was asked for anything", server.seen, [])
        ended = home.run("install-bundle", *bundle.flags, "--json", prefix=prefix)
        equal("from a file it installs all the same", ended.code, 0)


def libraries(name):
    """The files behind a library's name on this machine."""
    folders = [f"/usr/lib/{folder}" for folder in os.listdir("/usr/lib") if folder.endswith("-linux-gnu")]
    return sorted({os.path.realpath(os.path.join(folder, name)) for folder in folders if os.path.exists(os.path.join(folder, name))})


def drive(world):
    bundle = release()
    home = Home(world, "target")
    archives(home, bundle, world)
    addresses(home, bundle, world)
    machines(home, bundle, world)


run(drive)
