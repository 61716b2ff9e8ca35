// SPDX-License-Identifier: Apache-2.0

// The JSON form of a policy. An unknown key, a wrong word or an impossible combination is an error
// that names what is allowed; nothing is guessed.

extension AttentionChoice {
  /// What a policy file holds: `policy`, its fields, and optionally `dense`.
  public struct Document: Codable, Sendable {
    /// The policy of the file.
    public let policy: AttentionPolicy
    /// Where attention is dense whatever the policy.
    public let dense: DenseRange

    /// Wraps a choice for encoding.
    public init(_ choice: AttentionChoice) {
      policy = choice.policy
      dense = choice.dense
    }

    /// Reads a policy, and throws `PolicyError` for whatever it does not know.
    public init(from decoder: any Decoder) throws {
      let fields = try StrictFields(decoder, what: "a policy")
      dense = try fields.word("dense", default: .nowhere)
      let kind: PolicyKind = try fields.word("policy")
      let always = ["policy", "dense"]
      switch kind {
      case .dense:
        try fields.allow(always)
        policy = .dense
      case .streaming:
        try fields.allow(always + ["sink", "window"])
        policy = .streaming(
          try StreamingWindow(sink: fields.integer("sink"), window: fields.integer("window")))
      case .hierarchical:
        try fields.allow(
          always + [
            "sink", "window", "queryBlock", "stages", "fineStages", "sharing", "ranking",
            "pruningPositions", "attentionPositions", "layers",
          ])
        policy = .hierarchical(try HierarchicalPruning(fields))
      }
    }

    /// Writes the form that `init(from:)` reads.
    public func encode(to encoder: any Encoder) throws {
      var fields = encoder.container(keyedBy: FieldName.self)
      if dense != .nowhere { try fields.encode(dense.rawValue, forKey: "dense") }
      switch policy {
      case .dense:
        try fields.encode(PolicyKind.dense.rawValue, forKey: "policy")
      case .streaming(let reach):
        try fields.encode(PolicyKind.streaming.rawValue, forKey: "policy")
        try fields.encode(reach.sink, forKey: "sink")
        try fields.encode(reach.window, forKey: "window")
      case .hierarchical(let pruning):
        try fields.encode(PolicyKind.hierarchical.rawValue, forKey: "policy")
        try pruning.encode(into: &fields)
      }
    }
  }
}

private enum PolicyKind: String, CaseIterable {
  case dense, streaming, hierarchical
}

extension HierarchicalPruning {
  fileprivate init(_ fields: StrictFields) throws {
    try self.init(
      reach: StreamingWindow(sink: fields.integer("sink"), window: fields.integer("window")),
      queryBlock: fields.integer("queryBlock", default: 64),
      stages: fields.objects("stages", what: "a stage").map { try PruningStage($0) },
      fineStages: fields.has("fineStages")
        ? fields.objects("fineStages", what: "a fine stage").map { try PruningStage($0) } : nil,
      scoring: Scoring(
        sharing: fields.word("sharing", default: .allHeads),
        ranking: fields.word("ranking", default: .maximum),
        positions: fields.word("pruningPositions", default: .relative)),
      attentionPositions: fields.word("attentionPositions", default: .streaming),
      exceptions: fields.has("layers")
        ? fields.objects("layers", what: "an exception in \"layers\"").map {
          try LayerException($0)
        } : [])
  }

  fileprivate func encode(into fields: inout KeyedEncodingContainer<FieldName>) throws {
    try fields.encode(sink, forKey: "sink")
    try fields.encode(window, forKey: "window")
    try fields.encode(queryBlock, forKey: "queryBlock")
    try encodeStages(stages, "stages", into: &fields)
    if let fineStages { try encodeStages(fineStages, "fineStages", into: &fields) }
    try fields.encode(sharing.rawValue, forKey: "sharing")
    try fields.encode(ranking.rawValue, forKey: "ranking")
    try fields.encode(pruningPositions.rawValue, forKey: "pruningPositions")
    try fields.encode(attentionPositions.rawValue, forKey: "attentionPositions")
    guard !exceptions.isEmpty else { return }
    var layers = fields.nestedUnkeyedContainer(forKey: "layers")
    for exception in exceptions {
      var object = layers.nestedContainer(keyedBy: FieldName.self)
      try object.encode(exception.layers, forKey: "layers")
      try object.encodeIfPresent(exception.keep, forKey: "keep")
      try object.encodeIfPresent(
        exception.pruningPositions?.rawValue, forKey: "pruningPositions")
    }
  }
}

private func encodeStages(
  _ stages: [PruningStage], _ name: FieldName,
  into fields: inout KeyedEncodingContainer<FieldName>
) throws {
  var list = fields.nestedUnkeyedContainer(forKey: name)
  for stage in stages {
    var object = list.nestedContainer(keyedBy: FieldName.self)
    try object.encode(stage.chunkSize, forKey: "chunk")
    try object.encode(stage.keep, forKey: "keep")
    try object.encode(stage.refreshInterval, forKey: "refresh")
    try object.encode(stage.queryStride, forKey: "queryStride")
    try object.encode(stage.estimate.rawValue, forKey: "estimate")
  }
}

extension PruningStage {
  fileprivate init(_ fields: StrictFields) throws {
    try fields.allow(["chunk", "keep", "refresh", "queryStride", "estimate"])
    try self.init(
      chunkSize: fields.integer("chunk"), keep: fields.integer("keep"),
      refreshInterval: fields.integer("refresh", default: 1),
      queryStride: fields.integer("queryStride", default: 1),
      estimate: fields.word("estimate", default: .halving))
  }
}

extension LayerException {
  fileprivate init(_ fields: StrictFields) throws {
    try fields.allow(["layers", "keep", "pruningPositions"])
    try self.init(
      layers: fields.integers("layers"),
      keep: fields.has("keep") ? fields.integer("keep") : nil,
      pruningPositions: fields.has("pruningPositions") ? fields.word("pruningPositions") : nil)
  }
}

private struct FieldName: CodingKey, ExpressibleByStringLiteral {
  let stringValue: String
  var intValue: Int? { nil }
  init(stringLiteral value: String) { stringValue = value }
  init(stringValue: String) { self.stringValue = stringValue }
  init?(intValue: Int) { nil }
}

/// An object whose every field must be known.
private struct StrictFields {
  let container: KeyedDecodingContainer<FieldName>
  let what: String

  init(_ decoder: any Decoder, what: String) throws {
    self.what = what
    do {
      container = try decoder.container(keyedBy: FieldName.self)
    } catch {
      throw PolicyError("\(what) must be a JSON object")
    }
  }

  func has(_ name: String) -> Bool { container.contains(FieldName(stringValue: name)) }

  func allow(_ names: [String]) throws(PolicyError) {
    for key in container.allKeys.map(\.stringValue).sorted() where !names.contains(key) {
      throw PolicyError(
        "\(what) has an unknown key \"\(key)\"; allowed are \(names.joined(separator: ", "))")
    }
  }

  private func value<Value: Decodable>(_ name: String, _ kind: String) throws(PolicyError) -> Value
  {
    guard has(name) else { throw PolicyError("\(what) needs the key \"\(name)\"") }
    do {
      return try container.decode(Value.self, forKey: FieldName(stringValue: name))
    } catch let error as PolicyError {
      throw error
    } catch {
      throw PolicyError("\(what): \"\(name)\" must be \(kind)")
    }
  }

  func integer(_ name: String, default fallback: Int? = nil) throws(PolicyError) -> Int {
    if let fallback, !has(name) { return fallback }
    let value: Int = try value(name, "a whole number")
    guard (-1_000_000_000...1_000_000_000).contains(value) else {
      throw PolicyError("\(what): \"\(name)\" is out of range: \(value)")
    }
    return value
  }

  func integers(_ name: String) throws(PolicyError) -> [Int] {
    try value(name, "a list of whole numbers")
  }

  func word<Word: RawRepresentable & CaseIterable>(
    _ name: String, default fallback: Word? = nil
  ) throws(PolicyError) -> Word where Word.RawValue == String {
    let allowed = Word.allCases.map { "\"\($0.rawValue)\"" }.joined(separator: ", ")
    if let fallback, !has(name) { return fallback }
    let text: String = try value(name, "one of \(allowed)")
    guard let word = Word(rawValue: text) else {
      throw PolicyError("\(what): \"\(name)\" is \"\(text)\"; allowed are \(allowed)")
    }
    return word
  }

  func objects(_ name: String, what: String) throws -> [StrictFields] {
    guard has(name) else { throw PolicyError("\(self.what) needs the key \"\(name)\"") }
    do {
      var list = try container.nestedUnkeyedContainer(forKey: FieldName(stringValue: name))
      var objects: [StrictFields] = []
      while !list.isAtEnd { objects.append(try StrictFields(list.superDecoder(), what: what)) }
      return objects
    } catch let error as PolicyError {
      throw error
    } catch {
      throw PolicyError("\(self.what): \"\(name)\" must be a list of objects")
    }
  }
}
