import Glibc
import Jobs

@main
struct Main {
    static func main() {
        let arguments = CommandLine.arguments
        // A job's runner: one for each running job, so nothing else is loaded or started for it.
        if arguments.count == 3, arguments[1] == "run-job" { exit(Runner.main(directory: arguments[2])) }
    }
}
