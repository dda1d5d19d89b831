package import Platform
import Testing

extension WrittenBytes {
    /// All of them, which a test may hold in memory.
    package var held: [UInt8] {
        do {
            return try all()
        } catch {
            Issue.record("\(error)")
            return []
        }
    }
}

extension WrittenText {
    /// All of it, which a test may hold in memory.
    package var held: String {
        do {
            return try whole()
        } catch {
            Issue.record("\(error)")
            return ""
        }
    }
}
