#!/usr/bin/python3
"""What `completions` prints, in the shells it is for: the words that bash, zsh and fish offer for a line."""
import contextlib
import os
import pty
import re
import select
import shutil
import time

from harness import Skip, check, equal, product, run, section, skip

START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
READY = {
    "bash": "PS1=; bind 'set completion-query-items 0' 'set page-completions off' 'set enable-bracketed-paste off' "
            "'set bell-style none'; eval \"$(llm-cli-gateway completions bash)\"; echo REA''DY\n",
    "zsh": "PROMPT=; unset zle_bracketed_paste; unsetopt prompt_cr; setopt no_beep no_auto_menu; LISTMAX=0; autoload -Uz compinit; "
           "compinit -D -u; zstyle ':completion:*' list-prompt ''; zstyle ':completion:*:default' menu no; "
           "eval \"$(llm-cli-gateway completions zsh)\"; echo REA''DY\n",
}


class Shell:
    """An interactive shell on a terminal of its own."""

    def __init__(self, world, name):
        if not shutil.which(name):
            raise Skip(f"{name} is not installed (setup/packages --test installs it)")
        environment = {**world.environment, "TERM": "dumb", "COLUMNS": "200", "LINES": "500", "HOME": world.home}
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(world.work)
            os.execvpe(START[name][0], START[name], environment)
        world.undo.append(self.close)
        self.say(READY[name])
        seen = self.read(lambda text: "READY" in text)
        check(f"{name} takes the script without a word", "READY" in seen and not re.search(r"error|not found|parse", seen),
              "READY", seen, vital=True)

    def say(self, text):
        os.write(self.terminal, text.encode())

    def read(self, enough, seconds=10, quiet=0.6):
        """What it prints until that is enough, or nothing more comes."""
        text, end, last = "", time.monotonic() + seconds, time.monotonic()
        while time.monotonic() < end:
            if select.select([self.terminal], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    text += os.read(self.terminal, 65536).decode("utf-8", "replace")
                last = time.monotonic()
            if enough(text) or (text and time.monotonic() - last > quiet and enough is never):
                break
        return text

    def offered(self, line, wanted):
        """Everything it prints for a line and two tabs, once what is wanted is among it; the line is thrown away afterwards."""
        self.say(line + "\t\t")
        text = self.read(lambda text: not missing(plain(text), wanted))
        text += self.read(never, seconds=0.6)
        self.say("\x15\n")
        self.read(never, seconds=2, quiet=0.3)
        return plain(text)

    def close(self):
        os.close(self.terminal)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def never(_):
    return False


def plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|[\x07\r]", " ", text)


def missing(text, wanted):
    words = set(text.split())
    return [word for word in wanted if not any(found == word or found.startswith(word + "=") for found in words)]


def offers(title, text, wanted, unwanted=()):
    wrong = [word for word in unwanted if word in text.split()]
    check(title, not missing(text, wanted) and not wrong, f"with {wanted}, without {list(unwanted)}", text)


CASES = [
    ("a command", "llm-cli-gateway sta", ["start", "status"], ["setup", "stop"]),
    ("flags of a command", "llm-cli-gateway logs --", ["--follow", "--lines", "--json"], ["--enable"]),
    ("an argument out of a list", "llm-cli-gateway completions ", ["bash", "zsh", "fish"], ["start"]),
    ("a client", "llm-cli-gateway print-client-config c", ["claude", "codex", "cursor"], ["gemini"]),
    ("the name of a command", "llm-cli-gateway help re", ["restart", "repair"], ["start"]),
]


def drive(world):
    world.link("llm-cli-gateway", product("llm-cli-gateway"))
    # What a shell offers for a file: two of a folder, neither of them ours.
    world.write(os.path.join(world.work, "backup-one.tar.gz"), "")
    world.write(os.path.join(world.work, "backup-two.tar.gz"), "")
    for name in START:
        with section(name):
            shell = Shell(world, name)
            for title, line, wanted, unwanted in CASES:
                offers(f"{name} offers {title}", shell.offered(line, wanted), wanted, unwanted)
            single = shell.offered("llm-cli-gateway unin", ["uninstall"])
            check(f"{name} completes what is unambiguous", "uninstall" in single.replace(" ", ""), "uninstall", single)
            flag = shell.offered("llm-cli-gateway setup --por", ["--port"])
            check(f"{name} completes a flag", "--port" in flag.replace(" ", ""), "--port", flag)
            others = shell.offered("llm-cli-gateway --json logs --lines 5 --f", ["--follow"])
            check(f"{name} sees through flags before and after the command", "--follow" in others.replace(" ", ""), "--follow", others)
            if "restore" in world.call([product("llm-cli-gateway"), "help"]).stdout:
                files = ["backup-one.tar.gz", "backup-two.tar.gz"]
                offers(f"{name} offers files", shell.offered("llm-cli-gateway restore backup-", files), files)
    with section("fish"):
        if not shutil.which("fish"):
            skip("fish", "fish is not installed (setup/packages --test installs it)")
            return
        environment = {"XDG_CONFIG_HOME": world.directory("fish"), "XDG_DATA_HOME": world.directory("fish")}

        def offered(line):
            ended = world.call(["fish", "-c", f"llm-cli-gateway completions fish | source; complete -C '{line}'"], environment)
            equal(f"fish takes the script for '{line}' without a word", (ended.returncode, ended.stderr), (0, ""))
            return "\n".join(row.split("\t")[0] for row in ended.stdout.splitlines())

        for title, line, wanted, unwanted in CASES:
            offers(f"fish offers {title}", offered(line), wanted, unwanted)
        described = world.call(["fish", "-c", "llm-cli-gateway completions fish | source; complete -C 'llm-cli-gateway sto'"], environment)
        check("fish shows what a command does", "stop the gateway" in described.stdout, "a description", described.stdout)
    ended = world.call([product("llm-cli-gateway"), "completions", "tcsh", "--json"])
    equal("another shell is refused", ended.returncode, 2)
    check("with the known ones", "bash, zsh, fish" in ended.stdout, "the names", ended.stdout)


if __name__ == "__main__":
    run(drive)
