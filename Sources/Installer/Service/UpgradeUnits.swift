import Appliance

/// The text of the units for automatic upgrades: pure, the same input gives the same bytes.
enum UpgradeUnits {
    /// Service and timer, in the order in which they are written.
    static func all(_ layout: Layout) -> [UnitFiles.Unit] { [service(layout), timer(layout)] }

    private static func service(_ layout: Layout) -> UnitFiles.Unit {
        let name = layout.upgradeUnitName
        let quoted = UnitFiles.quoted
        return UnitFiles.Unit(
            name: "\(name).service",
            text: """
                # Written by \(Product.name). Your own settings belong in \(name).service.d/*.conf, which is never touched.
                [Unit]
                Description=Upgrade of the gateway for AI coding CLIs
                # Without the network, and beside another command at work, it is tried again; four times in six hours.
                StartLimitIntervalSec=6h
                StartLimitBurst=4

                [Service]
                Type=oneshot
                ExecStart=\(quoted(layout.currentManager)) upgrade --auto-run --text
                Environment=\(quoted("LLM_GATEWAY_HOME=\(layout.home)"))
                \(UnitFiles.configurationLine(layout))# A proxy is named there, as for the gateway itself.
                EnvironmentFile=-\(UnitFiles.literal(layout.environmentFile))
                SyslogIdentifier=\(name)
                Restart=on-failure
                # Only 4 (busy) and 5 (network) may end otherwise by themselves.
                RestartPreventExitStatus=1 2 3 70
                RestartSec=20min
                # A large bundle over a thin line.
                TimeoutStartSec=2h
                # A gateway without systemd that it started anew is not its to end.
                KillMode=process
                Nice=10

                """
        )
    }

    private static func timer(_ layout: Layout) -> UnitFiles.Unit {
        let name = layout.upgradeUnitName
        return UnitFiles.Unit(
            name: "\(name).timer",
            text: """
                # Written by \(Product.name). Your own settings belong in \(name).timer.d/*.conf, which is never touched.
                [Unit]
                Description=Daily upgrade of the gateway for AI coding CLIs

                [Timer]
                OnCalendar=daily
                # Each machine at another time of the night and the morning, so that releases are not fetched by all at once.
                RandomizedDelaySec=8h
                # What was missed is made up for when the machine runs again.
                Persistent=true

                [Install]
                WantedBy=timers.target

                """
        )
    }
}
