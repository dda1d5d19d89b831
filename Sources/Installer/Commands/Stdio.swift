import Appliance
import Glibc
import Platform

extension Verb {
    static let stdio = Verb(
        "stdio",
        .connect,
        "be the gateway on standard input and output, for one client",
        details: """
            The command for clients that start their servers themselves. Needs no service;
            ends when standard input ends.
            """,
        style: .text
    ) { call throws(GatewayError) in
        let layout = try call.machine.layout()
        let beside = Layout.join(Files.parent(of: call.machine.executable), "llm-gateway")
        let candidates = [layout.currentGateway, beside]
        guard let program = candidates.first(where: call.machine.files.isExecutable) else {
            throw GatewayError(
                "gateway-missing",
                "no gateway is installed: neither '\(candidates[0])' nor '\(candidates[1])' exists",
                help: "run '\(ReleaseSource.installCommand(call.machine.environment))'"
            )
        }
        throw Replacement.become(program, [program, "--transport=stdio"])
    }
}
