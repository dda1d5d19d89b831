package import Appliance
import CShims
import Glibc

/// The world, passed in: built once in `main` and handed down, so that nothing else reaches for it.
package struct Machine: Sendable {
    /// The environment variables of this process.
    package var environment: [String: String]
    /// The disk.
    package var files: Files
    /// Wall time, uptime and sleeping.
    package var clock: WallClock
    /// Random bytes and UUIDs of the kernel.
    package var random: Randomness
    /// Waits for descriptors and timers, on one epoll thread.
    package var reactor: Reactor
    /// Starts programs, on this machine's clock and reactor.
    package var processes: Processes
    /// Standard input, output and error, as commands use them.
    package var terminal: Terminal

    /// A world from its parts.
    package init(
        environment: [String: String],
        files: Files,
        clock: WallClock,
        random: Randomness,
        reactor: Reactor,
        terminal: Terminal
    ) {
        self.environment = environment
        self.files = files
        self.clock = clock
        self.random = random
        self.reactor = reactor
        processes = Processes(clock: clock, reactor: reactor)
        self.terminal = terminal
    }

    /// This process and this computer.
    package static func real() throws(GatewayError) -> Machine {
        let reactor = try Reactor()
        var clock = WallClock.system
        clock.sleep = { if !(await reactor.sleep($0)) { throw CancellationError() } }
        return Machine(
            environment: currentEnvironment(),
            files: Files(),
            clock: clock,
            random: .system,
            reactor: reactor,
            terminal: .standard
        )
    }

    /// The layout of the appliance in this environment.
    package func layout() throws(GatewayError) -> Layout {
        try Layout(environment: environment).asInstalled(files: files)
    }

    /// The absolute path of the running program, symlinks resolved.
    package var executable: String { files.destination(ofLink: "/proc/self/exe") ?? "" }

    /// Reads `environ`; a name that occurs twice keeps its first value, as getenv(3) does.
    package static func currentEnvironment() -> [String: String] {
        var result: [String: String] = [:]
        var entry = environ
        while let line = entry.pointee {
            let pair = String(cString: line).split(
                separator: "=",
                maxSplits: 1,
                omittingEmptySubsequences: false
            )
            if pair.count == 2, result[String(pair[0])] == nil { result[String(pair[0])] = String(pair[1]) }
            entry += 1
        }
        return result
    }
}
