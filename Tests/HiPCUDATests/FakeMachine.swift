// SPDX-License-Identifier: Apache-2.0

import CHiPCUDA
import FakeCUDA
import Foundation
import HiPCUDA
import HiPCompute
import Testing

/// All tests of the package's CUDA code: they share one fake machine, and so run one after the other.
@Suite(.serialized) enum CUDATests {}

/// A machine with a GPU that is none.
struct FakeMachine {
  /// Whatever the last test left is gone.
  init(
    memory: Int = 1 << 30, driver: CUDAVersion = CUDAVersion(13, 0), major: Int32 = 9,
    minor: Int32 = 0
  ) {
    fake_cuda_reset(memory, Int32(driver.major * 1000 + driver.minor * 10), major, minor)
  }

  func driver() throws -> CUDADriver {
    try CUDADriver(path: "fake/libcuda.so.1", library: nil, find: fake_cuda_symbol)
  }

  func compiler() throws -> KernelCompiler {
    try KernelCompiler(path: "fake/libnvrtc.so.13", library: nil, find: fake_nvrtc_symbol)
  }

  func device() throws -> CUDADevice { try CUDADevice(driver()) }

  /// Kernels that are compiled each time.
  func kernels(_ device: CUDADevice) throws -> LoadedKernels {
    try LoadedKernels(device, KernelCache(folder: nil, compiler: compiler()))
  }

  /// Tells the device what the tuned kernels take.
  func declareAttention() {
    let map = Int(IHP_CU_TENSOR_MAP_BYTES)
    fake_cuda_declare("completeMeans", [MemoryLayout<ihp_means>.stride], 1)
    fake_cuda_declare(
      "attentionPrefill", [MemoryLayout<ihp_prefill>.stride, map, map, map, map], 5)
    fake_cuda_declare("attentionDecode", [MemoryLayout<ihp_decode>.stride], 1)
    for name in ["scanSketches", "selectChunks", "scoreSurvivors", "attendSelected", "decodeOnce"] {
      fake_cuda_declare(name, [MemoryLayout<ihp_select_decode>.stride], 1)
    }
    fake_cuda_declare("averageQueries", [MemoryLayout<ihp_select_prefill>.stride], 1)
    fake_cuda_declare("scanForSets", [MemoryLayout<ihp_select_prefill>.stride], 1)
    fake_cuda_declare("refineSets", [MemoryLayout<ihp_select_prefill>.stride, map], 2)
  }

  /// What the device did since the last time, line by line.
  func takeLog() -> [String] {
    defer { fake_cuda_clear_log() }
    return String(cString: fake_cuda_log()).split(separator: "\n").map(String.init)
  }

  func calls(_ name: String) -> Int { fake_cuda_calls(name) }

  /// Nothing is left, and nothing was misused.
  func expectClean(sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(fake_cuda_live() == 0, sourceLocation: sourceLocation)
    #expect(fake_cuda_bytes() == 0, sourceLocation: sourceLocation)
    #expect(fake_cuda_mistakes() == 0, sourceLocation: sourceLocation)
  }
}

/// The error that `body` throws.
func computeError(
  sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> Void
) throws -> ComputeError {
  do {
    try body()
  } catch {
    return try #require(error as? ComputeError, sourceLocation: sourceLocation)
  }
  Issue.record("nothing was thrown", sourceLocation: sourceLocation)
  throw CancellationError()
}

/// A folder that goes with the test.
final class TemporaryFolder {
  let path = FileManager.default.temporaryDirectory.appending(path: "hip-cuda-\(UUID())").path(
    percentEncoded: false)

  init() throws {
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  var names: [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
  }
}
