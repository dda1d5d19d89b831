#!/usr/bin/python3
"""Runs a program and kills it (SIGKILL) right before its n-th system call that changes a file below a folder, or that tells a
service manager to do something; of the latter right after it as well, when the manager is at work on it.

    kill_at.py FOLDER N REPORT PROGRAM [ARGUMENT…]

The program needs no hook for this: it is traced (ptrace(2)), with all its threads; processes that it starts are not, and
are not killed. With N = 0 it comes to its end. REPORT gets JSON: {"killed", "status", "calls": [name of each call so far]}.
The status is that of the program, 137 when it was killed.
"""
import ctypes
import json
import os
import signal
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
LIBC.ptrace.restype = ctypes.c_long
TRACEME, SYSCALL, SETOPTIONS, GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420E
SYSGOOD, CLONE, EXITKILL = 1, 8, 0x100000
WALL = 0x40000000

# Number: name, and which argument is the descriptor or the path that tells whether it counts.
X86_64 = {
    1: ("write", "fd"), 18: ("pwrite64", "fd"), 20: ("writev", "fd"), 2: ("open", "flags1"), 257: ("openat", "flags2"),
    74: ("fsync", "fd"), 75: ("fdatasync", "fd"), 306: ("syncfs", "fd"), 77: ("ftruncate", "fd"), 91: ("fchmod", "fd"),
    82: ("rename", "path0"), 264: ("renameat", "path1"), 316: ("renameat2", "path1"), 87: ("unlink", "path0"),
    263: ("unlinkat", "path1"), 84: ("rmdir", "path0"), 83: ("mkdir", "path0"), 258: ("mkdirat", "path1"),
    46: ("sendmsg", "bus"), 88: ("symlink", "path1"), 266: ("symlinkat", "path2"), 86: ("link", "path1"), 265: ("linkat", "path3"),
    90: ("chmod", "path0"), 268: ("fchmodat", "path1"),
}
AARCH64 = {
    64: ("write", "fd"), 68: ("pwrite64", "fd"), 66: ("writev", "fd"), 56: ("openat", "flags2"), 82: ("fsync", "fd"),
    83: ("fdatasync", "fd"), 267: ("syncfs", "fd"), 46: ("ftruncate", "fd"), 52: ("fchmod", "fd"), 38: ("renameat", "path1"),
    211: ("sendmsg", "bus"), 276: ("renameat2", "path1"), 35: ("unlinkat", "path1"), 34: ("mkdirat", "path1"), 36: ("symlinkat", "path2"),
    37: ("linkat", "path3"), 53: ("fchmodat", "path1"),
}
CALLS = AARCH64 if os.uname().machine == "aarch64" else X86_64

# What changes something about units, as it stands in the header of a D-Bus message: its length, its letters, a NUL.
ORDERS = {struct.pack("<I", len(name)) + name.encode() + b"\0": name for name in (
    "StartUnit", "StopUnit", "RestartUnit", "EnableUnitFiles", "DisableUnitFiles", "Reload", "ResetFailedUnit", "SetUserLinger")}


class SyscallInfo(ctypes.Structure):
    _fields_ = [("op", ctypes.c_uint8), ("pad", ctypes.c_uint8 * 3), ("arch", ctypes.c_uint32), ("ip", ctypes.c_uint64),
                ("sp", ctypes.c_uint64), ("nr", ctypes.c_uint64), ("args", ctypes.c_uint64 * 6), ("more", ctypes.c_uint64 * 4)]


def trace(request, pid, address=0, data=0):
    if LIBC.ptrace(request, pid, address, data) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def text_at(pid, address):
    """The string at an address of the traced process."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        try:
            data = memory.read(4096 - address % 4096 + 4096)
        except OSError:
            memory.seek(address)
            data = memory.read(4096 - address % 4096)
    return data.split(b"\0", 1)[0].decode("utf-8", "replace")


def order_at(pid, address):
    """What the message at an address of the traced process, a struct msghdr, tells a service manager; None when it only asks."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address + 16)
        vectors, count = struct.unpack("<QQ", memory.read(16))
        memory.seek(vectors)
        pairs = struct.unpack(f"<{2 * min(count, 64)}Q", memory.read(16 * min(count, 64)))
        data = b""
        for base, size in zip(pairs[::2], pairs[1::2]):
            memory.seek(base)
            data += memory.read(min(size, 1 << 16))
    return next((name for mark, name in ORDERS.items() if mark in data), None)


def changes(pid, info, folder):
    """The name of the call when it changes something below the folder."""
    name, how = CALLS.get(info.nr, (None, None))
    if name is None:
        return None
    if how == "bus":
        return order_at(pid, info.args[1])
    if how == "fd":
        try:
            path = os.readlink(f"/proc/{pid}/fd/{info.args[0] & 0xFFFFFFFF}")
        except OSError:
            return None
        return name if path.startswith(folder) else None
    index = int(how[-1])
    if how.startswith("flags"):
        if not info.args[index] & (os.O_CREAT | os.O_TRUNC):
            return None
        index -= 1
    path = text_at(pid, info.args[index])
    # A relative path is one below a descriptor: the staging directory is written like that.
    return name if path.startswith(folder) or not path.startswith("/") else None


def main():
    folder, wanted, report, program = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
    child = os.fork()
    if child == 0:
        trace(TRACEME, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        os.execv(program[0], program)
    os.waitpid(child, WALL)
    trace(SETOPTIONS, child, 0, SYSGOOD | CLONE | EXITKILL)
    trace(SYSCALL, child)
    info, calls, sent, killed, status = SyscallInfo(), [], {}, False, 0
    while True:
        pid, state = os.waitpid(-1, WALL)
        if os.WIFEXITED(state) or os.WIFSIGNALED(state):
            if pid == child:
                status = os.WEXITSTATUS(state) if os.WIFEXITED(state) else 128 + os.WTERMSIG(state)
                break
            continue
        number = os.WSTOPSIG(state)
        deliver = 0
        if number == signal.SIGTRAP | 0x80:
            trace(GET_SYSCALL_INFO, pid, ctypes.sizeof(info), ctypes.addressof(info))
            name = None
            if info.op == 1 and not killed and (name := changes(pid, info, folder)) and CALLS[info.nr][1] == "bus":
                sent[pid] = f"{name}, sent"
            elif info.op == 2 and not killed:
                name = sent.pop(pid, None)
            if name:
                calls.append(name)
                if len(calls) == wanted:
                    os.kill(child, signal.SIGKILL)
                    killed = True
        elif number not in (signal.SIGTRAP, signal.SIGSTOP):
            deliver = number
        try:
            trace(SYSCALL, pid, 0, deliver)
        except OSError:
            # It has been killed in the meantime; its end is told next.
            continue
    with open(report, "w", encoding="utf-8") as file:
        json.dump({"killed": killed, "status": status, "calls": calls}, file)
    sys.exit(status)


main()
