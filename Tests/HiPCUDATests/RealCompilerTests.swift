// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPCUDA
import HiPCompute
import Testing

/// What NVRTC itself makes of the kernels, where a toolkit or a wheel has it: no GPU is needed.
@Suite struct RealCompilerTests {
  /// The compiler of this machine; nil where there is none.
  static let compiler: KernelCompiler? = {
    let environment = ProcessInfo.processInfo.environment
    do {
      return try KernelCompiler(
        .usual(home: environment["HOME"], environment: environment), for: nil)
    } catch {
      print("NOTICE: no kernel was compiled: \(error)")
      return nil
    }
  }()

  /// Every program that ships.
  ///
  /// A file of kernels joins with its variants.
  static let programs =
    RowKernels.programs + AppendKernels.programs + PrefillAttention.programs
    + DecodeAttention.programs + PrefillSelection.programs + DecodeSelection.programs
    + MergeKernels.programs + PlainKernels.programs

  @Test func everyFileOfKernelsHasAProgram() {
    let files = Set(Self.programs.map(\.file))
    for source in KernelSource.all where !source.isHeader {
      #expect(files.contains(source.name), "no program of \(source.name) is compiled here")
    }
  }

  @Test(.enabled(if: compiler != nil), arguments: ["sm_80", "sm_90a", "sm_100"])
  func everyProgramCompiles(architecture: String) throws {
    let compiler = try #require(Self.compiler)
    // Variants differ in numbers, architectures in code: one of each file tells whether that is there.
    var seen: Set<String> = []
    let programs = Self.programs.filter {
      architecture == "sm_90a" || seen.insert($0.file).inserted
    }
    for program in programs {
      let cubin = try compiler.compile(program, for: KernelArchitecture(name: architecture))
      #expect(cubin.starts(with: [0x7f] + Array("ELF".utf8)), "\(program)")
    }
  }

  @Test(.enabled(if: compiler != nil)) func mistakesAreShownWithTheirLine() throws {
    let compiler = try #require(Self.compiler)
    let program = KernelProgram("rows.cu", [KernelProgram.Macro("SOURCE", "Nothing")])
    let error = try computeError {
      _ = try compiler.compile(program, for: KernelArchitecture(name: "sm_80"))
    }
    #expect(error.message.contains("identifier \"Nothing\" is undefined"))
    #expect(error.message.contains("rows.cu("))
  }

  @Test(.enabled(if: compiler != nil)) func anUnknownArchitectureIsAnError() throws {
    let compiler = try #require(Self.compiler)
    #expect(throws: ComputeError.self) {
      try compiler.compile(RowKernels.programs[0], for: KernelArchitecture(name: "sm_1"))
    }
  }
}
