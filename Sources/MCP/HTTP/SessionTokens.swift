import Appliance
package import Platform

/// Makes and reads `Mcp-Session-Id`s that say by themselves what was agreed, so that a session survives a restart of the
/// gateway: `<payload><mac>` in hexadecimal.
///
/// The payload is the format's number, 128 random bits, the time in milliseconds and the revision; the mac binds it to
/// the principal.
package struct SessionTokens: Sendable {
    /// A token that we, or a gateway with the same key, made for the same principal.
    struct Contents: Equatable {
        let version: ProtocolVersion
        /// When it was made, in milliseconds since the epoch.
        let issued: Int64
        /// The payload in hexadecimal: names the session, and does not open it.
        let name: String
    }

    private static let format: UInt8 = 2
    private static let nonceSize = 16
    private static let timeSize = 8
    private static let payloadSize = 1 + nonceSize + timeSize + 1
    private static let macSize = 16

    private let key: [UInt8]
    private let random: Randomness

    /// Tokens under a secret key of 32 bytes, which must be the same after a restart for sessions to survive it.
    package init(key: [UInt8], random: Randomness) {
        self.key = key
        self.random = random
    }

    /// A fresh token, visible ASCII, and what it says.
    func issue(
        _ version: ProtocolVersion,
        to principal: Principal,
        now: Int64
    ) -> (token: String, contents: Contents) {
        let index = ProtocolVersion.allCases.firstIndex(of: version) ?? 0
        let time = (0..<8).map { UInt8(truncatingIfNeeded: now >> (56 - 8 * $0)) }
        let payload =
            [SessionTokens.format] + random.bytes(SessionTokens.nonceSize) + time + [UInt8(index)]
        let contents = Contents(version: version, issued: now, name: Hex.encode(payload))
        return (Hex.encode(payload + mac(payload, principal)), contents)
    }

    /// What a token says; `nil` unless it was made with our key for this principal.
    func read(_ token: String, of principal: Principal) -> Contents? {
        guard token.utf8.count == 2 * (SessionTokens.payloadSize + SessionTokens.macSize),
            let bytes = Hex.decode(token), Hex.encode(bytes) == token
        else { return nil }
        let payload = Array(bytes.prefix(SessionTokens.payloadSize))
        guard payload[0] == SessionTokens.format,
            ConstantTime.equal(bytes.dropFirst(SessionTokens.payloadSize), mac(payload, principal)),
            let index = payload.last, index < ProtocolVersion.allCases.count
        else { return nil }
        return Contents(
            version: ProtocolVersion.allCases[Int(index)],
            issued: SessionTokens.time(in: payload),
            name: Hex.encode(payload)
        )
    }

    /// When the session of a name was opened, in milliseconds since the epoch; `nil` for what is no name.
    static func issued(_ name: String) -> Int64? {
        guard let payload = Hex.decode(name), payload.count == payloadSize else { return nil }
        return time(in: payload)
    }

    private static func time(in payload: [UInt8]) -> Int64 {
        payload.dropFirst(1 + nonceSize).prefix(timeSize).reduce(0) { $0 << 8 | Int64($1) }
    }

    private func mac(_ payload: [UInt8], _ principal: Principal) -> [UInt8] {
        let message = payload + Array(principal.kind.rawValue.utf8) + [0] + Array(principal.id.utf8)
        return Array(SHA256.authentication(of: message, key: key).prefix(SessionTokens.macSize))
    }
}
