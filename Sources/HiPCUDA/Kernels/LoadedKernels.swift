// SPDX-License-Identifier: Apache-2.0

package import HiPCompute

/// The kernels that a device has loaded, each once.
package final class LoadedKernels {
  package let device: CUDADevice
  package let cache: KernelCache
  package let architecture: KernelArchitecture
  private var modules: [KernelProgram: CUDAModule] = [:]
  private var kernels: [Key: CUDAKernel] = [:]

  private struct Key: Hashable {
    let program: KernelProgram
    let name: String
  }

  /// Nothing is loaded yet.
  /// - Throws: `unsupported` when the compiler does not know the device, or the driver not the compiler's code.
  package init(_ device: CUDADevice, _ cache: KernelCache) throws(ComputeError) {
    try cache.compiler.check(device.driver)
    architecture = try cache.compiler.architecture(for: device.facts.capability)
    self.device = device
    self.cache = cache
  }

  /// A kernel of a program, which is compiled where nobody has done so before: up to seconds.
  package func kernel(
    _ name: String, of program: KernelProgram
  ) throws(ComputeError) -> CUDAKernel {
    let key = Key(program: program, name: name)
    if let kernel = kernels[key] { return kernel }
    let kernel = try CUDAKernel(name, in: module(program))
    kernels[key] = kernel
    return kernel
  }

  private func module(_ program: KernelProgram) throws(ComputeError) -> CUDAModule {
    if let module = modules[program] { return module }
    guard !device.isCapturing else {
      throw ComputeError(
        .device,
        "\(program) would be loaded while a graph is captured; this is a mistake in the program")
    }
    let module = try CUDAModule(
      try cache.cubin(program, for: architecture), of: program, on: device)
    modules[program] = module
    return module
  }
}
