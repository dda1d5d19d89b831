/// Who may see what.
package enum Ownership {
    /// The principal of the trusted local transport.
    package static let local = "local"

    /// Whether a caller may see an object: its own, or as the local one what belongs to nobody.
    package static func admits(_ owner: String?, _ caller: String) -> Bool {
        owner.map { $0 == caller } ?? (caller == local)
    }
}
