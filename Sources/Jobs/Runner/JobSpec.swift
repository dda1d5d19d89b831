package import Appliance
package import Platform

/// `spec.json`: everything about a job that a runner or a restarted gateway has to know.
package struct JobSpec: Sendable {
    /// A UUID; the directory's name.
    package var id: String
    /// `claude`, `codex`, `gemini`, `grok`, `mistral`.
    package var provider: String
    /// The id of the request's record.
    package var correlationID: String
    /// The dedup key; `nil` where the job is not to be shared.
    package var requestKey: String?
    /// As the tool's caller chose it.
    package var outputFormat: String?
    /// Who may see the job; `nil` means the local principal.
    package var owner: String?
    /// The gateway instance that has accepted it; `JobDirectory.gateway` says which one answers for it now.
    package var instance: String
    /// What the gateway needs to read the output later; opaque here.
    package var context: JSON
    /// Relative names of files, or of directories with files, that belong to the output.
    package var collected: [String]
    /// How much of it is kept once it is over.
    package var recording: Configuration.Persistence.Recording
    /// For how long after its acceptance another attempt may begin; `nil`: for as long as there are attempts.
    package var retryTime: Duration?
    /// When the gateway accepted it, by the wall clock.
    package var submitted: Timestamp
    /// The same in milliseconds of uptime, which counts within one boot; `nil` where that was not kept.
    package var submittedUptime: Int64?
    /// The kernel's id of the boot in which it was accepted; `nil` where that was not kept.
    package var boot: String?

    /// Absolute.
    package var executable: String
    /// Without the program's own name.
    package var arguments: [String]
    /// The whole environment of the provider; secrets are in it, so the file has mode 0600.
    package var environment: [String: String]
    /// `nil`: the job's own directory.
    package var workingDirectory: String?
    /// Whether there is a file `stdin`.
    package var hasInput: Bool
    /// Output cap, wall and idle time, grace; the runner keeps to them without the gateway.
    package var limits: ProcessLimits

    /// The file's form.
    package var json: JSON {
        [
            "version": 1,
            "job": [
                "id": .string(id), "provider": .string(provider), "correlationId": .string(correlationID),
                "requestKey": .optional(requestKey), "outputFormat": .optional(outputFormat),
                "owner": .optional(owner), "instance": .string(instance), "context": context,
                "collected": .strings(collected),
                "record": .string(recording.rawValue), "submittedAt": .string(submitted.iso8601),
                "submittedUptimeMs": .optional(submittedUptime.map { Int($0) }), "bootId": .optional(boot),
                "retryMs": .optional(retryTime.map(\.milliseconds)),
            ],
            "run": [
                "executable": .string(executable), "arguments": .strings(arguments),
                "environment": .object(
                    JSONObject(
                        environment.sorted { $0.key < $1.key }.map {
                            (name: $0.key, value: .string($0.value))
                        }
                    )
                ),
                "workingDirectory": .optional(workingDirectory), "hasInput": .bool(hasInput),
                "outputBytes": .integer(limits.output),
                "wallMs": .optional(limits.wall.map(\.milliseconds)),
                "idleMs": .optional(limits.idle.map(\.milliseconds)),
                "graceMs": .integer(limits.grace.milliseconds),
            ],
        ]
    }

    /// Reads a `spec.json`; throws `job-damaged` when it is none.
    package init(json: JSON, path: String) throws(GatewayError) {
        guard json["version"]?.int == 1, let job = json["job"], let run = json["run"],
            let id = job["id"]?.string, let provider = job["provider"]?.string,
            let correlationID = job["correlationId"]?.string, let instance = job["instance"]?.string,
            let submitted = job["submittedAt"]?.string.flatMap(Timestamp.init(iso8601:)),
            let executable = run["executable"]?.string, let arguments = run["arguments"]?.array,
            let environment = run["environment"]?.object, let output = run["outputBytes"]?.int,
            let grace = run["graceMs"]?.int
        else { throw GatewayError("job-damaged", "'\(path)' does not describe a job") }
        self.id = id
        self.provider = provider
        self.correlationID = correlationID
        requestKey = job["requestKey"]?.string
        outputFormat = job["outputFormat"]?.string
        owner = job["owner"]?.string
        self.instance = instance
        context = job["context"] ?? .null
        collected = (job["collected"]?.array ?? []).compactMap(\.string)
        // Earlier versions kept everything.
        recording = job["record"]?.string.map { .init(rawValue: $0) ?? .none } ?? .full
        self.submitted = submitted
        submittedUptime = job["submittedUptimeMs"]?.int.map(Int64.init)
        boot = job["bootId"]?.string
        retryTime = job["retryMs"]?.int.map { .milliseconds($0) }
        self.executable = executable
        self.arguments = arguments.compactMap(\.string)
        self.environment = Dictionary(
            environment.members.compactMap { member in member.value.string.map { (member.name, $0) } },
            uniquingKeysWith: { $1 }
        )
        workingDirectory = run["workingDirectory"]?.string
        hasInput = run["hasInput"]?.bool ?? false
        limits = ProcessLimits(
            output: output,
            wall: run["wallMs"]?.int.map { .milliseconds($0) },
            idle: run["idleMs"]?.int.map { .milliseconds($0) },
            grace: .milliseconds(grace)
        )
    }

    /// Reads the `spec.json` of a job, and what its `retry.json` has changed since.
    package init(_ directory: JobDirectory, files: Files = Files()) throws(GatewayError) {
        try self.init(json: try RecordFile.read(directory.spec, files), path: directory.spec)
        if let retry = try RetryRecord(directory, files: files) {
            arguments = retry.arguments
            context = retry.context
        }
    }

    init(
        _ request: JobRequest,
        submitted: Timestamp,
        uptime: Int64? = nil,
        boot: String?,
        instance: String
    ) {
        id = request.id
        provider = request.provider
        correlationID = request.correlationID
        requestKey = request.requestKey
        outputFormat = request.outputFormat
        owner = request.owner
        self.instance = instance
        retryTime = request.retryTime
        context = request.context
        collected = request.collected
        recording = request.recording
        self.submitted = submitted
        submittedUptime = uptime
        self.boot = boot
        executable = request.executable
        arguments = request.arguments
        environment = request.environment
        workingDirectory = request.workingDirectory
        hasInput = !request.standardInput.isEmpty
        limits = request.limits
    }
}

/// The small JSON files of a job directory.
enum RecordFile {
    /// Throws `file-not-found`, or `job-damaged` when it is no JSON.
    static func read(_ path: String, _ files: Files) throws(GatewayError) -> JSON {
        let bytes = try files.read(path)
        do throws(JSONSyntaxError) {
            return try JSON.parse(bytes)
        } catch {
            throw GatewayError("job-damaged", "'\(path)' is damaged: \(error)")
        }
    }

    /// What `read` reads; `nil` when there is no file, or none that is whole.
    ///
    /// A file that cannot be read now, because no descriptor is left or the disk fails, is not absent: that is thrown.
    static func readIfWhole(_ path: String, _ files: Files) throws(GatewayError) -> JSON? {
        do throws(GatewayError) {
            return try read(path, files)
        } catch {
            guard ["file-not-found", "job-damaged"].contains(error.code) else { throw error }
            return nil
        }
    }

    /// Replaced atomically, but not synced: after a power cut nothing that it speaks of runs any more.
    static func write(_ json: JSON, to path: String, _ files: Files) throws(GatewayError) {
        try files.write(json.compact, to: path, durable: false)
    }
}
