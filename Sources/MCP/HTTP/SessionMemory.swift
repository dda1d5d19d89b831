package import Appliance
package import Platform
import Synchronization

/// The file through which legacy sessions outlive their gateway.
///
/// 1. A gateway that starts reads what the one before left. Where that one did not end in order, any session may have
///    been used until then.
/// 2. It writes that it is at work, and each end of a session as one more line at once: a deleted session must stay deleted
///    even after a crash.
/// 3. When it ends in order, it writes when each session was used last.
///
/// Nothing is synced: after a power cut clients begin anew.
package final class SessionMemory: Sendable {
    private static let limit = 16 << 20

    private let path: String
    private let files: Files
    private let report: @Sendable (GatewayError) -> Void
    /// Lines that were added since the file was written whole; held while the file is changed.
    private let added = Mutex(0)

    /// A memory in a file; `report` gets what went wrong, which never stops anything.
    package init(path: String, files: Files, report: @escaping @Sendable (GatewayError) -> Void) {
        self.path = path
        self.files = files
        self.report = report
    }

    /// What is known when a gateway starts; from now on it is the one at work.
    func begin(now: Int64) -> SessionPast {
        var past = SessionPast(unknownUntil: now)
        noting { () throws(GatewayError) in
            guard let bytes = try files.readIfPresent(path, limit: SessionMemory.limit) else { return }
            let lines = bytes.split(separator: 10).map { try? JSON.parse(Array($0)) }
            guard let first = lines.first ?? nil, let written = SessionPast(json: first) else { return }
            past = written
            if first["orderly"]?.bool != true {
                past.sessions = [:]
                past.forgotten = now
            }
            for case let line? in lines.dropFirst() {
                guard let name = line["ended"]?.string, let time = line["at"]?.int else { continue }
                past.sessions[name] = nil
                past.ended[name] = Int64(time)
            }
        }
        write(past, orderly: false)
        return past
    }

    /// A session has ended; `known` is asked for everything when the file has become long.
    func ended(_ name: String, now: Int64, known: () -> SessionPast) {
        let line: JSON = ["ended": .string(name), "at": .int(now)]
        added.withLock { added in
            added += 1
            if added > SessionTable.endedLimit {
                added = 0
                write(known(), orderly: false)
            } else {
                noting { () throws(GatewayError) in try files.append(line.compact + [10], to: path) }
            }
        }
    }

    /// The gateway ends in order.
    func end(_ past: SessionPast) { added.withLock { _ in write(past, orderly: true) } }

    private func write(_ past: SessionPast, orderly: Bool) {
        var json = past.json
        json["orderly"] = .bool(orderly)
        noting { () throws(GatewayError) in
            try files.write(json.compact + [10], to: path, durable: false)
        }
    }

    private func noting(_ body: () throws(GatewayError) -> Void) {
        do throws(GatewayError) { try body() } catch { report(error) }
    }
}
