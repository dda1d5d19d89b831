import Appliance
import MCP
import Platform

/// Where a provider may run: every run that came over HTTP stays inside a registered workspace.
///
/// 1. Choose the workspace: named in the call, else the session's, else the default.
/// 2. It must allow the provider.
/// 3. The working directory and the added directories are resolved, symlinks included, and must stay inside.
///
/// A run from a client on stdio, the trusted local transport, is confined only when it names a workspace, or when
/// the gateway was started in its own directory.
struct Workspaces: Sendable {
    /// Folder names that no run may be pointed into: they hold keys.
    static let denied: Set<String> = [
        ".llm-cli-gateway", ".ssh", ".aws", ".azure", ".config", ".gnupg", ".kube", ".password-store",
    ]

    /// What a call asks for.
    struct Request: Sendable {
        var provider: String
        var workspace: String?
        /// The workspace that the conversation began in.
        var sessionWorkspace: String?
        var workingDirectory: String?
        var addedDirectories: [String]
        var transport: Transport
    }

    /// Where the run takes place.
    struct Place: Sendable, Equatable {
        /// Absolute; what the provider starts in.
        var directory: String
        /// Absolute.
        var addedDirectories: [String]
        /// `nil` for an unconfined run.
        var workspace: String?
    }

    let configuration: Configuration.Workspaces
    let layout: Layout
    /// The gateway's own working directory: a stdio client starts it in its project.
    let ownDirectory: String
    let files: Files

    /// Decides where a run takes place, or refuses it.
    func place(_ request: Request) throws(GatewayError) -> Place {
        let fallback = isTrusted(request) ? nil : configuration.defaultAlias
        guard let alias = request.workspace ?? request.sessionWorkspace ?? fallback else {
            return try unconfined(request)
        }
        guard let repository = configuration.repository(alias) else {
            throw GatewayError(
                "unknown-workspace",
                "no workspace '\(alias)' is registered",
                help: "register it in config.toml under [[workspaces.repos]], or name one that is there"
            )
        }
        guard repository.allows(provider: request.provider) else {
            throw GatewayError(
                "provider-not-allowed",
                "the workspace '\(alias)' does not allow \(request.provider)",
                help: "add '\(request.provider)' to its providers in config.toml"
            )
        }
        guard let root = files.realPath(repository.path), (try files.target(root))?.kind == .directory else {
            throw GatewayError(
                "workspace-missing",
                "the folder of the workspace '\(alias)' does not exist any more"
            )
        }
        let directory = try request.workingDirectory.map { (path) throws(GatewayError) in
            guard !path.hasPrefix("/") else {
                throw GatewayError(
                    "path-refused",
                    "workingDir '\(path)' is absolute; inside the workspace '\(alias)' it is relative to its root"
                )
            }
            return try inside(root, path, "workingDir", alias)
        }
        var added: [String] = []
        for path in request.addedDirectories {
            if path.hasPrefix("/"), !isInside(root, path) {
                guard repository.allowAddDir else {
                    throw GatewayError(
                        "path-refused",
                        "addDir '\(path)' is absolute, and the workspace '\(alias)' does not allow that",
                        help:
                            "use a path relative to the workspace, or set allow_add_dir = true for it in config.toml"
                    )
                }
                added.append(try allowed(path, "addDir"))
            } else {
                added.append(try inside(root, relative(path, to: root), "addDir", alias))
            }
        }
        return Place(directory: directory ?? root, addedDirectories: added, workspace: alias)
    }

    /// Whether a run may take place where its client was started: the default workspace is not for those.
    private func isTrusted(_ request: Request) -> Bool {
        request.transport == .stdio && files.realPath(ownDirectory) != files.realPath(layout.home)
    }

    private func unconfined(_ request: Request) throws(GatewayError) -> Place {
        guard isTrusted(request) else {
            throw GatewayError(
                "workspace-required",
                "Remote HTTP provider requests require a registered workspace alias, session workspace, or "
                    + "[workspaces].default.",
                // Not the file's path: who is refused here may be far away.
                help: "register a folder in config.toml under [[workspaces.repos]] and name its alias"
            )
        }
        let directory = try request.workingDirectory.map { (path) throws(GatewayError) in
            let full = path.hasPrefix("/") ? path : Layout.join(ownDirectory, path)
            guard let real = files.realPath(full), (try files.target(real))?.kind == .directory else {
                throw GatewayError("directory-not-found", "workingDir '\(path)' is not an existing folder")
            }
            return real
        }
        let added = request.addedDirectories.map { $0.hasPrefix("/") ? $0 : Layout.join(ownDirectory, $0) }
        return Place(directory: directory ?? ownDirectory, addedDirectories: added, workspace: nil)
    }

    /// Refuses a file that a confined run is pointed to outside its workspace: an image, a prompt file, a log.
    ///
    /// Relative paths count from where the CLI starts. What is to be written need not exist, but its folder must.
    func confine(_ path: String, of parameter: String, isWritten: Bool, to place: Place) throws(GatewayError)
    {
        guard let alias = place.workspace, let repository = configuration.repository(alias),
            let root = files.realPath(repository.path)
        else { return }
        let full = path.hasPrefix("/") ? path : Layout.join(place.directory, path)
        let isNew = isWritten && !files.exists(full)
        let real = files.realPath(isNew ? Files.parent(of: full) : full)
        guard let real, real == root || real.hasPrefix(root + "/") else {
            throw GatewayError(
                "path-refused",
                "\(parameter) '\(path)' is not inside the workspace '\(alias)'"
            )
        }
        try refuseSecrets(String(real.dropFirst(root.count)), parameter, path)
    }

    /// A relative path resolved below a root; symlinks and `..` may not lead out of it.
    private func inside(
        _ root: String,
        _ path: String,
        _ name: String,
        _ alias: String
    ) throws(GatewayError) -> String {
        let refusal = GatewayError(
            "path-refused",
            "\(name) '\(path)' is not a folder inside the workspace '\(alias)'"
        )
        guard let real = files.realPath(Layout.join(root, path)), real == root || real.hasPrefix(root + "/"),
            (try files.target(real))?.kind == .directory
        else { throw refusal }
        try refuseSecrets(String(real.dropFirst(root.count)), name, path)
        return real
    }

    /// Whether an absolute path leads into a root, symlinks resolved.
    private func isInside(_ root: String, _ path: String) -> Bool {
        files.realPath(path).map { $0 == root || $0.hasPrefix(root + "/") } ?? false
    }

    /// What of an absolute path lies below a root; a relative path as it is.
    private func relative(_ path: String, to root: String) -> String {
        guard path.hasPrefix("/"), let real = files.realPath(path) else { return path }
        return real == root ? "." : String(real.dropFirst(root.count + 1))
    }

    private func allowed(_ path: String, _ name: String) throws(GatewayError) -> String {
        guard let real = files.realPath(path), (try files.target(real))?.kind == .directory else {
            throw GatewayError("directory-not-found", "\(name) '\(path)' is not an existing folder")
        }
        try refuseSecrets(real, name, path)
        return real
    }

    private func refuseSecrets(_ real: String, _ name: String, _ path: String) throws(GatewayError) {
        guard
            let segment = real.split(separator: "/").map(String.init).first(where: Workspaces.denied.contains)
        else {
            return
        }
        throw GatewayError(
            "path-refused",
            "\(name) '\(path)' leads into '\(segment)', which no run may be given"
        )
    }
}
