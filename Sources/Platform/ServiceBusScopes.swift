import Appliance
import CSystemd
import Glibc

extension ServiceBus {
    /// A unit for one process and what that starts, as StartTransientUnit (org.freedesktop.systemd1(5)) makes it: with accounting,
    /// and forgotten as soon as nothing runs in it.
    package struct Scope: Sendable, Equatable {
        /// `llm-cli-gateway-job-ID.scope`; nobody else may have it.
        package var name: String
        /// The slice that it belongs to, which is made where there is none.
        package var slice: String
        /// What `systemctl` shows.
        package var description: String
        /// The process, a child of the one that asks.
        package var pid: Int32

        /// A scope that is not there yet.
        package init(name: String, slice: String, description: String, pid: Int32) {
            self.name = name
            self.slice = slice
            self.description = description
            self.pid = pid
        }

        /// Whether a text can be part of a unit's name, systemd.unit(5).
        package static func canName(_ text: String) -> Bool {
            !text.isEmpty && text.utf8.count <= 128
                && text.utf8.allSatisfy { byte in
                    (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte)
                        || (0x61...0x7A).contains(byte)
                        || ":-_.".utf8.contains(byte)
                }
        }
    }

    /// What a scope is to have beside its process, from the most to what every manager knows.
    enum ScopeDetail: Int, Sendable, CaseIterable {
        /// Accounting, and an OOM kill of one process leaves the others alone: since systemd 253.
        case whole
        /// Accounting.
        case accounting
        case bare

        /// What remains to be asked for when a manager does not know a property.
        var less: ScopeDetail? { ScopeDetail(rawValue: rawValue + 1) }
    }

    /// Whether a refusal is about a property, in the words of systemd's releases.
    static func isOfProperty(_ refusal: GatewayError) -> Bool {
        ["PropertyReadOnly", "UnknownProperty", "InvalidArgs"].contains {
            refusal.cause == "org.freedesktop.DBus.Error.\($0)"
        }
    }

    /// What the manager says about requests that nobody waits for.
    enum Event: Sendable {
        /// A request was refused.
        case refused(UInt64, GatewayError)
        /// A job of a unit has ended, in systemd's word: `done`, `failed`, `canceled` and more.
        case jobEnded(unit: String, result: String)
        /// Something else.
        case other
    }

    /// Readable when there is an event.
    var descriptor: Int32 { shim_bus_descriptor(bus) }

    /// Asks for a scope; waits for nothing, and gives the number by which a refusal names the request.
    ///
    /// `watchJobs` must have been called before: that the job of the scope has ended says that the process is in it.
    func request(_ scope: Scope, _ detail: ScopeDetail) throws(GatewayError) -> UInt64 {
        var cookie: UInt64 = 0
        let number = CStrings.with([scope.name, scope.slice, scope.description]) { texts in
            guard let name = texts[0], let slice = texts[1], let description = texts[2] else {
                return -ENOMEM
            }
            var request = shim_bus_scope(
                name: UnsafePointer(name),
                slice: UnsafePointer(slice),
                description: UnsafePointer(description),
                pid: UInt32(scope.pid),
                accounts: detail != .bare,
                bears_oom: detail == .whole
            )
            return shim_bus_start_scope(bus, &request, &cookie)
        }
        try ServiceBus.check(number, "ask for the scope '\(scope.name)'")
        return cookie
    }

    /// What has come next; `nil` when nothing has, for now.
    ///
    /// Throws `service-manager` when the connection is gone.
    func nextEvent() throws(GatewayError) -> Event? {
        var event = shim_bus_event()
        try ServiceBus.check(shim_bus_take_event(bus, &event), "hear from the service manager")
        switch event.kind {
        case shim_bus_nothing: return nil
        case shim_bus_refused:
            return .refused(event.cookie, ServiceBus.refusal("StartTransientUnit", 0, event.failure))
        case shim_bus_job_ended:
            return .jobEnded(
                unit: withUnsafeBytes(of: event.unit) { ServiceBus.text($0) },
                result: withUnsafeBytes(of: event.result) { ServiceBus.text($0) }
            )
        default: return .other
        }
    }
}
