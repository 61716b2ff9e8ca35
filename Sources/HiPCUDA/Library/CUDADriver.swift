// SPDX-License-Identifier: Apache-2.0

package import CHiPCUDA
package import HiPCompute

/// The CUDA driver of this machine, ready for use.
@safe package final class CUDADriver: Sendable {
  /// Pointers to functions without state, filled once; any thread may call them.
  nonisolated(unsafe) let table: UnsafePointer<ihp_driver>
  /// The newest CUDA whose code it runs.
  package let version: CUDAVersion
  /// Where it was found.
  package let path: String

  /// The oldest that has all functions that are used.
  static let oldest = CUDAVersion(12, 0)
  private static let remedy =
    "install the NVIDIA driver 525 or newer (580 for CUDA 13), in a container start it with its GPUs "
    + "(--gpus all), or compute on the CPU (--device cpu)"

  /// Finds and starts the driver.
  /// - Throws: `unsupported` when it is missing or too old, or finds no GPU.
  package convenience init(_ places: LibraryPlaces) throws(ComputeError) {
    let library = try SharedLibrary(
      SharedLibrary.Wanted(
        names: ["libcuda.so.1"], title: "the NVIDIA driver", remedy: Self.remedy),
      in: places)
    try unsafe self.init(
      path: library.path, library: library.handle, find: ihp_library_symbol)
  }

  /// Starts the driver whose functions `find` finds.
  @unsafe package init(
    path: String, library: UnsafeMutableRawPointer?, find: @escaping ihp_symbol_finder
  ) throws(ComputeError) {
    let table = UnsafeMutablePointer<ihp_driver>.allocate(capacity: 1)
    unsafe table.initialize(to: ihp_driver())
    unsafe self.table = UnsafePointer(table)
    self.path = path
    if let symbol = unsafe ihp_driver_fill(table, find, library) {
      version = CUDAVersion(0, 0)
      throw unsafe SharedLibrary.missing(symbol, in: path, Self.remedy)
    }
    var number: Int32 = 0
    let result = unsafe table.pointee.driver_version(&number)
    version = CUDAVersion(number: Int(number))
    try unsafe Self.check(result, table, "cuDriverGetVersion")
    guard version >= Self.oldest else {
      throw ComputeError(
        .unsupported,
        "the NVIDIA driver (\(path)) serves CUDA \(version), and \(Self.oldest) is needed; \(Self.remedy)"
      )
    }
    try unsafe Self.check(table.pointee.initialize(0), table, "cuInit")
  }

  deinit { unsafe table.deallocate() }

  /// A failure of the call named.
  func failure(_ result: Int32, _ call: StaticString, _ subject: String = "") -> CUDAFailure {
    unsafe CUDAFailure(result, table, call: "\(call)", subject: subject)
  }

  /// Throws when a call made of no device's own failed.
  func check(_ result: Int32, _ call: StaticString) throws(ComputeError) {
    try unsafe Self.check(result, table, call)
  }

  private static func check(
    _ result: Int32, _ table: UnsafePointer<ihp_driver>, _ call: StaticString
  ) throws(ComputeError) {
    guard result != IHP_CU_SUCCESS else { return }
    throw unsafe CUDAFailure(result, table, call: "\(call)", subject: "").error(device: nil)
  }
}
