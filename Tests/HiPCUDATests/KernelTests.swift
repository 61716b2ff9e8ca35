// SPDX-License-Identifier: Apache-2.0

import CHiPCUDA
import FakeCUDA
import HiPCUDA
import HiPCompute
import HiPTensors
import Testing

extension CUDATests {
  @Suite struct KernelTests {
    private static let rowsSize = MemoryLayout<ihp_rows>.size

    /// A machine that knows what the kernels of `rows.cu` take.
    private func machine() -> FakeMachine {
      let machine = FakeMachine()
      fake_cuda_declare("move_rows", [Self.rowsSize], 1)
      fake_cuda_declare("fill_rows", [Self.rowsSize, 4], 2)
      return machine
    }

    @Test func argumentsArriveWithTheirTypes() throws {
      let machine = machine()
      do {
        let device = try machine.device()
        let kernels = try machine.kernels(device)
        #expect(kernels.architecture.name == "sm_90a")
        let stream = try CUDAStream(device)
        let memory = DeviceMemory(device)
        let tensor = DeviceTensor(
          buffer: try memory.allocate(byteCount: 300 * 100 * 2), element: .float16, rows: 300,
          columns: 100)
        try RowKernels(kernels).fill(tensor, with: 1.5, on: stream)
        #expect(
          machine.takeLog() == ["fill_rows <300 1 1, 64 1 1, 0> \((1.5 as Float).bitPattern)"])
      }
      machine.expectClean()
    }

    @Test func aKernelIsLoadedOnce() throws {
      let machine = machine()
      do {
        let device = try machine.device()
        let kernels = try machine.kernels(device)
        let program = RowKernels.programs[0]
        let first = try kernels.kernel("move_rows", of: program)
        #expect(try kernels.kernel("move_rows", of: program) === first)
        _ = try kernels.kernel("fill_rows", of: program)
        #expect(machine.calls("cuModuleLoadData") == 1)
        #expect(fake_nvrtc_compilations() == 1)
        _ = try kernels.kernel("move_rows", of: RowKernels.programs[1])
        #expect(fake_nvrtc_compilations() == 2)
      }
      machine.expectClean()
    }

    @Test func wrongArgumentsAreRefusedBeforeTheDeviceSeesThem() throws {
      let machine = machine()
      do {
        let device = try machine.device()
        let kernel = try machine.kernels(device).kernel("fill_rows", of: RowKernels.programs[0])
        let stream = try CUDAStream(device)
        let shape = LaunchShape(grid: LaunchShape.Extent(1), block: LaunchShape.Extent(32))
        let few = try computeError { try kernel.launch(shape, on: stream, ihp_rows()) }
        #expect(few.message.contains("takes arguments of [\(Self.rowsSize), 4] bytes"))
        #expect(throws: ComputeError.self) { try kernel.launch(shape, on: stream, ihp_rows(), 1.0) }
        #expect(throws: ComputeError.self) {
          try kernel.launch(shape, on: stream, ihp_rows(), 1.0 as Float, Int32(1))
        }
        try kernel.launch(shape, on: stream, ihp_rows(), 1.0 as Float)
        #expect(machine.calls("cuLaunchKernelEx") == 1)
      }
      machine.expectClean()
    }

    @Test func aLaunchHasClustersSharedMemoryAndOverlap() throws {
      let machine = machine()
      do {
        let device = try machine.device()
        let kernel = try machine.kernels(device).kernel("move_rows", of: RowKernels.programs[0])
        let stream = try CUDAStream(device)
        let shape = LaunchShape(
          grid: LaunchShape.Extent(4, 3, 2), block: LaunchShape.Extent(32, 2),
          sharedByteCount: 200_000, cluster: LaunchShape.Extent(2), overlapsPrevious: true)
        for _ in 0..<3 { try kernel.launch(shape, on: stream, ihp_rows()) }
        #expect(machine.calls("cuFuncSetAttribute") == 1)
        let line = "move_rows <4 3 2, 32 2 1, 200000> attribute 4: 2 attribute 6: 1"
        #expect(machine.takeLog() == [line, line, line])
        var large = shape
        large.sharedByteCount = 300_000
        let error = try computeError { try kernel.launch(large, on: stream, ihp_rows()) }
        #expect(error.message.contains("cuFuncSetAttribute (move_rows, 300000 bytes)"))
        // A grid without blocks is nothing to do, not a mistake.
        try kernel.launch(
          LaunchShape(grid: LaunchShape.Extent(0), block: LaunchShape.Extent(32)), on: stream,
          ihp_rows())
        #expect(machine.takeLog().isEmpty)
      }
      machine.expectClean()
    }

    @Test func aFailedLaunchNamesItsKernel() throws {
      let machine = machine()
      do {
        let device = try machine.device()
        let kernel = try machine.kernels(device).kernel("move_rows", of: RowKernels.programs[0])
        let stream = try CUDAStream(device)
        let shape = LaunchShape(grid: LaunchShape.Extent(1), block: LaunchShape.Extent(32))
        fake_cuda_fail("cuLaunchKernelEx", 701, 0)
        let error = try computeError { try kernel.launch(shape, on: stream, ihp_rows()) }
        #expect(error.code == .device)
        #expect(error.message.contains("cuLaunchKernelEx (move_rows) failed"))
        try kernel.launch(shape, on: stream, ihp_rows())
      }
      machine.expectClean()
    }

    @Test func aKernelThatIsNotThereIsNamed() throws {
      let machine = machine()
      do {
        let kernels = try machine.kernels(try machine.device())
        let error = try computeError {
          _ = try kernels.kernel("no_such_kernel", of: RowKernels.programs[0])
        }
        #expect(error.message.contains("cuModuleGetFunction (no_such_kernel)"))
        let other = try computeError {
          _ = try kernels.kernel("move_rows", of: KernelProgram("none.cu"))
        }
        #expect(other.message.contains("none.cu"))
      }
      machine.expectClean()
    }

    @Test func codeThatTheDriverRefusesAsksForANewerOne() throws {
      let machine = machine()
      do {
        let kernels = try machine.kernels(try machine.device())
        for result in [200, 209, 222] as [Int32] {
          fake_cuda_fail("cuModuleLoadData", result, 0)
          let error = try computeError {
            _ = try kernels.kernel("move_rows", of: RowKernels.programs[0])
          }
          #expect(error.code == .unsupported)
          #expect(error.message.contains("Update the driver"))
          #expect(error.message.contains("rows.cu SOURCE=float TARGET=float"))
        }
      }
      machine.expectClean()
    }

    @Test func graphsReplayInOrderWithTheArgumentsThatTheyWereRecordedWith() throws {
      let machine = machine()
      do {
        let device = try machine.device()
        let kernels = try machine.kernels(device)
        let stream = try CUDAStream(device)
        let memory = DeviceMemory(device)
        let rows = RowKernels(kernels)
        var graph: CUDAGraph?
        do {
          let buffer = try memory.allocate(byteCount: 4 * 64 * 4)
          let tensor = DeviceTensor(buffer: buffer, element: .float32, rows: 4, columns: 64)
          try rows.fill(tensor, with: 0, on: stream)
          _ = machine.takeLog()
          graph = try stream.capture(keeping: [buffer]) { () throws(ComputeError) in
            try rows.fill(tensor, with: 1, on: stream)
            try stream.copy(buffer[0..<512], to: buffer[512..<1024])
            try rows.fill(tensor, with: 2, on: stream)
          }
        }
        #expect(machine.takeLog().isEmpty)
        // The graph keeps what it writes to.
        #expect(memory.account.bufferCount == 1)
        let replayed = try #require(graph)
        #expect(replayed.nodeCount == 3)
        try replayed.prepare(on: stream)
        for _ in 0..<2 { try replayed.replay(on: stream) }
        func fill(_ value: Float) -> String { "fill_rows <4 1 1, 64 1 1, 0> \(value.bitPattern)" }
        let once = [fill(1), "on device 512", fill(2)]
        #expect(machine.takeLog() == once + once)
        #expect(machine.calls("cuLaunchKernelEx") == 3)
        graph = nil
      }
      machine.expectClean()
    }

    @Test func aCaptureThatFailsLeavesTheStreamInUse() throws {
      let machine = machine()
      do {
        let device = try machine.device()
        let stream = try CUDAStream(device)
        let memory = DeviceMemory(device)
        let error = try computeError {
          _ = try stream.capture(keeping: []) { () throws(ComputeError) in
            _ = try memory.allocate(byteCount: 100)
          }
        }
        #expect(error.message.contains("while a graph was captured"))
        let second = try computeError {
          _ = try stream.capture(keeping: []) { () throws(ComputeError) in
            _ = try stream.capture(keeping: []) {}
          }
        }
        #expect(second.message.contains("a second capture"))
        let upload = try computeError {
          let buffer = try memory.allocate(byteCount: 1)
          _ = try stream.capture(keeping: []) { () throws(ComputeError) in
            try stream.upload(UnsafeRawBufferPointer(start: nil, count: 0), to: buffer[0..<0])
          }
        }
        #expect(upload.message.contains("not pinned"))
        #expect(!device.isCapturing)
        try stream.wait()
        #expect(machine.takeLog() == ["wait"])
      }
      machine.expectClean()
    }

    @Test func tensorMapsArePassedByValue() throws {
      let machine = machine()
      fake_cuda_declare("map_kernel", [128], 1)
      do {
        let device = try machine.device()
        #expect(MemoryLayout<TensorMap>.size == 128)
        let map = try TensorMap(
          TensorMap.Layout(
            element: .bfloat16, sizes: [128, 64], strides: [256], box: [64, 64], swizzle: .bytes128),
          at: 0x1234_5678_0000, on: device)
        let words = withUnsafeBytes(of: map) { Array($0.bindMemory(to: UInt64.self)) }
        #expect(words[0..<5] == [0x1234_5678_0000, 2, 128, 64, 3])
      }
      machine.expectClean()
    }

    @Test(arguments: [
      ((8, 0), "sm_80"), ((8, 9), "sm_86"), ((9, 0), "sm_90a"), ((10, 3), "sm_100"),
    ]) func theArchitectureIsTheBestThatTheCompilerKnows(
      capability: (Int, Int), name: String
    ) throws {
      let compiler = try FakeMachine().compiler()
      let architecture = try compiler.architecture(
        for: DeviceFacts.Capability(capability.0, capability.1))
      #expect(architecture.name == name)
    }

    @Test func aDeviceThatTheCompilerDoesNotKnowIsReported() throws {
      let compiler = try FakeMachine().compiler()
      let error = try computeError {
        _ = try compiler.architecture(for: DeviceFacts.Capability(12, 0))
      }
      #expect(error.message.contains("knows no GPU of compute capability 12.0"))
    }
  }
}
