import Appliance
import COpenSSL
import CShims
import Glibc
import Platform

/// What a signature is said to be over.
struct Artifact: Sendable {
    private enum Source: Sendable {
        case bytes([UInt8])
        case file(String)
    }

    /// Larger files are only read for their digest.
    static let heldInMemory = 32 << 20

    private let source: Source
    /// The SHA-256 of it.
    let sha256: [UInt8]

    private init(_ source: Source, sha256: [UInt8]) {
        self.source = source
        self.sha256 = sha256
    }

    init(_ bytes: [UInt8]) { self.init(.bytes(bytes), sha256: SHA256.digest(bytes)) }

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
            self.init(.file(path), sha256: try Artifact.digest(path, .sha256))
        }
    }

    func digest(_ algorithm: HashAlgorithm) throws(GatewayError) -> [UInt8] {
        if algorithm == .sha256 { return sha256 }
        switch source {
        case .bytes(let bytes):
            return try SignatureStep.artifact.checking { () throws(Malformed) in try algorithm.digest(bytes) }
        case .file(let path): return try Artifact.digest(path, algorithm)
        }
    }

    /// All of it; `nil` when it is too large to hold.
    var contents: [UInt8]? {
        switch source {
        case .bytes(let bytes): bytes
        case .file: nil
        }
    }

    private static func digest(_ path: String, _ algorithm: HashAlgorithm) throws(GatewayError) -> [UInt8] {
        let descriptor = shim_open(path, O_RDONLY, 0)
        guard descriptor >= 0 else { throw Files.failure("read", path, -descriptor) }
        defer { close(descriptor) }
        let context = EVP_MD_CTX_new()
        defer { EVP_MD_CTX_free(context) }
        guard EVP_DigestInit_ex(context, algorithm.method, nil) == 1 else {
            throw SignatureStep.artifact.refusal(algorithm.failure.reason)
        }
        var buffer = [UInt8](repeating: 0, count: 256 << 10)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            if count < 0 {
                if errno == EINTR { continue }
                throw Files.failure("read", path)
            }
            if count == 0 { break }
            guard EVP_DigestUpdate(context, buffer, count) == 1 else {
                throw SignatureStep.artifact.refusal(algorithm.failure.reason)
            }
        }
        var out = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        var count: UInt32 = 0
        guard EVP_DigestFinal_ex(context, &out, &count) == 1, Int(count) == algorithm.size else {
            throw SignatureStep.artifact.refusal(algorithm.failure.reason)
        }
        return Array(out[..<algorithm.size])
    }
}
