// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import Foundation
internal import HiPAttention
internal import HiPCompute
internal import HiPModels
internal import HiPTokenization

/// Owns a model's weights and all sequences, and computes on a thread of its own: a step blocks,
/// and would starve other tasks on the shared pool.
actor Engine {
  /// A sequence that the engine keeps.
  struct SequenceID: Hashable, Sendable {
    fileprivate let number: Int
  }

  private struct Sequence {
    let cache: SequenceCache
    let attention: LayerAttention
  }

  private let executor = EngineExecutor()
  private let model: DecoderModel
  private var pools: [KVLayout: CachePool] = [:]
  private var sequences: [SequenceID: Sequence] = [:]
  private var lastNumber = 0

  nonisolated var unownedExecutor: UnownedSerialExecutor {
    unsafe executor.asUnownedSerialExecutor()
  }

  init(model: sending DecoderModel) { self.model = model }

  /// An empty sequence.
  func open(_ attention: LayerAttention, layout: KVLayout) -> SequenceID {
    let pool = pools[layout] ?? CachePool(backend: model.backend, layout: layout)
    pools[layout] = pool
    return add(Sequence(cache: SequenceCache(pool: pool), attention: attention))
  }

  /// A sequence that begins as another one is now.
  func fork(_ id: SequenceID) -> SequenceID {
    guard let sequence = sequences[id] else { preconditionFailure("the sequence was closed") }
    return add(Sequence(cache: sequence.cache.fork(), attention: sequence.attention))
  }

  private func add(_ sequence: Sequence) -> SequenceID {
    lastNumber += 1
    let id = SequenceID(number: lastNumber)
    sequences[id] = sequence
    return id
  }

  /// Forgets a sequence.
  func close(_ id: SequenceID) { sequences[id] = nil }

  /// Forgets a sequence's tokens from `length` on.
  func truncate(_ id: SequenceID, to length: Int) { sequences[id]?.cache.truncate(to: length) }

  /// Reads `tokens` into a sequence; the logits asked for, `[rows, vocabulary]`.
  func step(
    _ id: SequenceID, _ tokens: [TokenID], logits: DecoderModel.LogitsRequest,
    observe: (@Sendable (LayerObservation) -> Void)? = nil
  ) throws -> [Float] {
    guard let sequence = sequences[id] else { preconditionFailure("the sequence was closed") }
    return try model.read(
      tokens, cache: sequence.cache, attention: sequence.attention, logits: logits,
      observe: observe)
  }

  /// Reads the end of a prompt into a sequence; the logits of its last token.
  func ask(_ id: SequenceID, _ tokens: [TokenID]) throws -> [Float] {
    guard let sequence = sequences[id] else { preconditionFailure("the sequence was closed") }
    return try model.ask(tokens, cache: sequence.cache, attention: sequence.attention)
  }

  /// Stores a token of an answer; the logits behind it.
  func write(_ id: SequenceID, _ token: TokenID) throws -> [Float] {
    guard let sequence = sequences[id] else { preconditionFailure("the sequence was closed") }
    return try model.write(token, cache: sequence.cache, attention: sequence.attention)
  }

  /// Reads `tokens` and returns the negative log-likelihood of each of `targets`, in nats.
  func negativeLogLikelihoods(
    _ id: SequenceID, _ tokens: [TokenID], targets: [TokenID]
  ) throws -> [Double] {
    let logits = try step(id, tokens, logits: .all)
    let width = model.architecture.vocabularySize
    return targets.enumerated().map { row, target in
      Self.negativeLogLikelihood(logits[row * width..<(row + 1) * width], of: target)
    }
  }
}

/// A serial queue as an actor's executor.
private final class EngineExecutor: SerialExecutor {
  private let queue = DispatchQueue(label: "infinitehip.engine")

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    queue.async { unsafe job.runSynchronously(on: self.asUnownedSerialExecutor()) }
  }
}

extension Engine {
  private static func negativeLogLikelihood(
    _ logits: ArraySlice<Float>, of target: TokenID
  ) -> Double {
    var maximum = -Float.infinity
    for value in logits { maximum = max(maximum, value) }
    var sum = 0.0
    for value in logits { sum += Double(exp(value - maximum)) }
    return log(sum) + Double(maximum - logits[logits.startIndex + Int(target)])
  }
}
