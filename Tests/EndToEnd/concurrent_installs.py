#!/usr/bin/python3
"""Twenty commands at once in one home: one does the work, all end truthfully, and nothing is left behind."""
import collections
import fcntl
import json
import os
import subprocess
import time

from harness import DEEP, check, contains, equal, matches, run, section
from installed import CLEAN, Ended, Home, small_bundle, version_in_use

CROWD = 20


def all_at_once(home, commands):
    """Starts the commands at the same moment. -> [Ended] in their order"""
    begun = [home.world.start([home.program, *words, "--json"], home.environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for words in commands]
    ended = []
    for process, words in zip(begun, commands):
        out, err = process.communicate(timeout=180)
        ended.append(Ended(subprocess.CompletedProcess(words, process.returncode, out, err)))
    return ended


def codes(ended):
    return dict(collections.Counter(one.code for one in ended))


def is_whole(home, title):
    """Whether nothing is left to repair, and nothing is there that the receipt does not name."""
    again = home.run("repair", "--dry-run", "--json")
    receipt = json.loads(home.read("receipt.json"))
    equal(f"{title}: nothing is left behind", (again.json["message"], receipt["operation"], os.listdir(home.file("staging")),
                                               os.listdir(home.file("cache"))), (CLEAN, None, [], []))
    equal(f"{title}: the versions are those of the receipt", sorted(os.listdir(home.file("versions"))),
          sorted(one["directory"] for one in receipt["installed"]))
    equal(f"{title}: the one in use is the receipt's", os.path.basename(os.readlink(home.file("current"))),
          receipt["installed"][0]["directory"])
    return receipt


def told(ended):
    """What a command that succeeded says it did."""
    return (ended.json["bundle_version"], ended.json["changed"])


def drive(world):
    one, two, three = (small_bundle(world, version) for version in ("1.0.0", "2.0.0", "3.0.0"))
    home = Home(world, "crowd")
    before = home.tree()

    with section("the same bundle"):
        ended = all_at_once(home, [["install-bundle", *one.flags]] * CROWD)
        equal(f"all {CROWD} end well", codes(ended), {0: CROWD}, vital=True)
        equal("exactly one says that it did the work", sorted(told(each) for each in ended),
              [("1.0.0", False)] * (CROWD - 1) + [("1.0.0", True)])
        # The token is not part of a bundle.
        home.json("setup")
        is_whole(home, "the same bundle")
        equal("it is in use", version_in_use(home), "1.0.0")

    with section("installs and upgrades to the next version"):
        ended = all_at_once(home, [["upgrade", *two.flags], ["install-bundle", *two.flags]] * (CROWD // 2))
        equal(f"all {CROWD} end well", codes(ended), {0: CROWD}, vital=True)
        equal("exactly one says that it did the work", sum(each.json["changed"] for each in ended), 1)
        receipt = is_whole(home, "the next version")
        equal("both versions are kept", [each["version"] for each in receipt["installed"]], ["2.0.0", "1.0.0"])

    with section("upgrades to different versions, rollbacks and repairs"):
        ended = all_at_once(home, [["upgrade", *three.flags], ["upgrade", *two.flags], ["rollback"], ["repair"]] * (CROWD // 4))
        upgrades = [each for index, each in enumerate(ended) if index % 4 < 2]
        others = [each for index, each in enumerate(ended) if index % 4 >= 2]
        check("an upgrade ends well, or is refused because a newer one is in use",
              all(each.code == 0 or (each.code, each.error.get("code")) == (3, "downgrade-refused") for each in upgrades),
              "0 or 3", codes(upgrades))
        equal("rollbacks and repairs end well", codes(others), {0: CROWD // 2})
        receipt = is_whole(home, "different versions")
        equal("what is in use is what the receipt says", version_in_use(home), receipt["installed"][0]["version"])
        equal("two versions are kept", len(receipt["installed"]), 2)

    with section("a lock that is held"):
        with open(home.file(".lock"), "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write("llm-cli-gateway upgrade (process 4711, since 2026-01-01T00:00:00Z)")
            lock.flush()
            began = time.monotonic()
            readers = all_at_once(home, [["status"], ["doctor"], ["repair", "--dry-run"], ["rollback", "--dry-run"], ["uninstall"]])
            took = time.monotonic() - began
            check("questions do not wait", took < 20 and all(each.code in (0, 1) for each in readers), "at once",
                  (took, codes(readers)))
            waiting = world.start([home.program, "repair", "--text"], home.environment, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            contains("a command that waits says for whom, and since when", waiting.stderr.readline(),
                     "waiting for llm-cli-gateway upgrade (process 4711, since 2026-01-01T00:00:00Z)")
            if DEEP:
                late = home.run("install-bundle", *one.flags, "--json")
                equal("and gives up with status 4", (late.code, late.error.get("code")), (4, "busy"))
                matches("saying how long it waited", late.error.get("message"), r"^waited 60 s for llm-cli-gateway upgrade \(process 4711")
        out, _ = waiting.communicate(timeout=120)
        equal("it goes on once the lock is free" if not DEEP else "one that was about to give up ends truthfully",
              waiting.returncode in ((0,) if not DEEP else (0, 4)), True)

    with section("installs and uninstalls"):
        ended = all_at_once(home, [["install-bundle", *one.flags], ["uninstall", "--yes", "--purge"]] * (CROWD // 2))
        equal(f"all {CROWD} end well", codes(ended), {0: CROWD}) or print([each for each in ended if each.code], flush=True)
        if os.path.exists(home.file("current")):
            home.json("setup")
            is_whole(home, "installs and uninstalls")
        home.json("uninstall", "--yes", "--purge")
        equal("a last uninstall leaves what was there before", home.tree(), before)


run(drive)
