import Appliance
import Glibc
import Platform

/// The process that listens on a port of this machine, found through /proc.
struct PortOwner: Sendable, Equatable {
    /// `nil` when it belongs to another user, whose descriptors cannot be seen.
    var pid: Int32?
    /// Its command line, shortened.
    var command: String?
    var uid: UInt32

    /// `process 4711 (python3 -m http.server 3333)`.
    var wording: String {
        guard let pid else { return "a process of user \(uid)" }
        return "process \(pid)" + (command.map { " (\($0))" } ?? "")
    }

    /// The form of `status` and of errors for programs.
    var json: JSON {
        ["pid": .optional(pid.map(Int.init)), "command": .optional(command), "uid": .integer(uid)]
    }

    /// Who listens where a gateway of these settings would, `nil` when nobody does but for `own` sockets.
    static func find(
        _ settings: Settings,
        besides own: [Listener] = [],
        files: Files = Files()
    ) -> PortOwner? {
        let wanted = listeners(files: files).filter {
            $0.port == settings.port && conflicts($0.address, settings.host) && !own.contains($0)
        }
        guard let socket = wanted.first else { return nil }
        let marks = Set(wanted.map(\.mark))
        for name in (try? files.list("/proc")) ?? [] {
            guard let pid = Int32(name) else { continue }
            let folder = "/proc/\(pid)/fd"
            for descriptor in (try? files.list(folder)) ?? [] {
                guard let target = files.destination(ofLink: Layout.join(folder, descriptor)),
                    marks.contains(target)
                else { continue }
                return PortOwner(pid: pid, command: shortened(ProcessTable.commandLine(pid)), uid: socket.uid)
            }
        }
        return PortOwner(pid: nil, command: nil, uid: socket.uid)
    }

    /// A listening socket of the kernel's table.
    struct Listener: Equatable {
        /// 4 or 16 bytes in network order.
        var address: [UInt8]
        var port: Int
        var uid: UInt32
        var inode: String

        /// What the link of a descriptor of it says (proc_pid_fd(5)).
        var mark: String { "socket:[\(inode)]" }

        /// The address as inet_ntop(3) writes it.
        var host: String? {
            var buffer = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
            let family = address.count == 4 ? AF_INET : AF_INET6
            guard inet_ntop(family, address, &buffer, socklen_t(buffer.count)) != nil else { return nil }
            return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }

        /// `127.0.0.1:3333`, `[::1]:3333`.
        var name: String? { host.map { HTTPListener.name($0, port) } }

        /// Whether it is the one that a gateway of these settings opens; one of a name's addresses may be any.
        func isAt(_ settings: Settings) -> Bool {
            let wanted = PortOwner.address(of: settings.host)
            return port == settings.port && (wanted == nil || address == wanted)
        }
    }

    /// The sockets on which a process listens, by their descriptors; none where those cannot be seen.
    ///
    /// The first is the one that a gateway serves.
    static func listeners(of pid: Int32, files: Files) -> [Listener] {
        let known = listeners(files: files)
        return marks(of: pid, files: files).compactMap { mark in known.first { $0.mark == mark } }
    }

    /// What the links of a process's descriptors say, in their order; nothing where they cannot be seen.
    static func marks(of pid: Int32, files: Files) -> [String] {
        let folder = "/proc/\(pid)/fd"
        let descriptors = ((try? files.list(folder)) ?? []).compactMap { Int($0) }.sorted()
        return descriptors.compactMap { files.destination(ofLink: Layout.join(folder, "\($0)")) }
    }

    /// The listening sockets of this machine, of TCP.
    static func listeners(files: Files) -> [Listener] {
        ["/proc/net/tcp", "/proc/net/tcp6"].flatMap { listeners(in: (try? files.readText($0)) ?? "") }
    }

    /// Reads the listening sockets of a /proc/net/tcp or tcp6 table.
    static func listeners(in table: String) -> [Listener] {
        table.split(separator: "\n").dropFirst().compactMap { line in
            let fields = line.split(separator: " ")
            // State 0A is LISTEN.
            guard fields.count > 9, fields[3] == "0A" else { return nil }
            let local = fields[1].split(separator: ":")
            guard local.count == 2, let port = Int(local[1], radix: 16), let uid = UInt32(fields[7]),
                let words = Hex.decode(local[0].lowercased()), words.count % 4 == 0
            else { return nil }
            // The kernel prints each 32-bit word as a number of this machine, and Linux runs here on little-endian ones.
            let address = stride(from: 0, to: words.count, by: 4).flatMap { words[$0..<$0 + 4].reversed() }
            return Listener(address: address, port: port, uid: uid, inode: String(fields[9]))
        }
    }

    /// Whether a listener on one address keeps another from listening on `host`, or answers in its place.
    static func conflicts(_ address: [UInt8], _ host: String) -> Bool {
        guard let wanted = self.address(of: host) else { return true }
        let mapped = [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF]
        func isForAll(_ address: [UInt8]) -> Bool { address.allSatisfy { $0 == 0 } }
        // `::` is for addresses of both kinds.
        if wanted.count == 16, isForAll(wanted) { return true }
        if address.count == 16, isForAll(address) { return true }
        let four = address.starts(with: mapped) ? Array(address.dropFirst(12)) : address
        guard four.count == wanted.count else { return false }
        return four == wanted || isForAll(four) || isForAll(wanted)
    }

    /// A numeric address as 4 or 16 bytes in network order; `nil` for a name.
    static func address(of host: String) -> [UInt8]? {
        var four = in_addr()
        if inet_pton(AF_INET, host, &four) == 1 { return withUnsafeBytes(of: four) { Array($0) } }
        var six = in6_addr()
        return inet_pton(AF_INET6, host, &six) == 1 ? withUnsafeBytes(of: six) { Array($0) } : nil
    }

    /// One line of it, however long and wild it is, without what is known to be a secret: strangers pass keys in words.
    static func shortened(_ text: String) -> String? {
        let command = text.split { $0.isWhitespace || $0.asciiValue.map { $0 < 0x20 } ?? false }
            .joined(separator: " ")
        if command.isEmpty { return nil }
        let shown = Redaction.secrets(in: command)
        return shown.count > 160 ? String(shown.prefix(157)) + "…" : shown
    }
}
