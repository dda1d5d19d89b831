import Appliance
import Testing

@Suite("URLs")
struct WebAddressTests {
    @Test("are taken apart")
    func parts() throws {
        let url = try WebAddress("HTTPS://me:secret@Example.org:8443/a/b.tar.gz?x=1&y#top")
        #expect(url.scheme == "https")
        #expect(url.userInfo == "me:secret")
        #expect(url.host == "example.org")
        #expect(url.port == 8443)
        #expect(url.path == "/a/b.tar.gz")
        #expect(url.query == "x=1&y")
        #expect(url.origin == "https://example.org:8443")
        #expect(try WebAddress("http://[::1]:80/x").host == "::1")
        #expect(try WebAddress("http://[::1]:80/x").origin == "http://[::1]:80")
        #expect(try WebAddress("file:///tmp/a b".replacing(" ", with: "%20")).path == "/tmp/a%20b")
    }

    @Test("know this machine by its form")
    func loopback() throws {
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"] {
            #expect(try WebAddress("http://\(host)/").isLoopback)
        }
        for host in [
            "127.0.0.1.example.org", "example.org", "10.0.0.1", "localhost.example.org", "128.0.0.1",
        ] {
            #expect(try !WebAddress("http://\(host)/").isLoopback)
        }
    }

    @Test(
        "that are none are refused with the reason, and never with their password",
        arguments: [
            (
                "example.org/x",
                "'example.org/x' is not a URL: it does not start with a scheme such as https://"
            ),
            ("https://", "'https://' is not a URL: the host is missing"),
            ("https://u:p@/x?token=1", "'https://<redacted>@/x' is not a URL: the host is missing"),
            (
                "http://h:99999/",
                "'http://h:99999/' is not a URL: after the ':' of the host there is no port from 1 to 65535"
            ),
            (
                "https://me:pa/ssw0rd@host/f",
                "'https://<redacted>@host/f' is not a URL: after the ':' of the host there is no port from 1 to 65535"
            ),
            (
                "https://me:pa#ss?w0rd@host/f?x=1",
                "'https://<redacted>@host/f' is not a URL: after the ':' of the host there is no port from 1 to 65535"
            ),
            ("http://::1/", "'http://::1/' is not a URL: an IPv6 address needs brackets"),
            ("ht tp://x/", "'ht tp://x/' is not a URL: 'ht tp' is not a scheme"),
            ("http://a b/", "'http://a b/' is not a URL: it contains a space or a control character"),
        ]
    )
    func refused(text: String, message: String) {
        let error = #expect(throws: GatewayError.self) { try WebAddress(text) }
        #expect(error?.message == message)
        #expect(error?.exitCode == .usage)
    }
}
