// SPDX-License-Identifier: Apache-2.0

import Foundation
import InfiniteHiP

/// An answer with its end.
struct CollectedAnswer {
  var text = ""
  var completion: Completion
}

extension Session {
  /// Serves a request to its end, showing progress and, as it comes, text.
  func answer(
    _ request: GenerationRequest, progress title: String, onText: (String) -> Void = { _ in }
  ) async throws -> CollectedAnswer {
    let display = ProgressDisplay(title)
    defer { display.finish() }
    var text = ""
    for try await event in respond(to: request) {
      switch event {
      case .progress(let prefilled, let total):
        display.update(prefilled: prefilled, of: total)
        if prefilled == total { display.finish() }
      case .token: break
      case .text(let more):
        text += more
        onText(more)
      case .finished(let completion):
        return CollectedAnswer(text: text, completion: completion)
      }
    }
    throw CancellationError()
  }
}
