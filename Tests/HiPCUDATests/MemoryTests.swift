// SPDX-License-Identifier: Apache-2.0

import FakeCUDA
import HiPCUDA
import HiPCompute
import HiPTensors
import TestSupport
import Testing

extension CUDATests {
  @Suite struct MemoryTests {
    @Test func aThousandCallsTakeMemoryOnceAndGiveAllBack() throws {
      let machine = FakeMachine()
      do {
        let device = try machine.device()
        let memory = DeviceMemory(device)
        var numbers = SeededNumbers(1)
        var held: [CUDABuffer] = []
        var requested = 0
        for _ in 0..<1000 {
          if held.count > 20 || (numbers.index(below: 3) == 0 && !held.isEmpty) {
            requested -= held.remove(at: numbers.index(below: held.count)).byteCount
          }
          let count = 1 << numbers.index(below: 20) + numbers.index(below: 1000)
          held.append(try memory.allocate(byteCount: count))
          requested += count
          let account = memory.account
          #expect(account.requestedByteCount == requested)
          #expect(account.bufferCount == held.count)
          #expect(account.reservedByteCount == fake_cuda_bytes())
          #expect(account.usedByteCount >= requested)
        }
        #expect(memory.account.allocations == machine.calls("cuMemAlloc_v2"))
        held = []
        #expect(memory.account.requestedByteCount == 0)
        #expect(memory.account.usedByteCount == 0)
        #expect(memory.account.bufferCount == 0)
        #expect(memory.account.cachedByteCount == fake_cuda_bytes())
        memory.trim()
        #expect(memory.account.reservedByteCount == 0)
        #expect(fake_cuda_bytes() == 0)
      }
      machine.expectClean()
    }

    @Test func aStepThatRepeatsTakesNothing() throws {
      let machine = FakeMachine()
      do {
        let memory = DeviceMemory(try machine.device())
        func step() throws {
          let sizes = [100, 5000, 70_000, 3 << 20, 100]
          let buffers = try sizes.map { try memory.allocate(byteCount: $0) }
          #expect(Set(buffers.map(\.address)).count == sizes.count)
          #expect(buffers.allSatisfy { $0.address % 256 == 0 })
        }
        try step()
        let before = memory.account
        for _ in 0..<1000 { try step() }
        #expect(memory.account == before)
        #expect(machine.calls("cuMemAlloc_v2") == 5)
      }
      machine.expectClean()
    }

    @Test func noSizeWastesMoreThanAQuarter() throws {
      let machine = FakeMachine(memory: 4 << 30)
      do {
        let memory = DeviceMemory(try machine.device())
        var numbers = SeededNumbers(2)
        for exponent in 9..<30 {
          for _ in 0..<20 {
            let count = 1 << exponent + numbers.index(below: 1 << exponent)
            let buffer = try memory.allocate(byteCount: count)
            let taken = memory.account.usedByteCount
            #expect(taken >= count && Double(taken) <= 1.25 * Double(count))
            #expect(taken % 128 == 0)
            _ = buffer
          }
          memory.trim()
        }
        #expect(try memory.allocate(byteCount: 0).byteCount == 0)
      }
      machine.expectClean()
    }

    @Test func fullMemoryIsReportedInBytesAndTheDeviceGoesOn() throws {
      let machine = FakeMachine(memory: 64 << 20)
      do {
        let device = try machine.device()
        let memory = DeviceMemory(device)
        let held = try memory.allocate(byteCount: 40 << 20)
        let error = try computeError { _ = try memory.allocate(byteCount: 32 << 20) }
        #expect(error.code == .outOfMemory(neededBytes: 32 << 20))
        #expect(error.message.contains("has no 32 MB more: it has 64 MB, of which 24 MB are free"))
        #expect(error.message.contains("close other programs"))
        #expect(memory.account.bufferCount == 1)
        _ = try memory.allocate(byteCount: 16 << 20)
        #expect(held.byteCount == 40 << 20)
        let absurd = try computeError { _ = try memory.allocate(byteCount: .max) }
        #expect(absurd.code == .outOfMemory(neededBytes: .max))
      }
      machine.expectClean()
    }

    @Test func whatIsKeptMakesRoomBeforeMemoryCountsAsFull() throws {
      let machine = FakeMachine(memory: 64 << 20)
      do {
        let memory = DeviceMemory(try machine.device())
        for _ in 0..<3 { _ = try memory.allocate(byteCount: 40 << 20) }
        #expect(machine.calls("cuMemAlloc_v2") == 1)
        let other = try memory.allocate(byteCount: 60 << 20)
        #expect(memory.account.cachedByteCount == 0)
        #expect(memory.account.usedByteCount == fake_cuda_bytes())
        #expect(other.byteCount == 60 << 20)
      }
      machine.expectClean()
    }

    @Test func aFailureOfTheDriverCountsNothing() throws {
      let machine = FakeMachine()
      do {
        let memory = DeviceMemory(try machine.device())
        fake_cuda_fail("cuMemAlloc_v2", 1, 0)
        let error = try computeError { _ = try memory.allocate(byteCount: 100) }
        #expect(error.code == .device)
        #expect(memory.account == MemoryAccount())
        fake_cuda_fail("cuMemHostAlloc", 2, 0)
        let pinned = try computeError { _ = try memory.allocatePinned(byteCount: 100) }
        #expect(pinned.code == .outOfMemory(neededBytes: 100))
        #expect(pinned.message.contains("ulimit -l"))
        #expect(memory.account == MemoryAccount())
      }
      machine.expectClean()
    }

    @Test func pinnedMemoryIsCountedAndZeroed() throws {
      let machine = FakeMachine()
      do {
        let memory = DeviceMemory(try machine.device())
        for _ in 0..<100 {
          let (first, second) = (
            try memory.allocatePinned(byteCount: 4097), try memory.allocatePinned(byteCount: 0)
          )
          #expect(memory.account.pinnedByteCount == 4097)
          #expect(first.bytes.count == 4097 && first.bytes.allSatisfy { $0 == 0 })
          #expect(second.bytes.isEmpty)
        }
        #expect(memory.account.pinnedByteCount == 0)
        #expect(memory.account.allocations == 200)
      }
      machine.expectClean()
    }

    @Test func memoryOutlivesWhoeverMadeIt() throws {
      let machine = FakeMachine()
      do {
        var buffer: CUDABuffer? = try DeviceMemory(try machine.device()).allocate(byteCount: 10)
        #expect(fake_cuda_bytes() == 512)
        #expect(buffer != nil)
        buffer = nil
      }
      machine.expectClean()
    }

    @Test func tensorsAreAddressedByRows() throws {
      let machine = FakeMachine()
      do {
        let memory = DeviceMemory(try machine.device())
        let buffer = try memory.allocate(byteCount: 64 * 16 * 2)
        let tensor = DeviceTensor(buffer: buffer, element: .bfloat16, rows: 64, columns: 16)
        #expect(tensor.address == buffer.address)
        #expect(tensor.rows(10..<12).address == buffer.address + 320)
      }
      machine.expectClean()
    }
  }
}
