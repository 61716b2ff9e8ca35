// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

// The longer the text, the more keys resemble the one that is asked for. A model has learnt to tell it
// from those of a text of the trained length; of a longer one a selection keeps the most alike, so that
// together they outweigh it. As many keys as the model knows, taken at random from the longer text, would
// hold trainedLength / keys of its mass; where the selection holds more, scores are spread by the
// logarithm of how many times more, around the best one: a diffuse head stays as it is.
extension HierarchicalPruning {
  /// The same policy with scores of selected keys sharpened.
  /// - Throws: when there are no shares of mass to go by.
  public func sharpened(by sharpening: Double) throws(PolicyError) -> HierarchicalPruning {
    var policy = self
    policy.sharpening = sharpening
    try policy.check()
    return policy
  }

  /// What differences between the scores of selected keys are multiplied by.
  /// - Parameters:
  ///   - held: the share of the mass between sink and window that the selection holds.
  ///   - queries: positions of the queries that share it.
  ///   - trainedLength: tokens that the model was trained on at a time.
  /// - Returns: 1 within the trained length, for whole blocks of queries, and where the selection holds
  ///   no more than so many random keys would.
  public func sharpness(held: Float, queries: Range<Int>, trainedLength: Int) -> Double {
    let far = queries.lowerBound - window - sink
    guard sharpening > 0, queries.count < queryBlock, far > 0 else { return 1 }
    return 1 + sharpening * max(0, log(Double(held) * Double(far) / Double(trainedLength)))
  }
}
