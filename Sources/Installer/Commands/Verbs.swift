extension Verb {
    /// Every command, in the order of the overview.
    static let all: [Verb] = [
        help, version,
    ]
}
