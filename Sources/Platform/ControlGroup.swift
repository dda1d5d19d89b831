import Appliance
import Glibc

/// A control group of cgroups(7), version 2: all processes that were started in it, whatever session or parent they have by now.
package struct ControlGroup: Sendable, Equatable {
    /// As /proc/PID/cgroup names it: `/user.slice/…/llm-cli-gateway-job-ID.scope`.
    package let path: String
    private let folder: String
    private let files: Files

    /// Whether both have one path.
    package static func == (one: ControlGroup, other: ControlGroup) -> Bool { one.path == other.path }

    /// Where version 2 is mounted, alone or beside version 1.
    private static let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]

    /// The group of a path; `nil` when there is none, or none that can be seen from here.
    package init?(path: String, files: Files = Files()) {
        self.init(path: path, roots: ControlGroup.roots, files: files)
    }

    init?(path: String, roots: [String], files: Files) {
        guard path.hasPrefix("/"), path.count > 1, !path.split(separator: "/").contains(".."),
            let root = roots.first(where: { files.exists(Layout.join($0, "cgroup.controllers")) })
        else { return nil }
        self.path = path
        folder = root + path
        self.files = files
        guard files.exists(Layout.join(folder, "cgroup.procs")) else { return nil }
    }

    /// The group that this process is in; `nil` where there is no version 2.
    package static func own(files: Files = Files()) -> ControlGroup? {
        guard let text = try? files.readText("/proc/self/cgroup", limit: 64 << 10),
            let line = text.split(separator: "\n").first(where: { $0.hasPrefix("0::") })
        else { return nil }
        return ControlGroup(path: String(line.dropFirst(3)), files: files)
    }

    /// The last part of its path: the name of the unit.
    package var name: String { Files.name(of: path) }

    /// The processes in it and in the groups below it, zombies not counted.
    package func processes() -> Set<Int32> {
        var found: Set<Int32> = []
        var folders = [folder]
        while let folder = folders.popLast() {
            let text = (try? files.readText(Layout.join(folder, "cgroup.procs"), limit: 4 << 20)) ?? ""
            found.formUnion(text.split(separator: "\n").compactMap { Int32($0) })
            // A group has dozens of files; whether there are groups among them is in one.
            guard number("nr_descendants", in: "cgroup.stat", of: folder) > 0 else { continue }
            for name in (try? files.list(folder)) ?? [] {
                let path = Layout.join(folder, name)
                if ((try? files.status(path)) ?? nil)?.kind == .directory { folders.append(path) }
            }
        }
        // What our process name space does not show is a 0.
        return found.filter { $0 > 0 }
    }

    /// Ends all processes in it at once by SIGKILL, those that are being forked included.
    ///
    /// `false` where the kernel (before Linux 5.14) cannot do that, or the group is gone.
    @discardableResult
    package func kill() -> Bool {
        // Written in place: it is no file but a request.
        (try? files.append(Array("1".utf8), to: Layout.join(folder, "cgroup.kill"))) != nil
    }

    /// How many processes in it the kernel has ended because memory ran out; 0 where memory is not counted.
    package var outOfMemoryKills: Int { number("oom_kill", in: "memory.events", of: folder) }

    /// A line `NAME NUMBER` of a file.
    private func number(_ name: String, in file: String, of folder: String) -> Int {
        let text = (try? files.readText(Layout.join(folder, file), limit: 64 << 10)) ?? ""
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            if words.count == 2, words[0] == name { return Int(words[1]) ?? 0 }
        }
        return 0
    }
}
