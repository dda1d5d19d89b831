package import Appliance

/// Header fields in their order; names compare without regard to case (RFC 9110 section 5.1).
package struct HTTPFields: Sendable, ExpressibleByDictionaryLiteral {
    /// The fields as they are on the wire.
    package private(set) var all: [(name: String, value: String)]

    /// Fields in this order.
    package init(_ all: [(name: String, value: String)] = []) { self.all = all }

    /// A dictionary literal keeps its order; a name may occur twice.
    package init(dictionaryLiteral elements: (String, String)...) {
        all = elements.map { (name: $0.0, value: $0.1) }
    }

    /// The first value of a field; setting replaces all of them, `nil` removes them.
    package subscript(name: String) -> String? {
        get { all.first { HTTPFields.same($0.name, name) }?.value }
        set {
            all.removeAll { HTTPFields.same($0.name, name) }
            if let newValue { all.append((name, newValue)) }
        }
    }

    /// Every value of a repeated field.
    package func values(_ name: String) -> [String] {
        all.filter { HTTPFields.same($0.name, name) }.map(\.value)
    }

    /// Adds a field without replacing.
    package mutating func add(_ name: String, _ value: String) { all.append((name, value)) }

    private static func same(_ first: String, _ second: String) -> Bool {
        let first = first.utf8, second = second.utf8
        guard first.count == second.count else { return false }
        return zip(first, second).allSatisfy { a, b in
            a == b || (a ^ b == 0x20 && (0x61...0x7A).contains(a | 0x20))
        }
    }
}

/// A request that the HTTP server received, or that the HTTP client is to send.
package struct HTTPRequest: Sendable {
    /// Upper case: `GET`, `POST`.
    package var method: String
    /// The path for the server, without query, percent-encoding as received; the whole URL for the client.
    package var target: String
    /// The raw query string without `?`; empty when there is none.
    package var query: String
    /// As received, or to be sent beside those that libcurl adds (Host, Content-Length).
    package var fields: HTTPFields
    /// As received or to be sent, without transfer coding; empty when there is none.
    package var body: [UInt8]

    /// A request.
    package init(
        _ method: String,
        _ target: String,
        query: String = "",
        fields: HTTPFields = [:],
        body: [UInt8] = []
    ) {
        self.method = method
        self.target = target
        self.query = query
        self.fields = fields
        self.body = body
    }
}

/// An answer: whole, or a stream that is written while the handler works.
package struct HTTPResponse: Sendable {
    /// What follows the fields.
    package enum Body: Sendable {
        /// Known as a whole; sent with a Content-Length.
        case bytes([UInt8])
        /// Runs in a task that is cancelled when the client leaves; the connection's answer ends when it returns.
        case stream(@Sendable (any HTTPStreamWriter) async -> Void)
    }

    /// 200 to 599.
    package var status: Int
    /// To be sent beside those that the server adds (Date, Content-Length, Connection).
    package var fields: HTTPFields
    /// Whole, or written while the handler works.
    package var body: Body

    /// An answer.
    package init(status: Int, fields: HTTPFields = [:], body: Body = .bytes([])) {
        self.status = status
        self.fields = fields
        self.body = body
    }

    /// A JSON answer with its content type.
    package static func json(_ status: Int, _ value: JSON, fields: HTTPFields = [:]) -> HTTPResponse {
        var fields = fields
        fields["Content-Type"] = "application/json"
        return HTTPResponse(status: status, fields: fields, body: .bytes(value.compact))
    }
}

/// What becomes of a request that is here as a whole.
package enum HTTPReception: Sendable {
    /// Its answer is known.
    case answered(HTTPResponse)
    /// Its answer is made in a task, which is cancelled when the client leaves.
    case pending(@Sendable () async -> HTTPResponse)
}

/// Where a streaming answer goes.
package protocol HTTPStreamWriter: Sendable {
    /// Queues bytes; waits while 128 KiB or more wait for a slow client.
    ///
    /// Throws `CancellationError` once the client has left.
    func write(_ bytes: [UInt8]) async throws
}
