import Appliance
import Glibc
import MCP
import Platform

/// The routes of the HTTP server: health, and MCP behind the boundary.
///
/// Order of the checks for every request: Host and Origin, then route, then authentication, all of them before the
/// body is read.
struct Front: Sendable {
    /// Where MCP is served.
    let path: String
    let endpoint: MCPEndpoint
    let policy: OriginPolicy
    let access: Access

    /// The routes for the server.
    var routes: HTTPServer.Routes {
        HTTPServer.Routes(
            admit: { refusal(of: $0) },
            receive: { receive($0) }
        )
    }

    /// The answer that turns a request away by its head alone.
    private func refusal(of request: HTTPRequest) -> HTTPResponse? {
        if let response = policy.refusal(of: request) { return response }
        switch request.target {
        case "/healthz":
            guard request.method == "GET" || request.method == "HEAD" else {
                return .json(405, ["error": "Method not allowed"], fields: ["Allow": "GET, HEAD"])
            }
            return nil
        case path:
            if let response = policy.preflight(request) { return response }
            guard case .refused(let response) = access.decide(request) else { return nil }
            return policy.allowing(request, response)
        default:
            return .json(404, ["error": "Not found"])
        }
    }

    private func receive(_ request: HTTPRequest) -> HTTPReception {
        if request.target == "/healthz" { return .answered(.json(200, health)) }
        let principal: Principal
        switch access.decide(request) {
        case .refused(let response): return .answered(policy.allowing(request, response))
        case .allowed(let allowed): principal = allowed
        }
        switch endpoint.receive(request, principal: principal) {
        case .answered(let response): return .answered(policy.allowing(request, response))
        case .pending(let answer): return .pending { policy.allowing(request, await answer()) }
        }
    }

    /// `/healthz`: enough to tell our gateway from anything else on the port, and no more than counts.
    private var health: JSON {
        [
            "ok": true, "name": .string(Product.name), "version": .string(Product.version),
            "pid": .integer(getpid()), "sessions": .integer(endpoint.sessionCount),
            "calls": .integer(endpoint.callCount),
        ]
    }
}

extension OriginPolicy {
    /// Lets in what the settings name: the address to listen on and the public one, beside this machine's own names.
    init(_ settings: Settings) {
        let publicHost = settings.publicURL.flatMap { try? WebAddress($0) }
        self.init(
            isLoopback: settings.isLoopback,
            allowedOrigins: Set(publicHost.map { [$0.origin] } ?? []),
            allowedHosts: Set([Settings.bracketed(settings.host)] + (publicHost.map { [$0.host] } ?? []))
        )
    }
}
