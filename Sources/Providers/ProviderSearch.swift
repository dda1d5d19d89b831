package import Appliance
package import Platform

/// Where the provider CLIs are looked for: the search path of a service lacks what the user's shell knows.
package struct ProviderSearch: Sendable {
    /// The folders in order, each once, absolute.
    package let folders: [String]
    /// The `PATH` for a child, so that a CLI finds its own helpers (`node`) too.
    package let path: String
    /// Whether everything that it depends on could be read.
    let isWhole: Bool

    /// The extended search path: the user's own folder, the gateway's, the system's, every Node version of nvm, then the
    /// inherited path, then the one that `setup` recorded in the `environment` file.
    package init(
        environment: [String: String],
        userHome: String,
        gatewayFolder: String?,
        recordedPath: String? = nil,
        files: Files
    ) {
        let versions = ProviderSearch.nodeVersions(userHome)
        let installed = try? files.list(versions)
        isWhole = installed != nil
        let nodes = (installed ?? []).map { Layout.join(versions, "\($0)/bin") }
        let first = [Layout.join(userHome, ".local/bin"), gatewayFolder, "/usr/local/bin", "/usr/bin"]
        var seen: Set<String> = []
        folders =
            (first.compactMap(\.self) + nodes.sorted(by: ProviderSearch.newerFirst)
            + EnvironmentFile.folders(environment["PATH"]) + EnvironmentFile.folders(recordedPath))
            .filter { $0.hasPrefix("/") && seen.insert($0).inserted }
        path = folders.joined(separator: ":")
    }

    /// Where nvm keeps the versions of Node of a user.
    static func nodeVersions(_ userHome: String) -> String { Layout.join(userHome, ".nvm/versions/node") }

    /// The absolute path of a provider's CLI, symlinks not resolved; `nil` when it is not installed.
    package func find(_ provider: Provider, files: Files) -> String? {
        Processes.find(provider.executable, in: folders, files: files)
    }

    /// The absolute path of a provider's CLI.
    ///
    /// Throws `command-not-found`, which names the folders and how to install the CLI.
    package func require(_ provider: Provider, files: Files) throws(GatewayError) -> String {
        if let path = find(provider, files: files) { return path }
        throw GatewayError(
            "command-not-found",
            "the '\(provider.executable)' command was not found (ENOENT); looked in \(folders.joined(separator: ", "))",
            help:
                "\(provider.installGuidance); if it is installed elsewhere, run 'llm-cli-gateway setup' in a shell that finds it"
        )
    }

    /// `v22.1.0` before `v9.0.0`: text order would prefer the older one.
    private static func newerFirst(_ left: String, _ right: String) -> Bool {
        func version(_ folder: String) -> SemanticVersion? {
            SemanticVersion(Files.name(of: Files.parent(of: folder)))
        }
        switch (version(left), version(right)) {
        case (let left?, let right?): return right < left
        case (nil, nil): return left < right
        case (let left, _): return left != nil
        }
    }
}
