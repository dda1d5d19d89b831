import Appliance
import Testing

@Suite("Instants")
struct TimestampTests {
    @Test(
        "are written and read in the contract's form",
        arguments: [
            (Int64(0), "1970-01-01T00:00:00.000Z"), (1_795_252_528_123, "2026-11-21T09:15:28.123Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"), (-1, "1969-12-31T23:59:59.999Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ]
    )
    func roundTrip(milliseconds: Int64, text: String) {
        #expect(Timestamp(milliseconds: milliseconds).iso8601 == text)
        #expect(Timestamp(iso8601: text)?.milliseconds == milliseconds)
    }

    @Test("with offsets and without fractions are read")
    func offsets() {
        #expect(Timestamp(iso8601: "2026-11-21T10:15:28+01:00") == Timestamp(iso8601: "2026-11-21T09:15:28Z"))
        #expect(Timestamp(iso8601: "2026-11-21T09:15:28.5Z")?.iso8601 == "2026-11-21T09:15:28.500Z")
    }

    @Test(
        "that are none are refused",
        arguments: [
            "", "now", "2026-13-01T00:00:00Z", "2026-11-21", "2026-11-21T09:15:28", "2026-11-21T09:15:28.Z",
            "2026-11-21T09:15:28Zx",
        ]
    )
    func refused(text: String) {
        #expect(Timestamp(iso8601: text) == nil)
    }
}

@Suite("Versions")
struct SemanticVersionTests {
    @Test("are ordered with their prereleases, as semver.org section 11 orders them")
    func order() throws {
        let texts = [
            "0.9.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0",
        ]
        let versions = try texts.map { try #require(SemanticVersion($0)) }
        #expect(versions.shuffled().sorted().map(\.description) == texts)
    }

    @Test(
        "that are none are refused",
        arguments: [
            "", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.x", "1.2.3-", "1.2.3-a..b", "1.2.3-ä", "1.2.3+",
            "1.2.3+/../x",
        ]
    )
    func refused(text: String) {
        #expect(SemanticVersion(text) == nil)
    }

    @Test("may start with v and carry build data")
    func decorated() {
        #expect(SemanticVersion("v1.2.3+build.5")?.numbers == [1, 2, 3])
    }
}

@Suite("Where files live")
struct LayoutTests {
    @Test(
        "joins a folder and a name with one slash, however the folder ends",
        arguments: [
            ("/a", "/a/b"), ("/a/", "/a/b"), ("/a//", "/a/b"), ("/", "/b"), ("//", "/b"), ("a", "a/b"),
            ("", "/b"),
        ]
    )
    func join(_ folder: String, _ path: String) {
        #expect(Layout.join(folder, "b") == path)
    }

    @Test("everything is below one directory, which LLM_GATEWAY_HOME moves")
    func moves() throws {
        let standard = try Layout(environment: ["HOME": "/home/u"])
        #expect(standard.home == "/home/u/.llm-cli-gateway")
        #expect(standard.configuration == "/home/u/.llm-cli-gateway/config.toml")
        #expect(standard.unitName == "llm-cli-gateway")
        let moved = try Layout(environment: [
            "HOME": "/home/u", "LLM_GATEWAY_HOME": "/srv/gw/", "LLM_GATEWAY_CONFIG": "/etc/gw.toml",
        ])
        #expect(moved.authToken == "/srv/gw/auth-token")
        #expect(moved.configuration == "/etc/gw.toml")
        #expect(moved.commandLink == "/home/u/.local/bin/llm-cli-gateway")
        #expect(moved.unitName != standard.unitName)
        #expect(moved.unitName.hasPrefix("llm-cli-gateway-"))
    }

    @Test("the default home named outright is still the default one")
    func namedDefault() throws {
        #expect(
            try Layout(environment: ["HOME": "/home/u", "LLM_GATEWAY_HOME": "/home/u/.llm-cli-gateway"])
                .isDefaultHome
        )
    }

    @Test(
        "one home is one home however its path is written",
        arguments: [
            ("/home/u/", "/home/u/.llm-cli-gateway"), ("/home/u", "/home/u//.llm-cli-gateway/"),
            ("/home//u", "/home/u/.llm-cli-gateway"), ("/home/u", "/home/./u/.llm-cli-gateway/."),
        ]
    )
    func spellings(user: String, home: String) throws {
        let layout = try Layout(environment: ["HOME": user, "LLM_GATEWAY_HOME": home])
        #expect(layout.isDefaultHome)
        #expect(layout.home == "/home/u/.llm-cli-gateway")
        #expect(layout.unitName == "llm-cli-gateway")
        #expect(layout.commandLink == "/home/u/.local/bin/llm-cli-gateway")
    }

    @Test("a home written with '..' is refused: where that leads depends on links")
    func dots() {
        let error = #expect(throws: GatewayError.self) {
            _ = try Layout(environment: ["HOME": "/home/u", "LLM_GATEWAY_HOME": "/x/q/../r"])
        }
        #expect(error?.message == "the gateway's home '/x/q/../r' is written with '..'")
        #expect(error?.help == "write its path without '..' in LLM_GATEWAY_HOME")
    }

    @Test("without a home, or with a relative one, nothing is guessed")
    func refused() {
        #expect(throws: GatewayError.self) { try Layout(environment: [:]) }
        #expect {
            try Layout(environment: ["HOME": "/home/u", "LLM_GATEWAY_HOME": "here"])
        } throws: { error in
            "\(error)" == "LLM_GATEWAY_HOME is 'here', which is not an absolute path"
        }
        #expect {
            try Layout(environment: ["HOME": "here", "LLM_GATEWAY_HOME": "/gateway"])
        } throws: { error in
            "\(error)" == "HOME is 'here', which is not an absolute path"
        }
        #expect {
            try Layout(environment: ["HOME": "/home/u", "LLM_GATEWAY_CONFIG": "my.toml"])
        } throws: { error in
            "\(error)" == "LLM_GATEWAY_CONFIG is 'my.toml', which is not an absolute path"
        }
        #expect {
            try Layout(environment: ["HOME": "/home/u", "LLM_GATEWAY_HOME": "//"])
        } throws: { error in
            "\(error)" == "LLM_GATEWAY_HOME is '/', which is the whole machine"
        }
    }
}

@Suite("Encodings and suggestions")
struct EncodingTests {
    @Test(
        "base 64 of RFC 4648",
        arguments: [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
    )
    func base64(plain: String, encoded: String) {
        #expect(Base64.encode(Array(plain.utf8)) == encoded)
        #expect(Base64.decode(encoded) == Array(plain.utf8))
    }

    @Test(
        "base 64 that is not canonical is refused",
        arguments: ["Zg", "Zg=", "Zh==", "Zm9v=", "Zm 9", "====", "Zg==Zg=="]
    )
    func notBase64(text: String) {
        #expect(Base64.decode(text) == nil)
    }

    @Test("base 16 in either case")
    func hex() {
        #expect(Hex.decode("00fFa1") == [0, 255, 161])
        #expect(Hex.encode([0, 255, 161]) == "00ffa1")
        #expect(Hex.decode("0") == nil)
        #expect(Hex.decode("0g") == nil)
    }

    @Test("a mistyped word finds the one that was meant")
    func nearest() {
        let verbs = ["install-bundle", "start", "status", "stop", "restart"]
        #expect(Suggestion.nearest(to: "strat", among: verbs) == "start")
        #expect(Suggestion.nearest(to: "instal-bundle", among: verbs) == "install-bundle")
        #expect(Suggestion.nearest(to: "frobnicate", among: verbs) == nil)
        #expect(Suggestion.nearest(to: "--jsn", among: ["--json", "--quiet"]) == "--json")
        #expect(Suggestion.nearest(to: "--prot", among: ["--json", "--quiet"]) == nil)
        #expect(Suggestion.distance("", "abc") == 3)
    }

    @Test("an error decides its exit status and has a JSON form")
    func errors() {
        let error = GatewayError(
            "digest-mismatch",
            "a differs",
            help: "get it again",
            cause: GatewayError("x", "below")
        )
        #expect(error.exitCode == .verificationRefused)
        #expect(error.description == "a differs: below")
        #expect(
            error.json.compactText
                == #"{"error":{"code":"digest-mismatch","message":"a differs","help":"get it again","cause":"below"}}"#
        )
        #expect(GatewayError("anything-else", "x").exitCode == .failed)
    }
}
