import Appliance

/// The two ways in which MCP was ever spoken (specification 2026-07-28, versioning).
package enum Era: Sendable, Hashable {
    /// The `initialize` handshake: state per process (stdio) or per session (HTTP).
    case legacy
    /// Stateless: every request carries its own version and capabilities in `_meta`.
    case modern
}

/// The revisions of the protocol that this server speaks, oldest first.
package enum ProtocolVersion: String, Sendable, Hashable, CaseIterable, Comparable {
    /// `initialize`; structured tool results; no batches.
    case june2025 = "2025-06-18"
    /// `initialize`; adds tasks.
    case november2025 = "2025-11-25"
    /// Stateless: no handshake, no session.
    case july2026 = "2026-07-28"

    /// How the revision is spoken.
    package var era: Era { self == .july2026 ? .modern : .legacy }

    /// Whether the left revision is the older one: their names are dates.
    package static func < (left: ProtocolVersion, right: ProtocolVersion) -> Bool {
        left.rawValue < right.rawValue
    }

    /// What `initialize` falls back to: it never agrees on a modern revision.
    static let newestLegacy = ProtocolVersion.november2025
    /// The revisions usable per request, as `server/discover` and error -32022 list them.
    static let modern = allCases.filter { $0.era == .modern }.map(\.rawValue)
    /// Values of the header `MCP-Protocol-Version` that mean the legacy era, also those that we only know of.
    static let legacyHeaderValues: Set<String> = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]
}

/// The reserved `_meta` keys of the modern era.
enum EnvelopeKey {
    static let protocolVersion = "io.modelcontextprotocol/protocolVersion"
    static let clientCapabilities = "io.modelcontextprotocol/clientCapabilities"
    static let clientInfo = "io.modelcontextprotocol/clientInfo"
    static let logLevel = "io.modelcontextprotocol/logLevel"
    static let serverInfo = "io.modelcontextprotocol/serverInfo"

    /// Presence decides, not validity: half an envelope is a modern request to be refused, not a legacy one.
    static func claimsModernEra(_ params: JSON?) -> Bool {
        params?.object?["_meta"]?.object?[protocolVersion] != nil
    }
}
