extension Verb {
    /// Every command, in the order of the overview.
    static let all: [Verb] = [
        setup, installBundle, upgrade, rollback, uninstall, start, stop, restart, status, logs, doctor,
        repair,
        verify, help, version, stdio, printClientConfig, completions, backup, restore,
        export, forget,
    ]
}
