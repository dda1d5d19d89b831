import Appliance
import Jobs
import Testing

@Suite("The states of a job")
struct StateMachineTests {
    typealias State = JobStateMachine.State
    typealias Event = JobStateMachine.Event
    typealias Action = JobStateMachine.Action

    static let events: [Event] =
        [.turnCame, .turnMissed, .startFailed, .cancelRequested, .runnerLost, .cleared]
        + ExitRecord.Verdict.allCases.map { .runnerEnded($0) }

    /// Everything that changes something; any other event in any other state changes nothing.
    static let table: [(State, Event, State, Action)] = [
        (.queued, .turnCame, .running, .startRunner),
        (.queued, .turnMissed, .ended(.failed), .commit(.failed)),
        (.queued, .cancelRequested, .ended(.canceled), .commit(.canceled)),
        (.running, .startFailed, .ended(.failed), .commit(.failed)),
        (.running, .cancelRequested, .canceling, .signalRunner),
        (.running, .runnerEnded(.succeeded), .ended(.completed), .commit(.completed)),
        (.running, .runnerEnded(.failed), .ended(.failed), .commit(.failed)),
        (.running, .runnerEnded(.canceled), .ended(.canceled), .commit(.canceled)),
        (.running, .runnerLost, .clearing(.orphaned), .clear),
        (.canceling, .startFailed, .ended(.failed), .commit(.failed)),
        (.canceling, .runnerEnded(.succeeded), .ended(.completed), .commit(.completed)),
        (.canceling, .runnerEnded(.failed), .ended(.failed), .commit(.failed)),
        (.canceling, .runnerEnded(.canceled), .ended(.canceled), .commit(.canceled)),
        (.canceling, .runnerLost, .clearing(.canceled), .clear),
        (.clearing(.orphaned), .cleared, .ended(.orphaned), .commit(.orphaned)),
        (.clearing(.canceled), .cleared, .ended(.canceled), .commit(.canceled)),
    ]

    @Test("change as the table says, and in no other way")
    func followsTable() {
        let states: [State] =
            [.queued, .running, .canceling, .clearing(.orphaned), .clearing(.canceled)]
            + [JobStatus.completed, .failed, .canceled, .orphaned].map { .ended($0) }
        for state in states {
            for event in Self.events {
                var machine = JobStateMachine(state)
                let action = machine.handle(event)
                let row = Self.table.first { $0.0 == state && $0.1 == event }
                #expect(machine.state == row?.2 ?? state, "\(state) \(event)")
                #expect(action == row?.3, "\(state) \(event)")
            }
        }
    }

    @Test("commit once in every order of events, to a depth of five")
    func commitsOnce() {
        var reached: Set<String> = []
        func walk(_ machine: JobStateMachine, _ commits: Int, _ depth: Int) {
            reached.insert("\(machine.state)")
            guard depth > 0 else { return }
            for event in Self.events {
                var next = machine
                var count = commits
                if case .commit(let status) = next.handle(event) {
                    count += 1
                    #expect(next.status == status && status.isFinal)
                }
                guard count <= 1 else {
                    Issue.record("a second commit after \(event)")
                    return
                }
                walk(next, count, depth - 1)
            }
        }
        walk(JobStateMachine(), 0, 5)
        #expect(reached.count == 9, "every state is reached, none is unknown: \(reached.sorted())")
    }
}
