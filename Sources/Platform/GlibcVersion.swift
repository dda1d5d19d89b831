import CShims

/// The C library of this system.
package enum GlibcVersion {
    /// Its version: `2.36`.
    package static var running: String { String(cString: gnu_get_libc_version()) }
}
