// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPCompute
internal import HiPModelFiles
internal import HiPTensors

/// What a model's file says of it, whichever form it has.
struct ModelFields {
  /// The forms in which models come.
  enum Form { case gguf, folder }

  /// What a value is called in each form; nil where a form does not say it.
  struct Key {
    let gguf: String?
    let folder: String?

    init(gguf: String? = nil, folder: String? = nil) {
      self.gguf = gguf
      self.folder = folder
    }
  }

  let form: Form
  let family: ModelFamily
  let metadata: Metadata
  let weights: any WeightSource
  /// Where values of the text model stand in the metadata.
  let prefix: String
  let layerCount: Int

  init(
    _ form: Form, _ family: ModelFamily, _ metadata: Metadata, _ weights: any WeightSource,
    prefix: String
  ) throws(FileError) {
    self.form = form
    self.family = family
    self.metadata = metadata
    self.weights = weights
    self.prefix = prefix
    let key = form == .gguf ? "block_count" : "num_hidden_layers"
    layerCount = try metadata.integer(prefix + key, in: 1...1024)
  }

  /// The full name of a value in this form.
  func name(_ key: Key) -> String? { (form == .gguf ? key.gguf : key.folder).map { prefix + $0 } }

  func refuse(_ problem: String, _ code: FileError.Code = .unsupported) -> FileError {
    FileError(code, path: metadata.path, problem: problem)
  }

  private func present(_ key: Key) -> String? {
    name(key).flatMap { metadata.values[$0] == nil ? nil : $0 }
  }

  func has(_ key: Key) -> Bool { present(key) != nil }

  /// Whether a folder says that there is no such value.
  func isNull(_ key: Key) -> Bool { name(key).map { metadata.nulls.contains($0) } ?? false }

  /// A whole number, which may stand in a list with one for each layer, if all of them are equal.
  func integer(_ key: Key, in range: ClosedRange<Int>, default fallback: Int?)
    throws(FileError) -> Int
  {
    guard let name = name(key) else { return fallback ?? range.lowerBound }
    if case .integers(let values) = metadata.values[name] {
      guard values.count == layerCount, let first = values.first else {
        throw refuse(
          "\"\(name)\" has \(values.count) numbers for \(layerCount) layers", .invalid)
      }
      guard values.allSatisfy({ $0 == first }) else {
        throw refuse("\"\(name)\" differs from layer to layer, which is not supported")
      }
      guard let value = Int(exactly: first), range.contains(value) else {
        throw refuse(
          "\"\(name)\" is \(first); allowed are \(range.lowerBound) to \(range.upperBound)",
          .invalid)
      }
      return value
    }
    return try metadata.integer(name, in: range, default: fallback)
  }

  /// The first of several whole numbers that is present.
  func integer(_ keys: Key..., in range: ClosedRange<Int>) throws(FileError) -> Int? {
    guard let key = keys.first(where: { has($0) }) else { return nil }
    return try integer(key, in: range, default: nil)
  }

  /// The first of several numbers that is present.
  func number(_ keys: Key...) throws(FileError) -> Double? {
    guard let name = keys.lazy.compactMap({ present($0) }).first else { return nil }
    return try metadata.number(name)
  }

  /// The first of several numbers that is present, which must be positive.
  func positive(_ keys: Key...) throws(FileError) -> Double? {
    guard let name = keys.lazy.compactMap({ present($0) }).first else { return nil }
    let value = try metadata.number(name)
    // Within what single precision holds, and its inverse, too.
    guard value > 1e-30, value < 1e15 else {
      throw refuse("\"\(name)\" is \(value); it must be a positive number of usual size", .invalid)
    }
    return value
  }

  func flag(_ key: Key, default fallback: Bool) throws(FileError) -> Bool {
    guard let name = name(key) else { return fallback }
    return try metadata.flag(name, default: fallback)
  }

  func text(_ key: Key) throws(FileError) -> String? {
    guard let name = name(key) else { return nil }
    return try metadata.text(name)
  }

  /// Positive numbers, one for each of `count`; nil where they are absent.
  func numbers(_ key: Key, count: Int) throws(FileError) -> [Double]? {
    guard let name = present(key) else { return nil }
    let values = try metadata.numbers(name) ?? []
    guard values.count == count, values.allSatisfy({ $0 > 0 && $0.isFinite }) else {
      throw refuse("\"\(name)\" must hold \(count) positive numbers", .invalid)
    }
    return values
  }
}

/// The numbers that every family has.
struct CommonFields {
  let hidden, feedForward, heads, kvHeads, headSize, vocabulary, contextLength: Int
  let epsilon: Float
}

extension ModelFields {
  /// The numbers that every family has, within what can be computed.
  /// - Parameter defaults: what a folder need not say, by its names.
  func common(_ defaults: [String: Int] = [:]) throws(FileError) -> CommonFields {
    func integer(
      _ key: Key, in range: ClosedRange<Int>, default fallback: Int?
    ) throws(FileError) -> Int {
      try self.integer(key, in: range, default: key.folder.flatMap { defaults[$0] } ?? fallback)
    }
    let hidden = try integer(
      Key(gguf: "embedding_length", folder: "hidden_size"), in: 16...1 << 20, default: nil)
    let feedForward = try integer(
      Key(gguf: "feed_forward_length", folder: "intermediate_size"), in: 16...1 << 24, default: nil)
    let heads = try integer(
      Key(gguf: "attention.head_count", folder: "num_attention_heads"), in: 1...4096, default: nil)
    let kvHeads = try integer(
      Key(gguf: "attention.head_count_kv", folder: "num_key_value_heads"), in: 1...4096,
      default: heads)
    guard heads % kvHeads == 0 else {
      throw refuse(
        "\(heads) query heads cannot be shared out over \(kvHeads) key-value heads", .invalid)
    }
    let headSize = try integer(
      Key(gguf: "attention.key_length", folder: "head_dim"), in: 1...1024, default: hidden / heads)
    let valueSize = try integer(
      Key(gguf: "attention.value_length"), in: 1...1024, default: headSize)
    guard headSize >= 16, headSize % 16 == 0, headSize <= 256, valueSize == headSize else {
      throw refuse(
        "heads of \(headSize) (keys) and \(valueSize) (values) elements are not supported; both "
          + "must be the same multiple of 16, at most 256")
    }
    guard hidden % 16 == 0, feedForward % 16 == 0 else {
      throw refuse("the hidden sizes \(hidden) and \(feedForward) are no multiples of 16")
    }
    guard layerCount * kvHeads * headSize <= 1 << 24 else {
      throw refuse("\(layerCount) layers of \(kvHeads) key-value heads are more than is possible")
    }
    let epsilonKey = Key(gguf: "attention.layer_norm_rms_epsilon", folder: "rms_norm_eps")
    let stated = try number(epsilonKey, Key(folder: "layer_norm_epsilon"))
    guard let epsilon = stated ?? (defaults.isEmpty ? nil : 1e-6) else {
      throw metadata.missing(name(epsilonKey) ?? "")
    }
    guard epsilon >= 0, epsilon < 1 else {
      throw refuse("\"\(name(epsilonKey) ?? "")\" is \(epsilon)", .invalid)
    }
    let vocabulary: Int
    if form == .gguf, let tokens = try metadata.texts("tokenizer.ggml.tokens") {
      vocabulary = tokens.count
    } else {
      vocabulary = try integer(
        Key(gguf: "vocab_size", folder: "vocab_size"), in: 1...1 << 24, default: nil)
    }
    guard vocabulary > 0 else { throw refuse("the vocabulary is empty", .invalid) }
    return CommonFields(
      hidden: hidden, feedForward: feedForward, heads: heads, kvHeads: kvHeads, headSize: headSize,
      vocabulary: vocabulary,
      contextLength: try integer(
        Key(gguf: "context_length", folder: "max_position_embeddings"), in: 1...1 << 32,
        default: nil),
      epsilon: Float(epsilon))
  }

  /// The experts of every layer, and the size of one.
  /// - Parameter count: what their number is called.
  func experts(
    count: Key, size: Key, isRenormalised: Bool
  ) throws(FileError) -> (experts: FeedForwardPlan.Experts, size: Int) {
    let count = try integer(count, in: 1...4096, default: nil)
    guard count * layerCount <= 1 << 16 else {
      throw refuse("\(count) experts in each of \(layerCount) layers are more than is possible")
    }
    let used = try integer(
      Key(gguf: "expert_used_count", folder: "num_experts_per_tok"), in: 1...count, default: nil)
    let size = try integer(size, in: 16...1 << 24, default: nil)
    guard size % 16 == 0 else { throw refuse("experts of \(size) elements are no multiple of 16") }
    return (
      .init(count: count, routing: ExpertRouting(used: used, isRenormalised: isRenormalised)), size
    )
  }

  /// Which layers attend to a window only, and how long it is; nil where none does.
  /// - Parameter slides: what the family does in files that do not say which.
  func slidingWindow(
    default fallback: Int? = nil, _ slides: (Int) -> Bool
  ) throws(FileError) -> (window: StreamingWindow, layers: [Bool])? {
    let key = Key(gguf: "attention.sliding_window", folder: "sliding_window")
    let length = try integer(key, in: 0...1 << 32) ?? (isNull(key) ? nil : fallback)
    // A window as long as all that the model knows is none.
    let known = try integer(
      Key(gguf: "context_length", folder: "max_position_embeddings"), in: 1...1 << 32)
    guard let length, length > 0, length < known ?? .max else { return nil }
    let window: StreamingWindow
    do {
      window = try StreamingWindow(sink: 0, window: length)
    } catch {
      throw refuse("the sliding window is \(length): \(error)", .invalid)
    }
    var layers = (0..<layerCount).map(slides)
    let pattern = Key(
      gguf: "attention.sliding_window_pattern",
      folder: has(Key(folder: "layer_types"))
        ? "layer_types"
        : has(Key(folder: "_sliding_window_pattern"))
          ? "_sliding_window_pattern" : "sliding_window_pattern")
    func check(_ count: Int) throws(FileError) {
      guard count == layerCount else {
        throw refuse(
          "\"\(name(pattern) ?? "")\" has \(count) entries for \(layerCount) layers", .invalid)
      }
    }
    switch name(pattern).flatMap({ metadata.values[$0] }) {
    case nil: break
    case .flags(let flags):
      try check(flags.count)
      layers = flags
    case .integers(let flags):
      try check(flags.count)
      layers = flags.map { $0 != 0 }
    case .texts(let types):
      try check(types.count)
      for type in types where type != "sliding_attention" && type != "full_attention" {
        throw refuse(
          "\"layer_types\" holds \"\(type)\"; known are sliding_attention and full_attention")
      }
      layers = types.map { $0 == "sliding_attention" }
    // One global layer at the end of so many.
    case .integer(let period) where period > 0 && pattern.folder != "layer_types":
      layers = (0..<layerCount).map { ($0 + 1) % Int(clamping: period) != 0 }
    // L for local and G for global, again and again.
    case .text(let letters) where !letters.isEmpty && letters.allSatisfy({ "LG".contains($0) }):
      let kinds = Array(letters)
      layers = (0..<layerCount).map { kinds[$0 % kinds.count] == "L" }
    case .some: throw refuse("\"\(name(pattern) ?? "")\" is no pattern of layers", .invalid)
    }
    return layers.contains(true) ? (window, layers) : nil
  }

  /// Throws when a folder's activation is another than the family's.
  func checkActivation(_ names: String...) throws(FileError) {
    for key in ["hidden_act", "hidden_activation"] {
      guard let name = try text(Key(folder: key)), !names.contains(name) else { continue }
      throw refuse("\"\(key)\" is \"\(name)\"; supported is \"\(names[0])\"")
    }
  }
}
