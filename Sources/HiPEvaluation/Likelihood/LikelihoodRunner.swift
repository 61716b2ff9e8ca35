// SPDX-License-Identifier: Apache-2.0

internal import Foundation
public import HiPAttention
internal import HiPTokenization
public import InfiniteHiP

/// Lets a model write what was really written, one token at a time, as an answer is written: at first
/// with the passages that the last tokens before it drew on, then by stages that are due, not with what reading it would select.
public struct LikelihoodRunner: Sendable {
  private let model: LanguageModel
  private let text: String
  private let tokens: [TokenID]

  /// Measures on a model with a text.
  public init(_ model: LanguageModel, text: String) throws {
    self.model = model
    self.text = text
    tokens = try model.tokens(of: .text(text), atBeginning: true)
  }

  /// Tokens that are read with what is written, as a question is with its answer.
  private static let question = 63

  /// Writes at `samples` places, where the task does not say how many, and takes from `records` what has been measured
  /// before.
  /// - Parameter length: tokens of the text with what is written.
  public func run(
    _ task: LikelihoodTask, _ choice: AttentionChoice, length: Int, samples: Int,
    records: RecordFile<LikelihoodRecord>, progress: @escaping @Sendable (Int, Int) -> Void
  ) async throws -> [LikelihoodRecord] {
    let conditions = try runConditions(model, choice)
    var results: [LikelihoodRecord] = []
    for text in try texts(task, length: length, samples: samples) {
      let hash = contentHash(text.tokens.map(String.init).joined(separator: " "))
      let measured = records.records.filter { record in
        record.task == task.name && record.policy == choice.name && record.length == length
          && record.conditions == conditions && record.text == hash
      }
      func known(_ place: WrittenPlaces.Place) -> LikelihoodRecord? {
        measured.first { $0.place == place.number && $0.position == place.written.lowerBound }
      }
      results += text.places.compactMap(known)
      let missing = text.places.filter { known($0) == nil }
      guard !missing.isEmpty else { continue }
      let session = try await model.makeSession(attention: choice, contextLimit: length + 4096)
      var position = 0
      for place in missing {
        let start = ContinuousClock.now
        let border = max(position, place.written.lowerBound - 1 - Self.question)
        // What is written comes with a question before it, which is read with it.
        if border > position {
          let reading = GenerationRequest(
            .tokens(Array(text.tokens[position..<border])), maximumTokens: 0)
          for try await event in session.respond(to: reading) {
            if case .progress(let read, _) = event { progress(position + read, length) }
          }
          try Task.checkCancellation()
          position = border
        }
        let read = ContinuousClock.now
        let nll = try await session.fork().negativeLogLikelihoods(
          ofWriting: Array(text.tokens[place.written.lowerBound - 1..<place.written.upperBound]),
          behind: Array(text.tokens[border..<place.written.lowerBound - 1]))
        let written = text.tokens[place.written].prefix(64)
        let record = LikelihoodRecord(
          task: task.name, policy: choice.name, length: length, conditions: conditions,
          text: hash, place: place.number, position: place.written.lowerBound,
          written: model.tokenizer.decode(Array(written)), nll: nll,
          readSeconds: (read - start) / .seconds(1),
          writeSeconds: (ContinuousClock.now - read) / .seconds(1))
        try records.append([record])
        results.append(record)
      }
    }
    return results.sorted { ($0.place, $0.position) < ($1.place, $1.position) }
  }

  /// The texts that are read, with the places where something is written.
  private func texts(
    _ task: LikelihoodTask, length: Int, samples: Int
  ) throws -> [WrittenPlaces] {
    guard length <= tokens.count else {
      throw InfiniteHiPError(
        .request,
        "\(length) tokens are asked for, but the text has \(tokens.count); give a longer one with --file"
      )
    }
    switch task {
    case .continuation(let count):
      guard count + Self.question < length else {
        throw InfiniteHiPError(
          .request, "\(count) written tokens leave nothing to read of \(length); raise --lengths")
      }
      return (0..<samples).map { number in
        let start = (tokens.count - length) / samples * number
        // A text begins with what every text begins with.
        let begin = model.beginToken.map { [$0] } ?? []
        let part =
          number == 0 ? tokens[..<length] : begin + tokens[start..<start + length - begin.count]
        return WrittenPlaces(
          tokens: Array(part), places: [.init(number: number, written: length - count..<length)])
      }
    case .chapters(let count): return [try chapters(count, length: length)]
    }
  }

  /// The book up to `length` tokens, with the first sentences of `count` chapters at even distances.
  private func chapters(_ count: Int, length: Int) throws -> WrittenPlaces {
    var sentences: [Range<Int>] = []
    // Bytes of the text before each token; the space that a tokenizer puts before a text is none of it.
    let begin = model.beginToken == nil ? 0 : 1
    var position = begin
    var byte = model.tokenizer.prefixesSpace ? -1 : 0
    /// The first token that begins at an offset or behind it.
    func token(at offset: Int) -> Int {
      while position < length, byte < offset {
        byte += model.tokenizer.bytes(of: tokens[position]).count
        position += 1
      }
      return position
    }
    for sentence in ChapterText(text).openings {
      // A space before a word is part of its token.
      let start = token(at: text.utf8.distance(from: text.startIndex, to: sentence.startIndex))
      let end = token(at: text.utf8.distance(from: text.startIndex, to: sentence.endIndex))
      guard end < length else { break }
      if start > Self.question, end > start { sentences.append(start..<end) }
    }
    guard sentences.count >= count else {
      throw InfiniteHiPError(
        .request,
        "\(length) tokens of the text hold the beginnings of \(sentences.count) chapters, not \(count); "
          + "raise --lengths, or give a text with lines such as \"CHAPTER IV\" (--file)")
    }
    let chosen = (0..<count).map { sentences[(2 * $0 + 1) * sentences.count / (2 * count)] }
    return WrittenPlaces(
      tokens: Array(tokens.prefix(chosen[count - 1].upperBound)),
      places: chosen.enumerated().map { .init(number: $0, written: $1) })
  }
}
