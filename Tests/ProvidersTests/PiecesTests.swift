import Appliance
import Platform
import TestSupport
import Testing

@testable import Providers

@Suite("Output that is read in pieces")
struct PiecesTests {
    private struct Sample {
        let provider: Provider
        let output: [UInt8]
        var files: [String: [UInt8]] = [:]
    }

    private static let formats = [
        "text", "json", "plain", "stream-json", "streaming", "streaming-json", "streaming-messages-json",
    ]

    private static func samples() throws -> [Sample] {
        let export = try fixture("outputs/vibe-export.json")
        var samples = try [
            ("claude", "claude"), ("claude", "claude-denied"), ("claude", "claude-partial"),
            ("codex", "codex"),
            ("codex", "codex-mcp"), ("codex", "codex-tool"), ("mistral", "vibe-continue"),
            ("mistral", "vibe-denied"),
            ("grok", "claude"),
        ].map { provider, name in
            Sample(
                provider: try #require(Provider(rawValue: provider)),
                output: try fixture("outputs/\(name).jsonl"),
                files: provider == "mistral" ? [Mistral.exportFile: export] : [:]
            )
        }
        let texts = [
            "", "\n", "plain → text 🙂\n\n", "{\"text\":\"hi\\n\",\"sessionId\":\"s\",\"thought\":\"t\"}\n",
            "{ not JSON\n}\n",
            "  {\n\"type\": \"result\",\n\"result\": \"indented\"}\n", "{\"a\":1}", "noise\n{\"a\":1}\nnoise",
            "{\"type\":\"text\",\"data\":\"a\"}\n{\"type\":\"text\",\"data\":\"→\"}\n{\"type\":\"end\",\"sessionId\":\"s\"}",
        ]
        for text in texts {
            samples += Provider.allCases.map { Sample(provider: $0, output: Array(text.utf8)) }
        }
        return samples
    }

    @Test("says the same as output that is there as a whole, wherever the pieces end")
    func borders() throws {
        let room = try TemporaryDirectory()
        // Small ones and large ones, none a power of two.
        let sizes = [1, 2, 3, 7, 61, 509, 4093]
        for sample in try PiecesTests.samples() {
            let path = try room.write(sample.output, "output")
            for format in PiecesTests.formats {
                let context = ReadingContext(provider: sample.provider, outputFormat: format, session: .new())
                func read(_ output: WrittenBytes, _ ending: RunEnding) throws -> ProviderResult {
                    let run = RunOutput(
                        standardOutput: output,
                        standardError: WrittenBytes(Array("why\n".utf8)),
                        files: sample.files,
                        ending: ending
                    )
                    var result = try OutputReader.read(run, context).result()
                    // Held or not, what counts is what it says.
                    result.reply = WrittenText(result.reply.held)
                    return result
                }
                for ending in [RunEnding.exited(0), .exited(1)] {
                    let whole = try read(WrittenBytes(sample.output), ending)
                    for size in sizes where sample.output.count / size < 40_000 {
                        let pieces = try WrittenBytes(file: path, limit: 1 << 24, memory: 0, piece: size)
                        #expect(
                            try read(pieces, ending) == whole,
                            "\(sample.provider) \(format), pieces of \(size)"
                        )
                    }
                }
            }
        }
    }

    @Test("refers to a long plain reply in place of holding it")
    func reference() throws {
        let room = try TemporaryDirectory()
        let text = String(repeating: "line →🙂\n", count: 200_000)
        let path = try room.write(Array(text.utf8), "output")
        let output = try WrittenBytes(file: path, limit: 1 << 24)
        for (provider, format) in [
            (Provider.gemini, "text"), (.grok, "text"), (.grok, "plain"), (.claude, "text"),
        ] {
            let context = ReadingContext(provider: provider, outputFormat: format, session: .new())
            let run = try OutputReader.read(RunOutput(standardOutput: output, ending: .exited(0)), context)
            let result = run.result()
            #expect(result.reply.inMemory == nil && !result.isError)
            #expect(result.reply.held == String(text.dropLast()))
        }
    }

    @Test("looks at the end of a long standard error, where the reason is")
    func errors() throws {
        let noise = String(repeating: "working on it\n", count: 200_000)
        let run = RunOutput(
            standardError: WrittenBytes(Array((noise + "401 Unauthorized\n").utf8)),
            ending: .exited(1)
        )
        let context = ReadingContext(provider: .codex, outputFormat: "text", session: .new())
        let result = try OutputReader.read(run, context).result()
        #expect(result.category == .authError && result.errorText?.contains("401 Unauthorized") == true)
    }
}
