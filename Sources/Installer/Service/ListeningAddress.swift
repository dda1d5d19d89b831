import Appliance
import Glibc
import Platform

extension Settings {
    /// These settings with an address as `listenAddress` writes it in place of theirs; unchanged when it is none.
    func listening(at address: String) -> Settings {
        guard let colon = address.lastIndex(of: ":"), let port = Int(address[address.index(after: colon)...])
        else { return self }
        var settings = self
        settings.host = String(address[..<colon].filter { $0 != "[" && $0 != "]" })
        settings.port = port
        return settings
    }

    /// Whether both name the same address, however it is written.
    func isSameAddress(_ other: Settings) -> Bool {
        guard let own = PortOwner.address(of: host), let theirs = PortOwner.address(of: other.host) else {
            return listenAddress == other.listenAddress
        }
        return port == other.port && own == theirs
    }

    /// These settings with the address at which a process listens in place of theirs; unchanged where it listens there as well, or
    /// nobody can tell.
    ///
    /// What the kernel says holds whatever was written to files, or exported in this shell, since the process was started.
    func listened(by pid: Int32, files: Files = Files()) -> Settings {
        let own = PortOwner.listeners(of: pid, files: files)
        // Not what is in its way: a gateway on one address is not yet on all of them.
        guard let found = own.first, !found.isAt(self), let text = found.host else { return self }
        var settings = self
        settings.host = text
        settings.port = found.port
        return settings
    }
}
