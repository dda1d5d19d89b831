#!/usr/bin/python3
"""The release on a Debian 12 that has nothing but its base packages (debootstrap --variant=minbase): all but a download works,
and the download names the package that is missing; with libcurl4 and ca-certificates it works as well.
"""
import functools
import http.server
import json
import os
import ssl
import subprocess
import threading

from harness import Skip, check, contains, equal, matches, product, run, section, tool
from installed import Client, Ended, Home, namespace, release


class Root(Home):
    """A throw-away copy of a root file system, in a mount namespace that lasts as long as the driver."""

    def __init__(self, world, name, base, bundle):
        super().__init__(world, name)
        top = self.path
        self.path, self.state = "/root", "/root/.llm-cli-gateway"
        self.link, self.program = "/root/.local/bin/llm-cli-gateway", "/given/llm-cli-gateway"
        self.bundle, self.root = bundle, f"{top}/root"
        # The upper layer is a directory of the world: what is copied up goes with it.
        script = (f"mount -t tmpfs -o mode=755 none '{top}'\nmkdir '{top}/upper' '{top}/work' '{top}/root'\n"
                  f"mount -t overlay overlay -o 'lowerdir={base},upperdir={top}/upper,workdir={top}/work' '{top}/root'\n"
                  f"mount -t proc proc '{top}/root/proc'\nmount --bind /dev '{top}/root/dev'\nmkdir '{top}/root/given'\n"
                  f"cp '{bundle.path}' '{product('llm-cli-gateway')}' '{top}/root/given'")
        holder = world.start([*namespace(script), "/bin/sh", "-c", "echo ready; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
        if holder.stdout.readline() != "ready\n":
            raise Skip(f"no root file system can be put together here: {holder.stderr.read().strip()}")
        world.background.append(holder)
        self.inside = ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "/usr/sbin/chroot", self.root, "/usr/bin/env", "-i", "HOME=/root",
                       "PATH=/root/.local/bin:/usr/bin:/bin:/usr/sbin:/sbin", f"LLM_GATEWAY_TEST_ID={world.root}"]

    def shell(self, script):
        return self.world.call([*self.inside, "/bin/sh", "-c", script])

    def run(self, *words, text=None, environment=None, prefix=(), timeout=180):
        variables = [f"{name}={value}" for name, value in (environment or {}).items()]
        return Ended(self.world.call([*self.inside, *variables, *prefix, self.program, *words], None, text, timeout))

    def client(self):
        return Client(self.shell(f"cat {self.state}/auth-token").stdout.strip(), self.port)

    @property
    def flags(self):
        return ["--url", f"file:///given/{os.path.basename(self.bundle.path)}", "--sha256", self.bundle.digest]


def base(home, server):
    with section("a minimal Debian 12"):
        packages = home.shell("dpkg-query -W -f '${Package} '").stdout.split()
        check("is there", len(packages) > 50, "its packages", packages, vital=True)
        print(f"    {len(packages)} packages", flush=True)
        equal("has neither curl nor certificates nor systemd",
              [name for name in packages if name.startswith(("libcurl", "ca-certificates", "systemd", "libmicrohttpd"))], [])
        missing = home.shell(f"ldd {home.program}").stdout
        check("the manager finds every library", "not found" not in missing and missing, "no 'not found'", missing)
        matches("version", home.run("version").out, r"\d+\.\d+\.\d+")
        contains("help", home.run("help").out, "install-bundle")
        home.json("setup", "--port", str(home.port))
        home.refused("install-bundle", "--url", f"{server}/{os.path.basename(home.bundle.path)}", "--sha256", home.bundle.digest,
                     code=5, error="libcurl-missing", says=["libcurl4", "apt install libcurl4"])
        installed = home.json("install-bundle", *home.flags).json
        equal("the bundle is installed from a file", installed["bundle_version"], home.bundle.version, vital=True)
        home.program = home.link
        missing = home.shell(f"ldd {home.state}/current/bin/llm-gateway; LD_LIBRARY_PATH={home.state}/current/lib "
                             f"ldd {home.state}/current/lib/libmicrohttpd.so.12").stdout
        check("the gateway and its library find every library", "not found" not in missing and missing, "no 'not found'", missing)
        hello = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "drivers", "version": "1"}}})
        answer = home.run("stdio", text=hello + "\n")
        equal("the gateway answers on stdio", (answer.code, answer.json and answer.json["result"]["serverInfo"]["name"]),
              (0, "llm-cli-gateway"))
        started = home.json("start").status
        equal("it serves over HTTP", (started["running"], started["healthy"], started["supervisor"]), (True, True, "detached"), vital=True)
        client = home.client()
        client.initialize()
        equal("a tool answers", client.tool("session_list").get("isError", False), False)
        findings = home.json("doctor").json["findings"]
        print("".join(f"    {found['severity']}: {found['title']}\n" for found in findings), end="", flush=True)
        equal("the doctor finds no error", [found["code"] for found in findings if found["severity"] == "error"], [])
        contains("logs", home.run("logs").out, "listening")
        home.json("uninstall", "--yes", "--purge")
        equal("nothing is left", home.shell("ls -A /root").stdout.split(), [".bashrc", ".profile"])


def downloads(home, plain, secure, authority):
    name = os.path.basename(home.bundle.path)
    pin = ["--sha256", home.bundle.digest]
    with section("with libcurl4 and ca-certificates"):
        told = home.json("install-bundle", "--url", f"{plain}/{name}", *pin).json
        equal("a download over http is installed", (told["changed"], told["sha256"]), (True, home.bundle.digest))
        home.json("uninstall", "--yes", "--purge")
        ended = home.refused("install-bundle", "--url", f"{secure}/{name}", *pin, code=5, error="certificate-refused")
        matches("a certificate that nobody vouches for is refused", ended.error.get("message"), "(?i)certificate")
        home.shell(f"cat > /given/own.crt <<'END'\n{authority}\nEND")
        told = home.json("install-bundle", "--url", f"{secure}/{name}", *pin, environment={"SSL_CERT_FILE": "/given/own.crt"}).json
        equal("with its authority in SSL_CERT_FILE, https works", told.get("changed"), True)
        home.json("uninstall", "--yes", "--purge")
        home.refused("install-bundle", "--url", f"{secure}/down/{name}", *pin, environment={"SSL_CERT_FILE": "/given/own.crt"}, code=3,
                     error="insecure-url", says=["redirects from https to 'http://localhost"])
        home.shell("cp /given/own.crt /usr/local/share/ca-certificates/tests.crt && update-ca-certificates")
        told = home.json("install-bundle", "--url", f"{secure}/{name}", *pin).json
        equal("with its authority among Debian's, https works", told.get("changed"), True)
        home.json("uninstall", "--yes", "--purge")


def servers(world, folder):
    """The bundle's folder over http and https. -> (url, url, certificate)"""
    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if not self.path.startswith("/down/"):
                return super().do_GET()
            self.send_response(302)
            self.send_header("Location", urls[0] + self.path[5:])
            self.end_headers()

        def log_message(self, *_):
            pass

    urls = []
    certificate, key = os.path.join(world.root, "certificate.pem"), os.path.join(world.root, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate], check=True, capture_output=True)
    for scheme in ("http", "https"):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
        if scheme == "https":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        world.undo.append(server.shutdown)
        urls.append(f"{scheme}://localhost:{server.server_address[1]}")
    with open(certificate) as file:
        return *urls, file.read()


def drive(world):
    roots = os.path.dirname(tool("debian"))
    bundle = release()
    plain, secure, authority = servers(world, os.path.dirname(bundle.path))
    base(Root(world, "base", os.path.join(roots, "base"), bundle), plain)
    downloads(Root(world, "downloads", os.path.join(roots, "downloads"), bundle), plain, secure, authority)


run(drive)
