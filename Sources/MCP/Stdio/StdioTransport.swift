import Appliance
import CShims
import Glibc
import Platform

/// MCP over standard input and output, one JSON message a line.
///
/// 1. A thread reads lines, answers what can be answered at once, and starts a task for what takes time.
/// 2. The end of the input gives running calls a moment, then cancels them with `.shutdown`; what they still return is
///    sent.
/// 3. `run` returns when the output is written; the process can end.
package final class StdioTransport: Sendable {
    /// The limits of the transport.
    package struct Limits: Sendable {
        /// Bytes of a line; a longer one is refused and skipped.
        package var line = 16 << 20
        /// Calls at once.
        package var calls = 256
        /// What running calls get after the end of the input before they are cancelled.
        package var grace = Duration.seconds(1)
        /// What cancelled calls get to return, and the output to be written.
        package var deadline = Duration.seconds(5)

        /// The defaults.
        package init() {}
    }

    private let server: Server
    private let principal: Principal
    private let input: Int32
    private let output: ProtocolOutput
    private let limits: Limits
    private let calls: CallTable
    private let bell: Int32

    /// A transport between two ends; `input` stays open.
    package init(
        server: Server,
        input: Int32,
        output: ProtocolOutput,
        principal: Principal = .local,
        limits: Limits = Limits()
    ) {
        self.server = server
        self.principal = principal
        self.input = input
        self.output = output
        self.limits = limits
        calls = CallTable(limit: limits.calls)
        bell = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
    }

    deinit { if bell >= 0 { close(bell) } }

    /// Serves until the input ends or `stop` is called, and until what was begun is finished.
    ///
    /// Once only.
    package func run() async {
        await withCheckedContinuation { continuation in
            BlockingThread.start("mcp-input") { [self] in
                serve()
                continuation.resume()
            }
        }
        _ = await calls.finish(grace: limits.grace, deadline: limits.deadline)
        await output.close(within: limits.deadline)
    }

    /// Reads nothing more, as if the input had ended.
    ///
    /// Safe from any thread.
    package func stop() {
        var one: UInt64 = 1
        write(bell, &one, 8)
        // A client that does not read either must not hold up the end.
        output.stopWaiting()
    }

    // MARK: the thread

    private func serve() {
        let reader = LineReader(descriptor: input, bell: bell, limit: limits.line)
        var conversation = StdioConversation()
        while !output.isBroken {
            switch reader.next() {
            case .end: return
            case .tooLong:
                let error = ProtocolError.invalidRequest("a message may have at most \(limits.line) bytes")
                output.send(Reply.failure(nil, error).bytes)
            case .text(let line) where line.allSatisfy({ $0 == 0x20 || $0 == 0x09 }): break
            case .text(let line): receive(line, &conversation)
            }
            output.waitForRoom()
        }
    }

    private func receive(_ line: [UInt8], _ conversation: inout StdioConversation) {
        let value: JSON
        do throws(JSONSyntaxError) {
            value = try JSON.parse(line, maximumDepth: MessageLimit.depth)
        } catch {
            return output.send(Reply.failure(nil, .parse(error)).bytes)
        }
        let caller = Caller(principal: principal, transport: .stdio)
        switch conversation.receive(Message(value)) {
        case .ignored: break
        case .refused(let reply): output.send(reply.bytes)
        case .cancel(let notice):
            calls.cancel(CallTable.Key(session: "", id: notice.id), .client(notice.reason))
        case .initialize(let request, let session):
            output.send(server.answerInitialize(request, session).bytes)
        case .modern(let request): carryOut(server.planModern(request, from: caller, fields: nil))
        case .legacy(let request, let session): carryOut(server.plan(request, in: session, from: caller))
        }
    }

    private func carryOut(_ plan: Plan) {
        switch plan {
        case .reply(let reply): output.send(reply.bytes)
        case .work(let work): start(work)
        }
    }

    private func start(_ work: Work) {
        let cancellation = Cancellation()
        let progress = ProgressReporter(token: work.progressToken) { [output] in output.sendNotification($0) }
        do throws(CallTable.Refusal) {
            try calls.start(CallTable.Key(session: "", id: work.id), cancellation) { [output] in
                let reply = await work.run(progress, cancellation)
                progress.close()
                return { if let reply { output.send(reply.bytes) } }
            }
        } catch {
            output.send(Reply.failure(work.id, error.error).bytes)
        }
    }
}
