import Appliance
import Platform

/// What is asked of a server.
struct BundleTransfer: Sendable, Equatable {
    var url: String
    /// From which byte on.
    var offset: Int64
    /// What proves that the server's file is still the same.
    var validator: String?
    /// Bytes that may come.
    var limit: Int64
    /// Whether the digest was given by the user, so that plain http is good enough.
    var isPinned: Bool
    var total: Duration
}

/// Where the bytes of a bundle come from over HTTP.
protocol BundleTransport: Sendable {
    /// Hands over the bytes in order, on one thread that `sink` may block.
    ///
    /// `began` gets the answer first, whatever its status. Errors of `began` and `sink` end the transfer and are thrown.
    func transfer(
        _ transfer: BundleTransfer,
        began: @escaping @Sendable (HTTPClient.Answer) throws(GatewayError) -> Void,
        sink: @escaping @Sendable (UnsafeRawBufferPointer) throws(GatewayError) -> Void
    ) async throws(GatewayError)
}

extension HTTPClient: BundleTransport {
    func transfer(
        _ transfer: BundleTransfer,
        began: @escaping @Sendable (Answer) throws(GatewayError) -> Void,
        sink: @escaping @Sendable (UnsafeRawBufferPointer) throws(GatewayError) -> Void
    ) async throws(GatewayError) {
        var limits = Limits.download(size: transfer.limit)
        limits.total = transfer.total
        limits.followsToPlainHTTP = transfer.isPinned
        try await download(
            transfer.url,
            resuming: transfer.offset > 0
                ? Resumption(offset: transfer.offset, validator: transfer.validator) : nil,
            limits: limits,
            began: began,
            sink: sink
        )
    }
}
