// SPDX-License-Identifier: Apache-2.0

package import CHiPCUDA
package import HiPCompute

/// cuBLASLt, where it is installed: matrix products.
@safe package final class MatmulLibrary: Sendable {
  /// Pointers to functions that any thread may call.
  nonisolated(unsafe) let table: UnsafePointer<ihp_blaslt>
  package let version: CUDAVersion
  package let path: String

  private static let remedy =
    "install it with `pip install nvidia-cublas` (for CUDA 12 nvidia-cublas-cu12) or with the CUDA toolkit"

  /// Finds the library of the driver's major version, or an older one.
  package convenience init(
    _ places: LibraryPlaces, for driver: CUDADriver
  ) throws(ComputeError) {
    let names = CUDALibrary.majors(for: driver).map { "libcublasLt.so.\($0)" }
    let library = try SharedLibrary(
      SharedLibrary.Wanted(names: names, title: "cuBLASLt", remedy: Self.remedy), in: places)
    try unsafe self.init(
      path: library.path, library: library.handle, find: ihp_library_symbol)
  }

  /// Takes the library whose functions `find` finds.
  @unsafe package init(
    path: String, library: UnsafeMutableRawPointer?, find: @escaping ihp_symbol_finder
  ) throws(ComputeError) {
    let table = UnsafeMutablePointer<ihp_blaslt>.allocate(capacity: 1)
    unsafe table.initialize(to: ihp_blaslt())
    unsafe self.table = UnsafePointer(table)
    self.path = path
    if let symbol = unsafe ihp_blaslt_fill(table, find, library) {
      version = CUDAVersion(0, 0)
      throw unsafe SharedLibrary.missing(symbol, in: path, Self.remedy)
    }
    // 10000 * major + 100 * minor + patch.
    let number = Int(unsafe table.pointee.version())
    version = CUDAVersion(number / 10000, number / 100 % 100)
  }

  deinit { unsafe table.deallocate() }
}
