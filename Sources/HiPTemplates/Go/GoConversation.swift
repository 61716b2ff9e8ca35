// SPDX-License-Identifier: Apache-2.0

/// What a conversation is for a Go template, and the rules by which Ollama writes one.
public struct GoConversation: Sendable {
  /// Objects as the wire has them: `role`, `content`, and maybe `thinking`, `tool_calls`,
  /// `tool_name`.
  public var messages: [TemplateValue]
  /// Tools as the wire has them: a list, or null.
  public var tools: TemplateValue
  /// Whether the model is to think; nil: nobody said.
  public var think: Bool?
  /// How much it is to think, such as `high`.
  public var thinkLevel: String?
  /// What follows the gap, for filling in the middle of a text.
  public var suffix: String?

  /// Stores the parts.
  public init(
    messages: [TemplateValue], tools: TemplateValue = .null, think: Bool? = nil,
    thinkLevel: String? = nil, suffix: String? = nil
  ) {
    self.messages = messages
    self.tools = tools
    self.think = think
    self.thinkLevel = thinkLevel
    self.suffix = suffix
  }

  /// The conversation's text.
  ///
  /// A template of messages runs once, and opens the answer itself. One of turns runs once per
  /// turn; the last one is cut where the answer stands, unless nothing is to be answered.
  /// - Parameters:
  ///   - template: what writes it.
  ///   - clock: what `currentDate` tells.
  ///   - openingAnswer: whether a template of turns ends where the assistant is to speak.
  /// - Throws: `TemplateError` when the template fails.
  public func render(
    by template: GoTemplate, clock: TemplateClock, openingAnswer: Bool
  ) throws(TemplateError) -> TemplateText {
    let turns = GoTurns(messages)
    let given = messages.reduce(tools.characterCount + (suffix ?? "").unicodeScalars.count) {
      $0 + $1.characterCount
    }
    var evaluator = GoEvaluator(template, clock: clock, given: given)
    let text = { (text: String) in TemplateValue.text(TemplateText(text, isData: true)) }
    if let suffix, !suffix.isEmpty, template.fields.contains("Suffix") {
      let prompt = turns.list.last { $0.role == "user" }?.content ?? TemplateText("")
      let data = data([("Prompt", .text(prompt)), ("Suffix", text(suffix)), ("Response", text(""))])
      try evaluator.run(template.statements, on: data)
    } else if template.fields.contains("Messages") {
      let data = data([
        ("System", .text(turns.system)), ("Messages", .list(turns.list.map(\.value))),
        ("Tools", GoNames.plain(inTools: tools)), ("Response", text("")),
      ])
      try evaluator.run(template.statements, on: data)
    } else {
      let turns = turns.prompts
      for turn in turns.dropLast() { try evaluator.run(template.turn, on: data(turn.fields)) }
      let last = openingAnswer ? template.turnUpToAnswer : template.turn
      try evaluator.run(last, on: data(turns[turns.count - 1].fields))
    }
    return evaluator.output.text
  }

  private func data(_ fields: [(key: String, value: TemplateValue)]) -> TemplateValue {
    .object(
      fields + [
        ("Think", .flag(think ?? (thinkLevel != nil))),
        ("ThinkLevel", .text(TemplateText(thinkLevel ?? "", isData: true))),
        ("IsThinkSet", .flag(think != nil || thinkLevel != nil)),
      ])
  }
}
