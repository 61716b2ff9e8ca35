// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
package import HiPCompute

/// Recorded work that is enqueued at the price of one launch.
///
/// Kernels run with the arguments that they were recorded with: what changes from replay to replay, they read from
/// the device's memory.
@safe package final class CUDAGraph {
  /// Kernels, copies and fills.
  package let nodeCount: Int
  private let device: CUDADevice
  private let handle: OpaquePointer
  private let owned: [AnyObject]

  init(
    _ recorded: OpaquePointer, _ device: CUDADevice, keeping owned: [AnyObject]
  ) throws(ComputeError) {
    var count = 0
    try device.call("cuGraphGetNodes") { unsafe $0.pointee.graph_nodes(recorded, nil, &count) }
    var handle: OpaquePointer?
    try device.call("cuGraphInstantiate") {
      unsafe $0.pointee.graph_instantiate(&handle, recorded, 0)
    }
    nodeCount = count
    self.device = device
    self.owned = owned
    unsafe self.handle = try device.made(handle, "cuGraphInstantiate")
  }

  deinit { device.release("cuGraphExecDestroy") { unsafe $0.pointee.graph_run_destroy(handle) } }

  /// Takes it to the device, so that the first replay is as fast as the others.
  package func prepare(on stream: CUDAStream) throws(ComputeError) {
    try device.call("cuGraphUpload") { unsafe $0.pointee.graph_upload(handle, stream.handle) }
  }

  /// Enqueues all of it.
  package func replay(on stream: CUDAStream) throws(ComputeError) {
    try device.call("cuGraphLaunch") { unsafe $0.pointee.graph_launch(handle, stream.handle) }
  }
}
