package import Appliance

extension Files {
    /// The settings of a home, with what the environment overrides.
    ///
    /// Throws `settings-corrupt`, `settings-invalid` or `invalid-value`.
    package func settings(of layout: Layout, environment: [String: String]) throws(GatewayError) -> Settings {
        try settings(try storedSettings(of: layout), of: layout, environment: environment)
    }

    /// The settings of a home whose `settings.json` is read already.
    ///
    /// Throws `settings-invalid`, with the file to correct, or `invalid-value`.
    package func settings(
        _ stored: JSONObject,
        of layout: Layout,
        environment: [String: String]
    ) throws(GatewayError) -> Settings {
        do throws(GatewayError) {
            return try Settings(stored: stored, environment: environment)
        } catch  where error.code == "settings-invalid" {
            throw GatewayError(
                error.code,
                error.message,
                help: "correct or remove this key in '\(layout.settings)'"
            )
        }
    }

    /// The object in `settings.json`; an absent file is an empty one.
    package func storedSettings(of layout: Layout) throws(GatewayError) -> JSONObject {
        guard let bytes = try readIfPresent(layout.settings, limit: 1 << 20) else { return JSONObject() }
        return try Settings.document(of: bytes)
    }

    /// The `environment` file of a home; an absent one is empty.
    package func environmentFile(of layout: Layout) throws(GatewayError) -> EnvironmentFile {
        EnvironmentFile(bytes: try readIfPresent(layout.environmentFile, limit: 1 << 20) ?? [])
    }

    /// The bearer token of a home without white space around it; `nil` when there is none.
    package func authToken(of layout: Layout) throws(GatewayError) -> String? {
        guard let bytes = try readIfPresent(layout.authToken, limit: 64 << 10) else { return nil }
        let token = String(decoding: bytes, as: UTF8.self).trimmed
        return token.isEmpty ? nil : token
    }
}
