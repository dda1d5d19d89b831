import Appliance
import Platform
import PostgreSQL
import SQL

/// What gateways that share a server's database tell each other.
enum StoreNews: Sendable, Equatable {
    /// A job is over, or will never be.
    case ended(String)
    /// A caller elsewhere wants a job ended.
    case unwanted(String)

    /// One word for what happened, and the job's id.
    var text: String {
        switch self {
        case .ended(let id): "ended \(id)"
        case .unwanted(let id): "unwanted \(id)"
        }
    }

    /// `nil` for what a newer version tells.
    init?(_ text: String) {
        let words = text.split(separator: " ", maxSplits: 1).map(String.init)
        switch (words.first, words.count) {
        case ("ended", 2): self = .ended(words[1])
        case ("unwanted", 2): self = .unwanted(words[1])
        default: return nil
        }
    }
}

extension Store {
    /// Hands on what gateways announce until the task is cancelled, and `nil` whenever something may have been missed: at first,
    /// and after each loss of the connection.
    ///
    /// A file has no such thing. `report` gets each loss once.
    func hear(
        _ reactor: Reactor,
        report: @Sendable (GatewayError) -> Void,
        _ take: @Sendable ([StoreNews]?) async -> Void
    ) async {
        guard let server else { return }
        let ear = Ear(server)
        let shortest = Duration.milliseconds(200)
        var pause = shortest
        while !Task.isCancelled {
            do throws(GatewayError) {
                // What is announced goes by the name of the tables' schema, which the first gateway makes.
                try await open()
                let descriptor = try await ear.open()
                pause = shortest
                await take(nil)
                while await reactor.readable(descriptor) {
                    let news = try await ear.news().compactMap(StoreNews.init)
                    if !news.isEmpty { await take(news) }
                }
            } catch {
                // Of a server that stays away, the store's other calls tell.
                if pause == shortest { report(error) }
            }
            await ear.close()
            if (try? await clock.sleep(pause)) == nil { return }
            pause = min(pause * 2, .seconds(10))
        }
    }

    /// Notes that a caller wants a job of another machine ended, and tells its gateway.
    func want(ended job: String) async throws(GatewayError) {
        try await write { connection throws(GatewayError) in
            try connection.transaction { () throws(GatewayError) in
                try connection.execute(
                    "UPDATE jobs SET cancel_wanted = 1 WHERE id = ?1 AND status = 'running'",
                    [.text(job)]
                )
                try connection.announce(StoreNews.unwanted(job).text)
            }
        }
    }

    /// The jobs of a gateway that somebody elsewhere wants ended.
    func unwanted(of instance: String) async throws(GatewayError) -> [String] {
        try await read { connection throws(GatewayError) in
            try connection.all(
                "SELECT id FROM jobs WHERE owner_instance = ?1 AND status = 'running' AND cancel_wanted = 1",
                [.text(instance)]
            ) { $0.text(0) ?? "" }
        }
    }
}

/// The connection that hears, on a thread of its own.
private actor Ear {
    private let executor = ThreadExecutor("store-news")
    private let server: DatabaseServer
    private var listener: ServerListener?
    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    init(_ server: DatabaseServer) { self.server = server }

    /// What becomes readable when there is news.
    func open() throws(GatewayError) -> Int32 {
        let made = try ServerListener(server)
        listener = made
        return made.descriptor
    }

    func news() throws(GatewayError) -> [String] { try listener?.news() ?? [] }

    func close() { listener = nil }
}
