import Appliance

/// Which proxy a request goes through, as environment variables say: `HTTPS_PROXY` and `HTTP_PROXY` by the scheme of the
/// address, `ALL_PROXY` for both, `NO_PROXY` for exceptions.
///
/// The lower-case spelling wins, as everywhere. This machine is never asked through a proxy.
struct HTTPProxies: Sendable, Equatable {
    private var secure: String?
    private var plain: String?
    /// Host names and suffixes with commas between, as libcurl takes them; empty for none.
    private(set) var exceptions: String

    init(environment: [String: String]) {
        func value(_ name: String) -> String? {
            for spelling in [name.lowercased(), name] {
                if let text = environment[spelling]?.trimmed, !text.isEmpty { return text }
            }
            return nil
        }
        secure = value("HTTPS_PROXY") ?? value("ALL_PROXY")
        plain = value("HTTP_PROXY") ?? value("ALL_PROXY")
        exceptions = value("NO_PROXY") ?? ""
    }

    /// The proxy for an address, before exceptions; empty: none, whatever the library would find by itself.
    func proxy(for address: WebAddress) -> String {
        if address.isLoopback { return "" }
        return (address.scheme == "https" ? secure : plain) ?? ""
    }
}
