import Appliance
import Testing

@testable import Providers

@Suite("The declared contracts")
struct ContractTests {
    private func violation(
        _ provider: Provider,
        _ arguments: [String],
        _ environment: [String: String] = [:]
    ) -> String? {
        do throws(GatewayError) {
            try ContractCheck.check(arguments, environment: environment, against: provider.contract)
            return nil
        } catch {
            return error.message
        }
    }

    @Test("refuse what the CLI would not understand")
    func violations() {
        let start = "Upstream codex CLI contract violation: "
        #expect(
            violation(.codex, ["run"]) == start
                + "arguments must start with one of 'exec', 'exec resume', 'exec fork', found 'run'"
        )
        #expect(violation(.codex, ["exec", "--bogus"]) == start + "unknown flag --bogus")
        #expect(
            violation(.codex, ["exec", "resume", "--sandbox", "read-only"]) == start
                + "flag --sandbox belongs to 'exec', not to 'exec resume'"
        )
        #expect(
            violation(.codex, ["exec", "--last"]) == start
                + "flag --last belongs to 'exec resume', not to 'exec'"
        )
        #expect(
            violation(.codex, ["exec", "--sandbox", "none"]) == start
                + "flag --sandbox must be one of read-only, workspace-write, danger-full-access, found 'none'"
        )
        #expect(violation(.codex, ["exec", "--model"]) == start + "flag --model needs a value")
        #expect(violation(.codex, ["exec", "--model", "-x"]) == start + "flag --model needs a value")
        #expect(violation(.codex, ["exec", "--json=1"]) == start + "flag --json takes no value")
        #expect(
            violation(.codex, ["exec", "a", "b"]) == start + "at most 1 positional argument allowed, found 2"
        )
        #expect(
            violation(.codex, ["exec", "-c", "a=b\nc"])?.hasPrefix(
                start + "the value of flag -c does not match"
            ) == true
        )
        #expect(
            violation(.claude, ["-p", "--allowed-tools", "--verbose"])
                == "Upstream claude CLI contract violation: flag --allowed-tools needs at least one value"
        )
        #expect(
            violation(.claude, ["-p", "hello"])
                == "Upstream claude CLI contract violation: at most 0 positional arguments allowed, found 1"
        )
        #expect(violation(.claude, ["--max-turns", "0"])?.contains("--max-turns does not match") == true)
    }

    @Test("refuse variables that are not declared")
    func environment() {
        #expect(violation(.mistral, ["-p"], ["VIBE_ACTIVE_MODEL": "fake"]) == nil)
        #expect(
            violation(.mistral, ["-p"], ["LD_PRELOAD": "x"])
                == "Upstream mistral CLI environment contract violation: 'LD_PRELOAD' is not a variable of the contract"
        )
        #expect(
            violation(.mistral, ["-p"], ["VIBE_ACTIVE_MODEL": "a b"])?.hasPrefix(
                "Upstream mistral CLI environment contract violation: "
            ) == true
        )
    }

    @Test("refuse what exec(2) would")
    func sizes() {
        #expect(violation(.gemini, ["--print", "a\u{0}"])?.contains("zero byte") == true)
        #expect(
            violation(.gemini, ["--print", String(repeating: "x", count: 131_072)])?.contains(
                "131072 bytes, at most 131071"
            ) == true
        )
        #expect(violation(.gemini, ["--print", String(repeating: "x", count: 131_071)]) == nil)
        let many = Array(repeating: "--sandbox", count: 2049)
        #expect(violation(.gemini, many)?.contains("2049 arguments, at most 2048") == true)
        let big = Array(repeating: "--model=" + String(repeating: "x", count: 100_000), count: 12)
        #expect(violation(.gemini, big)?.contains("at most 1048576 are possible") == true)
    }

    @Test(
        "match the help of the real CLIs",
        arguments: [
            ("claude", Provider.claude, 0), ("codex-exec", .codex, 0), ("codex-exec-resume", .codex, 1),
            ("codex-exec-fork", .codex, 2), ("vibe", .mistral, 0),
        ]
    )
    func help(name: String, provider: Provider, command: Int) throws {
        let help = String(decoding: try fixture("help/\(name).txt"), as: UTF8.self)
        let contract = provider.contract
        let drift = HelpDrift(contract, contract.commands[command], help: help)
        #expect(drift.missing == [])
        #expect(drift.extra == [])
        #expect(drift.stale == [])
    }

    @Test("report drift in both directions")
    func drift() {
        let help = "Options:\n  -p, --print   Print\n      --brand-new <X>  New\n  --max-turns <N>\n"
        let drift = HelpDrift(Claude.contract, Claude.contract.commands[0], help: help)
        #expect(drift.extra == ["--brand-new"])
        #expect(drift.missing.contains("--model") && !drift.missing.contains("-p"))
        #expect(drift.stale.contains("--max-turns") && drift.stale.contains("--chrome"))
    }

    @Test("write decimals without exponents")
    func decimals() {
        let rows = [(1e-6, "0.000001"), (0.5, "0.5"), (10_000, "10000"), (0.1 + 0.2, "0.3"), (3, "3")]
        for (value, text) in rows { #expect(Decimals.text(value) == text) }
    }
}
