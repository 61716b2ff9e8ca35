// SPDX-License-Identifier: Apache-2.0

/// The `tokenizer.model` of a folder: SentencePiece's description of itself, a protocol buffer.
public struct SentencePieceModel: Sendable {
  private var pieces: [String] = []
  private var scores: [Double] = []
  private var kinds: [TokenKind] = []
  private var algorithm = SentencePieceTokenizer.Algorithm.unigram
  private var addsPrefix = true

  /// Reads a file's bytes.
  /// - Throws: `TokenizerError` when they are no such description.
  public init(_ bytes: [UInt8]) throws(TokenizerError) {
    var reader = WireReader(bytes[...])
    while let field = try reader.next() {
      switch (field.number, field.value) {
      case (1, .bytes(let piece)): try add(piece)
      case (2, .bytes(let trainer)):
        var reader = WireReader(trainer)
        // The kind of model: 1 unigram, 2 byte pairs.
        while let field = try reader.next() {
          guard case (3, .integer(let kind)) = (field.number, field.value) else { continue }
          guard kind == 1 || kind == 2 else {
            throw TokenizerError(.unusable, "models of words or characters are not supported")
          }
          algorithm = kind == 2 ? .bytePairs : .unigram
        }
      case (3, .bytes(let normalizer)):
        var reader = WireReader(normalizer)
        while let field = try reader.next() {
          if case (3, .integer(let flag)) = (field.number, field.value) { addsPrefix = flag != 0 }
        }
      default: break
      }
    }
    guard !pieces.isEmpty else {
      throw TokenizerError(.invalid, "this is no description of a SentencePiece tokenizer")
    }
  }

  private mutating func add(_ bytes: ArraySlice<UInt8>) throws(TokenizerError) {
    var reader = WireReader(bytes)
    var piece = ""
    var score = 0.0
    var kind = TokenKind.normal
    while let field = try reader.next() {
      switch (field.number, field.value) {
      case (1, .bytes(let text)): piece = String(decoding: text, as: UTF8.self)
      case (2, .fixed32(let bits)): score = Double(Float(bitPattern: bits))
      case (3, .integer(let number)):
        guard let known = TokenKind(number: Int(truncatingIfNeeded: number)) else {
          throw TokenizerError(.invalid, "piece \(pieces.count) is of the unknown type \(number)")
        }
        kind = known
      default: break
      }
    }
    pieces.append(piece)
    scores.append(score)
    kinds.append(kind)
  }

  /// Builds the tokenizer.
  public func tokenizer() throws(TokenizerError) -> any Tokenizer {
    try SentencePieceTokenizer(
      pieces: pieces, kinds: kinds, scores: scores, algorithm: algorithm, prefixesSpace: addsPrefix)
  }
}

/// The fields of a protocol buffer's message.
private struct WireReader {
  enum Value {
    case integer(UInt64)
    case fixed32(UInt32)
    case bytes(ArraySlice<UInt8>)
    case other
  }

  private var rest: ArraySlice<UInt8>

  init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

  private var damaged: TokenizerError {
    TokenizerError(.invalid, "the description of the SentencePiece tokenizer is damaged")
  }

  mutating func next() throws(TokenizerError) -> (number: UInt64, value: Value)? {
    guard !rest.isEmpty else { return nil }
    let tag = try integer()
    switch tag & 7 {
    case 0: return (tag >> 3, .integer(try integer()))
    case 1:
      _ = try take(8)
      return (tag >> 3, .other)
    case 2:
      guard let count = Int(exactly: try integer()) else { throw damaged }
      return (tag >> 3, .bytes(try take(count)))
    case 5:
      let bits = try take(4).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
      return (tag >> 3, .fixed32(bits))
    default: throw damaged
    }
  }

  private mutating func integer() throws(TokenizerError) -> UInt64 {
    var value: UInt64 = 0
    for shift in stride(from: UInt64(0), to: 64, by: 7) {
      guard let byte = rest.popFirst() else { throw damaged }
      value |= UInt64(byte & 0x7f) << shift
      if byte < 0x80 { return value }
    }
    throw damaged
  }

  private mutating func take(_ count: Int) throws(TokenizerError) -> ArraySlice<UInt8> {
    guard count >= 0, count <= rest.count else { throw damaged }
    defer { rest = rest.dropFirst(count) }
    return rest.prefix(count)
  }
}
