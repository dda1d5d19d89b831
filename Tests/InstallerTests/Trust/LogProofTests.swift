import Appliance
import Platform
import Testing

@testable import Installer

@Suite("Proofs of a transparency log")
struct LogProofTests {
    /// The root of a tree, as RFC 9162 section 2.1.1 defines it.
    private static func root(_ leaves: ArraySlice<[UInt8]>) -> [UInt8] {
        if leaves.count == 1, let leaf = leaves.first { return SHA256.digest([0] + leaf) }
        let middle = leaves.startIndex + split(leaves.count)
        return SHA256.digest([1] + root(leaves[..<middle]) + root(leaves[middle...]))
    }

    /// The way from a leaf to the root, as RFC 9162 section 2.1.3.1 defines it.
    private static func path(_ index: Int, _ leaves: ArraySlice<[UInt8]>) -> [[UInt8]] {
        guard leaves.count > 1 else { return [] }
        let left = split(leaves.count)
        let middle = leaves.startIndex + left
        return index < left
            ? path(index, leaves[..<middle]) + [root(leaves[middle...])]
            : path(index - left, leaves[middle...]) + [root(leaves[..<middle])]
    }

    /// The largest power of two below a number.
    private static func split(_ count: Int) -> Int {
        var power = 1
        while power * 2 < count { power *= 2 }
        return power
    }

    @Test("every leaf of every small tree is proven, and nothing else by the same proof")
    func trees() {
        var proofs = 0
        for size in 1...33 {
            let leaves = (0..<size).map { Array("leaf \($0) of \(size)".utf8) }
            let root = LogProofTests.root(leaves[...])
            for index in 0..<size {
                let hashes = LogProofTests.path(index, leaves[...])
                let proof = InclusionProof(index: Int64(index), size: Int64(size), root: root, hashes: hashes)
                #expect(proof.proves(leaves[index]), "leaf \(index) of \(size)")
                proofs += 1
                #expect(!proof.proves(leaves[index] + [0]))
                var altered = proof
                altered.root[0] ^= 1
                #expect(!altered.proves(leaves[index]))
                altered = proof
                altered.hashes.append(root)
                #expect(!altered.proves(leaves[index]), "a hash too many")
                for place in hashes.indices {
                    altered = proof
                    altered.hashes.remove(at: place)
                    #expect(!altered.proves(leaves[index]), "a hash too few")
                    altered = proof
                    altered.hashes[place][31] ^= 0x80
                    #expect(!altered.proves(leaves[index]), "an altered hash")
                }
                for other in 0..<size where other != index {
                    altered = proof
                    altered.index = Int64(other)
                    #expect(!altered.proves(leaves[index]), "leaf \(index) of \(size) as \(other)")
                }
            }
        }
        #expect(proofs == 33 * 34 / 2)
    }

    @Test(
        "an index outside the tree proves nothing",
        arguments: [(1, 1), (-1, 1), (0, 0), (Int64.max, 5)] as [(Int64, Int64)]
    )
    func outside(index: Int64, size: Int64) {
        let leaf: [UInt8] = [1, 2, 3]
        let root = SHA256.digest([0] + leaf)
        #expect(!InclusionProof(index: index, size: size, root: root, hashes: []).proves(leaf))
    }

    private static let hash = Base64.encode([UInt8](repeating: 7, count: 32))
    private static let signature = Base64.encode([1, 2, 3, 4, 9, 9])

    @Test("a checkpoint is read with all its signatures, and what is signed is its text to the letter")
    func checkpoint() throws {
        let note =
            "log.test/1\n42\n\(Self.hash)\nTimestamp: 17\n\n\u{2014} log.test/1 \(Self.signature)\n\u{2014} w \(Self.signature)\n"
        let checkpoint = try Checkpoint(note)
        #expect(checkpoint.origin == "log.test/1")
        #expect(checkpoint.size == 42)
        #expect(checkpoint.root == [UInt8](repeating: 7, count: 32))
        #expect(checkpoint.text == "log.test/1\n42\n\(Self.hash)\nTimestamp: 17\n")
        #expect(checkpoint.signatures.map(\.name) == ["log.test/1", "w"])
        #expect(checkpoint.signatures[0].hint == [1, 2, 3, 4])
        #expect(checkpoint.signatures[0].bytes == [9, 9])
    }

    @Test(
        "a note that is no checkpoint is refused",
        arguments: [
            ("", "no empty line"),
            ("log\n1\n\(hash)\n", "no empty line"),
            ("log\n1\n\(hash)\n\n", "no signature"),
            ("log\n1\n\(hash)\n\n\u{2014} log \(signature)", "no empty line"),
            ("log\n\(hash)\n\n\u{2014} log \(signature)\n", "has 2 lines"),
            ("log\none\n\(hash)\n\n\u{2014} log \(signature)\n", "size is 'one'"),
            ("log\n01\n\(hash)\n\n\u{2014} log \(signature)\n", "size is '01'"),
            ("log\n-1\n\(hash)\n\n\u{2014} log \(signature)\n", "size is '-1'"),
            ("log\n99999999999999999999\n\(hash)\n\n\u{2014} log \(signature)\n", "size is"),
            ("log\n1\nAAAA\n\n\u{2014} log \(signature)\n", "root hash is not"),
            ("log\n1\n\(hash)\n\n- log \(signature)\n", "signature line that is none"),
            ("log\n1\n\(hash)\n\n\u{2014} log AAAA\n", "signature line that is none"),
            ("log\n1\n\(hash)\n\n\u{2014}  \(signature)\n", "signature line that is none"),
            ("log\n1\n\(hash)\n\n\u{2014} log \(signature)\n\n", "signature line that is none"),
        ]
    )
    func badCheckpoints(note: String, reason: String) {
        let error = #expect(throws: Malformed.self) { try Checkpoint(note) }
        #expect(error?.reason.contains(reason) == true, "\(error?.reason ?? "")")
    }
}
