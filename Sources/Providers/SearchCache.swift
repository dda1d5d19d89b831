import Appliance
package import Platform
import Synchronization

/// Where the provider CLIs are looked for, put together anew only when a version of Node has come or gone.
///
/// All else that it depends on stays as it is while a process runs; the CLIs themselves are looked for each time.
package final class SearchCache: Sendable {
    private struct Entry {
        var search: ProviderSearch
        /// The folder of the versions as it was read; `nil` where there was none.
        var versions: Files.Status?
    }

    /// A folder that was changed so shortly before may change once more without another time of its last change.
    private static let settled: Int64 = 2000

    private let environment: [String: String]
    private let userHome: String
    private let gatewayFolder: String
    private let files: Files
    private let clock: WallClock
    private let entry = Mutex<Entry?>(nil)

    /// What `ProviderSearch` is told.
    package init(
        environment: [String: String],
        userHome: String,
        gatewayFolder: String,
        files: Files,
        clock: WallClock
    ) {
        self.environment = environment
        self.userHome = userHome
        self.gatewayFolder = gatewayFolder
        self.files = files
        self.clock = clock
    }

    /// Whether the next search may be the same one.
    var isKept: Bool { entry.withLock { $0 != nil } }

    /// The folders as they are now.
    package func current() -> ProviderSearch {
        let versions: Files.Status?
        do throws(GatewayError) {
            versions = try files.target(ProviderSearch.nodeVersions(userHome))
        } catch {
            return read()
        }
        if let known = entry.withLock({ $0 }), known.versions == versions { return known.search }
        let search = read()
        let isSettled =
            versions.map { clock.now().milliseconds - $0.modified.milliseconds > SearchCache.settled } ?? true
        // What could not be read, for want of a descriptor maybe, may be read the next time.
        entry.withLock { $0 = isSettled && search.isWhole ? Entry(search: search, versions: versions) : nil }
        return search
    }

    private func read() -> ProviderSearch {
        ProviderSearch(
            environment: environment,
            userHome: userHome,
            gatewayFolder: gatewayFolder,
            files: files
        )
    }
}
