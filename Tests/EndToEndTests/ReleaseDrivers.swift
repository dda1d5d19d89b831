import Testing

@Suite(
    "A built release",
    .serialized,
    .enabled(if: Driver.isProvided, Driver.missing)
)
struct ReleaseDrivers {
    @Test("is packed to the same bytes twice, installs into an empty home, and is refused when it is altered")
    func release() async throws { try await Driver("release.sh").run(within: .seconds(1800)) }

    @Test("gives the same verdict on signatures as the official Sigstore client, whatever is wrong with them")
    func trust() async throws { try await Driver("trust.py").run() }

    @Test("comes from a source that is asked, believed by its signature, and fetched over a bad line")
    func releases() async throws { try await Driver("releases.py").run() }

    @Test("has C code that does on arm64 what it does on x86-64")
    func arm64() async throws { try await Driver("arm64.py").run() }

    @Test("is built for arm64 as well, lies beside the other platform's, and does there what it does here")
    func arm64Release() async throws { try await Driver("arm64_release.py").run(within: .seconds(3600)) }
}
