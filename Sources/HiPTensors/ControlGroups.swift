// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The control groups of this process: what Linux lets it use of the machine.
package enum ControlGroups {
  /// The smallest limit of the process's group and those around it; nil without one.
  /// - Parameters:
  ///   - controller: what version 1 calls the resource, as `cpu` or `memory`.
  ///   - unified: the limit in a folder of version 2.
  ///   - legacy: the limit in a folder of version 1.
  package static func smallestLimit(
    of controller: String, unified: (_ folder: String) -> Int?, legacy: (_ folder: String) -> Int?
  ) -> Int? {
    guard let groups = text(of: "/proc/self/cgroup") else { return nil }
    var limits: [Int] = []
    for line in groups.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3 else { continue }
      let isUnified = parts[1].isEmpty
      guard isUnified || parts[1].split(separator: ",").contains(Substring(controller)) else {
        continue
      }
      var group = parts[2].split(separator: "/")
      while true {
        let path = group.map { "/" + $0 }.joined()
        let limit =
          isUnified
          ? unified("/sys/fs/cgroup" + path) : legacy("/sys/fs/cgroup/\(controller)" + path)
        if let limit { limits.append(limit) }
        guard group.popLast() != nil else { break }
      }
    }
    return limits.min()
  }

  /// The beginning of a small file of the system; nil where there is none.
  package static func text(of path: String) -> String? {
    guard let file = unsafe fopen(path, "r") else { return nil }
    defer { unsafe fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = unsafe fread(&bytes, 1, bytes.count, file)
    return String(decoding: bytes[..<count], as: UTF8.self)
  }

  /// The number that such a file holds alone; nil where it holds none, as "max".
  package static func number(of path: String) -> Int? {
    text(of: path).flatMap { Int($0.prefix { $0.isNumber }) }
  }
}
