import Appliance
import Glibc
import TestSupport
import Testing

@testable import Platform

/// A manager's end of the notification socket.
private final class Manager: Sendable {
    let descriptor: Int32

    init(_ name: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var limit = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { place in
            place.copyBytes(from: name.utf8)
            if name.hasPrefix("@") { place[0] = 0 }
        }
        let length = socklen_t(2 + name.utf8.count + (name.hasPrefix("@") ? 0 : 1))
        let status = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
        }
        try #require(status == 0)
    }

    deinit { close(descriptor) }

    func next() -> String {
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = recv(descriptor, &bytes, bytes.count, 0)
        return String(decoding: bytes[..<max(0, count)], as: UTF8.self)
    }
}

@Suite("Notifying the service manager")
struct ServiceNotificationTests {
    @Test("speaks the protocol over a path and over an abstract name", arguments: [false, true])
    func messages(abstract: Bool) throws {
        let directory = try TemporaryDirectory()
        let name = abstract ? "@llm-gateway-test-\(getpid())" : directory.path("notify")
        let manager = try Manager(name)
        let service = ServiceNotification(environment: ["NOTIFY_SOCKET": name])
        #expect(service.isActive)
        service.ready("listening\non 127.0.0.1:3333")
        #expect(manager.next() == "READY=1\nSTATUS=listening on 127.0.0.1:3333")
        service.status("3 jobs")
        #expect(manager.next() == "STATUS=3 jobs")
        service.watchdog()
        #expect(manager.next() == "WATCHDOG=1")
        service.reloading()
        #expect(manager.next().hasPrefix("RELOADING=1\nMONOTONIC_USEC="))
        service.mainProcess(42)
        #expect(manager.next() == "MAINPID=42")
        service.stopping()
        #expect(manager.next() == "STOPPING=1")
    }

    @Test("does nothing without a manager")
    func inactive() {
        #expect(!ServiceNotification(environment: [:]).isActive)
        #expect(!ServiceNotification(environment: [:]).send(["READY=1"]))
        #expect(!ServiceNotification(environment: ["NOTIFY_SOCKET": "/nonexistent/socket"]).send(["READY=1"]))
        #expect(!ServiceNotification(environment: ["NOTIFY_SOCKET": "relative"]).isActive)
        let long = "/" + String(repeating: "x", count: 200)
        #expect(!ServiceNotification(environment: ["NOTIFY_SOCKET": long]).send(["READY=1"]))
    }

    @Test(
        "reads the watchdog's interval, if it is meant for this process",
        arguments: [
            (["WATCHDOG_USEC": "30000000"], Duration.seconds(30)),
            (["WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "\(getpid())"], .seconds(5)),
            (["WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"], nil),
            (["WATCHDOG_USEC": "0"], nil), (["WATCHDOG_USEC": "x"], nil), ([:], nil),
        ] as [([String: String], Duration?)]
    )
    func watchdog(environment: [String: String], interval: Duration?) {
        #expect(ServiceNotification(environment: environment).watchdogInterval == interval)
    }

    @Test("leaves sockets that are meant for another process, and drops the variables")
    func foreignSockets() {
        var environment = ["LISTEN_PID": "1", "LISTEN_FDS": "1", "PATH": "/bin"]
        #expect(ServiceNotification.takeSockets(environment: &environment).isEmpty)
        #expect(environment == ["PATH": "/bin"])
        environment = ["LISTEN_PID": "\(getpid())", "LISTEN_FDS": "100000"]
        #expect(ServiceNotification.takeSockets(environment: &environment).isEmpty)
    }
}

@Suite("The user's service manager")
struct ServiceBusTests {
    @Test("of another user is not asked, whatever XDG_RUNTIME_DIR says")
    func foreignFolder() throws {
        if getuid() != 0 { try Test.cancel("only root can make a folder of another user") }
        if Files().exists("/run/user/0") { try Test.cancel("root has a service manager here") }
        let directory = try TemporaryDirectory()
        try #require(chown(directory.root, 50123, 50123) == 0)
        let error = #expect(throws: GatewayError.self) {
            _ = try ServiceBus.connect(environment: ["XDG_RUNTIME_DIR": directory.root])
        }
        #expect(error?.code == "user-manager-unreachable")
        #expect(
            error?.message.contains(
                "XDG_RUNTIME_DIR is '\(directory.root)', which belongs to user 50123"
            ) == true
        )
    }
}
