import Appliance
import Platform
import Synchronization
import TestSupport
import Testing

@testable import Installer

@Suite("Rolling back")
struct RollbackTests {
    /// A home with two versions, 2.0.0 in use.
    private func home() async throws -> ScratchHome {
        let home = try ScratchHome()
        for version in ["1.0.0", "2.0.0"] {
            let bytes = try await BundleFixture(version: version).tarGzip()
            _ = try await home.installation().install(try home.request(bytes))
        }
        return home
    }

    @Test("uses the version before, and a second time the one after it again")
    func thereAndBack() async throws {
        let home = try await home()
        let service = ScriptedService(home.layout, running: true)
        let report = try await home.installation(service: service).rollback(to: nil)
        #expect(try await home.runs() == "1.0.0")
        #expect(report.json["from_version"]?.string == "2.0.0" && report.json["version"]?.string == "1.0.0")
        #expect(report.changed && report.restarted && report.kept == ["1.0.0", "2.0.0"])
        #expect(report.text.hasPrefix("version 1.0.0 is in use again, in place of 2.0.0"))
        #expect(try await home.installation(service: service).rollback(to: nil).kept == ["2.0.0", "1.0.0"])
        #expect(try await home.runs() == "2.0.0")
        #expect(service.state.withLock { $0.restartedWith } == ["1.0.0", "2.0.0"])
        #expect(try home.installation().repairPlan().isEmpty)
    }

    @Test("takes a version by name, and leaves the one in use as it is")
    func named() async throws {
        let home = try await home()
        let service = ScriptedService(home.layout, running: true)
        let same = try await home.installation(service: service).rollback(to: "2.0.0")
        #expect(!same.changed && !same.restarted)
        #expect(same.text == "version 2.0.0 is in use already")
        #expect(service.state.withLock { $0.restartedWith } == [])
        #expect(try await home.installation().rollback(to: "v1.0.0").changed)
        #expect(try await home.runs() == "1.0.0")
    }

    @Test("says with --dry-run what it would do, and does nothing")
    func dry() async throws {
        let home = try await home()
        let before = try home.tree()
        let plan = try await home.installation(service: ScriptedService(home.layout, running: true))
            .rollbackPlan(to: nil)
        #expect(
            plan.text == """
                version 1.0.0 would be used in place of 2.0.0
                the running gateway would be restarted
                """
        )
        #expect(plan.json["dry_run"]?.bool == true)
        #expect(try home.tree() == before)
        #expect(try await home.runs() == "2.0.0")
    }

    @Test("refuses what is not kept, and lists what is")
    func notKept() async throws {
        let home = try await home()
        let error = await refusal { try await home.installation().rollback(to: "3.0.0") }
        #expect(error.code == "version-not-kept" && error.exitCode == .usage)
        #expect(error.message == "version '3.0.0' is not kept; kept: 2.0.0 (in use), 1.0.0")
    }

    @Test("says that there is nothing to go back to")
    func nothingBefore() async throws {
        let home = try ScratchHome()
        var error = await refusal { try await home.installation().rollback(to: nil) }
        #expect(error.code == "no-earlier-version")
        #expect(error.message == "no version is installed, so there is none to go back to")
        #expect(!Files().exists(home.layout.home), "nothing is made for that")
        _ = try await home.installation().install(
            try home.request(try await BundleFixture(version: "1.0.0").tarGzip())
        )
        error = await refusal { try await home.installation().rollback(to: nil) }
        #expect(error.message == "only version 1.0.0 is kept, so there is none to go back to")
    }

    @Test("goes forward again when the older version is not healthy")
    func unhealthy() async throws {
        let home = try await home()
        let service = ScriptedService(home.layout, running: true, healthy: ["2.0.0"])
        let error = await refusal { try await home.installation(service: service).rollback(to: nil) }
        #expect(error.code == "unhealthy-version")
        #expect(error.message == "version 1.0.0 did not work, so '2.0.0' is in use again")
        #expect(service.state.withLock { $0.restartedWith } == ["1.0.0", "2.0.0"])
        #expect(try await home.runs() == "2.0.0")
        #expect(try Files().list(home.layout.versions) == ["1.0.0", "2.0.0"])
        #expect(try home.installation().repairPlan().isEmpty)
    }

    @Test("refuses a damaged version, and says what is wrong with it")
    func damaged() async throws {
        let home = try await home()
        try Files().removeFile(home.layout.version("1.0.0") + "/setup/ui/index.html")
        let error = await refusal { try await home.installation().rollback(to: nil) }
        #expect(error.code == "version-damaged" && error.exitCode == .verificationRefused)
        #expect(error.message == "version 1.0.0 is damaged: 'setup/ui/index.html' is missing")
        #expect(error.help == "run: llm-cli-gateway repair")
        #expect(try await home.runs() == "2.0.0")
    }
}

@Suite("Restarting only what changed")
struct RestartTests {
    @Test("leaves a running gateway alone when nothing has changed, and restarts it when its environment has")
    func unchanged() async throws {
        let home = try ScratchHome()
        let service = ScriptedService(home.layout, running: true)
        let request = try home.request(try await BundleFixture().tarGzip())
        #expect(try await home.installation(service: service).install(request).restarted)
        #expect(try await !home.installation(service: service).install(request).restarted)
        service.state.withLock { $0.environment = "KEY=other" }
        let third = try await home.installation(service: service).install(request)
        #expect(third.restarted && !third.changed)
        #expect(try await !home.installation(service: service).install(request).restarted)
        #expect(service.state.withLock { $0.restartedWith } == ["9.9.9", "9.9.9"])
    }

    @Test("restarts after every interruption between the switch and the word of health")
    func interrupted() async throws {
        let home = try ScratchHome()
        let service = ScriptedService(home.layout, running: true)
        let request = try home.request(try await BundleFixture().tarGzip())
        _ = try await home.installation(service: service).install(request)
        var receipt = try Receipt.read(home.layout, files: Files())
        receipt.startedWith = nil
        receipt.operation = Receipt.Operation(
            verb: "rollback",
            installing: receipt.installed[0],
            previous: "9.9.9",
            startedAt: Timestamp(milliseconds: 0)
        )
        try receipt.write(home.layout, files: Files())
        let (_, notices) = try await home.installation(service: service).repair()
        #expect(notices == ["finished an interrupted rollback of version 9.9.9"])
        #expect(service.state.withLock { $0.restartedWith } == ["9.9.9", "9.9.9"])
    }
}
