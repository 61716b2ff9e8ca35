// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HiPTensors

/// The memory of this machine and of this process.
public enum MachineMemory {
  /// Bytes of memory that the machine has, or that its control groups may use.
  public static var physicalByteCount: Int {
    let machine = Int(ProcessInfo.processInfo.physicalMemory)
    let limit = ControlGroups.smallestLimit(
      of: "memory", unified: { ControlGroups.number(of: $0 + "/memory.max") },
      legacy: { ControlGroups.number(of: $0 + "/memory.limit_in_bytes") })
    return min(machine, limit ?? machine)
  }

  /// Bytes of addresses that the process may still take; nil where there is no limit.
  static var freeAddressSpace: Int? {
    var limit = rlimit()
    #if canImport(Darwin)
      guard unsafe getrlimit(RLIMIT_AS, &limit) == 0 else { return nil }
    #else
      guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0 else {
        return nil
      }
    #endif
    guard let most = Int(exactly: limit.rlim_cur), most < 1 << 60,
      let pages = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8),
      let used = pages.split(separator: " ").first.flatMap({ Int($0) })
    else { return nil }
    return max(0, most - used * Int(getpagesize()))
  }

  /// Bytes that the process holds in memory now; its peak where the system does not tell.
  public static var residentByteCount: Int {
    guard let pages = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8) else {
      return peakByteCount
    }
    let numbers = pages.split(separator: " ").compactMap { Int($0) }
    return numbers.count > 1 ? numbers[1] * Int(getpagesize()) : peakByteCount
  }

  /// The most bytes that the process has held in memory since it started or since `resetPeak`.
  public static var peakByteCount: Int {
    if let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8),
      let line = status.split(separator: "\n").first(where: { $0.hasPrefix("VmHWM:") }),
      let kilobytes = line.split(whereSeparator: { !$0.isNumber }).first.flatMap({ Int($0) })
    {
      return kilobytes * 1024
    }
    var usage = rusage()
    #if canImport(Darwin)
      unsafe getrusage(RUSAGE_SELF, &usage)
      return Int(usage.ru_maxrss)
    #else
      _ = unsafe getrusage(Int32(RUSAGE_SELF.rawValue), &usage)
      return Int(usage.ru_maxrss) * 1024
    #endif
  }

  /// Starts `peakByteCount` anew, where the system can (Linux).
  public static func resetPeak() {
    guard let file = FileHandle(forWritingAtPath: "/proc/self/clear_refs") else { return }
    try? file.write(contentsOf: Data("5".utf8))
    try? file.close()
  }
}
