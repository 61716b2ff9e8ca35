// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPEvaluation
import Synchronization

/// Shows how far a long text has been prefilled: a bar on a terminal, a line now and then elsewhere.
final class ProgressDisplay: Sendable {
  private let title: String
  private let start = ContinuousClock.now
  private let state = Mutex(State())

  private struct State {
    var lastShown: ContinuousClock.Instant?
    var isDrawn = false
  }

  /// Tokens below which nothing is shown.
  private static let shortText = 2048

  init(_ title: String) { self.title = title }

  /// Shows the state; `of` is the number of tokens in all.
  func update(prefilled: Int, of total: Int) {
    guard total >= Self.shortText else { return }
    let now = ContinuousClock.now
    state.withLock { state in
      let pause: Duration = Terminal.errorIsTerminal ? .milliseconds(100) : .seconds(10)
      if let last = state.lastShown, now - last < pause, prefilled < total { return }
      if state.lastShown == nil, !Terminal.errorIsTerminal, prefilled < total {
        state.lastShown = now
        return
      }
      state.lastShown = now
      let line = text(prefilled: prefilled, of: total, after: (now - start).seconds)
      if Terminal.errorIsTerminal {
        Terminal.note("\r\u{1b}[K" + line)
        state.isDrawn = true
      } else {
        Terminal.note(line + "\n")
      }
    }
  }

  /// Takes the bar away.
  func finish() {
    state.withLock { state in
      if state.isDrawn { Terminal.note("\r\u{1b}[K") }
      state.isDrawn = false
    }
  }

  private func text(prefilled: Int, of total: Int, after seconds: Double) -> String {
    let speed = seconds > 0 ? Double(prefilled) / seconds : 0
    var parts = "\(sizeText(prefilled)) of \(sizeText(total)) tokens"
    if prefilled > 0 {
      parts += ", \(decimal(speed, 0)) tokens/s"
      let left = Double(total - prefilled) / max(speed, 1)
      if prefilled < total { parts += ", \(timeText(left)) left" }
    }
    guard Terminal.errorIsTerminal else { return "\(title): \(parts)" }
    let room = Terminal.columns - title.count - parts.count - 6
    guard room >= 8 else {
      return String("\(title): \(parts)".prefix(max(1, Terminal.columns - 1)))
    }
    let width = min(room, 30)
    let filled = width * prefilled / max(1, total)
    let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: width - filled)
    return "\(title)  \(bar)  \(parts)"
  }

  private func timeText(_ seconds: Double) -> String {
    let whole = Int(seconds.rounded(.up))
    if whole < 60 { return "\(whole) s" }
    let minutes = whole / 60
    if minutes < 60 { return "\(minutes):" + (whole % 60 < 10 ? "0" : "") + "\(whole % 60) min" }
    return "\(minutes / 60):" + (minutes % 60 < 10 ? "0" : "") + "\(minutes % 60) h"
  }
}

extension Duration {
  /// The duration in seconds.
  var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
