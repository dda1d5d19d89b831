import Appliance
import Glibc
import MCP
import Platform
import TestSupport
import Testing

@testable import Gateway

@Suite("Keeping runs inside workspaces")
struct WorkspacesTests {
    private let home: TemporaryDirectory
    private let workspaces: Workspaces

    init() throws {
        home = try TemporaryDirectory()
        let files = Files()
        for folder in ["blog/src", "blog/.ssh", "blog/.config/x", "other", "gateway"] {
            try files.makeDirectory(home.path(folder))
        }
        try files.link(home.path("blog/out"), to: home.path("other"))
        try files.write("x".utf8, to: home.path("blog/notes.txt"))
        try files.write("x".utf8, to: home.path("other/secret.txt"))
        var configuration = Configuration.Workspaces()
        var blog = Configuration.Workspaces.Repository(alias: "blog", path: home.path("blog"))
        blog.providers = ["claude", "codex"]
        var open = Configuration.Workspaces.Repository(alias: "open", path: home.path("blog"))
        open.allowAddDir = true
        let gone = Configuration.Workspaces.Repository(alias: "gone", path: home.path("nowhere"))
        configuration.repositories = [blog, open, gone]
        workspaces = Workspaces(
            configuration: configuration,
            layout: try Layout(environment: ["HOME": home.root, "LLM_GATEWAY_HOME": home.path("gateway")]),
            ownDirectory: home.path("other"),
            files: files
        )
    }

    private func place(
        _ workspace: String? = "blog",
        provider: String = "claude",
        directory: String? = nil,
        added: [String] = [],
        transport: Transport = .http
    ) throws(GatewayError) -> Workspaces.Place {
        try workspaces.place(
            Workspaces.Request(
                provider: provider,
                workspace: workspace,
                sessionWorkspace: nil,
                workingDirectory: directory,
                addedDirectories: added,
                transport: transport
            )
        )
    }

    private func refusal(_ body: () throws -> Void) -> String? {
        #expect(throws: GatewayError.self, performing: body)?.message
    }

    @Test("a run over HTTP without a workspace is refused in the contract's words")
    func required() throws {
        let message = refusal { _ = try place(nil) }
        #expect(
            message
                == "Remote HTTP provider requests require a registered workspace alias, session workspace, or "
                + "[workspaces].default."
        )
    }

    @Test("a run on stdio without a workspace stays in the client's folder")
    func stdio() throws {
        let place = try place(nil, directory: nil, transport: .stdio)
        #expect(
            place == Workspaces.Place(directory: home.path("other"), addedDirectories: [], workspace: nil)
        )
        #expect(
            try self.place(nil, directory: home.path("blog"), transport: .stdio).directory
                == home.path("blog")
        )
    }

    @Test("the default workspace is for HTTP, and not for a client on stdio, which has a folder of its own")
    func defaultWorkspace() throws {
        var configuration = workspaces.configuration
        configuration.defaultAlias = "blog"
        let workspaces = Workspaces(
            configuration: configuration,
            layout: workspaces.layout,
            ownDirectory: home.path("other"),
            files: Files()
        )
        var request = Workspaces.Request(provider: "claude", addedDirectories: [], transport: .http)
        #expect(try workspaces.place(request).workspace == "blog")
        request.transport = .stdio
        #expect(try workspaces.place(request).workspace == nil)
        #expect(try workspaces.place(request).directory == home.path("other"))
    }

    @Test("a gateway on stdio in its own folder asks for a workspace too")
    func ownHome() throws {
        let inside = Workspaces(
            configuration: workspaces.configuration,
            layout: workspaces.layout,
            ownDirectory: workspaces.layout.home,
            files: Files()
        )
        let request = Workspaces.Request(provider: "claude", addedDirectories: [], transport: .stdio)
        #expect(refusal { _ = try inside.place(request) }?.hasPrefix("Remote HTTP provider requests") == true)
    }

    @Test("relative folders count from the workspace's root")
    func relative() throws {
        let place = try place(directory: "src", added: ["src"])
        #expect(place.directory == home.path("blog/src"))
        #expect(place.addedDirectories == [home.path("blog/src")])
        #expect(place.workspace == "blog")
    }

    @Test(
        "what leads out of the workspace is refused",
        arguments: ["..", "src/../..", "out", "missing", "notes.txt", "src/../../other"]
    )
    func escapes(path: String) throws {
        #expect(
            refusal { _ = try place(directory: path) }
                == "workingDir '\(path)' is not a folder inside the workspace 'blog'"
        )
        #expect(
            refusal { _ = try place(added: [path]) }
                == "addDir '\(path)' is not a folder inside the workspace 'blog'"
        )
    }

    @Test("folders of keys are refused even inside", arguments: [".ssh", ".config/x"])
    func secrets(path: String) throws {
        let folder = path.split(separator: "/")[0]
        #expect(
            refusal { _ = try place(directory: path) }
                == "workingDir '\(path)' leads into '\(folder)', which no run may be given"
        )
    }

    @Test("an absolute added folder outside needs the workspace's permission")
    func absolute() throws {
        #expect(
            refusal { _ = try place(added: [home.path("other")]) }
                == "addDir '\(home.path("other"))' is absolute, and the workspace 'blog' does not allow that"
        )
        #expect(try place("open", added: [home.path("other")]).addedDirectories == [home.path("other")])
        #expect(try place(added: [home.path("blog/src")]).addedDirectories == [home.path("blog/src")])
        #expect(refusal { _ = try place(directory: home.path("blog")) }?.contains("is absolute") == true)
    }

    @Test("a provider that the workspace does not list, and a workspace that is not there, are named")
    func notAllowed() throws {
        #expect(refusal { _ = try place(provider: "grok") } == "the workspace 'blog' does not allow grok")
        #expect(refusal { _ = try place("blub") } == "no workspace 'blub' is registered")
        #expect(
            refusal { _ = try place("gone") } == "the folder of the workspace 'gone' does not exist any more"
        )
    }

    @Test("files that a confined run is pointed to stay inside, also those that it is to write")
    func confinedFiles() throws {
        let place = try place()
        func use(_ path: String, written: Bool) throws {
            try workspaces.confine(path, of: "images", isWritten: written, to: place)
        }
        try use("notes.txt", written: false)
        try use("src/new.log", written: true)
        for path in ["../other/secret.txt", "out/secret.txt", home.path("other/secret.txt"), "missing.txt"] {
            #expect(
                refusal { try use(path, written: false) }
                    == "images '\(path)' is not inside the workspace 'blog'"
            )
        }
        #expect(
            refusal { try use("../new.log", written: true) }
                == "images '../new.log' is not inside the workspace 'blog'"
        )
        #expect(
            refusal { try use("out/new.log", written: true) }
                == "images 'out/new.log' is not inside the workspace 'blog'"
        )
    }
}
