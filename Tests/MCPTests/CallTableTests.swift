import Testing

@testable import MCP

@Suite("Calls that are being worked on")
struct CallTableTests {
    @Test("free their id before the answer is given, so that a client may use it again at once")
    func reuse() async throws {
        let table = CallTable(limit: 8)
        let key = CallTable.Key(session: "s", id: .int(1))
        let (answers, continuation) = AsyncStream.makeStream(of: Bool.self)
        try table.start(key, Cancellation()) {
            #expect(throws: CallTable.Refusal.idInUse) {
                try table.start(key, Cancellation()) { {} }
            }
            return {
                do {
                    try table.start(key, Cancellation()) { { continuation.yield(true) } }
                } catch {
                    continuation.yield(false)
                }
            }
        }
        #expect(await answers.first { _ in true } == true)
        #expect(await table.finish(grace: .seconds(10), deadline: .zero))
    }
}
