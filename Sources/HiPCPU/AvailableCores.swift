// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPTensors

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
    ControlGroups.smallestLimit(
      of: "cpu",
      // Microseconds of a period, or "max".
      unified: { ControlGroups.text(of: $0 + "/cpu.max").flatMap(cores) },
      legacy: { folder in
        guard let quota = ControlGroups.text(of: folder + "/cpu.cfs_quota_us"),
          let period = ControlGroups.text(of: folder + "/cpu.cfs_period_us")
        else { return nil }
        return cores(quotaAndPeriod: quota + " " + period)
      })
  }

  /// Cores that a quota and its period, in microseconds, come to; nil when there is no limit.
  package static func cores(quotaAndPeriod text: String) -> Int? {
    let numbers = text.split(whereSeparator: \.isWhitespace).map { Double($0) }
    guard numbers.count == 2, let quota = numbers[0], let period = numbers[1], quota > 0, period > 0
    else { return nil }
    return max(1, Int((quota / period).rounded(.up)))
  }
}
