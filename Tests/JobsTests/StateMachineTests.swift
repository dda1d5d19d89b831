import Appliance
import Jobs
import Testing

@Suite("The states of a job")
struct StateMachineTests {
    typealias State = JobStateMachine.State
    typealias Event = JobStateMachine.Event
    typealias Action = JobStateMachine.Action

    static let events: [Event] =
        [
            .turnCame, .turnMissed, .startFailed, .attemptFailed, .restOver, .cancelRequested, .runnerLost,
            .cleared,
        ]
        + ExitRecord.Verdict.allCases.map { .runnerEnded($0) }

    /// Everything that changes something; any other event in any other state changes nothing.
    static let table: [(State, Event, State, Action)] = [
        (.queued, .turnCame, .running, .startRunner),
        (.queued, .turnMissed, .ended(.failed), .commit(.failed)),
        (.queued, .cancelRequested, .ended(.canceled), .commit(.canceled)),
        (.running, .startFailed, .ended(.failed), .commit(.failed)),
        (.running, .attemptFailed, .resting, .rest),
        (.resting, .restOver, .running, .startRunner),
        (.resting, .turnMissed, .ended(.failed), .commit(.failed)),
        (.resting, .cancelRequested, .ended(.canceled), .commit(.canceled)),
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
            [.queued, .running, .resting, .canceling, .clearing(.orphaned), .clearing(.canceled)]
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

    @Test("commit once in every order of events, to a depth of eight")
    func commitsOnce() {
        // What is reached by several ways is gone on from once: the machine remembers nothing else.
        var reached: [String: (machine: JobStateMachine, commits: Int)] = [:]
        var front = ["start": (machine: JobStateMachine(), commits: 0)]
        reached["\(JobStateMachine().state) 0"] = front["start"]
        for _ in 0..<8 {
            var next: [String: (machine: JobStateMachine, commits: Int)] = [:]
            for (machine, commits) in front.values {
                for event in Self.events {
                    var after = machine
                    var count = commits
                    if case .commit(let status) = after.handle(event) {
                        count += 1
                        #expect(after.status == status && status.isFinal)
                    }
                    #expect(count <= 1, "a second commit after \(event)")
                    let name = "\(after.state) \(count)"
                    if reached[name] == nil { next[name] = (after, count) }
                    reached[name] = (after, count)
                }
            }
            front = next
        }
        #expect(front.isEmpty, "everything is reached within eight events")
        #expect(reached.count == 10, "every state is reached, none is unknown: \(reached.keys.sorted())")
        // From every state that is not final an end is reached.
        for (machine, _) in reached.values where !machine.status.isFinal {
            let ways = Self.events.map { event in
                var after = machine
                _ = after.handle(event)
                return after
            }
            #expect(
                ways.contains { $0.status.isFinal || $0.state != machine.state },
                "\(machine.state) is stuck"
            )
        }
    }
}
