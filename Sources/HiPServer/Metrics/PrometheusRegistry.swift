// SPDX-License-Identifier: Apache-2.0

package import CoreMetrics
internal import Synchronization

/// Keeps metrics, and writes them as Prometheus reads them.
package final class PrometheusRegistry: MetricsFactory {
  /// What a metric is, and its values by their labels.
  private struct Family {
    let kind: Kind
    var values: [String: Value] = [:]
  }

  private enum Kind: String { case counter, gauge, histogram }

  private struct Value {
    var sum = 0.0
    var count = 0
    var buckets: [Int] = []
  }

  /// Upper bounds, in seconds.
  private static let bounds = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800]

  package init() {}

  private let families = Mutex<[String: Family]>([:])

  fileprivate func add(_ amount: Double, _ key: MetricKey) {
    update(key, .counter) { $0.sum += amount }
  }

  fileprivate func set(_ value: Double, _ key: MetricKey) {
    update(key, .gauge) { $0.sum = value }
  }

  fileprivate func observe(_ value: Double, _ key: MetricKey) {
    update(key, .histogram) { entry in
      if entry.buckets.isEmpty { entry.buckets = .init(repeating: 0, count: Self.bounds.count) }
      for (index, bound) in Self.bounds.enumerated() where value <= bound {
        entry.buckets[index] += 1
      }
      entry.sum += value
      entry.count += 1
    }
  }

  private func update(_ key: MetricKey, _ kind: Kind, _ change: (inout Value) -> Void) {
    families.withLock { families in
      change(&families[key.label, default: Family(kind: kind)].values[key.labels, default: Value()])
    }
  }

  /// All of them in Prometheus' text format.
  package var text: String {
    families.withLock { families in
      families.sorted { $0.key < $1.key }.map { name, family in
        "# TYPE \(name) \(family.kind.rawValue)\n"
          + family.values.sorted { $0.key < $1.key }.map { Self.lines(name, $0, $1, family.kind) }
          .joined()
      }.joined()
    }
  }

  private static func lines(_ name: String, _ labels: String, _ value: Value, _ kind: Kind)
    -> String
  {
    func line(_ suffix: String, _ labels: String, _ value: String) -> String {
      "\(name)\(suffix)\(labels.isEmpty ? "" : "{\(labels)}") \(value)\n"
    }
    guard kind == .histogram else { return line("", labels, number(value.sum)) }
    let prefix = labels.isEmpty ? "" : labels + ","
    let buckets = value.buckets.isEmpty ? bounds.map { _ in 0 } : value.buckets
    return zip(bounds, buckets).map { line("_bucket", "\(prefix)le=\"\(number($0))\"", "\($1)") }
      .joined() + line("_bucket", "\(prefix)le=\"+Inf\"", "\(value.count)")
      + line("_sum", labels, number(value.sum)) + line("_count", labels, "\(value.count)")
  }

  private static func number(_ value: Double) -> String {
    value == value.rounded() && abs(value) < 1e15 ? "\(Int(value))" : "\(value)"
  }

  // MARK: MetricsFactory

  package func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
    let handler = MetricHandler(self, label, dimensions, isHistogram: false)
    add(0, handler.key)
    return handler
  }

  package func makeFloatingPointCounter(
    label: String, dimensions: [(String, String)]
  ) -> any FloatingPointCounterHandler {
    let handler = MetricHandler(self, label, dimensions, isHistogram: false)
    add(0, handler.key)
    return handler
  }

  package func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
    MetricHandler(self, label, dimensions, isHistogram: false)
  }

  package func makeRecorder(
    label: String, dimensions: [(String, String)], aggregate: Bool
  ) -> any RecorderHandler {
    let handler = MetricHandler(self, label, dimensions, isHistogram: aggregate)
    if aggregate { update(handler.key, .histogram) { _ in } }
    return handler
  }

  package func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
    MetricHandler(self, label, dimensions, isHistogram: true)
  }

  package func destroyCounter(_ handler: any CounterHandler) {}
  package func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) {}
  package func destroyMeter(_ handler: any MeterHandler) {}
  package func destroyRecorder(_ handler: any RecorderHandler) {}
  package func destroyTimer(_ handler: any TimerHandler) {}
}

/// A metric with its labels, as Prometheus writes them.
private struct MetricKey: Sendable {
  let label: String
  let labels: String

  init(_ label: String, _ dimensions: [(String, String)]) {
    self.label = label
    labels = dimensions.map { name, value in
      let escaped = value.map { character in
        switch character {
        case "\"": "\\\""
        case "\\": "\\\\"
        case "\n": "\\n"
        default: String(character)
        }
      }.joined()
      return "\(name)=\"\(escaped)\""
    }.joined(separator: ",")
  }
}

/// One metric, for whoever counts with it.
private final class MetricHandler: CounterHandler, FloatingPointCounterHandler, MeterHandler,
  RecorderHandler, TimerHandler
{
  let key: MetricKey
  private let registry: PrometheusRegistry
  private let isHistogram: Bool

  init(
    _ registry: PrometheusRegistry, _ label: String, _ dimensions: [(String, String)],
    isHistogram: Bool
  ) {
    self.registry = registry
    self.isHistogram = isHistogram
    key = MetricKey(label, dimensions)
  }

  func increment(by amount: Int64) { registry.add(Double(amount), key) }
  func increment(by amount: Double) { registry.add(amount, key) }
  func decrement(by amount: Double) { registry.add(-amount, key) }
  func set(_ value: Int64) { registry.set(Double(value), key) }
  func set(_ value: Double) { registry.set(value, key) }
  func record(_ value: Int64) { record(Double(value)) }
  func record(_ value: Double) {
    isHistogram ? registry.observe(value, key) : registry.set(value, key)
  }
  func recordNanoseconds(_ duration: Int64) { registry.observe(Double(duration) / 1e9, key) }
  func reset() {}
}
