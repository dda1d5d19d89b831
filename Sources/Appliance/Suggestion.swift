/// The nearest known word to a mistyped one.
package enum Suggestion {
    /// The candidate with the fewest edits, when few enough that a person would have meant it.
    package static func nearest(to word: String, among candidates: some Sequence<String>) -> String? {
        // The dashes of a flag are not what is mistyped.
        let limit = max(1, min(3, word.drop { $0 == "-" }.count / 2))
        return candidates.map { (candidate: $0, distance: distance(word.lowercased(), $0.lowercased())) }
            .filter { $0.distance <= limit }
            .min { ($0.distance, $0.candidate) < ($1.distance, $1.candidate) }?.candidate
    }

    /// Insertions, deletions, replacements and swaps of neighbours between two words (optimal string alignment).
    package static func distance(_ first: String, _ second: String) -> Int {
        let first = Array(first), second = Array(second)
        var rows = [Array(0...second.count)]
        for row in 1..<(first.count + 1) {
            var line = [row]
            for column in 1..<(second.count + 1) {
                let cost = first[row - 1] == second[column - 1] ? 0 : 1
                var best = min(
                    rows[row - 1][column] + 1,
                    line[column - 1] + 1,
                    rows[row - 1][column - 1] + cost
                )
                if row > 1, column > 1, first[row - 1] == second[column - 2],
                    first[row - 2] == second[column - 1]
                {
                    best = min(best, rows[row - 2][column - 2] + 1)
                }
                line.append(best)
            }
            rows.append(line)
        }
        return rows[first.count][second.count]
    }
}
