// SPDX-License-Identifier: Apache-2.0

public import HiPCompute

extension CUDABackend {
  /// The median time that one of `calls` takes on the device: of replays of a graph of all of them, between events.
  ///
  /// Each is made twice before, so that kernels are compiled and memory is taken.
  public func medianSeconds(
    of calls: [() -> Void], replays: Int = 20
  ) throws(ComputeError) -> Double {
    for _ in 0..<2 {
      for call in calls { call() }
      _ = try submit()
    }
    let graph: CUDAGraph
    do throws(ComputeError) {
      graph = try stream.capture(
        keeping: workspace.owned + staging.owned + batchTables.owned
      ) { () throws(ComputeError) in
        for call in calls { call() }
        try finishEnqueueing()
      }
    } catch {
      abandon()
      throw error
    }
    try graph.prepare(on: stream)
    let (start, end) = (
      try CUDAEvent(device, measuresTime: true), try CUDAEvent(device, measuresTime: true)
    )
    var times: [Double] = []
    for replay in -3..<replays {
      try stream.record(start)
      try graph.replay(on: stream)
      try stream.record(end)
      try end.wait()
      let seconds = try end.seconds(since: start)
      if replay >= 0 { times.append(seconds / Double(calls.count)) }
    }
    return times.sorted()[times.count / 2]
  }
}
