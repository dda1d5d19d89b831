package import Appliance

/// Which conversation a run belongs to.
package enum SessionChoice: Sendable, Equatable {
    /// A new one; with an id where the caller has chosen it and the CLI takes one.
    case new(id: String? = nil)
    /// The one with this id.
    case resume(String)
    /// The most recent one, as the CLI finds it.
    case latest
    /// A copy of the one with this id, or of the most recent one, that goes its own way.
    case fork(String?)

    /// Whether the provider sends earlier turns again.
    package var continuesConversation: Bool { if case .new = self { false } else { true } }

    /// What the arguments ask for: `createNewSession` wins over an id, an id over the most recent session.
    ///
    /// Throws `invalid-input` for the gateway's own `gw-` ids, which no CLI knows, and for a fork of nothing.
    package static func requested(
        by arguments: RequestArguments,
        of provider: Provider
    ) throws(GatewayError) -> SessionChoice {
        let isFork = try arguments.bool("forkSession")
        if try arguments.bool("createNewSession") { return .new() }
        if let id = try arguments.string("sessionId") {
            try check(id, of: provider)
            return isFork ? .fork(id) : .resume(id)
        }
        if try arguments.bool(provider == .claude ? "continueSession" : "resumeLatest") {
            return isFork ? .fork(nil) : .latest
        }
        guard !isFork else {
            throw .invalidInput(
                "'forkSession' needs a conversation to fork: pass 'sessionId' or '\(provider == .claude ? "continueSession" : "resumeLatest")'"
            )
        }
        return .new()
    }

    /// Checks an id that is to be passed to a CLI.
    ///
    /// No id has a slash; a path would lead to a conversation that lies anywhere.
    package static func check(_ id: String, of provider: Provider) throws(GatewayError) {
        guard provider == .claude || !id.hasPrefix("gw-") else {
            throw .invalidInput(
                "session id '\(id)' has the reserved prefix 'gw-': it names a record of the gateway, and \(provider.executable) cannot resume it",
                help: "pass the id that \(provider.executable) itself reported, or resumeLatest"
            )
        }
        let isPlain =
            id.unicodeScalars.allSatisfy { !$0.properties.isWhitespace || $0 == " " }
            && id.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F && $0 != 0x2F }
        guard isPlain, !id.hasPrefix("-"), !id.isEmpty, id.utf8.count <= 256 else {
            throw .invalidInput(
                "session id '\(id.prefix(64))' is not usable: it must not be empty, start with '-', contain '/' or control characters or be longer than 256 bytes"
            )
        }
    }
}
