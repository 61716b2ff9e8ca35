// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
package import HiPCompute

/// Code on a device; unloaded with the last of its kernels.
@safe final class CUDAModule {
  let device: CUDADevice
  let handle: OpaquePointer

  init(
    _ cubin: [UInt8], of program: KernelProgram, on device: CUDADevice
  ) throws(ComputeError) {
    var handle: OpaquePointer?
    try device.call("cuModuleLoadData", "\(program)") { table in
      unsafe cubin.withUnsafeBytes { unsafe table.pointee.module_load(&handle, $0.baseAddress) }
    }
    self.device = device
    unsafe self.handle = try device.made(handle, "cuModuleLoadData")
  }

  deinit { device.release("cuModuleUnload") { unsafe $0.pointee.module_unload(handle) } }
}

/// A function that runs on a device.
@safe package final class CUDAKernel {
  package let name: String
  private let module: CUDAModule
  private let handle: OpaquePointer
  /// Bytes of each argument; nil where the driver does not tell.
  private let argumentSizes: [Int]?
  /// Bytes of shared memory that launches may ask for: 48 KB less what the kernel has of its own, 16 KB at most.
  private var allowedSharedByteCount = 32 << 10

  init(_ name: String, in module: CUDAModule) throws(ComputeError) {
    let device = module.device
    var handle: OpaquePointer?
    try device.call("cuModuleGetFunction", name) {
      unsafe $0.pointee.module_function(&handle, module.handle, name)
    }
    let function = unsafe try device.made(handle, "cuModuleGetFunction")
    argumentSizes = try unsafe Self.argumentSizes(of: function, device)
    self.name = name
    self.module = module
    unsafe self.handle = function
  }

  private static func argumentSizes(
    of function: OpaquePointer, _ device: CUDADevice
  ) throws(ComputeError) -> [Int]? {
    guard let ask = unsafe device.driver.table.pointee.function_parameter else { return nil }
    var sizes: [Int] = []
    while sizes.count < 64 {
      var (offset, size) = (0, 0)
      let result = try device.attempt("cuFuncGetParamInfo") { _ in
        unsafe ask(function, sizes.count, &offset, &size)
      }
      guard result == 0 else { break }
      sizes.append(size)
    }
    return sizes
  }

  /// Enqueues the kernel; nothing without blocks.
  /// - Parameter arguments: as the kernel declares them, each of the same size: addresses as `UInt64`, structures of
  ///   the headers `ihp_…_parameters.h`.
  package func launch<each Argument: BitwiseCopyable>(
    _ shape: LaunchShape, on stream: CUDAStream, _ arguments: repeat each Argument
  ) throws(ComputeError) {
    guard shape.grid.count > 0 else { return }
    var byteCount = 0
    var (count, fits) = (0, true)
    repeat Self.measure((each Argument).self, argumentSizes, &count, &byteCount, &fits)
    guard fits, argumentSizes.map({ $0.count == count }) ?? true else {
      throw ComputeError(
        .device,
        "the kernel \(name) takes arguments of \(argumentSizes ?? []) bytes and was given others; this is a mistake in "
          + "the program")
    }
    try allow(sharedByteCount: shape.sharedByteCount)
    try module.device.call("cuLaunchKernelEx", name) { table in
      unsafe withUnsafeTemporaryAllocation(
        byteCount: byteCount + 16, alignment: 16
      ) { bytes in
        unsafe withUnsafeTemporaryAllocation(
          of: UnsafeMutableRawPointer?.self, capacity: count + 1
        ) { pointers in
          var (index, offset) = (0, 0)
          repeat unsafe Self.store(each arguments, bytes, pointers, &index, &offset)
          return unsafe enqueue(shape, stream, pointers.baseAddress, table)
        }
      }
    }
  }

  private func enqueue(
    _ shape: LaunchShape, _ stream: CUDAStream,
    _ arguments: UnsafeMutablePointer<UnsafeMutableRawPointer?>?,
    _ table: UnsafePointer<ihp_driver>
  ) -> Int32 {
    func number(_ value: Int) -> UInt32 { UInt32(clamping: value) }
    return unsafe withUnsafeTemporaryAllocation(of: ihp_cu_launch_attribute.self, capacity: 3) {
      attributes in
      var count = 0
      if let cluster = shape.cluster {
        var attribute = ihp_cu_launch_attribute()
        attribute.id = Int32(IHP_CU_LAUNCH_CLUSTER)
        attribute.value.0 = number(cluster.x)
        attribute.value.1 = number(cluster.y)
        attribute.value.2 = number(cluster.z)
        unsafe attributes.initializeElement(at: count, to: attribute)
        count += 1
      }
      if shape.overlapsPrevious {
        var attribute = ihp_cu_launch_attribute()
        attribute.id = Int32(IHP_CU_LAUNCH_OVERLAP)
        attribute.value.0 = 1
        unsafe attributes.initializeElement(at: count, to: attribute)
        count += 1
      }
      if shape.isCooperative {
        var attribute = ihp_cu_launch_attribute()
        attribute.id = Int32(IHP_CU_LAUNCH_COOPERATIVE)
        attribute.value.0 = 1
        unsafe attributes.initializeElement(at: count, to: attribute)
        count += 1
      }
      var launch = unsafe ihp_cu_launch(
        grid_x: number(shape.grid.x), grid_y: number(shape.grid.y), grid_z: number(shape.grid.z),
        block_x: number(shape.block.x), block_y: number(shape.block.y),
        block_z: number(shape.block.z), shared_bytes: number(shape.sharedByteCount),
        stream: stream.handle, attributes: attributes.baseAddress, attribute_count: number(count))
      return unsafe table.pointee.launch(&launch, handle, arguments, nil)
    }
  }

  /// Shared memory beyond 48 KB in all has to be asked for once.
  private func allow(sharedByteCount: Int) throws(ComputeError) {
    guard sharedByteCount > allowedSharedByteCount else { return }
    try module.device.call("cuFuncSetAttribute", "\(name), \(sharedByteCount) bytes") {
      unsafe $0.pointee.function_set(
        handle, Int32(IHP_CU_FUNCTION_MAX_DYNAMIC_SHARED_BYTES),
        Int32(clamping: sharedByteCount))
    }
    allowedSharedByteCount = sharedByteCount
  }

  private static func measure<Argument: BitwiseCopyable>(
    _ type: Argument.Type, _ sizes: [Int]?, _ count: inout Int, _ byteCount: inout Int,
    _ fits: inout Bool
  ) {
    // C pads structures, Swift does not.
    let (size, padded) = (MemoryLayout<Argument>.size, MemoryLayout<Argument>.stride)
    if let sizes {
      fits = fits && count < sizes.count && (sizes[count] == size || sizes[count] == padded)
    }
    count += 1
    byteCount += (padded + 15) / 16 * 16
  }

  private static func store<Argument: BitwiseCopyable>(
    _ value: Argument, _ bytes: UnsafeMutableRawBufferPointer,
    _ pointers: UnsafeMutableBufferPointer<UnsafeMutableRawPointer?>, _ index: inout Int,
    _ offset: inout Int
  ) {
    unsafe bytes.storeBytes(of: value, toByteOffset: offset, as: Argument.self)
    unsafe pointers.initializeElement(at: index, to: bytes.baseAddress?.advanced(by: offset))
    index += 1
    offset += (MemoryLayout<Argument>.stride + 15) / 16 * 16
  }
}
