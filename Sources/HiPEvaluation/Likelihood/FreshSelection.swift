// SPDX-License-Identifier: Apache-2.0

internal import Foundation
public import HiPAttention

extension AttentionChoice {
  /// The same choice with every token of an answer selecting anew from the whole text: no focus on what the question drew
  /// on, and no stage that is kept for several tokens.
  ///
  /// Nil where that is so already, or nothing is selected.
  public func selectingFresh() throws -> AttentionChoice? {
    guard case .hierarchical = policy else { return nil }
    let data = try JSONEncoder().encode(AttentionChoice.Document(self))
    // As whoever writes a policy file would: what is left out is not done.
    guard var document = try JSONSerialization.jsonObject(with: data) as? [String: Any],
      var policy = document["experimental"] as? [String: Any]
    else { return nil }
    policy["focus"] = nil
    for name in ["stages", "fineStages"] {
      guard let stages = policy[name] as? [[String: Any]] else { continue }
      policy[name] = stages.map { $0.merging(["refresh": 1]) { $1 } }
    }
    document["experimental"] = policy
    let changed = try JSONDecoder().decode(
      AttentionChoice.Document.self, from: JSONSerialization.data(withJSONObject: document))
    guard changed.policy != self.policy else { return nil }
    return AttentionChoice(name: name + ", fresh", policy: changed.policy, dense: dense)
  }
}
