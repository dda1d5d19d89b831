import Appliance

/// An entry of a transparency log with its proofs, as it lies in a bundle.
///
/// https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_rekor.proto
struct LogEntry: Sendable {
    static let members: Set<String> = [
        "logIndex", "logId", "kindVersion", "integratedTime", "inclusionPromise", "inclusionProof",
        "canonicalizedBody",
    ]

    /// The place in the log as a whole; only believed where the promise covers it.
    var index: Int64
    /// The digest of the log's key; a hint, because only signatures prove which log it is.
    var logID: [UInt8]
    var kind: String
    var version: String
    /// Seconds since the epoch; absent in the second generation of logs.
    var integratedTime: Int64?
    /// The log's signature over the entry and its time: the signed entry timestamp.
    var promise: [UInt8]?
    var proof: InclusionProof
    var checkpoint: Checkpoint
    /// What the log keeps, byte for byte.
    var body: [UInt8]

    init(_ members: ProtoMembers) throws(Malformed) {
        index = try members.number("logIndex")
        logID = try members.object("logId", known: ["keyId"]).bytes("keyId")
        let kindVersion = try members.object("kindVersion", known: ["kind", "version"])
        kind = try kindVersion.string("kind")
        version = try kindVersion.string("version")
        // Zero is how an absent number is written.
        integratedTime = try members.optionalNumber("integratedTime").flatMap { $0 == 0 ? nil : $0 }
        promise = try members.optionalObject("inclusionPromise", known: ["signedEntryTimestamp"])?
            .bytes("signedEntryTimestamp")
        // It is a signature over the time as well, so that without one nobody can check it.
        guard promise == nil || integratedTime != nil else {
            throw Malformed("its log entry has a signed entry timestamp, but not the time that was signed")
        }
        guard
            let proof = try members.optionalObject(
                "inclusionProof",
                known: ["logIndex", "rootHash", "treeSize", "hashes", "checkpoint"]
            )
        else { throw Malformed("its log entry has no inclusion proof") }
        self.proof = try InclusionProof(proof)
        guard let checkpoint = try proof.optionalObject("checkpoint", known: ["envelope"]) else {
            throw Malformed("the inclusion proof of its log entry has no signed checkpoint")
        }
        self.checkpoint = try Checkpoint(try checkpoint.string("envelope"))
        body = try members.bytes("canonicalizedBody")
        guard !body.isEmpty else { throw Malformed("its log entry has no body") }
    }

    /// What the promise is a signature over: canonical JSON (RFC 8785) of the entry and its time.
    func promised(at time: Int64) -> [UInt8] {
        let json: JSON = [
            "body": .string(Base64.encode(body)), "integratedTime": .int(time),
            "logID": .string(Hex.encode(logID)), "logIndex": .int(index),
        ]
        return json.compact
    }
}
