package import Appliance

extension Layout {
    /// The layout by the name under which this home was installed.
    ///
    /// A folder may be reached by several paths: through a link in its place, or through a link on the way to it. Its units,
    /// its receipt and its supervisor go by one of them, and whoever came by another would take them for a stranger's.
    package func asInstalled(files: Files) -> Layout {
        guard let here = files.realPath(home) else { return self }
        if let noted = noted(files), files.realPath(noted) == here {
            guard noted != home else { return self }
            let parent = Files.parent(of: noted)
            let isDefault =
                knowsUserHome && Files.name(of: noted) == Layout.standardName
                && files.realPath(parent) == files.realPath(userHome)
            return named(noted, userHome: isDefault ? parent : nil, isDefaultHome: isDefault)
        }
        let standard = Layout.standardHome(of: userHome)
        guard !isDefaultHome, knowsUserHome, files.realPath(standard) == here else { return self }
        return named(standard, isDefaultHome: true)
    }

    /// The name in the receipt.
    private func noted(_ files: Files) -> String? {
        guard let bytes = try? files.readIfPresent(receipt, limit: 8 << 20),
            let name = (try? JSON.parse(bytes))?["home"]?.string, name.hasPrefix("/")
        else { return nil }
        return name
    }
}
