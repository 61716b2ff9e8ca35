// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
public import HiPCompute
public import HiPTensors

/// What a machine's cores and memory can do at best: the rooflines that kernels are held against.
public struct MachinePeaks: Sendable, Hashable, Codable {
  /// Memory read, in 10^9 bytes a second.
  public let readGBs: Double
  /// Multiply-adds with factors in float32, in 10^9 operations a second, two to a multiply-add.
  public let fp32GFLOPs: Double
  /// The same in bfloat16; 0 where the kernels have no such products.
  public let bf16GFLOPs: Double
  /// The same in bytes; 0 where the kernels have no such products.
  public let int8GOPs: Double

  /// What products of many rows with such weights are bound by.
  public func products(with weights: ElementType, by kernels: CPUKernels) -> Double {
    weights.blockSize > 1 && kernels.quantisedProductElement == .q8_0
      ? int8GOPs : max(fp32GFLOPs, bf16GFLOPs)
  }
}

extension CPUBackend {
  /// Measures for about a second, with all threads; the best of several rounds.
  /// - Throws: when there is no memory to measure with.
  public func measurePeaks() throws(ComputeError) -> MachinePeaks {
    do { return try peaks() } catch { throw ComputeError(error) }
  }

  private func peaks() throws(MemoryError) -> MachinePeaks {
    let clock = ContinuousClock()
    func best(_ rounds: Int, _ body: () -> Double) -> Double {
      var best = 0.0
      for _ in 0..<rounds {
        var work = 0.0
        let time = clock.measure { work = body() }
        best = max(best, work / (time / .nanoseconds(1)))
      }
      return best
    }
    func peak(_ element: ihp_element) -> Double {
      let threads = pool.threadCount
      return best(8) {
        var work = [Double](repeating: 0, count: threads)
        work.withUnsafeMutableBufferPointer { work in
          nonisolated(unsafe) let work = work
          pool.run(threads) { item, _ in work[item] = table.peak(element, 2_000_000) }
        }
        return work.reduce(0, +)
      }
    }
    // Larger than the caches, and than what is left of them after other processes.
    let part = 1 << 20
    let memory = try HostBuffer<UInt8>(count: 512 << 20)
    let bytes = memory.elements
    for place in stride(from: 0, to: bytes.count, by: 4096) {
      bytes[place] = UInt8(place >> 12 & 255)
    }
    let read = best(6) {
      pool.run(bytes.count / part) { item, _ in
        guard let start = bytes.baseAddress else { return }
        // Depends on all bytes, so that none is left out.
        if table.stream(start + item * part, part) == 1 { bytes[item * part] = 0 }
      }
      return Double(bytes.count)
    }
    return MachinePeaks(
      readGBs: read, fp32GFLOPs: peak(IHP_F32), bf16GFLOPs: peak(IHP_BF16),
      int8GOPs: peak(IHP_Q8_0))
  }
}
