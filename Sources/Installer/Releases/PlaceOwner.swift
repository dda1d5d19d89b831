import Appliance
import Platform

/// Whose a unit is or a link that goes by the name of a place: of the home that is at that place now.
///
/// One home may have been there when they were made, and another one now: what the two make is the same to the byte.
struct PlaceOwner {
    var layout: Layout
    var files: Files

    /// Whether what a receipt says that this home made outside of itself has become another home's.
    func isOthers(_ entry: Receipt.Created) -> Bool {
        switch entry.kind {
        case .directory: return false
        case .unit: return home(ofUnit: entry.path).map(isAnotherHome) ?? false
        case .link:
            let program = "/current/bin/\(Product.name)"
            // The default home's own, wherever it leads.
            if layout.isDefaultHome, entry.path == layout.commandLink { return false }
            guard let target = files.destination(ofLink: entry.path), target.hasSuffix(program) else {
                return false
            }
            return isAnotherHome(String(target.dropLast(program.count)))
        case .file:
            // systemd's note about a timer goes by the timer's name.
            let name = Files.name(of: entry.path)
            guard name.hasPrefix("stamp-"), name.hasSuffix(".timer") else { return false }
            return home(ofUnit: Layout.join(layout.userUnits, String(name.dropFirst("stamp-".count))))
                .map(isAnotherHome) ?? false
        }
    }

    /// Whether a unit would start a gateway where no home is any more.
    ///
    /// What a gateway whose home was moved away under it has made there anew is none.
    func isAbandoned(_ unit: String) -> Bool {
        guard let home = home(ofUnit: unit) else { return false }
        return !isHome(home)
    }

    /// The home whose gateway a unit starts, or the service of its name does; `nil` when no service says so.
    ///
    /// A unit by this home's own name in its own folder is its own, whatever it says.
    func home(ofUnit path: String) -> String? {
        guard let dot = path.lastIndex(of: ".") else { return nil }
        let name = path[..<dot]
        let own = [layout.unitName, layout.upgradeUnitName].map { Layout.join(layout.userUnits, $0) }
        guard !own.contains(String(name)),
            let text = (try? files.readIfPresent(name + ".service", limit: 1 << 20)) ?? nil
        else { return nil }
        return UnitFiles.home(in: String(decoding: text, as: UTF8.self))
    }

    /// Other homes that have units beside those of this one.
    func neighbours() -> [String] {
        let names = (try? files.list(layout.userUnits)) ?? []
        let units = names.filter { $0.hasPrefix(Product.name) && $0.hasSuffix(".service") }
        return units.compactMap { home(ofUnit: Layout.join(layout.userUnits, $0)) }.filter(isAnotherHome)
    }

    private func isAnotherHome(_ path: String) -> Bool {
        guard isHome(path), let there = try? files.target(path), let here = try? files.target(layout.home)
        else {
            return false
        }
        return there.identity != here.identity
    }

    /// Whether something is installed at a path.
    private func isHome(_ path: String) -> Bool {
        ["receipt.json", "current"].contains { files.exists(Layout.join(path, $0)) }
    }
}
