// SPDX-License-Identifier: Apache-2.0

extension AttentionChoice {
  /// The most positions that a query attends over; nil where that is the whole text.
  public var reach: Int? {
    switch policy {
    case .dense, .stretched: nil
    case .streaming(let window): window.sink + window.window
    case .heavyHitters(let hitters): hitters.budget + HeavyHitters.queryBlock
    case .hierarchical(let pruning): pruning.largestBudget + pruning.unfinishedBlock
    }
  }

  /// The same way to attend over no more than `length` positions: its budget is halved until it fits.
  /// - Returns: itself where it fits; nil where no budget is small enough.
  public func fitted(to length: Int) -> AttentionChoice? {
    var divisor = 1
    while divisor < 1 << 30, let choice = divided(by: divisor), let reach = choice.reach {
      if reach <= length { return choice }
      divisor *= 2
    }
    return reach == nil ? self : nil
  }

  private func divided(by divisor: Int) -> AttentionChoice? {
    guard divisor > 1 else { return self }
    let policy: AttentionPolicy
    do {
      switch self.policy {
      case .dense, .stretched: return nil
      case .streaming(let window):
        policy = .streaming(
          try StreamingWindow(sink: window.sink / divisor, window: window.window / divisor))
      case .heavyHitters(let hitters):
        policy = .heavyHitters(
          try HeavyHitters(recent: hitters.recent / divisor, heavy: hitters.heavy / divisor))
      case .hierarchical(let pruning):
        // Sketches are kept for groups of keys from the sink on.
        let unit = pruning.sketches.isEmpty ? 1 : 64
        policy = .hierarchical(
          try pruning.changed(
            sink: max(min(pruning.sink, unit), pruning.sink / divisor / unit * unit),
            window: max(pruning.leastWindow, pruning.window / divisor),
            keep: (pruning.stages.last?.keep ?? 0) / divisor,
            exceptions: pruning.exceptions.map { $0.divided(by: divisor) }))
      }
    } catch {
      return nil
    }
    return AttentionChoice(name: "\(name)/\(divisor)", policy: policy, dense: dense)
  }
}
