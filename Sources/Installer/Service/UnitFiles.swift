import Appliance

/// The text of our systemd user units: pure, the same input gives the same bytes.
struct UnitFiles: Sendable, Equatable {
    /// One unit file.
    struct Unit: Sendable, Equatable {
        /// `llm-cli-gateway.service`.
        var name: String
        var text: String
    }

    var service: Unit
    var socket: Unit
    var slice: Unit

    /// In the order in which they are written: what others refer to comes first.
    var all: [Unit] { [slice, socket, service] }

    /// The units of a home that listens where the settings say.
    ///
    /// `log` is a file for the gateway's words where the user has no journal of their own.
    init(layout: Layout, settings: Settings, log: String?) {
        let name = layout.unitName
        let quoted = UnitFiles.quoted
        slice = Unit(
            name: "\(name).slice",
            text: """
                # Written by \(Product.name). Your own settings belong in \(name).slice.d/*.conf, which is never touched.
                [Unit]
                Description=The gateway for AI coding CLIs and the jobs it runs
                # It goes with the last of them: each job has a scope of its own in here, beside the service.
                StopWhenUnneeded=yes

                [Slice]
                CPUAccounting=yes
                MemoryAccounting=yes
                TasksAccounting=yes

                """
        )
        socket = Unit(
            name: "\(name).socket",
            text: """
                # Written by \(Product.name). Your own settings belong in \(name).socket.d/*.conf, which is never touched.
                # The socket outlives the service, so that the port never refuses a connection during a restart or an upgrade.
                [Unit]
                Description=The port of the gateway for AI coding CLIs

                [Socket]
                ListenStream=\(settings.listenAddress)
                FileDescriptorName=http
                NoDelay=yes
                Service=\(name).service

                [Install]
                WantedBy=sockets.target

                """
        )
        let output =
            log.map { "StandardOutput=append:\(UnitFiles.literal($0))\nStandardError=inherit\n" }
            ?? "SyslogIdentifier=\(name)\n"
        service = Unit(
            name: "\(name).service",
            text: """
                # Written by \(Product.name). Your own settings belong in \(name).service.d/*.conf, which is never touched.
                [Unit]
                Description=The gateway for AI coding CLIs
                Requires=\(name).socket
                After=\(name).socket
                # Five crashes within a minute end the attempts; `\(Product.name) start` begins anew.
                StartLimitIntervalSec=60
                StartLimitBurst=5

                [Service]
                Type=notify
                NotifyAccess=main
                ExecStart=\(quoted(layout.currentGateway)) --transport=http
                Sockets=\(name).socket
                Slice=\(name).slice
                Environment=\(quoted("LLM_GATEWAY_HOME=\(layout.home)"))
                \(UnitFiles.configurationLine(layout))# Provider keys, and the search path that `setup` recorded: a service has neither.
                EnvironmentFile=-\(UnitFiles.literal(layout.environmentFile))
                \(output)Restart=on-failure
                RestartSec=1
                WatchdogSec=30
                TimeoutStartSec=30
                TimeoutStopSec=20
                # Only the gateway itself gets the signal: the runners of jobs go on, and the next start adopts them.
                KillMode=process
                # A provider CLI that the kernel ends for want of memory is that job's failure, not the gateway's.
                OOMPolicy=continue
                LimitNOFILE=65536
                # Memory holds keys and prompts.
                LimitCORE=0
                # Nothing here narrows what the provider CLIs may do: they work in your projects as your shell would, with
                # its umask. The gateway itself keeps HTTP runs inside the registered workspaces.

                [Install]
                WantedBy=default.target

                """
        )
    }

    /// The text of a unit but for where it listens.
    static func withoutPort(_ text: String) -> [Substring] {
        text.split(separator: "\n", omittingEmptySubsequences: false).filter {
            !$0.hasPrefix("ListenStream=")
        }
    }

    /// The home whose gateway a unit starts; `nil` when its text does not say.
    static func home(in text: String) -> String? {
        for line in text.split(separator: "\n") {
            for start in ["Environment=LLM_GATEWAY_HOME=", "Environment=\"LLM_GATEWAY_HOME="]
            where line.hasPrefix(start) {
                return String(line.dropFirst(start.count)).replacing("\"", with: "").replacing(
                    "%%",
                    with: "%"
                )
            }
        }
        return nil
    }

    static func configurationLine(_ layout: Layout) -> String {
        guard layout.configuration != Layout.join(layout.home, "config.toml") else { return "" }
        return "Environment=" + quoted("LLM_GATEWAY_CONFIG=\(layout.configuration)") + "\n"
    }

    /// Throws `invalid-value` for a home whose programs systemd cannot start: their paths take no quoting
    /// (systemd.service(5), "COMMAND LINES").
    static func check(_ layout: Layout) throws(GatewayError) {
        guard let odd = layout.currentGateway.first(where: { "\"'\\".contains($0) }) else { return }
        throw GatewayError(
            "invalid-value",
            "systemd starts no program whose path contains \(odd), and the home is '\(layout.home)'",
            help:
                "choose another LLM_GATEWAY_HOME, or start without systemd: \(Product.name) start --detached"
        )
    }

    /// A word of a unit file: quoted, escaped as systemd.syntax(7) says, with specifiers off.
    ///
    /// Not for arguments of a command, in which variables would have to be off as well.
    static func quoted(_ word: String) -> String {
        var out = ""
        for scalar in word.unicodeScalars {
            switch scalar {
            case "\\": out += "\\\\"
            case "\"": out += "\\\""
            case "\n": out += "\\n"
            case "\t": out += "\\t"
            case "%": out += "%%"
            default: out.unicodeScalars.append(scalar)
            }
        }
        let isPlain = out.utf8.allSatisfy { $0 > 0x20 && !"'\"\\".utf8.contains($0) }
        return isPlain ? out : "\"\(out)\""
    }

    /// A path that takes the rest of a line: only specifiers are special there.
    static func literal(_ path: String) -> String { path.replacing("%", with: "%%") }
}

/// What writing the unit files comes to: pure, from what is there and what the receipt knows.
struct UnitPlan: Sendable, Equatable {
    /// What becomes of one unit.
    enum Step: Sendable, Equatable {
        /// There is none, or ours in an older form, whose digest that is.
        case write(over: String?)
        /// Ours, as it should be.
        case keep
        /// Changed by somebody else: stays, and is reported.
        case leave
    }

    /// A unit file that is there.
    struct Present: Sendable, Equatable {
        /// The digest of its bytes.
        var sha256: String
        /// Whether the receipt says that this program wrote exactly that.
        var isOurs: Bool
    }

    /// Decides by digests: what we wrote may be replaced, anything else is the user's.
    static func step(wanted sha256: String, present: Present?) -> Step {
        guard let present else { return .write(over: nil) }
        if present.sha256 == sha256 { return .keep }
        return present.isOurs ? .write(over: present.sha256) : .leave
    }
}
