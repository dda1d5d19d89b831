import Appliance

/// One release, as a source lists it.
struct Release: Sendable, Equatable {
    /// Whom a release is for.
    enum Channel: String, Sendable, CaseIterable {
        case stable, prerelease
    }

    /// Where its files are.
    enum Place: Sendable, Equatable {
        case folder(ReleaseFolder)
        /// By name, with their sizes in bytes where they are known.
        case assets([String: Asset])
    }

    struct Asset: Sendable, Equatable {
        var location: BundleRequest.Location
        var size: Int64?
    }

    var version: SemanticVersion
    var channel: Channel
    var place: Place

    /// A file of the release; `nil` when it is known that there is none of that name.
    func file(_ name: String) -> Asset? {
        switch place {
        case .folder(let folder): Asset(location: folder.file(name), size: nil)
        case .assets(let assets): assets[name]
        }
    }
}

/// What releases there are: `releases.json` of a source, or the answer of the reference's release service.
///
/// Nothing in it is believed that matters: digests are signed in each release, and a version must turn out to be what the
/// bundle says.
enum ReleaseIndex {
    static let name = "releases.json"
    static let schema = "release-index.v1"
    /// The largest index that is read, in bytes, and the most releases in it.
    static let limit = 4 << 20
    static let count = 5000

    /// The releases of a `releases.json` that lies in `folder`.
    ///
    /// Throws `release-index-invalid`.
    static func releases(_ bytes: [UInt8], in folder: ReleaseFolder) throws(GatewayError) -> [Release] {
        let json = try parsed(bytes)
        guard json["schema_version"]?.string == schema else {
            let found = json["schema_version"].map { $0.string ?? $0.typeName } ?? "nothing"
            throw invalid("'schema_version' is \(ForeignText.shown(found)), expected \(schema)")
        }
        guard let entries = json["releases"]?.array else { throw invalid("'releases' is no array") }
        guard entries.count <= count else {
            throw invalid("it lists \(entries.count) releases, more than \(count)")
        }
        var releases: [Release] = []
        var versions: Set<String> = []
        for (number, entry) in entries.enumerated() {
            let place = "releases[\(number)]"
            let version = try version(entry["version"]?.string, "\(place).version")
            guard versions.insert(version.description).inserted else {
                throw invalid("version \(version) is listed twice")
            }
            guard let channel = entry["channel"]?.string.flatMap(Release.Channel.init(rawValue:)) else {
                throw invalid("\(place).channel is neither 'stable' nor 'prerelease'")
            }
            let path = entry["path"]?.string ?? version.description
            guard path == "." || isPath(path) else {
                throw invalid("\(place).path is no folder below the index")
            }
            releases.append(
                Release(
                    version: version,
                    channel: version.isPrerelease ? .prerelease : channel,
                    place: .folder(folder.folder(path == "." ? "" : path))
                )
            )
        }
        return releases
    }

    /// The releases of an answer of the reference's release service at an address.
    ///
    /// Drafts are left out, and in an array whatever has no version for a tag. Throws `release-index-invalid`, and
    /// `insecure-url` for files in places that are reached less safely than the answer was.
    static func serviceReleases(_ bytes: [UInt8], from url: String) throws(GatewayError) -> [Release] {
        let json = try parsed(bytes)
        guard let entries = json.array else {
            guard json.object != nil else {
                throw invalid("it is \(json.typeName), expected an object or an array")
            }
            let version = try version(json["tag_name"]?.string, "tag_name")
            return [try release(json, version, "", url)]
        }
        guard entries.count <= count else {
            throw invalid("it lists \(entries.count) releases, more than \(count)")
        }
        var releases: [Release] = []
        for (number, entry) in entries.enumerated() where entry["draft"]?.bool != true {
            guard let tag = entry["tag_name"]?.string else {
                throw invalid("[\(number)].tag_name is missing")
            }
            guard let version = SemanticVersion(tag) else { continue }
            releases.append(try release(entry, version, "[\(number)].", url))
        }
        return releases
    }

    private static func release(
        _ json: JSON,
        _ version: SemanticVersion,
        _ place: String,
        _ service: String
    ) throws(GatewayError) -> Release {
        var assets: [String: Release.Asset] = [:]
        for (number, asset) in (json["assets"]?.array ?? []).enumerated() {
            let place = "\(place)assets[\(number)]"
            guard let name = asset["name"]?.string, isName(name) else {
                throw invalid("\(place).name is no file name")
            }
            guard let url = asset["browser_download_url"]?.string else {
                throw invalid("\(place).browser_download_url is missing")
            }
            let size = asset["size"]?.int.map { Int64($0) }
            assets[name] = Release.Asset(
                location: try BundleRequest.locate(url, namedBy: service),
                size: size
            )
        }
        let isPrerelease = version.isPrerelease || json["prerelease"]?.bool == true
        return Release(
            version: version,
            channel: isPrerelease ? .prerelease : .stable,
            place: .assets(assets)
        )
    }

    private static func parsed(_ bytes: [UInt8]) throws(GatewayError) -> JSON {
        do throws(JSONSyntaxError) {
            return try JSON.parse(bytes, maximumDepth: 32)
        } catch {
            throw invalid(error.description)
        }
    }

    private static func version(_ text: String?, _ place: String) throws(GatewayError) -> SemanticVersion {
        guard let text else { throw invalid("\(place) is missing") }
        guard text.utf8.count <= 128, let version = SemanticVersion(text) else {
            throw invalid("\(place) is '\(ForeignText.shown(text))', expected a version such as 1.2.3")
        }
        return version
    }

    /// Whether this is the name of a file, plain enough for a path and an address.
    static func isName(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= 255 && text != "." && text != ".."
            && text.utf8.allSatisfy { byte in
                (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                    || "._+-@~".utf8.contains(byte)
            }
    }

    /// Whether this is a folder below another: plain names with slashes between.
    private static func isPath(_ text: String) -> Bool {
        text.split(separator: "/", omittingEmptySubsequences: false).allSatisfy { isName(String($0)) }
    }

    static func invalid(_ what: String) -> GatewayError {
        GatewayError(
            "release-index-invalid",
            "the list of releases cannot be understood: \(what)",
            help: "check that the release source is one of \(Product.name)"
        )
    }
}
