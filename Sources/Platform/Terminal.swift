package import Appliance
import CShims
import Glibc

/// Where a command's words go.
///
/// Passed in, so that a test can read them.
package struct Terminal: Sendable {
    private let output: @Sendable (String) throws(GatewayError) -> Void
    /// Writes to standard error, as it is.
    package var writeError: @Sendable (String) -> Void
    /// Reads one line of standard input without its end; `nil` at the end of input.
    package var readLine: @Sendable () -> String?
    /// Whether standard input is a terminal, so that a person can be asked.
    package var inputIsTerminal: Bool
    /// Whether standard input is a pipe or a socket, so that another program writes to it.
    package var inputIsPipe: Bool
    /// Whether standard output is a terminal; the verbs of the reference print JSON where it is none.
    package var outputIsTerminal: Bool
    /// Whether standard error is a terminal, where progress can be redrawn in place.
    package var errorIsTerminal: Bool
    /// A descriptor on which poll(2) tells that the reader of standard output has left; -1 where none can.
    package var outputHangUp: Int32
    /// Columns of the terminal, 80 when unknown.
    package var columns: Int

    /// A terminal from its parts.
    package init(
        write: @escaping @Sendable (String) throws(GatewayError) -> Void,
        writeError: @escaping @Sendable (String) -> Void,
        readLine: @escaping @Sendable () -> String? = { nil },
        inputIsTerminal: Bool = false,
        inputIsPipe: Bool = false,
        outputIsTerminal: Bool = false,
        errorIsTerminal: Bool = false,
        outputHangUp: Int32 = -1,
        columns: Int = 80
    ) {
        output = write
        self.writeError = writeError
        self.readLine = readLine
        self.inputIsTerminal = inputIsTerminal
        self.inputIsPipe = inputIsPipe
        self.outputIsTerminal = outputIsTerminal
        self.errorIsTerminal = errorIsTerminal
        self.outputHangUp = outputHangUp
        self.columns = columns
    }

    /// Writes to standard output, as it is; throws `output-failed` when it cannot take it.
    package func write(_ text: String) throws(GatewayError) { try output(text) }

    /// The descriptors 0, 1 and 2.
    package static var standard: Terminal {
        let columns = Int(shim_terminal_columns(1))
        return Terminal(
            write: { (text) throws(GatewayError) in
                do throws(GatewayError) {
                    try Files.writeAll(Array(text.utf8), to: 1, path: "standard output")
                } catch {
                    throw GatewayError(
                        "output-failed",
                        "the answer could not be written: \(error.message)",
                        help: "the command itself came to its end; only what it has to say is lost"
                    )
                }
            },
            writeError: { try? Files.writeAll(Array($0.utf8), to: 2, path: "standard error") },
            readLine: { Swift.readLine() },
            inputIsTerminal: isatty(0) == 1,
            inputIsPipe: [S_IFIFO, S_IFSOCK].contains(kind(0)),
            outputIsTerminal: isatty(1) == 1,
            errorIsTerminal: isatty(2) == 1,
            // The writing end of a pipe never becomes readable otherwise; a terminal or a socket might.
            outputHangUp: kind(1) == S_IFIFO ? 1 : -1,
            columns: columns > 0 ? columns : 80
        )
    }

    /// Opens /dev/null in place of a standard descriptor that the caller closed.
    ///
    /// Otherwise the next file that is opened gets its number, and what is meant for a reader is written into it.
    package static func fillStandardDescriptors() {
        // open(2) gives the lowest free number.
        for number: Int32 in 0...2 where fcntl(number, F_GETFD) < 0 { _ = open("/dev/null", O_RDWR) }
    }

    private static func kind(_ descriptor: Int32) -> mode_t {
        var info = stat()
        return fstat(descriptor, &info) == 0 ? info.st_mode & S_IFMT : 0
    }
}
