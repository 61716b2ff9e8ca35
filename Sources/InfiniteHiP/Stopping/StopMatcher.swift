// SPDX-License-Identifier: Apache-2.0

/// Finds stop texts in a growing answer, and holds back what could become one.
package struct StopMatcher {
  private let stops: [[UInt8]]
  private var held: [UInt8] = []

  package init(_ stops: [String]) {
    self.stops = stops.map { Array($0.utf8) }.filter { !$0.isEmpty }
  }

  /// The text that can be shown now, and whether a stop text has come.
  package mutating func append(_ text: String) -> (text: String, stopped: Bool) {
    held += text.utf8
    let found = stops.compactMap { stop in Self.index(of: stop, in: held) }.min()
    if let found {
      let shown = String(decoding: held[..<found], as: UTF8.self)
      held = []
      return (shown, true)
    }
    let keep = stops.map { Self.overlap(of: held, with: $0) }.max() ?? 0
    // The tail that is held back starts where a stop text does: at a whole character.
    let shown = String(decoding: held[..<(held.count - keep)], as: UTF8.self)
    held.removeFirst(held.count - keep)
    return (shown, false)
  }

  /// What was held back when no more text comes.
  package mutating func finish() -> String {
    defer { held = [] }
    return String(decoding: held, as: UTF8.self)
  }

  private static func index(of stop: [UInt8], in text: [UInt8]) -> Int? {
    guard text.count >= stop.count else { return nil }
    return (0...text.count - stop.count).first { text[$0...].starts(with: stop) }
  }

  /// The longest end of `text` that `stop` begins with.
  private static func overlap(of text: [UInt8], with stop: [UInt8]) -> Int {
    (0..<min(text.count + 1, stop.count)).last { text.suffix($0).elementsEqual(stop.prefix($0)) }
      ?? 0
  }
}
