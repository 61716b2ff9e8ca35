// SPDX-License-Identifier: Apache-2.0

// The JSON form of a policy. An unknown key, a wrong word or an impossible combination is an error
// that names what is allowed; nothing is guessed.

extension AttentionChoice {
  /// What a policy file holds: a `version`, a `preset` and what is changed of it, or all of a policy as
  /// `experimental`.
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
      let fields = try StrictFields(decoder, what: "a policy file")
      let version = try fields.integer("version")
      guard version == 1 else {
        throw PolicyError("\"version\" is \(version); this product knows version 1")
      }
      if fields.has("experimental") {
        try fields.allow(["version", "dense", "experimental"])
        dense = try fields.word("dense", default: .nowhere)
        policy = try AttentionPolicy(
          fields.object("experimental", what: "\"experimental\""))
        return
      }
      try fields.allow(["version", "preset", "sink", "window", "keep", "dense", "experimental"])
      let name = try fields.text("preset")
      guard let preset = AttentionChoice.named(name) else {
        let known = AttentionChoice.presets.map(\.name).joined(separator: ", ")
        throw PolicyError("\"preset\" is \"\(name)\"; presets are \(known)")
      }
      dense = try fields.word("dense", default: preset.dense)
      func optional(_ name: String) throws(PolicyError) -> Int? {
        try fields.has(name) ? fields.integer(name) : nil
      }
      policy = try preset.policy.changed(
        sink: optional("sink"), window: optional("window"), keep: optional("keep"))
    }

    /// Writes a whole policy, in a form that `init(from:)` reads.
    public func encode(to encoder: any Encoder) throws {
      var document = encoder.container(keyedBy: FieldName.self)
      try document.encode(1, forKey: "version")
      if dense != .nowhere { try document.encode(dense.rawValue, forKey: "dense") }
      var fields = document.nestedContainer(keyedBy: FieldName.self, forKey: "experimental")
      switch policy {
      case .dense:
        try fields.encode(PolicyKind.dense.rawValue, forKey: "policy")
      case .stretched(let stretch):
        try fields.encode(PolicyKind.dense.rawValue, forKey: "policy")
        try stretch.encode(into: &fields)
      case .heavyHitters(let hitters):
        try fields.encode(PolicyKind.h2o.rawValue, forKey: "policy")
        try fields.encode(hitters.recent, forKey: "recent")
        try fields.encode(hitters.heavy, forKey: "heavy")
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

extension AttentionPolicy {
  fileprivate init(_ fields: StrictFields) throws {
    let kind: PolicyKind = try fields.word("policy")
    switch kind {
    case .dense:
      try fields.allow(["policy", "stretch"] + (fields.has("stretch") ? ["factor"] : []))
      self = try fields.has("stretch") ? .stretched(RotaryStretch(fields)) : .dense
    case .streaming:
      try fields.allow(["policy", "sink", "window"])
      self = .streaming(
        try StreamingWindow(sink: fields.integer("sink"), window: fields.integer("window")))
    case .h2o:
      try fields.allow(["policy", "recent", "heavy"])
      self = .heavyHitters(
        try HeavyHitters(recent: fields.integer("recent"), heavy: fields.integer("heavy")))
    case .hierarchical:
      try fields.allow([
        "policy", "sink", "window", "queryBlock", "stages", "fineStages", "sharing", "ranking",
        "representative", "chunkScore", "pruningPositions", "attentionPositions", "focus",
        "layers",
      ])
      self = .hierarchical(try HierarchicalPruning(fields))
    }
  }

  /// The same policy with another sink, window or number of selected keys; nil leaves one as it is.
  /// - Throws: when the policy has no such thing, or the parts no longer fit together.
  public func changed(
    sink: Int? = nil, window: Int? = nil, keep: Int? = nil
  ) throws(PolicyError) -> AttentionPolicy {
    func refuse(_ what: String) -> PolicyError {
      PolicyError("the preset has no \(what) that could be changed; leave it out")
    }
    switch self {
    case .hierarchical(let pruning):
      return .hierarchical(try pruning.changed(sink: sink, window: window, keep: keep))
    case .streaming(let reach):
      guard keep == nil else { throw refuse("\"keep\"") }
      return .streaming(
        try StreamingWindow(sink: sink ?? reach.sink, window: window ?? reach.window))
    case .dense, .stretched, .heavyHitters:
      guard sink == nil, window == nil, keep == nil else {
        throw refuse("\"sink\", \"window\" or \"keep\"")
      }
      return self
    }
  }
}

private enum PolicyKind: String, CaseIterable {
  case dense, streaming, h2o, hierarchical
}

extension RotaryStretch {
  private enum Word: String, CaseIterable {
    case linear, ntk, dynamic
  }

  fileprivate init(_ fields: StrictFields) throws {
    let word: Word = try fields.word("stretch")
    guard word != .dynamic else {
      guard !fields.has("factor") else {
        throw PolicyError("\"stretch\": \"dynamic\" finds its \"factor\" itself; leave it out")
      }
      self = .dynamic
      return
    }
    let factor = try fields.number("factor")
    guard factor >= 1, factor <= 1e6 else {
      throw PolicyError("\"factor\" is \(factor); it must be 1 to 1,000,000")
    }
    self = word == .linear ? .linear(factor: factor) : .ntk(factor: factor)
  }

  fileprivate func encode(into fields: inout KeyedEncodingContainer<FieldName>) throws {
    switch self {
    case .linear(let factor):
      try fields.encode(Word.linear.rawValue, forKey: "stretch")
      try fields.encode(factor, forKey: "factor")
    case .ntk(let factor):
      try fields.encode(Word.ntk.rawValue, forKey: "stretch")
      try fields.encode(factor, forKey: "factor")
    case .dynamic: try fields.encode(Word.dynamic.rawValue, forKey: "stretch")
    }
  }
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
        positions: fields.word("pruningPositions", default: .relative),
        halving: HalvingRule(
          representative: fields.word("representative", default: .midpoint),
          score: fields.word("chunkScore", default: .path))),
      attentionPositions: fields.word("attentionPositions", default: .streaming),
      exceptions: fields.has("layers")
        ? fields.objects("layers", what: "an exception in \"layers\"").map {
          try LayerException($0)
        } : [])
    if fields.has("focus") { self = try focusing(Focus(fields.object("focus", what: "\"focus\""))) }
  }

  fileprivate func encode(into fields: inout KeyedEncodingContainer<FieldName>) throws {
    try fields.encode(sink, forKey: "sink")
    try fields.encode(window, forKey: "window")
    try fields.encode(queryBlock, forKey: "queryBlock")
    try encodeStages(stages, "stages", into: &fields)
    if let fineStages { try encodeStages(fineStages, "fineStages", into: &fields) }
    try fields.encode(sharing.rawValue, forKey: "sharing")
    try fields.encode(ranking.rawValue, forKey: "ranking")
    try fields.encode(halving.representative.rawValue, forKey: "representative")
    try fields.encode(halving.score.rawValue, forKey: "chunkScore")
    try fields.encode(pruningPositions.rawValue, forKey: "pruningPositions")
    try fields.encode(attentionPositions.rawValue, forKey: "attentionPositions")
    if let focus {
      var object = fields.nestedContainer(keyedBy: FieldName.self, forKey: "focus")
      try object.encode(focus.passage, forKey: "passage")
      try object.encode(focus.keep, forKey: "keep")
      try object.encode(focus.answer, forKey: "answer")
    }
    guard !exceptions.isEmpty else { return }
    var layers = fields.nestedUnkeyedContainer(forKey: "layers")
    for exception in exceptions {
      var object = layers.nestedContainer(keyedBy: FieldName.self)
      try object.encode(exception.layers, forKey: "layers")
      if exception.isDense { try object.encode(true, forKey: "dense") }
      try object.encodeIfPresent(exception.keep, forKey: "keep")
      try object.encodeIfPresent(
        exception.pruningPositions?.rawValue, forKey: "pruningPositions")
      try object.encodeIfPresent(
        exception.attentionPositions?.rawValue, forKey: "attentionPositions")
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
    try object.encodeIfPresent(stage.proportion?.share, forKey: "keepShare")
    try object.encodeIfPresent(stage.proportion?.least, forKey: "keepLeast")
    try object.encode(stage.refreshInterval, forKey: "refresh")
    try object.encode(stage.queryStride, forKey: "queryStride")
    if stage.queryBlocks > 1 { try object.encode(stage.queryBlocks, forKey: "queryBlocks") }
    if stage.sharedFrom > 0 { try object.encode(stage.sharedFrom, forKey: "sharedFrom") }
    try object.encode(stage.estimate.rawValue, forKey: "estimate")
    if stage.keysPerMean != EightBitMean.defaultKeyCount {
      try object.encode(stage.keysPerMean, forKey: "keysPerMean")
    }
  }
}

extension PruningStage {
  fileprivate init(_ fields: StrictFields) throws {
    try fields.allow(
      ["chunk", "keep", "refresh", "queryStride", "queryBlocks", "sharedFrom", "estimate"]
        + (fields.has("keepLeast") || fields.has("keepShare") ? ["keepShare", "keepLeast"] : [])
        + (fields.has("keysPerMean") ? ["keysPerMean"] : []))
    try self.init(
      chunkSize: fields.integer("chunk"), keep: fields.integer("keep"),
      proportion: fields.has("keepLeast") || fields.has("keepShare")
        ? Proportion(share: fields.number("keepShare"), least: fields.integer("keepLeast")) : nil,
      refreshInterval: fields.integer("refresh", default: 1),
      queryStride: fields.integer("queryStride", default: 1),
      estimate: fields.word("estimate", default: .halving))
    queryBlocks = try fields.integer("queryBlocks", default: 1)
    sharedFrom = try fields.integer("sharedFrom", default: 0)
    guard fields.has("keysPerMean") else { return }
    guard estimate == .means else {
      throw PolicyError(
        "\(fields.what): \"keysPerMean\" goes with \"estimate\": \"means\"; leave it out")
    }
    keysPerMean = try fields.integer("keysPerMean")
  }
}

extension Focus {
  fileprivate init(_ fields: StrictFields) throws {
    try fields.allow(["passage", "keep", "answer"])
    try self.init(
      passage: fields.integer("passage"), keep: fields.integer("keep"),
      answer: fields.integer("answer"))
  }
}

extension LayerException {
  fileprivate init(_ fields: StrictFields) throws {
    try fields.allow(["layers", "dense", "keep", "pruningPositions", "attentionPositions"])
    let layers = try fields.integers("layers")
    if try fields.flag("dense") {
      try fields.allow(["layers", "dense"])
      self.init(layers: layers, .dense)
    } else {
      try self.init(
        layers: layers,
        .selection(
          keep: fields.has("keep") ? fields.integer("keep") : nil,
          pruningPositions: fields.has("pruningPositions") ? fields.word("pruningPositions") : nil,
          attentionPositions: fields.has("attentionPositions")
            ? fields.word("attentionPositions") : nil))
    }
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
      throw PolicyError("\(what) must be a JSON object", code: .format, cause: error)
    }
  }

  func has(_ name: String) -> Bool { container.contains(FieldName(stringValue: name)) }

  func allow(_ names: [String]) throws(PolicyError) {
    for key in container.allKeys.map(\.stringValue).sorted() where !names.contains(key) {
      throw PolicyError(
        "\(what) has an unknown key \"\(key)\"; allowed are \(names.joined(separator: ", "))",
        code: .format)
    }
  }

  private func value<Value: Decodable>(_ name: String, _ kind: String) throws(PolicyError) -> Value
  {
    guard has(name) else { throw PolicyError("\(what) needs the key \"\(name)\"", code: .format) }
    do {
      return try container.decode(Value.self, forKey: FieldName(stringValue: name))
    } catch let error as PolicyError {
      throw error
    } catch {
      throw PolicyError("\(what): \"\(name)\" must be \(kind)", code: .format, cause: error)
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

  func text(_ name: String) throws(PolicyError) -> String { try value(name, "a text") }

  func number(_ name: String) throws(PolicyError) -> Double { try value(name, "a number") }

  /// False when absent.
  func flag(_ name: String) throws(PolicyError) -> Bool {
    guard has(name) else { return false }
    return try value(name, "true or false")
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

  func object(_ name: String, what: String) throws -> StrictFields {
    try StrictFields(container.superDecoder(forKey: FieldName(stringValue: name)), what: what)
  }

  func objects(_ name: String, what: String) throws -> [StrictFields] {
    guard has(name) else {
      throw PolicyError("\(self.what) needs the key \"\(name)\"", code: .format)
    }
    do {
      var list = try container.nestedUnkeyedContainer(forKey: FieldName(stringValue: name))
      var objects: [StrictFields] = []
      while !list.isAtEnd { objects.append(try StrictFields(list.superDecoder(), what: what)) }
      return objects
    } catch let error as PolicyError {
      throw error
    } catch {
      throw PolicyError(
        "\(self.what): \"\(name)\" must be a list of objects", code: .format, cause: error)
    }
  }
}
