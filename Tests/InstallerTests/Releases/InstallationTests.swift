import Appliance
import Glibc
import Platform
import Synchronization
import TestSupport
import Testing

@testable import Installer

@Suite("Installing a bundle")
struct InstallationTests {
    @Test("leaves a runnable version, a link, a receipt, and nothing else")
    func installs() async throws {
        let home = try ScratchHome()
        let bytes = try await BundleFixture().tarGzip()
        let report = try await home.installation().install(try home.request(bytes))
        #expect(try await home.runs() == "9.9.9")
        #expect(report.changed)
        #expect(report.notices.isEmpty)
        let json = report.json
        #expect(json["ok"]?.bool == true)
        #expect(json["gateway_dir"]?.string == home.layout.version("9.9.9"))
        #expect(json["sha256"]?.string == SHA256.hex(bytes))
        #expect(json["bundle"]?.string == "file://\(home.scratch.path("bundle.tar.gz"))")
        #expect(json["bundle_source"]?.string == "flags")
        #expect(json["bundle_version"]?.string == "9.9.9")
        #expect(Files().destination(ofLink: home.layout.commandLink) == home.layout.currentManager)
        let receipt = try Receipt.read(home.layout, files: Files())
        #expect(receipt.operation == nil)
        #expect(receipt.active?.version == "9.9.9")
        #expect(receipt.active?.trust == .pinnedChecksum)
        #expect(receipt.entry(home.layout.commandLink)?.kind == .link)
        #expect(receipt.entry(home.layout.home)?.kind == .directory)
        #expect(receipt.entry(home.scratch.path("home/.local"))?.kind == .directory)
        #expect(try Files().list(home.layout.staging).isEmpty)
        #expect(try Files().list(home.layout.cache).isEmpty)
        #expect(try Files().status(home.layout.home)?.mode == 0o700)
        #expect(try Files().status(home.layout.receipt)?.mode == 0o600)
    }

    @Test("does nothing when the same bundle is in use and intact, and installs it again when it is not")
    func repeated() async throws {
        let home = try ScratchHome()
        let request = try home.request(try await BundleFixture().tarGzip())
        _ = try await home.installation().install(request)
        let second = try await home.installation().install(request)
        #expect(!second.changed)
        try Files().write([1], to: home.layout.version("9.9.9") + "/lib/libexample.so.1", mode: 0o644)
        let third = try await home.installation().install(request)
        #expect(third.changed)
        #expect(third.installed.directory == "9.9.9.r2")
        #expect(try await home.runs() == "9.9.9")
    }

    @Test("keeps two versions and removes older ones")
    func keepsTwo() async throws {
        let home = try ScratchHome()
        for version in ["1.0.0", "1.1.0", "1.2.0"] {
            let bytes = try await BundleFixture(version: version).tarGzip()
            _ = try await home.installation().install(try home.request(bytes))
        }
        #expect(try Files().list(home.layout.versions) == ["1.1.0", "1.2.0"])
        #expect(try Receipt.read(home.layout, files: Files()).installed.map(\.version) == ["1.2.0", "1.1.0"])
    }

    @Test("prints both digests and removes everything when the digest is wrong")
    func wrongDigest() async throws {
        let home = try ScratchHome()
        let bytes = try await BundleFixture().tarGzip()
        let wrong = String(repeating: "0", count: 64)
        let error = await refusal {
            try await home.installation().install(try home.request(bytes, sha256: wrong))
        }
        #expect(error.code == "digest-mismatch")
        #expect(error.message.contains(wrong))
        #expect(error.message.contains(SHA256.hex(bytes)))
        #expect(error.exitCode == .verificationRefused)
        // The bundle is the user's own file.
        #expect(
            error.help
                == "nothing was installed, and the file itself was left as it is; check the address and the digest, and do not use this file"
        )
        #expect(try Files().list(home.layout.staging).isEmpty)
        #expect(try Files().list(home.layout.versions).isEmpty)
        #expect(!Files().exists(home.layout.current))
        #expect(try Receipt.read(home.layout, files: Files()).operation == nil)
    }

    @Test("refuses a bundle whose programs do not start or say another version")
    func smokeTest() async throws {
        let home = try ScratchHome()
        var bytes = try await BundleFixture(says: "8.8.8").tarGzip()
        var error = await refusal { [bytes] in try await home.installation().install(try home.request(bytes))
        }
        #expect(error.code == "smoke-test-failed")
        #expect(error.message.contains("'program 8.8.8', expected version 9.9.9"))
        var fixture = BundleFixture()
        fixture.files[1].content = Array(
            "#!/bin/sh\necho \"version 'GLIBC_2.99' not found\" >&2; exit 1\n".utf8
        )
        bytes = try await fixture.tarGzip()
        error = await refusal { [bytes] in try await home.installation().install(try home.request(bytes)) }
        #expect(error.message.contains("ended with status 1: version 'GLIBC_2.99' not found"))
        #expect(error.help?.contains("C library is older") == true)
        #expect(try Files().list(home.layout.versions).isEmpty)
    }

    @Test("restarts a running service on the new version and waits for its health")
    func restarts() async throws {
        let home = try ScratchHome()
        let service = ScriptedService(home.layout, running: true)
        let report = try await home.installation(service: service).install(
            try home.request(try await BundleFixture().tarGzip())
        )
        #expect(report.restarted)
        #expect(service.state.withLock { $0.restartedWith } == ["9.9.9"])
    }

    @Test("goes back to the version before when the new one is not healthy, and says why")
    func unhealthy() async throws {
        let home = try ScratchHome()
        _ = try await home.installation().install(
            try home.request(try await BundleFixture(version: "1.0.0").tarGzip())
        )
        let service = ScriptedService(home.layout, running: true, healthy: ["1.0.0"])
        let bytes = try await BundleFixture(version: "2.0.0").tarGzip()
        let error = await refusal {
            try await home.installation(service: service).install(try home.request(bytes))
        }
        #expect(error.code == "unhealthy-version")
        #expect(error.message == "version 2.0.0 did not work, so '1.0.0' is in use again")
        #expect(error.cause?.contains("did not answer within 30 s") == true)
        #expect(service.state.withLock { $0.restartedWith } == ["2.0.0", "1.0.0"])
        #expect(try await home.runs() == "1.0.0")
        #expect(try Files().list(home.layout.versions) == ["1.0.0"])
        #expect(try Receipt.read(home.layout, files: Files()).operation == nil)
    }

    @Test("starts the version before again where the new one has ended for good")
    func failedForGood() async throws {
        let home = try ScratchHome()
        _ = try await home.installation().install(
            try home.request(try await BundleFixture(version: "1.0.0").tarGzip())
        )
        let service = ScriptedService(home.layout, running: true, healthy: ["1.0.0"])
        service.state.withLock { $0.fails = true }
        let bytes = try await BundleFixture(version: "2.0.0").tarGzip()
        let error = await refusal {
            try await home.installation(service: service).install(try home.request(bytes))
        }
        #expect(error.message == "version 2.0.0 did not work, so '1.0.0' is in use again")
        #expect(service.state.withLock { $0.restartedWith } == ["2.0.0", "1.0.0"])
        #expect(service.state.withLock { $0.running })
    }

    @Test("refuses before anything is switched when the running gateway could not be replaced by any version")
    func irreplaceable() async throws {
        let home = try ScratchHome()
        _ = try await home.installation().install(
            try home.request(try await BundleFixture(version: "1.0.0").tarGzip())
        )
        let service = ScriptedService(home.layout, running: true)
        service.state.withLock { $0.obstacle = GatewayError("unit-invalid", "the unit is broken") }
        let bytes = try await BundleFixture(version: "2.0.0").tarGzip()
        let error = await refusal {
            try await home.installation(service: service).install(try home.request(bytes))
        }
        #expect(error.code == "unit-invalid")
        #expect(InstalledVersions.current(home.layout, files: Files()) == "1.0.0")
        #expect(service.state.withLock { $0.restartedWith }.isEmpty)
        #expect(try Receipt.read(home.layout, files: Files()).operation == nil)
    }

    @Test("leaves a command that is not ours alone and says so")
    func foreignCommand() async throws {
        let home = try ScratchHome()
        try Files().makeDirectory(Files.parent(of: home.layout.commandLink))
        try Files().write(Array("mine".utf8), to: home.layout.commandLink)
        let report = try await home.installation().install(
            try home.request(try await BundleFixture().tarGzip())
        )
        #expect(try Files().readText(home.layout.commandLink) == "mine")
        #expect(report.notices.count == 1)
        #expect(report.notices[0].contains("is not from this program and was left alone"))
        #expect(report.notices[0].contains(home.layout.currentManager))
    }

    @Test("tells how to add the folder of the command to the PATH when it is not there")
    func pathLine() async throws {
        var home = try ScratchHome()
        home.environment["PATH"] = "/usr/bin"
        let report = try await home.installation().install(
            try home.request(try await BundleFixture().tarGzip())
        )
        #expect(
            report.notices == [
                "'\(home.scratch.path("home/.local/bin"))' is not on your PATH; add it with: export PATH=\"\(home.scratch.path("home/.local/bin")):$PATH\""
            ]
        )
    }

    @Test("refuses an older version when downgrades are not allowed")
    func downgrade() async throws {
        let home = try ScratchHome()
        _ = try await home.installation().install(
            try home.request(try await BundleFixture(version: "2.0.0").tarGzip())
        )
        let bytes = try await BundleFixture(version: "2.0.0-rc.1").tarGzip()
        let error = await refusal {
            try await home.installation().install(
                try home.request(bytes),
                .init(verb: "upgrade", allowsDowngrade: false)
            )
        }
        #expect(error.code == "downgrade-refused")
        #expect(try await home.runs() == "2.0.0")
    }

    @Test("keeps a damaged receipt aside and begins it anew from what is installed")
    func damagedReceipt() async throws {
        let home = try ScratchHome()
        _ = try await home.installation().install(
            try home.request(try await BundleFixture(version: "1.0.0").tarGzip())
        )
        try Files().write(Array("{half".utf8), to: home.layout.receipt)
        let report = try await home.installation().install(
            try home.request(try await BundleFixture(version: "1.1.0").tarGzip())
        )
        #expect(report.notices.count == 1)
        #expect(report.notices[0].contains("could not be read"))
        let aside = try Files().list(home.layout.home).filter { $0.hasPrefix("receipt.json.damaged-") }
        #expect(aside.count == 1)
        #expect(try Files().readText(Layout.join(home.layout.home, aside.first ?? "")) == "{half")
        #expect(report.previousVersion == "1.0.0")
    }

    @Test("refuses to touch a receipt of a newer program")
    func newerReceipt() async throws {
        let home = try ScratchHome()
        try Files().makeDirectory(home.layout.home)
        try Files().write(Array(#"{"schemaVersion": 99}"#.utf8), to: home.layout.receipt)
        let bytes = try await BundleFixture().tarGzip()
        let error = await refusal { try await home.installation().install(try home.request(bytes)) }
        #expect(error.code == "receipt-too-new")
        #expect(try Files().readText(home.layout.receipt) == #"{"schemaVersion": 99}"#)
    }

    @Test("says plainly that the home cannot be written")
    func unwritableHome() async throws {
        var home = try ScratchHome()
        // Nobody, root included, may make a directory there.
        home.environment["LLM_GATEWAY_HOME"] = "/sys/llm-gateway"
        home.layout = try Layout(environment: home.environment)
        let bytes = try await BundleFixture().tarGzip()
        let error = await refusal { [home] in try await home.installation().install(try home.request(bytes)) }
        #expect(error.code == "permission-denied")
        #expect(error.message.contains("'/sys/llm-gateway'"))
    }

    @Test("leaves the old version in use when the disk is full, whichever write sees it")
    func diskFull() async throws {
        let home = try ScratchHome()
        _ = try await home.installation().install(
            try home.request(try await BundleFixture(version: "1.0.0").tarGzip())
        )
        let request = try home.request(try await BundleFixture(version: "2.0.0").tarGzip())
        var tried = 0
        while true {
            let left = Mutex(tried)
            let full = Files(before: { (step) throws(GatewayError) in
                guard case .write(let path) = step else { return }
                let isReached = left.withLock { left in
                    left -= 1
                    return left == -1
                }
                if isReached { throw Files.failure("write", path, ENOSPC) }
            })
            let result = await refusal { try await home.installation(files: full).install(request) }
            if result.code == "nothing-thrown" { break }
            #expect(result.code == "disk-full", "write \(tried): \(result)")
            // Only the last write comes after the switch, and its error says so.
            let isSwitched = result.message.contains("version 2.0.0 is in use")
            #expect(try await home.runs() == (isSwitched ? "2.0.0" : "1.0.0"), "write \(tried)")
            tried += 1
        }
        #expect(tried >= 7)
        #expect(try await home.runs() == "2.0.0")
    }
}

@Suite("Recovering from an interrupted installation")
struct RecoveryTests {
    @Test(
        "after a death at any step, the old or the new version works, and the next command leaves nothing behind"
    )
    func everyStep() async throws {
        let first = try await BundleFixture(version: "1.0.0").tarGzip()
        let second = try await BundleFixture(version: "2.0.0").tarGzip()
        var step = 0
        var survivors: Set<String> = []
        while true {
            let home = try ScratchHome()
            _ = try await home.installation().install(try home.request(first))
            let request = try home.request(second)
            let error = await refusal {
                try await home.installation(files: .dying(after: step)).install(request)
            }
            let version = try await home.runs()
            #expect(["1.0.0", "2.0.0"].contains(version), "step \(step)")
            if error.code == "nothing-thrown" { break }
            survivors.insert(version)
            let repaired = try await home.installation().repair()
            #expect(try await home.runs() == version, "step \(step)")
            #expect(try home.installation().repairPlan().isEmpty, "step \(step): \(repaired)")
            #expect(try Files().list(home.layout.staging).isEmpty)
            #expect(try Receipt.read(home.layout, files: Files()).active?.version == version, "step \(step)")
            let report = try await home.installation().install(request)
            #expect(report.installed.version == "2.0.0")
            #expect(try await home.runs() == "2.0.0")
            #expect(try Files().list(home.layout.versions).count == 2, "step \(step)")
            step += 1
        }
        #expect(survivors == ["1.0.0", "2.0.0"])
        print("died at \(step) steps")
        #expect(step > 20)
    }

    @Test("finishes a switched version only when it is healthy")
    func unhealthyAfterDeath() async throws {
        let home = try ScratchHome()
        _ = try await home.installation().install(
            try home.request(try await BundleFixture(version: "1.0.0").tarGzip())
        )
        _ = try await home.installation().install(
            try home.request(try await BundleFixture(version: "2.0.0").tarGzip())
        )
        // As if the second install had died right after switching.
        var receipt = try Receipt.read(home.layout, files: Files())
        let new = try #require(receipt.installed.first)
        receipt.installed.removeFirst()
        receipt.operation = Receipt.Operation(
            verb: "upgrade",
            staging: Layout.join(home.layout.staging, "0123"),
            installing: new,
            previous: "1.0.0",
            startedAt: Timestamp(milliseconds: 0)
        )
        try receipt.write(home.layout, files: Files())
        let service = ScriptedService(home.layout, running: true, healthy: ["1.0.0"])
        let error = await refusal { try await home.installation(service: service).repair() }
        #expect(error.code == "unhealthy-version")
        #expect(try await home.runs() == "1.0.0")
        #expect(try Receipt.read(home.layout, files: Files()).operation == nil)
    }

    @Test(
        "undoes an interrupted upgrade whose version has ended for good, and starts nothing that somebody stopped",
        arguments: [true, false]
    )
    func interruptedAndFailed(_ hasFailed: Bool) async throws {
        let home = try ScratchHome()
        for version in ["1.0.0", "2.0.0"] {
            _ = try await home.installation().install(
                try home.request(try await BundleFixture(version: version).tarGzip())
            )
        }
        // As if the second install had died while it waited for the gateway that it had restarted.
        var receipt = try Receipt.read(home.layout, files: Files())
        var operation = Receipt.Operation(verb: "upgrade", startedAt: Timestamp(milliseconds: 0))
        operation.installing = receipt.installed.removeFirst()
        operation.previous = "1.0.0"
        operation.replaces = true
        receipt.operation = operation
        receipt.startedWith = nil
        try receipt.write(home.layout, files: Files())
        let service = ScriptedService(home.layout, running: false, healthy: ["1.0.0"])
        service.state.withLock { ($0.fails, $0.hasFailed) = (true, hasFailed) }
        guard hasFailed else {
            _ = try await home.installation(service: service).repair()
            #expect(service.state.withLock { $0.restartedWith }.isEmpty)
            return
        }
        let error = await refusal { try await home.installation(service: service).repair() }
        #expect(error.code == "unhealthy-version")
        #expect(service.state.withLock { $0.restartedWith } == ["2.0.0", "1.0.0"])
        #expect(try await home.runs() == "1.0.0")
    }

    @Test("does not remove a directory that a forged journal names")
    func forgedJournal() async throws {
        let home = try ScratchHome()
        try Files().makeDirectory(home.scratch.path("precious/inside"))
        var receipt = Receipt()
        receipt.operation = Receipt.Operation(
            verb: "upgrade",
            staging: home.scratch.path("precious"),
            startedAt: Timestamp(milliseconds: 0)
        )
        try Files().makeDirectory(home.layout.home)
        try receipt.write(home.layout, files: Files())
        _ = try await home.installation().repair()
        #expect(Files().exists(home.scratch.path("precious/inside")))
    }
}

@Suite("Waiting for the lock")
struct MutationLockTests {
    /// A machine that says when it waits: who waits sets an alarm, and that only after the lock was refused.
    private func waiting(_ machine: Machine) -> (machine: Machine, waits: Gate) {
        let waits = Gate()
        var other = machine
        other.clock.sleep = { [sleep = machine.clock.sleep] duration in
            waits.open()
            try await sleep(duration)
        }
        return (other, waits)
    }

    private func acquire(
        _ verb: String,
        _ home: ScratchHome,
        _ machine: Machine
    ) async throws(GatewayError) -> FileLock {
        try await MutationLock.acquire(home.layout, verb: verb, machine: machine, say: { _ in })
    }

    @Test("says for whom it waits, and gives up as busy")
    func busy() async throws {
        let home = try ScratchHome()
        let machine = try home.machine()
        let held = try await acquire("upgrade", home, machine)
        let said = Mutex<[String]>([])
        let error = await refusal {
            try await MutationLock.acquire(
                home.layout,
                verb: "repair",
                machine: machine,
                limit: .milliseconds(1500),
                say: { text in said.withLock { $0.append(text) } }
            )
        }
        #expect(error.code == "busy")
        #expect(error.exitCode == .busy)
        let holder = "llm-cli-gateway upgrade (process \(getpid()), since 20"
        #expect(error.message.hasPrefix("waited 1 s for \(holder)"))
        #expect(error.message.hasSuffix("Z), which is still changing this installation"))
        let words = said.withLock { $0 }
        #expect(words.count == 1)
        #expect(words[0].hasPrefix("waiting for \(holder)"))
        #expect(words[0].hasSuffix("Z), which is changing this installation"))
        withExtendedLifetime(held) {}
    }

    @Test("goes on as soon as the lock is free")
    func handsOver() async throws {
        let home = try ScratchHome()
        let machine = try home.machine()
        var held: FileLock? = try await acquire("upgrade", home, machine)
        #expect(held != nil)
        let (other, waits) = waiting(machine)
        async let second = acquire("repair", home, other)
        await waits.wait()
        held = nil
        _ = try await second
        #expect(try Files().readText(home.layout.lock).contains("repair"))
    }

    @Test("is not taken on a file that the holder before has removed")
    func removedLock() async throws {
        let home = try ScratchHome()
        let machine = try home.machine()
        var held: FileLock? = try await acquire("uninstall", home, machine)
        #expect(held != nil)
        let (other, waits) = waiting(machine)
        async let second = MutationLock.take(home.layout, verb: "setup", machine: other, say: { _ in })
        await waits.wait()
        // In one step, so that the one that waits finds the home or none.
        try Files().rename(home.layout.home, to: home.scratch.path("gone"))
        held = nil
        let (lock, madeHome) = try await second
        #expect(madeHome)
        #expect(try Files().readText(home.layout.lock).contains("setup"))
        #expect(try FileLock.attempt(home.layout.lock) == nil)
        withExtendedLifetime(lock) {}
    }

    @Test("makes no home anew for what only means something in the one that was there")
    func goneHome() async throws {
        let home = try ScratchHome()
        let machine = try home.machine()
        var held: FileLock? = try await acquire("uninstall", home, machine)
        #expect(held != nil)
        let (other, waits) = waiting(machine)
        let layout = home.layout
        async let second = refusal {
            try await MutationLock.acquire(
                layout,
                verb: "restore",
                machine: other,
                makesHome: false,
                say: { _ in }
            )
        }
        await waits.wait()
        try Files().rename(home.layout.home, to: home.scratch.path("gone"))
        held = nil
        #expect(await second.message == "'\(home.layout.home)' does not exist")
        #expect(!Files().exists(home.layout.home))
    }

    @Test("lets one of several installations work, and all end truthfully")
    func concurrent() async throws {
        let home = try ScratchHome()
        let request = try home.request(try await BundleFixture().tarGzip())
        let changed = try await withThrowingTaskGroup(of: Bool.self) { group in
            for _ in 0..<8 { group.addTask { try await home.installation().install(request).changed } }
            return try await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
        #expect(changed == 1)
        #expect(try Files().list(home.layout.versions) == ["9.9.9"])
    }
}
