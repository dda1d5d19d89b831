package import Appliance
import CSQLite
import SQL

extension Connection {
    /// Copies the whole database into a new file, as it is at one instant, while others go on writing to it.
    ///
    /// One read transaction covers all of it, so that what others write meanwhile neither shows nor starts it anew
    /// (https://www.sqlite.org/backup.html). `progress` gets pages done and pages in all. The copy is of its own: it needs no
    /// log files.
    package func copy(
        to destination: String,
        progress: (Int, Int) -> Void = { _, _ in }
    ) throws(GatewayError) {
        try execute("BEGIN")
        defer { _ = try? execute("COMMIT") }
        // A transaction begins with its first reading.
        _ = try first("SELECT count(*) FROM sqlite_master") { $0.integer(0) }
        var opened: OpaquePointer?
        let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE
        var code = sqlite3_open_v2(destination, &opened, flags, nil)
        defer { sqlite3_close_v2(opened) }
        guard code == SQLITE_OK, let opened, let backup = sqlite3_backup_init(opened, "main", handle, "main")
        else { throw Connection.failure(code, opened, destination, action: "write") }
        repeat {
            code = sqlite3_backup_step(backup, 4096)
            let count = Int(sqlite3_backup_pagecount(backup))
            progress(count - Int(sqlite3_backup_remaining(backup)), count)
        } while code == SQLITE_OK
        let end = sqlite3_backup_finish(backup)
        guard code == SQLITE_DONE, end == SQLITE_OK else {
            throw Connection.failure(
                code == SQLITE_DONE ? end : code,
                opened,
                destination,
                action: "copy '\(path)' to"
            )
        }
    }

    /// Reads every page and throws `database-corrupt` with the first thing that is wrong.
    package func check() throws(GatewayError) {
        let verdict = try first("PRAGMA quick_check(1)") { $0.text(0) ?? "" } ?? ""
        guard verdict == "ok" else {
            throw GatewayError("database-corrupt", "the database '\(path)' is damaged: \(verdict)")
        }
    }
}
