import Appliance
import Testing

@testable import Installer

@Suite("Deciding about a download")
struct DownloadStateTests {
    private typealias State = DownloadState

    private static let fresh = DownloadState(expected: 1000)

    /// A state in which so much of 1000 bytes came from a server with the validator `"a"`.
    private static func under(_ received: Int, policy: DownloadState.Policy = .init()) -> DownloadState {
        var state = DownloadState(expected: 1000, policy: policy)
        _ = state.handle(.answered(.init(status: 200, size: 1000, validator: "\"a\"")))
        _ = state.handle(.received(received))
        return state
    }

    /// A state that goes on with what an earlier command left.
    private static func resumed(
        _ received: Int64,
        size: Int64? = 1000,
        expected: Int64? = 1000
    ) -> DownloadState {
        var state = DownloadState(expected: expected)
        state.resume(received, size: size, validator: "\"a\"")
        return state
    }

    struct Row: Sendable, CustomTestStringConvertible {
        var title: String
        var state: DownloadState
        var event: DownloadState.Event
        var action: DownloadState.Action
        /// What is done after it when nothing is under way.
        var next: DownloadState.Action?

        init(
            _ title: String,
            _ state: DownloadState,
            _ event: DownloadState.Event,
            _ action: DownloadState.Action,
            then next: DownloadState.Action? = nil
        ) {
            (self.title, self.state, self.event, self.action, self.next) = (title, state, event, action, next)
        }

        var testDescription: String { title }
    }

    static let rows: [Row] = [
        // answers to the first request
        Row("the file comes", fresh, .answered(.init(status: 200, size: 1000)), .take),
        Row("the file comes without a size", fresh, .answered(.init(status: 200)), .take),
        Row(
            "a part that nobody asked for, from the start",
            fresh,
            .answered(.init(status: 206, size: 1000)),
            .take
        ),
        Row(
            "another size than the release says",
            fresh,
            .answered(.init(status: 200, size: 999)),
            .giveUp(.size(999))
        ),
        Row("no such file", fresh, .answered(.init(status: 404)), .giveUp(.status)),
        Row("not allowed", fresh, .answered(.init(status: 403)), .giveUp(.status)),
        Row("a server with a problem", fresh, .answered(.init(status: 503)), .wait(.seconds(1))),
        Row(
            "a server that says when",
            fresh,
            .answered(.init(status: 503, retryAfter: .seconds(7))),
            .wait(.seconds(7)),
            then: .ask(from: 0, validator: nil)
        ),
        Row(
            "a server that is too busy",
            fresh,
            .answered(.init(status: 429, retryAfter: .seconds(3600))),
            .giveUp(.busy(.seconds(3600)))
        ),
        // interruptions
        Row(
            "the connection is lost",
            under(400),
            .failed(isTemporary: true, jitter: 1),
            .wait(.seconds(1)),
            then: .ask(from: 400, validator: "\"a\"")
        ),
        Row(
            "jitter halves the wait at most",
            under(400),
            .failed(isTemporary: true, jitter: 0),
            .wait(.milliseconds(500))
        ),
        Row("a failure for good", under(400), .failed(isTemporary: false, jitter: 1), .giveUp(.failure)),
        Row(
            "the server ends too early",
            under(999),
            .ended(jitter: 1),
            .wait(.seconds(1)),
            then: .ask(from: 999, validator: "\"a\"")
        ),
        Row("everything came", under(1000), .ended(jitter: 1), .check),
        // answers to a request for the rest
        Row("the rest comes", resumed(400), .answered(.init(status: 206, offset: 400, size: 1000)), .take),
        Row(
            "all of it comes again",
            resumed(400),
            .answered(.init(status: 200, size: 1000)),
            .startOver,
            then: .ask(from: 0, validator: nil)
        ),
        Row(
            "another part comes",
            resumed(400),
            .answered(.init(status: 206, offset: 300, size: 1000)),
            .startOver,
            then: .ask(from: 0, validator: nil)
        ),
        Row(
            "the file has another size now",
            resumed(400, expected: nil),
            .answered(.init(status: 206, offset: 400, size: 1001)),
            .startOver
        ),
        Row("there is no such part", resumed(400), .answered(.init(status: 416)), .startOver),
        // the digest
        Row("the right digest", under(1000), .digested(matches: true), .accept),
        Row(
            "the wrong digest of what came in one piece",
            under(1000),
            .digested(matches: false),
            .giveUp(.digest)
        ),
        Row(
            "the wrong digest of what came in parts",
            resumed(1000),
            .digested(matches: false),
            .startOver,
            then: .ask(from: 0, validator: nil)
        ),
    ]

    @Test("answers every event", arguments: rows)
    func table(row: Row) {
        var state = row.state
        #expect(state.handle(row.event) == row.action)
        if let next = row.next { #expect(state.next() == next) }
    }

    @Test("asks for nothing when everything is there already")
    func complete() {
        #expect(Self.resumed(1000).next() == .check)
        #expect(Self.resumed(1000, size: nil).next() == .check)
        #expect(Self.resumed(1000, size: 1000, expected: nil).next() == .check)
        #expect(Self.resumed(1000, size: nil, expected: nil).next() == .ask(from: 1000, validator: "\"a\""))
    }

    @Test("waits twice as long after each failure in a row, and gives up in the end")
    func patience() {
        var state = Self.under(10)
        var waits: [DownloadState.Action] = []
        for _ in 0..<6 { waits.append(state.handle(.failed(isTemporary: true, jitter: 1))) }
        #expect(waits == [1, 2, 4, 8, 16].map { .wait(.seconds($0)) } + [.giveUp(.failure)])
    }

    @Test("is patient anew after every byte, but not for ever")
    func progress() {
        var state = Self.under(10)
        var last: DownloadState.Action = .take
        var failures = 0
        while case .take = state.handle(.received(1)), failures < 1000 {
            failures += 1
            last = state.handle(.failed(isTemporary: true, jitter: 1))
            guard last == .wait(.seconds(1)) else { break }
        }
        #expect(failures == 100 && last == .giveUp(.failure))
    }

    @Test("gives up sooner when nobody ever answered")
    func firstContact() {
        var state = Self.fresh
        let actions = (0..<3).map { _ in state.handle(.failed(isTemporary: true, jitter: 1)) }
        #expect(actions == [.wait(.seconds(1)), .wait(.seconds(2)), .giveUp(.failure)])
    }

    @Test("starts over three times at most")
    func restarts() {
        var state = Self.resumed(400)
        var actions: [DownloadState.Action] = []
        for _ in 0..<4 {
            actions.append(state.handle(.answered(.init(status: 416))))
            state.resume(400, size: 1000, validator: nil)
        }
        #expect(actions == [.startOver, .startOver, .startOver, .giveUp(.unsteady)])
    }
}

@Suite("Measuring a download")
struct TransferRateTests {
    @Test("averages over a few seconds, and forgets when the download starts over")
    func average() {
        var rate = TransferRate()
        rate.measure(0, at: 0)
        #expect(rate.bytesPerSecond == nil)
        rate.measure(2_000_000, at: 1_000_000_000)
        #expect(rate.bytesPerSecond == 2_000_000)
        rate.measure(2_000_000, at: 4_000_000_000)
        #expect(rate.bytesPerSecond == 0)
        rate.measure(100, at: 5_000_000_000)
        #expect(rate.bytesPerSecond == nil)
    }

    @Test("says how much there is, how fast it comes and how long it takes")
    func wording() {
        let half = FetchProgress(received: 50_000_000, total: 100_000_000)
        #expect(ProgressLine.wording(half) == "downloaded 50.0 of 100.0 MB (50 %)")
        #expect(
            ProgressLine.wording(half, rate: 2_500_000)
                == "downloaded 50.0 of 100.0 MB (50 %), 2.5 MB/s, 20 s left"
        )
        #expect(
            ProgressLine.wording(half, rate: 10_000, bar: true)
                == "[##########..........] downloaded 50.0 of 100.0 MB (50 %), 0.0 MB/s, 1 h 24 min left"
        )
        let open = FetchProgress(received: 1_234_567, total: nil)
        #expect(ProgressLine.wording(open, rate: 700_000, bar: true) == "downloaded 1.2 MB, 0.7 MB/s")
        let all = FetchProgress(received: 5, total: 5)
        #expect(ProgressLine.wording(all, rate: 1) == "downloaded 0.0 of 0.0 MB (100 %), 0.0 MB/s")
    }
}
