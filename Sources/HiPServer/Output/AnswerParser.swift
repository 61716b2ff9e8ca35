// SPDX-License-Identifier: Apache-2.0

internal import HiPJSON
package import HiPTokenization

/// Takes an answer apart as it comes: thoughts, calls of tools, and what is said.
package struct AnswerParser: Sendable {
  /// A part of an answer.
  package enum Part: Sendable, Hashable {
    case content(String)
    case thinking(String)
    case call(ToolCall)
  }

  private let form: ToolDialect.Form?
  private let thinking: ToolDialect.Marks?
  private var state: State
  private var held = ""
  private var isAtStart = true
  /// The mark behind which a call seems to stand.
  private var callMark = ""
  /// White space behind a thought or a call belongs to neither what is said nor another call.
  private var skipsSpace = false

  private enum State: Sendable, Hashable {
    case text, thinking
    /// All that comes is kept until it ends: a call, as it seems.
    case call
  }

  /// - Parameters:
  ///   - dialect: how the model writes calls and thoughts.
  ///   - readsCalls: whether calls are looked for.
  ///   - splitsThinking: whether thoughts are told apart.
  package init(_ dialect: ToolDialect, readsCalls: Bool, splitsThinking: Bool) {
    form = readsCalls ? dialect.form : nil
    thinking = splitsThinking ? dialect.thinking : nil
    state = splitsThinking && dialect.thinking?.isOpened ?? false ? .thinking : .text
  }

  /// Takes more of the answer; what can be told of it by now.
  package mutating func append(_ text: String) -> [Part] {
    held += text
    skipSpace()
    var parts: [Part] = []
    while let part = next(&parts) { parts.append(part) }
    return parts
  }

  private mutating func skipSpace() {
    guard skipsSpace else { return }
    held = String(held.drop { $0.isWhitespace })
    if !held.isEmpty { skipsSpace = false }
  }

  /// Goes on behind a mark with what is said.
  private mutating func leave(_ range: Range<String.Index>) {
    held = String(held[range.upperBound...])
    state = .text
    skipsSpace = true
    skipSpace()
  }

  /// What is left when the answer has ended.
  package mutating func finish() -> [Part] {
    defer { held = "" }
    var parts: [Part] = []
    switch state {
    case .thinking: if !held.isEmpty { parts.append(.thinking(held)) }
    case .text: if !held.isEmpty { parts.append(.content(held)) }
    case .call:
      let calls = ToolCallText.calls(in: held)
      parts = calls.isEmpty ? [.content(callMark + held)] : calls.map { .call($0) }
    }
    return parts
  }

  /// The next whole part of what is held; nil when more text is needed.
  private mutating func next(_ parts: inout [Part]) -> Part? {
    switch state {
    case .thinking:
      guard let mark = thinking?.close else { return nil }
      if let range = held.firstRange(of: mark) {
        let thought = String(held[..<range.lowerBound])
        leave(range)
        return thought.isEmpty ? next(&parts) : .thinking(thought)
      }
      return take(allBut: [mark]).map { .thinking($0) }
    case .text: return nextText(&parts)
    case .call:
      guard form == .tagged, let end = held.firstRange(of: "</tool_call>") else { return nil }
      let calls = ToolCallText.calls(in: String(held[..<end.lowerBound]))
      let whole = callMark + String(held[..<end.upperBound])
      callMark = ""
      leave(end)
      guard let last = calls.last else { return .content(whole) }
      parts += calls.dropLast().map { .call($0) }
      return .call(last)
    }
  }

  private mutating func nextText(_ parts: inout [Part]) -> Part? {
    var marks: [String] = []
    if let thinking { marks.append(thinking.open) }
    switch form {
    case .tagged: marks.append("<tool_call>")
    case .marked: marks.append("[TOOL_CALLS]")
    case .bare: marks.append("<|python_tag|>")
    case nil: break
    }
    let first = marks.compactMap { mark in held.firstRange(of: mark).map { ($0, mark) } }
      .min { $0.0.lowerBound < $1.0.lowerBound }
    if let (range, mark) = first {
      let before = String(held[..<range.lowerBound])
      held = String(held[range.upperBound...])
      state = mark == thinking?.open ? .thinking : .call
      callMark = mark
      isAtStart = false
      guard before.contains(where: { !$0.isWhitespace }) else { return next(&parts) }
      return .content(before)
    }
    if isAtStart, form != nil {
      // A call that stands there without its marks.
      let start = held.drop { $0.isWhitespace }
      guard !start.isEmpty, !marks.contains(where: { $0.hasPrefix(start) }) else { return nil }
      if start.hasPrefix("{") || start.hasPrefix("[") {
        isAtStart = false
        state = .call
        return nil
      }
    }
    guard let text = take(allBut: marks) else { return nil }
    isAtStart = false
    return .content(text)
  }

  /// What is held, but for an end that a mark could begin with.
  private mutating func take(allBut marks: [String]) -> String? {
    let bytes = Array(held.utf8)
    let kept =
      marks.map { mark in
        let mark = Array(mark.utf8)
        return (0..<min(bytes.count + 1, mark.count)).last {
          bytes.suffix($0).elementsEqual(mark.prefix($0))
        } ?? 0
      }.max() ?? 0
    guard kept < bytes.count else { return nil }
    let text = String(decoding: bytes.dropLast(kept), as: UTF8.self)
    held = String(decoding: bytes.suffix(kept), as: UTF8.self)
    return text
  }
}

/// Calls of tools in the forms that models write them.
enum ToolCallText {
  /// The calls that a text consists of; none where it is something else.
  static func calls(in text: String) -> [ToolCall] {
    let text = withoutFence(text.trimmed)
    if let call = namedCalls(text) { return call }
    var calls: [ToolCall] = []
    var rest = Array(text.utf8)[...]
    while let start = rest.firstIndex(where: { $0 == 0x7b || $0 == 0x5b }) {
      guard let end = endOfValue(rest, from: start),
        let value = try? JSONValue(Array(rest[start...end]))
      else { return calls }
      let items = value.items ?? [value]
      let found = items.compactMap(call)
      guard found.count == items.count else { return calls }
      calls += found
      rest = rest[(end + 1)...]
    }
    return calls
  }

  private static func call(_ value: JSONValue) -> ToolCall? {
    let value = value["function"]?.members == nil ? value : value["function"] ?? value
    guard let name = value["name"]?.text ?? value["function"]?.text, !name.isEmpty else {
      return nil
    }
    var arguments = value["arguments"] ?? value["parameters"] ?? .object([])
    if let text = arguments.text, let parsed = try? JSONValue(Array(text.utf8)) {
      arguments = parsed
    }
    guard arguments.members != nil else { return nil }
    return ToolCall(id: value["id"]?.text, name: name, arguments: arguments)
  }

  /// `name[ARGS]{…}`, one or more of them.
  private static func namedCalls(_ text: String) -> [ToolCall]? {
    guard text.firstRange(of: "[ARGS]") != nil else { return nil }
    var calls: [ToolCall] = []
    for part in text.split(separator: "[TOOL_CALLS]") {
      guard let mark = part.firstRange(of: "[ARGS]") else { return nil }
      let name = String(part[..<mark.lowerBound]).split(separator: "[").first.map(String.init)
      guard let name = name?.trimmed, !name.isEmpty,
        let arguments = try? JSONValue(Array(part[mark.upperBound...].utf8)),
        arguments.members != nil
      else { return nil }
      calls.append(ToolCall(name: name, arguments: arguments))
    }
    return calls
  }

  /// What stands in a block of code, where the text is one.
  private static func withoutFence(_ text: String) -> String {
    guard text.hasPrefix("```"), text.hasSuffix("```"), let line = text.firstIndex(of: "\n") else {
      return text
    }
    return String(text[line...].dropLast(3)).trimmed
  }

  /// Where an object or list ends that begins at `start`; nil where it does not.
  private static func endOfValue(_ bytes: ArraySlice<UInt8>, from start: Int) -> Int? {
    var depth = 0
    var isText = false
    var index = start
    while index < bytes.endIndex {
      switch bytes[index] {
      case 0x5c where isText: index += 1
      case 0x22: isText.toggle()
      case 0x7b where !isText, 0x5b where !isText: depth += 1
      case 0x7d where !isText, 0x5d where !isText:
        depth -= 1
        if depth == 0 { return index }
      default: break
      }
      index += 1
    }
    return nil
  }
}

extension String {
  var trimmed: String {
    let start = drop { $0.isWhitespace }
    let end = start.reversed().drop { $0.isWhitespace }
    return String(end.reversed())
  }
}
