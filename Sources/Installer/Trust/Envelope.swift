import Appliance

/// A signed statement (DSSE), and what it says of its subjects (in-toto).
///
/// https://github.com/secure-systems-lab/dsse/blob/master/envelope.md
/// https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
struct Envelope: Sendable {
    private static let statementType = "application/vnd.in-toto+json"

    var payload: [UInt8]
    var payloadType: String
    var signature: [UInt8]

    init(_ members: ProtoMembers) throws(Malformed) {
        payload = try members.bytes("payload")
        payloadType = try members.string("payloadType")
        let signatures = try members.objects("signatures", known: ["sig", "keyid"], limit: 16)
        guard signatures.count == 1 else {
            throw Malformed("its envelope has \(signatures.count) signatures, expected exactly one")
        }
        _ = try signatures[0].optionalString("keyid")
        signature = try signatures[0].bytes("sig")
        guard !signature.isEmpty else { throw Malformed("the signature of its envelope is empty") }
    }

    /// What is signed: type and payload, each with its length (the pre-authentication encoding).
    var signed: [UInt8] {
        Array("DSSEv1 \(payloadType.utf8.count) \(payloadType) \(payload.count) ".utf8) + payload
    }

    /// The SHA-256 digests that the statement is about, in lower-case hexadecimal.
    func subjects() throws(Malformed) -> [String] {
        guard payloadType == Envelope.statementType else {
            throw Malformed(
                "the envelope holds '\(ForeignText.shown(payloadType))', expected '\(Envelope.statementType)'"
            )
        }
        let statement: JSON
        do throws(JSONSyntaxError) {
            statement = try JSON.parse(payload, maximumDepth: 128)
        } catch {
            throw Malformed("the statement in the envelope is not JSON: \(error.reason)")
        }
        let type = statement["_type"]?.string
        guard type == "https://in-toto.io/Statement/v1" || type == "https://in-toto.io/Statement/v0.1" else {
            throw Malformed("the envelope holds no in-toto statement that is known here")
        }
        guard let subjects = statement["subject"]?.array, !subjects.isEmpty, subjects.count <= 100_000 else {
            throw Malformed("the statement in the envelope has no subject")
        }
        return subjects.compactMap { $0["digest"]?["sha256"]?.string }
    }
}
