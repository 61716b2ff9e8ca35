// SPDX-License-Identifier: Apache-2.0

/// A named way to attend: one policy everywhere, or dense within the trained length and a policy
/// beyond it.
public struct AttentionChoice: Sendable, Hashable {
  /// The name it is reported under.
  public let name: String
  /// The policy, which with `.withinTrainedLength` starts where the trained length ends.
  public let policy: AttentionPolicy
  /// Where attention is dense whatever the policy.
  public let dense: DenseRange

  /// Positions that attend densely whatever the policy.
  public enum DenseRange: String, Sendable, Hashable, CaseIterable {
    case nowhere
    case withinTrainedLength = "within-trained-length"
  }

  /// Names a policy.
  public init(name: String, policy: AttentionPolicy, dense: DenseRange = .nowhere) {
    self.name = name
    self.policy = policy
    self.dense = dense
  }

  /// The number of first positions that attend densely in a model trained on `trainedLength`.
  public func denseLength(trainedLength: Int) -> Int {
    switch (policy, dense) {
    case (.dense, _): Int.max
    case (_, .withinTrainedLength): trainedLength
    case (_, .nowhere): 0
    }
  }

  /// What ran for a context of `length` positions: "dense", or this choice's policy by name.
  public func nameOfPolicy(contextLength: Int, trainedLength: Int) -> String {
    if contextLength <= denseLength(trainedLength: trainedLength) { return "dense" }
    return Self.presets.first { $0.dense == .nowhere && $0.policy == policy }?.name ?? name
  }
}
