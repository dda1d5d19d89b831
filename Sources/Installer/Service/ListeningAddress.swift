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

    /// These settings with the address at which a process listens in place of theirs; unchanged where it listens there as well, or
    /// nobody can tell.
    ///
    /// What the kernel says holds whatever was written to files, or exported in this shell, since the process was started.
    func listened(by pid: Int32, files: Files = Files()) -> Settings {
        let listeners = PortOwner.listeners(files: files)
        // The lowest descriptor is the one that a gateway serves.
        let own = PortOwner.sockets(of: pid, files: files).compactMap { mark in
            listeners.first { mark == "socket:[\($0.inode)]" }
        }
        // Not what is in its way: a gateway on one address is not yet on all of them.
        let wanted = PortOwner.address(of: host)
        guard !own.contains(where: { $0.port == port && (wanted == nil || $0.address == wanted) }),
            let found = own.first, let text = Settings.text(of: found.address)
        else { return self }
        var settings = self
        settings.host = text
        settings.port = found.port
        return settings
    }

    /// 4 or 16 bytes in network order as inet_ntop(3) writes them.
    private static func text(of address: [UInt8]) -> String? {
        var buffer = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        let family = address.count == 4 ? AF_INET : AF_INET6
        guard inet_ntop(family, address, &buffer, socklen_t(buffer.count)) != nil else { return nil }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
