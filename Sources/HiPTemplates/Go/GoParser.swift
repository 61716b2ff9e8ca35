// SPDX-License-Identifier: Apache-2.0

/// Makes statements of a template's tokens.
struct GoParser {
  private let tokens: [GoToken]
  private var index = 0
  private(set) var templates: [String: [GoNode]] = [:]
  /// Fields that are taken of the dot or of `$`.
  var fields: Set<String> = []
  var variables = GoVariables()
  private var loops = 0
  private var depth = 0

  /// Far deeper than a template nests.
  private static let deepest = 64

  /// What ended a list of statements.
  private enum Ending { case end, otherwise, source }

  init(_ source: String) throws(TemplateError) {
    tokens = try GoLexer.tokens(of: source)
  }

  /// The statements outside of all definitions.
  mutating func statements() throws(TemplateError) -> [GoNode] {
    do throws(TemplateError) {
      let (nodes, ending) = try list(isTop: true)
      guard ending == .source else { throw .syntax("{{end}} or {{else}} that nothing opens") }
      return nodes
    } catch {
      throw error.at(line: line)
    }
  }

  // MARK: Tokens

  var next: GoToken { tokens[min(index, tokens.count - 1)] }
  var line: Int { next.line }

  func kind(ahead offset: Int) -> GoToken.Kind {
    tokens[min(index + offset, tokens.count - 1)].kind
  }

  mutating func advance() { index += 1 }

  mutating func take(_ kind: GoToken.Kind) -> Bool {
    guard next.kind == kind else { return false }
    index += 1
    return true
  }

  mutating func expectClose(_ place: String) throws(TemplateError) {
    guard take(.close) else { throw .syntax("unexpected \(next.kind.shown) in \(place)") }
  }

  mutating func nested<Result>(
    _ body: (inout GoParser) throws(TemplateError) -> Result
  ) throws(TemplateError) -> Result {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.deepest else {
      throw TemplateError(.limit, "the template nests more than \(Self.deepest) deep")
    }
    return try body(&self)
  }

  // MARK: Statements

  private mutating func list(
    isTop: Bool = false
  ) throws(TemplateError) -> (nodes: [GoNode], ending: Ending) {
    var nodes: [GoNode] = []
    while true {
      switch next.kind {
      case .text(let text):
        advance()
        nodes.append(.text(text))
      case .open:
        advance()
        if take(.name("end")) {
          try expectClose("end")
          return (nodes, .end)
        }
        if take(.name("else")) { return (nodes, .otherwise) }
        if take(.name("define")) {
          guard isTop else { throw .syntax("{{define}} within another action") }
          try define()
        } else {
          nodes.append(try statement())
        }
      default: return (nodes, .source)
      }
    }
  }

  private mutating func statement() throws(TemplateError) -> GoNode {
    guard case .name(let name) = next.kind else { return .action(try pipeline(.action)) }
    switch name {
    case "if", "with":
      advance()
      return try nested { parser throws(TemplateError) in try parser.branch(name) }
    case "range":
      advance()
      return try nested { parser throws(TemplateError) in try parser.range() }
    case "template":
      advance()
      return try templateCall()
    case "block":
      advance()
      return try nested { parser throws(TemplateError) in try parser.block() }
    case "break", "continue":
      advance()
      guard loops > 0 else { throw .syntax("{{\(name)}} outside of {{range}}") }
      try expectClose(name)
      return name == "break" ? .stop : .skip
    default: return .action(try pipeline(.action))
    }
  }

  private mutating func body(of name: String) throws(TemplateError) -> ([GoNode], Ending) {
    let mark = variables.count
    defer { variables.forget(from: mark) }
    let (nodes, ending) = try list()
    guard ending != .source else { throw .syntax("{{\(name)}} is not ended") }
    return (nodes, ending)
  }

  /// The last part of an action that has `{{else}}`.
  private mutating func otherwise(of name: String) throws(TemplateError) -> [GoNode] {
    try expectClose("else")
    let (nodes, ending) = try body(of: name)
    guard ending == .end else { throw .syntax("a second {{else}} of {{\(name)}}") }
    return nodes
  }

  private mutating func branch(_ name: String) throws(TemplateError) -> GoNode {
    let mark = variables.count
    defer { variables.forget(from: mark) }
    var cases: [GoCase] = []
    while true {
      let condition = try pipeline(.control)
      let (body, ending) = try body(of: name)
      cases.append(GoCase(condition: condition, body: body))
      guard ending == .otherwise else {
        return .branch(cases, otherwise: [], bindsDot: name == "with")
      }
      if take(.name(name)) { continue }
      return .branch(cases, otherwise: try otherwise(of: name), bindsDot: name == "with")
    }
  }

  private mutating func range() throws(TemplateError) -> GoNode {
    let mark = variables.count
    defer { variables.forget(from: mark) }
    let source = try pipeline(.range)
    loops += 1
    let (body, ending) = try body(of: "range")
    loops -= 1
    let rest = ending == .otherwise ? try otherwise(of: "range") : []
    return .range(source, body: body, otherwise: rest)
  }

  // MARK: Named templates

  private mutating func templateName() throws(TemplateError) -> String {
    guard case .string(let name) = next.kind else {
      throw .syntax("a template's name is missing where \(next.kind.shown) stands")
    }
    advance()
    return name
  }

  private mutating func templateCall() throws(TemplateError) -> GoNode {
    let line = line
    let name = try templateName()
    return .template(name, take(.close) ? nil : try pipeline(.action), line: line)
  }

  private mutating func define() throws(TemplateError) {
    let name = try templateName()
    try expectClose("define")
    try defined(name)
  }

  /// A definition that is called where it stands.
  private mutating func block() throws(TemplateError) -> GoNode {
    let line = line
    let name = try templateName()
    let argument = try pipeline(.action)
    try defined(name)
    return .template(name, argument, line: line)
  }

  private mutating func defined(_ name: String) throws(TemplateError) {
    // It sees no variables and no loops of what stands around it.
    let (outerVariables, outerLoops) = (variables, loops)
    variables = GoVariables()
    loops = 0
    let (nodes, ending) = try body(of: "define")
    (variables, loops) = (outerVariables, outerLoops)
    guard ending == .end else { throw .syntax("{{else}} in a definition") }
    guard templates[name] == nil else { throw .syntax("two templates are named \"\(name)\"") }
    templates[name] = nodes
  }
}
