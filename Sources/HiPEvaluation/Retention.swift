// SPDX-License-Identifier: Apache-2.0

/// What a run for a retention curve asks: the score of retrieval tasks at multiples of the trained length over the
/// score of dense attention within it.
public struct RetentionPlan: Sendable {
  /// The tasks whose mean is taken.
  public static let tasks: [RulerTask] = [
    .niahSingle1, .niahSingle2, .niahMultikey1, .variableTracking,
  ]
  /// Below this score with dense attention within the trained length a task is beyond the model, and left out.
  public static let ability = 0.5

  /// Multiples of the trained length, from small to large.
  public let factors: [Int]
  /// Questions of each task within the trained length, with dense attention.
  public let baselineSamples: Int
  /// Questions of each task by factor.
  public let samples: [Int]
  /// From this factor on `niah_single_1` and `vt` share texts, where both are asked.
  public let sharedFrom: Int

  /// Stores the parts.
  /// - Parameter samples: nil: 24 up to 4 times the trained length, 16 beyond.
  public init(
    factors: [Int], baselineSamples: Int = 24, samples: Int? = nil, sharedFrom: Int = 16
  ) {
    self.factors = factors.sorted()
    self.baselineSamples = baselineSamples
    self.samples = self.factors.map { samples ?? ($0 <= 4 ? 24 : 16) }
    self.sharedFrom = sharedFrom
  }

  /// A task, and how many questions of it are asked.
  public struct Item: Sendable {
    /// The task.
    public let task: EvaluationTask
    /// Questions of it.
    public let samples: Int
  }

  /// What is asked at a factor, of the tasks that the model can do.
  public func items(at factor: Int, of tasks: [RulerTask]) -> [Item] {
    let count = factors.firstIndex(of: factor).map { samples[$0] } ?? baselineSamples
    let together = SharedNoise.tasks
    guard factor >= sharedFrom, together.allSatisfy(tasks.contains) else {
      return tasks.map { Item(task: .ruler($0), samples: count) }
    }
    return [Item(task: .sharedNoise, samples: count * together.count)]
      + tasks.filter { !together.contains($0) }.map { Item(task: .ruler($0), samples: count) }
  }
}

/// What a policy keeps at a multiple of the trained length of what dense attention scores within it.
public struct Retention: Sendable, Encodable {
  /// The policy.
  public let policy: String
  /// The multiple, and the tokens.
  public let factor, length: Int
  /// Scores by task.
  public let tasks: [TaskScore]
  /// Mean of the tasks' scores.
  public let score: Double
  /// The score over that of dense attention within the trained length.
  public let retention: Double
  /// Ends of the 95 % Wilson interval of the score with as many questions, over the dense score.
  public let low, high: Double
  /// Questions in all.
  public let samples: Int

  /// The score of one task.
  public struct TaskScore: Sendable, Encodable {
    /// The task.
    public let task: String
    /// Mean score, from 0 to 1.
    public let score: Double
    /// Of how many questions.
    public let samples: Int

    /// The means of answers by the task that they are counted with, in the order of the plan.
    public static func all(_ answers: [AnswerRecord]) -> [TaskScore] {
      RetentionPlan.tasks.compactMap { task in
        let ours = answers.filter { ($0.kind ?? $0.task) == task.rawValue }
        guard !ours.isEmpty else { return nil }
        return TaskScore(
          task: task.rawValue, score: ours.reduce(0) { $0 + $1.score } / Double(ours.count),
          samples: ours.count)
      }
    }

    /// Whether a model can do the task whose dense score this is.
    public var isWithinAbility: Bool { score >= RetentionPlan.ability }
  }

  /// The retention of answers of one policy at one length; nil without tasks that the baseline can do.
  /// - Parameter baseline: dense scores within the trained length.
  public init?(_ answers: [AnswerRecord], factor: Int, baseline: [TaskScore]) {
    let able = baseline.filter(\.isWithinAbility)
    let scores = TaskScore.all(answers).filter { score in
      able.contains { $0.task == score.task }
    }
    guard let first = answers.first, !scores.isEmpty, scores.count == able.count else {
      return nil
    }
    func mean(_ scores: [TaskScore]) -> Double {
      scores.reduce(0) { $0 + $1.score } / Double(scores.count)
    }
    policy = first.policy
    length = first.length
    self.factor = factor
    tasks = scores
    score = mean(scores)
    samples = scores.reduce(0) { $0 + $1.samples }
    let dense = mean(able)
    retention = score / dense
    // Tasks count equally, whatever their questions: as many questions say as much as this many of one task.
    let share = scores.reduce(0) { $0 + 1 / Double(max(1, $1.samples)) }
    let effective = Int((Double(scores.count * scores.count) / share).rounded(.down))
    let interval = WilsonInterval(successes: score * Double(effective), count: effective)
    low = interval.low / dense
    high = interval.high / dense
  }
}
