import Appliance
import Glibc
import Platform

/// The manager: one command line in, one report or error out, one exit status.
@main
struct Main {
    static func main() {
        Terminal.fillStandardDescriptors()
        Processes.heedChildren()
        Files.keepOwnAccess()
        let words = Array(CommandLine.arguments.dropFirst())
        // Before anything else: these two must find a process with one thread.
        switch words.first {
        case Supervisor.verb: exit(Supervisor.run())
        case Supervisor.launchVerb: exit(Supervisor.launch())
        default: break
        }
        // A reader of our output that leaves must not end an installation half-way.
        signal(SIGPIPE, SIG_IGN)
        WorkerPool.takeOver()
        Task.detached {
            exit(await run(words, Terminal.standard, machine: Machine.real).rawValue)
        }
        // An asynchronous `main` would leave this thread by pthread_exit, for which the C library loads libgcc_s.
        while true { pause() }
    }

    /// Runs a command line.
    ///
    /// The world is only built once the command line is understood: a wrong one should not cost a descriptor.
    static func run(
        _ words: [String],
        _ terminal: Terminal,
        machine: () throws(GatewayError) -> Machine
    ) async -> ExitCode {
        var output = Output(words: words, verbs: Verb.all, outputIsTerminal: terminal.outputIsTerminal)
        do throws(GatewayError) {
            var arguments = try Arguments(words, verbs: Verb.all)
            output = Output(arguments, outputIsTerminal: terminal.outputIsTerminal)
            if arguments.has("help") {
                // A help text is for people, whatever it is piped into.
                if output != .events { output = arguments.has("json") ? .json : .text }
                let manual: any Report = arguments.verb.map(Manual.init) ?? Overview(verbs: Verb.all)
                try output.print(manual, isSilenced: false, to: terminal)
                return .done
            }
            if arguments.verb == nil { arguments.verb = terminal.inputIsPipe ? .stdio : .overview }
            let verb = arguments.verb ?? .overview
            let call = Invocation(arguments: arguments, machine: try machine(), output: output)
            let report = try await verb.run(call)
            let isSilenced = call.isQuiet && !verb.isQuestion
            try output.print(report, isSilenced: isSilenced, to: terminal)
            return report.exitCode
        } catch {
            output.print(error, to: terminal)
            return error.exitCode
        }
    }
}

extension Verb {
    /// What happens without a command: a short help, and the state.
    fileprivate static let overview = Verb("", nil, "", style: .text, isQuestion: true) {
        call throws(GatewayError) in
        Greeting(status: try await call.service().status())
    }
}

/// What a person sees who types nothing but the program's name.
private struct Greeting: Report {
    var status: ServiceStatus

    var json: JSON { status.json }

    var text: String {
        """
        \(status.text)

        \(Product.name) help      what you can do
        \(Product.name) doctor    whether all is well, and what to do next
        """
    }
}
