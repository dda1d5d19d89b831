import Glibc

/// Where the gateway listens and how the world reaches it: what `settings.json` keeps, as the environment overrides it.
///
/// Manager and gateway read the same values, so that every shell talks to the same port.
package struct Settings: Sendable, Equatable {
    /// An IPv4 or IPv6 address without brackets.
    package var host: String
    /// 0 means any free port; the manager refuses it, because no other shell could find the gateway.
    package var port: Int
    /// Where MCP is served; starts with a slash.
    package var path: String
    /// As given; whether it is fit for web clients is the doctor's finding, not an error here.
    package var publicURL: String?
    /// Whether the doctor asks the public URL for an answer; on when `settings.json` or the environment says
    /// so.
    package var verifyPublicURL: Bool
    /// The path that earlier versions served to ChatGPT without a token; read so that it can be told of,
    /// never served.
    package var chatGPTNoAuthPath: String?
    /// The URL that earlier versions gave to ChatGPT; it holds a secret path and is shown redacted only.
    package var chatGPTConnectorURL: String?

    /// What holds where nobody said otherwise: 127.0.0.1, port 3333, `/mcp`.
    package static let standard = Settings()

    private init() {
        host = "127.0.0.1"
        port = 3333
        path = "/mcp"
        verifyPublicURL = false
    }

    /// The environment's values, else those of `settings.json`, else the standard ones.
    ///
    /// Throws `invalid-value` for an environment variable and `settings-invalid` for a key of the file.
    package init(stored: JSONObject = JSONObject(), environment: [String: String] = [:]) throws(GatewayError)
    {
        self.init()
        let file = Source(name: { "'\($0)' in settings.json" }, code: "settings-invalid")
        let shell = Source(name: { $0 }, code: "invalid-value")
        func variable(_ name: String) -> String? {
            guard let value = environment[name]?.trimmed, !value.isEmpty else { return nil }
            return value
        }
        if let value = try file.text(stored, "http_host") { host = try file.host(value, "http_host") }
        if let value = variable("LLM_GATEWAY_HTTP_HOST") {
            host = try shell.host(value, "LLM_GATEWAY_HTTP_HOST")
        }
        if let value = stored["http_port"], !value.isNull {
            port = try file.port(value.int, as: value.compactText, "http_port")
        }
        if let value = variable("LLM_GATEWAY_HTTP_PORT") {
            port = try shell.port(Int(value), as: "'\(value)'", "LLM_GATEWAY_HTTP_PORT")
        }
        if let value = try file.text(stored, "http_path") { path = try file.path(value, "http_path") }
        if let value = variable("LLM_GATEWAY_HTTP_PATH") {
            path = try shell.path(value, "LLM_GATEWAY_HTTP_PATH")
        }
        let storedURL = try file.text(stored, "public_url")
        publicURL = variable("LLM_GATEWAY_PUBLIC_URL") ?? storedURL
        if let value = stored["verify_public_url"], !value.isNull {
            guard let flag = value.bool else {
                throw file.error("verify_public_url", value.compactText, "true or false")
            }
            verifyPublicURL = flag
        }
        // The contract joins the two: the variable can switch the check on, never off.
        if variable("LLM_GATEWAY_VERIFY_PUBLIC_URL") == "1" { verifyPublicURL = true }
        chatGPTNoAuthPath = try file.text(stored, "chatgpt_no_auth_path")
        chatGPTConnectorURL = try file.text(stored, "chatgpt_connector_url")
    }

    /// The object of a `settings.json`.
    ///
    /// Throws `settings-corrupt` when the bytes are no JSON object.
    package static func document(of bytes: [UInt8]) throws(GatewayError) -> JSONObject {
        let reason: String
        do throws(JSONSyntaxError) {
            let value = try JSON.parse(String(decoding: bytes, as: UTF8.self))
            if let object = value.object { return object }
            reason =
                "it holds \(value.typeName == "array" ? "an array" : "a \(value.typeName)"), not an object"
        } catch {
            reason = error.description
        }
        throw GatewayError(
            "settings-corrupt",
            "settings.json cannot be read: \(reason)",
            help: "run 'llm-cli-gateway setup': it keeps the file aside and writes a new one"
        )
    }

    /// A stored document with this address, port and path; every other key stays as it is.
    ///
    /// Values that are the standard ones are left out, as the reference leaves out what is empty.
    package func recorded(in stored: JSONObject) -> JSONObject {
        var document = stored
        document["http_host"] = host == Settings.standard.host ? nil : .string(host)
        document["http_port"] = port == Settings.standard.port ? nil : .integer(port)
        document["http_path"] = path == Settings.standard.path ? nil : .string(path)
        return document
    }

    // MARK: addresses

    /// `127.0.0.1:3333` or `[::1]:3333`, as URLs and socket units write it.
    package var listenAddress: String { "\(Settings.bracketed(host)):\(port)" }

    /// Whether only this machine can connect.
    package var isLoopback: Bool { host.hasPrefix("127.") || host == "::1" }

    /// The address to connect to from this machine: a wildcard address is no destination.
    package var connectHost: String {
        switch host {
        case "0.0.0.0": "127.0.0.1"
        case "::": "::1"
        default: host
        }
    }

    /// `http://127.0.0.1:3333`, for a client on this machine.
    package var localOrigin: String { "http://\(Settings.bracketed(connectHost)):\(port)" }

    /// `http://127.0.0.1:3333/mcp`, for a client on this machine.
    package var localURL: String { localOrigin + path }

    /// Where health is asked for.
    package var healthURL: String { localOrigin + "/healthz" }

    /// A host as it is written in URLs and `Host` fields: an IPv6 address in brackets.
    package static func bracketed(_ host: String) -> String { host.contains(":") ? "[\(host)]" : host }

    // MARK: single values, for flags

    /// An address to listen on, checked; `localhost` is 127.0.0.1.
    package static func host(_ text: String, from name: String) throws(GatewayError) -> String {
        try Source(name: { $0 }, code: "invalid-value").host(text, name)
    }

    /// A port from 0 to 65535, checked.
    package static func port(_ text: String, from name: String) throws(GatewayError) -> Int {
        try Source(name: { $0 }, code: "invalid-value").port(Int(text), as: "'\(text)'", name)
    }

    /// The path of the MCP endpoint, checked.
    package static func path(_ text: String, from name: String) throws(GatewayError) -> String {
        try Source(name: { $0 }, code: "invalid-value").path(text, name)
    }

    /// Where a value came from, for the wording of its error.
    private struct Source {
        var name: (String) -> String
        var code: String

        func error(_ key: String, _ actual: String, _ expected: String) -> GatewayError {
            GatewayError(code, "\(name(key)) is \(actual), expected \(expected)")
        }

        func text(_ stored: JSONObject, _ key: String) throws(GatewayError) -> String? {
            guard let value = stored[key], !value.isNull else { return nil }
            guard let text = value.string else { throw error(key, value.compactText, "a text") }
            return text.trimmed.isEmpty ? nil : text.trimmed
        }

        func host(_ text: String, _ key: String) throws(GatewayError) -> String {
            if text == "localhost" { return "127.0.0.1" }
            let bare = text.hasPrefix("[") && text.hasSuffix("]") ? String(text.dropFirst().dropLast()) : text
            var four = in_addr()
            var six = in6_addr()
            guard inet_pton(AF_INET, bare, &four) == 1 || inet_pton(AF_INET6, bare, &six) == 1 else {
                throw error(key, "'\(text)'", "an IPv4 or IPv6 address such as 127.0.0.1")
            }
            return bare
        }

        func port(_ value: Int?, as text: String, _ key: String) throws(GatewayError) -> Int {
            guard let value, (0...65535).contains(value) else {
                throw error(key, text, "a port number from 1 to 65535")
            }
            return value
        }

        func path(_ text: String, _ key: String) throws(GatewayError) -> String {
            let isPlain = text.utf8.allSatisfy {
                $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#")
                    && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\")
            }
            guard text.hasPrefix("/"), text.utf8.count > 1, isPlain,
                !text.split(separator: "/").contains(".."), text != "/healthz"
            else {
                throw error(key, "'\(text)'", "a path such as /mcp, without '..', '?', '#' and spaces")
            }
            return text
        }
    }
}

extension String {
    /// Without white space at both ends.
    package var trimmed: String {
        var text = Substring(self)
        while text.first?.isWhitespace == true { text = text.dropFirst() }
        while text.last?.isWhitespace == true { text = text.dropLast() }
        return String(text)
    }
}
