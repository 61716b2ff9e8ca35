// SPDX-License-Identifier: Apache-2.0

package import HiPCompute

/// What a device needs of CUDA: the driver and a compiler that it goes with.
package struct CUDALibrary: Sendable, CustomStringConvertible {
  package let driver: CUDADriver
  package let compiler: KernelCompiler

  /// Finds both.
  /// - Throws: `unsupported`, with what is missing and what to do.
  package init(_ places: LibraryPlaces) throws(ComputeError) {
    driver = try CUDADriver(places)
    compiler = try KernelCompiler(places, for: driver)
  }

  /// Takes what a test has in their place.
  package init(driver: CUDADriver, compiler: KernelCompiler) {
    self.driver = driver
    self.compiler = compiler
  }

  /// Versions and paths.
  package var description: String {
    "driver for CUDA \(driver.version) (\(driver.path)), NVRTC \(compiler.version) (\(compiler.path))"
  }

  /// Major versions of libraries that go with a driver, the newest first.
  static func majors(for driver: CUDADriver?) -> [Int] {
    Array((12...max(13, driver?.version.major ?? 13)).reversed()).filter { major in
      driver.map { major <= $0.version.major } ?? true
    }
  }
}
