package import Appliance
import Glibc
import Synchronization

/// Structured log records on standard error, with secrets taken out.
///
/// Every record is one write(2). A reader that does not keep up costs the writer a quarter of a second once; from then
/// on records are dropped and counted until the reader takes some again.
package struct Log: Sendable {
    /// How grave a record is, from what only a developer wants to know to what somebody must look at.
    package enum Level: Int, Sendable, Comparable, CaseIterable {
        case debug
        case info
        case warning
        case error

        /// Whether the left one is the less grave.
        package static func < (left: Level, right: Level) -> Bool { left.rawValue < right.rawValue }

        /// As the contract's plain form names it.
        var name: String {
            switch self {
            case .debug: "DEBUG"
            case .info: "INFO"
            case .warning: "WARN"
            case .error: "ERROR"
            }
        }

        /// The syslog priority (sd-daemon(3)).
        var priority: Int {
            switch self {
            case .debug: 7
            case .info: 6
            case .warning: 4
            case .error: 3
            }
        }
    }

    /// How a record is laid out, which depends on who reads standard error.
    package enum Style: Sendable, Equatable {
        /// `<6>message key=value`: the journal adds the time.
        case journal
        /// `09:15:28 warning: message key=value`.
        case terminal
        /// `[INFO] 2026-11-21T09:15:28.123Z - message key=value`, the contract's form.
        case plain
    }

    /// Bytes of one record; a longer one is cut and says so.
    package static let recordLimit = 16 << 10

    /// Records below are not made.
    package var minimum: Level
    private let style: Style
    private let now: @Sendable () -> Timestamp
    private let write: @Sendable ([UInt8]) -> Void

    /// A log that hands each finished record, with its line break, to `write`.
    package init(
        style: Style,
        minimum: Level,
        now: @escaping @Sendable () -> Timestamp,
        write: @escaping @Sendable ([UInt8]) -> Void
    ) {
        self.style = style
        self.minimum = minimum
        self.now = now
        self.write = write
    }

    /// Standard error, in the style that suits where it leads; `DEBUG` in the environment admits debug records.
    ///
    /// Where it leads to `file`, which nobody else rotates, that file is kept within its bounds.
    package static func standardError(
        environment: [String: String],
        clock: WallClock,
        file: LogFile? = nil
    ) -> Log {
        let output = LogOutput(descriptor: 2)
        return Log(
            style: style(of: 2, environment: environment),
            minimum: ["", "0", "false"].contains(environment["DEBUG"] ?? "") ? .info : .debug,
            now: clock.now,
            write: { record in
                guard let file else { return output.write(record) }
                // A full disk must not stop the gateway: what cannot be written is lost.
                try? file.append(record)
            }
        )
    }

    /// A log without a reader.
    package static let none = Log(
        style: .plain,
        minimum: .error,
        now: { Timestamp(milliseconds: 0) },
        write: { _ in }
    )

    /// The style for a descriptor: the journal names itself by device and inode in `JOURNAL_STREAM`
    /// (systemd.exec(5)).
    package static func style(of descriptor: Int32, environment: [String: String]) -> Style {
        var info = stat()
        if let stream = environment["JOURNAL_STREAM"], fstat(descriptor, &info) == 0,
            stream == "\(info.st_dev):\(info.st_ino)"
        {
            return .journal
        }
        return isatty(descriptor) == 1 ? .terminal : .plain
    }

    /// What helps to find a defect; made only when `DEBUG` is set.
    package func debug(_ message: @autoclosure () -> String, _ details: KeyValuePairs<String, String> = [:]) {
        if minimum <= .debug { record(.debug, message(), details) }
    }

    /// What happened as it should.
    package func info(_ message: @autoclosure () -> String, _ details: KeyValuePairs<String, String> = [:]) {
        if minimum <= .info { record(.info, message(), details) }
    }

    /// What somebody may want to change.
    package func warning(_ message: @autoclosure () -> String, _ details: KeyValuePairs<String, String> = [:])
    {
        if minimum <= .warning { record(.warning, message(), details) }
    }

    /// What failed.
    package func error(_ message: @autoclosure () -> String, _ details: KeyValuePairs<String, String> = [:]) {
        if minimum <= .error { record(.error, message(), details) }
    }

    /// What failed, with its code and advice.
    package func error(_ error: GatewayError) {
        record(
            .error,
            error.description,
            error.help.map { ["code": error.code, "help": $0] } ?? ["code": error.code]
        )
    }

    private func record(_ level: Level, _ message: String, _ details: KeyValuePairs<String, String>) {
        var text = message
        for (name, value) in details { text += " \(name)=\(Log.quoted(value))" }
        text = Redaction.secrets(in: text)
        if text.utf8.count > Log.recordLimit {
            let rest = text.utf8.count - Log.recordLimit
            text =
                String(decoding: text.utf8.prefix(Log.recordLimit), as: UTF8.self) + "… (\(rest) more bytes)"
        }
        let time = now().iso8601
        let start: String, next: String
        switch style {
        case .journal: (start, next) = ("<\(level.priority)>", "<\(level.priority)>    ")
        case .terminal:
            let name = level == .info ? "" : "\(level == .warning ? "warning" : level.name.lowercased()): "
            (start, next) = ("\(time.dropFirst(11).prefix(8)) \(name)", "         ")
        case .plain: (start, next) = ("[\(level.name)] \(time) - ", "    ")
        }
        write(Array((start + Log.lines(text, separator: "\n" + next) + "\n").utf8))
    }

    /// A value as it stands after `=`: quoted when it holds a space, a quote or a control character.
    private static func quoted(_ value: String) -> String {
        let isPlain =
            !value.isEmpty && value.utf8.allSatisfy { $0 > 0x20 && $0 != 0x22 && $0 != 0x3D && $0 != 0x7F }
        return isPlain ? value : JSON.string(value).compactText
    }

    /// A message whose lines cannot be taken for records, and whose control characters cannot steer a terminal.
    private static func lines(_ text: String, separator: String) -> String {
        // 0xC2 begins, among others, the control characters from U+0080 to U+009F.
        guard text.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F || $0 == 0xC2 }) else { return text }
        var out = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\n": out += separator
            case "\r": continue
            case "\t": out += "\t"
            default:
                if scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) {
                    out += "\\x" + Hex.encode([UInt8(scalar.value)])
                } else {
                    out.unicodeScalars.append(scalar)
                }
            }
        }
        return out
    }
}

/// A descriptor that records are written to without waiting for a reader that has stopped reading.
final class LogOutput: Sendable {
    private struct State {
        var dropped = 0
        var mayWait = true
    }

    private let descriptor: Int32
    // A leaf: held for one write, so that records stay whole.
    private let state = Mutex(State())

    init(descriptor: Int32) { self.descriptor = descriptor }

    func write(_ record: [UInt8]) {
        state.withLock { state in
            var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            // POLLOUT of a pipe means room for 4096 bytes; a larger record may wait for its reader a little.
            guard poll(&entry, 1, state.mayWait ? 250 : 0) == 1, Int32(entry.revents) & POLLOUT != 0 else {
                state.dropped += 1
                state.mayWait = false
                return
            }
            var bytes = record
            if state.dropped > 0 {
                bytes += Array(
                    "\(state.dropped) earlier records were dropped because nobody read them\n".utf8
                )
            }
            state = State()
            var sent = 0
            while sent < bytes.count {
                let end = min(bytes.count, sent + 4096)
                let count = bytes[sent..<end].withUnsafeBytes {
                    Glibc.write(descriptor, $0.baseAddress, $0.count)
                }
                if count > 0 {
                    sent += count
                    entry.revents = 0
                    if sent < bytes.count, poll(&entry, 1, 250) != 1 { return }
                } else if errno != EINTR {
                    return
                }
            }
        }
    }
}
