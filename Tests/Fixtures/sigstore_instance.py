"""A Sigstore instance of our own, for tests: certificate authority, certificate log, both generations of transparency logs, and
a time-stamp authority. It signs like the real one, and on request wrongly.

Needs the Python package `cryptography`, which the package `sigstore` brings.

    instance = Instance()
    bundle = instance.sign(b"artifact")                    # of version 0.3, in a log of the first generation
    bundle = instance.sign(b"artifact", generation=2)      # with a time stamp
    root = instance.trusted_root()
"""
import base64
import copy
import datetime
import hashlib
import json

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

IDENTITY = "https://github.com/acme/tool/.github/workflows/release.yml@refs/tags/v1.0.0"
ISSUER = "https://token.actions.githubusercontent.com"
# The instance lives at a time of its own: nothing here depends on the day on which the tests run.
NOW = datetime.datetime(2026, 3, 1, 12, 0, 0, tzinfo=datetime.timezone.utc)
DAY, MINUTE = datetime.timedelta(days=1), datetime.timedelta(minutes=1)

SCT_LIST = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
P256, P384 = ec.SECP256R1, ec.SECP384R1


def b64(data):
    return base64.b64encode(data).decode()


def unb64(text):
    return base64.b64decode(text)


def sha256(data):
    return hashlib.sha256(data).digest()


def compact(value):
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def new_key(kind=P256):
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(kind())


def info(key):
    """The public half with its algorithm, in DER."""
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def pem_of_key(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def der_of(certificate):
    return certificate.public_bytes(serialization.Encoding.DER)


def signature(key, data, hash_=None):
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hash_ or hashes.SHA256())
    return key.sign(data, ec.ECDSA(hash_ or hashes.SHA256()))


def details(key):
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "PKIX_ED25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return "PKIX_RSA_PKCS1V15_2048_SHA256"
    return "PKIX_ECDSA_P256_SHA_256" if isinstance(key.curve, P256) else "PKIX_ECDSA_P384_SHA_384"


# --------------------------------------------------------------------------------------------------------------------
# ASN.1


def der(tag, *parts):
    content = b"".join(parts)
    if len(content) < 128:
        return bytes([tag, len(content)]) + content
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


def sequence(*parts):
    return der(0x30, *parts)


def integer(value):
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def identifier(text):
    numbers = [int(part) for part in text.split(".")]
    out = bytes([numbers[0] * 40 + numbers[1]])
    for number in numbers[2:]:
        digits = [number & 127]
        while number := number >> 7:
            digits.append(number & 127 | 128)
        out += bytes(reversed(digits))
    return der(0x06, out)


HASHES = {"sha256": "2.16.840.1.101.3.4.2.1", "sha384": "2.16.840.1.101.3.4.2.2", "sha512": "2.16.840.1.101.3.4.2.3"}
TST_INFO = "1.2.840.113549.1.9.16.1.4"


# --------------------------------------------------------------------------------------------------------------------
# Merkle trees (RFC 9162 section 2.1)


def split(count):
    power = 1
    while power * 2 < count:
        power *= 2
    return power


def tree_root(leaves):
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0])
    middle = split(len(leaves))
    return sha256(b"\1" + tree_root(leaves[:middle]) + tree_root(leaves[middle:]))


def tree_path(index, leaves):
    if len(leaves) == 1:
        return []
    middle = split(len(leaves))
    if index < middle:
        return tree_path(index, leaves[:middle]) + [tree_root(leaves[middle:])]
    return tree_path(index - middle, leaves[middle:]) + [tree_root(leaves[:middle])]


# --------------------------------------------------------------------------------------------------------------------
# the instance


class Log:
    """A transparency log of the first or second generation, or a certificate log."""

    def __init__(self, origin, key, generation=1):
        self.origin, self.key, self.generation = origin, key, generation
        raw = key.public_key().public_bytes_raw() if isinstance(key, ed25519.Ed25519PrivateKey) else b""
        # The identifier of a signed note's key, or of a certificate log's.
        self.identifier = sha256(origin.encode() + b"\n\x01" + raw) if generation == 2 else sha256(info(key))

    def checkpoint(self, size, root, key=None, origin=None, extra=()):
        note = "".join(f"{line}\n" for line in (origin or self.origin, size, b64(root), *extra))
        return note, note + f"\n{self.line(note, key)}"

    def line(self, note, key=None, name=None, hint=None):
        mark = self.identifier[:4] if hint is None else hint
        return f"\u2014 {name or self.origin.split(' ')[0]} {b64(mark + signature(key or self.key, note.encode()))}\n"

    def trusted(self, start=NOW - 30 * DAY, end=None):
        validity = {"start": stamp(start)} | ({"end": stamp(end)} if end else {})
        return {"baseUrl": f"https://{self.origin.split(' ')[0]}", "hashAlgorithm": "SHA2_256",
                "publicKey": {"rawBytes": b64(info(self.key)), "keyDetails": details(self.key), "validFor": validity},
                "logId": {"keyId": b64(self.identifier)}}


def stamp(time):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def name(common):
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "test"), x509.NameAttribute(NameOID.COMMON_NAME, common)])


def usage(**allowed):
    every = dict.fromkeys(["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
                           "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"], False)
    return x509.KeyUsage(**(every | allowed))


class Authority:
    """A certificate and the key that goes with it, able to issue more."""

    serial = 1000

    def __init__(self, certificate, key):
        self.certificate, self.key = certificate, key

    @staticmethod
    def builder(subject, issuer, public, authority, start, end):
        Authority.serial += 1
        return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
                .serial_number(Authority.serial).not_valid_before(start).not_valid_after(end)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), False))

    @classmethod
    def root(cls, common, kind=P384, start=NOW - 60 * DAY, end=NOW + 3650 * DAY):
        key = new_key(kind)
        certificate = (cls.builder(name(common), name(common), key.public_key(), key.public_key(), start, end)
                       .add_extension(x509.BasicConstraints(True, None), True)
                       .add_extension(usage(key_cert_sign=True, crl_sign=True), True).sign(key, hashes.SHA256()))
        return cls(certificate, key)

    def intermediate(self, common, kind=P384, start=NOW - 60 * DAY, end=NOW + 1800 * DAY, purposes=(ExtendedKeyUsageOID.CODE_SIGNING,)):
        key = new_key(kind)
        builder = (self.builder(name(common), self.certificate.subject, key.public_key(), self.key.public_key(), start, end)
                   .add_extension(x509.BasicConstraints(True, 0), True)
                   .add_extension(usage(key_cert_sign=True, crl_sign=True), True))
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), False)
        return Authority(builder.sign(self.key, hashes.SHA256()), key)

    def stamper(self, common, start=NOW - 60 * DAY, end=NOW + 1800 * DAY, critical=True, purpose=ExtendedKeyUsageOID.TIME_STAMPING):
        key = new_key()
        builder = (self.builder(name(common), self.certificate.subject, key.public_key(), self.key.public_key(), start, end)
                   .add_extension(usage(digital_signature=True), True)
                   .add_extension(x509.ExtendedKeyUsage([purpose]), critical))
        return Authority(builder.sign(self.key, hashes.SHA256()), key)


class TimestampAuthority:
    def __init__(self, root, stamper):
        self.root, self.stamper = root, stamper

    def answer(self, message, time, embed=True, algorithm="sha256", key=None, imprint=None, fraction="", status=0):
        """A time stamp over a message (RFC 3161), in DER."""
        certificate = self.stamper.certificate
        digest = hashlib.new(algorithm, message).digest() if imprint is None else imprint
        statement = sequence(integer(1), identifier("1.3.6.1.4.1.57264.2"),
                             sequence(sequence(identifier(HASHES[algorithm]), b"\x05\x00"), der(0x04, digest)),
                             integer(77), der(0x18, time.strftime("%Y%m%d%H%M%S").encode() + fraction.encode() + b"Z"))
        sha = sequence(identifier(HASHES["sha256"]))
        attributes = sorted([
            sequence(identifier("1.2.840.113549.1.9.3"), der(0x31, identifier(TST_INFO))),
            sequence(identifier("1.2.840.113549.1.9.4"), der(0x31, der(0x04, sha256(statement)))),
            sequence(identifier("1.2.840.113549.1.9.16.2.47"),
                     der(0x31, sequence(sequence(sequence(der(0x04, sha256(der_of(certificate)))))))),
        ])
        signed = signature(key or self.stamper.key, der(0x31, *attributes))
        signer = sequence(integer(1), sequence(certificate.issuer.public_bytes(), integer(certificate.serial_number)), sha,
                          der(0xA0, *attributes), sequence(identifier("1.2.840.10045.4.3.2")), der(0x04, signed))
        data = sequence(integer(3), der(0x31, sha), sequence(identifier(TST_INFO), der(0xA0, der(0x04, statement))),
                        der(0xA0, der_of(certificate)) if embed else b"", der(0x31, signer))
        token = sequence(identifier("1.2.840.113549.1.7.2"), der(0xA0, data))
        return sequence(sequence(integer(status)), token)

    def trusted(self, start=NOW - 30 * DAY, end=None):
        return {"subject": {"organization": "test", "commonName": "test-tsa"}, "uri": "https://tsa.test",
                "certChain": {"certificates": [{"rawBytes": b64(der_of(one.certificate))} for one in (self.stamper, self.root)]},
                "validFor": {"start": stamp(start)} | ({"end": stamp(end)} if end else {})}


class Instance:
    def __init__(self, log_kind=P256, ct_kind=P256, authority_kind=P384):
        self.root = Authority.root("test-root", authority_kind)
        self.authority = self.root.intermediate("test-intermediate", authority_kind)
        self.certificate_log = Log("ct.test", new_key(ct_kind))
        self.logs = {1: Log("rekor.test - 1", new_key(log_kind)), 2: Log("log.rekor.test", new_key("ed25519"), generation=2)}
        stamping = Authority.root("test-tsa-root")
        self.timestamps = TimestampAuthority(stamping, stamping.stamper("test-tsa"))

    def trusted_root(self, authority_end=None, **logs):
        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self.logs[1].trusted(**logs), self.logs[2].trusted(**logs)],
            "certificateAuthorities": [{
                "subject": {"organization": "test", "commonName": "test-fulcio"}, "uri": "https://fulcio.test",
                "certChain": {"certificates": [{"rawBytes": b64(der_of(one.certificate))} for one in (self.authority, self.root)]},
                "validFor": {"start": stamp(NOW - 30 * DAY)} | ({"end": stamp(authority_end)} if authority_end else {}),
            }],
            "ctlogs": [self.certificate_log.trusted()],
            "timestampAuthorities": [self.timestamps.trusted()],
        }

    def leaf(self, public, identity=IDENTITY, issuer=ISSUER, start=NOW - MINUTE, end=NOW + 9 * MINUTE, purposes=(ExtendedKeyUsageOID.CODE_SIGNING,),
             key_usage=True, names=None, is_authority=False, issuer_form=("1", "8"), sct="good", sct_key=None, sct_time=NOW,
             sct_extensions=b"", authority=None, unknown_critical=False, sct_identifier=None):
        """A signer's certificate; `sct` is good, none, twice or altered."""
        authority = authority or self.authority
        builder = Authority.builder(x509.Name([]), authority.certificate.subject, public, authority.key.public_key(), start, end)
        builder = builder.add_extension(usage(digital_signature=key_usage, key_agreement=not key_usage), True)
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), False)
        if is_authority:
            builder = builder.add_extension(x509.BasicConstraints(True, None), True)
        names = [x509.UniformResourceIdentifier(identity)] if names is None else names
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), True)
        if issuer is not None and "1" in issuer_form:
            builder = builder.add_extension(x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.57264.1.1"), issuer.encode()), False)
        if issuer is not None and "8" in issuer_form:
            text = der(0x0C, issuer.encode())
            builder = builder.add_extension(x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.57264.1.8"), text), False)
        if unknown_critical:
            builder = builder.add_extension(x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.57264.9.9"), b"\x05\x00"), True)
        if sct != "none":
            before = builder.sign(authority.key, hashes.SHA256()).tbs_certificate_bytes
            time = int(sct_time.timestamp() * 1000).to_bytes(8, "big")
            extensions = len(sct_extensions).to_bytes(2, "big") + sct_extensions
            message = (b"\0\0" + time + b"\0\1" + sha256(info(authority.key)) + len(before).to_bytes(3, "big") + before + extensions)
            key = sct_key or self.certificate_log.key
            signed = signature(key, message)
            if sct == "altered":
                signed = signature(key, message + b"x")
            kind = 1 if isinstance(key, rsa.RSAPrivateKey) else 3
            one = (b"\0" + (sct_identifier or self.certificate_log.identifier) + time + extensions + bytes([4, kind])
                   + len(signed).to_bytes(2, "big") + signed)
            every = (len(one).to_bytes(2, "big") + one) * (2 if sct == "twice" else 1)
            builder = builder.add_extension(
                x509.UnrecognizedExtension(SCT_LIST, der(0x04, len(every).to_bytes(2, "big") + every)), False)
        return builder.sign(authority.key, hashes.SHA256())

    def sign(self, artifact, generation=1, version=None, envelope=False, key_kind=P256, time=NOW, leaves=1, index=None, stamped=None,
             promised=None, managed=None, statement=None, payload_type="application/vnd.in-toto+json", entry_kind=None,
             body=None, body_artifact=None, body_signature=None, body_leaf=None, stamp_options=None, promise_time=None,
             promise_key=None, checkpoint_key=None, origin=None, extra=(), signed=None, **leaf_options):
        """A bundle over an artifact, or over a statement about it; everything that is not said is right."""
        key = managed or new_key(key_kind)
        leaf = None if managed else self.leaf(key.public_key(), **leaf_options)
        log = self.logs[generation]
        if envelope:
            statement = statement or {"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://example.org/p", "predicate": {},
                                      "subject": [{"name": "artifact", "digest": {"sha256": hashlib.sha256(artifact).hexdigest()}}]}
            payload = statement if isinstance(statement, bytes) else compact(statement)
            message = b"DSSEv1 %d %s %d %s" % (len(payload_type), payload_type.encode(), len(payload), payload)
        else:
            payload, message = b"", artifact
        sig = signature(key, message) if signed is None else signed
        if body is None:
            body = self.body(generation, envelope, entry_kind, body_artifact or message, payload, body_signature or sig,
                             pem_of_key(key) if managed else (body_leaf or leaf).public_bytes(serialization.Encoding.PEM), key, body_leaf or leaf)
        body, kind = body
        every = [b"leaf %d" % number for number in range(leaves)]
        index = leaves // 2 if index is None else index
        every[index] = body
        root = tree_root(every)
        note, checkpoint = log.checkpoint(leaves, root, checkpoint_key, origin, extra)
        entry = {"logIndex": str(index + (1000 if generation == 1 else 0)), "logId": {"keyId": b64(log.identifier)}, "kindVersion": kind,
                 "inclusionProof": {"logIndex": str(index), "rootHash": b64(root), "treeSize": str(leaves),
                                    "hashes": [b64(one) for one in tree_path(index, every)], "checkpoint": {"envelope": checkpoint}},
                 "canonicalizedBody": b64(body)}
        if generation == 1 if promised is None else promised:
            seconds = int((promise_time or time).timestamp())
            canonical = compact({"body": b64(body), "integratedTime": seconds, "logID": log.identifier.hex(), "logIndex": index + 1000})
            entry["integratedTime"] = str(seconds)
            entry["inclusionPromise"] = {"signedEntryTimestamp": b64(signature(promise_key or log.key, canonical))}
        version = version or "0.3"
        material = {"tlogEntries": [entry]}
        if managed:
            material["publicKey"] = {"hint": b64(sha256(info(key)))}
        elif version in ("0.1", "0.2"):
            material["x509CertificateChain"] = {"certificates": [{"rawBytes": b64(der_of(leaf))}]}
        else:
            material["certificate"] = {"rawBytes": b64(der_of(leaf))}
        if generation == 2 if stamped is None else stamped:
            answers = stamp_options if isinstance(stamp_options, list) else [stamp_options or {}]
            material["timestampVerificationData"] = {"rfc3161Timestamps": [
                {"signedTimestamp": b64(self.timestamps.answer(sig, **({"time": time} | one)) if isinstance(one, dict) else one)}
                for one in answers]}
        bundle = {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json" if version == "0.3" else
                  f"application/vnd.dev.sigstore.bundle+json;version={version.removesuffix('-old')}", "verificationMaterial": material}
        if envelope:
            bundle["dsseEnvelope"] = {"payload": b64(payload), "payloadType": payload_type, "signatures": [{"sig": b64(sig)}]}
        else:
            bundle["messageSignature"] = {"messageDigest": {"algorithm": "SHA2_256", "digest": b64(sha256(artifact))}, "signature": b64(sig)}
        return bundle

    @staticmethod
    def body(generation, envelope, kind, message, payload, sig, pem, key, leaf):
        """What the log keeps of a signature, and its kind; `dsse` and `intoto` are not the usual ones."""
        if generation == 2:
            verifier = {"keyDetails": details(key)} | ({"x509Certificate": {"rawBytes": b64(der_of(leaf))}} if leaf else
                                                       {"publicKey": {"rawBytes": b64(info(key))}})
            entry = {"content": b64(sig), "verifier": verifier}
            if kind == "dsse":
                kind = {"kind": "dsse", "version": "0.0.2"}
                spec = {"dsseV002": {"payloadHash": {"algorithm": "SHA2_256", "digest": b64(sha256(payload))}, "signatures": [entry]}}
                return compact({"apiVersion": kind["version"], "kind": kind["kind"], "spec": spec}), kind
            kind = {"kind": "hashedrekord", "version": "0.0.2"}
            spec = {"hashedRekordV002": {"data": {"algorithm": "SHA2_256", "digest": b64(sha256(message))},
                                         "signature": entry}}
        elif kind == "intoto":
            kind = {"kind": "intoto", "version": "0.0.2"}
            # This kind of entry has in base 64 again what was in base 64 already.
            entry = {"publicKey": b64(pem), "sig": b64(b64(sig).encode())}
            spec = {"content": {"envelope": {"payloadType": "application/vnd.in-toto+json", "signatures": [entry]},
                                "hash": {"algorithm": "sha256", "value": sha256(b"envelope").hex()},
                                "payloadHash": {"algorithm": "sha256", "value": sha256(payload).hex()}}}
        elif envelope:
            kind = {"kind": "dsse", "version": "0.0.1"}
            spec = {"envelopeHash": {"algorithm": "sha256", "value": sha256(b"envelope").hex()},
                    "payloadHash": {"algorithm": "sha256", "value": sha256(payload).hex()},
                    "signatures": [{"signature": b64(sig), "verifier": b64(pem)}]}
        else:
            kind = {"kind": "hashedrekord", "version": "0.0.1"}
            spec = {"data": {"hash": {"algorithm": "sha256", "value": sha256(message).hex()}},
                    "signature": {"content": b64(sig), "publicKey": {"content": b64(pem)}}}
        return compact({"apiVersion": kind["version"], "kind": kind["kind"], "spec": spec}), kind


# --------------------------------------------------------------------------------------------------------------------
# mutations


def places(value, path=()):
    """The paths of everything in a JSON value, the root left out."""
    if path:
        yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in members:
        yield from places(inner, (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def changed(value, path, new):
    """A copy with another value at a path; `None` removes it."""
    out = copy.deepcopy(value)
    holder = at(out, path[:-1])
    if new is None:
        del holder[path[-1]]
    else:
        holder[path[-1]] = new
    return out


def flipped(text):
    """The same text with one bit of what it stands for changed."""
    if text.isdigit():
        return str(int(text) + 1)
    try:
        data = bytearray(base64.b64decode(text, validate=True))
        if len(data) < 4:
            raise ValueError
        data[len(data) // 2] ^= 1
        return b64(bytes(data))
    except ValueError:
        middle = len(text) // 2
        return text[:middle] + chr(ord(text[middle]) ^ 1) + text[middle + 1:]
