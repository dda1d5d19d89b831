extension Configuration {
    /// `[workspaces]`: the only places where a caller over HTTP may work; empty when anything in it is wrong.
    package struct Workspaces: Sendable, Equatable {
        /// What a workspace is.
        package enum Kind: String, Sendable, CaseIterable {
            /// A Git repository, of which a provider can get a worktree.
            case git
            /// A plain directory, of which there are no worktrees.
            case folder
        }

        /// `[[workspaces.repos]]`.
        package struct Repository: Sendable, Equatable {
            /// What callers name it by: a letter, then up to 63 of `[A-Za-z0-9._-]`.
            package var alias: String
            /// Its root, absolute.
            package var path: String
            /// The providers that may work there; `nil` for all.
            package var providers: [String]?
            /// Whether a provider may get a worktree of its own.
            package var allowWorktree = true
            /// Whether further directories may be given to a provider.
            package var allowAddDir = false
            /// Git repository or plain folder.
            package var kind = Kind.git
            /// Whether a person entered it, and not a tool.
            package var operatorEntry = true

            /// A workspace with the defaults.
            package init(alias: String, path: String) {
                self.alias = alias
                self.path = path
            }

            /// Whether a provider may work there.
            package func allows(provider: String) -> Bool { providers?.contains(provider) ?? true }
        }

        /// `[[workspaces.allowed_roots]]`: where tools may register or make workspaces.
        package struct AllowedRoot: Sendable, Equatable {
            /// What callers name it by.
            package var alias: String?
            /// The directory, absolute.
            package var path: String
            /// Whether repositories that are there may be registered.
            package var allowRegisterExistingGitRepos = false
            /// Whether directories may be made.
            package var allowCreateDirectories = false
            /// Whether repositories may be made.
            package var allowInitGitRepos = false
            /// Levels of directories that may be made, 1 to 8.
            package var maxCreateDepth = 2

            /// A root with the defaults.
            package init(path: String) { self.path = path }
        }

        /// The alias of a request that names none.
        package var defaultAlias: String?
        /// Accepted for the sake of old files; nothing consults it.
        package var allowUnregisteredWorkingDirectory = false
        /// The workspaces in the order of the file.
        package var repositories: [Repository] = []
        /// The roots in the order of the file.
        package var allowedRoots: [AllowedRoot] = []

        /// The defaults.
        package init() {}

        /// The workspace of an alias.
        package func repository(_ alias: String) -> Repository? { repositories.first { $0.alias == alias } }
    }
}

extension Configuration.Workspaces {
    /// `providers` are the names that a workspace may allow.
    init(_ section: inout ConfigurationSection, providers: [String]) {
        defaultAlias = section.text("default")
        allowUnregisteredWorkingDirectory = section.boolean("allow_unregistered_working_dir", default: false)
        for var entry in section.sections("repos") {
            let repository = Repository(&entry, known: providers)
            if repositories.contains(where: { $0.alias == repository.alias }), !repository.alias.isEmpty {
                entry.wrong("alias", "is '\(repository.alias)', which another workspace already has")
            }
            repositories.append(repository)
            section.absorb(entry)
        }
        for var entry in section.sections("allowed_roots") {
            let root = AllowedRoot(&entry)
            if let alias = root.alias, allowedRoots.contains(where: { $0.alias == alias }) {
                entry.wrong("alias", "is '\(alias)', which another root already has")
            }
            allowedRoots.append(root)
            section.absorb(entry)
        }
        if let alias = defaultAlias, repository(alias) == nil {
            section.wrong(
                "default",
                "names '\(alias)', which is no workspace",
                help: Suggestion.nearest(to: alias, among: repositories.map(\.alias)).map {
                    "did you mean '\($0)'?"
                } ?? "add a [[workspaces.repos]] with this alias"
            )
        }
    }
}

extension Configuration.Workspaces.Repository {
    fileprivate init(_ section: inout ConfigurationSection, known: [String]) {
        alias = section.requiredText("alias")
        path = section.absolutePath()
        providers = section.texts("providers")
        allowWorktree = section.boolean("allow_worktree", default: true)
        allowAddDir = section.boolean("allow_add_dir", default: false)
        kind = section.choice("kind", default: .git)
        operatorEntry = section.boolean("operator_entry", default: true)
        if !alias.isEmpty, !Identifiers.isAlias(alias) {
            section.wrong("alias", Identifiers.aliasRule)
        }
        for provider in providers ?? [] where !known.contains(provider) {
            section.wrong(
                "providers",
                "names '\(provider)', which is no provider",
                help: Suggestion.nearest(to: provider, among: known).map { "did you mean '\($0)'?" }
                    ?? "known providers are \(known.map { "'\($0)'" }.joined(separator: ", "))"
            )
        }
    }
}

extension Configuration.Workspaces.AllowedRoot {
    fileprivate init(_ section: inout ConfigurationSection) {
        alias = section.text("alias")
        path = section.absolutePath()
        allowRegisterExistingGitRepos = section.boolean("allow_register_existing_git_repos", default: false)
        allowCreateDirectories = section.boolean("allow_create_directories", default: false)
        allowInitGitRepos = section.boolean("allow_init_git_repos", default: false)
        maxCreateDepth = section.integer("max_create_depth", in: 1...8, default: 2)
        if let alias, !Identifiers.isAlias(alias) { section.wrong("alias", Identifiers.aliasRule) }
    }
}

extension ConfigurationSection {
    /// The key `path`, without which the table means nothing.
    fileprivate mutating func absolutePath() -> String {
        let path = expanded(requiredText("path"))
        if !path.isEmpty, !path.hasPrefix("/") {
            wrong("path", "must be absolute or start with '~/', not '\(path)'")
        }
        return path
    }
}
