package import Appliance
import CShims
import Glibc
import Synchronization

/// An HTTP client on libcurl, which is loaded by the first request.
///
/// Every transfer has a thread of its own.
///
/// Proxies come from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` (see `HTTPProxies`); certificate authorities from
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` when they are set.
package struct HTTPClient: Sendable {
    /// What a transfer may take.
    package struct Limits: Sendable {
        /// For looking up the name, TCP and TLS together; each redirect has it anew.
        package var connect = Duration.seconds(15)
        /// How long no byte may come.
        package var stall = Duration.seconds(30)
        /// From the first byte sent to the last one received, redirects included; `nil`: only the other limits count.
        package var total: Duration? = .seconds(60)
        /// Bytes of a body.
        package var size: Int64 = 64 << 20
        /// Bytes of the bodies of all redirects together, which nobody reads.
        package var redirectSize: Int64 = 256 << 10
        /// How many are followed; one more fails with `network`.
        package var redirects = 5
        /// Whether an address of plain http may redirect to plain http on another machine; https never may.
        package var followsToPlainHTTP = false

        /// The defaults suit a small answer: one minute, 64 MiB.
        package init() {}

        /// Limits for a file: no total time, a size in bytes.
        package static func download(size: Int64) -> Limits {
            var limits = Limits()
            limits.total = nil
            limits.size = size
            return limits
        }
    }

    /// An answer; of a download, without the body.
    package struct Answer: Sendable {
        /// The final one, 100 to 599; an answer that is no success is no error here.
        package var status: Int
        /// Of the final answer: those of redirects are gone.
        package var fields: HTTPFields
        /// Where the answer came from in the end, after redirects.
        package var url: String
        /// Empty for a download, whose bytes went to the file.
        package var body: [UInt8]

        /// Bytes that are still to come in this answer, as the server says.
        package var contentLength: Int64? {
            fields["Content-Length"].flatMap(Answer.size)
        }

        /// The offset of the first byte in the whole file: not 0 only for a 206 answer.
        package var offset: Int64 { range?.first ?? 0 }

        /// Bytes of the whole file, as the server says.
        package var fileSize: Int64? {
            status == 206 ? range?.size : contentLength
        }

        /// What proves later that the file is still the same: the strong `ETag`, else `Last-Modified`.
        package var validator: String? {
            if let tag = fields["ETag"], !tag.hasPrefix("W/") { return tag }
            return fields["Last-Modified"]
        }

        /// How long the server wants not to be asked: `Retry-After`, in seconds or as a date of the server's own clock.
        package var retryAfter: Duration? {
            guard let text = fields["Retry-After"]?.trimmed else { return nil }
            if let seconds = Int(text) { return seconds < 0 ? nil : .seconds(min(seconds, 1 << 31)) }
            guard let date = Timestamp(httpDate: text),
                let now = fields["Date"].flatMap(Timestamp.init(httpDate:))
            else { return nil }
            return .milliseconds(max(0, date.milliseconds - now.milliseconds))
        }

        /// A number of bytes as HTTP writes it; `nil` for what no file can have, so that sums of sizes cannot overflow.
        private static func size(_ text: some StringProtocol) -> Int64? {
            guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let size = Int64(text) else {
                return nil
            }
            return size <= 1 << 60 ? size : nil
        }

        /// `Content-Range: bytes 5-9/10` of a 206 answer; the size is `nil` for `*`.
        private var range: (first: Int64, size: Int64?)? {
            guard status == 206, let text = fields["Content-Range"], text.hasPrefix("bytes ") else {
                return nil
            }
            let parts = text.dropFirst(6).split(separator: "/", omittingEmptySubsequences: false)
            guard parts.count == 2, let first = Answer.size(parts[0].prefix { $0 != "-" }) else {
                return nil
            }
            return (first, Answer.size(parts[1]))
        }
    }

    /// The part of a file that is there already, and what proves that the server's file is still the same.
    package struct Resumption: Sendable {
        /// Bytes there.
        package var offset: Int64
        /// The earlier answer's strong `ETag` or its `Last-Modified` (RFC 9110 section 13.1.5); `nil` where the caller
        /// has another proof.
        package var validator: String?

        /// A resumption.
        package init(offset: Int64, validator: String?) {
            self.offset = offset
            self.validator = validator
        }
    }

    private let userAgent: String
    private let authorityFile: String?
    private let authorityDirectory: String?
    private let proxies: HTTPProxies

    /// A client with the certificate authorities that an environment names.
    package init(environment: [String: String], userAgent: String = "\(Product.name)/\(Product.version)") {
        self.userAgent = userAgent
        authorityFile = environment["SSL_CERT_FILE"].flatMap { $0.isEmpty ? nil : $0 }
        authorityDirectory = environment["SSL_CERT_DIR"].flatMap { $0.isEmpty ? nil : $0 }
        proxies = HTTPProxies(environment: environment)
    }

    /// Sends a request and returns the whole answer, whatever its status.
    ///
    /// Redirects of GET and HEAD are followed. Throws `network`, `answer-too-large`, `insecure-url` for a redirect
    /// from https to http, `malformed-url`, `libcurl-missing` or `cancelled`.
    package func send(_ request: HTTPRequest, limits: Limits = Limits()) async throws(GatewayError) -> Answer
    {
        let body = Collected()
        var answer = try await follow(request, limits, began: { _ throws(GatewayError) in }) {
            (bytes) throws(GatewayError) in
            body.bytes.withLock { $0.append(contentsOf: bytes) }
        }
        answer.body = body.bytes.withLock { $0 }
        return answer
    }

    /// Fetches a file, or the rest of one, and hands over its bytes as they come, on the transfer's thread.
    ///
    /// `began` is called once before the first byte, with whatever the server answered: its status may be none of
    /// success, and its `offset` says whether a resumption was granted. Throws what `send` throws, and whatever `began`
    /// and `sink` throw, which ends the transfer.
    @discardableResult
    package func download(
        _ url: String,
        fields: HTTPFields = [:],
        resuming: Resumption? = nil,
        limits: Limits,
        began: @escaping @Sendable (Answer) throws(GatewayError) -> Void = { _ throws(GatewayError) in },
        sink: @escaping @Sendable (UnsafeRawBufferPointer) throws(GatewayError) -> Void
    ) async throws(GatewayError) -> Answer {
        var fields = fields
        if let resuming {
            fields["Range"] = "bytes=\(resuming.offset)-"
            if let validator = resuming.validator { fields["If-Range"] = validator }
        }
        return try await follow(HTTPRequest("GET", url, fields: fields), limits, began: began, sink: sink)
    }

    /// The error for a status that the caller cannot use.
    package static func unexpectedStatus(_ answer: Answer) -> GatewayError {
        let help: String? =
            switch answer.status {
            case 401, 403: "the address needs a permission that this program does not have; check the address"
            case 404, 410: "check the address"
            case 407: "the proxy wants a user name and password in HTTPS_PROXY"
            case 429, 500...599: "the server has a problem; try again later"
            default: nil
            }
        return GatewayError(
            "http-status",
            "'\(Redaction.url(answer.url))' answered with status \(answer.status)",
            help: help
        )
    }

    private final class Collected: Sendable {
        // A leaf: the transfer's thread fills it, the caller empties it after.
        let bytes = Mutex<[UInt8]>([])
    }

    // MARK: redirects

    private func follow(
        _ request: HTTPRequest,
        _ limits: Limits,
        began: @escaping @Sendable (Answer) throws(GatewayError) -> Void,
        sink: @escaping HTTPTransfer.Sink
    ) async throws(GatewayError) -> Answer {
        var request = request, hop = limits
        let mayFollow = request.method == "GET" || request.method == "HEAD"
        let start = WallClock.system.uptime()
        var skipped: Int64 = 0
        for _ in 0...limits.redirects {
            if let total = limits.total {
                // What earlier answers took is gone for the later ones.
                let left = total - .milliseconds(WallClock.system.milliseconds(since: start))
                guard left > .zero else { throw HTTPClient.timeUp(request.target, total) }
                hop.total = left
            }
            hop.redirectSize = limits.redirectSize - skipped
            let transfer = HTTPTransfer(
                request: request,
                limits: hop,
                userAgent: userAgent,
                authorityFile: authorityFile,
                authorityDirectory: authorityDirectory,
                proxies: proxies,
                followsRedirects: mayFollow,
                began: began,
                sink: sink
            )
            let (answer, redirect, size) = try await transfer.perform()
            skipped += size
            guard mayFollow, let redirect else {
                guard !mayFollow || ![301, 302, 303, 307, 308].contains(answer.status) else {
                    throw HTTPClient.leadsNowhere(request.target)
                }
                return answer
            }
            let from = try WebAddress(request.target)
            // The address is the server's: that it is wrong is no mistake of the user's.
            guard let to = try? WebAddress(redirect) else { throw HTTPClient.leadsNowhere(request.target) }
            guard from.scheme != "https" || to.scheme == "https" else {
                throw GatewayError(
                    "insecure-url",
                    "'\(Redaction.url(request.target))' redirects from https to '\(Redaction.url(redirect))'",
                    help: "use an address that stays on https"
                )
            }
            guard to.scheme == "https" || to.isLoopback || limits.followsToPlainHTTP else {
                throw GatewayError(
                    "insecure-url",
                    "'\(Redaction.url(request.target))' redirects to '\(Redaction.url(redirect))', which is plain http to another machine",
                    help: "use an https address, or pin the file's digest"
                )
            }
            if from.origin != to.origin {
                // What was meant for one server is not told to another.
                request.fields["Authorization"] = nil
                request.fields["Cookie"] = nil
            }
            request.target = redirect
        }
        throw GatewayError(
            "network",
            "'\(Redaction.url(request.target))' is more than \(limits.redirects) redirects away from where it began"
        )
    }

    private static func leadsNowhere(_ url: String) -> GatewayError {
        GatewayError(
            "network",
            "'\(Redaction.url(url))' redirects to no address that can be understood",
            help: "ask whoever runs that server, or use another source"
        )
    }

    private static func timeUp(_ url: String, _ total: Duration) -> GatewayError {
        GatewayError(
            "network",
            "the redirects to '\(Redaction.url(url))' took longer than \(total.components.seconds) s",
            help: "try again; or use an address nearer to the file"
        )
    }
}
