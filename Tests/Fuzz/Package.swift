// swift-tools-version: 6.2
import PackageDescription

// The parsers of outside data, built with AddressSanitizer around libFuzzer; `Tests/Fuzz/run` builds and runs it.
//
// `Sources` is the product's own folder. To fuzz a parser of another file: add the file to `parsers`, and an entry to
// `Harness/Parsers.swift`.

/// What of the installer is built: files and folders below `Sources/Installer`.
let parsers = [
    "Trust", "Releases/ArchiveReader.swift", "Releases/BundleManifest.swift", "Releases/BundleRequest.swift",
    "Releases/EntryRules.swift", "Releases/Handoff.swift", "Releases/HomeOrigin.swift",
    "Releases/InstalledVersions.swift", "Releases/PlaceOwner.swift",
    "Releases/Receipt.swift", "Releases/ReleaseIndex.swift", "Releases/ReleaseManifest.swift",
    "Releases/ReleaseSource.swift", "Releases/ServiceStanding.swift", "Releases/StagingTree.swift",
    "Releases/Unpacking.swift", "Service/UnitFiles.swift",
]

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .unsafeFlags(["-sanitize=address,fuzzer", "-enable-testing"]),
]

let package = Package(
    name: "llm-cli-gateway",
    targets: [
        .target(name: "CShims", path: "Sources/C/Shims"),
        .target(name: "CSystemd", path: "Sources/C/Systemd"),
        .systemLibrary(name: "COpenSSL", path: "Sources/C/OpenSSL"),
        .systemLibrary(name: "CArchive", path: "Sources/C/Archive"),
        .target(name: "Appliance", path: "Sources/Appliance", swiftSettings: settings),
        .target(
            name: "Platform",
            dependencies: ["Appliance", "CShims", "CSystemd", "COpenSSL"],
            path: "Sources/Platform",
            swiftSettings: settings
        ),
        .target(
            name: "Installer",
            dependencies: ["Appliance", "Platform", "CArchive", "COpenSSL", "CShims"],
            path: "Sources/Installer",
            sources: parsers,
            resources: [.embedInCode("Resources/trusted_root.json")],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "Harness",
            dependencies: ["Appliance", "Platform", "Installer", "CShims"],
            path: "Harness",
            swiftSettings: settings,
            linkerSettings: [.unsafeFlags(["-sanitize=address,fuzzer", "-use-ld=lld"])]
        ),
    ]
)
