import Appliance
import Platform
import Testing

@testable import Installer

private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

private func versions(_ releases: [Release]) -> [String] { releases.map(\.version.description) }

@Suite("Reading a list of releases")
struct ReleaseIndexTests {
    private let folder = ReleaseFolder.web("https://example.org/releases")

    private func index(_ entries: String) -> [UInt8] {
        bytes(#"{"schema_version": "release-index.v1", "releases": [\#(entries)]}"#)
    }

    @Test("knows version, channel and place of each release")
    func entries() throws {
        let releases = try ReleaseIndex.releases(
            index(
                """
                {"version": "1.2.3", "channel": "stable", "path": "old/1.2.3", "note": "ignored"},
                {"version": "1.3.0", "channel": "prerelease"},
                {"version": "2.0.0-rc.1", "channel": "stable"}
                """
            ),
            in: folder
        )
        #expect(versions(releases) == ["1.2.3", "1.3.0", "2.0.0-rc.1"])
        #expect(releases.map(\.channel) == [.stable, .prerelease, .prerelease])
        #expect(
            releases.map { $0.file("SHA256SUMS")?.location }
                == ["old/1.2.3", "1.3.0", "2.0.0-rc.1"].map {
                    .web("https://example.org/releases/\($0)/SHA256SUMS")
                }
        )
        let local = try ReleaseIndex.releases(
            index(#"{"version": "1.2.3", "channel": "stable"}"#),
            in: .directory("/mnt/releases")
        )
        #expect(local.first?.file("b.tar.gz")?.location == .file("/mnt/releases/1.2.3/b.tar.gz"))
    }

    @Test(
        "refuses what is no list, and leads nowhere else than below itself",
        arguments: [
            ("[", "invalid JSON at byte 1"), ("[]", "'schema_version' is nothing, expected release-index.v1"),
            (#"{"schema_version": "v9\u001b"}"#, "'schema_version' is v9\\u{1B}, expected release-index.v1"),
            (#"{"schema_version": "release-index.v1"}"#, "'releases' is no array"),
            (#"{"version": 1}"#, "releases[0].version is missing"),
            (#"{"version": "1.2", "channel": "stable"}"#, "releases[0].version is '1.2', expected a version"),
            (#"{"version": "1.2.3"}"#, "releases[0].channel is neither 'stable' nor 'prerelease'"),
            (#"{"version": "1.2.3", "channel": "stable", "path": "../x"}"#, "releases[0].path is no folder"),
            (#"{"version": "1.2.3", "channel": "stable", "path": "/x"}"#, "releases[0].path is no folder"),
            (
                #"{"version": "1.2.3", "channel": "stable", "path": "https://x"}"#,
                "releases[0].path is no folder"
            ),
            (#"{"version": "1.2.3", "channel": "stable", "path": "a b"}"#, "releases[0].path is no folder"),
            (
                #"{"version": "1.2.3", "channel": "stable"}, {"version": "1.2.3", "channel": "stable"}"#,
                "version 1.2.3 is listed twice"
            ),
        ]
    )
    func refusals(text: String, reason: String) async {
        let whole = text.hasPrefix("[") || text.contains("schema_version") ? bytes(text) : index(text)
        let error = await refusal { try ReleaseIndex.releases(whole, in: folder) }
        #expect(error.code == "release-index-invalid" && error.exitCode == .verificationRefused)
        #expect(error.message.hasPrefix("the list of releases cannot be understood: "))
        #expect(error.message.contains(reason), "\(error.message)")
    }

    @Test("refuses a list of more releases than there can be")
    func tooMany() async {
        let entries = (0...5000).map { #"{"version": "1.0.\#($0)", "channel": "stable"}"# }.joined(
            separator: ","
        )
        let error = await refusal { try ReleaseIndex.releases(index(entries), in: folder) }
        #expect(error.message.hasSuffix("it lists 5001 releases, more than 5000"))
    }

    private let latest = "https://api.example.org/latest"

    private func answer(_ tag: String, _ more: String = "", assets: String = "") -> String {
        #"{"tag_name": "\#(tag)", "assets": [\#(assets)]\#(more)}"#
    }

    @Test("understands the answers of the reference's release service, one release or many")
    func service() throws {
        let asset =
            #"{"name": "SHA256SUMS", "browser_download_url": "https://example.org/d/SHA256SUMS", "size": 99}"#
        let one = try ReleaseIndex.serviceReleases(bytes(answer("v3.1.0", assets: asset)), from: latest)
        #expect(versions(one) == ["3.1.0"] && one.first?.channel == .stable)
        #expect(one.first?.file("SHA256SUMS")?.location == .web("https://example.org/d/SHA256SUMS"))
        #expect(one.first?.file("SHA256SUMS")?.size == 99)
        #expect(one.first?.file("release-manifest.json") == nil)
        let many = [
            answer("v3.1.0"), answer("v4.0.0", #", "prerelease": true"#), answer("v4.0.0-rc.2"),
            answer("v5.0.0", #", "draft": true"#), answer("nightly"),
        ]
        let releases = try ReleaseIndex.serviceReleases(
            bytes("[\(many.joined(separator: ","))]"),
            from: latest
        )
        #expect(versions(releases) == ["3.1.0", "4.0.0", "4.0.0-rc.2"])
        #expect(releases.map(\.channel) == [.stable, .prerelease, .prerelease])
    }

    @Test(
        "refuses answers that name no release, or files elsewhere than on https",
        arguments: [
            ("3", "it is integer, expected an object or an array"), ("{}", "tag_name is missing"),
            (#"{"tag_name": "nightly"}"#, "tag_name is 'nightly', expected a version"),
            (#"[{"x": 1}]"#, "[0].tag_name is missing"),
            (#"{"tag_name": "v1.0.0", "assets": [{"name": "../x"}]}"#, "assets[0].name is no file name"),
            (
                #"{"tag_name": "v1.0.0", "assets": [{"name": "x"}]}"#,
                "assets[0].browser_download_url is missing"
            ),
        ]
    )
    func serviceRefusals(text: String, reason: String) async {
        let error = await refusal { try ReleaseIndex.serviceReleases(bytes(text), from: latest) }
        #expect(error.code == "release-index-invalid")
        #expect(error.message.contains(reason), "\(error.message)")
    }

    @Test(
        "refuses files in places that are reached less safely than the answer was",
        arguments: [
            ("https://api.example.org/latest", "http://example.org/x"),
            ("https://api.example.org/latest", "http://127.0.0.1:1/x"),
            ("https://api.example.org/latest", "file:///etc/passwd"),
            ("https://api.example.org/latest", "FILE:///etc/passwd"),
            ("http://127.0.0.1:1/latest", "file:///etc/passwd"),
            ("http://127.0.0.1:1/latest", "http://example.org/x"),
        ]
    )
    func weakerAsset(service: String, address: String) async {
        let asset = #"{"name": "x", "browser_download_url": "\#(address)"}"#
        let text = answer("v1.0.0", assets: asset)
        let error = await refusal { try ReleaseIndex.serviceReleases(bytes(text), from: service) }
        #expect(error.code == "insecure-url" && error.exitCode == .verificationRefused, "\(error)")
        #expect(error.message.contains("'\(address)'"))
    }

    @Test("takes files on this machine from a service on this machine")
    func localAsset() throws {
        let asset = #"{"name": "x", "browser_download_url": "http://127.0.0.1:1/x"}"#
        let text = answer("v1.0.0", assets: asset)
        let releases = try ReleaseIndex.serviceReleases(bytes(text), from: "http://localhost:1/latest")
        #expect(releases.first?.file("x")?.location == .web("http://127.0.0.1:1/x"))
    }
}

@Suite("Reading a release's manifest")
struct ReleaseManifestTests {
    @Test("finds the bundle for a platform")
    func bundle() throws {
        let manifest = try ReleaseManifest(
            bytes(
                """
                {"schema_version": "release-manifest.v1", "version": "1.2.3", "artifacts": [
                  {"name": "m", "os": "linux", "arch": "amd64", "role": "manager"},
                  {"name": "b", "os": "linux", "arch": "arm64", "role": "platform-bundle", "size": 10,
                   "unpacked_size": 30}]}
                """
            )
        )
        #expect(manifest.bundle(for: "linux-amd64") == nil)
        let found = try #require(manifest.bundle(for: "linux-arm64"))
        #expect(found.name == "b" && found.size == 10 && found.unpackedSize == 30 && found.sha256 == nil)
    }

    @Test(
        "says what is wrong with one",
        arguments: [
            ("{", "invalid JSON at byte 1"), ("{}", "'schema_version' is nothing"),
            (#"{"schema_version": "release-manifest.v1"}"#, "'version' is no version"),
            (#"{"schema_version": "release-manifest.v1", "version": "1.2.3"}"#, "'artifacts' is no array"),
            (#"{"name": "a/b"}"#, "artifacts[0].name is no file name"),
            (#"{"name": "a"}"#, "artifacts[0] does not say its os and arch"),
            (
                #"{"name": "a", "os": "linux", "arch": "amd64", "size": -1}"#,
                "artifacts[0].size is no number of bytes"
            ),
            (
                #"{"name": "a", "os": "linux", "arch": "amd64", "sha256": "X"}"#,
                "artifacts[0].sha256 is not 64"
            ),
        ]
    )
    func refusals(text: String, reason: String) async {
        let isWhole = text == "{" || text == "{}" || text.contains("schema_version")
        let whole =
            isWhole
            ? text
            : #"{"schema_version": "release-manifest.v1", "version": "1.2.3", "artifacts": [\#(text)]}"#
        let error = await refusal { try ReleaseManifest(bytes(whole)) }
        #expect(error.code == "release-manifest-invalid" && error.exitCode == .verificationRefused)
        #expect(error.message.contains(reason), "\(error.message)")
    }
}

@Suite("Choosing a release")
struct ReleaseChoiceTests {
    private static func release(_ version: String, _ channel: Release.Channel = .stable) -> Release {
        guard let parsed = SemanticVersion(version) else { preconditionFailure("'\(version)' is no version") }
        return Release(
            version: parsed,
            channel: version.contains("-") ? .prerelease : channel,
            place: .folder(.directory("/r/\(version)"))
        )
    }

    private static let list = ["1.9.0", "1.10.0", "2.0.0-rc.1", "2.0.0-rc.10", "2.0.0-rc.9", "1.2.3"].map {
        release($0)
    }

    struct Row: Sendable, CustomTestStringConvertible {
        var wish: ReleaseChoice.Wish
        var installed: String?
        var version: String
        var verdict: ReleaseChoice.Verdict

        var testDescription: String { "\(wish.channel) \(installed ?? "nothing") -> \(version) \(verdict)" }
    }

    static let rows: [Row] = [
        Row(wish: .init(), installed: nil, version: "1.10.0", verdict: .install),
        Row(wish: .init(), installed: "1.9.0", version: "1.10.0", verdict: .install),
        Row(wish: .init(), installed: "1.10.0", version: "1.10.0", verdict: .installed),
        Row(wish: .init(), installed: "1.10.0+build.5", version: "1.10.0", verdict: .installed),
        Row(wish: .init(), installed: "2.0.0-rc.1", version: "1.10.0", verdict: .ahead),
        Row(
            wish: .init(allowsDowngrade: true),
            installed: "2.0.0-rc.1",
            version: "1.10.0",
            verdict: .install
        ),
        Row(wish: .init(reinstalls: true), installed: "1.10.0", version: "1.10.0", verdict: .install),
        Row(wish: .init(reinstalls: true), installed: "1.11.0", version: "1.10.0", verdict: .ahead),
        Row(
            wish: .init(channel: .prerelease),
            installed: "1.10.0",
            version: "2.0.0-rc.10",
            verdict: .install
        ),
        Row(
            wish: .init(channel: .prerelease),
            installed: "2.0.0-rc.9",
            version: "2.0.0-rc.10",
            verdict: .install
        ),
        Row(wish: .init(channel: .prerelease), installed: "2.0.0", version: "2.0.0-rc.10", verdict: .ahead),
        Row(
            wish: .init(version: SemanticVersion("1.2.3")),
            installed: nil,
            version: "1.2.3",
            verdict: .install
        ),
        Row(
            wish: .init(version: SemanticVersion("1.2.3"), allowsDowngrade: true),
            installed: "1.10.0",
            version: "1.2.3",
            verdict: .install
        ),
        Row(
            wish: .init(version: SemanticVersion("2.0.0-rc.1")),
            installed: "1.10.0",
            version: "2.0.0-rc.1",
            verdict: .install
        ),
    ]

    @Test("takes the newest of the channel, and never an older one by itself", arguments: rows)
    func table(row: Row) throws {
        let choice = try ReleaseChoice(
            from: Self.list,
            row.wish,
            installed: row.installed.flatMap { SemanticVersion($0) },
            shown: "/r"
        )
        #expect(choice.release.version.description == row.version && choice.verdict == row.verdict)
    }

    @Test("prefers a stable release to its prereleases")
    func order() throws {
        let wish = ReleaseChoice.Wish(channel: .prerelease)
        let choice = try ReleaseChoice(
            from: Self.list + [Self.release("2.0.0")],
            wish,
            installed: nil,
            shown: "/r"
        )
        #expect(choice.release.version.description == "2.0.0")
    }

    @Test("says that an older version was asked for, and which there are")
    func refusals() async {
        func error(_ wish: ReleaseChoice.Wish, _ list: [Release]) async -> GatewayError {
            await refusal {
                try ReleaseChoice(from: list, wish, installed: SemanticVersion("1.9.5"), shown: "/r")
            }
        }
        let older = await error(.init(version: SemanticVersion("1.2.3")), Self.list)
        #expect(older.code == "downgrade-refused" && older.exitCode == .verificationRefused)
        #expect(older.message == "version 1.2.3 is older than the installed 1.9.5")
        #expect(older.help == "use --allow-downgrade if that is what you want")
        let unknown = await error(.init(version: SemanticVersion("9.9.9")), Self.list)
        #expect(unknown.code == "release-not-found" && unknown.exitCode == .network)
        #expect(unknown.message == "'/r' has no release 9.9.9")
        #expect(unknown.help == "its newest are: 2.0.0-rc.10, 2.0.0-rc.9, 2.0.0-rc.1")
        let early = await error(.init(), [Self.release("2.0.0-rc.1")])
        #expect(early.code == "no-release" && early.message == "'/r' has no stable release")
        #expect(early.help == "its newest prerelease is 2.0.0-rc.1: use --channel prerelease")
        let none = await error(.init(), [])
        #expect(none.message == "'/r' has no release")
    }
}
