// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
package import HiPCompute
package import HiPTensors

/// How boxes of a tensor are copied to shared memory in bulk: an argument of kernels, with the tensor's address in it.
package struct TensorMap: BitwiseCopyable, Sendable {
  /// As the driver encodes it.
  private let words: Words

  private typealias Half = (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64)
  private typealias Words = (Half, Half)

  /// How rows of 128 bytes are permuted in shared memory.
  package enum Swizzle: Int32, Sendable {
    case none = 0
    case bytes32 = 1
    case bytes64 = 2
    case bytes128 = 3
  }

  /// What a map describes, innermost dimension first.
  package struct Layout: Sendable, Hashable {
    /// Float32, float16, bfloat16, or bytes of anything else.
    package let element: ElementType?
    /// Elements in each dimension.
    package let sizes: [Int]
    /// Bytes from one element to the next in each dimension but the first.
    package let strides: [Int]
    /// Elements of a box in each dimension.
    package let box: [Int]
    package let swizzle: Swizzle

    package init(
      element: ElementType?, sizes: [Int], strides: [Int], box: [Int], swizzle: Swizzle
    ) {
      precondition(sizes.count == box.count && strides.count == sizes.count - 1)
      self.element = element
      self.sizes = sizes
      self.strides = strides
      self.box = box
      self.swizzle = swizzle
    }

    var elementNumber: Int32 {
      let number =
        switch element {
        case .float32: IHP_CU_MAP_FLOAT32
        case .float16: IHP_CU_MAP_FLOAT16
        case .bfloat16: IHP_CU_MAP_BFLOAT16
        default: IHP_CU_MAP_UINT8
        }
      return Int32(number)
    }
  }

  /// A map of the tensor that begins at `address`; what lies outside of it reads as zeros.
  package init(
    _ layout: Layout, at address: UInt64, on device: CUDADevice
  ) throws(ComputeError) {
    let size = Int(IHP_CU_TENSOR_MAP_BYTES)
    let room = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: size)
    defer { unsafe room.deallocate() }
    unsafe room.initializeMemory(as: UInt8.self, repeating: 0, count: size)
    let sizes = layout.sizes.map { UInt64(clamping: $0) }
    // One more than is read: an empty array has no address.
    let strides = layout.strides.map { UInt64(clamping: $0) } + [0]
    let box = layout.box.map { UInt32(clamping: $0) }
    let steps = box.map { _ in UInt32(1) }
    try device.call("cuTensorMapEncodeTiled", "\(layout)") {
      unsafe $0.pointee.tensor_map_tiled(
        room, layout.elementNumber, UInt32(sizes.count),
        UnsafeMutableRawPointer(bitPattern: UInt(address)), sizes, strides, box, steps, 0,
        layout.swizzle.rawValue, Int32(IHP_CU_MAP_PROMOTE_256), 0)
    }
    words = unsafe room.load(as: Words.self)
  }
}
