import Appliance
import Platform
import TestSupport
import Testing

@testable import Installer

@Suite("Installing from a release source")
struct ReleaseCommandTests {
    private let unneeded = ["LLM_GATEWAY_RELEASE_SOURCE": "", "RVWR_RELEASE_API_URL": ""]

    @Test("says plainly that nobody configured one")
    func unconfigured() async throws {
        let session = try Session()
        for verb in ["install-bundle", "upgrade"] {
            let answer = await session.run([verb, "--json"], with: unneeded)
            #expect(answer.code == .usage)
            #expect(answer.json["error"]?["code"]?.string == "no-release-source")
            #expect(
                answer.json["error"]?["message"]?.string
                    == "no release source is configured in this build, so a source or a bundle must be named"
            )
            #expect(answer.json["error"]?["help"]?.string?.contains("LLM_GATEWAY_RELEASE_SOURCE") == true)
        }
    }

    @Test(
        "installs the newest of a channel, remembers the channel, and downloads nothing when there is nothing new"
    )
    func channels() async throws {
        let shelf = try ReleaseShelf()
        let digest = try await shelf.add("1.2.3", isSigned: false)
        let session = try Session()
        let source = ["--source", shelf.root, "--json"]
        let unsigned = await session.run(["install-bundle"] + source)
        #expect(unsigned.code == .verificationRefused)
        #expect(unsigned.json["error"]?["code"]?.string == "unsigned-release")
        let first = await session.run(["install-bundle", "--sha256", digest] + source)
        #expect(first.code == .done && first.json["changed"]?.bool == true, "\(first.error)")
        #expect(
            first.json["bundle_source"]?.string == "local" && first.json["trust"]?.string == "pinned-checksum"
        )
        // Nothing new: nothing is verified or fetched, so that the missing signature does not matter.
        let again = await session.run(["upgrade"] + source)
        #expect(again.code == .done && again.json["changed"]?.bool == false, "\(again.error)")
        let text = await session.run(["upgrade", "--source", shelf.root, "--text"])
        #expect(
            text.output.hasPrefix("version 1.2.3 is installed already, the newest of the channel 'stable'\n")
        )
        let early = try await shelf.add("2.0.0-rc.1")
        let stays = await session.run(["upgrade", "--check"] + source)
        #expect(stays.code == .done && stays.json["available"]?.bool == false)
        let chosen = await session.run(["upgrade", "--channel", "prerelease", "--sha256", early] + source)
        #expect(chosen.json["bundle_version"]?.string == "2.0.0-rc.1", "\(chosen.error)")
        #expect(try session.read(session.layout.settings).contains(#""release_channel": "prerelease""#))
        // The prerelease is in use, and the channel is remembered: nothing is older.
        let remembered = await session.run(["upgrade"] + source)
        #expect(
            remembered.json["changed"]?.bool == false
                && remembered.json["bundle_version"]?.string == "2.0.0-rc.1"
        )
        let back = await session.run(["upgrade", "--channel", "stable", "--source", shelf.root, "--text"])
        #expect(
            back.output.contains(
                "note: it is newer than 1.2.3, the newest of the channel 'stable' of '\(shelf.root)'"
            )
        )
        #expect(try !session.read(session.layout.settings).contains("release_channel"))
    }

    @Test("says whether there is something newer, for a script, and what would be done, and changes nothing")
    func questions() async throws {
        let shelf = try ReleaseShelf()
        let digest = try await shelf.add("1.2.3")
        let session = try Session()
        let source = ["--source", shelf.root, "--sha256", digest]
        let fresh = await session.run(["install-bundle", "--dry-run", "--json"] + source)
        #expect(fresh.code == .done && fresh.json["available"]?.bool == true)
        #expect(
            fresh.json["installed_version"]?.isNull == true && fresh.json["latest_version"]?.string == "1.2.3"
        )
        #expect(fresh.json["sha256"]?.string == digest && fresh.json["size"]?.int ?? 0 > 0)
        #expect(!Files().exists(session.layout.home))
        let check = await session.run(["upgrade", "--check", "--text"] + source)
        #expect(check.code == .failed)
        #expect(check.output == "nothing is installed; version 1.2.3 can be had: llm-cli-gateway upgrade\n")
        _ = await session.run(["install-bundle"] + source)
        let newer = try await shelf.add("1.3.0")
        let refused = await session.run(["upgrade", "--check", "--json", "--source", shelf.root])
        // What nobody may believe is nothing that can be had.
        #expect(refused.code == .usage && refused.json["error"]?["code"]?.string == "no-release-signer")
        let dry = await session.run([
            "upgrade", "--dry-run", "--text", "--source", shelf.root, "--sha256", newer,
        ])
        #expect(dry.code == .done)
        #expect(dry.output.hasPrefix("version 1.2.3 is installed\nwould install version 1.3.0 from 'file://"))
        #expect(dry.output.hasSuffix("its digest was given: \(newer)\n"))
        #expect(try Receipt.read(session.layout, files: Files()).active?.version == "1.2.3")
    }

    @Test("never goes back by itself")
    func downgrades() async throws {
        let shelf = try ReleaseShelf()
        let old = try await shelf.add("1.2.3")
        let new = try await shelf.add("1.3.0")
        let session = try Session()
        let source = ["--source", shelf.root, "--json"]
        _ = await session.run(["install-bundle", "--sha256", new] + source)
        let refused = await session.run(["upgrade", "--version", "1.2.3", "--sha256", old] + source)
        #expect(refused.code == .verificationRefused)
        #expect(refused.json["error"]?["code"]?.string == "downgrade-refused")
        let wanted = await session.run(
            ["upgrade", "--version", "1.2.3", "--allow-downgrade", "--sha256", old] + source
        )
        #expect(wanted.json["bundle_version"]?.string == "1.2.3", "\(wanted.error)")
        #expect(
            wanted.json["notices"]?.array?.contains(
                "version 1.2.3 is older than 1.3.0, which was in use before"
            )
                == true
        )
        let missing = await session.run(["upgrade", "--version", "7.0.0"] + source)
        #expect(missing.code == .network && missing.json["error"]?["code"]?.string == "release-not-found")
    }

    @Test("installs the newest again where the installed one is damaged")
    func damaged() async throws {
        let shelf = try ReleaseShelf()
        let digest = try await shelf.add("1.2.3")
        let session = try Session()
        let words = ["--source", shelf.root, "--sha256", digest, "--json"]
        _ = await session.run(["install-bundle"] + words)
        try Files().removeFile(Layout.join(session.layout.current, "lib/libexample.so.1"))
        let check = await session.run(["upgrade", "--check"] + words)
        #expect(check.code == .failed && check.json["available"]?.bool == true)
        let again = await session.run(["upgrade"] + words)
        #expect(again.json["changed"]?.bool == true, "\(again.error)")
        #expect(Files().exists(Layout.join(session.layout.current, "lib/libexample.so.1")))
    }

    @Test("takes a folder or a file with --from, and the environment's source")
    func local() async throws {
        let shelf = try ReleaseShelf()
        let digest = try await shelf.add("1.2.3")
        let folder = Layout.join(shelf.root, "1.2.3")
        let name = "llm-cli-gateway-bundle-1.2.3-\(Product.platform).tar.gz"
        for place in [folder, Layout.join(folder, name), "file://\(folder)/\(name)"] {
            let session = try Session()
            let answer = await session.run("install-bundle", "--from", place, "--sha256", digest, "--json")
            #expect(answer.json["bundle_version"]?.string == "1.2.3", "\(place): \(answer.error)")
        }
        let session = try Session()
        let byVariable = await session.run(
            ["upgrade", "--sha256", digest, "--json"],
            with: ["LLM_GATEWAY_RELEASE_SOURCE": shelf.root]
        )
        #expect(byVariable.json["bundle_version"]?.string == "1.2.3", "\(byVariable.error)")
        let signer = await session.run("install-bundle", "--from", Layout.join(folder, name), "--json")
        #expect(signer.json["error"]?["code"]?.string == "no-release-signer")
    }

    @Test(
        "says what is wrong with a command line",
        arguments: [
            (["--source", "/nowhere/at/all"], "file-not-found", "'/nowhere/at/all' does not exist"),
            (["--source", "/etc/passwd"], "not-a-directory", "'/etc/passwd' is no folder"),
            (
                ["--source", "http://example.org/r"], "insecure-url",
                "'http://example.org/r' is plain http to another machine, so anyone on the way could change the file"
            ),
            (
                ["--source", "https://example.org/r?x=1"], "malformed-url",
                "'https://example.org/r' has a query, so nothing can be looked up below it"
            ),
            (["--from", "/nowhere"], "file-not-found", "'/nowhere' does not exist"),
            (
                ["--from", "https://example.org/r"], "invalid-value",
                "'--from' is an address, expected a folder or file of this machine"
            ),
            (["--from", "/tmp", "--source", "/tmp"], "usage", "'--from' and '--source' exclude each other"),
            (
                ["--url", "file:///x", "--version", "1.2.3"], "usage",
                "'--url' and '--version' exclude each other"
            ),
            (
                ["--channel", "beta"], "invalid-value",
                "'--channel' is 'beta', expected 'stable' or 'prerelease'"
            ),
            (
                ["--version", "new"], "invalid-value",
                "'--version' is 'new', expected a version such as 1.2.3"
            ),
            (
                ["--source", "/tmp", "--sha256", "x"], "digest-malformed",
                "--sha256 is 'x', expected 64 hexadecimal digits"
            ),
            (
                ["--sha256", String(repeating: "1", count: 64)], "missing-value",
                "--sha256 is given without --url"
            ),
            (["--identity", "a", "--key", "b"], "usage", "'--identity' and '--key' exclude each other"),
        ]
    )
    func wrongWords(words: [String], code: String, message: String) async throws {
        let session = try Session()
        let from = words.contains("--identity") ? ["--source", "/tmp"] : []
        let answer = await session.run(["install-bundle", "--json"] + from + words)
        #expect(answer.json["error"]?["code"]?.string == code)
        #expect(answer.json["error"]?["message"]?.string == message)
        #expect(answer.code != .done)
    }

    @Test("says what is wrong with the reference's variable, and with what is remembered")
    func wrongSettings() async throws {
        let session = try Session()
        let service = await session.run(["upgrade", "--json"], with: ["RVWR_RELEASE_API_URL": "file:///x"])
        #expect(
            service.json["error"]?["message"]?.string
                == "RVWR_RELEASE_API_URL is 'file:///x', expected an https address"
        )
        try session.write(#"{"release_channel": 7}"#, session.layout.settings)
        let channel = await session.run("upgrade", "--source", "/tmp", "--json")
        #expect(channel.json["error"]?["code"]?.string == "settings-invalid")
        #expect(
            channel.json["error"]?["message"]?.string
                == #"'release_channel' in settings.json is 7, expected "stable" or "prerelease""#
        )
    }
}
