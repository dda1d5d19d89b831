#!/usr/bin/python3
"""The release for arm64, built on x86-64 by the Swift of Debian unstable, with Debian 12's libraries, and run by an emulator: it is put
beside the release for x86-64, installed, started where the C library is too old, and driven as a gateway. Part of the deep tests.

It is no proof of what the official toolchain makes on an arm64 machine, nor about a kernel there.
"""
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

from harness import DEEP, ROOT, Skip, check, contains, equal, run, section, skip, tool
from installed import Home, digest_of, namespace, release

PLATFORM = "linux-arm64"
MACHINE = "aarch64-unknown-linux-gnu"
ALLOWED = {"libc.so.6", "libm.so.6", "ld-linux-aarch64.so.1"}
PROGRAMS = ("llm-gateway", "llm-cli-gateway")
# They start processes, sockets, timers and the database, and take a minute.
DRIVERS = ("protocol_faults.py", "fake_providers.py")
# It needs memory of its own, and can't run a program again whose file is gone.
OF_THE_EMULATOR = [f"not ok - {title}" for title in ("and is never held in memory", "without being held in memory",
                                                     "its runner goes by the program's name", "a request is answered")]
# What Debian's Swift refers to of a newer C library than that of Debian 12.
NEWER = """
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
size_t strlcpy(char *to, const char *from, size_t size) {
    size_t length = strlen(from), kept = size == 0 || length < size ? length : size - 1;
    if (size > 0) {
        memcpy(to, from, kept);
        to[kept] = 0;
    }
    return length;
}
size_t strlcat(char *to, const char *from, size_t size) {
    size_t there = strnlen(to, size);
    return there + (there == size ? strlen(from) : strlcpy(to + there, from, size - there));
}
long __isoc23_strtol(const char *text, char **end, int base) { return strtol(text, end, base); }
long long __isoc23_strtoll(const char *text, char **end, int base) { return strtoll(text, end, base); }
unsigned long __isoc23_strtoul(const char *text, char **end, int base) { return strtoul(text, end, base); }
unsigned long long __isoc23_strtoull(const char *text, char **end, int base) { return strtoull(text, end, base); }
int __isoc23_sscanf(const char *text, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int count = vsscanf(text, format, values);
    va_end(values);
    return count;
}
"""
LENIENT = {
    ".swiftLanguageMode(.v6)": '.swiftLanguageMode(.v5), .enableUpcomingFeature("BareSlashRegexLiterals"), .enableUpcomingFeature("InferSendableFromCaptures")',
    ".treatAllWarnings(as: .error)": ".treatAllWarnings(as: .warning)",
}
# The kernel gives arm64 programs to the emulator in this namespace only, and they find their libraries where they belong.
EMULATING = r"""
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
printf %s ':arm64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:'"$0:PF" >/proc/sys/fs/binfmt_misc/register
mount -t overlay -o "lowerdir=$1/lib:$1/usr/lib:/usr/lib" none /usr/lib
shift
exec "$@"
"""


class Workshop:
    """Debian's compiler in its own root file system, which sees the sources and the libraries for arm64."""

    def __init__(self, world):
        if not DEEP:
            raise Skip("it takes ten minutes: setup/test --deep")
        if os.uname().machine != "x86_64" or os.getuid() != 0:
            raise Skip("it needs root on x86-64")
        self.world = world
        self.system, self.old = tool("arm64"), os.path.join(os.path.dirname(tool("arm64")), "11")
        self.root, self.place = tool("swift-for-arm64"), os.path.join(ROOT, ".build", "arm64")
        self.emulator = shutil.which("qemu-aarch64")
        if not self.emulator:
            raise Skip("'qemu-aarch64' is not on PATH")
        self.emulated = ["unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-ec", EMULATING, self.emulator, self.system]
        ended = world.call([*self.emulated, os.path.join(self.system, "lib/ld-linux-aarch64.so.1"), "--version"])
        if ended.returncode != 0:
            raise Skip(f"the kernel does not emulate for a namespace alone ({ended.stderr.strip()}); Linux 6.7 does")

    def within(self, *words, timeout=60):
        """Runs a command in the compiler's root: sources in /mnt/sources, Swift for arm64 in /arm64, Debian 12 for arm64 in
        /mnt/system."""
        script = [f"mount -t proc none '{self.root}/proc'", f"mount -t tmpfs none '{self.root}/mnt'",
                  f"mkdir '{self.root}/mnt/sources' '{self.root}/mnt/system'", f"mount --bind '{self.place}' '{self.root}/mnt/sources'",
                  f"mount -t overlay -o 'lowerdir={self.place}/links:{self.system}' none '{self.root}/mnt/system'"]
        return self.world.call([*namespace("\n".join(script)), "/usr/sbin/chroot", self.root, "/usr/bin/env", "-i", "HOME=/root", "TMPDIR=/tmp",
                                "PATH=/usr/libexec/swift/bin:/usr/bin:/bin", "nice", *words], timeout=timeout)

    def prepare(self):
        """Copies the sources; what did not change is not compiled again. -> the compiler's version"""
        for part in ("sdks/arm64.artifactbundle/arm64", "links/usr/lib", "archives"):
            os.makedirs(os.path.join(self.place, part), exist_ok=True)
        for name in ("swift", "swift_static"):
            link = os.path.join(self.place, "links/usr/lib", name)
            if not os.path.islink(link):
                os.symlink(f"/arm64/usr/libexec/swift/lib/{name}", link)
        version = tuple(int(part) for part in re.search(r"Swift version (\d+)\.(\d+)", self.within("swiftc", "--version").stdout).groups())
        for name in ("Sources", "Tests"):
            shutil.rmtree(os.path.join(self.place, "package", name), ignore_errors=True)
            shutil.copytree(os.path.join(ROOT, name), os.path.join(self.place, "package", name))
        package = os.path.join(self.place, "package", "Package.swift")
        shutil.copy2(os.path.join(ROOT, "Package.swift"), package)
        if version < (6, 3):
            # What 6.3 proves to be free of races, 6.2 can't, so it is asked less.
            with open(package, encoding="utf-8") as file:
                text = file.read()
            for strict, lenient in LENIENT.items():
                check(f"the package says {strict}", strict in text)
                text = text.replace(strict, lenient)
            with open(package, "w", encoding="utf-8") as file:
                file.write(text)
        self.write("sdks/arm64.artifactbundle/info.json", {"schemaVersion": "1.0", "artifacts": {"arm64": {
            "type": "swiftSDK", "version": "1", "variants": [{"path": "arm64"}]}}})
        self.write("sdks/arm64.artifactbundle/arm64/swift-sdk.json", {"schemaVersion": "4.0", "targetTriples": {MACHINE: {
            "sdkRootPath": "/mnt/system", "swiftResourcesPath": "/arm64/usr/libexec/swift/lib/swift",
            "swiftStaticResourcesPath": "/arm64/usr/libexec/swift/lib/swift_static", "toolsetPaths": ["toolset.json"]}}})
        self.write("sdks/arm64.artifactbundle/arm64/toolset.json", {
            "schemaVersion": "1.0", "rootPath": "/usr/libexec/swift/bin", "swiftCompiler": {"extraCLIOptions": ["-use-ld=lld"]},
            "linker": {"path": "ld.lld"}})
        self.write("archives/newer.c", NEWER)
        return version

    def write(self, name, content):
        with open(os.path.join(self.place, name), "w", encoding="utf-8") as file:
            file.write(content if isinstance(content, str) else json.dumps(content))

    def build(self):
        ended = self.within("clang", "--target=aarch64-linux-gnu", "--sysroot=/mnt/system", "-O2", "-c", "/mnt/sources/archives/newer.c",
                            "-o", "/mnt/sources/archives/newer.o")
        check("the substitutes are compiled", ended.returncode == 0, "no error", ended.stderr, vital=True)
        for program in PROGRAMS:
            ended = self.within(
                "swift", "build", "--package-path", "/mnt/sources/package", "--swift-sdks-path", "/mnt/sources/sdks", "--swift-sdk", "arm64", "-c", "release",
                "--static-swift-stdlib", "-debug-info-format", "none", "--disable-local-rpath", "-Xlinker", "-L/arm64/archives", "-Xlinker",
                "/mnt/sources/archives/newer.o", "--product", program, timeout=3000)
            check(f"{program} is built", ended.returncode == 0, "no error", ended.stdout[-3000:] + ended.stderr, vital=True)
        return os.path.join(self.place, "package/.build", MACHINE, "release")


def bundle(world, workshop, built, version, folder):
    """Packs what releases/build would: the tree of this machine's release, with the programs and the library for arm64."""
    tree = world.directory("tree")
    shutil.copytree(os.path.join(ROOT, ".build/releases/tree"), tree, dirs_exist_ok=True)
    shutil.copyfile(os.path.join(workshop.system, "usr/lib/aarch64-linux-gnu/libmicrohttpd.so.12"), os.path.join(tree, "lib/libmicrohttpd.so.12"))
    for program in PROGRAMS:
        place = os.path.join(tree, "bin", program)
        ended = world.call([shutil.which("llvm-objcopy"), "--strip-all", os.path.join(built, program), place])
        check(f"{program} is stripped", ended.returncode == 0, "no error", ended.stderr, vital=True)
        needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", world.call(["readelf", "-d", place]).stdout))
        check(f"{program} needs only the C library", needed and needed <= ALLOWED, sorted(ALLOWED), sorted(needed))
        newest = max(int(minor) for minor in re.findall(r"GLIBC_2\.(\d+)", world.call(["readelf", "-W", "--version-info", place]).stdout))
        check("as old as promised", newest <= 34, "2.34", f"2.{newest}")
    compiler = shutil.which("clang")
    equal("optional-versions is built", world.call([compiler, os.path.join(ROOT, "releases/optional-versions.c"), "-o", f"{folder}.optional"]).returncode, 0)
    ended = world.call([f"{folder}.optional", *(os.path.join(tree, "bin", program) for program in PROGRAMS)])
    equal("and takes the programs", (ended.returncode, ended.stderr), (0, ""))
    with open(os.path.join(tree, "manifest.json"), encoding="utf-8") as file:
        lines = file.read().replace('"linux-amd64"', f'"{PLATFORM}"').splitlines()
    for number, line in enumerate(lines):
        found = re.match(r'    \{"path": "([^"]+)", .* "mode": "(\d+)"', line)
        if found:
            with open(os.path.join(tree, found.group(1)), "rb") as file:
                data = file.read()
            lines[number] = (f'    {{"path": "{found.group(1)}", "sha256": "{hashlib.sha256(data).hexdigest()}", "mode": "{found.group(2)}", '
                             f'"size": {len(data)}}}' + ("," if line.endswith(",") else ""))
    with open(os.path.join(tree, "manifest.json"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    archive = os.path.join(folder, f"llm-cli-gateway-bundle-{version}-{PLATFORM}.tar.gz")
    names = [line.split('"')[3] for line in lines if line.startswith('    {"path"')]
    subprocess.run(["tar", "--create", "--gzip", "--no-recursion", "--owner=0", "--group=0", "-C", tree, f"--file={archive}", "manifest.json", *names], check=True)
    shutil.copyfile(os.path.join(tree, "bin/llm-cli-gateway"), os.path.join(folder, f"llm-cli-gateway-{version}-{PLATFORM}"))
    return tree, archive


def installed(world, workshop, manager, both, archive, version, compiler):
    home = Home(world, "home", manager)
    say = lambda *words: home.json(*words, prefix=workshop.emulated)
    equal("it says its platform", say("version").json.get("platform"), PLATFORM)
    say("setup")
    say("install-bundle", "--from", both, "--sha256", digest_of(archive))
    equal("it is installed from a release for two platforms", json.loads(home.read("current/manifest.json"))["platform"], PLATFORM)
    home.program = home.link
    equal("and starts through its link", say("version").json.get("version"), version)
    equal("with nothing to repair", home.run("repair", "--dry-run", prefix=workshop.emulated).code, 0)
    equal("it is not running", say("status").status.get("running"), False)
    if compiler >= (6, 3):
        equal("its doctor knows the processor", say("doctor").json["system"]["arch"], "arm64")
    else:
        skip("doctor", "Swift 6.2 ends tasks in an order that its own runtime refuses on arm64; 6.3 does not")


def drive(world):
    workshop = Workshop(world)
    own = release()
    folder, tree = world.directory("release"), None
    with section("building"):
        os.makedirs(workshop.place, exist_ok=True)
        compiler = workshop.prepare()
        print(f"    Swift {compiler[0]}.{compiler[1]}")
        tree, archive = bundle(world, workshop, workshop.build(), own.version, folder)
        both = os.path.join(world.root, "both")
        ended = world.call([os.path.join(ROOT, "releases/compose"), both, os.path.dirname(own.path), folder])
        equal("it is put beside the other platform's", (ended.returncode, ended.stderr), (0, ""), vital=True)
    if not tree:
        return
    with section("installing"):
        installed(world, workshop, os.path.join(tree, "bin/llm-cli-gateway"), both, archive, own.version, compiler)
    with section("too old a C library"):
        for program in PROGRAMS:
            ended = world.call([workshop.emulator, "-L", workshop.old, os.path.join(tree, "bin", program), "version"])
            contains(f"{program} says what it needs", ended.stderr, "error: this system has glibc 2.31, and llm-cli-gateway needs 2.34 or newer\nhelp: ")
            equal("and ends", (ended.returncode, ended.stdout), (1, ""))
    for driver in DRIVERS:
        with section(driver):
            ended = world.call([*workshop.emulated, sys.executable, os.path.join(ROOT, "Tests/EndToEnd", driver)],
                               {"LLM_GATEWAY_E2E_BIN": os.path.join(tree, "bin"), "PATH": os.environ["PATH"]}, timeout=900)
            print("\n".join(f"    {line}" for line in ended.stdout.splitlines() if not line.startswith("ok - ")))
            equal("holds on arm64", [line for line in ended.stdout.splitlines() if line.startswith("not ok") and line not in OF_THE_EMULATOR], [])
            check("and runs to its end", ended.returncode in (0, 1) and "# " in ended.stdout, "a tally", ended.stderr)


run(drive)
