import CShims
import Glibc

/// Where a command's words go.
///
/// Passed in, so that a test can read them.
package struct Terminal: Sendable {
    /// Writes to standard output, as it is.
    package var write: @Sendable (String) -> Void
    /// Writes to standard error, as it is.
    package var writeError: @Sendable (String) -> Void
    /// Reads one line of standard input without its end; `nil` at the end of input.
    package var readLine: @Sendable () -> String?
    /// Whether standard input, output and error are terminals.
    package var inputIsTerminal: Bool
    /// Whether standard input is a pipe or a socket, so that another program writes to it.
    package var inputIsPipe: Bool
    package var outputIsTerminal: Bool
    package var errorIsTerminal: Bool
    /// Columns of the terminal, 80 when unknown.
    package var columns: Int

    /// A terminal from its parts.
    package init(
        write: @escaping @Sendable (String) -> Void,
        writeError: @escaping @Sendable (String) -> Void,
        readLine: @escaping @Sendable () -> String? = { nil },
        inputIsTerminal: Bool = false,
        inputIsPipe: Bool = false,
        outputIsTerminal: Bool = false,
        errorIsTerminal: Bool = false,
        columns: Int = 80
    ) {
        self.write = write
        self.writeError = writeError
        self.readLine = readLine
        self.inputIsTerminal = inputIsTerminal
        self.inputIsPipe = inputIsPipe
        self.outputIsTerminal = outputIsTerminal
        self.errorIsTerminal = errorIsTerminal
        self.columns = columns
    }

    /// The descriptors 0, 1 and 2.
    package static var standard: Terminal {
        let columns = Int(shim_terminal_columns(1))
        return Terminal(
            write: { try? Files.writeAll(Array($0.utf8), to: 1, path: "standard output") },
            writeError: { try? Files.writeAll(Array($0.utf8), to: 2, path: "standard error") },
            readLine: { Swift.readLine() },
            inputIsTerminal: isatty(0) == 1,
            inputIsPipe: isPipe(0),
            outputIsTerminal: isatty(1) == 1,
            errorIsTerminal: isatty(2) == 1,
            columns: columns > 0 ? columns : 80
        )
    }

    private static func isPipe(_ descriptor: Int32) -> Bool {
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { return false }
        return info.st_mode & S_IFMT == S_IFIFO || info.st_mode & S_IFMT == S_IFSOCK
    }
}
