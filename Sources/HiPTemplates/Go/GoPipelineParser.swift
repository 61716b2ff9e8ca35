// SPDX-License-Identifier: Apache-2.0

/// Names of variables, and the places that their values have.
struct GoVariables {
  private var names = ["$"]
  private var places: [String: [Int]] = ["$": [0]]

  var count: Int { names.count }

  func place(of name: String) -> Int? { places[name]?.last }

  mutating func declare(_ name: String) -> Int {
    names.append(name)
    places[name, default: []].append(names.count - 1)
    return names.count - 1
  }

  mutating func forget(from mark: Int) {
    while names.count > mark { places[names.removeLast()]?.removeLast() }
  }
}

/// Pipelines: what stands in an action.
extension GoParser {
  enum PipelineRole { case action, control, range, inner }

  /// Reads a pipeline and the sign that ends it.
  mutating func pipeline(_ role: PipelineRole) throws(TemplateError) -> GoPipeline {
    let line = line
    let (names, declares) = try targets(role)
    let commands = try commands(until: role == .inner ? .sign(")") : .close)
    // Declared only now: the right side of `$x := $x` is the outer one.
    var targets: [Int] = []
    for name in names {
      guard !declares else {
        targets.append(variables.declare(name))
        continue
      }
      targets.append(try place(of: name))
    }
    return GoPipeline(line: line, targets: targets, commands: commands)
  }

  private func place(of name: String) throws(TemplateError) -> Int {
    guard let place = variables.place(of: name) else {
      throw .syntax("undefined variable \(name)")
    }
    return place
  }

  /// The names before `:=` or `=`.
  private mutating func targets(
    _ role: PipelineRole
  ) throws(TemplateError) -> (names: [String], declares: Bool) {
    guard case .variable(let first) = next.kind else { return ([], false) }
    var names = [first]
    var offset = 1
    if role == .range, kind(ahead: 1) == .sign(","), case .variable(let second) = kind(ahead: 2) {
      names.append(second)
      offset = 3
    }
    let sign = kind(ahead: offset)
    guard sign == .sign(":=") || sign == .sign("=") else { return ([], false) }
    guard role != .inner else { throw .syntax("a variable is set within parentheses") }
    for _ in 0...offset { advance() }
    return (names, sign == .sign(":="))
  }

  private mutating func commands(until end: GoToken.Kind) throws(TemplateError) -> [GoCommand] {
    var commands: [GoCommand] = []
    while true {
      let command = try command(until: end)
      if !commands.isEmpty, case .value = command {
        throw .syntax("a pipeline passes on a value to what is no function")
      }
      commands.append(command)
      if take(end) { return commands }
      guard take(.sign("|")) else {
        throw .syntax("unexpected \(next.kind.shown) in a pipeline")
      }
    }
  }

  private mutating func command(until end: GoToken.Kind) throws(TemplateError) -> GoCommand {
    var operands: [GoOperand] = []
    while next.kind != end, next.kind != .sign("|") { operands.append(try operand()) }
    guard let first = operands.first else { throw .syntax("a value is missing in a pipeline") }
    if case .call(let function) = first { return .call(function, Array(operands.dropFirst())) }
    guard operands.count == 1 else { throw .syntax("arguments of what is no function") }
    return .value(first)
  }

  private mutating func operand() throws(TemplateError) -> GoOperand {
    // A field of the dot begins with itself, others stand close behind what they are fields of.
    var isFirst = if case .field = next.kind { true } else { false }
    let (owner, isRoot) = isFirst ? (.dot, true) : try term()
    var chain: [GoField] = []
    while case .field(let name) = next.kind, isFirst || !next.isSpaced {
      isFirst = false
      switch owner {
      case .constant, .call: throw .syntax("unexpected .\(name) behind a constant or a function")
      default: break
      }
      if isRoot, chain.isEmpty { fields.insert(name) }
      chain.append(GoField(name))
      advance()
    }
    return chain.isEmpty ? owner : .member(of: owner, chain)
  }

  /// A value without the fields behind it, and whether it may be the top level.
  private mutating func term() throws(TemplateError) -> (GoOperand, isRoot: Bool) {
    let token = next
    switch token.kind {
    case .dot:
      advance()
      return (.dot, true)
    case .variable(let name):
      advance()
      return (.variable(try place(of: name)), name == "$")
    case .string(let text):
      advance()
      return (.constant(.text(TemplateText(text))), false)
    case .integer(let integer):
      advance()
      return (.constant(.integer(integer)), false)
    case .number(let number):
      advance()
      return (.constant(.number(number)), false)
    case .name(let name):
      let operand = try Self.named(name)
      advance()
      return (operand, false)
    case .sign("("):
      advance()
      let inner = try nested { parser throws(TemplateError) in try parser.pipeline(.inner) }
      return (.pipeline(inner), false)
    default: throw .syntax("unexpected \(token.kind.shown) in a pipeline")
    }
  }

  private static func named(_ name: String) throws(TemplateError) -> GoOperand {
    switch name {
    case "true", "false": return .constant(.flag(name == "true"))
    case "nil": return .constant(.null)
    default:
      guard let function = GoFunction(rawValue: name) else {
        throw .syntax("function \"\(name)\" is not defined")
      }
      return .call(function)
    }
  }
}

extension GoToken.Kind {
  /// How an error names it.
  var shown: String {
    switch self {
    case .text: "text"
    case .open: "{{"
    case .close: "}}"
    case .dot: "."
    case .field(let name): ".\(name)"
    case .variable(let name), .name(let name), .sign(let name): name
    case .string(let text): "\"\(text)\""
    case .integer(let integer): "\(integer)"
    case .number(let number): "\(number)"
    case .end: "the template's end"
    }
  }
}
