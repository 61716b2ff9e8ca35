// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HiPGrammar
internal import HiPJSON
internal import HiPModelStore
internal import HiPTokenization
internal import InfiniteHiP
internal import Synchronization

/// A model that is loaded, and what its store says of it.
final class ServedModel: Sendable {
  let stored: StoredModel
  let model: LanguageModel
  let card: ModelCard
  let loadTime: Duration
  /// What conversations begin with, where they bring no system message of their own.
  let system: String?
  /// Messages that every conversation begins with.
  let messages: [ChatMessage]
  /// Options that hold unless a request says otherwise.
  let parameters: JSONValue
  let dialect: ToolDialect
  private let constraints = Mutex<[(key: [Grammar.Part], constraint: AnswerConstraint)]>([])

  init(_ stored: StoredModel, _ model: LanguageModel, loadTime: Duration) async throws {
    self.stored = stored
    self.model = model
    self.loadTime = loadTime
    card = try ModelCard(stored)
    system = stored.text(.system)
    parameters = stored.parameters
    messages =
      stored.text(.messages).flatMap { try? JSONValue(Array($0.utf8)) }?.items?.compactMap { item in
        item["role"]?.text.flatMap { ChatMessage.Role(rawValue: $0) }.map {
          ChatMessage(role: $0, content: item["content"]?.text ?? "")
        }
      } ?? []
    dialect = ToolDialect(model.chatTemplate)
  }

  var name: String { "\(stored.name)" }

  /// How its conversations are written.
  func template() throws(ServerError) -> ChatTemplate {
    guard let template = model.chatTemplate else {
      let problem =
        model.description.chatTemplateError.map { "its chat template cannot be used: \($0)" }
        ?? "it has no chat template; use /api/generate with \"raw\", or /v1/completions"
      throw .badRequest("\"\(name)\" does not support chat: \(problem)")
    }
    return template
  }

  /// A grammar over its vocabulary; the last few are kept.
  func constraint(_ parts: [Grammar.Part]) throws -> AnswerConstraint {
    if let known = constraints.withLock({ $0.first { $0.key == parts }?.constraint }) {
      return known
    }
    let made = model.constraint(try Grammar(parts))
    constraints.withLock { constraints in
      constraints.insert((parts, made), at: 0)
      if constraints.count > 16 { constraints.removeLast() }
    }
    return made
  }
}
