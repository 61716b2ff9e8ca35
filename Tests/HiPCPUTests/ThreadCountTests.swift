// SPDX-License-Identifier: Apache-2.0

import HiPCPU
import HiPCompute
import HiPTensors
import TestSupport
import Testing

/// What a row comes to does not depend on how many threads share a product, to the bit.
@Suite struct ThreadCountTests {
  private func product(
    rows: Int, outputs: [Int], width: Int, threads: Int, _ kernels: CPUKernels
  ) throws -> [[Float]] {
    let backend = try CPUBackend(threads: threads, kernels: kernels)
    var numbers = SeededNumbers(9)
    let input = try backend.makeTensor(
      .values(numbers.normals(rows * width)), element: .float32, rows: rows, columns: width)
    let calls = try outputs.map { count in
      MatmulCall(
        input: input,
        weight: try backend.makeTensor(
          .values(numbers.normals(count * width)), element: .float32, rows: count, columns: width),
        output: try backend.makeTensor(
          .values(numbers.normals(rows * count)), element: .float32, rows: rows, columns: count),
        update: .add, scale: 0.75, decodeRows: 2)
    }
    backend.multiply(calls)
    _ = try backend.submit()
    return try calls.map { try backend.download($0.output) }
  }

  /// Fewer panels of outputs than threads: rows go apart, at places where no tile of rows ends.
  @Test(arguments: CPUKernels.supported, [[40], [64, 130], [192, 64, 64]])
  func productsOfFewOutputs(_ kernels: CPUKernels, _ outputs: [Int]) throws {
    for rows in [67, 301] {
      // Deeper than a panel that is unpacked at a time.
      let alone = try product(rows: rows, outputs: outputs, width: 544, threads: 1, kernels)
      for threads in [2, 5, 16, 64] {
        let shared = try product(
          rows: rows, outputs: outputs, width: 544, threads: threads, kernels)
        #expect(shared == alone, "\(threads) threads, \(rows) rows")
      }
    }
  }
}
