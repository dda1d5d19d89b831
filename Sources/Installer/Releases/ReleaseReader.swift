import Appliance
import Platform

/// Looks up what a source has, and what of it may be believed.
///
/// 1. `releases.json` says which releases there are; a source without one is a single release.
/// 2. `SHA256SUMS` of the chosen one is believed when `SHA256SUMS.sigstore.json` proves who signed it. Without a
///    signature, only a digest that the user gave will do.
/// 3. `release-manifest.json`, whose digest must stand there, names the bundle for this platform and its size.
/// 4. The digest of the bundle is the signed one.
///
/// Where the user gave the digest, nothing of what the manifest says matters for trust: another name, size or version than
/// that of the bundle can only make the command refuse it.
struct ReleaseReader: Sendable {
    var documents: ReleaseDocuments
    var trust: ReleaseTrust
    var platform = Product.platform

    static let checksums = "SHA256SUMS"
    static let signature = "SHA256SUMS.sigstore.json"

    /// What releases a source has, in no order.
    ///
    /// Throws `release-incomplete`, `release-index-invalid`, and what reading throws.
    func releases(of source: ReleaseSource) async throws(GatewayError) -> [Release] {
        let folder: ReleaseFolder
        switch source {
        case .service(let url):
            guard let bytes = try await documents.read(.web(url), limit: ReleaseIndex.limit) else {
                throw GatewayError(
                    "release-incomplete",
                    "there is no release at '\(source.shown)'",
                    help: "check \(ReleaseSource.serviceVariable)"
                )
            }
            return try ReleaseIndex.serviceReleases(bytes, from: url)
        case .folder(let path): folder = .directory(path)
        case .web(let url): folder = .web(url)
        }
        if let bytes = try await documents.read(folder.file(ReleaseIndex.name), limit: ReleaseIndex.limit) {
            return try ReleaseIndex.releases(bytes, in: folder)
        }
        guard
            let bytes = try await documents.read(
                folder.file(ReleaseManifest.name),
                limit: ReleaseManifest.limit
            )
        else {
            throw GatewayError(
                "release-incomplete",
                "'\(source.shown)' has neither \(ReleaseIndex.name) nor \(ReleaseManifest.name)",
                help: "name the folder or address that holds one of them"
            )
        }
        let version = try ReleaseManifest(bytes).version
        return [
            Release(
                version: version,
                channel: version.isPrerelease ? .prerelease : .stable,
                place: .folder(folder)
            )
        ]
    }

    /// The request for a release's bundle; `pinned` is the digest that the user gave.
    ///
    /// Throws `release-incomplete`, `unsigned-release`, `wrong-version`, `digest-mismatch`, and what verification throws.
    func request(
        for release: Release,
        origin: BundleRequest.Origin,
        pinned: String?
    ) async throws(GatewayError) -> BundleRequest {
        let verified: VouchedChecksums? =
            if pinned == nil {
                try await verifiedChecksums("release \(release.version)") { release.file($0)?.location }
            } else {
                nil
            }
        let manifest = try await manifest(of: release, listedIn: verified?.checksums)
        let artifact = manifest?.bundle(for: platform)
        let name = artifact?.name ?? "llm-cli-gateway-bundle-\(release.version)-\(platform).tar.gz"
        guard manifest == nil || artifact != nil, let asset = release.file(name) else {
            throw GatewayError(
                "release-incomplete",
                "release \(release.version) has no bundle for \(platform)",
                help: "ask its publisher, or build one with releases/build"
            )
        }
        var request = BundleRequest(location: asset.location, sha256: "", origin: origin)
        request.version = release.version
        request.size = artifact?.size ?? asset.size
        request.unpackedSize = artifact?.unpackedSize
        guard let verified else {
            request.sha256 = pinned ?? ""
            return request
        }
        request.sha256 = try verified.checksums.digest(of: name)
        if let said = artifact?.sha256, said != request.sha256 {
            throw mismatch(name, said, request.sha256)
        }
        request.trust = .sigstore
        request.signer = verified.signer
        return request
    }

    /// The request for a bundle file that lies beside its `SHA256SUMS`.
    ///
    /// Throws as `request(for:)`.
    func request(forFile path: String) async throws(GatewayError) -> BundleRequest {
        let folder = ReleaseFolder.directory(Files.parent(of: path))
        let verified = try await verifiedChecksums("'\(path)'") { folder.file($0) }
        var request = BundleRequest(
            location: .file(path),
            sha256: try verified.checksums.digest(of: Files.name(of: path)),
            origin: .local
        )
        request.trust = .sigstore
        request.signer = verified.signer
        return request
    }

    // MARK: the parts

    /// The manifest of a release; `nil` where the source's form has none.
    ///
    /// Of a signed release it is as good as the checksums that list it, and is not read before it fits them. A release
    /// service also has releases from before manifests were listed: there it is as if they had none, and the bundle has
    /// the name that every release gives it.
    private func manifest(
        of release: Release,
        listedIn checksums: Checksums?
    ) async throws(GatewayError) -> ReleaseManifest? {
        if let checksums, !checksums.names.contains(ReleaseManifest.name) {
            if case .assets = release.place { return nil }
            throw GatewayError(
                "checksum-missing",
                "the signed \(ReleaseReader.checksums) of release \(release.version) does not list "
                    + "\(ReleaseManifest.name), so nobody vouches for what that says",
                help: "its publisher has to list it and sign again; releases/build does so"
            )
        }
        guard let asset = release.file(ReleaseManifest.name) else { return nil }
        guard let bytes = try await documents.read(asset.location, limit: ReleaseManifest.limit) else {
            throw GatewayError(
                "release-incomplete",
                "release \(release.version) lacks its \(ReleaseManifest.name)",
                help: "check the release source"
            )
        }
        if let signed = try checksums?.digest(of: ReleaseManifest.name) {
            let found = SHA256.hex(bytes)
            guard found == signed else { throw mismatch(ReleaseManifest.name, found, signed) }
        }
        let manifest = try ReleaseManifest(bytes)
        guard manifest.version.description == release.version.description else {
            throw GatewayError(
                "wrong-version",
                "the manifest of the release \(release.version) is of version \(manifest.version)",
                help: "the release source mixes up its releases; do not use it"
            )
        }
        return manifest
    }

    private func verifiedChecksums(
        _ what: String,
        _ file: (String) -> BundleRequest.Location?
    ) async throws(GatewayError) -> VouchedChecksums {
        var sums: [UInt8]?
        if let place = file(ReleaseReader.checksums) {
            sums = try await documents.read(place, limit: Checksums.limit)
        }
        guard let sums else {
            throw GatewayError(
                "unsigned-release",
                "\(what) has no \(ReleaseReader.checksums), so nothing vouches for it",
                help: ReleaseReader.pin
            )
        }
        var signature: [UInt8]?
        if let place = file(ReleaseReader.signature) {
            signature = try await documents.read(place, limit: SignatureBundle.Limits.bundle)
        }
        guard let signature else {
            throw GatewayError(
                "unsigned-release",
                "\(what) is not signed: there is no \(ReleaseReader.signature)",
                help: ReleaseReader.pin
            )
        }
        let trust = trust
        return try await BlockingThread.run("verify") { () throws(GatewayError) in
            try trust.verify(sums, signature)
        }
    }

    private static let pin = "if you know the bundle's digest from elsewhere, pin it with --sha256"

    private func mismatch(_ name: String, _ found: String, _ expected: String) -> GatewayError {
        GatewayError(
            "digest-mismatch",
            "the SHA-256 of '\(name)' is \(found), but \(expected) in the signed \(ReleaseReader.checksums)",
            help: "the release was altered or is half published; try again later, or use another source"
        )
    }
}

/// Checksums that somebody vouched for.
struct VouchedChecksums: Sendable {
    var checksums: Checksums
    var signer: Receipt.Signer
}

/// What makes the checksums of a release believed.
struct ReleaseTrust: Sendable {
    /// Takes `SHA256SUMS` and the signature over it; throws when the one does not prove the other.
    var verify: @Sendable ([UInt8], [UInt8]) throws(GatewayError) -> VouchedChecksums

    /// What is said where neither the build nor the user says who signs releases.
    static var noSigner: GatewayError {
        GatewayError(
            "no-release-signer",
            "this build does not know who signs releases, and a signature by just anybody proves nothing",
            help: "give --identity and --issuer, or --key, or pin the bundle's digest with --sha256"
        )
    }

    /// The signature of whom a policy names; `trustRoot` is the file of another trust root than the built-in one.
    ///
    /// `verify` throws `no-release-signer` without a policy, and what `SignedChecksums.verify` throws.
    static func sigstore(_ policy: SignerPolicy?, trustRoot: String?, files: Files) -> ReleaseTrust {
        ReleaseTrust { (sums, signature) throws(GatewayError) in
            guard let policy else { throw noSigner }
            let root =
                if let trustRoot {
                    try TrustRoot(try files.read(trustRoot, limit: TrustRoot.limit))
                } else {
                    try TrustRoot.builtIn()
                }
            let verified = try SignedChecksums.verify(
                sums: sums,
                bundle: signature,
                trustRoot: root,
                policy: policy
            )
            return VouchedChecksums(checksums: verified.checksums, signer: Receipt.Signer(verified.signature))
        }
    }
}

extension Receipt.Signer {
    /// What the receipt keeps of a signature.
    init(_ signature: VerifiedSignature) {
        self.init(identity: signature.signer, issuer: signature.issuer, logIndex: signature.logIndex)
    }
}
