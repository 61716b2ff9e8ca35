// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import HiPCPU

struct BenchCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measure speed: of this machine, of kernels, of writing and of reading.",
    discussion: """
      Every report begins with what the machine can do at best, measured beside it. Depth is \
      fabricated: random keys and values, stored as read ones are, so that 128K or 1M tokens take no \
      hour to read. Memory is read as in earnest; what attention selects means nothing.

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
    let report = BenchReport<BenchResult>(
      machine: try device.makeBackend().measurePeaks(), results: [])
    if device.json { try Terminal.printJSON(report) } else { report.printMachine() }
  }
}
