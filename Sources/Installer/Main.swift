import Appliance
import Glibc
import Platform

/// The manager: one command line in, one report or error out, one exit status.
@main
struct Main {
    static func main() async {
        let terminal = Terminal.standard
        exit(await run(Array(CommandLine.arguments.dropFirst()), terminal, machine: Machine.real).rawValue)
    }

    /// Runs a command line.
    ///
    /// The world is only built once the command line is understood: a wrong one should not cost a descriptor.
    static func run(
        _ words: [String],
        _ terminal: Terminal,
        machine: () throws(GatewayError) -> Machine
    ) async -> ExitCode {
        var output: Output = words.contains("--json") ? .json : .text
        do throws(GatewayError) {
            var arguments = try Arguments(words, verbs: Verb.all)
            output = Output(arguments, outputIsTerminal: terminal.outputIsTerminal)
            if let verb = arguments.verb, arguments.has("help") {
                output.print(Manual(verb: verb), isSilenced: false, to: terminal)
                return .done
            }
            if arguments.has("help") { arguments.verb = .help }
            let verb = arguments.verb ?? .help
            let call = Invocation(arguments: arguments, machine: try machine(), output: output)
            let report = try await verb.run(call)
            let isSilenced = call.isQuiet && !verb.isQuestion
            output.print(report, isSilenced: isSilenced, to: terminal)
            return report.exitCode
        } catch {
            output.print(error, to: terminal)
            return error.exitCode
        }
    }
}
