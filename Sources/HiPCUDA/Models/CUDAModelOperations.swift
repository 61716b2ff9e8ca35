// SPDX-License-Identifier: Apache-2.0

public import HiPCompute

/// Whole models: everything beside attention.
extension CUDABackend: ComputeBackend {
  /// Widens the tokens' rows.
  public func embed(_ call: EmbedCall) {
    enqueue { () throws(ComputeError) in try models.embed(call, on: stream) }
  }

  /// Normalises row by row.
  public func normalize(_ call: NormCall) {
    enqueue { () throws(ComputeError) in
      try models.normalize(call, faults: faults, on: stream)
    }
  }

  /// Products one after the other: tuned kernels round the factors of many rows to bfloat16.
  public func multiply(_ calls: [MatmulCall]) {
    enqueue { () throws(ComputeError) in
      for call in calls { try models.multiply(call, on: stream) }
    }
  }

  /// All rows through one branch, or each row through those that it is drawn to.
  public func feedForward(_ call: FeedForwardCall) {
    enqueue { () throws(ComputeError) in try models.feedForward(call, on: stream) }
  }

  /// Greedy tokens and likelihoods come from the device; for other candidates rows of logits go to the host.
  public func sample(_ call: SampleCall) {
    enqueue { () throws(ComputeError) in try samples.add(call, on: stream) }
  }
}
