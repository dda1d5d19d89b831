package import Appliance
import CShims
import Glibc
import Synchronization

/// An HTTP client on libcurl, which is loaded by the first request.
///
/// Every transfer has a thread of its own.
///
/// Proxies come from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, which libcurl reads; certificate authorities from
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` when they are set.
package struct HTTPClient: Sendable {
    /// What a transfer may take.
    package struct Limits: Sendable {
        /// For looking up the name, TCP and TLS together; each redirect has it anew.
        package var connect = Duration.seconds(15)
        /// How long no byte may come.
        package var stall = Duration.seconds(30)
        /// From the first byte sent to the last one received; `nil`: only the other limits count.
        package var total: Duration? = .seconds(60)
        /// Bytes of a body.
        package var size: Int64 = 64 << 20
        /// How many are followed; one more fails with `network`.
        package var redirects = 5

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
        package var contentLength: Int64? { fields["Content-Length"].flatMap { Int64($0) } }

        /// The offset of the first byte in the whole file: not 0 only for a 206 answer.
        package var offset: Int64 {
            guard status == 206, let range = fields["Content-Range"], range.hasPrefix("bytes ") else {
                return 0
            }
            return Int64(range.dropFirst(6).prefix { $0 != "-" }) ?? 0
        }
    }

    /// The part of a file that is there already, and what proves that the server's file is still the same.
    package struct Resumption: Sendable {
        /// Bytes there.
        package var offset: Int64
        /// The earlier answer's strong `ETag` or its `Last-Modified` (RFC 9110 section 13.1.5).
        package var validator: String

        /// A resumption.
        package init(offset: Int64, validator: String) {
            self.offset = offset
            self.validator = validator
        }
    }

    private let userAgent: String
    private let authorityFile: String?
    private let authorityDirectory: String?

    /// A client with the certificate authorities that an environment names.
    package init(environment: [String: String], userAgent: String = "\(Product.name)/\(Product.version)") {
        self.userAgent = userAgent
        authorityFile = environment["SSL_CERT_FILE"].flatMap { $0.isEmpty ? nil : $0 }
        authorityDirectory = environment["SSL_CERT_DIR"].flatMap { $0.isEmpty ? nil : $0 }
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

    /// Fetches a file and hands over its bytes as they come, on the transfer's thread.
    ///
    /// `began` is called once before the first byte: its answer's `offset` says whether a resumption was granted; when
    /// it is 0, bytes that are there already must be dropped. `progress` gets the bytes of the whole file that are
    /// there and, when the server said so, that there will be. Throws what `send` throws, `http-status` for any status
    /// but 200 and 206, and whatever `began` and `sink` throw, which ends the transfer.
    @discardableResult
    package func download(
        _ url: String,
        fields: HTTPFields = [:],
        resuming: Resumption? = nil,
        limits: Limits,
        began: @escaping @Sendable (Answer) throws(GatewayError) -> Void = { _ throws(GatewayError) in },
        progress: @escaping @Sendable (Int64, Int64?) -> Void = { _, _ in },
        sink: @escaping @Sendable (UnsafeRawBufferPointer) throws(GatewayError) -> Void
    ) async throws(GatewayError) -> Answer {
        var fields = fields
        if let resuming {
            fields["Range"] = "bytes=\(resuming.offset)-"
            fields["If-Range"] = resuming.validator
        }
        let position = Mutex<(received: Int64, total: Int64?, isRefused: Bool)>((0, nil, false))
        let start: @Sendable (Answer) throws(GatewayError) -> Void = { (answer) throws(GatewayError) in
            // The part that is there is already the whole file, or longer: it is fetched again from its start below.
            if answer.status == 416, resuming != nil { return position.withLock { $0.isRefused = true } }
            let isPart = answer.status == 206 && answer.offset == resuming?.offset
            guard answer.status == 200 || isPart else { throw HTTPClient.unexpectedStatus(answer) }
            position.withLock { $0 = (answer.offset, answer.contentLength.map { $0 + answer.offset }, false) }
            try began(answer)
        }
        let answer = try await follow(HTTPRequest("GET", url, fields: fields), limits, began: start) {
            (bytes) throws(GatewayError) in
            let now = position.withLock { position in
                position.received += Int64(bytes.count)
                return position
            }
            if now.isRefused { return }
            try sink(bytes)
            progress(now.received, now.total)
        }
        guard answer.status == 416, resuming != nil else { return answer }
        fields["Range"] = nil
        fields["If-Range"] = nil
        return try await download(
            url,
            fields: fields,
            limits: limits,
            began: began,
            progress: progress,
            sink: sink
        )
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
        var request = request
        let mayFollow = request.method == "GET" || request.method == "HEAD"
        for _ in 0...limits.redirects {
            let transfer = HTTPTransfer(
                request: request,
                limits: limits,
                userAgent: userAgent,
                authorityFile: authorityFile,
                authorityDirectory: authorityDirectory,
                followsRedirects: mayFollow,
                began: began,
                sink: sink
            )
            let (answer, redirect) = try await transfer.perform()
            guard mayFollow, let redirect else { return answer }
            let from = try WebAddress(request.target), to = try WebAddress(redirect)
            guard from.scheme != "https" || to.scheme == "https" else {
                throw GatewayError(
                    "insecure-url",
                    "'\(Redaction.url(request.target))' redirects from https to '\(Redaction.url(redirect))'",
                    help: "use an address that stays on https"
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
}
