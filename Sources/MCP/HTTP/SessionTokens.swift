import Appliance
package import Platform

/// Makes and reads `Mcp-Session-Id`s that say by themselves what was agreed, so that a session survives a restart of the
/// gateway: `<payload><mac>` in hexadecimal.
///
/// The payload is the format's number, the gateway's instance, 128 random bits and the revision; the mac binds it to
/// the principal.
package struct SessionTokens: Sendable {
    /// A token that we, or a gateway with the same key, made for the same principal.
    struct Contents: Equatable {
        let version: ProtocolVersion
        /// Made by this very process, which therefore knows whether the session still exists.
        let isOurs: Bool
    }

    private static let format: UInt8 = 1
    private static let instanceSize = 8
    private static let nonceSize = 16
    private static let payloadSize = 1 + instanceSize + nonceSize + 1
    private static let macSize = 16

    private let key: [UInt8]
    private let instance: [UInt8]
    private let random: Randomness

    /// Tokens under a secret key of 32 bytes, which must be the same after a restart for sessions to survive it.
    package init(key: [UInt8], random: Randomness) {
        self.key = key
        self.random = random
        instance = random.bytes(SessionTokens.instanceSize)
    }

    /// A fresh token, visible ASCII.
    func issue(_ version: ProtocolVersion, to principal: Principal) -> String {
        let index = ProtocolVersion.allCases.firstIndex(of: version) ?? 0
        let payload =
            [SessionTokens.format] + instance + random.bytes(SessionTokens.nonceSize) + [UInt8(index)]
        return Hex.encode(payload + mac(payload, principal))
    }

    /// What a token says; `nil` unless it was made with our key for this principal.
    func read(_ token: String, of principal: Principal) -> Contents? {
        guard token.utf8.count == 2 * (SessionTokens.payloadSize + SessionTokens.macSize),
            let bytes = Hex.decode(token)
        else { return nil }
        let payload = Array(bytes.prefix(SessionTokens.payloadSize))
        guard payload[0] == SessionTokens.format,
            ConstantTime.equal(bytes.dropFirst(SessionTokens.payloadSize), mac(payload, principal)),
            let index = payload.last, index < ProtocolVersion.allCases.count
        else { return nil }
        return Contents(
            version: ProtocolVersion.allCases[Int(index)],
            isOurs: payload[1...].starts(with: instance)
        )
    }

    private func mac(_ payload: [UInt8], _ principal: Principal) -> [UInt8] {
        let message = payload + Array(principal.kind.rawValue.utf8) + [0] + Array(principal.id.utf8)
        return Array(SHA256.authentication(of: message, key: key).prefix(SessionTokens.macSize))
    }
}
