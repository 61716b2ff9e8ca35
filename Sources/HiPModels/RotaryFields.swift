// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
internal import HiPModelFiles
internal import HiPTensors

/// How a model's rotation is stretched beyond the length of its first training.
enum RotaryScaling {
  case none
  /// All frequencies divided by the factor (arXiv 2306.15595).
  case linear(factor: Double)
  /// Each frequency divided by its own number, as files hold them for Llama 3.1.
  case divided([Double])
  /// Slow frequencies divided by the factor, fast ones not (Llama 3.1).
  case llama3(factor: Double, lowFactor: Double, highFactor: Double, original: Int)
  case yarn(YaRN)
  /// One set of divisors for texts up to the original length, one for longer ones (arXiv 2402.13753).
  case longRope(short: [Double], long: [Double], amplitude: Double, original: Int)

  /// YaRN (arXiv 2309.00071, section 3): frequencies that turn often within the original length stay, those that
  /// turn seldom are divided.
  struct YaRN {
    let factor: Double
    let original: Int
    /// Turns within the original length above which a frequency stays, and below which it is divided.
    let fast, slow: Double
    /// Whether the range between is rounded to whole pairs.
    let isRounded: Bool
    /// Nil: 0.1 ln(factor) + 1.
    let amplitude: Double?

    func embedding(base: Double, dimensions: Int) -> RotaryEmbedding {
      func pair(turns: Double) -> Double {
        Double(dimensions) * log(Double(original) / (turns * 2 * .pi)) / (2 * log(base))
      }
      var (low, high) = (pair(turns: fast), pair(turns: slow))
      if isRounded { (low, high) = (low.rounded(.down), high.rounded(.up)) }
      low = max(low, 0)
      high = min(high, Double(dimensions - 1))
      let width = high > low ? high - low : 0.001
      let plain = RotaryEmbedding(base: base, dimensions: dimensions).frequencies
      let frequencies = plain.enumerated().map { pair, frequency in
        let divided = min(1, max(0, (Double(pair) - low) / width))
        return frequency * (1 - divided) + frequency / factor * divided
      }
      return RotaryEmbedding(
        frequencies: frequencies, amplitude: amplitude ?? (factor > 1 ? 0.1 * log(factor) + 1 : 1))
    }
  }

  func rotary(base: Double, dimensions: Int) -> LayerRotary {
    let plain = RotaryEmbedding(base: base, dimensions: dimensions)
    func divided(_ divisors: [Double], amplitude: Double = 1) -> RotaryEmbedding {
      RotaryEmbedding(
        frequencies: zip(plain.frequencies, divisors).map { $0 / $1 }, amplitude: amplitude)
    }
    switch self {
    case .none: return LayerRotary(plain)
    case .linear(let factor):
      return LayerRotary(divided(.init(repeating: factor, count: dimensions / 2)))
    case .divided(let divisors): return LayerRotary(divided(divisors))
    case .llama3(let factor, let low, let high, let original):
      let divisors = plain.frequencies.map { frequency in
        let turns = Double(original) * frequency / (2 * .pi)
        if turns < low { return factor }
        if turns > high { return 1 }
        let smooth = (turns - low) / (high - low)
        return 1 / ((1 - smooth) / factor + smooth)
      }
      return LayerRotary(divided(divisors))
    case .yarn(let yarn): return LayerRotary(yarn.embedding(base: base, dimensions: dimensions))
    case .longRope(let short, let long, let amplitude, let original):
      return LayerRotary(
        divided(short, amplitude: amplitude),
        long: .init(embedding: divided(long, amplitude: amplitude), beyond: original))
    }
  }

  /// Tokens that the stretched rotation was made for, where that shows in it.
  var stretchedLength: Int? {
    switch self {
    case .yarn(let yarn): Int(exactly: (Double(yarn.original) * yarn.factor).rounded())
    case .none, .linear, .divided, .llama3, .longRope: nil
    }
  }
}

extension ModelFields {
  /// Elements of a head that rotate.
  func rotaryDimensions(headSize: Int) throws(FileError) -> Int {
    var dimensions = try integer(
      Key(gguf: "rope.dimension_count"), in: 2...headSize, default: headSize)
    for key in ["partial_rotary_factor", "rope_parameters.partial_rotary_factor"] {
      guard let share = try positive(Key(folder: key)) else { continue }
      guard share <= 1 else { throw refuse("\"\(key)\" is \(share), above 1", .invalid) }
      dimensions = Int(Double(headSize) * share)
    }
    guard dimensions % 2 == 0, dimensions >= 2 else {
      throw refuse("rotary embedding of \(dimensions) elements of a head is not possible", .invalid)
    }
    return dimensions
  }

  /// The base of the rotation's frequencies.
  /// - Parameter layers: which layers, where a folder tells them apart.
  func rotaryBase(
    _ key: Key, layers: String? = nil, default fallback: Double
  ) throws(FileError) -> Double {
    let nested = layers.map { "rope_parameters.\($0).rope_theta" } ?? "rope_parameters.rope_theta"
    let base = try positive(Key(folder: nested), key) ?? fallback
    guard base > 1 else { throw refuse("the rotary base is \(base), not above 1", .invalid) }
    return base
  }

  /// How the rotation is stretched.
  /// - Parameter layers: which layers, where a folder tells them apart.
  func rotaryScaling(
    dimensions: Int, contextLength: Int, layers: String? = nil
  ) throws(FileError) -> RotaryScaling {
    form == .gguf
      ? try ggufScaling(pairs: dimensions / 2, contextLength: contextLength)
      : try folderScaling(pairs: dimensions / 2, contextLength: contextLength, layers: layers)
  }

  /// A YaRN whose stretched length can be counted with.
  private func checked(_ yarn: RotaryScaling.YaRN) throws(FileError) -> RotaryScaling {
    guard yarn.factor >= 1, Double(yarn.original) * yarn.factor <= 0x1p32 else {
      throw refuse(
        "a rotation of \(yarn.original) positions stretched by \(yarn.factor) is not possible",
        .invalid)
    }
    return .yarn(yarn)
  }

  private func ggufScaling(
    pairs: Int, contextLength: Int
  ) throws(FileError) -> RotaryScaling {
    func divisors(_ name: String) throws(FileError) -> [Double] {
      let values = try weights.floats(named: name, count: pairs).map(Double.init)
      guard values.allSatisfy({ $0.isFinite && $0 > 0 }) else {
        throw refuse("the tensor \"\(name)\" holds no positive factors", .invalid)
      }
      return values
    }
    let original = try integer(
      Key(gguf: "rope.scaling.original_context_length"), in: 1...1 << 32, default: contextLength)
    let amplitude = try positive(Key(gguf: "rope.scaling.attn_factor"))
    if weights.hasWeight(named: "rope_factors_long.weight") {
      return .longRope(
        short: try divisors("rope_factors_short.weight"),
        long: try divisors("rope_factors_long.weight"),
        amplitude: amplitude ?? Self.longAmplitude(contextLength, original), original: original)
    }
    if weights.hasWeight(named: "rope_freqs.weight") {
      return .divided(try divisors("rope_freqs.weight"))
    }
    let factor =
      try positive(Key(gguf: "rope.scaling.factor"), Key(gguf: "rope.scale_linear"))
    // A factor without a type means linear.
    let type = try text(Key(gguf: "rope.scaling.type")) ?? (factor == nil ? "none" : "linear")
    switch type {
    case "none": return .none
    case "linear": return try linear(factor ?? 1)
    case "yarn":
      let factor = factor ?? 1
      return try checked(
        .init(
          factor: factor, original: original,
          fast: try positive(Key(gguf: "rope.scaling.yarn_beta_fast")) ?? 32,
          slow: try positive(Key(gguf: "rope.scaling.yarn_beta_slow")) ?? 1,
          // GGUF cannot say that gpt-oss leaves it as it is.
          isRounded: family != .gptOSS,
          amplitude: amplitude.map { $0 * (0.1 * log(factor) + 1) }))
    default:
      throw refuse(
        "\"\(prefix)rope.scaling.type\" is \"\(type)\"; supported are none, linear, yarn and the tensors of "
          + "longrope and Llama 3.1")
    }
  }

  private func folderScaling(
    pairs: Int, contextLength: Int, layers: String?
  ) throws(FileError) -> RotaryScaling {
    let nested = layers.map { "rope_parameters.\($0)." } ?? "rope_parameters."
    let place =
      has(Key(folder: nested + "rope_type")) || has(Key(folder: nested + "type"))
      ? nested : "rope_scaling."
    func key(_ name: String) -> Key { Key(folder: place + name) }
    for name in ["rope_scaling", "rope_parameters"] {
      guard let value = metadata.values[prefix + name], value != .other("an object") else {
        continue
      }
      throw refuse("\"\(prefix + name)\" is no object", .invalid)
    }
    // A factor without a type means linear.
    let type =
      try text(has(key("rope_type")) ? key("rope_type") : key("type"))
      ?? (has(key("factor")) ? "linear" : "default")
    let original =
      try integer(
        key("original_max_position_embeddings"), Key(folder: "original_max_position_embeddings"),
        in: 1...1 << 32) ?? contextLength
    func factor() throws(FileError) -> Double {
      guard let factor = try positive(key("factor")) else {
        throw refuse("\"\(place)factor\" is missing", .invalid)
      }
      return factor
    }
    let amplitude = try positive(key("attention_factor"))
    switch type {
    case "default", "none": return .none
    // Changes nothing within the trained length; beyond it, our own positions take over.
    case "dynamic": return .none
    case "linear": return try linear(factor())
    case "llama3":
      return .llama3(
        factor: try factor(), lowFactor: try positive(key("low_freq_factor")) ?? 1,
        highFactor: try positive(key("high_freq_factor")) ?? 4, original: original)
    case "yarn":
      return try checked(
        .init(
          factor: try factor(), original: original, fast: try positive(key("beta_fast")) ?? 32,
          slow: try positive(key("beta_slow")) ?? 1,
          isRounded: try flag(key("truncate"), default: true), amplitude: amplitude))
    case "longrope", "su":
      guard let short = try numbers(key("short_factor"), count: pairs),
        let long = try numbers(key("long_factor"), count: pairs)
      else { throw refuse("\"\(place)short_factor\" or \"long_factor\" is missing", .invalid) }
      return .longRope(
        short: short, long: long,
        amplitude: amplitude ?? Self.longAmplitude(contextLength, original), original: original)
    default:
      throw refuse(
        "\"\(place)rope_type\" is \"\(type)\"; supported are default, linear, dynamic, yarn, llama3 and "
          + "longrope")
    }
  }

  private func linear(_ factor: Double) throws(FileError) -> RotaryScaling {
    guard factor >= 1 else {
      throw refuse("the factor of the rotation's scaling is \(factor), below 1", .invalid)
    }
    return factor == 1 ? .none : .linear(factor: factor)
  }

  private static func longAmplitude(_ length: Int, _ original: Int) -> Double {
    guard length > original, original > 1 else { return 1 }
    return (1 + log(Double(length) / Double(original)) / log(Double(original))).squareRoot()
  }
}

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif
