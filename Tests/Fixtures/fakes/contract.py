"""A command line held against a declared contract: anything outside of it ends with status 2 and a sentence.

A flag's arity is "none", "one" or "optional"; `values` or `pattern` restrict what follows it; `repeats` allows it more
than once. `--flag=value` is understood as `--flag value`. After `--` everything is positional.
"""
import re

from playing import usage_error


class Flag:
    def __init__(self, arity="none", values=None, pattern=None, repeats=False):
        self.arity, self.values, self.pattern, self.repeats = arity, values, pattern, repeats


NONE, ONE, OPTIONAL, MANY = Flag(), Flag("one"), Flag("optional"), Flag("one", repeats=True)


def one_of(*values):
    return Flag("one", values=values)


def matching(pattern):
    return Flag("one", pattern=pattern)


def parse(arguments, flags, positionals):
    """-> ({flag: [values]}, [positionals])."""
    found, rest, queue = {}, [], list(arguments)
    while queue:
        word = queue.pop(0)
        if word == "--":
            rest += queue
            break
        if not word.startswith("-") or word == "-":
            rest.append(word)
            continue
        name, equals, value = word.partition("=")
        flag = flags.get(name)
        if flag is None:
            usage_error(f"unexpected argument '{name}' found")
        if flag.arity == "none":
            if equals:
                usage_error(f"'{name}' takes no value, but got '{value}'")
            value = None
        elif not equals:
            # A value that looks like a flag has to be joined with '='.
            value = queue.pop(0) if queue and not (queue[0].startswith("-") and queue[0] != "-") else None
            if value is None and flag.arity == "one":
                usage_error(f"a value is required for '{name}'")
        if name in found and not flag.repeats:
            usage_error(f"'{name}' cannot be used more than once")
        if value is not None:
            if value == "":
                usage_error(f"the value of '{name}' is empty")
            if flag.values and value not in flag.values:
                usage_error(f"invalid value '{value}' for '{name}'; possible values: {', '.join(flag.values)}")
            if flag.pattern and not re.fullmatch(flag.pattern, value):
                usage_error(f"invalid value '{value}' for '{name}'; it must match {flag.pattern}")
        found.setdefault(name, []).append(value)
    if len(rest) > positionals:
        usage_error(f"unexpected argument '{rest[positionals]}' found: at most {positionals} positional")
    return found, rest


def help_text(title, flags, hidden=(), extra=()):
    """A help page with every flag that the CLI shows, two blanks before the text, as the drift probe reads it."""
    lines = [title, "", "Options:"]
    for name in [*flags, *extra]:
        if name in hidden:
            continue
        arity = flags[name].arity if name in flags else "none"
        lines.append(f"  {name}{ {'none': '', 'one': ' <VALUE>', 'optional': ' [<VALUE>]'}[arity]}    {name.strip('-')}")
    return "\n".join(lines)
