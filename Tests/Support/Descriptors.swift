import Glibc

/// Runs a body that is given no new descriptor, as in a process that has used up its limit.
///
/// Only for a moment, because it holds for the whole process.
package func withoutDescriptors<Value>(_ body: () -> Value) -> Value {
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    var none = limit
    none.rlim_cur = 3
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &none)
    defer { setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) }
    return body()
}
