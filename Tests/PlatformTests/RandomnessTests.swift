import Appliance
import Platform
import Testing

@Suite("Randomness")
struct RandomnessTests {
    @Test("gives as many bytes as are asked for, and other ones each time", arguments: [0, 1, 16, 256, 1000])
    func bytes(_ count: Int) {
        let bytes = Randomness.system.bytes(count)
        #expect(bytes.count == count)
        #expect(count < 16 || bytes != Randomness.system.bytes(count))
        // Of a piece that was left out all would be zero.
        #expect(count < 256 || bytes.suffix(64).contains { $0 != 0 })
    }

    @Test("makes UUIDs of version 4 and 7 as RFC 9562 has them")
    func identifiers() {
        let ones = Randomness { [UInt8](repeating: 0xFF, count: $0) }
        #expect(ones.uuid() == "ffffffff-ffff-4fff-bfff-ffffffffffff")
        let now = Timestamp(milliseconds: 0x017F_22E2_79B0)
        #expect(ones.orderedUUID(at: now) == "017f22e2-79b0-7fff-bfff-ffffffffffff")
        let zeros = Randomness { [UInt8](repeating: 0, count: $0) }
        #expect(zeros.orderedUUID(at: now) == "017f22e2-79b0-7000-8000-000000000000")
    }

    @Test("orders by time what is made at different times, and tells apart what is made at the same")
    func order() {
        let start = Timestamp(milliseconds: 1_700_000_000_000)
        let made = (0..<1000).map {
            Randomness.system.orderedUUID(at: start.advanced(byMilliseconds: Int64($0) * 37))
        }
        #expect(made == made.sorted())
        #expect(Set((0..<1000).map { _ in Randomness.system.orderedUUID(at: start) }).count == 1000)
    }
}
