import Appliance
import Testing

@testable import Installer

private let digest = String(repeating: "ab", count: 32)

@Suite("Saying which bundle to install")
struct BundleRequestTests {
    @Test("takes the pair of variables, trimmed, and calls the source env")
    func environment() throws {
        let request = try BundleRequest.resolve(environment: [
            "RVWR_GATEWAY_BUNDLE_URL": " https://example.org/b.tar.gz\n",
            "RVWR_GATEWAY_BUNDLE_SHA256": digest.uppercased(),
        ])
        #expect(request.location == .web("https://example.org/b.tar.gz"))
        #expect(request.sha256 == digest)
        #expect(request.origin.rawValue == "env")
    }

    @Test(
        "shows no part of a password, also where it makes the address impossible",
        arguments: [
            "https://u:s3cret/x@h:443/y", "https://u:s3cret?x@h/y", "https://u:s3cret#x@h/y",
            "https://u:s3cret@h:99999/y", "https://u:12/s3cret@h/y?s3cret",
        ]
    )
    func passwords(url: String) {
        // Digits before a slash are a port: that address is another machine's, and no error.
        let error = #expect(throws: GatewayError.self) {
            _ = try BundleRequest.resolve(url: url, sha256: "nonsense")
        }
        #expect(error?.description.contains("s3cret") == false && error?.help?.contains("s3cret") != true)
        let shown = BundleRequest.withoutSecrets(url)
        #expect(shown.contains("12/") || !shown.contains("s3cret"), "\(shown)")
    }

    @Test("prefers flags to variables")
    func flags() throws {
        let request = try BundleRequest.resolve(
            url: "file:///tmp/a%20b.zip",
            sha256: digest,
            environment: ["RVWR_GATEWAY_BUNDLE_URL": "https://example.org/other"]
        )
        #expect(request.location == .file("/tmp/a b.zip"))
        #expect(request.origin == .flags)
    }

    @Test(
        "refuses half a pair and names the other half",
        arguments: [
            (["RVWR_GATEWAY_BUNDLE_URL": "https://example.org/b"], "RVWR_GATEWAY_BUNDLE_SHA256"),
            (["RVWR_GATEWAY_BUNDLE_SHA256": digest], "RVWR_GATEWAY_BUNDLE_URL"),
        ]
    )
    func half(environment: [String: String], lacking: String) async {
        let error = await refusal { try BundleRequest.resolve(environment: environment) }
        #expect(error.code == "missing-value")
        #expect(error.message.contains("without \(lacking)"))
    }

    @Test("says that no release source is configured when nothing is named")
    func nothing() async {
        let error = await refusal { try BundleRequest.resolve() }
        #expect(error.code == "no-release-source")
        #expect(error.help?.contains("--url and --sha256") == true)
        #expect(error.exitCode == .usage)
    }

    @Test(
        "refuses a malformed URL and says what is wrong",
        arguments: [
            ("bundle.tar.gz", "no absolute URL"), ("ftp://host/x", "scheme 'ftp'"),
            ("https:///x", "names no host"),
            ("https://host:99999/x", "no port from 1 to 65535"), ("https://host:/x y", "percent-encoded"),
            ("file://other/x", "host 'other'"), ("https://[::1/x", "unclosed '['"),
            ("file:///a%0", "no absolute path"),
            ("file:///a%00b", "no absolute path"), ("", "no absolute URL"),
        ]
    )
    func malformed(url: String, reason: String) async {
        let error = await refusal { try BundleRequest.resolve(url: url, sha256: digest) }
        #expect(error.code == "malformed-url")
        #expect(error.message.contains(reason))
    }

    @Test("refuses plain http to another machine unless the digest is pinned")
    func insecure() async throws {
        let error = await refusal { try BundleRequest.locate("http://example.org/b", isPinned: false) }
        #expect(error.code == "insecure-url")
        #expect(error.help?.contains("--sha256") == true)
        #expect(throws: Never.self) { try BundleRequest.locate("http://example.org/b", isPinned: true) }
        for host in ["localhost", "127.0.0.1:8080", "127.9.9.9", "[::1]:80", "user@localhost"] {
            #expect(throws: Never.self) { try BundleRequest.locate("http://\(host)/b", isPinned: false) }
        }
        for host in ["127.0.0.1.example.org", "localhost.example.org", "127.0.0", "localhost@example.org"] {
            let error = await refusal { try BundleRequest.locate("http://\(host)/b", isPinned: false) }
            #expect(error.code == "insecure-url", "\(host)")
        }
    }

    @Test("refuses a digest that is none", arguments: ["", "abc", digest + "0", "zz" + digest.dropFirst(2)])
    func badDigest(text: String) async {
        let error = await refusal { try BundleRequest.resolve(url: "https://example.org/b", sha256: text) }
        #expect(error.code == "digest-malformed" && error.exitCode == .usage)
        #expect(error.message.contains("64 hexadecimal digits"))
    }

    @Test("shows a URL without user information and query")
    func secrets() throws {
        let request = try BundleRequest.resolve(
            url: "https://user:pass@example.org/b.tar.gz?token=1#x",
            sha256: digest
        )
        #expect(request.shown == "https://example.org/b.tar.gz")
    }
}
