// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
internal import HiPCompute
internal import HiPTensors

/// What a step is asked for of its logits: enqueued with the step, read when the device is done.
final class StepSamples {
  private let memory: DeviceMemory
  private let kernels: ModelKernels
  private let staging: PinnedStaging
  private var waiting: [Item] = []

  /// A request, and where the device puts what it needs.
  private struct Item {
    let request: SampleCall.Request
    let columns: Int
    let summaries: PinnedBuffer.Part
    /// The rows themselves, where they are wanted or chosen from on the host.
    let rows: PinnedBuffer.Part?
  }

  init(_ memory: DeviceMemory, _ kernels: ModelKernels) {
    self.memory = memory
    self.kernels = kernels
    staging = PinnedStaging(memory)
  }

  func add(_ call: SampleCall, on stream: CUDAStream) throws(ComputeError) {
    try kernels.cap(call.logits, scale: call.scale, softCap: call.softCap, on: stream)
    for item in call.items {
      let logits = call.logits.rows(item.rows)
      var targets: CUDABuffer?
      if case .negativeLogLikelihoods(let tokens) = item.request {
        precondition(tokens.count == item.rows.count)
        let buffer = try memory.allocate(byteCount: 4 * tokens.count)
        try stream.uploadElements(tokens, to: buffer)
        targets = buffer
      }
      let byteCount = item.rows.count * MemoryLayout<ihp_logit_summary>.stride
      let summaries = try memory.allocate(byteCount: byteCount)
      try kernels.summarize(logits, targets: targets, into: summaries, on: stream)
      let part = try staging.take(byteCount)
      try stream.copy(summaries.all, to: part)
      var rows: PinnedBuffer.Part?
      if item.request.needsRows {
        let part = try staging.take(logits.rows * logits.rowByteCount)
        try stream.copy(logits.part, to: part)
        rows = part
      }
      waiting.append(
        Item(request: item.request, columns: logits.columns, summaries: part, rows: rows))
    }
  }

  /// Forgets what was asked for.
  func clear() {
    waiting = []
    staging.reset()
  }

  /// What everything came to, once the device is done; then it is forgotten.
  func results() -> [SampleResult] {
    defer { clear() }
    return waiting.map(result)
  }

  private func result(_ item: Item) -> SampleResult {
    let summaries = unsafe item.summaries.elements(as: ihp_logit_summary.self)
    if case .logits = item.request, let rows = item.rows {
      return .logits(unsafe Array(rows.elements(as: Float.self)))
    }
    guard unsafe summaries.allSatisfy({ $0.best >= 0 }) else { return .notFinite }
    switch item.request {
    case .logits: return .notFinite
    case .negativeLogLikelihoods:
      return .negativeLogLikelihoods(unsafe summaries.map { $0.log_sum - Double($0.target) })
    case .candidates(let request):
      var found: [Candidates] = []
      for index in summaries.indices {
        let summary = unsafe summaries[index]
        guard let rows = item.rows else {
          found.append(
            Candidates(
              ids: [summary.best], logits: [summary.greatest], logSumExp: summary.log_sum))
          continue
        }
        let all = unsafe rows.elements(as: Float.self)
        let row = unsafe UnsafeMutableBufferPointer(
          rebasing: all[index * item.columns..<(index + 1) * item.columns])
        guard let candidates = unsafe candidates(row, summary, request) else { return .notFinite }
        found.append(candidates)
      }
      return .candidates(found)
    }
  }

  /// Candidates of a row in the host's memory; nil where a logit is not finite any more.
  @unsafe private func candidates(
    _ row: UnsafeMutableBufferPointer<Float>, _ summary: ihp_logit_summary,
    _ request: CandidateRequest
  ) -> Candidates? {
    guard request.adjusts else {
      return unsafe request.choose(
        from: UnsafeBufferPointer(row), greatest: summary.greatest, logSumExp: summary.log_sum)
    }
    unsafe request.adjust(row)
    let greatest = unsafe row.max() ?? 0
    let sum = unsafe row.reduce(0.0) { $0 + exp(Double($1) - Double(greatest)) }
    guard greatest.isFinite, sum.isFinite else { return nil }
    return unsafe request.choose(
      from: UnsafeBufferPointer(row), greatest: greatest,
      logSumExp: Double(greatest) + log(sum))
  }
}

extension SampleCall.Request {
  /// Whether more is wanted than what the device makes of a row.
  fileprivate var needsRows: Bool {
    switch self {
    case .logits: true
    case .negativeLogLikelihoods: false
    case .candidates(let request): request.adjusts || request.count != 1
    }
  }
}

extension PinnedBuffer.Part {
  /// Its bytes as numbers.
  @unsafe fileprivate func elements<Element: BitwiseCopyable>(
    as type: Element.Type
  ) -> UnsafeMutableBufferPointer<Element> {
    let bytes = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[range])
    return unsafe bytes.bindMemory(to: type)
  }
}

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif
