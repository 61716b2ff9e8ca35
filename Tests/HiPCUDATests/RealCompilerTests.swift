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

  /// Programs that stand for all that can be asked for.
  ///
  /// A file of kernels joins with its variants.
  static let programs =
    RowKernels.programs + MeanKernels.programs + PrefillAttention.programs
    + DecodeAttention.programs + PrefillSelection.programs + DecodeSelection.programs
    + PlainKernels.programs + ModelKernels.programs

  /// One of each file, and of those of attention the last one of the largest heads besides.
  ///
  /// Variants differ in numbers, architectures in code: these tell whether that is there.
  static let samples: [KernelProgram] = Set(programs.map(\.file)).sorted().flatMap { file in
    let variants = programs.filter { $0.file == file }
    let large = variants.dropFirst().last {
      $0.macros.contains(KernelProgram.Macro("HEAD_SIZE", 256))
    }
    return variants.prefix(1) + [large].compactMap { $0 }
  }

  @Test func everyFileOfKernelsHasAProgram() {
    let files = Set(Self.programs.map(\.file))
    for source in KernelSource.all where !source.isHeader {
      #expect(files.contains(source.name), "no program of \(source.name) is compiled here")
    }
  }

  /// Variants that could not be made would be missing without a word.
  @Test(arguments: [
    "means.cu", "attention_prefill.cu", "attention_decode.cu", "select_prefill.cu",
    "select_decode.cu", "decode_once.cu", "score_tiles.cu",
  ])
  func everySizeOfHeadsHasAProgram(_ file: String) {
    let sizes = Self.programs.filter { $0.file == file }.flatMap { program in
      program.macros.filter { $0.name == "HEAD_SIZE" }.map(\.value)
    }
    #expect(Set(sizes) == ["64", "96", "128", "256"])
  }

  @Test(.enabled(if: compiler != nil), arguments: ["sm_80", "sm_90a", "sm_100"])
  func everyProgramCompiles(architecture: String) throws {
    let compiler = try #require(Self.compiler)
    for program in architecture == "sm_90a" ? Self.programs : Self.samples {
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
