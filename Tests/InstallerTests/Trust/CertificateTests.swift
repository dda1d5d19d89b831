import Appliance
import Platform
import Testing

@testable import Installer

@Suite("Reading certificates")
struct CertificateTests {
    @Test(
        "an element of ASN.1 is read and written back",
        arguments: [0, 1, 127, 128, 255, 256, 65_535, 65_536]
    )
    func lengths(count: Int) throws {
        let content = [UInt8](repeating: 0x5A, count: count)
        let encoded = DER.encode(DER.Tag.octetString, content)
        let element = try DER(encoded[...])
        #expect(element.tag == DER.Tag.octetString)
        #expect(Array(element.content) == content)
        #expect(Array(element.encoded) == encoded)
    }

    @Test(
        "what is not in the distinguished encoding is refused",
        arguments: [
            ([], "cut off"),
            ([0x30], "cut off"),
            ([0x1F, 0x81, 0x01, 0x00], "cut off"),
            ([0x30, 0x80, 0x00, 0x00], "not allowed"),
            ([0x30, 0x85, 0, 0, 0, 0, 1, 0], "not allowed"),
            ([0x30, 0x81, 0x01, 0x00], "shortest form"),
            ([0x30, 0x82, 0x00, 0x80], "shortest form"),
            ([0x30, 0x02, 0x00], "longer than what holds it"),
            ([0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF], "longer than what holds it"),
            ([0x30, 0x00, 0x00], "behind"),
        ] as [([UInt8], String)]
    )
    func malformed(bytes: [UInt8], reason: String) {
        let error = #expect(throws: Malformed.self) { try DER(bytes[...]) }
        #expect(error?.reason.contains(reason) == true, "\(error?.reason ?? "")")
    }

    /// One promise in the form of RFC 6962 section 3.3.
    private func list(_ promises: [[UInt8]]) -> [UInt8] {
        func vector(_ bytes: [UInt8]) -> [UInt8] {
            [UInt8(bytes.count >> 8), UInt8(bytes.count & 255)] + bytes
        }
        return DER.encode(DER.Tag.octetString, vector(promises.flatMap(vector)))
    }

    private let promise: [UInt8] =
        [0] + [UInt8](repeating: 0xAB, count: 32) + [0, 0, 1, 0x89, 0, 0, 0, 5] + [0, 1, 0x77] + [
            4, 3, 0, 2, 0x30, 0,
        ]

    @Test("the promise of a certificate log is read")
    func promiseIsRead() throws {
        let read = try CertificateTimestamp(extension: list([promise]))
        #expect(read.logID == [UInt8](repeating: 0xAB, count: 32))
        #expect(read.time == 0x189_0000_0005)
        #expect(read.extensions == [0x77])
        #expect(read.algorithm == [4, 3])
        #expect(read.signature == [0x30, 0])
    }

    @Test("a promise cut off anywhere is refused, and so are two, and one of another version")
    func badPromises() {
        for count in promise.indices {
            #expect(throws: Malformed.self) {
                try CertificateTimestamp(extension: list([Array(promise[..<count])]))
            }
        }
        #expect(throws: Malformed.self) { try CertificateTimestamp(extension: list([promise, promise])) }
        #expect(throws: Malformed.self) { try CertificateTimestamp(extension: list([promise + [0]])) }
        #expect(throws: Malformed.self) { try CertificateTimestamp(extension: list([])) }
        #expect(throws: Malformed.self) {
            try CertificateTimestamp(extension: list([[1] + promise.dropFirst()]))
        }
    }

    @Test("the page about the built-in trust root has its digest")
    func page() throws {
        let page = try #require(Pages.page("releases/trust/README.md"))
        #expect(page.text.contains("`\(SHA256.hex(PackageResources.trusted_root_json))`"))
    }

    @Test("the built-in trust root is read, and each of its certificates and keys")
    func builtIn() throws {
        let root = try TrustRoot.builtIn()
        #expect(root.logs.map(\.address).contains("https://rekor.sigstore.dev"))
        #expect(!root.certificateLogs.isEmpty)
        for authority in root.certificateAuthorities + root.timestampAuthorities {
            for der in authority.certificates {
                let certificate = try Certificate(der)
                #expect(try certificate.publicKey().info == certificate.fields.publicKeyInfo)
                #expect(try certificate.validity().start <= authority.validity.start)
            }
        }
        for log in root.logs + root.certificateLogs {
            #expect(throws: Never.self, "\(log.address)") { try PublicKey(info: log.key) }
        }
    }
}

@Suite("Matching the name of a signer")
struct NamePatternTests {
    @Test(
        "a star stays between slashes, two cross them, and everything else means itself",
        arguments: [
            (
                "https://github.com/acme/tool/.github/workflows/release.yml@refs/tags/v*",
                "https://github.com/acme/tool/.github/workflows/release.yml@refs/tags/v1.2.3", true
            ),
            (
                "https://github.com/acme/tool/.github/workflows/release.yml@refs/tags/v*",
                "https://github.com/acme/tool/.github/workflows/release.yml@refs/tags/v1/evil", false
            ),
            ("https://github.com/acme/**", "https://github.com/acme/tool/x@refs/heads/main", true),
            ("https://github.com/acme/**", "https://github.com/acme-evil/tool", false),
            ("https://github.com/acme/*", "https://evil/https://github.com/acme/x", false),
            ("*@example.org", "anna@example.org", true), ("*@example.org", "anna@example.org.evil", false),
            ("a.c", "abc", false), ("", "", true), ("", "a", false), ("*", "", true), ("**", "a/b", true),
            ("a*b*c", "aXbYbZc", true), ("a*b*c", "aXbYbZ", false), ("***", "a/b", true), ("Ä*", "Äx", true),
        ]
    )
    func patterns(pattern: String, name: String, isMatch: Bool) {
        #expect(NamePattern(pattern).matches(name) == isMatch)
    }

    @Test("a name is compared by its bytes, not by what it looks like")
    func bytes() {
        let composed = "https://example.org/\u{E9}", apart = "https://example.org/e\u{301}"
        #expect(composed == apart)
        #expect(SignerName.exact(composed).matches(composed))
        #expect(!SignerName.exact(composed).matches(apart))
        #expect(!SignerName.pattern(NamePattern(composed)).matches(apart))
    }

    @Test("a hostile pattern takes no longer than others")
    func hostile() {
        let pattern = NamePattern(String(repeating: "*a", count: 200) + "b")
        let clock = ContinuousClock()
        let name = String(repeating: "a", count: 2000)
        var isMatch = true
        let time = clock.measure { isMatch = pattern.matches(name) }
        #expect(!isMatch)
        #expect(time < .seconds(20))
    }
}
