/// Who a request is made for.
///
/// Sessions, jobs and records belong to a principal; others do not see them.
package struct Principal: Sendable, Hashable {
    /// How the caller proved to be who it is.
    package enum Kind: String, Sendable, Hashable {
        /// Standard input, or HTTP with authentication turned off.
        case local
        /// The static bearer token.
        case bearer
        /// A token of our own OAuth server.
        case oauth
    }

    /// The owner that is recorded: `local`, `gateway-bearer`, a trusted header's value or an OAuth client id.
    package let id: String
    /// How the caller proved it.
    package let kind: Kind
    /// OAuth scopes, none for other kinds.
    package let scopes: Set<String>

    /// A principal.
    package init(id: String, kind: Kind, scopes: Set<String> = []) {
        self.id = id
        self.kind = kind
        self.scopes = scopes
    }

    /// The user at this machine.
    package static let local = Principal(id: "local", kind: .local)
}

/// How a request came in.
package enum Transport: String, Sendable, Hashable {
    case stdio
    case http
}
