#!/usr/bin/python3
"""The parts that are written for a processor, on arm64: our C code is compiled and linked for it against Debian's libraries, started at
its entry point, and started where the C library is too old. The processor is emulated, so this is no proof about a kernel.
"""
import glob
import os
import shutil

from harness import ROOT, Skip, check, contains, equal, run, section, tool

TARGET = "--target=aarch64-linux-gnu"
# Swift's runtime defines what it refers to.
OF_SWIFT = "executor.c"
LINES = 26
LIBRARY = """
#include <stdio.h>
int library_value(void) { return 42; }
__attribute__((destructor)) static void end(void) { puts("the loader's end function runs"); fflush(stdout); }
"""


class Systems:
    """Debian's arm64 libraries, and what runs programs that use them."""

    def __init__(self, world):
        if os.uname().machine != "x86_64":
            raise Skip("this machine is not x86-64: what it builds and tests is its own processor")
        self.world, self.root = world, os.path.dirname(tool("arm64"))
        self.compiler, self.emulator = (self.found(name) for name in ("clang", "qemu-aarch64"))
        self.found("ld.lld")

    @staticmethod
    def found(name):
        path = shutil.which(name)
        if not path:
            raise Skip(f"'{name}' is not on PATH")
        return path

    def compiled(self, source, output, *flags):
        system = os.path.join(self.root, "12")
        ended = self.world.call([self.compiler, TARGET, f"--sysroot={system}", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror",
                                 *(f"-I{folder}" for folder in glob.glob(os.path.join(ROOT, "Sources/C/*/include"))), *flags, *source, "-o", output])
        check(f"{os.path.basename(output)} is made", ended.returncode == 0, "no word of the compiler", ended.stderr, vital=True)
        return output

    def call(self, version, *words):
        """Runs a program with the libraries of Debian 11 or 12."""
        return self.world.call([self.emulator, "-L", os.path.join(self.root, version), *words], {"GIVEN": "value", "PATH": "/usr/bin:/bin"})


def drive(world):
    systems = Systems(world)
    folder = world.directory("arm64")
    place = lambda name: os.path.join(folder, name)
    program = place("program")
    with section("compiling"):
        sources = sorted(glob.glob(os.path.join(ROOT, "Sources/C/*/*.c")))
        check("there is C code", len(sources) >= 7, "7 files or more", sources)
        objects = [systems.compiled([source], place(os.path.basename(source)[:-2] + ".o"), "-c")
                   for source in sources]
        objects.remove(place(OF_SWIFT[:-2] + ".o"))
        with open(place("library.c"), "w", encoding="utf-8") as file:
            file.write(LIBRARY)
        library = systems.compiled([place("library.c")], place("liblibrary.so"), "-shared", "-fPIC", "-fuse-ld=lld")
        systems.compiled([os.path.join(ROOT, "Tests/EndToEnd/arm64_program.c"), *objects, library], program,
                         "-fuse-ld=lld", "-no-pie", "-Wl,-e,shim_entry", "-Wl,-z,lazy", "-Wl,-rpath,$ORIGIN", "-lm")
        tables = world.call(["readelf", "-W", "-r", program]).stdout.splitlines()
        check("a table refers to newer functions at once", any("ABS64" in line and "fstat@GLIBC_2.33" in line for line in tables), "fstat@GLIBC_2.33", tables)
    with section("starting"):
        ended = systems.call("12", program, "one", "two words")
        print(ended.stdout, end="")
        equal("it ends as it should", (ended.returncode, ended.stderr), (5, ""))
        equal("everything was looked at", len(ended.stdout.splitlines()), LINES)
        equal("last of all the loader ends the libraries", ended.stdout.splitlines()[-2:], ["the end functions run", "the loader's end function runs"])
    with section("too old a C library"):
        equal("optional-versions is built", world.call([systems.compiler, "-O1", os.path.join(ROOT, "releases/optional-versions.c"), "-o", place("optional")]).returncode, 0)
        ended = systems.call("11", program, "one", "two words")
        contains("without it the loader refuses", ended.stderr, "version `GLIBC_2.34' not found")
        equal("it takes the program", world.call([place("optional"), program]).returncode, 0)
        ended = systems.call("11", program, "one", "two words")
        contains("with it the program says what it needs", ended.stderr, "error: this system has glibc 2.31, and llm-cli-gateway needs 2.34 or newer\nhelp: ")
        equal("and ends", (ended.returncode, ended.stdout), (1, ""))
        ended = systems.call("12", program, "one", "two words")
        equal("on a newer one it runs as before", (ended.returncode, ended.stderr, len(ended.stdout.splitlines())), (5, "", LINES))


run(drive)
