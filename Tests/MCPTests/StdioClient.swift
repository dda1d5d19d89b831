import Appliance
import Glibc
import MCP
import Platform
import Synchronization
import Testing

/// A client on two pipes, with the transport running between them.
final class StdioClient: Sendable {
    let toServer: Int32
    let fromServer: Int32
    let transport: StdioTransport
    let running: Task<Void, Never>
    private let serverInput: Int32
    private let serverOutput: Int32
    private let reactor: Reactor
    /// Received, but not asked for yet.
    private let unread = Mutex<[UInt8]>([])

    init(_ server: Server, _ limits: StdioTransport.Limits = StdioTransport.Limits()) throws {
        var request: [Int32] = [0, 0], answer: [Int32] = [0, 0]
        try #require(pipe(&request) == 0 && pipe(&answer) == 0)
        (serverInput, toServer) = (request[0], request[1])
        (fromServer, serverOutput) = (answer[0], answer[1])
        reactor = try Reactor()
        let transport = StdioTransport(
            server: server,
            input: request[0],
            output: ProtocolOutput(descriptor: answer[1]),
            limits: limits
        )
        self.transport = transport
        running = Task { await transport.run() }
    }

    func send(_ message: JSON) async { await send(line: message.compactText) }

    /// Writes on a thread of its own: a full pipe must not hold up the tasks that empty it.
    func send(line: String) async {
        let descriptor = toServer
        try? await BlockingThread.run("client") { () throws(GatewayError) in
            var rest = Array("\(line)\n".utf8)[...]
            while !rest.isEmpty {
                let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
                guard count > 0 else { return }
                rest = rest.dropFirst(count)
            }
        }
    }

    /// The next line from the server, `null` when none came in time.
    func receive(within limit: Duration = .seconds(60)) async -> JSON {
        while true {
            if let line = nextLine() { return parsed(line) }
            guard await reactor.readable(fromServer, within: limit) else { return .null }
            var buffer = [UInt8](repeating: 0, count: 65536)
            let count = read(fromServer, &buffer, buffer.count)
            guard count > 0 else { return .null }
            unread.withLock { $0 += buffer[..<count] }
        }
    }

    /// Whether there is something to read, now or within a minute; nothing is read.
    func reads() async throws -> Bool { await reactor.readable(fromServer, within: .seconds(60)) }

    private func nextLine() -> String? {
        unread.withLock { unread in
            guard let end = unread.firstIndex(of: UInt8(ascii: "\n")) else { return nil }
            defer { unread.removeSubrange(...end) }
            return String(decoding: unread[..<end], as: UTF8.self)
        }
    }

    func ask(_ message: JSON) async -> JSON {
        await send(message)
        return await receive()
    }

    func ask(line: String) async -> JSON {
        await send(line: line)
        return await receive()
    }

    /// Ends the input, waits for the transport to end, and gives every line that still came.
    func finish() async -> [JSON] {
        close(toServer)
        await running.value
        close(serverInput)
        close(serverOutput)
        var rest = unread.withLock { $0 }
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = read(fromServer, &buffer, buffer.count)
            guard count > 0 else { break }
            rest.append(contentsOf: buffer[..<count])
        }
        close(fromServer)
        return String(decoding: rest, as: UTF8.self).split(separator: "\n").map { parsed(String($0)) }
    }
}
