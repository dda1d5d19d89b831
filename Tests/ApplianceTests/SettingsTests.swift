import Appliance
import Testing

@Suite("Settings")
struct SettingsTests {
    @Test("are the contract's where nobody said otherwise")
    func standard() throws {
        let settings = try Settings()
        #expect(settings.localURL == "http://127.0.0.1:3333/mcp")
        #expect(settings.healthURL == "http://127.0.0.1:3333/healthz")
        #expect(settings.publicURL == nil && !settings.verifyPublicURL && settings.isLoopback)
    }

    @Test("take the environment before the file and the file before the standard")
    func precedence() throws {
        let stored = JSONObject([
            ("http_port", 4000), ("http_path", "/tools"), ("public_url", "https://a.example"),
        ])
        let settings = try Settings(
            stored: stored,
            environment: [
                "LLM_GATEWAY_HTTP_PORT": " 5000 ", "LLM_GATEWAY_HTTP_HOST": "",
                "LLM_GATEWAY_PUBLIC_URL": "https://b.example/mcp", "LLM_GATEWAY_VERIFY_PUBLIC_URL": "1",
            ]
        )
        #expect(settings.localURL == "http://127.0.0.1:5000/tools")
        #expect(settings.publicURL == "https://b.example/mcp")
        #expect(settings.verifyPublicURL)
        #expect(try Settings(stored: stored).port == 4000)
    }

    @Test("put an IPv6 address in brackets and connect to loopback where a wildcard listens")
    func addresses() throws {
        #expect(try Settings(environment: ["LLM_GATEWAY_HTTP_HOST": "[::1]"]).listenAddress == "[::1]:3333")
        let wildcard = try Settings(environment: ["LLM_GATEWAY_HTTP_HOST": "::"])
        #expect(wildcard.localOrigin == "http://[::1]:3333" && !wildcard.isLoopback)
        #expect(try Settings(environment: ["LLM_GATEWAY_HTTP_HOST": "localhost"]).host == "127.0.0.1")
        #expect(
            try Settings(environment: ["LLM_GATEWAY_HTTP_HOST": "0.0.0.0"]).localURL
                == "http://127.0.0.1:3333/mcp"
        )
    }

    @Test(
        "name the variable, its value and what was expected",
        arguments: [
            ("LLM_GATEWAY_HTTP_PORT", "x", "is 'x', expected a port number from 1 to 65535"),
            ("LLM_GATEWAY_HTTP_PORT", "70000", "is '70000', expected a port number from 1 to 65535"),
            (
                "LLM_GATEWAY_HTTP_HOST", "my host",
                "is 'my host', expected an IPv4 or IPv6 address such as 127.0.0.1"
            ),
            (
                "LLM_GATEWAY_HTTP_PATH", "/a/../b",
                "is '/a/../b', expected a path such as /mcp, without '..', '?', '#' and spaces"
            ),
        ]
    )
    func refusedVariables(name: String, value: String, wording: String) throws {
        let error = try #require(throws: GatewayError.self) { try Settings(environment: [name: value]) }
        #expect(error.code == "invalid-value" && error.message == "\(name) \(wording)")
        #expect(error.exitCode == .usage)
    }

    @Test("name the key of the file that has a wrong type")
    func refusedKeys() throws {
        let error = try #require(throws: GatewayError.self) {
            try Settings(stored: JSONObject([("http_port", "many")]))
        }
        #expect(error.code == "settings-invalid")
        #expect(
            error.message
                == "'http_port' in settings.json is \"many\", expected a port number from 1 to 65535"
        )
    }

    @Test("refuse a file that is no JSON object, saying why")
    func corrupt() throws {
        let broken = try #require(throws: GatewayError.self) {
            try Settings.document(of: Array("{\"a\":".utf8))
        }
        #expect(broken.code == "settings-corrupt")
        #expect(broken.message.hasPrefix("settings.json cannot be read: invalid JSON at byte 5"))
        let list = try #require(throws: GatewayError.self) { try Settings.document(of: Array("[]".utf8)) }
        #expect(list.message == "settings.json cannot be read: it holds an array, not an object")
    }

    @Test("are recorded without losing other keys and without repeating the standard")
    func recording() throws {
        var settings = try Settings()
        settings.port = 4444
        let stored = JSONObject([("public_url", "https://a.example"), ("http_path", "/old"), ("later", [1])])
        let document = settings.recorded(in: stored)
        #expect(document.names == ["public_url", "later", "http_port"])
        #expect(try Settings(stored: document).port == 4444)
    }
}

@Suite("The environment file")
struct EnvironmentFileTests {
    @Test("whose comment would swallow the next line says so")
    func swallowingComment() {
        let file = EnvironmentFile(text: "A=1\n# old keys \\\nB=2\n# fine\nC=3\n; last \\\n")
        #expect(file.values == ["A": "1", "B": "2", "C": "3"])
        #expect(
            file.problems == [
                "line 2: the comment ends with a backslash, so systemd before 254 takes line 3 for a part of it; "
                    + "take the backslash away"
            ]
        )
    }

    @Test("is read as systemd reads it")
    func reading() {
        let file = EnvironmentFile(
            text: """
                # a comment
                ; another
                PLAIN = some words here  \t
                  SINGLE='a "b" \\n $c'
                DOUBLE="x \\"y\\" \\$z \\q"
                JOINED="a" 'b "' c' '
                INNER=a" b "'c'd
                HASH=x # not a comment
                SPACED=a\\ b\\
                c
                LONG=one \\
                two
                EMPTY=
                export WORD=1
                nonsense
                LAST=\\$5
                """
        )
        #expect(
            file.values == [
                "PLAIN": "some words here", "SINGLE": #"a "b" \n $c"#, "DOUBLE": #"x "y" $z \q"#,
                "JOINED": "ab \"c' '", "INNER": "a\" b \"'c'd", "HASH": "x # not a comment", "SPACED": "a bc",
                "LONG": "one two", "EMPTY": "", "LAST": "$5",
            ]
        )
        #expect(
            file.problems == [
                "line 14: 'export WORD' is no name of an environment variable", "line 15 has no '='",
            ]
        )
    }

    @Test(
        "keeps every other line when a value is set",
        arguments: ["/a:/b", "", "with space", "q\"u\\o$t'e`", "#;"]
    )
    func setting(value: String) throws {
        var file = EnvironmentFile(text: "# keys\nA=1\nPATH=\"one \\\n two\"\nB=2")
        try file.set("PATH", to: value)
        try file.set("NEW", to: value)
        #expect(file.text.hasPrefix("# keys\nA=1\nPATH="))
        #expect(file.text.contains("\nB=2\nNEW="))
        #expect(file.values == ["A": "1", "B": "2", "PATH": value, "NEW": value])
        #expect(EnvironmentFile(text: file.text) == file)
    }

    @Test("keeps bytes of any encoding in other lines, and takes no value that is no text")
    func bytes() throws {
        let name = Array("A=".utf8) + [0xC3, 0x28]
        var file = EnvironmentFile(bytes: [0x23, 0xE9, 0x0A] + name + Array("\nB=ü\n".utf8))
        #expect(file.values == ["B": "ü"])
        #expect(
            file.problems == [
                "line 2: the value of 'A' is not UTF-8, so systemd does not take the file; write the value anew"
            ]
        )
        try file.set("B", to: "ö")
        #expect(file.bytes == [0x23, 0xE9, 0x0A] + name + Array("\nB=\"ö\"\n".utf8))
        try file.set("A", to: "a")
        #expect(file.bytes == [0x23, 0xE9, 0x0A] + Array("A=a\nB=\"ö\"\n".utf8))
        #expect(file.problems.isEmpty && file.values == ["A": "a", "B": "ö"])
    }

    @Test("refuses what it cannot hold")
    func refusing() throws {
        var file = EnvironmentFile()
        let name = try #require(throws: GatewayError.self) { try file.set("A-B", to: "x") }
        #expect(name.message == "'A-B' is no name of an environment variable")
        #expect(throws: GatewayError.self) { try file.set("A", to: "\0") }
        #expect(file.text.isEmpty)
    }

    @Test("completes what a client gave, and replaces what a service inherits")
    func merging() {
        let file = EnvironmentFile(text: "PATH=/home/u/bin:/usr/bin:rel\nKEY=file\nONLY=file\n")
        let inherited = ["PATH": "/usr/bin:/bin", "KEY": "shell"]
        #expect(
            file.completing(inherited) == [
                "PATH": "/usr/bin:/bin:/home/u/bin", "KEY": "shell", "ONLY": "file",
            ]
        )
        #expect(file.overriding(inherited)["PATH"] == "/home/u/bin:/usr/bin:rel")
        #expect(file.overriding(inherited)["KEY"] == "file")
    }
}
