/// What this build is.
///
/// `releases/build` rewrites `version` in a copy of the tree; nothing else stamps it.
package enum Product {
    /// The product's name, also the manager's executable.
    package static let name = "llm-cli-gateway"
    /// The version of manager and gateway: they travel together.
    package static let version = "0.1.0"
    /// Where releases are published: the base address of an index; empty when this build has no release source.
    package static let releaseSource = ""
    /// The oldest glibc that a release runs on: the newest symbol version its programs refer to.
    ///
    /// Checked before the C library starts them, in `Sources/C/Shims/entry.c`.
    package static let oldestGlibc = "2.34"
    /// Who signs releases: a name, or a pattern for it with `*` (see `NamePattern`); empty when this build knows nobody.
    package static let releaseSigner = ""
    /// The identity provider that must vouch for the signer of releases; empty together with `releaseSigner`.
    package static let releaseSignerIssuer = ""
    #if arch(x86_64)
    /// The processor, as release files name it.
    package static let architecture = "amd64"
    #elseif arch(arm64)
    /// The processor, as release files name it.
    package static let architecture = "arm64"
    #endif
    /// The platform, as manifests and release files name it.
    package static let platform = "linux-\(architecture)"
}
