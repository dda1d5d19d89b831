import Appliance
import Platform
import Testing

@testable import Providers

/// One row of a table: arguments of a tool call, and what is expected of the command line.
struct Row: Sendable, CustomTestStringConvertible {
    let arguments: JSON
    let expected: String
    var testDescription: String { arguments.compactText }

    init(_ arguments: JSON, _ expected: String) {
        var arguments = arguments
        if arguments["promptFile"] == nil, arguments["promptJson"] == nil, arguments["single"] == nil,
            arguments["promptParts"] == nil
        {
            arguments["prompt"] = "hi"
        }
        self.arguments = arguments
        self.expected = expected
    }
}

@Suite("Claude's command line")
struct ClaudeArgumentTests {
    static let start = "-p --output-format stream-json --include-partial-messages --verbose"
    static let end = "--strict-mcp-config --session-id \(newID)"
    static let id = "11111111-2222-4333-8444-555555555555"

    @Test(
        "says what each parameter means",
        arguments: [
            Row([:], end),
            Row(["outputFormat": "text"], end),
            Row(["allowedTools": ["Read", "Bash(git *)"]], "--allowed-tools Read Bash(git *) \(end)"),
            Row(["disallowedTools": ["Bash"]], "--disallowed-tools Bash \(end)"),
            Row(["tools": [""]], "--tools  \(end)"),
            Row(["tools": []], "--tools  \(end)"),
            Row(["permissionMode": "plan"], "--permission-mode plan \(end)"),
            Row(["permissionMode": "default"], end),
            Row(["dangerouslySkipPermissions": true], "--permission-mode bypassPermissions \(end)"),
            Row(["strictMcpConfig": false], "--session-id \(newID)"),
            Row(["agent": "a"], "--strict-mcp-config --agent a --session-id \(newID)"),
            Row(
                ["agents": ["r": ["description": "d", "prompt": "p"]]],
                #"--strict-mcp-config --agents {"r":{"description":"d","prompt":"p"}} --session-id \#(newID)"#
            ),
            Row(["systemPrompt": "-x"], "--strict-mcp-config --system-prompt=-x --session-id \(newID)"),
            Row(
                ["appendSystemPrompt": "a", "requestInstructions": "b"],
                "--strict-mcp-config --append-system-prompt a\n\nb --session-id \(newID)"
            ),
            Row(
                ["maxBudgetUsd": 0.5, "maxTurns": 3, "effort": "high", "fallbackModel": "f"],
                "--strict-mcp-config --max-budget-usd 0.5 --max-turns 3 --effort high --fallback-model f --session-id \(newID)"
            ),
            Row(
                ["jsonSchema": ["type": "object"]],
                #"--strict-mcp-config --json-schema {"type":"object"} --session-id \#(newID)"#
            ),
            Row(
                ["addDir": ["/a", "/b"], "noSessionPersistence": true],
                "--strict-mcp-config --add-dir /a --add-dir /b --no-session-persistence"
            ),
            Row(
                ["settingSources": "user", "settings": "s.json", "bare": true, "safeMode": true],
                "--strict-mcp-config --setting-sources user --settings s.json --bare --safe-mode --session-id \(newID)"
            ),
            Row(
                ["debug": "api", "debugFile": "/d", "includeHookEvents": true, "name": "n"],
                "--strict-mcp-config --debug=api --debug-file /d --include-hook-events --name n --session-id \(newID)"
            ),
            Row(
                ["pluginDir": ["/p"], "pluginUrl": ["https://x/y.zip"]],
                "--strict-mcp-config --plugin-dir /p --plugin-url https://x/y.zip --session-id \(newID)"
            ),
            Row(
                ["excludeDynamicSystemPromptSections": true],
                "--strict-mcp-config --exclude-dynamic-system-prompt-sections --session-id \(newID)"
            ),
            Row(["sessionId": .string(id)], "--strict-mcp-config --resume \(id)"),
            Row(["continueSession": true], "--strict-mcp-config --continue"),
            Row(
                ["sessionId": .string(id), "forkSession": true],
                "--strict-mcp-config --resume \(id) --fork-session --session-id \(newID)"
            ),
            Row(["sessionId": .string(id), "createNewSession": true], end),
        ]
    )
    func parameters(row: Row) throws {
        #expect(try line(.claude, row.arguments) == "\(ClaudeArgumentTests.start) \(row.expected)")
    }

    @Test("sends the prompt on standard input, whatever it starts with")
    func standardInput() throws {
        let plan = try plan(.claude, ["prompt": "--help"])
        #expect(plan.standardInput == Array("--help".utf8))
        #expect(!plan.arguments.contains(.text("--help")))
        #expect(plan.idleTimeout == 600_000)
    }

    @Test("sends a marked prompt as blocks with one mark")
    func cacheMark() throws {
        let plan = try plan(
            .claude,
            [
                "promptParts": [
                    "system": "s", "context": "c", "task": "t",
                    "cacheControl": ["system": true, "context": ["type": "ephemeral"]],
                ]
            ]
        )
        let blocks = try JSON.parse(plan.standardInput)["message"]?["content"]?.array
        #expect(blocks?.map { $0["text"] } == ["s", "\n\nc", "\n\nt"])
        #expect(blocks?.map { $0["cache_control"] != nil } == [false, true, false])
        #expect(plan.arguments.contains(.text("--input-format")))
        #expect(plan.warnings.map(\.code) == ["cache_control_merged"])
    }

    @Test("puts a long system prompt into a file")
    func longSystemPrompt() throws {
        let text = String(repeating: "x", count: 200_000)
        let plan = try plan(.claude, ["prompt": "hi", "systemPrompt": .string(text)])
        #expect(plan.files.map(\.name) == ["system-prompt.txt"])
        #expect(plan.arguments.contains(.text("--system-prompt-file")))
    }

    @Test("asks for a bypass only when the operator allows it")
    func managed() throws {
        var options = RequestOptions()
        let call: JSON = [
            "prompt": "x", "approvalStrategy": "mcp_managed", "permissionMode": "bypassPermissions",
        ]
        #expect(refusal(.claude, call)?.code == "unsupported-parameter")
        options.approval = ApprovalGrant(allowsBypass: false)
        #expect(try line(.claude, call, options: options).contains("--permission-mode acceptEdits"))
        options.approval = ApprovalGrant(allowsBypass: true)
        #expect(try line(.claude, call, options: options).contains("--permission-mode bypassPermissions"))
        let modest: JSON = ["prompt": "x", "approvalStrategy": "mcp_managed"]
        #expect(try line(.claude, modest, options: options).contains("--permission-mode acceptEdits"))
    }

    @Test("writes the resolved servers into a file")
    func servers() throws {
        let call: JSON = ["prompt": "x", "mcpServers": ["exa"]]
        let error = refusal(.claude, call)
        #expect(error?.message == "strictMcpConfig=true but requested servers are unavailable: exa")
        #expect(error?.help?.contains("strictMcpConfig to false") == true)
        // What that advises works: Claude's own servers, and a word on those that are not there.
        let lenient: JSON = ["prompt": "x", "mcpServers": ["exa"], "strictMcpConfig": false]
        let plan = try plan(.claude, lenient)
        #expect(try !line(.claude, lenient).contains("mcp-config"))
        #expect(plan.warnings.first?.json["code"] == "mcp_servers_missing")
        #expect(plan.warnings.first?.json["missing"] == ["exa"])
        var options = RequestOptions()
        options.mcpConfiguration = ["mcpServers": ["exa": ["command": "exa"]]]
        #expect(
            try line(.claude, call, options: options).contains("--mcp-config /j/mcp.json --strict-mcp-config")
        )
    }

    @Test(
        "is refused for what contradicts itself",
        arguments: [
            Row(
                ["systemPrompt": "a", "appendSystemPrompt": "b"],
                "systemPrompt and appendSystemPrompt are mutually exclusive; use one or the other (not both)."
            ),
            Row(["forkSession": true], "'forkSession' needs a conversation to fork"),
            Row(["agents": ["k": ["description": "d"]]], "Invalid agent definition for \"k\".prompt"),
            Row(["allowedTools": ["--x"]], "'allowedTools' values must not start with '-', found '--x'"),
            Row(["sessionId": "-x"], "session id '-x' is not usable"),
            Row(["sessionId": "/tmp/x.jsonl"], "session id '/tmp/x.jsonl' is not usable"),
            Row(["settings": "{/../../x.json"], "'settings' looks like JSON and is none"),
            Row(["maxBudgetUsd": 0], "'maxBudgetUsd' must be greater than 0"),
            Row(["jsonSchema": "nonsense"], "'jsonSchema' must be a JSON object"),
            Row(["effort": "huge"], "'effort' must be one of low, medium, high, xhigh, max, found 'huge'"),
            Row(["idleTimeoutMs": 5], "'idleTimeoutMs' must be between 30000 and 3600000, found 5"),
            Row(["worktree": true], "'worktree' is not available here"),
        ]
    )
    func refusals(row: Row) {
        #expect(refusal(.claude, row.arguments)?.message.contains(row.expected) == true)
    }
}

@Suite("Codex's command line")
struct CodexArgumentTests {
    static let id = "01a1fd1a-1f50-7470-80be-5c531e9bcb0e"

    @Test(
        "says what each parameter means",
        arguments: [
            Row([:], "exec --sandbox read-only --json --skip-git-repo-check -"),
            Row(
                ["sandboxMode": "workspace-write"],
                "exec --sandbox workspace-write --json --skip-git-repo-check -"
            ),
            Row(["fullAuto": true], "exec --sandbox workspace-write --json --skip-git-repo-check -"),
            Row(
                ["dangerouslyBypassApprovalsAndSandbox": true],
                "exec --dangerously-bypass-approvals-and-sandbox --json --skip-git-repo-check -"
            ),
            Row(
                ["sessionId": .string(id)],
                "exec resume -c sandbox_mode=\"read-only\" --json --skip-git-repo-check \(id) -"
            ),
            Row(
                ["resumeLatest": true, "sandboxMode": "workspace-write"],
                "exec resume --last -c sandbox_mode=\"workspace-write\" --json --skip-git-repo-check -"
            ),
            Row(
                ["addDir": ["/a"], "profile": "p", "oss": true, "localProvider": "ollama", "color": "never"],
                "exec --sandbox read-only --json --skip-git-repo-check --add-dir /a --profile p --oss --local-provider ollama --color never -"
            ),
            Row(
                ["outputSchema": ["type": "object"]],
                "exec --sandbox read-only --json --skip-git-repo-check --output-schema /j/output-schema.json -"
            ),
            Row(
                ["outputSchema": "s.json"],
                "exec --sandbox read-only --json --skip-git-repo-check --output-schema s.json -"
            ),
            Row(
                ["configOverrides": ["a.b": "c", "n": 3], "requestInstructions": "be \"kind\"\nnow"],
                #"exec --sandbox read-only --json --skip-git-repo-check -c developer_instructions="be \"kind\"\nnow" -c a.b=c -c n=3 -"#
            ),
            Row(
                [
                    "images": ["a.png"], "ephemeral": true, "ignoreUserConfig": true, "ignoreRules": true,
                    "dangerouslyBypassHookTrust": true, "strictConfig": true, "enable": ["x"],
                    "disable": ["plugins"], "outputLastMessage": "/m",
                ],
                "exec --sandbox read-only --json --skip-git-repo-check --image=a.png --ephemeral --ignore-user-config --ignore-rules --dangerously-bypass-hook-trust --strict-config --enable x --disable plugins --output-last-message /m -"
            ),
        ]
    )
    func parameters(row: Row) throws {
        #expect(try line(.codex, row.arguments) == row.expected)
    }

    @Test("forks by id and never from nothing")
    func fork() throws {
        let id = CodexArgumentTests.id
        #expect(
            try line(.codex, ["prompt": "x"], session: .fork(id))
                == "exec fork -c sandbox_mode=\"read-only\" --json --skip-git-repo-check \(id) -"
        )
        #expect(
            refusal(.codex, ["prompt": "x"], session: .fork(nil))?.message.contains("only by its id") == true
        )
    }

    @Test("says what it ignores")
    func warnings() throws {
        let plan = try plan(
            .codex,
            [
                "prompt": "x", "search": true, "askForApproval": "never", "useLegacyFullAutoFlag": true,
                "resumeLatest": true, "addDir": ["/a"], "profile": "p",
            ]
        )
        #expect(plan.warnings.count(where: { $0.code == "ignored_parameter" }) == 3)
        #expect(plan.warnings.count(where: { $0.code == "ignored_on_resume" }) == 2)
    }

    @Test("is refused for a reserved session id and a bad override")
    func refusals() {
        #expect(
            refusal(.codex, ["prompt": "x", "sessionId": "gw-1"])?.message.contains("reserved prefix 'gw-'")
                == true
        )
        #expect(
            refusal(.codex, ["prompt": "x", "configOverrides": ["a": "b\nc"]])?.message
                == "the value of configOverrides 'a' contains a line break"
        )
        #expect(refusal(.codex, ["prompt": "x", "configOverrides": ["a b": "c"]])?.code == "invalid-input")
        #expect(
            refusal(.codex, ["prompt": "x", "images": ["a,/etc/b.png"]])?.message
                == "images: 'a,/etc/b.png' contains a comma, at which codex would take it for two files"
        )
        #expect(refusal(.codex, ["prompt": "x", "mcpServers": ["exa"]])?.code == "unsupported-parameter")
    }
}

@Suite("The command lines of agy, grok and vibe")
struct OtherArgumentTests {
    @Test(
        "agy: says what each parameter means",
        arguments: [
            Row([:], "--print hi"),
            Row(
                ["includeDirs": ["/a"], "sandbox": true, "yolo": true],
                "--add-dir /a --sandbox --dangerously-skip-permissions --print hi"
            ),
            Row(["approvalMode": "yolo"], "--dangerously-skip-permissions --print hi"),
            Row(["sessionId": "c1"], "--conversation c1 --print hi"),
            Row(["resumeLatest": true], "--continue --print hi"),
            Row(["project": "p", "printTimeout": "10m"], "--project p --print-timeout 10m --print hi"),
            Row(["newProject": true], "--new-project --print hi"),
        ]
    )
    func geminiParameters(row: Row) throws {
        #expect(try line(.gemini, row.arguments) == row.expected)
    }

    @Test(
        "agy: refuses what it cannot do",
        arguments: [
            Row(["approvalMode": "plan"], "approvalMode"), Row(["approvalMode": "auto_edit"], "approvalMode"),
            Row(["allowedTools": ["x"]], "allowedTools"), Row(["outputFormat": "json"], "outputFormat"),
            Row(["policyFiles": ["x"]], "policyFiles"), Row(["adminPolicyFiles": ["x"]], "adminPolicyFiles"),
            Row(["attachments": ["/x"]], "attachments"), Row(["skipTrust": true], "skipTrust"),
            Row(["mcpServers": ["x"]], "mcpServers"),
        ]
    )
    func geminiRefusals(row: Row) {
        let message = refusal(.gemini, row.arguments)?.message
        #expect(message?.hasPrefix("\(row.expected) is not supported by Antigravity CLI (agy): ") == true)
    }

    @Test("agy: keeps a prompt from being read as a flag, and refuses one that no argument holds")
    func geminiPrompt() throws {
        #expect(try plan(.gemini, ["prompt": "--model x"]).arguments.last == .text(" --model x"))
        var options = RequestOptions()
        options.maximumPromptCharacters = 4_000_000
        let long = JSON.string(String(repeating: "x", count: 1_000_000))
        let error = refusal(.gemini, ["prompt": long], options: options)
        #expect(error?.code == "input-too-large")
        #expect(ErrorCategory(code: error?.code ?? "").rawValue == "input_too_large")
    }

    static let grok = "--output-format json"
    static let file = "--prompt-file /j/prompt.txt"

    @Test(
        "grok: says what each parameter means",
        arguments: [
            Row([:], "\(grok) \(file)"),
            Row(["outputFormat": "streaming-json"], "--output-format streaming-json \(file)"),
            Row(["alwaysApprove": true], "\(grok) --always-approve \(file)"),
            Row(["permissionMode": "plan"], "\(grok) --permission-mode plan \(file)"),
            Row(
                [
                    "effort": "low", "reasoningEffort": "r", "allowedTools": ["a", "b"],
                    "disallowedTools": ["c"], "maxTurns": 2,
                ],
                "\(grok) --effort low --reasoning-effort r --tools a,b --disallowed-tools c --max-turns 2 \(file)"
            ),
            Row(
                [
                    "sandbox": "s", "rules": "r", "systemPromptOverride": "o", "allow": ["a"],
                    "deny": ["b", "c"],
                ],
                "\(grok) --sandbox s --rules r --system-prompt-override o --allow a --deny b --deny c \(file)"
            ),
            Row(
                [
                    "compactionMode": "summary", "compactionDetail": "none", "agent": "a", "bestOfN": 3,
                    "check": true,
                ],
                "\(grok) --compaction-mode summary --compaction-detail none --agent a --best-of-n 3 --check \(file)"
            ),
            Row(
                ["disableWebSearch": true, "todoGate": true, "verbatim": true, "jsonSchema": "{}"],
                "\(grok) --disable-web-search --todo-gate --verbatim --json-schema {} \(file)"
            ),
            Row(["agents": "{}"], "\(grok) --agents {} \(file)"),
            Row(["promptFile": "/p"], "\(grok) --prompt-file /p"),
            Row(["promptJson": [["type": "text"]]], #"\#(grok) --prompt-json [{"type":"text"}]"#),
            Row(["single": "s"], "\(grok) \(file)"),
            Row(
                [
                    "experimentalMemory": true, "noAltScreen": true, "noMemory": true, "noPlan": true,
                    "noSubagents": true, "oauth": true, "restoreCode": true, "leaderSocket": "/s",
                    "nativeWorktree": "n", "worktreeRef": "main",
                ],
                "\(grok) \(file) --experimental-memory --no-alt-screen --no-memory --no-plan --no-subagents --oauth --restore-code --leader-socket /s --worktree n --worktree-ref main"
            ),
            Row(["nativeWorktree": true], "\(grok) \(file) --worktree"),
            Row(["sessionId": "s1"], "\(grok) \(file) --resume s1"),
            Row(["resumeLatest": true], "\(grok) \(file) --continue"),
            Row(["sessionId": "s1", "forkSession": true], "\(grok) \(file) --resume s1 --fork-session"),
        ]
    )
    func grokParameters(row: Row) throws {
        #expect(try line(.grok, row.arguments) == row.expected)
    }

    @Test("grok: takes exactly one prompt, and no other transport")
    func grokPrompts() throws {
        #expect(
            refusal(.grok, ["prompt": "a", "promptFile": "/b"])?.message
                == "grok takes one prompt, found 'prompt' and 'promptFile'"
        )
        #expect(refusal(.grok, [:])?.message == "one of `prompt` or `promptParts` is required")
        #expect(refusal(.grok, ["prompt": "a", "transport": "acp"])?.code == "unsupported-parameter")
        let plan = try plan(.grok, ["prompt": "-x"])
        #expect(plan.files == [RequestPlan.GeneratedFile(name: "prompt.txt", contents: Array("-x".utf8))])
        #expect(plan.standardInput.isEmpty)
    }

    @Test("every prompt is recorded, however it came; of a file, only its name")
    func recordedPrompts() throws {
        let rows: [(Provider, JSON, String)] = [
            (.grok, ["prompt": "a"], "a"), (.grok, ["single": "s"], "s"),
            (.grok, ["promptFile": "/p.md"], "promptFile: /p.md"),
            (.grok, ["promptJson": [["type": "text"]]], #"[{"type":"text"}]"#),
            (.claude, ["promptParts": ["context": "c", "task": "t"]], "c\n\nt"),
            (.codex, ["prompt": "x"], "x"), (.gemini, ["prompt": "x"], "x"), (.mistral, ["prompt": "x"], "x"),
        ]
        for (provider, arguments, prompt) in rows {
            #expect(try plan(provider, arguments).prompt == prompt)
        }
    }

    static let vibe = "-p --output streaming --output-dir /j/output"

    @Test(
        "vibe: says what each parameter means",
        arguments: [
            Row([:], "\(vibe) --agent auto-approve"),
            Row(["outputFormat": "json", "permissionMode": "ask"], "\(vibe) --agent ask"),
            Row(
                ["allowedTools": ["a", "b"], "disallowedTools": ["c"], "trust": true],
                "\(vibe) --agent auto-approve --enabled-tools a --enabled-tools b --disabled-tools c --trust"
            ),
            Row(
                ["maxTurns": 1, "maxPrice": 0.000001, "maxTokens": 100_000_000, "addDir": ["/a"]],
                "\(vibe) --agent auto-approve --max-turns 1 --max-price 0.000001 --max-tokens 100000000 --add-dir /a"
            ),
            Row(["sessionId": "s1"], "\(vibe) --agent auto-approve --resume s1"),
            Row(["resumeLatest": true], "\(vibe) --agent auto-approve --continue"),
        ]
    )
    func vibeParameters(row: Row) throws {
        #expect(try line(.mistral, row.arguments) == row.expected)
    }

    @Test("vibe: names the model by its variable, and refuses one that it would silently replace")
    func vibeModel() throws {
        var options = RequestOptions()
        options.model = "fake"
        options.modelStanding = .known
        #expect(
            try plan(.mistral, ["prompt": "x"], options: options).environment == ["VIBE_ACTIVE_MODEL": "fake"]
        )
        options.modelStanding = .unknown(["a", "b"])
        let error = refusal(.mistral, ["prompt": "x"], options: options)
        #expect(error?.code == "unknown-model")
        #expect(error?.message.contains("it knows a, b") == true)
    }
}

@Suite("Prompts and placeholders")
struct PromptTests {
    @Test("are refused with the contract's words")
    func refusals() {
        for provider in Provider.allCases {
            #expect(refusal(provider, [:])?.message == "one of `prompt` or `promptParts` is required")
            #expect(
                refusal(provider, ["prompt": "a", "promptParts": ["task": "b"]])?.message
                    == "provide exactly one of `prompt` or `promptParts`"
            )
            #expect(refusal(provider, ["prompt": " \n"])?.message == "Prompt cannot be empty")
            #expect(refusal(provider, ["prompt": "a\u{0}b"])?.code == "invalid-input")
            let long = JSON.string(String(repeating: "x", count: 100_001))
            #expect(refusal(provider, ["prompt": long])?.message == "Prompt too long (max 100k chars)")
        }
    }

    @Test(
        "of a megabyte pass where the limit was raised",
        arguments: [Provider.claude, .codex, .grok, .mistral]
    )
    func megabyte(provider: Provider) throws {
        var options = RequestOptions()
        options.maximumPromptCharacters = 4_000_000
        let text = String(repeating: "x", count: 1_000_000)
        let plan = try plan(provider, ["prompt": .string(text)], options: options)
        #expect(max(plan.standardInput.count, plan.files.first?.contents.count ?? 0) == 1_000_000)
    }

    @Test("are joined from their parts by blank lines")
    func parts() throws {
        let plan = try plan(.codex, ["promptParts": ["context": "c", "task": "t", "system": "s"]])
        #expect(plan.standardInput == Array("s\n\nc\n\nt".utf8))
    }

    @Test("hash the same for equal requests and differ by format")
    func dedup() throws {
        let first = try plan(.codex, ["prompt": "x", "outputSchema": ["type": "object"]])
        let second = try plan(.codex, ["prompt": "x", "outputSchema": ["type": "object"]])
        let other = try plan(
            .codex,
            ["prompt": "x", "outputSchema": ["type": "object"], "outputFormat": "json"]
        )
        #expect(first.dedupMaterial == second.dedupMaterial)
        #expect(first.dedupMaterial != other.dedupMaterial)
    }

    @Test(
        "leave a context that survives storage",
        arguments: [SessionChoice.new(), .resume("a"), .latest, .fork("b")]
    )
    func context(session: SessionChoice) throws {
        let context = ReadingContext(
            provider: .codex,
            outputFormat: "text",
            session: session,
            requestedModel: "m",
            collected: ["x"]
        )
        #expect(ReadingContext(json: try JSON.parse(context.json.compact)) == context)
    }

    @Test("name a missing image before anything runs")
    func missingImage() throws {
        let plan = try plan(.codex, ["prompt": "x", "images": ["/nowhere/a.png"]])
        #expect(throws: GatewayError("invalid-input", "images: path does not exist: /nowhere/a.png")) {
            try plan.checkPaths(from: "/", files: Files())
        }
    }
}
