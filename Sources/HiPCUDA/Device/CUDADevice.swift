// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
package import HiPCompute

/// One GPU: its context, and the one way to call the driver about it.
///
/// Used by one thread at a time, which may be another one from call to call. All that is made of a device keeps it;
/// it is given back with the last of them.
@safe package final class CUDADevice {
  package let facts: DeviceFacts
  package let driver: CUDADriver
  /// Which of the machine's it is.
  package let number: Int
  private let handle: Int32
  private let context: OpaquePointer
  /// Why the device answers nothing any more.
  package private(set) var loss: ComputeError?
  /// Whether a stream records a graph instead of computing.
  package internal(set) var isCapturing = false

  /// The least that kernels are written for.
  static let oldest = DeviceFacts.Capability(8, 0)

  /// Opens the device of that number.
  package init(_ driver: CUDADriver, number: Int = 0) throws(ComputeError) {
    self.driver = driver
    self.number = number
    let table = unsafe driver.table
    var handle: Int32 = 0
    try driver.check(
      unsafe table.pointee.device_get(&handle, Int32(clamping: number)), "cuDeviceGet")
    let facts = try Self.facts(of: handle, driver)
    guard facts.capability >= Self.oldest else {
      throw ComputeError(
        .unsupported,
        "the GPU (\(facts.name)) has compute capability \(facts.capability), and \(Self.oldest) is needed (A100 or "
          + "newer); compute on the CPU (--device cpu)")
    }
    var context: OpaquePointer?
    let result = unsafe table.pointee.context_retain(&context, handle)
    guard result == 0, let context = unsafe context else {
      throw driver.failure(result, "cuDevicePrimaryCtxRetain").error(device: facts.name)
    }
    self.facts = facts
    self.handle = handle
    unsafe self.context = context
  }

  deinit { _ = unsafe driver.table.pointee.context_release(handle) }

  private static func facts(
    of handle: Int32, _ driver: CUDADriver
  ) throws(ComputeError) -> DeviceFacts {
    let table = unsafe driver.table
    func attribute(_ number: Int) throws(ComputeError) -> Int {
      var value: Int32 = 0
      let result = unsafe table.pointee.device_attribute(&value, Int32(number), handle)
      try driver.check(result, "cuDeviceGetAttribute")
      return Int(value)
    }
    var name = [CChar](repeating: 0, count: 256)
    try driver.check(
      unsafe table.pointee.device_name(&name, Int32(name.count), handle), "cuDeviceGetName")
    var byteCount = 0
    try driver.check(unsafe table.pointee.device_bytes(&byteCount, handle), "cuDeviceTotalMem")
    let memoryClock = Double(try attribute(IHP_CU_MEMORY_CLOCK_KHZ)) * 1000
    return DeviceFacts(
      name: String(
        decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self),
      capability: DeviceFacts.Capability(
        try attribute(IHP_CU_CAPABILITY_MAJOR), try attribute(IHP_CU_CAPABILITY_MINOR)),
      memoryByteCount: byteCount,
      multiprocessorCount: try attribute(IHP_CU_MULTIPROCESSORS),
      cacheByteCount: try attribute(IHP_CU_L2_BYTES),
      sharedByteCount: try attribute(IHP_CU_SHARED_BYTES_PER_BLOCK),
      clockHertz: Double(try attribute(IHP_CU_CLOCK_KHZ)) * 1000,
      // Two transfers a cycle.
      peakBandwidth: 2 * memoryClock * Double(try attribute(IHP_CU_MEMORY_BUS_BITS)) / 8)
  }

  /// Calls the driver with this device's context.
  /// - Parameters:
  ///   - name: the driver's name of the function, for errors.
  ///   - subject: what it is about, for errors.
  /// - Throws: what the driver answers, or why the device is lost.
  @safe func call(
    _ name: StaticString, _ subject: @autoclosure () -> String = "",
    _ body: (UnsafePointer<ihp_driver>) -> Int32
  ) throws(ComputeError) {
    let result = try attempt(name, subject(), body)
    guard result != 0 else { return }
    throw driver.failure(result, name, subject()).error(device: facts.name)
  }

  /// Calls the driver with this device's context, and leaves it to the caller what to make of the answer.
  /// - Throws: only when the device is lost.
  @safe func attempt(
    _ name: StaticString, _ subject: @autoclosure () -> String = "",
    _ body: (UnsafePointer<ihp_driver>) -> Int32
  ) throws(ComputeError) -> Int32 {
    if let loss { throw loss }
    // Which context a thread has is the process's affair: other libraries change it.
    var result = unsafe driver.table.pointee.context_set(context)
    if result == 0 { unsafe result = body(driver.table) }
    guard result != 0 else { return 0 }
    let failure = driver.failure(result, name, subject())
    if failure.isLoss {
      let error = failure.error(device: facts.name)
      loss = error
      throw error
    }
    return result
  }

  /// Gives something back; a lost device has lost it already.
  @safe func release(_ name: StaticString, _ body: (UnsafePointer<ihp_driver>) -> Int32) {
    do throws(ComputeError) {
      _ = try attempt(name, "", body)
    } catch {
      // Whoever uses the device next is told.
    }
  }

  /// Bytes of its memory that nobody uses, other programs included.
  package func availableByteCount() throws(ComputeError) -> Int {
    var (available, total) = (0, 0)
    try call("cuMemGetInfo") { unsafe $0.pointee.memory_info(&available, &total) }
    return available
  }
}
