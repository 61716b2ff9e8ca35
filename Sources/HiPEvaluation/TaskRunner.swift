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
  /// Name of the task that it is counted with, where the text serves several.
  public var kind: String?
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
    records: RecordFile<AnswerRecord>, progress: @Sendable (Progress) -> Void = { _ in }
  ) async throws -> [AnswerRecord] {
    let request = ContextRequest(
      length: length, samples: samples, seed: seed, prose: prose, frame: frame)
    let conditions = try runConditions(model, choice)
    var answers: [AnswerRecord] = []
    var index = 0
    while answers.count < samples {
      let context = try task.context(index, request)
      let hash = contentHash(context.text)
      let known = records.records.filter { record in
        record.task == task.name && record.policy == choice.name && record.length == length
          && record.seed == seed && record.context == index && record.conditions == conditions
          && record.text == hash
      }
      // One answer per question, the first.
      func answered(_ number: Int, _ records: [AnswerRecord]) -> AnswerRecord? {
        records.first {
          $0.question == number && context.questions[number].isAsked(in: $0.prompt)
        }
      }
      let wanted = context.questions.prefix(samples - answers.count)
      let missing = wanted.indices.filter { answered($0, known) == nil }
      var new: [AnswerRecord] = []
      if !missing.isEmpty {
        new = try await serve(missing, context, hash, index, task, choice, length, conditions) {
          progress(Progress(done: answers.count, of: samples, prefilled: $0, tokens: $1))
        }
        try records.append(new)
      }
      answers += wanted.indices.compactMap { answered($0, known) ?? answered($0, new) }
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
    for conversation in context.conversations where conversation.contains(where: questions.contains)
    {
      let fork = try await session.fork()
      var before = ""
      for number in conversation where number <= questions.last ?? 0 {
        let question = context.questions[number]
        let opening = number == conversation.lowerBound ? [] : try reopening()
        let (asked, prefix) = (
          EvaluationContext.Question.quoting(before, in: question.text),
          EvaluationContext.Question.quoting(before, in: question.answerPrefix)
        )
        let pieces = opening + [.text(asked)] + frame.closing + [.text(prefix)]
        let (text, end) = try await answer(
          fork, GenerationRequest(.pieces(pieces), maximumTokens: question.maximumTokens))
        // Control characters count as line ends.
        let output = String(
          String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 32 ? "\n" : $0 })
        )
        .trimmingCharacters(in: .whitespacesAndNewlines)
        before = output
        guard questions.contains(number) else { continue }
        records.append(
          AnswerRecord(
            task: task.name, kind: question.kind?.name, policy: choice.name, length: length,
            seed: seed, conditions: conditions,
            context: index, text: hash, question: number, prompt: asked,
            references: question.references,
            output: output, score: question.scoring.score(output, question.references),
            depth: question.depth, promptTokens: end.promptTokens,
            contextSeconds: prefill.prefillSeconds, questionSeconds: end.prefillSeconds,
            outputTokens: end.completionTokens, decodeSeconds: end.decodeSeconds,
            peakBytes: MachineMemory.peakByteCount))
      }
    }
    return records
  }

  /// What stands between an answer and the next question.
  private func reopening() throws -> [ChatTemplate.Piece] {
    guard let pieces = frame.reopening else {
      throw InfiniteHiPError(
        .model,
        "the chat template of \(model.path) has no second turn; conversations (hops, turns) cannot be measured"
      )
    }
    return pieces
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
