"""What the fake provider CLIs share: the record of how they were started, and the scenes they can play.

Every start is recorded as one JSON file in $FAKE_CLI_LOG (else in $HOME/fake-cli, if that exists): name, argv, env, cwd,
stdin, pid, start time, parent, session. Nothing is recorded when there is no such directory.

A scene is chosen by directives in the prompt, or by the same in $FAKE_CLI_SCENE when the prompt has none:

    @@say TEXT@@          answer exactly this, instead of `ok[<turns>]: <prompt>`
    @@empty@@             end well without having said anything
    @@wait SECONDS@@      say nothing for so long, then go on
    @@slow SECONDS@@      spread the answer over so long, so that there is always some output
    @@silent@@            never say anything, never end
    @@flood BYTES@@       so many bytes on standard output instead of the answer
    @@stderr TEXT@@       this on standard error, too
    @@first TEXT@@        this part of an answer before all else, where the format has parts
    @@exit CODE TEXT@@    no answer; this text on standard error, and this exit status
    @@fails COUNT TEXT@@  the first COUNT starts with this text end like `@@exit 1 TEXT@@`, those after them go on
    @@tool@@              run a tool first, as far as the output tells (claude and codex)
    @@signal NUMBER@@     die of this signal
    @@stubborn@@          ignore SIGTERM
    @@grandchild@@        leave a `sleep` in a session of its own behind, its pid in the record
    @@daemon@@            leave a daemon behind: forked twice, in a session of its own, with an empty environment, deaf to
                          SIGTERM; its pid in the record

With $FAKE_CLI_LEDGER, a folder, each run of a job is kept there as it was, for who does not take the gateway's word: `ledger`
has a line of JSON for its start, for its prompt, and for its end by itself; `<job>.<pid>.out` and `.err` what it has written.
A flood is not kept.
"""
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time

DIRECTIVE = re.compile(r"@@(say|empty|wait|slow|silent|flood|stderr|first|exit|fails|tool|signal|stubborn|grandchild|daemon)(?:\s+(.*?))?@@", re.S)


def usage_error(message):
    """The CLIs' way to refuse an invocation."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


class Recorded:
    """A standard stream that keeps what was written to it."""

    encoding, errors = "utf-8", "strict"

    def __init__(self, descriptor, path):
        self.descriptor, self.pending = descriptor, b""
        self.copy = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, text):
        self.pending += text.encode()
        if len(self.pending) > 8192:
            self.flush()
        return len(text)

    def flush(self):
        while self.pending:
            # In this order: what is in the copy was written.
            count = os.write(self.descriptor, self.pending)
            os.write(self.copy, self.pending[:count])
            self.pending = self.pending[count:]

    def fileno(self):
        return self.descriptor

    def isatty(self):
        return False


class Ledger:
    """What really happened in this run; nothing is kept without a folder, or where no job is run."""

    file = None

    def __init__(self):
        folder, job = os.environ.get("FAKE_CLI_LEDGER"), os.environ.get("LLM_GATEWAY_JOB_ID")
        if not folder or not job:
            return
        self.job = job
        self.file = os.open(os.path.join(folder, "ledger"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.note("start", name=os.path.basename(sys.argv[0]))
        path = os.path.join(folder, f"{job}.{os.getpid()}")
        sys.stdout, sys.stderr = Recorded(1, path + ".out"), Recorded(2, path + ".err")

    def note(self, what, **facts):
        """One line, by one write: a line is there whole or not at all."""
        if self.file is not None:
            facts = {"what": what, "at": time.monotonic(), "job": self.job, "pid": os.getpid(), **facts}
            os.write(self.file, (json.dumps(facts) + "\n").encode())


LEDGER = Ledger()


def perform(main):
    """The body of a CLI: runs it and notes how it ended."""
    try:
        main(sys.argv[1:])
        code = 0
    except SystemExit as end:
        code = end.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except OSError as error:
        # Its own files are on the disk that is full: it ends, and not by any signal.
        if error.errno != errno.ENOSPC:
            raise
        print(error, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    LEDGER.note("end", code=code)
    raise SystemExit(code)


class Start:
    """The record of this start."""

    def __init__(self, name, stdin):
        self.directory = os.environ.get("FAKE_CLI_LOG") or os.path.join(os.environ.get("HOME", "/nonexistent"), "fake-cli")
        with open("/proc/self/stat", "rb") as stat:
            ticks = int(stat.read().rpartition(b")")[2].split()[19])
        self.path = os.path.join(self.directory, f"{time.time_ns()}-{name}-{os.getpid()}.json")
        self.facts = {
            "name": name, "argv": sys.argv, "env": dict(os.environ), "cwd": os.getcwd(), "stdin": stdin,
            "pid": os.getpid(), "start": ticks, "ppid": os.getppid(), "sid": os.getsid(0), "pgid": os.getpgid(0),
            "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
        }
        self.save()

    def save(self):
        if os.path.isdir(self.directory):
            with open(self.path + ".part", "w") as file:
                json.dump(self.facts, file)
            os.rename(self.path + ".part", self.path)


def read_stdin():
    """All of standard input; an empty text when it is closed or a terminal."""
    try:
        return "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read().decode("utf-8", "replace")
    except OSError:
        return ""


class Conversations:
    """The sessions of one fake CLI, one file each below the home, as a list of prompts."""

    def __init__(self, name):
        self.directory = os.path.join(os.environ.get("HOME", "/nonexistent"), f".fake-{name}", "sessions")
        os.makedirs(self.directory, exist_ok=True)

    def latest(self):
        found = sorted((os.stat(entry).st_mtime_ns, entry.name) for entry in os.scandir(self.directory))
        return found[-1][1] if found else None

    def turns(self, identifier):
        """The prompts so far, or None for a conversation that never was."""
        try:
            with open(os.path.join(self.directory, os.path.basename(identifier))) as file:
                return json.load(file)
        except OSError:
            return None

    def keep(self, identifier, turns):
        with open(os.path.join(self.directory, os.path.basename(identifier)), "w") as file:
            json.dump(turns, file)


def directives(prompt):
    LEDGER.note("prompt", prompt=prompt[:80])
    found = dict(DIRECTIVE.findall(prompt))
    return found or dict(DIRECTIVE.findall(os.environ.get("FAKE_CLI_SCENE", "")))


def daemon():
    """Starts what tries to get away. -> its pid"""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writing, str(os.getpid()).encode())
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            os.closerange(3, 256)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.execve("/bin/sleep", ["sleep", "600"], {})
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    return int(os.read(reading, 16))


def play(scene, answer, start, emit, finish):
    """Plays a scene up to its end.

    `emit(piece)` prints a part of the answer in the CLI's format, `finish(text)` what follows the last part.
    """
    if "stubborn" in scene:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "grandchild" in scene:
        child = subprocess.Popen(["sleep", "600"], start_new_session=True, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        start.facts["grandchild"] = child.pid
        start.save()
        LEDGER.note("child", child=child.pid)
    if "daemon" in scene:
        start.facts["daemon"] = daemon()
        start.save()
        LEDGER.note("child", child=start.facts["daemon"])
    if "stderr" in scene:
        print(scene["stderr"], file=sys.stderr, flush=True)
    if "first" in scene:
        emit(scene["first"])
        sys.stdout.flush()
    if "wait" in scene:
        time.sleep(float(scene["wait"]))
    if "silent" in scene:
        while True:
            signal.pause()
    if "signal" in scene:
        number = int(scene["signal"])
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        LEDGER.note("end", signal=number)
        os.kill(os.getpid(), number)
    if "exit" in scene:
        code, _, text = scene["exit"].partition(" ")
        print(text, file=sys.stderr, flush=True)
        raise SystemExit(int(code))
    if "fails" in scene:
        count, _, text = scene["fails"].partition(" ")
        with open(os.path.join(start.directory, "fails-" + text.encode().hex()[:200]), "a+") as file:
            file.seek(0)
            if len(file.read()) < int(count):
                file.write("x")
                print(text, file=sys.stderr, flush=True)
                raise SystemExit(1)
    if "flood" in scene:
        left, block = int(scene["flood"]), b"x" * 65535 + b"\n"
        while left > 0:
            left -= os.write(1, block[:left])
        return
    if "empty" in scene:
        return
    text = scene.get("say", answer)
    words = re.findall(r"\S+\s*|\s+", text) or [""]
    pause = float(scene["slow"]) / len(words) if "slow" in scene else 0
    for word in words:
        emit(word)
        sys.stdout.flush()
        if pause:
            time.sleep(pause)
    finish(text)
    sys.stdout.flush()
