/// Instants at which something is due, the earliest first: a binary heap.
///
/// What is over before its instant stays in here until it comes to the front, or until much has gathered.
struct DeadlineQueue {
    private struct Entry {
        var deadline: UInt64
        var token: UInt64
    }

    private var entries: [Entry] = []
    /// How many entries there may be before those are looked for that nobody waits for any more.
    private var limit = DeadlineQueue.leastLimit
    private static let leastLimit = 64

    /// The earliest instant; the largest number when there is none.
    var next: UInt64 { entries.first?.deadline ?? .max }

    var count: Int { entries.count }

    mutating func add(_ deadline: UInt64, _ token: UInt64) {
        entries.append(Entry(deadline: deadline, token: token))
        rise(from: entries.count - 1)
    }

    /// Removes what is due by an instant, and says what it is.
    mutating func takeDue(_ now: UInt64) -> [UInt64] {
        var due: [UInt64] = []
        while let first = entries.first, first.deadline <= now {
            due.append(first.token)
            removeFirst()
        }
        return due
    }

    /// Removes what is over already, as far as it is in front, and all of it once much has gathered: each entry is looked at a
    /// bounded number of times.
    mutating func forget(_ isOver: (UInt64) -> Bool) {
        while let first = entries.first, isOver(first.token) { removeFirst() }
        guard entries.count > limit else { return }
        entries.removeAll { isOver($0.token) }
        for index in stride(from: entries.count / 2 - 1, through: 0, by: -1) { sink(from: index) }
        limit = max(DeadlineQueue.leastLimit, entries.count * 2)
    }

    private mutating func removeFirst() {
        let last = entries.removeLast()
        guard !entries.isEmpty else { return }
        entries[0] = last
        sink(from: 0)
    }

    private mutating func rise(from start: Int) {
        var index = start
        while index > 0 {
            let parent = (index - 1) / 2
            guard entries[index].deadline < entries[parent].deadline else { return }
            entries.swapAt(index, parent)
            index = parent
        }
    }

    private mutating func sink(from start: Int) {
        var index = start
        while true {
            var least = index
            for child in [2 * index + 1, 2 * index + 2] where child < entries.count {
                if entries[child].deadline < entries[least].deadline { least = child }
            }
            guard least != index else { return }
            entries.swapAt(index, least)
            index = least
        }
    }
}
