import Appliance
import Platform

/// What answers at the gateway's address.
struct Health: Sendable, Equatable {
    enum Answer: Sendable, Equatable {
        /// Our gateway, which says who it is.
        case gateway(pid: Int32, version: String, sessions: Int)
        /// Nobody listens.
        case nobody
        /// Something listens that is not our gateway: what it answered.
        case foreign(String)
        /// Something listens and does not answer in time.
        case silent
    }

    /// Asks `/healthz` once, at most for so long; a server that answers anything but our own form is not ours.
    static func ask(_ settings: Settings, within limit: Duration = .seconds(2)) async -> Answer {
        let answer: HTTPClient.Answer
        do throws(GatewayError) {
            answer = try await LoopbackProbe.ask(
                host: settings.connectHost,
                port: settings.port,
                path: "/healthz",
                within: limit
            )
        } catch {
            switch error.code {
            case "connection-refused": return .nobody
            case "timed-out": return .silent
            default: return .foreign(error.message)
            }
        }
        return interpret(status: answer.status, body: answer.body)
    }

    /// What an answer means: ours has our name, a version and a process.
    static func interpret(status: Int, body: [UInt8]) -> Answer {
        guard status == 200, let json = try? JSON.parse(String(decoding: body, as: UTF8.self)),
            json["name"]?.string == Product.name, let version = json["version"]?.string,
            let pid = json["pid"]?.int
        else { return .foreign("it answers /healthz with status \(status) and not as a gateway") }
        return .gateway(pid: Int32(clamping: pid), version: version, sessions: json["sessions"]?.int ?? 0)
    }
}
