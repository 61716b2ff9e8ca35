// SPDX-License-Identifier: Apache-2.0

/// How a text is cut into words before byte pairs are merged: by one pattern after the other.
public struct PreTokenizer: Sendable {
  /// A pattern, or code by hand that does the same faster.
  private enum Stage: Sendable {
    /// `llamaPattern`, with so many digits in a word.
    case llama(digits: Int)
    /// `gpt2Pattern`, perhaps with every digit cut out before.
    case gpt2(splitsDigits: Bool)
    case pattern(SplitPattern)
  }

  private let stages: [Stage]

  /// Applies patterns one after the other: each cuts what the ones before have left.
  /// - Throws: `TokenizerError` when a pattern has what is not supported.
  public init(patterns: [String]) throws(TokenizerError) {
    stages = try Self.stages(patterns)
  }

  private static func stages(_ patterns: [String]) throws(TokenizerError) -> [Stage] {
    switch patterns {
    case [gpt2Pattern], [gpt2Pattern.replacing(#"|\s+(?!\S)|\s+"#, with: #"|\s+(?!\S)"#)]:
      return [.gpt2(splitsDigits: false)]
    case [#"\p{N}"#, gpt2Pattern]: return [.gpt2(splitsDigits: true)]
    case [llamaPattern(digits: 3)]: return [.llama(digits: 3)]
    case [llamaPattern(digits: 1)]: return [.llama(digits: 1)]
    default:
      var stages: [Stage] = []
      for pattern in patterns { stages.append(.pattern(try SplitPattern(pattern))) }
      return stages
    }
  }

  /// The rule of that name in GGUF files; nil where it is not known.
  public init?(name: String) throws(TokenizerError) {
    guard let patterns = Self.patterns(name) else { return nil }
    try self.init(patterns: patterns)
  }

  /// The rule of that name by its patterns, without what is done by hand.
  package init(slowly name: String) throws(TokenizerError) {
    var stages: [Stage] = []
    for pattern in Self.patterns(name) ?? [] { stages.append(.pattern(try SplitPattern(pattern))) }
    self.stages = stages
  }

  /// Whether models of this name keep a word whole that is a token itself, whatever the merges say.
  public static func ignoresMerges(name: String) -> Bool {
    switch name {
    case "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
      "tekken":
      true
    default: false
    }
  }

  /// Calls `body` with the byte range of each word, in order.
  package func forEachWord(_ text: [UInt8], _ body: (Range<Int>) -> Void) {
    switch stages.first {
    case .llama(let digits) where stages.count == 1:
      Self.scan(text, LlamaScanner(ScalarReader(text), digits: digits).end, body)
    case .gpt2(let splitsDigits) where stages.count == 1:
      Self.scan(text, GPT2Scanner(ScalarReader(text), splitsDigits: splitsDigits).end, body)
    default:
      let characters = PatternText(text)
      func cut(_ range: Range<Int>, _ stages: ArraySlice<Stage>) {
        guard let stage = stages.first else {
          body(characters.places[range.lowerBound]..<characters.places[range.upperBound])
          return
        }
        guard case .pattern(let pattern) = stage else { return }
        pattern.forEachPart(characters, range) { cut($0, stages.dropFirst()) }
      }
      cut(0..<characters.characters.count, stages[...])
    }
  }

  private static func scan(_ text: [UInt8], _ end: (Int) -> Int, _ body: (Range<Int>) -> Void) {
    var start = 0
    while start < text.count {
      let next = end(start)
      body(start..<next)
      start = next
    }
  }
}

extension PreTokenizer {
  /// Contractions in lower case, letters, digits or punctuation with one space before, white space.
  static let gpt2Pattern =
    #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#

  /// Contractions, letters with one leading character, some digits, punctuation with its line ends, white space.
  static func llamaPattern(digits: Int) -> String {
    let numbers = digits == 1 ? #"\p{N}"# : #"\p{N}{1,3}"#
    return #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"# + numbers
      + #"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  }

  /// The patterns of the names that GGUF files have in `tokenizer.ggml.pre`.
  private static func patterns(_ name: String) -> [String]? {
    switch name {
    case "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
      "dbrx", "smaug-bpe", "chatglm-bpe", "glm4":
      [llamaPattern(digits: 3)]
    case "qwen2", "stablelm2", "deepseek-r1-qwen", "megrez", "hunyuan", "kormo", "solar-open",
      "seed-coder":
      [llamaPattern(digits: 1)]
    case "default": ["[\\p{P}\\$\\+<=>\\^~\\|]+", gpt2Pattern, "\\p{N}+", "[0-9][0-9][0-9]"]
    case "gpt-2", "phi-2", "jina-es", "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de",
      "jina-v2-code", "gigachat", "roberta-bpe", "mpt", "olmo", "jais", "trillion",
      "granite-docling",
      "a.x-4.0", "mellum", "modern-bert", "exaone4":
      [gpt2Pattern]
    case "starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b":
      [#"\p{N}"#, gpt2Pattern]
    case "falcon":
      [
        "[\\p{P}\\$\\+<=>\\^~\\|`]+",
        #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"#,
        "[0-9][0-9][0-9]",
      ]
    case "deepseek-llm":
      [
        "[\\r\\n]",
        "\\s?[\\p{Lu}\\p{Ll}\\p{Lt}]+",
        "\\s?[!-/:-~！-／：-～‘-‟\\u3000-\\u3002]+", "\\s+$", "[一-龥ࠀ-一가-퟿]+", "\\p{N}+",
      ]
    case "deepseek-coder":
      ["[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[一-龥ࠀ-一가-퟿]+", "\\p{N}"]
    case "deepseek-v3", "hunyuan-dense", "joyai-llm":
      [
        #"\p{N}{1,3}"#, "[一-龥぀-ゟ゠-ヿ]+",
        ##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
      ]
    case "poro-chat", "bloom", "gpt3-finnish": [" ?[^(\\s|.,!?…。，、।۔،)]+"]
    case "viking": [" ?[^(\\s|.,!?…。，、।۔،)]+", "\\p{N}"]
    case "tekken":
      [
        #"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
      ]
    case "gpt-4o", "llama4":
      [
        #"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
      ]
    case "kimi-k2":
      [
        #"\p{Han}+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
      ]
    case "bailingmoe", "bailingmoe2", "llada-moe":
      [
        #"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"#
      ]
    default: nil
    }
  }
}
