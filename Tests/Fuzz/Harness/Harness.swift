import Appliance
import Platform

/// libFuzzer as a library: its search, with our function for one input.
/// https://llvm.org/docs/LibFuzzer.html#using-libfuzzer-as-a-library
@_silgen_name("LLVMFuzzerRunDriver")
private func search(
    _ count: UnsafeMutablePointer<CInt>,
    _ words: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ try: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

// libFuzzer calls back on the thread that called it.
nonisolated(unsafe) private var parse: @Sendable ([UInt8]) -> Void = { _ in }

@main
struct Harness {
    /// Searches for inputs that crash the parser of `--parser=NAME`; the other arguments are libFuzzer's.
    static func main() {
        let flag = "--parser="
        let wanted = CommandLine.arguments.first { $0.hasPrefix(flag) }?.dropFirst(flag.count)
        guard let parser = Parser.all.first(where: { $0.name == wanted ?? "" }) else {
            let names = Parser.all.map(\.name).joined(separator: " ")
            try? Files.writeAll(
                Array("--parser must be one of: \(names)\n".utf8),
                to: 2,
                path: "standard error"
            )
            return
        }
        parse = parser.parse
        var count = CommandLine.argc
        var words = CommandLine.unsafeArgv
        _ = search(&count, &words) { bytes, count in
            parse(Array(UnsafeBufferPointer(start: bytes, count: count)))
            return 0
        }
    }
}
