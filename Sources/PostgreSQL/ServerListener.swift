package import Appliance

/// A connection that hears what other gateways on the database announce.
///
/// Its calls block for a moment; what comes is waited for by `descriptor`.
package final class ServerListener {
    private let link: Link

    /// Connects to a database whose tables are there, and listens; throws as `ServerConnection` does.
    package init(_ server: DatabaseServer) throws(GatewayError) {
        do throws(ServerFailure) {
            link = try Link(server)
            guard let schema = try link.script("SELECT current_schema()").value else {
                let reason = "the database \(server.name) has no schema for the gateway's tables yet"
                throw ServerFailure(.other, GatewayError("database-error", reason))
            }
            // Silence is what is expected here.
            try link.script("LISTEN \(Link.quoted(schema))")
        } catch {
            throw error.error
        }
    }

    /// What becomes readable when something was announced, or the connection is lost.
    package var descriptor: Int32 { link.descriptor }

    /// What was announced since the last call; throws `database-unreachable` when the connection is gone.
    package func news() throws(GatewayError) -> [String] {
        do throws(ServerFailure) {
            return try link.messages()
        } catch {
            throw error.error
        }
    }
}
