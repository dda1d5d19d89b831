import Appliance
import Glibc
import Platform
import Synchronization

@testable import Installer

/// An HTTP server on loopback that does exactly what a script says, also what no server should do.
///
/// Each connection carries one request; the scripts are used up in their order, the last one again and again.
final class HostileServer: Sendable {
    /// What happens on a connection after its request was read.
    enum Step: Sendable {
        case send([UInt8])
        case pause(Duration)
        /// Ends the connection with a reset, as a crashed machine would.
        case reset
    }

    struct Request: Sendable, Equatable {
        var target: String
        var fields: [String: String]
    }

    typealias Script = @Sendable (Request) -> [Step]

    private struct State {
        var scripts: [Script]
        var requests: [Request] = []
        var isClosed = false
    }

    let base: String
    private let listener: HTTPListener
    private let state: Mutex<State>

    init(_ scripts: [Script]) throws {
        listener = try HTTPListener.open(host: "127.0.0.1", port: 0)
        _ = fcntl(listener.descriptor, F_SETFL, fcntl(listener.descriptor, F_GETFL) & ~O_NONBLOCK)
        base = "http://\(listener.name)"
        state = Mutex(State(scripts: scripts))
        BlockingThread.start("hostile-server") { self.serve() }
    }

    /// What was asked, in order.
    var requests: [Request] { state.withLock { $0.requests } }

    /// Ends the serving thread; connections under way end by themselves.
    func close() {
        state.withLock { $0.isClosed = true }
        shutdown(listener.descriptor, Int32(SHUT_RDWR))
    }

    private func serve() {
        while true {
            let peer = accept(listener.descriptor, nil, nil)
            if state.withLock({ $0.isClosed }) || peer < 0 {
                if peer >= 0 { Glibc.close(peer) }
                Glibc.close(listener.descriptor)
                return
            }
            BlockingThread.start("hostile-connection") { self.answer(peer) }
        }
    }

    private func answer(_ peer: Int32) {
        defer { Glibc.close(peer) }
        guard let request = read(peer) else { return }
        let script = state.withLock { state -> Script? in
            state.requests.append(request)
            return state.scripts.count > 1 ? state.scripts.removeFirst() : state.scripts.first
        }
        for step in script?(request) ?? [] {
            switch step {
            case .send(let bytes):
                var rest = bytes[...]
                while !rest.isEmpty {
                    let count = rest.withUnsafeBytes {
                        send(peer, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
                    }
                    guard count > 0 else { return }
                    rest = rest.dropFirst(count)
                }
            case .pause(let duration):
                usleep(UInt32(duration / .microseconds(1)))
            case .reset:
                var hard = linger(l_onoff: 1, l_linger: 0)
                setsockopt(peer, SOL_SOCKET, SO_LINGER, &hard, socklen_t(MemoryLayout<linger>.size))
                return
            }
        }
        // The client reads to the end before the connection is torn down.
        shutdown(peer, Int32(SHUT_WR))
        var scratch = [UInt8](repeating: 0, count: 256)
        while recv(peer, &scratch, scratch.count, 0) > 0 {}
    }

    private func read(_ peer: Int32) -> Request? {
        var text = ""
        var scratch = [UInt8](repeating: 0, count: 4096)
        while !text.contains("\r\n\r\n") {
            let count = recv(peer, &scratch, scratch.count, 0)
            guard count > 0 else { return nil }
            text += String(decoding: scratch.prefix(count), as: UTF8.self)
        }
        let lines = text.replacing("\r\n", with: "\n").split(separator: "\n")
        var fields: [String: String] = [:]
        for line in lines.dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            if parts.count == 2 { fields[parts[0].lowercased()] = String(parts[1]).trimmed }
        }
        return Request(
            target: String(lines.first?.split(separator: " ").dropFirst().first ?? ""),
            fields: fields
        )
    }

    // MARK: scripts

    /// An answer with this status and these fields.
    static func head(_ status: Int, _ fields: [String: String]) -> Step {
        let lines = fields.map { "\($0.key): \($0.value)\r\n" }.sorted().joined()
        return .send(Array("HTTP/1.1 \(status) X\r\n\(lines)Connection: close\r\n\r\n".utf8))
    }

    /// An honest server with ranges; `cut` is after how many bytes of a body the connection is reset.
    static func file(_ bytes: [UInt8], tag: String? = "\"v1\"", cut: Int? = nil) -> Script {
        { request in
            var fields = ["Accept-Ranges": "bytes"]
            if let tag { fields["ETag"] = tag }
            let offset = request.fields["range"].flatMap { Int($0.dropFirst("bytes=".count).dropLast()) }
            let isSame = request.fields["if-range"].map { $0 == tag } ?? true
            var body = bytes[...]
            var status = 200
            if let offset, isSame {
                guard offset < bytes.count else {
                    return [head(416, ["Content-Range": "bytes */\(bytes.count)", "Content-Length": "0"])]
                }
                body = bytes[offset...]
                status = 206
                fields["Content-Range"] = "bytes \(offset)-\(bytes.count - 1)/\(bytes.count)"
            }
            fields["Content-Length"] = "\(body.count)"
            guard let cut, cut < body.count else { return [head(status, fields), .send(Array(body))] }
            // What was sent shall arrive before the reset.
            return [head(status, fields), .send(Array(body.prefix(cut))), .pause(.milliseconds(100)), .reset]
        }
    }

    /// The same without ranges: always everything.
    static func whole(_ bytes: [UInt8], cut: Int? = nil) -> Script {
        { request in
            var plain = request
            plain.fields["range"] = nil
            return file(bytes, tag: nil, cut: cut)(plain)
        }
    }

    /// Only a status.
    static func status(_ status: Int, _ fields: [String: String] = [:]) -> Script {
        { _ in [head(status, fields.merging(["Content-Length": "0"]) { $1 })] }
    }
}
