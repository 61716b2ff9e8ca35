// SPDX-License-Identifier: Apache-2.0

public import ArgumentParser
import Foundation
import HiPCPU
public import HiPCUDA
import HiPCompute

/// A device by name.
enum DeviceArgument: ExpressibleByArgument, Hashable {
  case cpu
  /// A GPU of NVIDIA, counted from 0.
  case cuda(Int)

  init?(argument: String) {
    let parts = argument.split(separator: ":", omittingEmptySubsequences: false)
    switch (parts.first, parts.count) {
    case ("cpu", 1): self = .cpu
    case ("cuda", 1): self = .cuda(0)
    case ("cuda", 2):
      guard let number = Int(parts[1]), (0..<1024).contains(number) else { return nil }
      self = .cuda(number)
    default: return nil
    }
  }

  static var allValueStrings: [String] { ["cpu", "cuda", "cuda:N"] }

  var defaultValueDescription: String {
    switch self {
    case .cpu: "cpu"
    case .cuda(let number): "cuda:\(number)"
    }
  }
}

extension CUDABackend.Kernels: ExpressibleByArgument {}

/// Where something is computed.
struct DeviceOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "cpu, or an NVIDIA GPU: cuda, or cuda:N, counted from 0. What it needs: Docs/Devices.md.",
      valueName: "device"))
  var device = DeviceArgument.cpu

  @Option(
    help: ArgumentHelp(
      "Kernels of the GPU: plain are slow, for comparison. (default: tuned)", valueName: "set"))
  var cudaKernels: CUDABackend.Kernels?

  mutating func validate() throws {
    if device == .cpu, cudaKernels != nil {
      throw ValidationError("--cuda-kernels is for GPUs; add --device cuda, or leave it out")
    }
  }

  /// Refuses what only the CPU has.
  func refuse(_ options: [(name: String, isGiven: Bool)]) throws {
    guard device != .cpu, let refused = options.first(where: \.isGiven) else { return }
    throw ValidationError("\(refused.name) is for the CPU; leave it out, or take --device cpu")
  }

  /// Opens a GPU, with the kernels that earlier runs have compiled for it.
  func makeCUDA(_ number: Int) throws -> CUDABackend {
    let environment = ProcessInfo.processInfo.environment
    return try CUDABackend(
      number: number, kernels: cudaKernels ?? .tuned, home: environment["HOME"],
      environment: environment,
      cacheFolder: UserCaches.folder("cuda"))
  }
}
