import Appliance
import Glibc
import Platform

/// The file `running` of a job, as its runner has it: locked for as long as the process lives, and in the end the job's `exit.json`.
///
/// Its runner never removes it and gives it another name only with the record in it: until then, who finds no lock on `running` knows
/// that no runner works on the job.
struct RunningFile {
    private let place: JobDirectory
    private let descriptor: Int32
    /// `nil` where the gateway handed the locked file over, which stays open by itself.
    private let lock: FileLock?

    /// Bytes that a record takes at most, but for one with a very long error.
    private static let room = 8192

    /// Takes the file that the gateway has locked before it started this process, and given as descriptor 3, or locks it.
    ///
    /// `nil` when another process runs the job, or somebody ever did.
    init?(_ place: JobDirectory, _ files: Files) throws(GatewayError) {
        func hasBegun() -> Bool { files.exists(place.runner) || place.hasEnd(files) }
        if hasBegun() { return nil }
        self.place = place
        if let handed = RunningFile.identity(3), try files.status(place.running)?.identity == handed {
            lock = nil
            descriptor = 3
        } else {
            guard let lock = try FileLock.attempt(place.running) else { return nil }
            self.lock = lock
            descriptor = lock.descriptor
            if hasBegun() { return nil }
        }
    }

    /// Takes the room that the record will need.
    func reserve() throws(GatewayError) { try put([UInt8](repeating: 0x20, count: RunningFile.room)) }

    /// Makes it the record of how the job ended; no byte and no file that is not there already is needed for it.
    ///
    /// Throws `disk-full` where the room has not been had, or this file system needs some for what is written over something: it can
    /// be tried again. Throws `busy` when it is not this process's any more.
    func end(_ record: ExitRecord, _ files: Files) throws(GatewayError) {
        guard try files.status(place.running)?.identity == RunningFile.identity(descriptor) else {
            // Somebody has removed or replaced it. A job that this process has begun is nobody else's for that.
            guard let begun = try RunnerRecord.of(place, files: files)?.runner,
                begun == ProcessTable.identity(getpid())
            else { throw GatewayError("busy", "another process runs the job '\(place.id)'") }
            return try RecordFile.write(record.json, to: place.exit, files)
        }
        let bytes = record.json.compact
        do throws(GatewayError) {
            try put(bytes)
        } catch {
            ftruncate(descriptor, 0)
            try put(bytes)
        }
        guard ftruncate(descriptor, off_t(bytes.count)) == 0 else {
            throw Files.failure("write", place.running)
        }
        try files.rename(place.running, to: place.exit, durable: false)
    }

    /// How the job of a runner that is gone has ended; `nil` when that runner left no record.
    ///
    /// One that was killed in its last instant has written the record and not given it its name: that is done here, by the gateway
    /// that answers for the job.
    static func record(of place: JobDirectory, _ files: Files) throws(GatewayError) -> ExitRecord? {
        if let record = try ExitRecord.of(place, files: files) { return record }
        guard try RecordFile.readIfWhole(place.running, files).flatMap(ExitRecord.init(json:)) != nil else {
            return nil
        }
        try files.rename(place.running, to: place.exit, durable: false)
        return try ExitRecord.of(place, files: files)
    }

    private func put(_ bytes: [UInt8]) throws(GatewayError) {
        lseek(descriptor, 0, SEEK_SET)
        try Files.writeAll(bytes, to: descriptor, path: place.running)
    }

    private static func identity(_ descriptor: Int32) -> Files.Identity? {
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { return nil }
        return Files.Identity(device: UInt64(info.st_dev), inode: UInt64(info.st_ino))
    }
}
