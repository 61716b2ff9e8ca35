// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The cores that this process may use: those of the machine, less what its affinity and the quotas of its
/// control groups rule out.
///
/// More threads than that only take turns.
package enum AvailableCores {
  /// At least one.
  package static var count: Int { max(1, min(affinityCount ?? onlineCount, quotaCount ?? .max)) }

  private static var onlineCount: Int {
    #if canImport(Darwin)
      Int(sysconf(_SC_NPROCESSORS_ONLN))
    #else
      Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    #endif
  }

  /// Nil where there is no such thing.
  private static var affinityCount: Int? {
    let count = ihp_affinity_count()
    return count > 0 ? count : nil
  }

  /// The smallest quota of the process's control group and those around it, in whole cores.
  private static var quotaCount: Int? {
    guard let groups = text(of: "/proc/self/cgroup") else { return nil }
    var quotas: [Int] = []
    for line in groups.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3 else { continue }
      let isUnified = parts[1].isEmpty
      guard isUnified || parts[1].split(separator: ",").contains("cpu") else { continue }
      var group = parts[2].split(separator: "/")
      while true {
        let path = group.map { "/" + $0 }.joined()
        if let quota = isUnified ? unifiedQuota(path) : legacyQuota(path) { quotas.append(quota) }
        guard group.popLast() != nil else { break }
      }
    }
    return quotas.min()
  }

  /// Of version 2: `cpu.max` holds microseconds of a period, or "max".
  private static func unifiedQuota(_ group: String) -> Int? {
    guard let text = text(of: "/sys/fs/cgroup\(group)/cpu.max") else { return nil }
    return cores(quotaAndPeriod: text)
  }

  private static func legacyQuota(_ group: String) -> Int? {
    let folder = "/sys/fs/cgroup/cpu\(group)/cpu.cfs_"
    guard let quota = text(of: folder + "quota_us"), let period = text(of: folder + "period_us")
    else { return nil }
    return cores(quotaAndPeriod: quota + " " + period)
  }

  /// Cores that a quota and its period, in microseconds, come to; nil when there is no limit.
  package static func cores(quotaAndPeriod text: String) -> Int? {
    let numbers = text.split(whereSeparator: \.isWhitespace).map { Double($0) }
    guard numbers.count == 2, let quota = numbers[0], let period = numbers[1], quota > 0, period > 0
    else { return nil }
    return max(1, Int((quota / period).rounded(.up)))
  }

  private static func text(of path: String) -> String? {
    guard let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = fread(&bytes, 1, bytes.count, file)
    return String(decoding: bytes[..<count], as: UTF8.self)
  }
}
