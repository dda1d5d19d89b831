import Appliance
import COpenSSL
import CShims
import Glibc
import Platform

/// What a signature is said to be over.
struct Artifact: Sendable {
    /// Larger files are only read for their digests.
    static let heldInMemory = 32 << 20

    /// All of it; `nil` when it is too large to hold.
    let contents: [UInt8]?
    /// Of what is too large to hold: every digest, made in one pass, so that all are of the same bytes.
    private let digests: [HashAlgorithm: [UInt8]]
    /// The SHA-256 of it.
    let sha256: [UInt8]

    init(_ bytes: [UInt8]) {
        contents = bytes
        digests = [:]
        sha256 = SHA256.digest(bytes)
    }

    /// A file; waits for the disk.
    init(file path: String, files: Files) throws(GatewayError) {
        guard let status = try files.target(path) else {
            throw GatewayError("file-not-found", "'\(path)' does not exist")
        }
        guard status.kind == .file else {
            throw GatewayError("not-a-file", "'\(path)' is no file", help: "name the file itself")
        }
        if status.size <= Artifact.heldInMemory {
            self.init(try files.read(path, limit: Artifact.heldInMemory))
        } else {
            try self.init(large: path)
        }
    }

    private init(large path: String) throws(GatewayError) {
        contents = nil
        digests = try Artifact.digests(of: path)
        sha256 = digests[.sha256] ?? []
    }

    func digest(_ algorithm: HashAlgorithm) throws(GatewayError) -> [UInt8] {
        if algorithm == .sha256 { return sha256 }
        return try SignatureStep.artifact.checking { () throws(Malformed) in
            if let contents { return try algorithm.digest(contents) }
            guard let digest = digests[algorithm] else { throw algorithm.failure }
            return digest
        }
    }

    private static func digests(of path: String) throws(GatewayError) -> [HashAlgorithm: [UInt8]] {
        let descriptor = shim_open(path, O_RDONLY, 0)
        guard descriptor >= 0 else { throw Files.failure("read", path, -descriptor) }
        defer { close(descriptor) }
        let contexts = HashAlgorithm.allCases.map { (algorithm: $0, handle: EVP_MD_CTX_new()) }
        defer { for context in contexts { EVP_MD_CTX_free(context.handle) } }
        for context in contexts {
            guard EVP_DigestInit_ex(context.handle, context.algorithm.method, nil) == 1 else {
                throw SignatureStep.artifact.refusal(context.algorithm.failure.reason)
            }
        }
        var buffer = [UInt8](repeating: 0, count: 256 << 10)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            if count < 0 {
                if errno == EINTR { continue }
                throw Files.failure("read", path)
            }
            if count == 0 { break }
            for context in contexts {
                guard EVP_DigestUpdate(context.handle, buffer, count) == 1 else {
                    throw SignatureStep.artifact.refusal(context.algorithm.failure.reason)
                }
            }
        }
        var digests: [HashAlgorithm: [UInt8]] = [:]
        for context in contexts {
            var out = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
            var count: UInt32 = 0
            guard EVP_DigestFinal_ex(context.handle, &out, &count) == 1, Int(count) == context.algorithm.size
            else { throw SignatureStep.artifact.refusal(context.algorithm.failure.reason) }
            digests[context.algorithm] = Array(out[..<context.algorithm.size])
        }
        return digests
    }
}
