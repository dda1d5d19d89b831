import Glibc

/// Reads lines from a descriptor, blocking, with a bound on their length.
///
/// Can be woken up from another thread.
final class LineReader {
    enum Line: Equatable {
        case text([UInt8])
        /// A line beyond the bound; its bytes are dropped.
        case tooLong
        /// The end of the input, an error, or `stop`.
        case end
    }

    private let descriptor: Int32
    private let bell: Int32
    private let limit: Int
    private var buffer = [UInt8](repeating: 0, count: 64 << 10)
    /// The unread part of `buffer`.
    private var unread = 0..<0
    private var line: [UInt8] = []
    private var isDropping = false
    private var isAtEnd = false

    /// A reader; `bell` is a descriptor that becomes readable to end the reading.
    init(descriptor: Int32, bell: Int32, limit: Int) {
        self.descriptor = descriptor
        self.bell = bell
        self.limit = limit
    }

    /// The next line without its end; a last line without one counts.
    func next() -> Line {
        while true {
            if let end = buffer[unread].firstIndex(of: UInt8(ascii: "\n")) {
                take(unread.lowerBound..<end)
                unread = end + 1..<unread.upperBound
                return finishLine()
            }
            take(unread)
            unread = 0..<0
            guard !isAtEnd else { return line.isEmpty && !isDropping ? .end : finishLine() }
            fill()
        }
    }

    private func take(_ range: Range<Int>) {
        guard !isDropping else { return }
        guard line.count + range.count <= limit else {
            isDropping = true
            line = []
            return
        }
        line.append(contentsOf: buffer[range])
    }

    private func finishLine() -> Line {
        defer {
            line = []
            isDropping = false
        }
        if isDropping { return .tooLong }
        if line.last == UInt8(ascii: "\r") { line.removeLast() }
        return .text(line)
    }

    private func fill() {
        while true {
            var waits = [
                pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0),
                pollfd(fd: bell, events: Int16(POLLIN), revents: 0),
            ]
            guard poll(&waits, 2, -1) >= 0 else {
                if errno == EINTR { continue }
                break
            }
            if waits[1].revents != 0 {
                // Asked to stop: half a line is no message.
                line = []
                isDropping = false
                break
            }
            let count = read(descriptor, &buffer, buffer.count)
            if count > 0 {
                unread = 0..<count
                return
            }
            if count < 0, errno == EINTR || errno == EAGAIN { continue }
            break
        }
        isAtEnd = true
    }
}
