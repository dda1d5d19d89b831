import Appliance
import Platform

/// The thread that writes sessions.
///
/// Thousands of conversations are one file: what several runs change at the same time is written once.
actor SessionWriter {
    private let executor = ThreadExecutor("sessions")
    private var pending: [any SessionChange] = []

    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    /// Makes a change with the next writing; when this returns, it is written.
    ///
    /// `write` is given all changes that wait, in the order in which they came.
    func change<Value: Sendable>(
        _ change: @escaping @Sendable (inout SessionDocument) throws(GatewayError) -> Value,
        _ write: @escaping @Sendable ([any SessionChange]) -> Void
    ) async throws(GatewayError) -> Value {
        let result = await withCheckedContinuation { continuation in
            pending.append(WaitingChange(change, continuation))
            // Behind those that wait for this thread already, so that they join in.
            if pending.count == 1 {
                Task {
                    let changes = pending
                    pending = []
                    write(changes)
                }
            }
        }
        return try result.get()
    }
}

/// A change of the sessions whose caller waits until it is written.
protocol SessionChange: AnyObject {
    /// Makes the change; one that fails changes nothing.
    func apply(to document: inout SessionDocument)
    /// What was changed is written.
    func succeed()
    /// Nothing could be written.
    func fail(_ error: GatewayError)
}

private final class WaitingChange<Value: Sendable>: SessionChange {
    private let change: @Sendable (inout SessionDocument) throws(GatewayError) -> Value
    private let continuation: CheckedContinuation<Result<Value, GatewayError>, Never>
    private var result = Result<Value, GatewayError>.failure(
        GatewayError("internal-error", "a change of the sessions was not made")
    )

    init(
        _ change: @escaping @Sendable (inout SessionDocument) throws(GatewayError) -> Value,
        _ continuation: CheckedContinuation<Result<Value, GatewayError>, Never>
    ) {
        self.change = change
        self.continuation = continuation
    }

    func apply(to document: inout SessionDocument) {
        let before = document
        do throws(GatewayError) {
            result = .success(try change(&document))
        } catch {
            document = before
            result = .failure(error)
        }
    }

    func succeed() { continuation.resume(returning: result) }

    func fail(_ error: GatewayError) { continuation.resume(returning: .failure(error)) }
}
