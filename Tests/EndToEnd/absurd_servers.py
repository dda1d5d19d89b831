"""Servers that say what cannot be: sizes that no file can have, places that are none. Part of releases.py.

The built program must end with an error of its own each time, without a crash, and what was installed stays in use.
"""
import collections
import concurrent.futures
import contextlib
import json
import os
import shutil
import socket
import threading

from harness import equal, section
from installed import Home, digest_of


class Liar:
    """A server whose heads are written by hand: each connection gets the next answer, the last one again and again."""

    def __init__(self, answers):
        self.answers, self.asked = list(answers), 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self.socket.accept()
                with peer, contextlib.suppress(OSError):
                    request = b""
                    while b"\r\n\r\n" not in request and (more := peer.recv(4096)):
                        request += more
                    self.asked += 1
                    peer.sendall(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
                    peer.shutdown(socket.SHUT_WR)
                    while peer.recv(4096):
                        pass

    def close(self):
        # Ends the thread that waits for a connection.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def answer(status, *fields, body=b""):
    return "\r\n".join([f"HTTP/1.1 {status} X", *fields, "Connection: close", "", ""]).encode() + body


LENGTHS = ["-1", "-9223372036854775808", "9223372036854775807", "9223372036854775808", "18446744073709551616", "1152921504606846977",
           "9" * 40, "1e9", "0x10", "", " ", "5, 7", "+5"]
RANGES = ["bytes -5--1/-1", "bytes 9223372036854775807-0/9223372036854775807", "bytes 0-9223372036854775807/18446744073709551616",
          "bytes 9223372036854775808-9223372036854775809/9223372036854775810", "bytes 5-9/3", "bytes 9-5/10", "bytes */*", "bytes", "",
          "bytes 0-9, 5-20/30", "bytes 50000-99999/200000", "bytes 0-9/9223372036854775807", "bytes 100001-200000/200001",
          "bytes 1152921504606846976-1152921504606846977/1152921504606846978"]
PLACES = ["", "http://", "//", "http://[::1", "file:///etc/passwd", "http://127.0.0.1:99999/x", "javascript:x"]


def lies(shelf, version):
    """(title, answers, flag): what servers say that cannot be, of a bundle, of the rest of one, and of a source's small files."""
    def content(*parts):
        with open(shelf.path(*parts), "rb") as file:
            return file.read()
    bundle, manifest = content(version, shelf.name(version)), content(version, "release-manifest.json")
    listed = json.dumps({"schema_version": "release-index.v1", "releases": [{"version": version, "channel": "stable"}]}).encode()
    # Told the same twice, it gets an end; otherwise it would be patient for a minute.
    gone = answer(404)
    begun = answer(200, f"Content-Length: {len(bundle)}", 'ETag: "v1"', body=bundle[:100_000])
    for length in LENGTHS:
        lie = f"Content-Length: {length}"
        yield f"a bundle with '{lie}'", [answer(200, lie, body=bundle[:5000])], "--url"
        yield f"the rest with '{lie}'", [begun, *[answer(206, f"Content-Range: bytes 100000-{len(bundle) - 1}/{len(bundle)}", lie, body=b"x")] * 2,
                                         gone], "--url"
        yield f"a list with '{lie}'", [answer(200, lie, body=b"{" + listed)], "--source"
        yield f"a manifest with '{lie}'", [answer(200, body=listed), answer(200, lie, body=b"{" + manifest)], "--source"
    for said in RANGES:
        lie = f"Content-Range: {said}"
        yield f"a beginning with '{lie}'", [answer(206, lie, body=bundle[:5000])], "--url"
        yield f"the rest with '{lie}'", [begun, *[answer(206, lie, 'ETag: "v1"', body=b"x" * 5000)] * 2, gone], "--url"
        yield f"no such rest with '{lie}'", [begun, *[answer(416, lie)] * 2, gone], "--url"
    for fields in (["Content-Length: 5", "Content-Length: 7"], ["Content-Length: 5", "Transfer-Encoding: chunked"], ["Transfer-Encoding: chunked"]):
        yield f"a bundle with {' and '.join(fields)}", [answer(200, *fields, body=b"ffffffffffffffff\r\n" + bundle[:5000])], "--url"
    for place in PLACES:
        yield f"a bundle moved to '{place}'", [answer(302, f"Location: {place}")], "--url"
        yield f"a list moved to '{place}'", [answer(302, f"Location: {place}")], "--source"
    yield "a bundle moved to nowhere", [answer(302)], "--url"
    yield "a list moved to nowhere", [answer(302)], "--source"


def absurd(world, shelf, old, new):
    """Asks such servers for a new version where an old one is installed, which must stay."""
    home = Home(world, "absurd")
    home.json("install-bundle", "--source", shelf.folder, "--version", old, "--sha256", digest_of(shelf.bundle(old)))
    pinned = ["--sha256", digest_of(shelf.bundle(new))]

    def tell(numbered):
        number, (title, answers, flag) = numbered
        alone = Home(world, f"absurd-{number}")
        shutil.copytree(home.path, alone.path, symlinks=True, dirs_exist_ok=True)
        os.remove(alone.file("current"))
        os.symlink(f"versions/{old}", alone.file("current"))
        liar = Liar(answers)
        try:
            ended = alone.run("install-bundle", flag, liar.base + ("/b.tar.gz" if flag == "--url" else ""), *pinned, "--json")
        finally:
            liar.close()
        using = json.loads(alone.read("receipt.json"))["installed"][0]["version"]
        shutil.rmtree(alone.path)
        return title, ended, liar.asked, using

    with section("sizes that no file can have, places that are none"):
        # Each waits between its attempts, so that many are told at once.
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            told = list(pool.map(tell, enumerate(lies(shelf, new))))
        wrong = [f"{title}: {ended!r}, asked {asked} times, {using}" for title, ended, asked, using in told
                 if ended.code not in (2, 3, 5) or not ended.error.get("message") or not asked or using != old]
        equal(f"{len(told)} such servers: each time an error of its own and no crash, and {old} stays", wrong, [])
        print(f"    {dict(collections.Counter(ended.error.get('code') for _, ended, _, _ in told))}", flush=True)
