import CShims
import Glibc

/// Tells the service manager how the service is, by the protocol of sd_notify(3).
///
/// That is one datagram of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names. Without that variable every call does nothing.
package struct ServiceNotification: Sendable {
    /// A listening socket that systemd opened (sd_listen_fds(3)).
    package struct InheritedSocket: Sendable, Equatable {
        /// Open and close-on-exec; whoever takes it closes it.
        package var descriptor: Int32
        /// The unit's `FileDescriptorName=`; empty when it has none.
        package var name: String
    }

    /// The variables of the protocol; no child may inherit them.
    package static let variables = [
        "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
    ]

    private let socketPath: String?
    /// Within what time the manager wants to hear `watchdog()` again; `nil` when it does not want to.
    ///
    /// Call it every half of that.
    package let watchdogInterval: Duration?

    /// Reads `NOTIFY_SOCKET` and `WATCHDOG_USEC`; the latter counts only for the process it names.
    package init(environment: [String: String]) {
        socketPath = environment["NOTIFY_SOCKET"].flatMap {
            $0.hasPrefix("/") || $0.hasPrefix("@") ? $0 : nil
        }
        let isForUs = environment["WATCHDOG_PID"].map { $0 == String(getpid()) } ?? true
        let microseconds = environment["WATCHDOG_USEC"].flatMap { Int64($0) } ?? 0
        watchdogInterval = isForUs && microseconds > 0 ? .microseconds(microseconds) : nil
    }

    /// Whether a service manager listens.
    package var isActive: Bool { socketPath != nil }

    /// The service is up, and what it says of itself.
    package func ready(_ status: String? = nil) { send(["READY=1"] + ServiceNotification.line(status)) }

    /// The service begins to stop.
    package func stopping(_ status: String? = nil) { send(["STOPPING=1"] + ServiceNotification.line(status)) }

    /// The service reloads its configuration; `ready` ends that.
    package func reloading() {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        send(["RELOADING=1", "MONOTONIC_USEC=\(Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000)"])
    }

    /// What `systemctl status` shows of the service.
    package func status(_ text: String) { send(ServiceNotification.line(text)) }

    /// The service is alive.
    package func watchdog() { send(["WATCHDOG=1"]) }

    /// Another process is the service's main one from now on.
    package func mainProcess(_ pid: Int32) { send(["MAINPID=\(pid)"]) }

    private static func line(_ status: String?) -> [String] {
        status.map { ["STATUS=" + $0.replacing("\n", with: " ").prefix(1024)] } ?? []
    }

    /// Sends one datagram; false when nobody took it.
    @discardableResult
    package func send(_ lines: [String]) -> Bool {
        guard let socketPath else { return false }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let path = Array(socketPath.utf8)
        let capacity = MemoryLayout.size(ofValue: address.sun_path)
        guard path.count < capacity else { return false }
        withUnsafeMutableBytes(of: &address.sun_path) { place in
            place.copyBytes(from: path)
            // A leading @ stands for the NUL of the abstract name space, whose names have no end mark.
            if path[0] == UInt8(ascii: "@") { place[0] = 0 }
        }
        let offset = MemoryLayout<sockaddr_un>.size - capacity
        let length = socklen_t(offset + path.count + (path[0] == UInt8(ascii: "@") ? 0 : 1))
        let kind = Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue)
        let descriptor = socket(AF_UNIX, kind, 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        // A manager that does not read must not hold up the service.
        var limit = timeval(tv_sec: 1, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        let message = Array(lines.joined(separator: "\n").utf8)
        let sent = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                sendto(descriptor, message, message.count, Int32(MSG_NOSIGNAL), $0, length)
            }
        }
        return sent == message.count
    }

    /// Takes over the sockets that systemd passed to this process, and removes the protocol's listen variables from
    /// `environment` and from the process, so that no child takes them for its own.
    ///
    /// To be called in `main` before there are threads: unsetenv(3) is not made for them.
    package static func takeSockets(environment: inout [String: String]) -> [InheritedSocket] {
        defer {
            for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
                environment[name] = nil
                unsetenv(name)
            }
        }
        guard environment["LISTEN_PID"] == String(getpid()),
            let count = environment["LISTEN_FDS"].flatMap({ Int32($0) }), (1...64).contains(count)
        else { return [] }
        let names = (environment["LISTEN_FDNAMES"] ?? "").split(
            separator: ":",
            omittingEmptySubsequences: false
        )
        return (0..<count).map { index in
            let descriptor = 3 + index
            _ = shim_set_cloexec(descriptor, true)
            let name = names.indices.contains(Int(index)) ? String(names[Int(index)]) : ""
            return InheritedSocket(descriptor: descriptor, name: name)
        }
    }
}
