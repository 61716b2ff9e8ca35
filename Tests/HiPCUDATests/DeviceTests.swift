// SPDX-License-Identifier: Apache-2.0

import FakeCUDA
import Foundation
import HiPCUDA
import HiPCompute
import Synchronization
import Testing

extension CUDATests {
  @Suite struct DeviceTests {
    @Test func aDeviceTellsItsFacts() throws {
      let machine = FakeMachine(memory: 80 << 30)
      do {
        let device = try machine.device()
        #expect(device.facts.name == "Fake device")
        #expect(device.facts.capability == DeviceFacts.Capability(9, 0))
        #expect(device.facts.memoryByteCount == 80 << 30)
        #expect(device.facts.multiprocessorCount == 132)
        #expect(device.facts.cacheByteCount == 50 << 20)
        // 5,120 bits at 2,619 MHz, twice a cycle.
        #expect(abs(device.facts.peakBandwidth - 3.352e12) < 1e9)
      }
      machine.expectClean()
    }

    @Test func anOldDeviceIsRefused() throws {
      let machine = FakeMachine(major: 7, minor: 5)
      let error = try computeError { _ = try machine.device() }
      #expect(error.code == .unsupported)
      #expect(error.message.contains("compute capability 7.5, and 8.0 is needed"))
      machine.expectClean()
    }

    @Test func aDeviceThatIsNotThereIsRefused() throws {
      let machine = FakeMachine()
      let error = try computeError { _ = try CUDADevice(try machine.driver(), number: 3) }
      #expect(error.code == .unsupported)
      #expect(error.message.contains("nvidia-smi"))
    }

    @Test func copiesArriveAndStreamsKeepTheirOrder() throws {
      let machine = FakeMachine()
      do {
        let device = try machine.device()
        let memory = DeviceMemory(device)
        let stream = try CUDAStream(device)
        let (first, second) = (
          try memory.allocate(byteCount: 1000), try memory.allocate(byteCount: 1000)
        )
        let pinned = try memory.allocatePinned(byteCount: 1000)
        for index in 0..<1000 { pinned.bytes[index] = UInt8(index % 251) }
        try stream.copy(pinned.all, to: first.all)
        try stream.copy(first[100..<500], to: second[0..<400])
        try stream.fill(second[400..<1000], with: 7)
        try stream.copy(second.all, to: pinned.all)
        try stream.wait()
        #expect((0..<400).allSatisfy { pinned.bytes[$0] == UInt8((100 + $0) % 251) })
        #expect((400..<1000).allSatisfy { pinned.bytes[$0] == 7 })
        #expect(
          machine.takeLog() == [
            "to device 1000", "on device 400", "fill 600 with 7", "to host 1000", "wait",
          ])
        let mistake = try computeError { try stream.copy(pinned[0..<8], to: first[0..<9]) }
        #expect(mistake.message.contains("8 bytes are to fill 9"))
      }
      machine.expectClean()
    }

    @Test func eventsMeasure() throws {
      let machine = FakeMachine()
      do {
        let device = try machine.device()
        let stream = try CUDAStream(device)
        let start = try CUDAEvent(device, measuresTime: true)
        let end = try CUDAEvent(device, measuresTime: true)
        try stream.record(start)
        try stream.record(end)
        try end.wait()
        #expect(try end.seconds(since: start) == 0.0015)
        #expect(machine.takeLog() == ["event", "event"])
      }
      machine.expectClean()
    }

    @Test func everyThreadMayUseTheDeviceInTurn() async throws {
      let machine = FakeMachine()
      let device = try machine.device()
      // Threads that have no context of their own: the fake refuses calls without one.
      // They keep no reference: one that went with a thread would go when the next test has the fake.
      struct Box: @unchecked Sendable { let device: Unmanaged<CUDADevice> }
      let box = Box(device: .passUnretained(device))
      let failures = Atomic<Int>(0)
      for _ in 0..<4 {
        await withCheckedContinuation { done in
          Thread.detachNewThread {
            box.device._withUnsafeGuaranteedRef { device in
              do {
                let memory = DeviceMemory(device)
                _ = try memory.allocate(byteCount: 100)
              } catch {
                failures.add(1, ordering: .relaxed)
              }
            }
            done.resume()
          }
        }
      }
      #expect(failures.load(ordering: .relaxed) == 0)
      withExtendedLifetime(device) {}
      #expect(fake_cuda_mistakes() == 0)
    }

    @Test(arguments: [700, 214, 719, 710])
    func aLostDeviceFailsAtOnceAndEverywhereAndTheProcessLives(result: Int) throws {
      let machine = FakeMachine()
      do {
        let device = try machine.device()
        let memory = DeviceMemory(device)
        let stream = try CUDAStream(device)
        let buffer = try memory.allocate(byteCount: 1 << 20)
        fake_cuda_lose(Int32(result))
        let error = try computeError { try stream.wait() }
        #expect(error.code == .device)
        #expect(error.message.contains("is lost to this process"))
        #expect((error.cause as? CUDAFailure)?.call == "cuStreamSynchronize")
        let calls = machine.calls("cuMemcpyDtoDAsync_v2")
        let second = try computeError { try stream.copy(buffer.all, to: buffer.all) }
        #expect(second.message == error.message)
        #expect(machine.calls("cuMemcpyDtoDAsync_v2") == calls)
        #expect(throws: ComputeError.self) { try memory.allocate(byteCount: 1) }
        #expect(device.loss?.message == error.message)
      }
      // The context went with its last user; a new one begins anew.
      do {
        let device = try machine.device()
        let stream = try CUDAStream(device)
        try stream.wait()
      }
      #expect(fake_cuda_mistakes() == 0)
    }

    @Test func aFailureThatIsNoLossLeavesTheDeviceInUse() throws {
      let machine = FakeMachine()
      do {
        let device = try machine.device()
        let stream = try CUDAStream(device)
        fake_cuda_fail("cuStreamSynchronize", 1, 0)
        let error = try computeError { try stream.wait() }
        #expect(error.code == .device)
        #expect(error.message.contains("cuStreamSynchronize failed"))
        #expect(device.loss == nil)
        try stream.wait()
      }
      machine.expectClean()
    }

    @Test(arguments: [
      "cuStreamCreate", "cuEventCreate", "cuDevicePrimaryCtxRetain", "cuMemHostAlloc",
      "cuDeviceGetAttribute", "cuModuleLoadData", "cuModuleGetFunction",
      "cuGraphInstantiateWithFlags",
      "cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphGetNodes",
    ]) func whateverFailsInTheMakingLeavesNothingBehind(call: String) throws {
      let machine = FakeMachine()
      fake_cuda_fail(call, 999, 0)
      let error = try computeError {
        let device = try machine.device()
        let stream = try CUDAStream(device)
        _ = try CUDAEvent(device)
        _ = try DeviceMemory(device).allocatePinned(byteCount: 10)
        let kernel = try machine.kernels(device).kernel("fill_rows", of: RowKernels.programs[0])
        _ = try stream.capture(keeping: [kernel]) {}
      }
      #expect("\(error)".contains(call.replacing(/_v2|WithFlags/, with: "")))
      // Loss voids what is not given back; all but the context then goes with it.
      #expect(fake_cuda_mistakes() == 0)
    }
  }
}
