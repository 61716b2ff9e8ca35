// SPDX-License-Identifier: Apache-2.0

package import CHiPCUDA
package import HiPCompute

/// NVRTC: makes cubins of the kernels' sources.
@safe package final class KernelCompiler: Sendable {
  /// Pointers to functions that any thread may call.
  nonisolated(unsafe) private let table: UnsafePointer<ihp_nvrtc>
  package let version: CUDAVersion
  /// Where it was found.
  package let path: String
  /// Capabilities that it knows, 90 for 9.0.
  package let knownCapabilities: [Int]

  private static let remedy =
    "install it with `pip install nvidia-cuda-nvrtc` (for CUDA 12 nvidia-cuda-nvrtc-cu12) or with the CUDA toolkit"

  /// What every kernel is compiled with.
  static let options = ["--std=c++17", "-default-device", "--fmad=true"]

  /// Finds the library of the driver's major version, or an older one.
  /// - Parameter driver: nil: cubins are made, but not run.
  package convenience init(
    _ places: LibraryPlaces, for driver: CUDADriver?
  ) throws(ComputeError) {
    let names = CUDALibrary.majors(for: driver).map { "libnvrtc.so.\($0)" }
    var remedy = Self.remedy
    if let driver, let newer = Self.newer(than: driver, in: places) {
      remedy =
        "\(newer) is for a newer driver than this one for CUDA \(driver.version): update the driver, or "
        + "\(Self.remedy)"
    }
    let library = try SharedLibrary(
      SharedLibrary.Wanted(
        names: names, title: "NVRTC, the compiler of CUDA kernels,", remedy: remedy,
        companions: "libnvrtc-builtins.so.*[0-9]"), in: places)
    try unsafe self.init(
      path: library.path, library: library.handle, find: ihp_library_symbol)
    if let driver { try check(driver) }
  }

  /// Takes the library whose functions `find` finds.
  @unsafe package init(
    path: String, library: UnsafeMutableRawPointer?, find: @escaping ihp_symbol_finder
  ) throws(ComputeError) {
    let table = UnsafeMutablePointer<ihp_nvrtc>.allocate(capacity: 1)
    unsafe table.initialize(to: ihp_nvrtc())
    unsafe self.table = UnsafePointer(table)
    if let symbol = unsafe ihp_nvrtc_fill(table, find, library) {
      (version, knownCapabilities, self.path) = (CUDAVersion(0, 0), [], path)
      throw unsafe SharedLibrary.missing(symbol, in: path, Self.remedy)
    }
    var (major, minor, count): (Int32, Int32, Int32) = (0, 0, 0)
    _ = unsafe table.pointee.version(&major, &minor)
    version = CUDAVersion(Int(major), Int(minor))
    _ = unsafe table.pointee.architecture_count(&count)
    var known = [Int32](repeating: 0, count: max(0, Int(count)))
    if !known.isEmpty { _ = unsafe table.pointee.architectures(&known) }
    knownCapabilities = known.map(Int.init)
    self.path =
      unsafe SharedLibrary.path(of: unsafeBitCast(table.pointee.version, to: UnsafeRawPointer.self))
      ?? path
  }

  deinit { unsafe table.deallocate() }

  /// A library of a newer major version than the driver's.
  private static func newer(than driver: CUDADriver, in places: LibraryPlaces) -> String? {
    let found = places.paths(of: "libnvrtc.so.1[0-9]")
    return found.first { path in
      (Int(path.suffix(2)) ?? 0) > driver.version.major
    }
  }

  /// Throws when cubins of this compiler do not run on a driver.
  package func check(_ driver: CUDADriver) throws(ComputeError) {
    guard version.major <= driver.version.major else {
      throw ComputeError(
        .unsupported,
        "NVRTC \(version) (\(path)) makes code for drivers of CUDA \(version.major).0 or newer, and the driver serves "
          + "CUDA \(driver.version): update the driver, or install NVRTC \(driver.version.major) "
          + "(`pip install nvidia-cuda-nvrtc-cu\(driver.version.major)`)")
    }
  }

  /// What to compile for a device.
  package func architecture(
    for capability: DeviceFacts.Capability
  ) throws(ComputeError) -> KernelArchitecture {
    guard let architecture = KernelArchitecture(capability, known: knownCapabilities) else {
      throw ComputeError(
        .unsupported,
        "NVRTC \(version) (\(path)) knows no GPU of compute capability \(capability); install a newer one "
          + "(`pip install -U nvidia-cuda-nvrtc`), and a driver that goes with it")
    }
    return architecture
  }

  /// All options for a program, in order.
  func options(_ program: KernelProgram, _ architecture: KernelArchitecture) -> [String] {
    ["--gpu-architecture=\(architecture)"] + Self.options
      + program.macros.map { "-D\($0.name)=\($0.value)" }
  }

  /// The code of a program.
  package func compile(
    _ program: KernelProgram, for architecture: KernelArchitecture
  ) throws(ComputeError) -> [UInt8] {
    guard let source = KernelSource.named(program.file) else {
      throw ComputeError(
        .unsupported,
        KernelSource.all.isEmpty
          ? "this build holds no GPU kernels, since its C compiler has no #embed; build it with Swift 6.2 or newer"
          : "there is no file of kernels \(program.file); this is a mistake in the program")
    }
    var handle: OpaquePointer?
    let headers = KernelSource.headers
    let texts = unsafe headers.map { unsafe Optional($0.text) }
    let created = unsafe withCStrings(headers.map(\.name)) { names in
      unsafe table.pointee.create(
        &handle, source.text, source.name, Int32(headers.count), texts, names)
    }
    defer { if unsafe handle != nil { _ = unsafe table.pointee.destroy(&handle) } }
    guard created == 0, let opened = unsafe handle else {
      throw failure(created, program, architecture, log: "")
    }
    let options = options(program, architecture)
    let compiled = unsafe withCStrings(options) {
      unsafe table.pointee.compile(opened, Int32(options.count), $0)
    }
    guard compiled == 0 else {
      throw unsafe failure(compiled, program, architecture, log: log(of: opened))
    }
    var count = 0
    var result = unsafe table.pointee.cubin_size(opened, &count)
    var cubin = [UInt8](repeating: 0, count: count)
    if result == 0, count > 0 {
      unsafe cubin.withUnsafeMutableBytes { bytes in
        unsafe result = table.pointee.cubin(
          opened, bytes.baseAddress?.assumingMemoryBound(to: CChar.self))
      }
    }
    guard result == 0, count > 0 else {
      throw unsafe failure(result, program, architecture, log: log(of: opened))
    }
    return cubin
  }

  private func log(of program: OpaquePointer) -> String {
    var count = 0
    guard unsafe table.pointee.log_size(program, &count) == 0, count > 1 else { return "" }
    var text = [CChar](repeating: 0, count: count)
    guard unsafe table.pointee.log(program, &text) == 0 else { return "" }
    return String(
      decoding: text.prefix { $0 != 0 }.prefix(4000).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  private func failure(
    _ result: Int32, _ program: KernelProgram, _ architecture: KernelArchitecture, log: String
  ) -> ComputeError {
    let what = "\(program) for \(architecture) with NVRTC \(version) (\(path))"
    return switch Int(result) {
    case IHP_NVRTC_OUT_OF_MEMORY:
      ComputeError(
        .outOfMemory(neededBytes: 0),
        "there is no memory to compile \(what); close other programs")
    case IHP_NVRTC_BUILTIN_OPERATION_FAILURE:
      ComputeError(
        .unsupported,
        "\(what) lacks its libnvrtc-builtins: install both anew, in one folder. \(log)")
    default:
      ComputeError(
        .unsupported,
        "\(what) does not compile (\(result)): install another version of NVRTC, or compute on the CPU (--device cpu), "
          + "and report this. \(log)")
    }
  }
}

/// Strings as an array of C's, while `body` runs.
private func withCStrings<Result>(
  _ strings: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> Result
) -> Result {
  var bytes: [CChar] = []
  let starts = strings.map { string in
    defer { bytes += string.utf8.map { CChar(bitPattern: $0) } + [0] }
    return bytes.count
  }
  return unsafe bytes.withUnsafeBufferPointer { buffer in
    // Empty arrays have no address; C wants one all the same.
    let pointers = unsafe starts.map { unsafe buffer.baseAddress?.advanced(by: $0) } + [nil]
    return unsafe pointers.withUnsafeBufferPointer {
      unsafe body($0.baseAddress.unsafelyUnwrapped)
    }
  }
}
