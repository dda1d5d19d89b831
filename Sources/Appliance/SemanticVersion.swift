/// A version with the order of Semantic Versioning 2.0.0 section 11: `1.0.0-rc.1` comes before `1.0.0`.
package struct SemanticVersion: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// Major, minor, patch.
    package let numbers: [Int]
    /// The dot-separated prerelease identifiers; empty for a release.
    package let prerelease: [String]
    /// The text it was read from, without a leading `v`.
    package let description: String

    /// Reads `1.2.3`, `v1.2.3`, `1.2.3-rc.1`, `1.2.3+build`; anything else is `nil`.
    package init?(_ text: String) {
        let bare = text.hasPrefix("v") ? String(text.dropFirst()) : text
        let withoutBuild = bare.split(separator: "+", maxSplits: 1, omittingEmptySubsequences: false)[0]
        let parts = withoutBuild.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
        let fields = parts[0].split(separator: ".", omittingEmptySubsequences: false)
        let numbers = fields.compactMap { field in
            field.allSatisfy(\.isNumber) && (field.count == 1 || field.first != "0") ? Int(field) : nil
        }
        guard fields.count == 3, numbers.count == 3 else { return nil }
        let build = bare.dropFirst(withoutBuild.count).dropFirst()
        guard withoutBuild.count == bare.count || SemanticVersion.areIdentifiers(build) else { return nil }
        var prerelease: [String] = []
        if parts.count == 2 {
            guard SemanticVersion.areIdentifiers(parts[1]) else { return nil }
            prerelease = parts[1].split(separator: ".").map(String.init)
        }
        self.numbers = numbers
        self.prerelease = prerelease
        description = bare
    }

    /// Dot-separated identifiers of letters, digits and hyphens: the text becomes the name of a folder.
    private static func areIdentifiers(_ text: Substring) -> Bool {
        text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { identifier in
            !identifier.isEmpty
                && identifier.utf8.allSatisfy { byte in
                    (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte)
                        || (0x61...0x7A).contains(byte) || byte == 0x2D
                }
        }
    }

    /// Whether this is a prerelease.
    package var isPrerelease: Bool { !prerelease.isEmpty }

    /// Precedence as section 11 says; what follows a `+` counts for nothing.
    package static func < (left: SemanticVersion, right: SemanticVersion) -> Bool {
        if left.numbers != right.numbers { return left.numbers.lexicographicallyPrecedes(right.numbers) }
        guard !left.prerelease.isEmpty, !right.prerelease.isEmpty else {
            return left.isPrerelease && !right.isPrerelease
        }
        for (first, second) in zip(left.prerelease, right.prerelease) where first != second {
            switch (Int(first), Int(second)) {
            case (let a?, let b?): return a < b
            case (_?, nil): return true
            case (nil, _?): return false
            case (nil, nil): return first < second
            }
        }
        return left.prerelease.count < right.prerelease.count
    }
}
