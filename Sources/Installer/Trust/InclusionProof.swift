import Appliance
import Platform

/// The way from one leaf of a Merkle tree to its root (RFC 9162 section 2.1.3).
struct InclusionProof: Sendable, Equatable {
    /// The place of the leaf, from 0.
    var index: Int64
    /// The number of leaves.
    var size: Int64
    /// The 32 bytes that the tree comes to.
    var root: [UInt8]
    /// The neighbours on the way up, 32 bytes each.
    var hashes: [[UInt8]]

    init(index: Int64, size: Int64, root: [UInt8], hashes: [[UInt8]]) {
        self.index = index
        self.size = size
        self.root = root
        self.hashes = hashes
    }

    init(_ members: ProtoMembers) throws(Malformed) {
        index = try members.number("logIndex")
        size = try members.number("treeSize")
        root = try members.bytes("rootHash")
        hashes = []
        _ = try members.required("hashes")
        // A tree of 2⁶³ leaves is 63 levels high.
        for (place, element) in try members.array("hashes", limit: 64).enumerated() {
            guard let hash = element.string.flatMap({ Base64.decode($0, ignoresTrailingBits: true) }),
                hash.count == 32
            else { throw Malformed("'\(members.place).hashes[\(place)]' is not the base 64 of 32 bytes") }
            hashes.append(hash)
        }
        guard root.count == 32 else {
            throw Malformed("'\(members.place).rootHash' has \(root.count) bytes, expected 32")
        }
        guard index < size else {
            throw Malformed("'\(members.place)' puts leaf \(index) into a tree of \(size)")
        }
    }

    /// Whether a leaf with this content leads to the root.
    func proves(_ leaf: [UInt8]) -> Bool {
        guard index >= 0, index < size else { return false }
        var hash = SHA256.digest([0] + leaf)
        // RFC 9162 section 2.1.3.2: the node's number and the last node's, level by level.
        var node = index
        var last = size - 1
        for neighbour in hashes {
            guard last > 0 else { return false }
            if node & 1 == 1 || node == last {
                hash = SHA256.digest([1] + neighbour + hash)
                while node & 1 == 0, node > 0 {
                    node >>= 1
                    last >>= 1
                }
            } else {
                hash = SHA256.digest([1] + hash + neighbour)
            }
            node >>= 1
            last >>= 1
        }
        return last == 0 && hash == root
    }
}
