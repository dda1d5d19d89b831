import Appliance
import Platform
import TestSupport
import Testing

@testable import Providers

/// The text of a recorded output or help page.
func fixture(_ path: String) throws -> [UInt8] {
    let tests = #filePath.split(separator: "/").dropLast(2).joined(separator: "/")
    return try Files().read("/\(tests)/Fixtures/\(path)")
}

/// A plan of a request with these arguments; the session is what they ask for.
func plan(
    _ provider: Provider,
    _ arguments: JSON,
    session: SessionChoice? = nil,
    options: RequestOptions = RequestOptions()
) throws(GatewayError) -> RequestPlan {
    let arguments = RequestArguments(arguments)
    var choice = try SessionChoice.requested(by: arguments, of: provider)
    if let session { choice = session }
    return try RequestPlan(provider, arguments, session: choice, options: options)
}

let newID = "99999999-1111-4222-8333-444444444444"

/// The rendered arguments in one line.
func line(
    _ provider: Provider,
    _ arguments: JSON,
    session: SessionChoice? = nil,
    options: RequestOptions = RequestOptions()
) throws(GatewayError) -> String {
    try plan(provider, arguments, session: session, options: options)
        .prepared(in: "/j", newSessionID: newID).arguments.joined(separator: " ")
}

/// The error that a plan is refused with.
func refusal(
    _ provider: Provider,
    _ arguments: JSON,
    session: SessionChoice? = nil,
    options: RequestOptions = RequestOptions()
) -> GatewayError? {
    do throws(GatewayError) {
        _ = try plan(provider, arguments, session: session, options: options)
        return nil
    } catch {
        return error
    }
}

extension ProviderResult {
    /// The whole reply.
    var text: String { reply.held }
}
