// SPDX-License-Identifier: Apache-2.0

internal import HiPJSON
internal import InfiniteHiP
internal import Metrics
internal import Synchronization

/// What a server counts.
final class ServerMetrics: Sendable {
  let registry = PrometheusRegistry()
  private let prompt, generated, cached: Counter
  private let firstToken: Recorder
  private let prefillSeconds, decodeSeconds: FloatingPointCounter
  private let speeds = Mutex<(prefill: Double?, decode: Double?)>((nil, nil))
  private let tokens = Mutex<(prompt: Int, cached: Int)>((0, 0))

  init() {
    prompt = Counter(label: "infinitehip_prompt_tokens_total", factory: registry)
    generated = Counter(label: "infinitehip_generated_tokens_total", factory: registry)
    cached = Counter(label: "infinitehip_cached_tokens_total", factory: registry)
    firstToken = Recorder(
      label: "infinitehip_time_to_first_token_seconds", dimensions: [], aggregate: true,
      factory: registry)
    prefillSeconds = FloatingPointCounter(
      label: "infinitehip_prefill_seconds_total", factory: registry)
    decodeSeconds = FloatingPointCounter(
      label: "infinitehip_decode_seconds_total", factory: registry)
    noteRequest("/", status: 200, count: 0)
  }

  /// Counts a request of a route.
  func noteRequest(_ route: String, status: Int, count: Int64 = 1) {
    Counter(
      label: "infinitehip_requests_total",
      dimensions: [("route", route), ("status", "\(status)")], factory: registry
    ).increment(by: count)
  }

  func noteFirstToken(_ time: Duration) { firstToken.record(time / .seconds(1)) }

  func notePrefill(_ speed: Double) { speeds.withLock { $0.prefill = speed } }

  func note(_ completion: Completion) {
    tokens.withLock {
      $0.prompt += completion.promptTokens
      $0.cached += completion.cachedTokens
    }
    prompt.increment(by: completion.promptTokens)
    cached.increment(by: completion.cachedTokens)
    generated.increment(by: completion.completionTokens)
    prefillSeconds.increment(by: completion.prefillSeconds)
    decodeSeconds.increment(by: completion.decodeSeconds)
    if completion.completionTokens > 1, completion.decodeSeconds > 0 {
      let speed = Double(completion.completionTokens) / completion.decodeSeconds
      speeds.withLock { $0.decode = speed }
    }
  }

  /// Sets a gauge.
  func set(_ label: String, _ value: Double, _ dimensions: [(String, String)] = []) {
    Gauge(label: "infinitehip_" + label, dimensions: dimensions, factory: registry).record(value)
  }

  /// The share of prompts' tokens that were there already.
  var hitRatio: Double {
    tokens.withLock { $0.prompt > 0 ? Double($0.cached) / Double($0.prompt) : 0 }
  }

  /// Tokens per second, of late.
  var speed: (prefill: Double?, decode: Double?) { speeds.withLock { $0 } }
}
