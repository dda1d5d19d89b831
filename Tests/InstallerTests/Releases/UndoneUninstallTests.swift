import Appliance
import Glibc
import Platform
import Synchronization
import TestSupport
import Testing

@testable import Installer

@Suite("Undoing an uninstall")
struct UndoneUninstallTests {
    /// A home with a version, under a service that runs, starts with the session, and lingers by our doing.
    private func home() async throws -> (ScratchHome, ScriptedService) {
        let home = try ScratchHome()
        _ = try await home.installation().install(try home.request(try await BundleFixture().tarGzip()))
        var receipt = try Receipt.read(home.layout, files: Files())
        receipt.enabledLinger = true
        try receipt.write(home.layout, files: Files())
        let service = ScriptedService(home.layout, running: true)
        service.state.withLock {
            $0.enabled = ["llm-cli-gateway.service", "llm-cli-gateway.socket"]
            $0.lingers = true
        }
        return (home, service)
    }

    @Test(
        "wherever it ended, the service runs and starts as before, or all of it is gone; the receipt knows who lingers"
    )
    func everyStep() async throws {
        var undone = 0
        var finished = 0
        var step = 0
        while true {
            let (home, service) = try await home()
            let error = await refusal {
                try await home.installation(files: .dying(after: step), service: service).uninstall(
                    purge: false
                )
            }
            if error.code == "nothing-thrown" { break }
            guard Files().exists(home.layout.receipt) else {
                step += 1
                continue
            }
            let (_, notices) = try await home.installation(service: service).repair()
            let receipt = try Receipt.read(home.layout, files: Files())
            let now = service.state.withLock { $0 }
            #expect(receipt.operation == nil)
            #expect(receipt.enabledLinger == now.lingers, "step \(step)")
            if receipt.active != nil {
                undone += 1
                #expect(now.running && now.lingers, "step \(step): \(notices)")
                #expect(now.enabled == ["llm-cli-gateway.service", "llm-cli-gateway.socket"], "step \(step)")
            } else {
                finished += 1
                #expect(!now.running && now.enabled == [] && !now.lingers, "step \(step): \(notices)")
            }
            step += 1
        }
        #expect(undone > 3 && finished > 3)
    }

    @Test("puts back what was there before the first of two that ended early")
    func twice() async throws {
        let (home, service) = try await home()
        for _ in 0..<2 {
            let current = home.layout.current
            let files = Files(before: { (step) throws(GatewayError) in
                if step == .remove(current) { throw GatewayError("killed", "killed") }
            })
            let error = await refusal {
                try await home.installation(files: files, service: service).uninstall(purge: false)
            }
            #expect(error.code == "killed")
            #expect(service.state.withLock { !$0.running && $0.enabled == [] && !$0.lingers })
        }
        let (_, notices) = try await home.installation(service: service).repair()
        #expect(service.state.withLock { $0.running && $0.enabled.count == 2 && $0.lingers })
        #expect(
            notices == [
                "an interrupted uninstall had not come to version 9.9.9, which stays installed; "
                    + "to remove it run 'llm-cli-gateway uninstall'",
                "switched lingering on again", "started the gateway again",
            ]
        )
    }

    @Test("says what could not be put back, and how to do it")
    func refused() async throws {
        let (home, service) = try await home()
        let current = home.layout.current
        let files = Files(before: { (step) throws(GatewayError) in
            if step == .remove(current) { throw GatewayError("killed", "killed") }
        })
        _ = await refusal {
            try await home.installation(files: files, service: service).uninstall(purge: false)
        }
        service.state.withLock { $0.refusal = GatewayError("start-failed", "the gateway did not start") }
        let (_, notices) = try await home.installation(service: service).repair()
        #expect(
            notices.last
                == "the gateway could not be put back into service: the gateway did not start; "
                + "'llm-cli-gateway setup --enable' starts it, now and with every session"
        )
        #expect(try Receipt.read(home.layout, files: Files()).operation == nil)
    }

    @Test("is told how to start by a journal of an older version, which does not say what ran")
    func olderJournal() async throws {
        let (home, service) = try await home()
        var receipt = try Receipt.read(home.layout, files: Files())
        receipt.operation = Receipt.Operation(
            verb: Receipt.Operation.uninstall,
            startedAt: Timestamp(milliseconds: 0)
        )
        try receipt.write(home.layout, files: Files())
        #expect(try Receipt.read(home.layout, files: Files()) == receipt)
        let (_, notices) = try await home.installation(service: service).repair()
        #expect(notices.last == "if the gateway is to run, start it with 'llm-cli-gateway start'")
    }

    @Test("forgets that it switched lingering on when somebody has switched it off")
    func lingering() async throws {
        let (home, service) = try await home()
        service.state.withLock { $0.lingers = false }
        _ = try await home.installation(service: service).repair()
        #expect(try !Receipt.read(home.layout, files: Files()).enabledLinger)
    }

    @Test("writes what the service did into the journal, and reads it again")
    func journal() throws {
        var standing = ServiceStanding()
        standing.enabled = ["llm-cli-gateway.service"]
        standing.active = ["llm-cli-gateway.socket"]
        standing.lingers = true
        #expect(ServiceStanding(standing.json) == standing && !standing.isIdle)
        #expect(ServiceStanding(.null) == nil && ServiceStanding().isIdle)
        var receipt = Receipt()
        receipt.operation = Receipt.Operation(
            verb: Receipt.Operation.uninstall,
            service: standing,
            startedAt: Timestamp(milliseconds: 0)
        )
        #expect(try Receipt(Array(receipt.json.prettyText.utf8)) == receipt)
    }
}

@Suite("Asking while a command is at work")
struct UnderWayTests {
    private func finding(_ session: Session) async -> JSON? {
        let found = await session.run("doctor", "--json").json["findings"]?.array ?? []
        return found.first { $0["code"]?.string?.hasSuffix("-under-way") == true }
            ?? found.first { $0["code"]?.string?.hasSuffix("-interrupted") == true }
    }

    @Test("the doctor tells what is under way from what did not come to its end")
    func doctor() async throws {
        let session = try Session()
        _ = await session.run("setup")
        let layout = session.layout
        var receipt = try Receipt.read(layout, files: Files())
        receipt.installed = [
            Receipt.Installed(
                version: "1.0.0",
                directory: "1.0.0",
                sha256: "",
                manifestSHA256: "",
                trust: .pinnedChecksum,
                source: "",
                installedAt: Timestamp(milliseconds: 0)
            )
        ]
        receipt.operation = Receipt.Operation(verb: "upgrade", startedAt: Timestamp(milliseconds: 0))
        try receipt.write(layout, files: Files())
        let interrupted = await finding(session)
        #expect(interrupted?["code"]?.string == "operation-interrupted")
        #expect(interrupted?["severity"]?.string == "warning")
        #expect(interrupted?["help"]?.string == "run: llm-cli-gateway repair")
        let lock = try FileLock.attempt(
            layout.lock,
            note: "llm-cli-gateway upgrade (process 1234, since now)"
        )
        let underWay = await finding(session)
        #expect(underWay?["code"]?.string == "operation-under-way")
        #expect(underWay?["severity"]?.string == "info")
        #expect(
            underWay?["text"]?.string
                == "llm-cli-gateway upgrade (process 1234, since now) is changing this installation"
        )
        #expect(underWay?["help"]?.isNull == true)
        #expect(
            await session.run("uninstall").json["notices"]?.array
                == [
                    "llm-cli-gateway upgrade (process 1234, since now) is changing this installation, and is waited for"
                ]
        )
        withExtendedLifetime(lock) {}
    }

    @Test("a restore that is under way is not said to be interrupted")
    func restore() async throws {
        let session = try Session()
        _ = await session.run("setup")
        try session.write("{}", session.layout.restoration)
        #expect(await finding(session)?["code"]?.string == "restore-interrupted")
        let lock = try FileLock.attempt(
            session.layout.lock,
            note: "llm-cli-gateway restore (process 7, since now)"
        )
        #expect(await finding(session)?["code"]?.string == "restore-under-way")
        #expect(
            await session.run("status").json["status"]?["notices"]?.array
                == ["llm-cli-gateway restore (process 7, since now) is changing this installation"]
        )
        withExtendedLifetime(lock) {}
    }

    @Test("a rehearsed repair does not offer to undo it")
    func rehearsal() async throws {
        let session = try Session()
        _ = await session.run("setup")
        let lock = try FileLock.attempt(
            session.layout.lock,
            note: "llm-cli-gateway upgrade (process 7, since now)"
        )
        let answer = await session.run("repair", "--dry-run")
        #expect(answer.code == .done && answer.json["steps"]?.array == [])
        #expect(
            answer.json["message"]?.string
                == "llm-cli-gateway upgrade (process 7, since now) is changing this installation; ask again when it has ended."
        )
        withExtendedLifetime(lock) {}
    }
}
