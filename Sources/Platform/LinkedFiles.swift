package import Appliance
import Glibc

/// The user's own files, any of which may be a link to a place where the user keeps them in order.
extension Files {
    /// Replaces what a file holds, as `write` does; a link stays, and what it leads to is replaced in its own place.
    ///
    /// A file behind a link keeps its mode. Throws what `checkUsersFile` throws, and `foreign-file` where the link leads to
    /// another user's file.
    package func writeUsersFile(_ bytes: some Sequence<UInt8>, to path: String) throws(GatewayError) {
        try checkUsersFile(path)
        guard try status(path)?.kind == .link, let place = realPath(path), let there = try target(place)
        else { return try write(bytes, to: path) }
        guard there.owner == geteuid() else {
            throw GatewayError(
                "foreign-file",
                "'\(path)' is a link to '\(place)', which belongs to another user (uid \(there.owner)) and has to be written",
                help: "link to a file of your own, or remove the link; nothing was changed"
            )
        }
        try write(bytes, to: place, mode: there.mode & 0o777)
    }

    /// Throws `broken-link` or `not-a-file` for what can neither be read nor written as a file; nothing there is fine.
    package func checkUsersFile(_ path: String) throws(GatewayError) {
        guard let status = try status(path), status.kind != .file else { return }
        let help = "make it a file, or move it away; nothing was changed"
        guard status.kind == .link else {
            throw GatewayError("not-a-file", "'\(path)' is no regular file", help: help)
        }
        guard let target = try target(path) else {
            let text = destination(ofLink: path) ?? ""
            let place = text.hasPrefix("/") ? text : Layout.join(Files.parent(of: path), text)
            throw GatewayError(
                "broken-link",
                "'\(path)' is a link to '\(place)', which does not exist",
                help: "make that file again, or remove the link; nothing was changed"
            )
        }
        guard target.kind == .file else {
            let place = realPath(path) ?? path
            throw GatewayError(
                "not-a-file",
                "'\(path)' is a link to '\(place)', which is no regular file",
                help: help
            )
        }
    }
}
