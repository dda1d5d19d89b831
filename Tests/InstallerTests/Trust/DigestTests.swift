import Appliance
import Glibc
import Platform
import TestSupport
import Testing

@testable import Installer

@Suite("Digests that signatures are made over")
struct DigestTests {
    @Test("of nothing are those that everybody knows, not nothing")
    func empty() throws {
        let known = ["e3b0c442", "38b060a7", "cf83e135"]
        for (algorithm, start) in zip(HashAlgorithm.allCases, known) {
            let digest = try algorithm.digest([])
            #expect(digest.count == algorithm.size)
            #expect(Hex.encode(digest).hasPrefix(start), "\(algorithm)")
        }
    }

    @Test("of a file too large to hold are the same, each of them")
    func large() throws {
        let scratch = try TemporaryDirectory()
        let path = try scratch.write([], "large")
        let size = Artifact.heldInMemory + 1
        #expect(truncate(path, size) == 0)
        let artifact = try Artifact(file: path, files: Files())
        #expect(artifact.contents == nil)
        let zeros = [UInt8](repeating: 0, count: size)
        for algorithm in HashAlgorithm.allCases {
            #expect(try artifact.digest(algorithm) == algorithm.digest(zeros))
        }
    }

    @Test(
        "have their length in a log entry as well",
        arguments: ["", "e3b0c442", String(repeating: "0", count: 66)]
    )
    func wrongLength(value: String) throws {
        let artifact = Array("what is signed\n".utf8)
        let bundle = try SignatureBundle(try SigningInstance().sign(artifact))
        var entry = bundle.logEntry
        let text = String(decoding: entry.body, as: UTF8.self)
        entry.body = Array(text.replacing(SHA256.hex(artifact), with: value).utf8)
        let error = #expect(throws: Malformed.self) { try LogEntryBody(entry) }
        #expect(error?.reason == "the entry's body records no digest that is known here")
    }
}
