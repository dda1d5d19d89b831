import Appliance
import MCP
import Platform

/// Who may speak to the gateway over HTTP, and as whom.
struct Access: Sendable {
    /// The bearer token; `nil` when none is configured, which refuses everybody.
    let token: String?
    /// `LLM_GATEWAY_AUTH_DISABLED=1`.
    let isDisabled: Bool
    /// The field from which a caller with the token takes its name: `LLM_GATEWAY_TRUSTED_PRINCIPAL_HEADER`.
    let principalHeader: String?

    /// A boundary from its parts.
    init(token: String?, isDisabled: Bool, principalHeader: String?) {
        self.token = token
        self.isDisabled = isDisabled
        self.principalHeader = principalHeader
    }

    /// Reads the token from `LLM_GATEWAY_AUTH_TOKEN`, else from the token file; blank is none.
    init(machine: Machine, layout: Layout) throws(GatewayError) {
        let environment = machine.environment
        let given = environment["LLM_GATEWAY_AUTH_TOKEN"]?.trimmed ?? ""
        self.init(
            token: given.isEmpty ? try machine.files.authToken(of: layout) : given,
            isDisabled: environment["LLM_GATEWAY_AUTH_DISABLED"] == "1",
            principalHeader: environment["LLM_GATEWAY_TRUSTED_PRINCIPAL_HEADER"].flatMap {
                $0.isEmpty ? nil : $0
            }
        )
    }

    /// The key under which session ids are signed: the same after a restart, as long as the token is.
    ///
    /// Without a token all callers are the same, and an id that somebody makes up opens nothing that is not open.
    func sessionKey(_ layout: Layout) -> [UInt8] {
        let digest = SHA256()
        Array("mcp-session\u{0}\(token ?? layout.home)".utf8).withUnsafeBytes { digest.update($0) }
        return digest.finish()
    }

    /// A caller, or the answer that refuses it.
    enum Decision: Sendable {
        case allowed(Principal)
        case refused(HTTPResponse)
    }

    /// Decides by the head of a request, before its body is read.
    func decide(_ request: HTTPRequest) -> Decision {
        if isDisabled { return .allowed(.local) }
        guard let token else {
            return .refused(.json(503, ["error": "HTTP transport requires LLM_GATEWAY_AUTH_TOKEN"]))
        }
        guard let given = Access.bearer(request.fields), ConstantTime.equal(given.utf8, token.utf8) else {
            return .refused(
                .json(
                    401,
                    ["error": "Unauthorized"],
                    fields: ["WWW-Authenticate": #"Bearer realm="llm-cli-gateway""#]
                )
            )
        }
        let names = principalHeader.map { request.fields.values($0) } ?? []
        guard let principalHeader, let name = names.first else {
            return .allowed(Principal(id: "gateway-bearer", kind: .bearer))
        }
        // A proxy that adds the field to the caller's own would let the caller choose its name.
        guard names.count == 1 else {
            return .refused(
                .json(400, ["error": .string("the field \(principalHeader) occurs more than once")])
            )
        }
        // The local user is who sits at this machine; no field makes a caller that.
        guard Access.isPrincipalName(name), name != Principal.local.id else {
            return .refused(
                .json(400, ["error": .string("the field \(principalHeader) holds no principal name")])
            )
        }
        return .allowed(Principal(id: name, kind: .bearer))
    }

    /// The credential of `Authorization: Bearer …`; the scheme's case does not matter (RFC 9110 section 11.1).
    static func bearer(_ fields: HTTPFields) -> String? {
        guard let value = fields["Authorization"] else { return nil }
        let parts = value.split(separator: " ", maxSplits: 1)
        guard parts.count == 2, parts[0].lowercased() == "bearer" else { return nil }
        return String(parts[1])
    }

    /// `^[A-Za-z0-9._@:+=/-]{1,256}$`.
    static func isPrincipalName(_ name: String) -> Bool {
        (1...256).contains(name.utf8.count)
            && name.utf8.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
                default: ".\u{5F}@:+=/-".utf8.contains(byte)
                }
            }
    }
}
