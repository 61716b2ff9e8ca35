// SPDX-License-Identifier: Apache-2.0

import FakeCUDA
import Foundation
import HiPCUDA
import HiPCompute
import Testing

extension CUDATests {
  @Suite struct CacheTests {
    private let program = RowKernels.programs[1]
    private let architecture = KernelArchitecture(name: "sm_90a")

    @Test func whatWasCompiledOnceIsRead() throws {
      let machine = FakeMachine()
      let folder = try TemporaryFolder()
      let first = KernelCache(
        folder: folder.path + "/new/kernels", compiler: try machine.compiler())
      let cubin = try first.cubin(program, for: architecture)
      #expect(first.statistics.misses == 1 && first.statistics.hits == 0)
      let second = KernelCache(folder: first.folder, compiler: try machine.compiler())
      #expect(try second.cubin(program, for: architecture) == cubin)
      #expect(second.statistics.hits == 1 && second.statistics.misses == 0)
      #expect(fake_nvrtc_compilations() == 1)
      let text = String(decoding: cubin, as: UTF8.self)
      #expect(text.contains("--gpu-architecture=sm_90a"))
      #expect(text.contains("-DSOURCE=float -DTARGET=Half"))
    }

    @Test func everyPartOfTheKeyCounts() throws {
      let machine = FakeMachine()
      let folder = try TemporaryFolder()
      func compile(_ program: KernelProgram, _ architecture: String) throws {
        let cache = KernelCache(folder: folder.path, compiler: try machine.compiler())
        _ = try cache.cubin(program, for: KernelArchitecture(name: architecture))
      }
      try compile(program, "sm_90a")
      try compile(program, "sm_80")
      try compile(RowKernels.programs[2], "sm_90a")
      #expect(folder.names.count == 3)
      fake_nvrtc_version(13, 1)
      try compile(program, "sm_90a")
      #expect(folder.names.count == 4)
      #expect(folder.names.allSatisfy { $0.count == 64 + 6 && $0.hasSuffix(".cubin") })
    }

    @Test func damageIsSeenAndRepaired() throws {
      let machine = FakeMachine()
      let folder = try TemporaryFolder()
      let compiler = try machine.compiler()
      let cubin = try KernelCache(folder: folder.path, compiler: compiler).cubin(
        program, for: architecture)
      let path = try folder.path + "/" + #require(folder.names.first)
      let whole = try Data(contentsOf: URL(filePath: path))
      #expect(whole.count == 40 + cubin.count)
      var cases: [Data] = [
        Data(), whole.prefix(39), whole.prefix(40), whole.dropLast(), whole + [0],
      ]
      for position in [0, 8, 39, 40, whole.count - 1] {
        var changed = whole
        changed[position] ^= 1
        cases.append(changed)
      }
      for damaged in cases {
        try damaged.write(to: URL(filePath: path))
        let cache = KernelCache(folder: folder.path, compiler: compiler)
        #expect(try cache.cubin(program, for: architecture) == cubin)
        #expect(cache.statistics.damaged == 1 && cache.statistics.misses == 1)
        #expect(try Data(contentsOf: URL(filePath: path)) == whole)
      }
      #expect(folder.names.count == 1)
    }

    @Test func aFolderThatCannotBeWrittenCostsOnlyTime() throws {
      let machine = FakeMachine()
      let folder = try TemporaryFolder()
      let file = folder.path + "/file"
      try Data("x".utf8).write(to: URL(filePath: file))
      let cache = KernelCache(folder: file + "/kernels", compiler: try machine.compiler())
      for _ in 0..<2 { _ = try cache.cubin(program, for: architecture) }
      #expect(cache.statistics.misses == 2 && cache.statistics.unwritten == 2)
      #expect(try #require(cache.statistics.problem).contains(file))
    }

    @Test func aFolderInTheFilesPlaceIsNoObstacle() throws {
      let machine = FakeMachine()
      let folder = try TemporaryFolder()
      let compiler = try machine.compiler()
      let cubin = try KernelCache(folder: folder.path, compiler: compiler).cubin(
        program, for: architecture)
      let path = try folder.path + "/" + #require(folder.names.first)
      try FileManager.default.removeItem(atPath: path)
      try FileManager.default.createDirectory(
        atPath: path + "/x", withIntermediateDirectories: true)
      let cache = KernelCache(folder: folder.path, compiler: compiler)
      #expect(try cache.cubin(program, for: architecture) == cubin)
      #expect(cache.statistics.unwritten == 1)
    }

    @Test func aSourceThatDoesNotCompileShowsTheCompilersLog() throws {
      let machine = FakeMachine()
      let folder = try TemporaryFolder()
      let cache = KernelCache(folder: folder.path, compiler: try machine.compiler())
      fake_cuda_fail("nvrtcCompileProgram", 6, 0)
      let error = try computeError { _ = try cache.cubin(program, for: architecture) }
      #expect(error.code == .unsupported)
      #expect(error.message.contains("rows.cu(1): error"))
      #expect(error.message.contains("rows.cu SOURCE=float TARGET=Half for sm_90a with NVRTC 13.0"))
      #expect(folder.names.isEmpty)
    }

    @Test func writersThatRaceNeverShowAPart() async throws {
      let machine = FakeMachine()
      let folder = try TemporaryFolder()
      let compiler = try machine.compiler()
      let (path, program, architecture) = (folder.path, program, architecture)
      let expected = try compiler.compile(program, for: architecture)
      // Half of them find what the others write; some remove it meanwhile, so that it is written again and again.
      try await withThrowingTaskGroup(of: Bool.self) { group in
        for worker in 0..<8 {
          group.addTask {
            for round in 0..<50 {
              let cache = KernelCache(folder: path, compiler: compiler)
              let cubin = try cache.cubin(program, for: architecture)
              guard cubin == expected, cache.statistics.damaged == 0 else { return false }
              if (worker + round) % 4 == 0 {
                for name in (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
                where name.hasSuffix(".cubin") {
                  try? FileManager.default.removeItem(atPath: path + "/" + name)
                }
              }
            }
            return true
          }
        }
        for try await isRight in group { #expect(isRight) }
      }
      #expect(folder.names.allSatisfy { $0.hasSuffix(".cubin") })
    }
  }
}
