// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPCPU
import InfiniteHiP

/// The machine that results were measured on.
struct MachineDescription: Encodable {
  /// As the system names it.
  let processor: String
  /// Cores that the process may use.
  let cores: Int
  let memoryBytes: Int
  /// Kernels and threads of the device.
  let device: String

  init(device: String) {
    self.device = device
    cores = AvailableCores.count
    memoryBytes = MachineMemory.physicalByteCount
    let cpus = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
    let line = cpus.split(separator: "\n").first { $0.hasPrefix("model name") }
    processor =
      line?.split(separator: ":").last.map { $0.trimmingCharacters(in: .whitespaces) } ?? "unknown"
  }
}
