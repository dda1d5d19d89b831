import Appliance
import Glibc
import Platform

/// Hands a command of the reference's gateway over to the manager that lies beside this binary: reports are the
/// manager's business, which knows service, receipt and clients.
enum ManagerHandover {
    /// Becomes the manager with these arguments.
    ///
    /// Throws `manager-missing` when there is none; does not return otherwise.
    static func run(_ arguments: [String]) throws(GatewayError) -> Never {
        let own = Files().destination(ofLink: "/proc/self/exe") ?? ""
        let manager = Layout.join(Files.parent(of: own), Product.name)
        var words: [UnsafeMutablePointer<CChar>?] = ([manager] + arguments).map { strdup($0) }
        words.append(nil)
        execv(manager, words)
        throw GatewayError(
            "manager-missing",
            "cannot start the manager '\(manager)': \(String(cString: strerror(errno)).lowercased())",
            help: "run 'llm-cli-gateway \(arguments.joined(separator: " "))' instead"
        )
    }
}
