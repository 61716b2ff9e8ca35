// SPDX-License-Identifier: Apache-2.0

import Foundation
public import HiPCUDA

/// The GPU of the machine that tests run on.
public enum TestGPU {
  /// Whether there is one; a notice tells why not.
  public static let isThere: Bool = {
    do {
      _ = try open(.plain)
      return true
    } catch {
      print("NOTICE: no GPU was tested: \(error)")
      return false
    }
  }()

  /// Opens it, with the kernels that earlier tests have compiled.
  public static func open(_ kernels: CUDABackend.Kernels) throws -> CUDABackend {
    let environment = ProcessInfo.processInfo.environment
    return try CUDABackend(
      kernels: kernels, home: environment["HOME"], environment: environment,
      cacheFolder: FileManager.default.temporaryDirectory.path() + "/infinitehip-test-kernels")
  }
}
