import Appliance
import Glibc
import Platform
import Synchronization
import TestSupport

/// A file tree in memory.
indirect enum Node: Equatable {
    case file(bytes: [UInt8], mode: UInt32)
    case link(target: String)
    case folder(entries: [String: Node], mode: UInt32)

    /// What is at a path now.
    init?(_ path: String) throws {
        let files = Files()
        guard let status = try files.status(path) else { return nil }
        switch status.kind {
        case .link: self = .link(target: files.destination(ofLink: path) ?? "")
        case .directory:
            var entries: [String: Node] = [:]
            for name in try files.list(path) { entries[name] = try Node(Layout.join(path, name)) }
            self = .folder(entries: entries, mode: status.mode)
        default: self = .file(bytes: try files.read(path), mode: status.mode)
        }
    }

    /// Puts it where nothing or something else is, without any of the care that the program takes.
    func write(to path: String) throws {
        try Files().removeTree(path)
        try make(path)
    }

    private func make(_ path: String) throws {
        switch self {
        case .link(let target): guard symlink(target, path) == 0 else { throw Files.failure("link", path) }
        case .folder(let entries, let mode):
            guard mkdir(path, 0o700) == 0 else { throw Files.failure("make directory", path) }
            for (name, node) in entries { try node.make(Layout.join(path, name)) }
            chmod(path, mode_t(mode))
        case .file(let bytes, let mode):
            let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL, 0o600)
            guard descriptor >= 0 else { throw Files.failure("write", path) }
            defer { close(descriptor) }
            try Files.writeAll(bytes, to: descriptor, path: path)
            fchmod(descriptor, mode_t(mode))
        }
    }

    /// Every path below, with what is there, but for names that say nothing.
    func listing(without ignored: Set<String> = []) -> [String: Node] {
        guard case .folder(let entries, _) = self else { return [:] }
        var result: [String: Node] = [:]
        for (name, node) in entries where !ignored.contains(name) {
            if case .folder(_, let mode) = node {
                result[name] = .folder(entries: [:], mode: mode)
            } else {
                result[name] = node
            }
            for (below, inner) in node.listing(without: ignored) { result["\(name)/\(below)"] = inner }
        }
        return result
    }
}

/// How a machine stops.
enum Ending: String, CaseIterable {
    /// The process is killed: everything that it did is there.
    case killed
    /// The power fails: only what was synced is there, names and contents.
    case powerLost = "power lost, unsynced names gone"
    /// The power fails: every name is there, but unsynced contents are empty.
    case namesOnly = "power lost, unsynced contents gone"
    /// The power fails: of each folder either the synced names are there, or all of them.
    case mixed = "power lost, some unsynced names gone"
}

/// Watches a command change the disk, and knows after each step what would be there if the machine stopped.
///
/// Names are kept by folder and contents by file, as a file system does: by inode. What fsync(2) was called for stays.
final class DiskRecorder: Sendable {
    /// What would be found afterwards.
    struct Image {
        var step: Int
        /// What was about to be done.
        var next: String
        var ending: Ending
        var root: Node
    }

    private enum Entry: Equatable {
        case file(UInt64)
        case folder(UInt64)
        case link(String)
    }

    private struct State {
        var names: [UInt64: [String: Entry]] = [:]
        var modes: [UInt64: UInt32] = [:]
        var contents: [UInt64: (bytes: [UInt8], mode: UInt32)] = [:]
        var pending: Files.Step?
        var steps = 0
        var images: [Image] = []
        var failure: String?
    }

    private let root: String
    private let state: Mutex<State>

    /// Everything below the root counts as synced at first.
    init(_ root: String) throws {
        self.root = root
        var state = State()
        try DiskRecorder.sync(everythingBelow: root, &state)
        self.state = Mutex(state)
    }

    /// The file system to give to the command.
    var files: Files { Files(before: { (step) throws(GatewayError) in self.note(step) }) }

    /// The images of all steps; the last is what is there after the command.
    func finish() throws -> [Image] {
        try state.withLock { state in
            try take(nil, &state)
            if let failure = state.failure { throw GatewayError("recorder", failure) }
            return state.images
        }
    }

    private func note(_ step: Files.Step) {
        state.withLock { state in
            do { try take(step, &state) } catch { state.failure = "\(error)" }
        }
    }

    /// The step before is done, the next one is not.
    private func take(_ next: Files.Step?, _ state: inout State) throws {
        switch state.pending {
        case .sync(let path): try DiskRecorder.sync(path, &state)
        case .syncFileSystem: try DiskRecorder.sync(everythingBelow: root, &state)
        default: break
        }
        state.pending = next
        let name = next.map { "\($0)" } ?? "the end"
        for ending in Ending.allCases {
            let node = try DiskRecorder.node(root, ending, state.steps, state)
            // What has not changed needs no second look.
            if state.images.last(where: { $0.ending == ending })?.root == node, next != nil { continue }
            state.images.append(Image(step: state.steps, next: name, ending: ending, root: node))
        }
        state.steps += 1
    }

    private static func sync(_ path: String, _ state: inout State) throws {
        guard let status = try Files().status(path) else { return }
        state.modes[status.inode] = status.mode
        guard status.kind == .directory else {
            if status.kind == .file { state.contents[status.inode] = (try Files().read(path), status.mode) }
            return
        }
        state.names[status.inode] = try names(path)
    }

    private static func sync(everythingBelow path: String, _ state: inout State) throws {
        try sync(path, &state)
        guard try Files().status(path)?.kind == .directory else { return }
        for name in try Files().list(path) { try sync(everythingBelow: Layout.join(path, name), &state) }
    }

    private static func names(_ folder: String) throws -> [String: Entry] {
        var names: [String: Entry] = [:]
        for name in try Files().list(folder) {
            let path = Layout.join(folder, name)
            guard let status = try Files().status(path) else { continue }
            switch status.kind {
            case .link: names[name] = .link(Files().destination(ofLink: path) ?? "")
            case .directory: names[name] = .folder(status.inode)
            default: names[name] = .file(status.inode)
            }
        }
        return names
    }

    private static func node(_ root: String, _ ending: Ending, _ step: Int, _ state: State) throws -> Node {
        if ending == .killed { return try Node(root) ?? .folder(entries: [:], mode: 0o700) }
        var paths: [UInt64: String] = [:]
        func find(_ path: String) throws {
            guard let status = try Files().status(path), status.kind == .directory else { return }
            paths[status.inode] = path
            for name in try Files().list(path) { try find(Layout.join(path, name)) }
        }
        try find(root)
        func build(_ entry: Entry) throws -> Node {
            switch entry {
            case .link(let target): return .link(target: target)
            case .file(let inode):
                let content = state.contents[inode] ?? ([], 0o600)
                return .file(bytes: content.bytes, mode: content.mode)
            case .folder(let inode):
                let synced = state.names[inode] ?? [:]
                let isLucky =
                    switch ending {
                    case .namesOnly: true
                    case .mixed: (Int(truncatingIfNeeded: inode) &* 31 &+ step) % 2 == 0
                    default: false
                    }
                let names = isLucky ? try paths[inode].map { try self.names($0) } ?? synced : synced
                let mode = try paths[inode].flatMap { try Files().status($0)?.mode } ?? state.modes[inode]
                return .folder(entries: try names.mapValues(build), mode: mode ?? 0o700)
            }
        }
        guard let status = try Files().status(root) else { return .folder(entries: [:], mode: 0o700) }
        return try build(.folder(status.inode))
    }
}
