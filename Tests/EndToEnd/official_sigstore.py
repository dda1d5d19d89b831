"""Run by trust.py in a virtual environment of the official Sigstore client (PyPI `sigstore`).

Makes bundles with an instance of our own into the folder that is the first argument, asks the official client about each, and
prints one JSON list: for each case its name, its files, whom it is said to be signed by, and what the official client says
("ok", or why not). With the second argument `only-make` it does not ask.

Cases whose name starts with `flip`, `drop` or `swap` are made from good ones field by field; the others have a story.
"""
import json
import logging
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "Fixtures"))
from cryptography import x509  # noqa: E402
from cryptography.x509.oid import ExtendedKeyUsageOID  # noqa: E402
from sigstore_instance import (DAY, IDENTITY, ISSUER, MINUTE, NOW, P384, Authority, Instance, TimestampAuthority, at, b64,  # noqa: E402
                               changed, compact, der_of, flipped, new_key, pem_of_key, places, sha256, unb64)

ARTIFACT = b"what is signed\n"
OTHER = b"something else\n"
HOUR = 60 * MINUTE
PROOF = ("verificationMaterial", "tlogEntries", 0, "inclusionProof")
ENTRY = PROOF[:-1]
WRONG_STAMP = "whatever is there must hold, so a wrong time stamp does not pass beside a right clock"


class Cases:
    def __init__(self, folder):
        self.folder, self.made, self.names = folder, [], set()

    def add(self, name, bundle, root, step=None, artifact=ARTIFACT, identity=IDENTITY, issuer=ISSUER, key=None, stricter=None,
            beyond=False):
        """`step`: the code with which ours must refuse, `ok`, or None where only the official client's verdict counts.

        `stricter` says why ours refuses, on purpose, what the official client lets pass; `beyond`: it does not know such bundles.
        """
        assert name not in self.names, name
        self.names.add(name)
        place = os.path.join(self.folder, name)
        os.makedirs(place)
        files = {"artifact": artifact, "bundle.json": bundle if isinstance(bundle, bytes) else json.dumps(bundle).encode(),
                 "trusted_root.json": root if isinstance(root, bytes) else json.dumps(root).encode()}
        if key:
            files["key.pub"] = key
        for file, content in files.items():
            with open(os.path.join(place, file), "wb") as out:
                out.write(content)
        self.made.append({"name": name, "step": step, "identity": identity, "issuer": issuer, "key": bool(key), "stricter": stricter,
                          "beyond": beyond or bool(key)})


def good(instance):
    """The bundles that everything else is made from."""
    return {
        "first": instance.sign(ARTIFACT, leaves=7, index=4),
        "chain": instance.sign(ARTIFACT, version="0.1", leaves=2, index=1),
        "second": instance.sign(ARTIFACT, generation=2, leaves=11, index=6),
        "statement": instance.sign(ARTIFACT, envelope=True, leaves=3, index=2),
        "statement2": instance.sign(ARTIFACT, envelope=True, generation=2),
        "both": instance.sign(ARTIFACT, stamped=True),
    }


def mutations(cases, instance, bases, root):
    others = good(instance)
    for base, bundle in bases.items():
        cases.add(f"good-{base}", bundle, root, "ok")
        # The position of a tree's leaf and the size of the tree: there is one way from a leaf to the root, but several sizes
        # of trees in which it looks alike, and the official client does not compare the size with the signed one.
        for path in places(bundle):
            value, title = at(bundle, path), "-".join(str(part) for part in path)
            stricter = "the tree's size is not the signed one" if path[-1] == "treeSize" else None
            # Beside a clock that holds, the official client passes over another one that does not.
            if base == "both" and "timestampVerificationData" in path:
                stricter = WRONG_STAMP
            untimed = "the log's promise covers its time, which is not there" if path[-1] == "integratedTime" else None
            if isinstance(value, str):
                cases.add(f"flip-{base}-{title}", changed(bundle, path, flipped(value)), root, stricter=stricter)
            cases.add(f"drop-{base}-{title}", changed(bundle, path, None), root, stricter=untimed)
            try:
                other = at(others[base], path)
            except (KeyError, IndexError):
                continue
            if other != value:
                cases.add(f"swap-{base}-{title}", changed(bundle, path, other), root, stricter=stricter)


def artifacts_and_names(cases, instance, bases, root):
    cases.add("another-artifact", bases["first"], root, "signature-mismatch", artifact=OTHER)
    cases.add("another-artifact-statement", bases["statement"], root, "signature-mismatch", artifact=OTHER)
    cases.add("an-empty-artifact", instance.sign(b""), root, "ok", artifact=b"")
    cases.add("wrong-identity", bases["first"], root, "signature-identity-refused", identity=IDENTITY.replace("acme", "evil"))
    cases.add("identity-prefix", bases["first"], root, "signature-identity-refused", identity=IDENTITY[:-1])
    cases.add("wrong-issuer", bases["first"], root, "signature-identity-refused", issuer="https://accounts.example.org")
    # The same to a reader, other bytes.
    composed, apart = "https://accounts.example.org/\u00e9", "https://accounts.example.org/e\u0301"
    cases.add("issuer-of-the-same-bytes", instance.sign(ARTIFACT, issuer=composed), root, "ok", issuer=composed)
    cases.add("issuer-of-other-bytes", instance.sign(ARTIFACT, issuer=composed), root, "signature-identity-refused", issuer=apart)
    cases.add("issuer-that-steers-a-terminal", instance.sign(ARTIFACT, issuer="https://a\x1b]0;b\x07"), root, "signature-identity-refused")
    cases.add("name-that-steers-a-terminal", instance.sign(ARTIFACT, names=[x509.UniformResourceIdentifier("https://a\x1b[2Jb")]), root,
              "signature-identity-refused")
    for form in ("1", "18"):
        cases.add(f"issuer-form-{form}", instance.sign(ARTIFACT, issuer_form=form), root, "ok")
    cases.add("no-issuer", instance.sign(ARTIFACT, issuer=None), root, "signature-identity-refused")
    mail, other = x509.RFC822Name("anna@example.org"), x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), b"\x0c\x03bob")
    cases.add("by-mail", instance.sign(ARTIFACT, names=[mail]), root, "ok", identity="anna@example.org")
    cases.add("by-mail-of-another", instance.sign(ARTIFACT, names=[mail]), root, "signature-identity-refused", identity="bob@example.org")
    cases.add("host-name", instance.sign(ARTIFACT, names=[x509.DNSName("example.org")]), root, "signature-identity-refused",
              identity="example.org")
    cases.add("other-name-of-another", instance.sign(ARTIFACT, names=[mail, other]), root, "signature-identity-refused", identity="eve")
    cases.add("no-names", instance.sign(ARTIFACT, names=[]), root)


def certificates(cases, instance, root):
    def add(name, step, **options):
        cases.add(f"certificate-{name}", instance.sign(ARTIFACT, **options), root, step)
    chain, usage, log = "signature-certificate-untrusted", "signature-certificate-misused", "signature-certificate-unlogged"
    add("expired", chain, start=NOW - 2 * HOUR, end=NOW - HOUR)
    add("not-yet-valid", chain, start=NOW + HOUR, end=NOW + 2 * HOUR)
    add("valid-until-then", "ok", end=NOW)
    add("valid-from-then", "ok", start=NOW)
    add("for-servers", usage, purposes=[ExtendedKeyUsageOID.SERVER_AUTH])
    add("for-two-uses", "ok", purposes=[ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.CLIENT_AUTH])
    add("for-nothing", usage, purposes=[])
    add("not-for-signatures", usage, key_usage=False)
    add("an-authority", None, is_authority=True)
    add("unlogged", log, sct="none")
    add("logged-wrongly", log, sct="altered")
    add("logged-twice", log, sct="twice")
    add("logged-by-another", log, sct_key=new_key())
    add("logged-with-extensions", "ok", sct_extensions=b"\x00\x00\x05\x01\x02\x03\x04\x05")
    add("log-with-another-identifier", "ok", sct_identifier=b"x" * 32)
    add("unknown-and-critical", chain, unknown_critical=True)
    add("of-p384", "ok", key_kind=P384)
    stranger = Authority.root("stranger").intermediate("stranger")
    add("of-a-stranger", chain, authority=stranger)
    namesake = Authority.root("test-root").intermediate("test-intermediate")
    add("of-a-namesake", chain, authority=namesake)
    short = instance.root.intermediate("test-intermediate", start=NOW - 20 * DAY, end=NOW - 10 * DAY)
    replaced = changed(root, ("certificateAuthorities", 0, "certChain", "certificates", 0, "rawBytes"), b64(der_of(short.certificate)))
    cases.add("certificate-of-an-expired-authority", instance.sign(ARTIFACT, authority=short), replaced, chain)
    leaf = new_key()
    below = Authority(instance.leaf(leaf.public_key()), leaf)
    add("of-a-leaf", chain, authority=below)
    brought = instance.sign(ARTIFACT, version="0.2")
    path = ("verificationMaterial", "x509CertificateChain", "certificates")
    extra = [*at(brought, path), {"rawBytes": b64(der_of(instance.authority.certificate))}]
    cases.add("certificate-with-its-issuer", changed(brought, path, extra), root, "ok")
    cases.add("certificate-behind-its-issuer", changed(brought, path, extra[::-1]), root)
    cases.add("certificate-with-its-root", changed(brought, path, [*extra, {"rawBytes": b64(der_of(instance.root.certificate))}]), root,
              "signature-bundle-invalid", stricter="a bundle must not bring a root certificate (conformance case bundle-with-root-cert)")
    raw = bytearray(unb64(at(brought, (*path, 0, "rawBytes"))))
    for place in range(40, len(raw), len(raw) // 24):
        altered = bytes(raw[:place]) + bytes([raw[place] ^ 1]) + bytes(raw[place + 1:])
        cases.add(f"certificate-altered-at-{place}", changed(brought, (*path, 0, "rawBytes"), b64(altered)), root)


def logs(cases, instance, bases, root):
    unproven, binding = "signature-log-unproven", "signature-log-mismatch"
    stranger = new_key()
    for size, index in ((1, 0), (2, 0), (2, 1), (3, 2), (8, 0), (8, 7), (9, 8), (13, 5), (64, 63), (100, 37)):
        cases.add(f"tree-{index}-of-{size}", instance.sign(ARTIFACT, leaves=size, index=index), root, "ok")
    for base in ("first", "second"):
        bundle = bases[base]
        hashes = at(bundle, (*PROOF, "hashes"))
        for name, altered in {"truncated": hashes[:-1], "headless": hashes[1:], "empty": [], "longer": [*hashes, hashes[0]],
                              "reversed": hashes[::-1]}.items():
            cases.add(f"proof-{name}-{base}", changed(bundle, (*PROOF, "hashes"), altered), root, unproven)
        cases.add(f"no-proof-{base}", changed(bundle, PROOF, None), root, "signature-bundle-invalid")
        entries = at(bundle, ENTRY[:-1])
        cases.add(f"two-entries-{base}", changed(bundle, ENTRY[:-1], entries * 2), root, "signature-bundle-invalid")
        cases.add(f"no-entry-{base}", changed(bundle, ENTRY[:-1], []), root, "signature-bundle-invalid")
    for generation in (1, 2):
        def add(name, step, **options):
            cases.add(f"log{generation}-{name}", instance.sign(ARTIFACT, generation=generation, **options), root, step)
        add("checkpoint-of-another-key", unproven, checkpoint_key=stranger if generation == 1 else new_key("ed25519"))
        add("checkpoint-of-another-origin", "ok", origin="elsewhere.test")
        add("checkpoint-with-more-lines", "ok", extra=("Timestamp: 17",))
        add("entry-of-another-artifact", binding, body_artifact=OTHER)
        add("entry-of-another-signature", binding, body_signature=b"0123456789")
        add("entry-of-another-certificate", binding, body_leaf=instance.leaf(stranger.public_key()))
        add("signature-of-another-key", "signature-mismatch", signed=unb64(bases["first"]["messageSignature"]["signature"]))
        bundle = instance.sign(ARTIFACT, generation=generation, leaves=3)
        envelope = at(bundle, (*PROOF, "checkpoint", "envelope"))
        path = (*PROOF, "checkpoint", "envelope")
        note, lines = envelope.split("\n\n")
        log = instance.logs[generation]
        witness = log.line(note + "\n", key=new_key("ed25519"), name="witness.test", hint=b"wit1")
        for name, altered, step in (
                ("witness-first", f"{note}\n\n{witness}{lines}", "ok"), ("witness-last", f"{note}\n\n{lines}{witness}", "ok"),
                ("only-a-witness", f"{note}\n\n{witness}", unproven), ("signed-twice", f"{note}\n\n{lines}{lines}", "ok"),
                ("no-signature", f"{note}\n\n", "signature-bundle-invalid"), ("no-origin", envelope.split("\n", 1)[1], "signature-bundle-invalid"),
                ("altered-note", envelope.replace("\n3\n", "\n4\n"), unproven), ("another-hint",
                 f"{note}\n\n{log.line(note + chr(10), hint=b'hint')}", unproven)):
            cases.add(f"log{generation}-{name}", changed(bundle, path, altered), root, step)
    cases.add("promise-of-another-key", instance.sign(ARTIFACT, promise_key=stranger), root, unproven)
    cases.add("promise-only", changed(bases["chain"], PROOF, None), root, "signature-bundle-invalid")
    cases.add("promise-only-with-proof-without-checkpoint", changed(bases["chain"], (*PROOF, "checkpoint"), None), root, "signature-bundle-invalid")
    cases.add("no-promise-no-stamp", instance.sign(ARTIFACT, promised=False), root, "signature-bundle-invalid")
    cases.add("first-log-with-stamp-only", instance.sign(ARTIFACT, promised=False, stamped=True), root, "ok")
    cases.add("second-log-without-stamp", instance.sign(ARTIFACT, generation=2, stamped=False), root, "signature-bundle-invalid")
    cases.add("signed-before-the-certificate", instance.sign(ARTIFACT, time=NOW - 2 * MINUTE), root, "signature-certificate-untrusted")
    cases.add("signed-after-the-certificate", instance.sign(ARTIFACT, time=NOW + 10 * MINUTE), root, "signature-certificate-untrusted")


def stamps(cases, instance, root):
    unproven, chain = "signature-time-unproven", "signature-certificate-untrusted"
    for name, step, options in (
            ("embedded-not", "ok", {"embed": False}), ("of-sha384", "ok", {"algorithm": "sha384"}), ("of-sha512", "ok", {"algorithm": "sha512"}),
            ("with-fraction", "ok", {"fraction": ".25"}), ("of-another-key", unproven, {"key": new_key()}),
            ("of-another-signature", unproven, {"imprint": sha256(b"other")}), ("rejected", None, {"status": 2}),
            ("before-the-certificate", chain, {"time": NOW - HOUR}), ("after-the-certificate", chain, {"time": NOW + HOUR}),
            ("before-the-authority", unproven, {"time": NOW - 40 * DAY}), ("after-the-authority", unproven, {"time": NOW + 2000 * DAY})):
        cases.add(f"stamp-{name}", instance.sign(ARTIFACT, generation=2, stamp_options=options), root, step)
    cases.add("stamp-twice", instance.sign(ARTIFACT, generation=2, stamp_options=[{}, {}]), root)
    cases.add("stamp-and-another-later", instance.sign(ARTIFACT, generation=2, stamp_options=[{}, {"time": NOW + MINUTE}]), root, "ok")
    cases.add("stamp-and-a-wrong-one", instance.sign(ARTIFACT, generation=2, stamp_options=[{}, {"key": new_key()}]), root, unproven,
              stricter=WRONG_STAMP)
    for name, options in (("of-a-stranger", {"key": new_key()}), ("of-another-signature", {"imprint": sha256(b"other")})):
        cases.add(f"promise-and-a-stamp-{name}", instance.sign(ARTIFACT, stamped=True, stamp_options=options), root, unproven, stricter=WRONG_STAMP)
    cases.add("stamp-and-one-outside", instance.sign(ARTIFACT, generation=2, stamp_options=[{}, {"time": NOW + HOUR}]), root, chain)
    cases.add("stamp-of-noise", instance.sign(ARTIFACT, generation=2, stamp_options=[b"\x30\x03\x02\x01\x00"]), root, unproven)
    token = instance.timestamps.answer(b"x", NOW)
    cases.add("stamp-cut-off", instance.sign(ARTIFACT, generation=2, stamp_options=[token[:-7]]), root, unproven)
    for place in range(5, len(token) - 1, len(token) // 40):
        bundle = instance.sign(ARTIFACT, generation=2)
        path = ("verificationMaterial", "timestampVerificationData", "rfc3161Timestamps", 0, "signedTimestamp")
        altered = bytearray(unb64(at(bundle, path)))
        # A signature's length differs by a byte or two from one to the next.
        altered[min(place, len(altered) - 1)] ^= 1
        cases.add(f"stamp-altered-at-{place}", changed(bundle, path, b64(bytes(altered))), root)
    cases.add("stamp-for-nobody", instance.sign(ARTIFACT, stamped=True), {**root, "timestampAuthorities": []}, unproven)
    for name, options, step in (("uncritical", {"critical": False}, unproven),
                                ("for-servers", {"purpose": ExtendedKeyUsageOID.SERVER_AUTH}, unproven),
                                ("expired", {"end": NOW - DAY}, unproven)):
        other = Instance.__new__(Instance)
        other.__dict__.update(instance.__dict__)
        above = instance.timestamps.root
        other.timestamps = TimestampAuthority(above, above.stamper("test-tsa", **options))
        cases.add(f"stamper-{name}", other.sign(ARTIFACT, generation=2), {**root, "timestampAuthorities": [other.timestamps.trusted()]}, step)
    ended = {**root, "timestampAuthorities": [instance.timestamps.trusted(end=NOW - DAY)]}
    cases.add("stamper-no-longer-trusted", instance.sign(ARTIFACT, generation=2), ended, unproven)


def statements(cases, instance, bases, root):
    mismatch, invalid = "signature-mismatch", "signature-bundle-invalid"
    digest = sha256(ARTIFACT).hex()
    subject = {"name": "artifact", "digest": {"sha256": digest}}
    base = {"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://example.org/p", "predicate": {}, "subject": [subject]}
    for generation in (1, 2):
        def add(name, step, **options):
            cases.add(f"statement{generation}-{name}", instance.sign(ARTIFACT, generation=generation, envelope=True, **options), root, step)
        many = [{"name": f"file{number}", "digest": {"sha256": sha256(b"%d" % number).hex()}} for number in range(50)]
        add("about-many", "ok", statement={**base, "subject": [*many, subject]})
        add("about-others", mismatch, statement={**base, "subject": many})
        add("about-nothing", mismatch, statement={**base, "subject": []})
        add("of-another-type", mismatch, statement={**base, "_type": "https://example.org/Statement"})
        add("not-json", mismatch, statement=b"no statement")
        add("of-another-payload-type", mismatch, payload_type="text/plain")
        bundle = instance.sign(ARTIFACT, generation=generation, envelope=True)
        signatures = bundle["dsseEnvelope"]["signatures"]
        cases.add(f"statement{generation}-signed-twice", changed(bundle, ("dsseEnvelope", "signatures"), signatures * 2), root, invalid)
        cases.add(f"statement{generation}-unsigned", changed(bundle, ("dsseEnvelope", "signatures"), []), root, invalid)
        altered = b64(compact({**base, "predicate": {"altered": True}}))
        cases.add(f"statement{generation}-altered", changed(bundle, ("dsseEnvelope", "payload"), altered), root, mismatch)
    message = {**bases["first"], "dsseEnvelope": bases["statement"]["dsseEnvelope"]}
    cases.add("statement-and-message", message, root, invalid)
    crossed = changed(bases["first"], ENTRY, at(bases["statement"], ENTRY))
    cases.add("message-with-the-entry-of-a-statement", crossed, root)


def roots(cases, instance, bases, root):
    invalid = "trust-root-invalid"
    stranger = Instance()
    strange = stranger.trusted_root()
    for name, step in (("tlogs", "signature-log-unproven"), ("ctlogs", "signature-certificate-unlogged"),
                       ("certificateAuthorities", "signature-certificate-untrusted")):
        cases.add(f"root-with-other-{name}", bases["first"], {**root, name: strange[name]}, step)
        cases.add(f"root-with-more-{name}", bases["first"], {**root, name: [*strange[name], *root[name]]}, "ok")
        cases.add(f"root-without-{name}", bases["first"], {**root, name: []})
    cases.add("root-with-other-timestampAuthorities", bases["second"], {**root, "timestampAuthorities": strange["timestampAuthorities"]},
              "signature-time-unproven")
    cases.add("root-that-is-no-json", bases["first"], b"{", invalid)
    cases.add("root-of-another-type", bases["first"], {**root, "mediaType": "application/json"}, invalid)
    for name in root:
        cases.add(f"root-lacks-{name}", bases["first"], changed(root, (name,), None))
    key = ("tlogs", 0, "publicKey")
    cases.add("root-with-an-altered-log-key", bases["first"], changed(root, (*key, "rawBytes"), flipped(root["tlogs"][0]["publicKey"]["rawBytes"])))
    cases.add("root-with-unknown-key-kind", bases["first"], changed(root, (*key, "keyDetails"), "PKIX_NOTHING"))
    cases.add("root-with-open-start", bases["first"], changed(root, (*key, "validFor"), {}), invalid)
    cases.add("root-log-until-then", bases["first"], instance.trusted_root(end=NOW), "ok")
    # The client specification asks for these comparisons; the official client does not make them.
    spec = "the trust root says that it was not in use then"
    cases.add("root-log-ended", bases["first"], instance.trusted_root(end=NOW - DAY), "signature-log-unproven", stricter=spec)
    cases.add("root-authority-ended", bases["first"], instance.trusted_root(authority_end=NOW - DAY), "signature-certificate-untrusted", stricter=spec)
    later = {**root, "ctlogs": [instance.certificate_log.trusted(end=NOW - DAY)]}
    cases.add("root-certificate-log-ended", bases["first"], later, "signature-certificate-unlogged", stricter=spec)
    for kind in ("rsa", "ed25519"):
        other = Instance(log_kind=kind)
        cases.add(f"log-key-{kind}", other.sign(ARTIFACT, leaves=5), other.trusted_root(), "ok")
    other = Instance(ct_kind="rsa", authority_kind="rsa")
    cases.add("authority-and-certificate-log-with-rsa", other.sign(ARTIFACT), other.trusted_root(), "ok")


def shapes(cases, bases, root):
    invalid = "signature-bundle-invalid"
    bundle = bases["first"]
    for name, text in {"empty": b"", "cut-off": json.dumps(bundle).encode()[:-40], "array": b"[]", "null": b"null",
                       "not-utf8": json.dumps(bundle).encode().replace(b"hashedrekord", b"hashedrek\xffrd")}.items():
        cases.add(f"bundle-{name}", text, root, invalid)
    cases.add("bundle-with-more", {**bundle, "more": 1}, root, invalid)
    cases.add("bundle-of-version-0.4", {**bundle, "mediaType": "application/vnd.dev.sigstore.bundle.v0.4+json"}, root, invalid)
    cases.add("bundle-0.3-old-type", {**bundle, "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.3"}, root, "ok")
    cases.add("bundle-0.3-as-0.2", {**bundle, "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.2"}, root, invalid)
    for version in ("0.1", "0.2"):
        cases.add(f"bundle-{version}", changed(bases["chain"], ("mediaType",), f"application/vnd.dev.sigstore.bundle+json;version={version}"), root, "ok")
    cases.add("bundle-without-digest", changed(bundle, ("messageSignature", "messageDigest"), None), root, "ok")
    cases.add("bundle-index-as-number", changed(bundle, (*ENTRY, "logIndex"), 1003), root, invalid)
    lines = "\n".join(bundle["messageSignature"]["signature"][start:start + 30] for start in range(0, 200, 30)).strip()
    cases.add("bundle-signature-in-lines", changed(bundle, ("messageSignature", "signature"), lines), root, "ok")


def beyond(cases, instance, root):
    """What the official client does not know: here our own table decides."""
    binding, mismatch = "signature-log-mismatch", "signature-mismatch"
    for kind in ("rsa", "ed25519"):
        bundle = instance.sign(ARTIFACT, key_kind=kind)
        cases.add(f"certificate-with-{kind}", bundle, root, "ok", beyond=True)
        cases.add(f"certificate-with-{kind}-another-artifact", bundle, root, mismatch, artifact=OTHER, beyond=True)
        cases.add(f"certificate-with-{kind}-statement", instance.sign(ARTIFACT, key_kind=kind, envelope=True), root, "ok", beyond=True)
    for generation, kind in ((1, "intoto"), (2, "dsse")):
        def add(name, step, **options):
            bundle = instance.sign(ARTIFACT, envelope=True, generation=generation, entry_kind=kind, **options)
            cases.add(f"entry-{kind}-{name}", bundle, root, step, beyond=True)
        add("good", "ok")
        add("of-another-signature", binding, body_signature=b"0123456789")
        add("of-another-certificate", binding, body_leaf=instance.leaf(new_key().public_key()))
        bundle = instance.sign(ARTIFACT, envelope=True, generation=generation, entry_kind=kind)
        other = instance.sign(OTHER, envelope=True, generation=generation, entry_kind=kind)
        cases.add(f"entry-{kind}-of-another-statement", changed(bundle, ("dsseEnvelope",), other["dsseEnvelope"]), root, None, artifact=OTHER, beyond=True)
    for name, kind in (("p256", None), ("p384", P384), ("rsa", "rsa"), ("ed25519", "ed25519")):
        key = new_key(kind) if kind else new_key()
        bundle = instance.sign(ARTIFACT, managed=key)
        cases.add(f"key-{name}", bundle, root, "ok", key=pem_of_key(key))
        cases.add(f"key-{name}-another", bundle, root, "signature-mismatch", key=pem_of_key(new_key(kind) if kind else new_key()))
        cases.add(f"key-{name}-another-artifact", bundle, root, "signature-mismatch", artifact=OTHER, key=pem_of_key(key))
        cases.add(f"key-{name}-statement", instance.sign(ARTIFACT, managed=key, envelope=True), root, "ok", key=pem_of_key(key))
        cases.add(f"key-{name}-second-log", instance.sign(ARTIFACT, managed=key, generation=2), root, "ok", key=pem_of_key(key))
    cases.add("key-for-a-certificate", instance.sign(ARTIFACT), root, "signature-key-refused", key=pem_of_key(new_key()))
    cases.add("key-that-is-none", instance.sign(ARTIFACT, managed=new_key()), root, "signature-key-refused", key=b"no key\n")


def verdict(folder, case):
    from sigstore import dsse
    from sigstore.hashes import Hashed
    from sigstore.models import Bundle, TrustedRoot
    from sigstore.verify import Verifier, policy
    from sigstore_models.common.v1 import HashAlgorithm

    def read(name):
        with open(os.path.join(folder, case["name"], name), "rb") as source:
            return source.read()

    try:
        verifier = Verifier(trusted_root=TrustedRoot.from_file(os.path.join(folder, case["name"], "trusted_root.json")))
        bundle, artifact = Bundle.from_json(read("bundle.json")), read("artifact")
        wanted = policy.Identity(identity=case["identity"], issuer=case["issuer"])
        # As its command line does (sigstore/_cli.py).
        if bundle._dsse_envelope:
            kind, payload = verifier.verify_dsse(bundle, wanted)
            if kind != dsse.Envelope._TYPE:
                return "not a statement"
            if not dsse.Statement(payload)._matches_digest(Hashed(digest=sha256(artifact), algorithm=HashAlgorithm.SHA2_256)):
                return "no subject"
        else:
            verifier.verify_artifact(artifact, bundle, wanted)
        return "ok"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is no yes
        return f"{type(error).__name__}: {str(error)[:200]}"


def main():
    logging.disable(logging.CRITICAL)
    folder = sys.argv[1]
    cases, instance = Cases(folder), Instance()
    root, bases = instance.trusted_root(), good(instance)
    mutations(cases, instance, bases, root)
    artifacts_and_names(cases, instance, bases, root)
    certificates(cases, instance, root)
    logs(cases, instance, bases, root)
    stamps(cases, instance, root)
    statements(cases, instance, bases, root)
    roots(cases, instance, bases, root)
    shapes(cases, bases, root)
    beyond(cases, instance, root)
    for case in cases.made:
        case["official"] = None if case["beyond"] else verdict(folder, case)
    json.dump(cases.made, sys.stdout)


main()
