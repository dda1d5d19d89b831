import Appliance
import Glibc
import Platform

/// Writes and reads the directories of jobs.
enum JobFiles {
    /// The largest number of files that are collected from one job.
    private static let collectedLimit = 256

    /// Makes a job's directory whole under the name `staged`, before it can be seen; `publish` gives it its own.
    static func stage(
        _ request: JobRequest,
        _ spec: JobSpec,
        as staged: JobDirectory,
        for directory: JobDirectory,
        files: Files
    ) throws(GatewayError) {
        guard isPlain(request.id) else {
            throw GatewayError("invalid-input", "'\(request.id)' cannot name a job")
        }
        do throws(GatewayError) {
            let folder = try NewFolder(staged.path, files: files)
            for name in request.directories {
                try files.makeDirectory(staged.file(try relative(name, directory)))
            }
            for file in request.files {
                let name = try relative(file.name, directory)
                if name.contains("/") { try files.makeDirectory(Files.parent(of: staged.file(name))) }
                try folder.add(name, file.contents)
            }
            if spec.hasInput { try folder.add(Files.name(of: staged.standardInput), request.standardInput) }
            try folder.add(Files.name(of: staged.spec), spec.json.compact)
        } catch {
            try? files.removeTree(staged.path)
            throw error
        }
    }

    /// Describes a staged job anew.
    static func describe(_ spec: JobSpec, in staged: JobDirectory, files: Files) throws(GatewayError) {
        try files.write(spec.json.compact, to: staged.spec, durable: false)
    }

    /// Gives a staged directory its name.
    static func publish(
        _ staged: JobDirectory,
        as directory: JobDirectory,
        files: Files
    ) throws(GatewayError) {
        try files.rename(staged.path, to: directory.path, durable: false)
    }

    /// A name as it is inside the job's directory.
    private static func relative(_ name: String, _ directory: JobDirectory) throws(GatewayError) -> String {
        var name = name
        if name.hasPrefix(directory.path + "/") { name.removeFirst(directory.path.utf8.count + 1) }
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        guard !parts.isEmpty, parts.allSatisfy({ isPlain(String($0)) }),
            parts.count > 1 || !JobDirectory.reserved.contains(name)
        else { throw GatewayError("invalid-input", "'\(name)' is no name for a file of a job") }
        return name
    }

    /// One path component that is not hidden.
    static func isPlain(_ name: String) -> Bool {
        !name.isEmpty && !name.hasPrefix(".") && !name.utf8.contains(0) && !name.utf8.contains(0x2F)
    }

    /// A file of the runner's; empty when there is none.
    ///
    /// Throws what the file system throws when it cannot be told.
    static func written(_ path: String, limit: Int) throws(GatewayError) -> WrittenBytes {
        do throws(GatewayError) {
            return try WrittenBytes(file: path, limit: limit)
        } catch {
            // The runner makes plain files and keeps to the limit: what is something else is not its output.
            guard error.code == "file-too-large" || error.code == "not-a-file" else { throw error }
            return []
        }
    }

    /// The files of these names, and the files in directories of these names; symlinks are not followed.
    ///
    /// What a CLI made unreadable or too large is left out; when it cannot be told, what the file system throws is thrown.
    static func collect(
        _ names: [String],
        from directory: JobDirectory,
        limit: Int,
        files: Files
    ) throws(GatewayError) -> [String: [UInt8]] {
        var found: [String: [UInt8]] = [:]
        var room = limit
        var pending = names
        while let name = pending.popLast(), found.count < collectedLimit {
            let path = directory.file(name)
            do throws(GatewayError) {
                switch try files.status(path)?.kind {
                case .directory: pending += try files.list(path).map { "\(name)/\($0)" }
                case .file:
                    let bytes = try files.read(path, limit: room)
                    room -= bytes.count
                    found[name] = bytes
                case .link, .other, nil: continue
                }
            } catch {
                let isOfTheFile = ["permission-denied", "file-not-found", "file-too-large"].contains(
                    error.code
                )
                guard isOfTheFile else { throw error }
            }
        }
        return found
    }

    /// Why a job did not end by itself, in the contract's words.
    static func message(_ exit: ExitRecord?, _ status: JobStatus, _ spec: JobSpec) -> String? {
        if status == .orphaned {
            return "the process that ran the job is gone and left no record; what it had started was ended"
        }
        if let error = exit?.error { return error.description }
        switch exit?.intervention {
        case .wallTime: return "Command timed out"
        case .idleTime: return "Process killed due to inactivity"
        case .outputLimit: return "Output exceeded maximum size (\(spec.limits.output >> 20)MB)"
        case .canceled: return "canceled by a signal"
        case nil: return nil
        }
    }
}
