package import Appliance
import CPostgreSQL

/// A database of a PostgreSQL server, as a connection string names it.
///
/// libpq reads it, with everything that libpq knows: URIs and `key=value` lists, several hosts, TLS, `~/.pgpass`, services.
package struct DatabaseServer: Sendable {
    /// What a schema is called that nobody has chosen.
    package static let defaultSchema = "llm_gateway"

    let dsn: String
    /// The database and where it is, without user and password: `'gateway' on 'db.example'`.
    package let name: String
    /// Where the tables are; `nil` where the connection's own `search_path` says it.
    let schema: String?
    /// What is blacked out in what the server and libpq say.
    private let secrets: [String]

    /// Throws `libpq-missing`, and `dsn-malformed` without a word of the string.
    package init(_ dsn: String) throws(GatewayError) {
        guard shim_pq_load() == 0 else {
            throw GatewayError(
                "libpq-missing",
                "PostgreSQL's client library 'libpq.so.5' is not installed or too old",
                help: "install it (Debian and Ubuntu: apt install libpq5; Fedora: dnf install libpq)"
            )
        }
        guard let options = shim_pq_parse(dsn) else {
            throw GatewayError(
                "dsn-malformed",
                "'dsn' in [persistence] is no connection string",
                help:
                    "write dsn = \"postgresql://user@host/database\", with '%' and two digits for special characters"
            )
        }
        defer { shim_pq_options_free(options) }
        var values: [String: String] = [:]
        var next = options
        while let keyword = next.pointee.keyword {
            if let value = next.pointee.value { values[String(cString: keyword)] = String(cString: value) }
            next += 1
        }
        func given(_ keyword: String) -> String? { values[keyword].flatMap { $0.isEmpty ? nil : $0 } }
        self.dsn = dsn
        let user = given("user")
        let place = given("host") ?? given("hostaddr") ?? given("service") ?? "the local server"
        name = "'\(given("dbname") ?? user ?? "the user's own")' on '\(place)'"
        schema = given("options")?.contains("search_path") == true ? nil : DatabaseServer.defaultSchema
        secrets = ["password", "sslpassword"].compactMap(given)
    }

    /// A text of the server or of libpq as one line, without a password.
    func clean(_ text: String) -> String {
        let line = text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        return secrets.reduce(line) { $0.replacing($1, with: "***") }
    }
}
