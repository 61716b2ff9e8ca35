// SPDX-License-Identifier: Apache-2.0

internal import Foundation
public import HiPAttention
internal import HiPTokenization
public import InfiniteHiP

/// The score of one task under one policy at one length.
public struct TaskResult: Sendable, Codable {
  /// Name of the task.
  public let task: String
  /// Name of the policy.
  public let policy: String
  /// Tokens of prompt and answer together.
  public let length: Int
  /// Number of questions.
  public let samples: Int
  /// Mean score, from 0 to 1.
  public let score: Double
  /// Ends of the 95 % Wilson interval.
  public let low, high: Double
  /// Time to read the contexts, in all.
  public let prefillSeconds: Double
  /// Tokens written per second, over all answers.
  public let decodeTokensPerSecond: Double
  /// The most memory that the process held.
  public let peakBytes: Int
}

/// What one question came to; a line of the record file.
public struct AnswerRecord: Sendable, Codable {
  /// Name of the task.
  public let task: String
  /// Name of the policy.
  public let policy: String
  /// Tokens of prompt and answer together.
  public let length: Int
  /// Seed of everything random.
  public let seed: UInt64
  /// What else the answer depends on: the model, the policy's parts, the prose.
  public let conditions: String
  /// The context's number.
  public let context: Int
  /// Hash of its text.
  public let text: String
  /// The question's number in the context.
  public let question: Int
  /// What was asked, behind the context.
  public let prompt: String
  /// What the answer is judged by.
  public let references: [String]
  /// What the model wrote.
  public let output: String
  /// From 0 to 1.
  public let score: Double
  /// Where in the text the answer stands, from 0 to 1.
  public let depth: Double?
  /// Tokens of the context and the question.
  public let promptTokens: Int
  /// Time to read the context; the same in all its questions.
  public let contextSeconds: Double
  /// Time to read the question.
  public let questionSeconds: Double
  /// Tokens written.
  public let outputTokens: Int
  /// Time to write them.
  public let decodeSeconds: Double
  /// The most memory that the process held.
  public let peakBytes: Int
}

/// Puts tasks to a model: every context is read once per policy, and its questions are asked in forks.
public struct TaskRunner: Sendable {
  private let model: LanguageModel
  private let frame: PromptFrame
  private let prose: Prose
  private let seed: UInt64

  /// Runs tasks on a model, with prose to hide things in.
  public init(_ model: LanguageModel, prose: Prose, seed: UInt64) {
    self.model = model
    self.prose = prose
    self.seed = seed
    frame = PromptFrame(model.chatTemplate, tokenizer: model.tokenizer)
  }

  /// Asks `samples` questions, and takes from `records` what has been answered before.
  /// - Parameters:
  ///   - progress: told how far a context has been read, and how many questions are done.
  public func run(
    _ task: EvaluationTask, _ choice: AttentionChoice, length: Int, samples: Int,
    records: RecordFile, progress: @Sendable (Progress) -> Void = { _ in }
  ) async throws -> [AnswerRecord] {
    let request = ContextRequest(
      length: length, samples: samples, seed: seed, prose: prose, frame: frame)
    let conditions = try conditions(choice)
    var answers: [AnswerRecord] = []
    var index = 0
    while answers.count < samples {
      let context = try task.context(index, request)
      let hash = contentHash(context.text)
      // One answer per question, the first.
      let known = Dictionary(
        records.answers.filter { record in
          record.task == task.name && record.policy == choice.name && record.length == length
            && record.seed == seed && record.context == index && record.conditions == conditions
            && record.text == hash
        }.map { ($0.prompt, $0) }
      ) { first, _ in first }
      let wanted = context.questions.prefix(samples - answers.count)
      let missing = wanted.indices.filter { known[wanted[$0].text] == nil }
      var new: [AnswerRecord] = []
      if !missing.isEmpty {
        new = try await serve(missing, context, hash, index, task, choice, length, conditions) {
          progress(Progress(done: answers.count, of: samples, prefilled: $0, tokens: $1))
        }
        try records.append(new)
      }
      for question in wanted {
        if let answer = known[question.text] ?? new.first(where: { $0.prompt == question.text }) {
          answers.append(answer)
        }
      }
      index += 1
    }
    return answers
  }

  /// How far a run is.
  public struct Progress: Sendable {
    /// Questions answered, and in all.
    public let done, of: Int
    /// Tokens of the present context, prefilled and in all.
    public let prefilled, tokens: Int
  }

  private func conditions(_ choice: AttentionChoice) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    let policy = try encoder.encode(AttentionChoice.Document(choice))
    let name = model.path.split(separator: "/").last.map(String.init) ?? ""
    return "\(name) \(model.weightByteCount) \(String(decoding: policy, as: UTF8.self))"
  }

  private func serve(
    _ questions: [Int], _ context: EvaluationContext, _ hash: String, _ index: Int,
    _ task: EvaluationTask, _ choice: AttentionChoice,
    _ length: Int, _ conditions: String, progress: (Int, Int) -> Void
  ) async throws -> [AnswerRecord] {
    MachineMemory.resetPeak()
    let session = try await model.makeSession(attention: choice, contextLimit: length + 4096)
    let (_, prefill) = try await answer(
      session, GenerationRequest(.pieces(frame.opening + [.text(context.text)]), maximumTokens: 0),
      progress: progress)
    var records: [AnswerRecord] = []
    for number in questions {
      let question = context.questions[number]
      let fork = try await session.fork()
      let pieces =
        [ChatTemplate.Piece.text(question.text)] + frame.closing + [.text(question.answerPrefix)]
      let (text, end) = try await answer(
        fork, GenerationRequest(.pieces(pieces), maximumTokens: question.maximumTokens))
      // Control characters count as line ends.
      let output = String(
        String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 32 ? "\n" : $0 })
      )
      .trimmingCharacters(in: .whitespacesAndNewlines)
      records.append(
        AnswerRecord(
          task: task.name, policy: choice.name, length: length, seed: seed, conditions: conditions,
          context: index, text: hash, question: number, prompt: question.text,
          references: question.references,
          output: output, score: question.scoring.score(output, question.references),
          depth: question.depth, promptTokens: end.promptTokens,
          contextSeconds: prefill.prefillSeconds, questionSeconds: end.prefillSeconds,
          outputTokens: end.completionTokens, decodeSeconds: end.decodeSeconds,
          peakBytes: MachineMemory.peakByteCount))
    }
    return records
  }

  private func answer(
    _ session: Session, _ request: GenerationRequest, progress: (Int, Int) -> Void = { _, _ in }
  ) async throws -> (String, Completion) {
    var text = ""
    for try await event in session.respond(to: request) {
      switch event {
      case .progress(let prefilled, let total): progress(prefilled, total)
      case .token: break
      case .text(let more): text += more
      case .finished(let completion): return (text, completion)
      }
    }
    throw CancellationError()
  }
}

extension TaskResult {
  /// The mean of answers to one task under one policy at one length; nil without answers.
  public init?(_ answers: [AnswerRecord]) {
    guard let first = answers.first else { return nil }
    let sum = answers.reduce(0) { $0 + $1.score }
    let interval = WilsonInterval(successes: sum, count: answers.count)
    // Every context is read once for all its questions.
    let reading = Dictionary(answers.map { ($0.context, $0.contextSeconds) }) { first, _ in first }
    let seconds = answers.reduce(0) { $0 + $1.decodeSeconds }
    // The first token of an answer falls out of the prefill.
    let written = answers.reduce(0) { $0 + max(0, $1.outputTokens - 1) }
    self.init(
      task: first.task, policy: first.policy, length: first.length, samples: answers.count,
      score: sum / Double(answers.count), low: interval.low, high: interval.high,
      prefillSeconds: reading.values.reduce(0, +),
      decodeTokensPerSecond: seconds > 0 ? Double(written) / seconds : 0,
      peakBytes: answers.map(\.peakBytes).max() ?? 0)
  }
}

/// FNV-1a of a text, to tell texts apart.
private func contentHash(_ text: String) -> String {
  var hash: UInt64 = 0xcbf2_9ce4_8422_2325
  for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
  return String(hash, radix: 16)
}
