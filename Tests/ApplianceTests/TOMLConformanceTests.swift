import Appliance
import Glibc
import Testing

/// The official cases of TOML 1.0, where the sibling folder has them.
@Suite("The TOML 1.0 conformance cases")
struct TOMLConformanceTests {
    private static let folder: String = {
        let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        return "/\(root)/../shared/conformance/toml"
    }()

    private static func read(_ name: String) -> [UInt8]? {
        guard let file = fopen("\(folder)/\(name)", "r") else { return nil }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while case let count = fread(&buffer, 1, buffer.count, file), count > 0 {
            bytes.append(contentsOf: buffer[..<count])
        }
        return bytes
    }

    @Test("reads every valid document as expected and refuses every invalid one")
    func cases() throws {
        guard let list = TOMLConformanceTests.read("files-toml-1.0.0") else {
            print("skipped: no conformance cases in \(TOMLConformanceTests.folder)")
            return
        }
        var valid = 0, invalid = 0
        for name in String(decoding: list, as: UTF8.self).split(separator: "\n") where name.hasSuffix(".toml")
        {
            let bytes = try #require(TOMLConformanceTests.read(String(name)), "\(name) is missing")
            let result = Result { () throws(TOMLError) in try TOML.parse(bytes) }
            if name.hasPrefix("invalid/") {
                invalid += 1
                #expect(throws: TOMLError.self, "\(name) must be refused") { try result.get() }
            } else {
                valid += 1
                let json = try #require(TOMLConformanceTests.read(name.dropLast(5) + ".json"))
                let expected = try JSON.parse(json)
                do {
                    let table = try result.get()
                    #expect(matches(.table(table), expected), "\(name) was read as \(table)")
                } catch {
                    Issue.record("\(name): \(error)")
                }
            }
        }
        #expect(valid > 0 && invalid > 0)
        print("TOML conformance: \(valid) valid and \(invalid) invalid documents")
    }

    private func matches(_ value: TOML, _ expected: JSON) -> Bool {
        if let table = value.table, let object = expected.object {
            return table.entries.count == object.count
                && table.entries.allSatisfy { entry in
                    object[entry.key].map { matches(entry.element.value, $0) } ?? false
                }
        }
        if let array = value.array, let elements = expected.array {
            return array.count == elements.count
                && zip(array, elements).allSatisfy { matches($0.value, $1) }
        }
        guard let type = expected["type"]?.string, let text = expected["value"]?.string else { return false }
        switch value {
        case .string(let string): return type == "string" && Array(string.utf8) == Array(text.utf8)
        case .integer(let integer): return type == "integer" && integer == Int64(text)
        case .float(let float):
            guard type == "float", let number = Double(text) else { return false }
            return float == number || (float.isNaN && number.isNaN)
        case .boolean(let boolean): return type == "bool" && "\(boolean)" == text
        case .offsetDateTime(let date): return type == "datetime" && sameTime(date, text)
        case .localDateTime(let date): return type == "datetime-local" && sameTime(date, text)
        case .localDate(let date): return type == "date-local" && date == text
        case .localTime(let time): return type == "time-local" && sameTime(time, text)
        case .array, .table: return false
        }
    }

    /// Whether two times differ at most in trailing zeros of the fraction.
    private func sameTime(_ first: String, _ second: String) -> Bool {
        func normal(_ text: String) -> String {
            guard let dot = text.firstIndex(of: ".") else { return text }
            let rest = text[text.index(after: dot)...]
            let zone = rest.drop { $0.isNumber }
            var fraction = rest.prefix { $0.isNumber }
            while fraction.hasSuffix("0") { fraction = fraction.dropLast() }
            return text[..<dot] + (fraction.isEmpty ? "" : ".\(fraction)") + zone
        }
        return normal(first) == normal(second)
    }
}
