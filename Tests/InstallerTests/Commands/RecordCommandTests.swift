import Appliance
import Platform
import Testing

@testable import Installer

@Suite("Forgetting and exporting from a command line")
struct RecordCommandTests {
    @Test("says what it needs to be told")
    func refusals() async throws {
        let session = try Session()
        for (words, message) in [
            (["forget"], "'forget' was not told what to forget"),
            (["forget", "--all", "--provider", "codex"], "'--all' goes without flags that narrow it"),
            (
                ["forget", "--provider", "codx"],
                "'--provider' is 'codx', expected one of claude, codex, gemini,"
            ),
            (
                ["export", "--older-than", "5"],
                "'--older-than' is '5', expected a number of hours, days or weeks"
            ),
            (["export", "--older-than", "d"], "'--older-than' is 'd', expected"),
            (["export", "--json"], "the exported lines are JSON already"),
        ] {
            let answer = await session.run(words)
            #expect(answer.code == .usage && answer.error.contains(message), "\(words): \(answer.error)")
        }
        #expect(await session.run("forget", "--provider", "codx").error.contains("did you mean 'codex'?"))
        try session.write("[persistence]\nrecord = \"some\"\n", session.layout.configuration)
        let answer = await session.run("forget", "--all")
        #expect(answer.error.contains("'record' in [persistence] must be one of 'none', 'metadata', 'full'"))
    }

    @Test("an age of one figure is a value, not the flag of its last letter")
    func hours() async throws {
        let session = try Session()
        for age in ["1h", "1d", "2w", "30d"] {
            let answer = await session.run("forget", "--older-than", age, "--text")
            #expect(answer.code == .done && answer.output == "there is nothing to forget\n", "\(age)")
        }
        #expect(await session.run("forget", "-h").output.contains("usage: llm-cli-gateway forget"))
    }

    @Test("makes nothing in a home without records")
    func nothing() async throws {
        let session = try Session()
        let forgotten = await session.run("forget", "--all", "--json")
        #expect(forgotten.code == .done)
        #expect(
            forgotten.json == [
                "ok": true, "dry_run": false, "requests": 0, "jobs": 0, "sessions": 0, "approvals": 0,
                "folders": 0, "left_running": 0, "scrubbed": .null,
            ]
        )
        let exported = await session.run("export")
        #expect(exported.code == .done && exported.output.isEmpty)
        #expect(exported.error == "0 requests and 0 jobs\n")
        #expect(!Files().exists(session.layout.home))
    }

    @Test("takes the lines of approvals that are meant, and leaves what it cannot read")
    func approvals() async throws {
        let session = try Session()
        let old = #"{"id":"1","ts":"2020-01-01T00:00:00.000Z","cli":"claude","promptPreview":"p"}"#
        let other = #"{"id":"2","ts":"2020-01-01T00:00:00.000Z","cli":"codex","promptPreview":"p"}"#
        try session.write("\(old)\nno JSON\n\(other)\n", session.layout.approvals)
        let answer = await session.run("forget", "--provider", "claude", "--older-than", "1d", "--json")
        #expect(answer.json["approvals"] == 1)
        #expect(try session.read(session.layout.approvals) == "no JSON\n\(other)\n")
        #expect(await session.run("forget", "--session", "s", "--json").json["approvals"] == 0)
    }
}
