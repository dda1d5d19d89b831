import Testing

@testable import Appliance

@Suite("Taking secrets out of text")
struct RedactionTests {
    @Test(
        "leaves a clean URL as it is",
        arguments: [
            "https://host/path?x=1&y=%2F#part", "http://[::1]:3333/mcp", "not a url", "",
            "https://host/token/secret?page=2", "https://host/?token=", "a?b?c=d",
        ]
    )
    func cleanURL(url: String) {
        // An empty value is no secret, but its place is marked all the same.
        #expect(Redaction.url(url) == (url.hasSuffix("token=") ? url + Redaction.mark : url))
    }

    @Test(
        "hides user information and secret pairs",
        arguments: [
            ("https://me:pass@host/x", "https://<redacted>@host/x"),
            ("https://me@host", "https://<redacted>@host"),
            ("https://a@b@host/@", "https://<redacted>@host/@"),
            ("https://h/?a=1&Access_Token=t=u&b=2", "https://h/?a=1&Access_Token=<redacted>&b=2"),
            ("https://h/#id_token=abc&state=1", "https://h/#id_token=<redacted>&state=1"),
            ("https://h/?X-Amz-Signature=ff;c=1#t", "https://h/?X-Amz-Signature=<redacted>;c=1#t"),
            ("https://h/?api%5Fkey=abc", "https://h/?api%5Fkey=<redacted>"),
            ("https://me:pa/ss#w?rd@host/f", "https://<redacted>@host/f"),
            ("https://me@corp:pa/ss@host:8/f@g", "https://<redacted>@g"),
            ("https://host:8080/f@g", "https://host:8080/f@g"),
            ("https://[::1]:x/f@g", "https://[::1]:x/f@g"),
            ("https://b/a.gz?sv=1&sig=abc%2F&key=k", "https://b/a.gz?sv=1&sig=<redacted>&key=<redacted>"),
            ("https://b/?design=1&monkey=2", "https://b/?design=1&monkey=2"),
        ]
    )
    func secretURL(url: String, shown: String) { #expect(Redaction.url(url) == shown) }

    @Test(
        "knows the shapes of secrets",
        arguments: [
            ("key sk-ant-api03-abc_def-1 end", "key <redacted> end"),
            ("sk-proj-0123456789abcdef", "<redacted>"),
            ("xai-0123456789abcdef.", "<redacted>."),
            ("(AIza0123456789012345678901234567890123_)", "(<redacted>)"),
            ("AKIA0123456789ABCDEF", "<redacted>"),
            ("ghp_012345678901234567890123456789012345", "<redacted>"),
            ("xoxb-12-ab", "<redacted>"),
            ("eyJhbGci.eyJzdWIi.c2ln", "<redacted>"),
            ("Authorization: Bearer abcdefghijkl0", "Authorization: Bearer <redacted>"),
            ("postgres://me:pw@db/x", "postgres://<redacted>@db/x"),
            ("PASSWORD=hunter22 next", "PASSWORD=<redacted> next"),
            ("{\"api_key\": \"abcdef123\"}", "{\"api_key\": \"<redacted>\"}"),
            ("MY_CLIENT-SECRET = 'abcdefg'", "MY_CLIENT-SECRET = '<redacted>'"),
            ("password=\"two words, more\" next", "password=\"<redacted>\" next"),
            ("password: \"never closed\nnext line", "password: \"<redacted>\nnext line"),
            ("a\n-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nb", "a\n<redacted>\nb"),
            ("-----BEGIN PRIVATE KEY-----\nMII", "<redacted>"),
            ("both sk-0123456789abcdef0 and sk-0123456789abcdef1", "both <redacted> and <redacted>"),
        ]
    )
    func shapes(text: String, shown: String) { #expect(Redaction.secrets(in: text) == shown) }

    @Test(
        "leaves ordinary text alone",
        arguments: [
            "risk-averse sk-short task-0123456789abcdef0", "Bearer of news", "password: yes",
            "eyJ is not a token",
            "http://host:80/path@x", "-----BEGIN CERTIFICATE-----", "pwd=short", "über ✓ =", "a.b.c",
            "12:30:00",
        ]
    )
    func ordinary(text: String) { #expect(Redaction.secrets(in: text) == text) }

    @Test(
        "takes linear time on hostile text",
        arguments: [
            "eyJ-", "eyJ.", "sk-", "://", "-----BEGIN PRIVATE KEY", "password=", "=", "Bearer ", "://a:", "-",
        ]
    )
    func hostile(piece: String) {
        func best(_ count: Int) -> Duration {
            let text = String(repeating: piece, count: count / piece.utf8.count)
            let clock = ContinuousClock()
            return (0..<3).map { _ in clock.measure { _ = Redaction.secrets(in: text) } }.min() ?? .zero
        }
        // Eight times the text; quadratic would be 64 times the time.
        #expect(best(100_000) < best(12_500) * 30 + .milliseconds(50))
    }
}

@Suite("Looking for secrets")
struct RedactionEffortTests {
    /// What begins like a secret again and again, and is none or ends late.
    private static let hostile = [
        "-----BEGIN ", "-----BEGIN PRIVATE KEY----- ", "://", "://a:b", "://a:b@", "a:", "password=",
        "password=\"",
        "password: ", "api_key='", "pwd=12345 ", "sk-", "sk-ant-", "sk-aaaaaaaaaaaaaaa ", "xox", "xoxb-",
        "xai-",
        "AIza", "AKIA", "ghp_", "eyJ", "eyJ.", "eyJa.eyJ", "eyJa.a", " eyJa.b ", "bearer ", "Bearer         ",
        "bearer a", "Bearer aaaaaaaaaaa ", "=", ":", "-", "\"\\=", "'", "a_-", "x", "::::", "= = ", "\n", "é",
    ]

    @Test("looks at each byte a bounded number of times, whatever the text is made of", arguments: hostile)
    func isLinear(_ piece: String) {
        for (head, tail) in [("", ""), ("eyJ", ""), ("password=\"", "\""), ("://a:", "@"), ("Bearer ", ".")] {
            for other in ["", "a", " ", "=", "\"", "eyJ"] {
                let unit = piece + other
                func looks(_ bytes: Int) -> Double {
                    let text =
                        head + String(repeating: unit, count: max(1, bytes / unit.utf8.count)) + tail
                    return Double(Redaction.counting(secretsIn: text).looks) / Double(text.utf8.count)
                }
                let few = looks(4096), many = looks(65_536)
                #expect(many <= 160, "\(many) looks at each byte of repeated '\(unit)' after '\(head)'")
                #expect(many <= few * 1.25 + 1, "\(few), then \(many) looks at each byte of '\(unit)'")
            }
        }
    }
}
