// swift-tools-version: 6.2
import PackageDescription

/// One settings array for every target, so that no room has laxer rules than another.
let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    // https://github.com/swiftlang/swift-evolution/blob/main/proposals/0335-existential-any.md
    .enableUpcomingFeature("ExistentialAny"),
    // https://github.com/swiftlang/swift-evolution/blob/main/proposals/0444-member-import-visibility.md
    .enableUpcomingFeature("MemberImportVisibility"),
    // https://github.com/swiftlang/swift-evolution/blob/main/proposals/0409-access-level-on-imports.md
    .enableUpcomingFeature("InternalImportsByDefault"),
    // https://github.com/swiftlang/swift-evolution/blob/main/proposals/0461-async-function-isolation.md
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .treatAllWarnings(as: .error),
]

/// How the two products are linked.
///
/// A position-dependent program has nothing to relocate when it starts: 47,000 relocations are half of the 2 ms that
/// each job's runner takes to start. The price is a fixed address of the program itself; libraries, stack and heap stay
/// randomised. A release starts at a check of the C library's version (`Sources/C/Shims/entry.c`).
let productLinking: [LinkerSetting] = [
    .unsafeFlags(
        [
            "-Xclang-linker", "-no-pie", "-Xclang-linker", "-static-libgcc", "-Xlinker", "-e", "-Xlinker",
            "shim_entry",
        ],
        .when(configuration: .release)
    )
]

let package = Package(
    name: "llm-cli-gateway",
    products: [
        .executable(name: "llm-cli-gateway", targets: ["Installer"]),
        .executable(name: "llm-gateway", targets: ["Gateway"]),
    ],
    targets: [
        // MARK: the cellar: all C
        .target(name: "CShims", path: "Sources/C/Shims"),
        .target(name: "CSystemd", path: "Sources/C/Systemd"),
        .target(name: "CPostgreSQL", path: "Sources/C/PostgreSQL"),
        .systemLibrary(name: "CSQLite", path: "Sources/C/SQLite", providers: [.apt(["libsqlite3-dev"])]),
        .systemLibrary(name: "CArchive", path: "Sources/C/Archive", providers: [.apt(["libarchive-dev"])]),
        .systemLibrary(name: "COpenSSL", path: "Sources/C/OpenSSL", providers: [.apt(["libssl-dev"])]),

        // MARK: shared rooms
        .target(name: "Appliance", swiftSettings: settings),
        .target(
            name: "Platform",
            dependencies: ["Appliance", "CShims", "CSystemd", "COpenSSL"],
            swiftSettings: settings
        ),
        .target(name: "SQL", dependencies: ["Appliance"], swiftSettings: settings),
        .target(name: "SQLite", dependencies: ["Appliance", "SQL", "CSQLite"], swiftSettings: settings),
        .target(
            name: "PostgreSQL",
            dependencies: ["Appliance", "SQL", "CPostgreSQL"],
            swiftSettings: settings
        ),
        .target(name: "MCP", dependencies: ["Appliance", "Platform", "CShims"], swiftSettings: settings),
        .target(name: "Providers", dependencies: ["Appliance", "Platform"], swiftSettings: settings),
        .target(
            name: "Jobs",
            dependencies: ["Appliance", "Platform", "SQL", "SQLite", "PostgreSQL"],
            swiftSettings: settings
        ),
        .target(
            name: "Doctor",
            dependencies: ["Appliance", "Platform", "Providers", "Jobs"],
            swiftSettings: settings
        ),

        // MARK: products
        .executableTarget(
            name: "Installer",
            dependencies: [
                "Appliance", "Platform", "Doctor", "Providers", "Jobs", "CArchive", "COpenSSL", "CShims",
            ],
            // The public trust root is part of the program, so that no file is needed to believe a release.
            resources: [.embedInCode("Resources/trusted_root.json")],
            swiftSettings: settings,
            linkerSettings: productLinking
        ),
        .executableTarget(
            name: "Gateway",
            dependencies: ["Appliance", "Platform", "MCP", "Providers", "Jobs", "Doctor"],
            swiftSettings: settings,
            linkerSettings: productLinking
        ),

        // MARK: tests
        .target(
            name: "TestSupport",
            dependencies: ["Platform", "Appliance"],
            path: "Tests/Support",
            swiftSettings: settings
        ),
        .testTarget(name: "ApplianceTests", dependencies: ["Appliance"], swiftSettings: settings),
        .testTarget(
            name: "PlatformTests",
            dependencies: ["Platform", "Appliance", "TestSupport"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "SQLiteTests",
            dependencies: ["SQL", "SQLite", "Appliance", "TestSupport"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "MCPTests",
            dependencies: ["MCP", "Platform", "Appliance", "TestSupport"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "ProvidersTests",
            dependencies: ["Providers", "Platform", "Appliance", "TestSupport"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "JobsTests",
            dependencies: ["Jobs", "SQL", "SQLite", "PostgreSQL", "Platform", "Appliance", "TestSupport"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "DoctorTests",
            dependencies: [
                "Doctor", "Providers", "Jobs", "SQL", "SQLite", "Platform", "Appliance", "TestSupport",
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "InstallerTests",
            dependencies: ["Installer", "Platform", "Appliance", "TestSupport", "COpenSSL"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "GatewayTests",
            dependencies: [
                "Gateway", "MCP", "Providers", "Jobs", "SQL", "SQLite", "Platform", "Appliance",
                "TestSupport",
            ],
            swiftSettings: settings
        ),
        .testTarget(name: "EndToEndTests", dependencies: ["Platform", "Appliance"], swiftSettings: settings),
    ]
)
