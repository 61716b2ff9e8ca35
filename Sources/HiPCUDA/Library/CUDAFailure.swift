// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
internal import HiPCompute

/// What the driver answered to a call that failed.
package struct CUDAFailure: Error, Sendable, Hashable, CustomStringConvertible {
  /// The driver's number.
  package let result: Int32
  /// The driver's name for it, and what it says.
  package let name, text: String
  /// The function that answered.
  package let call: String
  /// What it was about, as the name of a kernel; empty: nothing in particular.
  package let subject: String

  init(
    _ result: Int32, _ table: UnsafePointer<ihp_driver>, call: String, subject: String
  ) {
    self.result = result
    self.call = call
    self.subject = subject
    var words: UnsafePointer<CChar>?
    let named = unsafe table.pointee.error_name(result, &words) == 0
    name = unsafe named ? words.map { unsafe String(cString: $0) } ?? "" : ""
    unsafe words = nil
    let told = unsafe table.pointee.error_text(result, &words) == 0
    text = unsafe told ? words.map { unsafe String(cString: $0) } ?? "" : ""
  }

  package var description: String {
    "\(call)\(subject.isEmpty ? "" : " (\(subject))") failed: \(text) (\(name), \(result))"
  }

  /// Whether the device will answer nothing else to this process from now on.
  package var isLoss: Bool {
    // From illegal addresses to memory leaks of tensor cores the numbers are failures of kernels, but for a few that say
    // that something was asked for wrongly.
    let ofKernels = IHP_CU_HARDWARE_STACK_ERROR...IHP_CU_LAUNCH_FAILED
    let others = [
      IHP_CU_DEINITIALIZED, IHP_CU_ECC_UNCORRECTABLE, IHP_CU_NVLINK_UNCORRECTABLE,
      IHP_CU_CONTAINED, IHP_CU_ILLEGAL_ADDRESS, IHP_CU_LAUNCH_TIMEOUT, IHP_CU_CONTEXT_IS_DESTROYED,
      IHP_CU_ASSERT, IHP_CU_TENSOR_MEMORY_LEAK, IHP_CU_EXTERNAL_DEVICE, IHP_CU_UNKNOWN,
    ]
    return ofKernels.contains(Int(result)) || others.contains(Int(result))
  }

  /// The error to throw, with the remedy.
  /// - Parameter device: the device's name; nil: none has been opened yet.
  func error(device: String?) -> ComputeError {
    let place = device.map { "the GPU (\($0))" } ?? "the GPU"
    if isLoss, device != nil {
      return ComputeError(
        .device,
        "\(place) is lost to this process: \(self). What runs on the CPU goes on; to use the GPU again, start the "
          + "program again, and look at `nvidia-smi` and the system's log where that does not help",
        cause: self)
    }
    switch Int(result) {
    case IHP_CU_OUT_OF_MEMORY:
      return ComputeError(
        .outOfMemory(neededBytes: 0),
        "\(place) has no memory left: \(self). Close other programs on it, or shorten the text",
        cause: self)
    case IHP_CU_NO_DEVICE, IHP_CU_INVALID_DEVICE:
      return ComputeError(
        .unsupported,
        "the driver finds no such NVIDIA GPU: \(self). See what `nvidia-smi` lists; a container has to be started with "
          + "its GPUs (--gpus all); or compute on the CPU (--device cpu)", cause: self)
    case IHP_CU_NEWER_DRIVER_NEEDED, IHP_CU_STUB_LIBRARY,
      IHP_CU_UNSUPPORTED_PTX, IHP_CU_INVALID_PTX, IHP_CU_INVALID_IMAGE,
      IHP_CU_NO_BINARY_FOR_DEVICE, IHP_CU_COMPATIBILITY_UNSUPPORTED:
      return ComputeError(
        .unsupported,
        "the NVIDIA driver is too old for this code: \(self). Update the driver, or install an NVRTC of its own "
          + "major version (for CUDA 12 `pip install nvidia-cuda-nvrtc-cu12`)", cause: self)
    case IHP_CU_DRIVER_MISMATCH:
      return ComputeError(
        .unsupported,
        "the NVIDIA driver's parts are of different versions: \(self). It was updated while in use: restart the "
          + "machine or load its module anew", cause: self)
    case IHP_CU_SYSTEM_NOT_READY:
      return ComputeError(
        .device,
        "\(place) is not ready: \(self). On machines with NVSwitch start the service `nvidia-fabricmanager`",
        cause: self)
    case IHP_CU_DEVICE_UNAVAILABLE:
      return ComputeError(
        .device,
        "\(place) is taken: \(self). Close the program that holds it, or let it be shared (`nvidia-smi -c DEFAULT`)",
        cause: self)
    case IHP_CU_NOT_PERMITTED, IHP_CU_OPERATING_SYSTEM:
      return ComputeError(
        .device,
        "\(place) may not be used: \(self). Grant access to /dev/nvidia*", cause: self)
    default:
      return ComputeError(
        .device, "\(place) failed: \(self). Compute on the CPU (--device cpu), and report this",
        cause: self)
    }
  }
}
