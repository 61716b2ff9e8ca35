// SPDX-License-Identifier: Apache-2.0

/// Messages with those of one speaker in a row made one.
struct GoTurns {
  struct Message {
    let role: String
    private(set) var members: [(key: String, value: TemplateValue)]
    /// What is said, by paragraphs.
    private var paragraphs: [TemplateText] = []

    init(role: String, members: [(key: String, value: TemplateValue)]) {
      self.role = role
      self.members = members
      if case .text(let text)? = value.member("content") { paragraphs = [text] }
    }

    var value: TemplateValue { .object(members) }

    var content: TemplateText { GoTurns.text(of: paragraphs) }

    /// Takes in what another message says, and its members that this one lacks.
    fileprivate mutating func add(_ more: Message) {
      let words = more.paragraphs.filter { !$0.isEmpty }
      if !words.isEmpty, paragraphs.isEmpty { paragraphs = [TemplateText("")] }
      paragraphs += words
      for member in more.members where !members.contains(where: { $0.key == member.key }) {
        members.append(member)
      }
    }

    /// With its paragraphs as one text.
    fileprivate var whole: Message {
      guard paragraphs.count > 1 else { return self }
      var result = self
      let text = content
      result.paragraphs = [text]
      for index in members.indices where members[index].key == "content" {
        result.members[index].value = .text(text)
      }
      return result
    }
  }

  /// A system's, a user's and an assistant's words, as a template of turns takes them.
  struct Prompt {
    var system = TemplateText("")
    var prompt = TemplateText("")
    var response = TemplateText("")

    var fields: [(key: String, value: TemplateValue)] {
      [("System", .text(system)), ("Prompt", .text(prompt)), ("Response", .text(response))]
    }
  }

  let list: [Message]
  /// All that the system says.
  let system: TemplateText

  init(_ values: [TemplateValue]) {
    var turns: [Message] = []
    var system: [TemplateText] = []
    for value in values {
      let message = GoNames.message(value)
      if message.role == "system" { system.append(message.content) }
      // Results of tools stay apart: each has its own name.
      if turns.last?.role == message.role, message.role != "tool" {
        turns[turns.count - 1].add(message)
      } else {
        turns.append(message)
      }
    }
    list = turns.map(\.whole)
    self.system = Self.text(of: system)
  }

  /// Paragraphs as one text.
  private static func text(of paragraphs: [TemplateText]) -> TemplateText {
    var text = TemplateText("")
    for (index, paragraph) in paragraphs.enumerated() {
      if index > 0 { text.append(TemplateText("\n\n", isData: true)) }
      text.append(paragraph)
    }
    return text
  }

  /// The turns; the last one may still lack its answer.
  var prompts: [Prompt] {
    var prompts: [Prompt] = []
    var current = Prompt()
    func close() {
      prompts.append(current)
      current = Prompt()
    }
    for message in list {
      switch message.role {
      case "system":
        if !current.prompt.isEmpty || !current.response.isEmpty { close() }
        current.system = message.content
      case "user":
        if !current.response.isEmpty { close() }
        current.prompt = message.content
      case "assistant": current.response = message.content
      default: break
      }
    }
    return prompts + [current]
  }
}
