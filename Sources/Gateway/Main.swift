import Appliance
import Glibc
import Jobs
import Platform

/// `llm-gateway`.
///
/// 1. A job runner is dispatched before anything is loaded: it must be small and quick to start.
/// 2. Signals that end the service are blocked before there are threads; the main thread then waits for them.
/// 3. Everything else happens in tasks.
@main
struct Main {
    static func main() {
        let arguments = CommandLine.arguments.dropFirst()
        Files.keepOwnAccess()
        if arguments.first == "run-job", arguments.count == 2, let directory = arguments.last {
            exit(Runner.main(directory: directory))
        }
        Terminal.fillStandardDescriptors()
        Processes.heedChildren()
        WorkerPool.takeOver()
        var environment = Machine.currentEnvironment()
        do throws(GatewayError) {
            switch try GatewayArguments(Array(arguments), environment: environment) {
            case .version: print(Product.version)
            case .help: print(GatewayArguments.helpText, terminator: "")
            case .doctor: try ManagerHandover.run(["doctor", "--json"])
            case .serve(let transport):
                let sockets = ServiceNotification.takeSockets(environment: &environment)
                let stop = StopSignal()
                let variables = environment
                wait(for: stop) { () throws(GatewayError) in
                    let process = try GatewayProcess(environment: variables, sockets: sockets)
                    try await process.serve(transport, until: stop)
                }
            }
        } catch {
            fail(error)
        }
    }

    /// Runs a task to its end while this thread waits for SIGTERM, SIGINT and SIGHUP, and ends the process.
    private static func wait(
        for stop: StopSignal,
        _ body: @escaping @Sendable () async throws(GatewayError) -> Void
    ) -> Never {
        var signals = sigset_t()
        sigemptyset(&signals)
        for signal in [SIGTERM, SIGINT, SIGHUP] { sigaddset(&signals, signal) }
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        // A client that closes its end must not end the gateway.
        signal(SIGPIPE, SIG_IGN)
        Task.detached {
            do throws(GatewayError) {
                try await body()
                exit(0)
            } catch {
                fail(error)
            }
        }
        while true {
            var number: Int32 = 0
            if sigwait(&signals, &number) == 0 { stop.raise(number) }
        }
    }

    private static func fail(_ error: GatewayError) -> Never {
        Terminal.standard.writeError("llm-gateway: \(error)\n" + (error.help.map { "help: \($0)\n" } ?? ""))
        exit(error.exitCode.rawValue)
    }
}
