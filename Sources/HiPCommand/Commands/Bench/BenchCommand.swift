// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import HiPCPU

struct BenchCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measure speed: of this machine, of kernels, of decoding and of prefill.",
    discussion: """
      Every report begins with what the machine can do at best, measured beside it. Depths are random \
      keys and values, stored as those of a prompt are, so that 128K or 1M tokens take no hour of \
      prefill. Memory is streamed as in earnest; what attention selects means nothing.

      Examples:
        infinitehip bench decode --shape llama-3.2-1b --depths 0,8K,32K --attention dense
        infinitehip bench prefill --model model.gguf --tokens 512
      """,
    subcommands: [
      BenchMachineCommand.self, BenchDecodeCommand.self, BenchPrefillCommand.self,
      BenchMatmulCommand.self, BenchAttentionCommand.self,
    ])
}

struct BenchMachineCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "machine", abstract: "Read bandwidth and arithmetic peaks of all threads.")

  @OptionGroup var device: BenchDeviceOptions

  func run() throws {
    let backend = try device.makeBackend()
    let report = BenchReport<BenchResult>(
      peaks: try backend.measurePeaks(), device: backend.name, results: [])
    if device.json { try Terminal.printJSON(report) } else { report.printMachine() }
  }
}
