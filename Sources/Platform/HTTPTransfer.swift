import Appliance
import CShims
import Glibc
import Synchronization

/// One request and its answer through libcurl, on a thread of its own.
final class HTTPTransfer: Sendable {
    typealias Sink = @Sendable (UnsafeRawBufferPointer) throws(GatewayError) -> Void

    private struct Control: @unchecked Sendable {
        // Unchecked for the pointer: another thread uses it only under the lock, and it is gone before it is freed.
        var multi: UnsafeMutableRawPointer?
        var isCancelled = false
    }

    private let request: HTTPRequest
    private let limits: HTTPClient.Limits
    private let userAgent: String
    private let authorityFile: String?
    private let authorityDirectory: String?
    private let proxies: HTTPProxies
    private let followsRedirects: Bool
    private let began: @Sendable (HTTPClient.Answer) throws(GatewayError) -> Void
    private let sink: Sink
    private let control = Mutex(Control())

    init(
        request: HTTPRequest,
        limits: HTTPClient.Limits,
        userAgent: String,
        authorityFile: String?,
        authorityDirectory: String?,
        proxies: HTTPProxies,
        followsRedirects: Bool,
        began: @escaping @Sendable (HTTPClient.Answer) throws(GatewayError) -> Void,
        sink: @escaping Sink
    ) {
        self.request = request
        self.limits = limits
        self.userAgent = userAgent
        self.authorityFile = authorityFile
        self.authorityDirectory = authorityDirectory
        self.proxies = proxies
        self.followsRedirects = followsRedirects
        self.began = began
        self.sink = sink
    }

    /// The most that all header lines of an answer, those before it and those of a proxy may have, in bytes.
    private static let headerSize = 256 << 10

    /// The answer, where it redirects to, and how many bytes of a redirect's own body came.
    func perform() async throws(GatewayError) -> (
        answer: HTTPClient.Answer, redirect: String?, skipped: Int64
    ) {
        try HTTPTransfer.load()
        let result = await withTaskCancellationHandler {
            do throws(GatewayError) {
                return Result<Outcome, GatewayError>.success(
                    try await BlockingThread.run("http-client") { () throws(GatewayError) in try self.run() }
                )
            } catch {
                return .failure(error)
            }
        } onCancel: {
            control.withLock { control in
                control.isCancelled = true
                if let multi = control.multi { shim_curl_wake(multi) }
            }
        }
        let outcome = try result.get()
        return (outcome.answer, outcome.redirect, outcome.skipped)
    }

    private struct Outcome: Sendable {
        var answer: HTTPClient.Answer
        var redirect: String?
        var skipped: Int64
    }

    private static let loading = Mutex(())

    private static func load() throws(GatewayError) {
        guard let reason = loading.withLock({ _ in shim_curl_load().map { String(cString: $0) } }) else {
            return
        }
        throw GatewayError(
            "libcurl-missing",
            "a download needs libcurl.so.4, which could not be loaded: \(reason)",
            help: "install the package libcurl4 (on Debian and Ubuntu: apt install libcurl4)"
        )
    }

    // MARK: on the transfer's thread

    /// What the library's callbacks work on.
    private final class Receiver {
        let transfer: HTTPTransfer
        var answer: HTTPClient.Answer
        var received: Int64 = 0
        /// Bytes of a redirect's own body.
        var skipped: Int64 = 0
        private var headerBytes = 0
        var hasBegun = false
        var failure: GatewayError?

        init(_ transfer: HTTPTransfer) {
            self.transfer = transfer
            answer = HTTPClient.Answer(status: 0, fields: [:], url: transfer.request.target, body: [])
        }

        var isRedirect: Bool {
            transfer.followsRedirects && [301, 302, 303, 307, 308].contains(answer.status)
                && answer.fields["Location"] != nil
        }

        /// Whether the transfer goes on.
        func header(_ line: UnsafeRawBufferPointer) -> Bool {
            headerBytes += line.count
            guard headerBytes <= HTTPTransfer.headerSize else {
                failure = transfer.tooLarge("the head", Int64(HTTPTransfer.headerSize))
                return false
            }
            let text = String(decoding: line.prefix { $0 != 13 && $0 != 10 }, as: UTF8.self)
            if text.hasPrefix("HTTP/") {
                // A proxy's or an interim answer may have come before.
                answer.status = text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
                answer.fields = HTTPFields()
            } else if let colon = text.firstIndex(of: ":") {
                let value = text[text.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
                answer.fields.add(String(text[..<colon]), String(value))
            }
            return true
        }

        /// Whether the transfer goes on.
        func body(_ bytes: UnsafeRawBufferPointer) -> Bool {
            do throws(GatewayError) {
                if isRedirect {
                    skipped += Int64(bytes.count)
                    let limit = transfer.limits.redirectSize
                    guard skipped <= limit else { throw transfer.tooLarge("the redirect", limit) }
                    return true
                }
                try begin()
                received += Int64(bytes.count)
                guard received <= transfer.limits.size else { throw transfer.tooLarge() }
                try transfer.sink(bytes)
                return true
            } catch {
                failure = error
                return false
            }
        }

        func begin() throws(GatewayError) {
            guard !hasBegun, !isRedirect else { return }
            hasBegun = true
            // The caller first: it may know more about the size than that there is a limit.
            try transfer.began(answer)
            if let length = answer.contentLength, length > transfer.limits.size,
                transfer.request.method != "HEAD"
            {
                throw transfer.tooLarge()
            }
        }
    }

    private func tooLarge(_ what: String = "the answer", _ limit: Int64? = nil) -> GatewayError {
        GatewayError(
            "answer-too-large",
            "\(what) of '\(Redaction.url(request.target))' is larger than the limit of \(limit ?? limits.size) bytes"
        )
    }

    private func run() throws(GatewayError) -> Outcome {
        let address = try WebAddress(request.target)
        guard address.scheme == "http" || address.scheme == "https" else { throw malformed }
        let receiver = Receiver(self)
        let words = UnsafeMutablePointer<CChar>.allocate(capacity: Int(SHIM_CURL_ERROR_SIZE))
        words.initialize(repeating: 0, count: Int(SHIM_CURL_ERROR_SIZE))
        var transfer = shim_curl_transfer()
        defer {
            control.withLock { $0.multi = nil }
            shim_curl_end(&transfer)
            words.deallocate()
        }
        return try withExtendedLifetime((receiver, request)) { () throws(GatewayError) in
            let body = UnsafeMutableRawBufferPointer.allocate(
                byteCount: max(1, request.body.count),
                alignment: 1
            )
            defer { body.deallocate() }
            body.copyBytes(from: request.body)
            let prepared = prepare(&transfer, address, receiver, UnsafeRawBufferPointer(body), words)
            guard prepared == 0 else { throw failure(prepared, 0, "", address, receiver) }
            control.withLock { $0.multi = transfer.multi }
            while true {
                if control.withLock({ $0.isCancelled }) {
                    throw GatewayError(
                        "cancelled",
                        "the transfer from '\(Redaction.url(request.target))' was cancelled"
                    )
                }
                let state = shim_curl_step(&transfer)
                guard state.is_done else {
                    shim_curl_wait(&transfer)
                    continue
                }
                if let failure = receiver.failure { throw failure }
                guard state.result == 0 else {
                    throw failure(
                        state.result,
                        Int32(state.os_error),
                        String(cString: words),
                        address,
                        receiver
                    )
                }
                try receiver.begin()
                return Outcome(
                    answer: receiver.answer,
                    redirect: receiver.isRedirect ? state.redirect.map { String(cString: $0) } : nil,
                    skipped: receiver.skipped
                )
            }
        }
    }

    private func prepare(
        _ transfer: inout shim_curl_transfer,
        _ address: WebAddress,
        _ receiver: Receiver,
        _ body: UnsafeRawBufferPointer,
        _ words: UnsafeMutablePointer<CChar>
    ) -> Int32 {
        let lines = request.fields.all.map { "\($0.name): \($0.value)" }
        // A field that holds a line break would smuggle another one.
        guard lines.allSatisfy({ !$0.utf8.contains(10) && !$0.utf8.contains(13) }) else {
            return Int32(shim_curl_send_failed.rawValue)
        }
        let texts = CopiedTexts()
        var settings = shim_curl_request(
            url: texts.copy(request.target),
            method: texts.copy(request.method),
            body: request.body.isEmpty && request.method != "POST" ? nil : body.baseAddress,
            body_size: request.body.count,
            lines: nil,
            line_count: lines.count,
            user_agent: texts.copy(userAgent),
            ca_file: authorityFile.map { texts.copy($0) },
            ca_directory: authorityDirectory.map { texts.copy($0) },
            proxy: texts.copy(proxies.proxy(for: address)),
            no_proxy: texts.copy(proxies.exceptions),
            connect_milliseconds: max(1, limits.connect.wholeMilliseconds),
            total_milliseconds: limits.total.map { max(1, $0.wholeMilliseconds) } ?? 0,
            stall_seconds: max(1, Int(limits.stall.components.seconds)),
            error_text: words,
            context: Unmanaged.passUnretained(receiver).toOpaque(),
            header: { bytes, one, count, context in
                let goesOn = Unmanaged<Receiver>.fromOpaque(context).takeUnretainedValue()
                    .header(UnsafeRawBufferPointer(start: bytes, count: one * count))
                return goesOn ? one * count : 0
            },
            write: { bytes, one, count, context in
                let goesOn = Unmanaged<Receiver>.fromOpaque(context).takeUnretainedValue()
                    .body(UnsafeRawBufferPointer(start: bytes, count: one * count))
                return goesOn ? one * count : 0
            }
        )
        return withExtendedLifetime(texts) {
            lines.map { texts.copy($0) }.withUnsafeBufferPointer { pointers in
                settings.lines = pointers.baseAddress
                return shim_curl_begin(&transfer, &settings)
            }
        }
    }

    /// C copies of texts, freed together.
    private final class CopiedTexts {
        private var copies: [UnsafeMutablePointer<CChar>] = []

        deinit { for copy in copies { copy.deallocate() } }

        func copy(_ text: String) -> UnsafePointer<CChar> {
            let characters = text.utf8CString
            let copy = UnsafeMutablePointer<CChar>.allocate(capacity: characters.count)
            for (index, character) in characters.enumerated() { (copy + index).initialize(to: character) }
            copies.append(copy)
            return UnsafePointer(copy)
        }
    }

    // MARK: wording

    private var malformed: GatewayError {
        GatewayError(
            "malformed-url",
            "'\(Redaction.url(request.target))' is not an http or https address",
            help: "write it as https://host/path"
        )
    }

    private func failure(
        _ result: Int32,
        _ systemError: Int32,
        _ words: String,
        _ address: WebAddress,
        _ receiver: Receiver
    ) -> GatewayError {
        let port = address.port ?? (address.scheme == "https" ? 443 : 80)
        let place = "'\(HTTPListener.name(address.host, port))'"
        let detail = words.isEmpty ? String(cString: shim_curl_words(result)) : words
        func network(_ message: String, help: String? = nil) -> GatewayError {
            GatewayError("network", message, help: help)
        }
        // What does not get better by trying again.
        func untrusted(_ message: String, help: String) -> GatewayError {
            GatewayError("certificate-refused", message, help: help)
        }
        switch shim_curl_result(rawValue: UInt32(bitPattern: result)) {
        case shim_curl_unsupported_protocol, shim_curl_malformed_url: return malformed
        case shim_curl_no_proxy:
            return network("the proxy for \(place) was not found", help: "check HTTPS_PROXY and HTTP_PROXY")
        case shim_curl_no_host:
            return network(
                "host '\(address.host)' was not found",
                help: "check the address, the network and the name server"
            )
        case shim_curl_no_connection:
            if detail.contains("onnect to "), !detail.contains("to \(address.host) port") {
                return network(
                    "the proxy for \(place) cannot be reached: \(detail)",
                    help: "check HTTPS_PROXY and HTTP_PROXY"
                )
            }
            let cause = systemError == 0 ? detail : String(cString: strerror(systemError))
            let reason =
                systemError == ECONNREFUSED ? "refused the connection" : "cannot be reached: \(cause)"
            return network(
                "\(place) \(reason)",
                help: "check that the server runs, and HTTPS_PROXY if one is needed"
            )
        case shim_curl_timed_out:
            return network(
                receiver.answer.status == 0
                    ? "\(place) did not answer in time"
                    : "\(place) stopped sending after \(receiver.received) bytes",
                help: "try again; a download goes on where it stopped"
            )
        case shim_curl_receive_failed where detail.contains("CONNECT tunnel"):
            // An answer of the proxy's own, which asking again does not change.
            let status = receiver.answer.status
            return GatewayError(
                "proxy-refused",
                "the proxy for \(place) refused the connection with status \(status)",
                help: status == 407
                    ? "it wants a user name and password in HTTPS_PROXY"
                    : "check HTTPS_PROXY, and whether \(address.host) belongs into NO_PROXY"
            )
        case shim_curl_partial, shim_curl_receive_failed, shim_curl_send_failed:
            return network(
                "the connection to \(place) was lost after \(receiver.received) bytes: \(detail)",
                help: "try again; a download goes on where it stopped"
            )
        case shim_curl_empty_answer: return network("\(place) closed the connection without an answer")
        case shim_curl_certificate_refused:
            return untrusted(
                "the certificate of \(place) was not accepted: \(detail)",
                help: "check the clock; behind a proxy that opens TLS, name its certificate in SSL_CERT_FILE"
            )
        case shim_curl_authorities_unreadable:
            return untrusted(
                "the certificate authorities could not be read: \(detail)",
                help: "install the package ca-certificates, or correct SSL_CERT_FILE"
            )
        case shim_curl_tls_handshake: return network("the TLS connection to \(place) failed: \(detail)")
        default: return network("the transfer from \(place) failed: \(detail)")
        }
    }
}

extension Duration {
    /// Milliseconds, rounded down.
    var wholeMilliseconds: Int {
        Int(components.seconds) * 1000 + Int(components.attoseconds / 1_000_000_000_000_000)
    }
}
