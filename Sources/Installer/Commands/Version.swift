import Appliance

extension Verb {
    static let version = Verb("version", .look, "print the version", style: .text, isQuestion: true) {
        _ throws(GatewayError) in VersionReport()
    }
}

private struct VersionReport: Report {
    var json: JSON {
        ["ok": true, "version": .string(Product.version), "platform": .string(Product.platform)]
    }
    var text: String { Product.version }
}
