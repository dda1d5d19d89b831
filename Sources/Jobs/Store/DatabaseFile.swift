package import Appliance
package import Platform
import SQL
import SQLite

/// A database as a file that is carried from one home to another.
///
/// Its calls block.
package enum DatabaseFile {
    /// What every SQLite file begins with (https://www.sqlite.org/fileformat2.html section 1.3).
    package static let beginning = Array("SQLite format 3\0".utf8)

    /// Copies a database that may be in use; `progress` gets bytes done and bytes in all.
    package static func copy(
        _ path: String,
        to destination: String,
        progress: (Int64, Int64) -> Void
    ) throws(GatewayError) {
        let connection = try Connection(path, mode: .readOnly)
        let size = Int64(try connection.first("PRAGMA page_size") { $0.integer(0) ?? 0 } ?? 0)
        try connection.copy(to: destination) { done, total in
            progress(Int64(done) * size, Int64(total) * size)
        }
    }

    /// Whether a file is a database with the tables of a gateway's records; nothing is made beside it.
    package static func holdsRecords(_ path: String, files: Files) -> Bool {
        guard (try? files.target(path))??.kind == .file else { return false }
        let tables =
            "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('jobs', 'requests')"
        do throws(GatewayError) {
            let connection = try Connection(path, mode: .immutable)
            return try connection.first(tables) { row throws(GatewayError) in row.integer(0) } == 2
        } catch {
            return false
        }
    }

    /// Throws `database-corrupt` unless every page of a database that nobody else uses can be read.
    package static func check(_ path: String) throws(GatewayError) {
        try Connection(path, mode: .immutable).check()
    }

    /// Throws `backup-too-new` when a newer version has changed the records in a way that this one does not know.
    package static func checkSchema(_ path: String) throws(GatewayError) {
        let connection = try Connection(path, mode: .immutable)
        let unknown = try Migration.unknown(to: Schema.migrations, in: connection)
        guard unknown.isEmpty else {
            throw GatewayError(
                "backup-too-new",
                "its records were changed by a newer version in a way that this one (\(Product.version)) does not know: "
                    + unknown.joined(separator: ", "),
                help: "install the version that made the backup, or a newer one, then restore"
            )
        }
    }

    /// Brings the records of a backup up to date, and closes those of runs that went on where it was made.
    ///
    /// Runs named in `keeping` are of the home that the records are for. Returns how many were closed.
    package static func settle(
        _ path: String,
        keeping: Set<String>,
        machine: Machine
    ) async throws(GatewayError) -> Int {
        let store = Store(path: path, clock: machine.clock, files: machine.files)
        let closed: Int
        do throws(GatewayError) {
            closed = try await store.closeAbandoned(
                keeping: keeping,
                error: "the job was running when the backup was made, and ended elsewhere"
            )
            // All of it in the one file, which is about to be moved.
            try await store.write { connection throws(GatewayError) in
                try connection.each("PRAGMA wal_checkpoint(TRUNCATE)") { _ throws(GatewayError) in }
            }
        } catch {
            await store.close()
            throw error
        }
        await store.close()
        for suffix in ["-wal", "-shm", ".lock"] { try machine.files.removeFile(path + suffix) }
        return closed
    }
}
