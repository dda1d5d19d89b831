import Appliance
import Testing

@testable import Installer

@Suite("Reading SHA256SUMS")
struct ChecksumsTests {
    private static let a = String(repeating: "a", count: 64)
    private static let b = String(repeating: "0b", count: 32)

    private func read(_ text: String) throws(GatewayError) -> Checksums { try Checksums(Array(text.utf8)) }

    @Test("reads the text form, the binary form, and lines that end as on Windows")
    func forms() throws {
        let sums = try read("\(Self.a)  one.tar.gz\n\(Self.b) *two name\r\n\(Self.a)   led by a space")
        #expect(sums.names == [" led by a space", "one.tar.gz", "two name"])
        #expect(try sums.digest(of: "one.tar.gz") == Self.a)
        #expect(try sums.digest(of: "two name") == Self.b)
    }

    @Test(
        "refuses what is no list of digests, with the line",
        arguments: [
            ("", "it is empty"),
            ("\n", "line 1"),
            ("\(a)  one\n\n\(b)  two\n", "line 2 does not start with a SHA-256"),
            ("\(a.dropLast())  one\n", "line 1 does not start with a SHA-256"),
            ("\(a)a  one\n", "line 1 has no '  ' or ' *'"),
            ("\(String(repeating: "A", count: 64))  one\n", "lower-case"),
            ("\(a) one\n", "line 1 has no '  ' or ' *'"),
            ("\(a)\n", "line 1 has no '  ' or ' *'"),
            ("\(a)  \n", "line 1 names ''"),
            ("\(a)  ../one\n", "expected a file beside it"),
            ("\(a)  /etc/passwd\n", "expected a file beside it"),
            ("\(a)  ..\n", "expected a file beside it"),
            ("\(a)  a\\b\n", "expected a file beside it"),
            ("\(a)  a\u{1B}[2Jb\n", "expected a file beside it"),
            ("\\\(a)  one\n", "line 1 does not start with a SHA-256"),
            ("SHA256 (one) = \(a)\n", "line 1 does not start with a SHA-256"),
            ("\(a)  one\n\(a)  one\n", "line 2 names 'one' for the second time"),
            ("\(a)  one\n\(b) *one\n", "line 2 names 'one' for the second time"),
        ]
    )
    func refusals(text: String, reason: String) {
        let error = #expect(throws: GatewayError.self) { try read(text) }
        #expect(error?.code == "checksums-malformed")
        #expect(error?.exitCode == .verificationRefused)
        #expect(error?.message.contains(reason) == true, "\(error?.message ?? "")")
    }

    @Test("refuses more than it should ever have to read")
    func limits() {
        let long = (0...10_000).map { "\(Self.a)  file\($0)\n" }.joined()
        #expect(throws: GatewayError.self) { try read(long) }
        #expect(throws: GatewayError.self) {
            try Checksums([UInt8](repeating: 0x61, count: Checksums.limit + 1))
        }
        #expect(throws: GatewayError.self) { try Checksums(Array("\(Self.a)  ".utf8) + [0xFF, 0x0A]) }
    }

    @Test("says which file is not listed")
    func missing() throws {
        let sums = try read("\(Self.a)  one\n")
        let error = #expect(throws: GatewayError.self) { try sums.digest(of: "two") }
        #expect(error?.code == "checksum-missing")
        #expect(error?.message.contains("'two'") == true)
    }
}
