#!/usr/bin/python3
"""The verb `verify` beside the official Sigstore client, on bundles of an instance of our own and hundreds of variations of them.

`official_sigstore.py` makes them and asks the official client. Here ours is asked, and the two are compared: no bundle may be
accepted by one and refused by the other. Where ours is stricter on purpose, the reason is printed and counted apart. Each
refusal with a story must also come from the step that it was made for.
"""
import collections
import concurrent.futures
import json
import os
import subprocess

from harness import ROOT, check, equal, product, run, section, tool

CLIENT = os.path.join(ROOT, "Tests", "EndToEnd", "official_sigstore.py")


def verdict(world, folder, case, flag="--identity"):
    """What our verb says: `ok`, or the code of its refusal; with the message."""
    place = os.path.join(folder, case["name"])
    words = [product("llm-cli-gateway"), "verify", f"{place}/artifact", "--bundle", f"{place}/bundle.json",
             "--trust-root", f"{place}/trusted_root.json", "--json"]
    words += ["--key", f"{place}/key.pub"] if case["key"] else [flag, case["identity"], "--issuer", case["issuer"]]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, env=world.environment)
    try:
        answer = json.loads(ended.stdout)
    except ValueError:
        return f"status {ended.returncode} without JSON", ended.stderr
    if ended.returncode == 0 and answer.get("verified") is True:
        return "ok", ""
    error = answer.get("error", {})
    if ended.returncode != 3:
        return f"status {ended.returncode}, {error.get('code')}", error.get("message", "")
    return error["code"], error["message"]


def agrees(case, code):
    """Whether both say the same; of some bundles the official client has nothing to say."""
    return case["official"] is None or (code == "ok") == (case["official"] == "ok")


def judge(case, code, message):
    title, got = case["name"], {"ours": f"{code} {message}", "official": case["official"]}
    if case["stricter"]:
        check(f"{title}: refused on purpose, though the official client lets it pass: {case['stricter']}",
              code == (case["step"] or code) and code.startswith("signature-") and case["official"] == "ok", got=got)
        return
    wanted = case["step"] or code
    check(f"{title}: {'both say' if case['official'] else 'is'} {code if code == 'ok' else 'no, ' + code}",
          agrees(case, code) and code == wanted, expected=wanted, got=got)


def drive(world):
    folder = world.directory("cases")
    made = world.call([tool("sigstore"), CLIENT, folder], timeout=120)
    if not check("the official client has judged all bundles", made.returncode == 0, 0, (made.returncode, made.stderr[-1500:]), vital=True):
        print(made.stderr[-3000:])
    cases = json.loads(made.stdout)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda case: verdict(world, folder, case), cases))
    judged = list(zip(cases, found))
    groups, stories = collections.defaultdict(list), []
    for case, answer in judged:
        kind, _, rest = case["name"].partition("-")
        # The official client lets some changes pass that mean nothing; those that it should not are told one by one.
        if kind in ("flip", "drop", "swap") and not (case["stricter"] and case["official"] == "ok" and answer[0] != "ok"):
            groups[f"{kind} {rest.partition('-')[0]}"].append((case, *answer))
        else:
            stories.append((case, *answer))
    with section("field by field"):
        for name, group in sorted(groups.items()):
            wrong = [f"{case['name']}: ours {code} {message}, official {case['official']}" for case, code, message in group
                     if not agrees(case, code) or code.startswith("status")]
            accepted = sum(code == "ok" for _, code, _ in group)
            check(f"{name}: {len(group)} changes, {accepted} accepted by both, {len(group) - accepted} refused by both", not wrong, got=wrong)
    with section("one by one"):
        for story in stories:
            judge(*story)
    with section("a pattern for the signer"):
        signer = next(case for case in cases if case["name"] == "good-first")
        for pattern, wanted in ((signer["identity"].replace("v1.0.0", "v*"), "ok"), (signer["identity"].replace("v1.0.0", "*"), "ok"),
                                ("https://github.com/acme/**", "ok"), ("https://github.com/acme/*", "signature-identity-refused"),
                                ("*", "signature-identity-refused"), ("**", "ok"), ("github.com/acme", "signature-identity-refused")):
            code, message = verdict(world, folder, {**signer, "identity": pattern}, flag="--identity-pattern")
            check(f"'{pattern}': {wanted}", code == wanted, wanted, f"{code} {message}")
    with section("names that would steer a terminal"):
        for name in ("issuer-that-steers-a-terminal", "name-that-steers-a-terminal"):
            case, place = next(case for case in cases if case["name"] == name), os.path.join(folder, name)
            ended = subprocess.run([product("llm-cli-gateway"), "verify", f"{place}/artifact", "--bundle", f"{place}/bundle.json", "--trust-root",
                                    f"{place}/trusted_root.json", "--identity", case["identity"], "--issuer", case["issuer"]],
                                   capture_output=True, text=True, timeout=60, env=world.environment)
            check(f"{name}: is told with its control characters escaped",
                  ended.returncode == 3 and r"https://a\u{1B}" in ended.stderr and not any(sign in ended.stderr for sign in "\x1b\x07"), got=ended.stderr)
    with section("a name without who vouches for it"):
        place = os.path.join(folder, signer["name"])
        words = [product("llm-cli-gateway"), "verify", f"{place}/artifact", "--bundle", f"{place}/bundle.json", "--trust-root",
                 f"{place}/trusted_root.json"]
        for lacking, given in (("--issuer", ["--identity", signer["identity"]]), ("--issuer", ["--identity-pattern", "**"]),
                               ("--identity", ["--issuer", signer["issuer"]])):
            ended = subprocess.run([*words, *given], capture_output=True, text=True, timeout=60, env=world.environment)
            check(f"{given[0]} alone is no question: {lacking} is missing", ended.returncode == 2 and f"without '{lacking}'" in ended.stderr,
                  got=ended.stderr)
    compared = [(case, code) for case, (code, _) in judged if case["official"] is not None]
    apart = [case["name"] for case, code in compared if not agrees(case, code) and not case["stricter"]]
    apart_on_purpose = sum(not agrees(case, code) for case, code in compared) - len(apart)
    equal(f"no disagreement over {len(compared) - apart_on_purpose} bundles; {apart_on_purpose} more only ours refuses, on purpose", apart, [])
    check("the bundles were good ones and bad ones", sum(code == "ok" for _, code in compared) > 40 < sum(code != "ok" for _, code in compared))


run(drive)
