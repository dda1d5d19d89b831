"""What is asked and what happens meanwhile, decided by a seed."""
import collections
import hashlib
import json
import random
import sys

PROVIDERS = ("claude", "codex", "gemini", "grok", "mistral")
COMMANDS = {"gemini": "agy", "mistral": "vibe"}
# How often a job is of a kind, of 100.
KINDS = {"answer": 38, "long": 14, "fails": 9, "crash": 8, "hang": 7, "flood": 4, "deaf": 4, "family": 6, "empty": 3, "passing": 3, "brief": 4}
FLOOD = 3 << 20
WORDS = "one zwei três чотири pět 六 שבע otto neuf dix — „elf“ 🜁 zwölf→ x=13; \\n not-a-line {json} 'quoted' \"twice\"".split()


class Ask:
    """One request as it is planned."""

    def __init__(self, chance, number, clients):
        self.number, self.token = number, f"[{number}]"
        self.provider = chance.choice(PROVIDERS)
        self.kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
        self.client = chance.randrange(clients)
        self.waits = self.kind in ("hang", "brief") or chance.random() < 0.5
        self.isAwaited = self.kind not in ("hang", "brief") and chance.random() < 0.45
        # Others who send the same request at about the same time.
        self.others = chance.choice((1, 1, 2, 3)) if self.kind in ("answer", "long", "family") and chance.random() < 0.2 else 0
        self.wait = round(chance.choice((0, 0.05, 0.3, 1.0)) * chance.random() * 2, 2)
        self.cancel = round(chance.random() * 0.6, 3) if self.kind in ("hang", "brief") else None
        self.prompt = " ".join(part for part in (self.token, *self.scene(chance)) if part)

    def scene(self, chance):
        def words(most):
            return " ".join(chance.choice(WORDS) for _ in range(chance.randint(1, most)))

        self.text = f"{self.token} {words(2500 if self.kind == 'long' else 12)}".replace("@", "")
        wait = f"@@wait {self.wait}@@"
        started = [f"@@stderr {words(6)}@@" if chance.random() < 0.4 else "", f"@@first {words(8)} @@" if chance.random() < 0.5 else ""]
        said = f"@@say {self.text}@@"
        if self.kind in ("answer", "brief"):
            return [f"@@stderr {words(20)}@@" if chance.random() < 0.3 else "", wait, said]
        if self.kind == "long":
            return [f"@@slow {round(chance.random() * 2, 2)}@@", said]
        if self.kind == "fails":
            return [started[1], wait, f"@@exit {chance.randint(1, 99)} {words(6)}@@"]
        if self.kind == "crash":
            return [*started, wait, f"@@signal {chance.choice((6, 9, 11, 15))}@@"]
        if self.kind == "hang":
            return [*started, *(f"@@{name}@@" for name in ("stubborn", "grandchild", "daemon") if chance.random() < 0.4), "@@silent@@"]
        if self.kind == "flood":
            return [f"@@flood {FLOOD}@@"]
        if self.kind == "deaf":
            return ["@@stubborn@@", wait, said]
        if self.kind == "family":
            return ["@@grandchild@@", "@@daemon@@" if chance.random() < 0.5 else "", wait, said]
        if self.kind == "empty":
            return [wait, "@@empty@@"]
        return [f"@@fails 1 fetch failed: ECONNRESET {self.number}@@", said]

    def __str__(self):
        return json.dumps(vars(self), ensure_ascii=False, sort_keys=True)


class Event:
    """Something that happens once so many requests were begun, and a moment later."""

    def __init__(self, chance, after, verb, slots):
        self.after, self.verb, self.slot = after, verb, chance.randrange(slots)
        self.moment = round(chance.random() * 0.06, 4)
        self.step = chance.choice((-7200, -600, -90, 45, 300, 3600, 5400)) if verb == "clock" else 0
        self.lasts = round(1 + chance.random() * 2, 2) if verb == "disk" else 0

    def __str__(self):
        more = {"clock": f" by {self.step} s", "disk": f" for {self.lasts} s"}.get(self.verb, "")
        return f"after {self.after} requests and {self.moment} s: {self.verb}{more}" + (f", gateway {self.slot}" if self.verb in ("kill", "restart") else "")


class Plan:
    def __init__(self, seed, mode, jobs, deep):
        chance = random.Random(f"{seed} {mode} {jobs}")
        self.seed, self.mode, self.isDeep = seed, mode, deep
        # Whether gateways take turns.
        self.isOne = mode in ("one", "systemd")
        self.slots = 1 if self.isOne else 3
        self.clients = 24 if deep else 18
        self.asks = [Ask(chance, number, self.clients) for number in range(jobs)]
        counts = {"kill": 50 if deep else 5, "restart": 10 if deep else 2, "clock": 8 if deep else 2, "disk": 1}
        if self.isOne:
            counts["turn"] = 9 if deep else 3
        if mode == "postgres":
            counts["database"] = 5 if deep else 1
        self.events = sorted((Event(chance, chance.randint(jobs // 20, jobs * 9 // 10), verb, self.slots)
                              for verb, count in counts.items() for _ in range(count)), key=lambda event: (event.after, event.moment))

    def show(self, whole):
        kinds = collections.Counter(ask.kind for ask in self.asks)
        text = "\n".join(map(str, [*self.asks, *self.events]))
        print(f"# seed {self.seed}, mode {self.mode}: {len(self.asks)} jobs of {self.clients} clients, "
              f"{sum(ask.others for ask in self.asks)} of them asked for by others too; plan {hashlib.sha256(text.encode()).hexdigest()[:16]}")
        print(f"#   {', '.join(f'{count} {kind}' for kind, count in kinds.most_common())}")
        for event in self.events:
            print(f"#   {event}")
        if whole:
            print(text)
        sys.stdout.flush()
