import Appliance
import Platform

extension HTTPClient: BundleTransport {
    func transfer(
        _ url: String,
        limit: Int64,
        began: @escaping @Sendable (Int64?) throws(GatewayError) -> Void,
        sink: @escaping @Sendable (UnsafeRawBufferPointer) throws(GatewayError) -> Void
    ) async throws(GatewayError) {
        try await download(
            url,
            limits: .download(size: limit),
            began: { (answer) throws(GatewayError) in try began(answer.contentLength) },
            sink: sink
        )
    }
}
