import Appliance
import Jobs
import Platform
import Providers

extension FlightStart {
    /// The mark that claude's plan makes, `ephemeral` without a time, is good for five minutes.
    private static let markedSeconds = 300

    /// Notes what a prompt in parts begins with before its task, which other requests may share.
    ///
    /// The number of tokens is an estimate: four UTF-16 units are about one. Of several marks claude gets the last one; other CLIs
    /// take none.
    mutating func note(_ prompt: Prompt, of provider: Provider) {
        system = prompt.blocks.first { $0.name == "system" }?.text
        let stable = prompt.blocks.filter { $0.name != "task" }.map(\.text).filter { !$0.isEmpty }
        guard !stable.isEmpty else { return }
        let prefix = stable.joined(separator: "\n\n")
        stablePrefixHash = SHA256.hex(Array(prefix.utf8))
        stablePrefixTokens = (prefix.utf16.count + 3) / 4
        guard provider == .claude else { return }
        cacheControlBlocks = prompt.hasCacheMark ? 1 : 0
        if prompt.hasCacheMark { cacheControlTTLSeconds = FlightStart.markedSeconds }
    }
}
