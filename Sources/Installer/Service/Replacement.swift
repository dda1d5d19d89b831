import Appliance
import Glibc

/// Becoming another program, as `exec` in a shell.
enum Replacement {
    /// Replaces this program; gives the reason when it did not work.
    ///
    /// `words` begins with the name that the program sees as its own; without an environment it keeps this one.
    static func become(
        _ program: String,
        _ words: [String],
        environment: [String: String]? = nil
    ) -> GatewayError {
        // What is ignored stays so across exec(2), and the new program shall find everything as usual.
        signal(SIGPIPE, SIG_DFL)
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
        arguments.append(nil)
        if let environment {
            var variables: [UnsafeMutablePointer<CChar>?] = environment.map {
                strdup("\($0.key)=\($0.value)")
            }
            variables.append(nil)
            execve(program, arguments, variables)
        } else {
            execv(program, arguments)
        }
        let reason = String(cString: strerror(errno)).lowercased()
        return GatewayError("spawn-failed", "cannot run '\(program)': \(reason)")
    }
}
