// SPDX-License-Identifier: Apache-2.0

/// What some layers do differently.
public struct LayerException: Sendable, Hashable {
  /// The layers, counted from 0; negative ones from the last layer, -1.
  public let layers: [Int]
  /// What they do.
  public let change: Change

  /// What changes.
  public enum Change: Sendable, Hashable {
    /// They read every key at its true position.
    case dense
    /// They select otherwise; nil leaves a part as it is.
    case selection(
      keep: Int? = nil, pruningPositions: PositionScheme? = nil,
      attentionPositions: PositionScheme? = nil)
  }

  /// Stores the parts; `HierarchicalPruning` checks them.
  public init(layers: [Int], _ change: Change) {
    self.layers = layers
    self.change = change
  }

  var isDense: Bool { change == .dense }

  /// Keys that the last stage keeps there.
  public var keep: Int? {
    if case .selection(let keep, _, _) = change { keep } else { nil }
  }

  /// Positions while chunks are scored there.
  public var pruningPositions: PositionScheme? {
    if case .selection(_, let positions, _) = change { positions } else { nil }
  }

  /// Positions in the attention there.
  public var attentionPositions: PositionScheme? {
    if case .selection(_, _, let positions) = change { positions } else { nil }
  }

  /// The same with the selected keys divided by a number.
  func divided(by divisor: Int) -> LayerException {
    guard case .selection(let keep?, let pruning, let attention) = change else { return self }
    return LayerException(
      layers: layers,
      .selection(keep: keep / divisor, pruningPositions: pruning, attentionPositions: attention))
  }

  /// The first of its layers that a model of `layerCount` does not have.
  public func missingLayer(of layerCount: Int) -> Int? {
    layers.first { !(-layerCount..<layerCount).contains($0) }
  }

  func applies(to layer: Int, of layerCount: Int) -> Bool {
    layers.contains(layer) || layers.contains(layer - layerCount)
  }
}
