import Appliance
import Platform

/// `receipt.json`: everything that this program created outside the user's data, and the operation under way.
///
/// A plain value; unknown members of a file that a newer version wrote are kept.
struct Receipt: Sendable, Equatable {
    /// The version of the file's shape.
    static let schemaVersion = 1

    /// How the bytes of an installed version came to be believed.
    enum Trust: String, Sendable {
        /// The user gave the digest.
        case pinnedChecksum = "pinned-checksum"
        /// The digest stands in a signed `SHA256SUMS`.
        case sigstore
    }

    /// Who signed the digests of a release.
    struct Signer: Sendable, Equatable {
        /// The name in the certificate, an address or a workflow; of a key its digest.
        var identity: String
        /// The identity provider that vouched for the name; nobody does for a key.
        var issuer: String?
        /// The number of the entry in the transparency log, where there is one.
        var logIndex: Int64?
    }

    /// A path that this program created.
    struct Created: Sendable, Equatable {
        enum Kind: String, Sendable {
            case file, directory, link, unit
        }

        /// Absolute.
        var path: String
        var kind: Kind
        /// The digest of the content as it was written; only for files and units.
        var sha256: String?
        /// The digest of what we had written there before, which an interrupted command may have left in place.
        var formerSHA256: String?
        /// Where a link was made to point.
        var target: String?

        /// Whether content with this digest is ours.
        func wrote(_ sha256: String?) -> Bool {
            sha256 != nil && (sha256 == self.sha256 || sha256 == formerSHA256)
        }
    }

    /// One unpacked version.
    struct Installed: Sendable, Equatable {
        var version: String
        /// The name of its directory below `versions/`.
        var directory: String
        /// The digest of the bundle it came from.
        var sha256: String
        /// The digest of its `manifest.json`.
        var manifestSHA256: String
        var trust: Trust
        /// Who signed it; only with `sigstore`.
        var signer: Signer?
        /// The bundle's place, without secrets.
        var source: String
        var installedAt: Timestamp
    }

    /// The journal of an operation: what it is about to do, so that the next command can finish or undo it.
    struct Operation: Sendable, Equatable {
        /// The verb of what takes everything away again.
        static let uninstall = "uninstall"

        /// The verb: `install-bundle`, `upgrade`, `rollback`, `repair`, `uninstall`.
        var verb: String
        /// The staging directory, absolute; `nil` when nothing is unpacked.
        var staging: String?
        /// What `current` shall point to, once it was verified.
        var installing: Installed?
        /// The directory name that `current` pointed to before.
        var previous: String?
        /// Whether the user's data goes as well; only of an uninstall.
        var purges = false
        /// What the service did before it was stopped; only of an uninstall.
        var service: ServiceStanding?
        /// Whether the gateway ran when it was begun to replace it: one that has failed since is to run again.
        var replaces = false
        var startedAt: Timestamp
    }

    /// The home that it was written for, by the name that it goes by; `nil` in what an earlier version wrote.
    var home: String?
    /// The number of the home's folder in its file system: it stays when a folder is moved, and a copy has another.
    var inode: UInt64?
    /// The number of its file system, which may have another one after the machine was started again.
    var device: UInt64?
    var created: [Created] = []
    /// Whether this program, and nobody else, switched lingering on.
    var enabledLinger = false
    /// The version in use first, then the one before.
    var installed: [Installed] = []
    /// Names below `versions/` that are no longer installed and may not be removed completely yet.
    var discarded: [String] = []
    /// What the running gateway was started with, as `ServiceControl.fingerprint` writes it; `nil` when nobody noted it.
    var startedWith: String?
    var operation: Operation?
    /// Members that this version does not know.
    private var unknown = JSONObject()

    /// A receipt of nothing.
    init() {}

    /// The version that `current` pointed to when the last operation was committed.
    var active: Installed? { installed.first }
    /// The version before.
    var previous: Installed? { installed.dropFirst().first }

    /// Notes a created path, in place of what was known of it.
    mutating func note(_ entry: Created) {
        created.removeAll { $0.path == entry.path }
        created.append(entry)
    }

    /// Notes folders that are about to be made.
    mutating func noteFolders(_ paths: [String]) {
        for path in paths { note(Created(path: path, kind: .directory)) }
    }

    /// Forgets a path that is gone.
    mutating func forget(_ path: String) { created.removeAll { $0.path == path } }

    /// What is known of a path.
    func entry(_ path: String) -> Created? { created.first { $0.path == path } }

    /// What is left to know once the program was removed: what could not be, and that lingering is on.
    func afterRemoval(exists: (String) -> Bool) -> Receipt {
        var receipt = self
        receipt.created.removeAll { !exists($0.path) }
        receipt.installed = []
        receipt.discarded = []
        receipt.startedWith = nil
        receipt.operation = nil
        return receipt
    }

    // MARK: JSON

    private static let members = [
        "schemaVersion", "home", "homeInode", "homeDevice",
        "created", "enabledLinger", "installed", "discarded", "startedWith", "operation",
    ]

    /// Reads a receipt.
    ///
    /// Throws `receipt-invalid` with what is wrong.
    init(_ bytes: [UInt8]) throws(GatewayError) {
        let json: JSON
        do {
            json = try JSON.parse(bytes)
        } catch {
            throw Receipt.invalid(error.description)
        }
        guard let object = json.object else {
            throw Receipt.invalid("it is \(json.typeName), expected object")
        }
        guard let schema = json["schemaVersion"]?.int else {
            throw Receipt.invalid("'schemaVersion' is missing")
        }
        guard schema <= Receipt.schemaVersion else {
            throw GatewayError(
                "receipt-too-new",
                "the receipt has schema version \(schema), but this program knows only up to \(Receipt.schemaVersion)",
                help: "use the newer llm-cli-gateway that wrote it"
            )
        }
        for entry in json["created"]?.array ?? [] {
            guard let path = entry["path"]?.string, path.hasPrefix("/"),
                let kind = entry["kind"]?.string.flatMap(Created.Kind.init(rawValue:))
            else { throw Receipt.invalid("an entry of 'created' has no absolute path or no known kind") }
            created.append(
                Created(
                    path: path,
                    kind: kind,
                    sha256: entry["sha256"]?.string,
                    formerSHA256: entry["formerSHA256"]?.string,
                    target: entry["target"]?.string
                )
            )
        }
        home = json["home"]?.string
        inode = json["homeInode"]?.string.flatMap { UInt64($0) }
        device = json["homeDevice"]?.string.flatMap { UInt64($0) }
        enabledLinger = json["enabledLinger"]?.bool ?? false
        for entry in json["installed"]?.array ?? [] { installed.append(try Receipt.installed(entry)) }
        for entry in json["discarded"]?.array ?? [] {
            guard let name = entry.string, Receipt.isName(name) else {
                throw Receipt.invalid("an entry of 'discarded' is no directory name")
            }
            discarded.append(name)
        }
        startedWith = json["startedWith"]?.string
        if let entry = json["operation"], !entry.isNull { operation = try Receipt.operation(entry) }
        unknown = JSONObject(object.members.filter { !Receipt.members.contains($0.name) })
    }

    private static func installed(_ json: JSON) throws(GatewayError) -> Installed {
        guard let version = json["version"]?.string,
            let directory = json["directory"]?.string, isName(directory),
            let sha256 = json["sha256"]?.string,
            let manifest = json["manifestSHA256"]?.string,
            let trust = json["trust"]?.string.flatMap(Trust.init(rawValue:)),
            let source = json["source"]?.string,
            let time = json["installedAt"]?.string.flatMap({ Timestamp(iso8601: $0) })
        else { throw invalid("an installed version is incomplete") }
        return Installed(
            version: version,
            directory: directory,
            sha256: sha256,
            manifestSHA256: manifest,
            trust: trust,
            signer: json["signer"].flatMap(Signer.init),
            source: source,
            installedAt: time
        )
    }

    private static func operation(_ json: JSON) throws(GatewayError) -> Operation {
        guard let verb = json["verb"]?.string,
            let time = json["startedAt"]?.string.flatMap({ Timestamp(iso8601: $0) })
        else { throw invalid("'operation' is incomplete") }
        var operation = Operation(verb: verb, startedAt: time)
        if let staging = json["staging"]?.string {
            guard staging.hasPrefix("/") else { throw invalid("'operation.staging' is no absolute path") }
            operation.staging = staging
        }
        operation.purges = json["purges"]?.bool ?? false
        operation.replaces = json["replaces"]?.bool ?? false
        operation.service = json["service"].flatMap(ServiceStanding.init)
        if let entry = json["installing"], !entry.isNull { operation.installing = try installed(entry) }
        if let previous = json["previous"]?.string {
            guard isName(previous) else { throw invalid("'operation.previous' is no directory name") }
            operation.previous = previous
        }
        return operation
    }

    /// Whether this is the name of something directly inside a directory.
    private static func isName(_ text: String) -> Bool {
        !text.isEmpty && !text.contains("/") && text != "." && text != ".."
    }

    private static func invalid(_ what: String) -> GatewayError {
        GatewayError("receipt-invalid", "the receipt is not valid: \(what)")
    }

    /// The form in the file.
    var json: JSON {
        var json: JSON = [
            "schemaVersion": .int(Int64(Receipt.schemaVersion)),
            "home": .optional(home),
            "homeInode": .optional(inode.map(String.init)),
            "homeDevice": .optional(device.map(String.init)),
            "created": .array(
                created.map { entry in
                    var json: JSON = ["path": .string(entry.path), "kind": .string(entry.kind.rawValue)]
                    if let sha256 = entry.sha256 { json["sha256"] = .string(sha256) }
                    if let former = entry.formerSHA256 { json["formerSHA256"] = .string(former) }
                    if let target = entry.target { json["target"] = .string(target) }
                    return json
                }
            ),
            "enabledLinger": .bool(enabledLinger),
            "installed": .array(installed.map(\.json)),
            "discarded": .strings(discarded),
            "startedWith": .optional(startedWith),
            "operation": .null,
        ]
        if let operation {
            var entry: JSON = [
                "verb": .string(operation.verb),
                "staging": .optional(operation.staging),
                "installing": operation.installing?.json ?? .null,
                "previous": .optional(operation.previous),
                "purges": .bool(operation.purges), "replaces": .bool(operation.replaces),
                "startedAt": .string(operation.startedAt.iso8601),
            ]
            if let service = operation.service { entry["service"] = service.json }
            json["operation"] = entry
        }
        for member in unknown.members { json[member.name] = member.value }
        return json
    }
}

extension Receipt.Installed {
    /// The form in the receipt.
    var json: JSON {
        var json: JSON = [
            "version": .string(version),
            "directory": .string(directory),
            "sha256": .string(sha256),
            "manifestSHA256": .string(manifestSHA256),
            "trust": .string(trust.rawValue),
            "source": .string(source),
            "installedAt": .string(installedAt.iso8601),
        ]
        if let signer { json["signer"] = signer.json }
        return json
    }
}

extension Receipt.Signer {
    /// The form in the receipt and in reports.
    var json: JSON {
        [
            "identity": .string(identity), "issuer": .optional(issuer),
            "log_index": logIndex.map { .int($0) } ?? .null,
        ]
    }

    /// Reads that form; `nil` for anything else.
    init?(_ json: JSON) {
        guard let identity = json["identity"]?.string else { return nil }
        self.init(
            identity: identity,
            issuer: json["issuer"]?.string,
            logIndex: json["log_index"]?.int.map { Int64($0) }
        )
    }
}

extension Receipt {
    /// Reads the receipt of a home; an absent one is empty.
    ///
    /// For readers, which change nothing.
    ///
    /// Throws `receipt-invalid` or `receipt-too-new`.
    static func read(_ layout: Layout, files: Files) throws(GatewayError) -> Receipt {
        guard let bytes = try files.readIfPresent(layout.receipt, limit: 8 << 20) else { return Receipt() }
        do throws(GatewayError) {
            return try Receipt(bytes)
        } catch {
            throw GatewayError(
                error.code,
                "'\(layout.receipt)': \(error.message)",
                help: error.help ?? "run: llm-cli-gateway repair"
            )
        }
    }

    /// Reads the receipt under the lock; one that cannot be read is kept aside and begun anew from what is installed.
    ///
    /// The second value says so, in one sentence.
    static func recovered(
        _ layout: Layout,
        files: Files,
        now: Timestamp
    ) throws(GatewayError) -> (receipt: Receipt, notice: String?) {
        let known = try known(layout, files: files)
        switch known.flaw {
        case nil:
            // What has become another home's is forgotten for good: that one may be moved in its turn.
            if try known.receipt != read(layout, files: files) {
                try known.receipt.write(layout, files: files)
            }
            return (known.receipt, nil)
        case .copied(let home):
            try known.receipt.write(layout, files: files)
            return (
                known.receipt,
                "the receipt came from '\(home)', of which this home is a copy; it was begun anew from what is installed here"
            )
        case .moved(let home):
            try known.receipt.write(layout, files: files)
            return (known.receipt, "this home was moved here from '\(home)'; the receipt says so now")
        case .missing:
            try known.receipt.write(layout, files: files)
            return (known.receipt, "the receipt was missing; it was begun anew from what is installed")
        case .damaged(let error):
            // A copy first: until the new one is written, the old one must be there to be found damaged again.
            let aside = try keepAside(layout, files: files, now: now)
            try known.receipt.write(layout, files: files)
            return (
                known.receipt,
                "the receipt could not be read (\(error.message)); it is kept as '\(aside)' and was begun anew"
            )
        }
    }

    /// What is wrong with a receipt.
    enum Flaw: Sendable {
        /// There is none, but something is installed.
        case missing
        /// It came with a copy of another home, which is still there with its links, units and service.
        case copied(String)
        /// Its home was moved here.
        case moved(String)
        case damaged(GatewayError)
    }

    /// The receipt, or in place of a lost one what is found installed, without what has become another home's; changes nothing.
    ///
    /// Throws `receipt-too-new`.
    static func known(
        _ layout: Layout,
        files: Files
    ) throws(GatewayError) -> (receipt: Receipt, flaw: Flaw?) {
        var (receipt, flaw) = try found(layout, files: files)
        let owner = PlaceOwner(layout: layout, files: files)
        receipt.created.removeAll { !$0.path.hasPrefix(layout.home + "/") && owner.isOthers($0) }
        return (receipt, flaw)
    }

    private static func found(
        _ layout: Layout,
        files: Files
    ) throws(GatewayError) -> (receipt: Receipt, flaw: Flaw?) {
        do throws(GatewayError) {
            let receipt = try read(layout, files: files)
            if let origin = HomeOrigin(of: receipt, layout, files: files) {
                let found = try origin.receipt(receipt, onto: rebuilt(layout, files: files), files: files)
                return (found, origin.isMoved ? .moved(origin.home) : .copied(origin.home))
            }
            guard !files.exists(layout.receipt) else { return (receipt, nil) }
            let found = try rebuilt(layout, files: files)
            return found.installed.isEmpty ? (receipt, nil) : (found, .missing)
        } catch  where error.code == "receipt-invalid" {
            return (try rebuilt(layout, files: files), .damaged(error))
        }
    }

    /// Copies a damaged receipt; one that was copied before is not copied again.
    private static func keepAside(
        _ layout: Layout,
        files: Files,
        now: Timestamp
    ) throws(GatewayError) -> String {
        let bytes = try files.read(layout.receipt, limit: 8 << 20)
        for name in try files.list(layout.home) where name.hasPrefix(damagedPrefix) {
            let path = Layout.join(layout.home, name)
            if try files.readIfPresent(path, limit: 8 << 20) == bytes { return path }
        }
        let aside = Layout.join(layout.home, "\(damagedPrefix)\(now.milliseconds)")
        try files.write(bytes, to: aside)
        return aside
    }

    /// How the names of receipts begin that were kept aside.
    static let damagedPrefix = "receipt.json.damaged-"

    /// What can only be ours, by its place and form; units are noted by who knows their text.
    private static func rebuilt(_ layout: Layout, files: Files) throws(GatewayError) -> Receipt {
        var receipt = Receipt()
        receipt.installed = try InstalledVersions.found(layout, files: files)
        for folder in [layout.home, layout.versions, layout.staging, layout.cache]
        where try files.status(folder)?.kind == .directory {
            receipt.note(Created(path: folder, kind: .directory))
        }
        if InstalledVersions.current(layout, files: files) != nil {
            receipt.note(Created(path: layout.current, kind: .link))
        }
        if layout.isDefaultHome, files.destination(ofLink: layout.commandLink) == layout.currentManager {
            receipt.note(Created(path: layout.commandLink, kind: .link, target: layout.currentManager))
        }
        return receipt
    }

    /// Writes the receipt durably.
    func write(_ layout: Layout, files: Files) throws(GatewayError) {
        var receipt = self
        receipt.home = layout.home
        let folder = try files.target(layout.home)
        receipt.inode = folder?.inode
        receipt.device = folder?.device
        try files.write(Array((receipt.json.prettyText + "\n").utf8), to: layout.receipt)
    }
}
