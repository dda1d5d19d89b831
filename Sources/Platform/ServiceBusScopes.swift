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
    func request(_ scope: Scope, oomPolicy: String?) throws(GatewayError) -> UInt64 {
        var cookie: UInt64 = 0
        let number = CStrings.with([scope.name, scope.slice, scope.description]) { texts in
            guard let name = texts[0], let slice = texts[1], let description = texts[2] else {
                return -ENOMEM
            }
            func send(_ policy: UnsafePointer<CChar>?) -> Int32 {
                var request = shim_bus_scope(
                    name: UnsafePointer(name),
                    slice: UnsafePointer(slice),
                    description: UnsafePointer(description),
                    pid: UInt32(scope.pid),
                    oom_policy: policy
                )
                return shim_bus_start_scope(bus, &request, &cookie)
            }
            return oomPolicy.map { $0.withCString(send) } ?? send(nil)
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
