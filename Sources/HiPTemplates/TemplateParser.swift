// SPDX-License-Identifier: Apache-2.0

/// Makes statements of a template's tokens, by recursive descent.
struct TemplateParser {
  private let tokens: [TemplateToken]
  private var index = 0
  private var depth = 0

  /// How deeply a template may be nested.
  private static let deepest = 150

  static func statements(of source: String) throws(TemplateError) -> [TemplateStatement] {
    var parser = TemplateParser(tokens: try TemplateLexer.tokens(of: source))
    let (body, end) = try parser.body(until: [])
    guard end == nil else { throw .syntax("{% \(end ?? "") %} closes nothing") }
    return body
  }

  private init(tokens: [TemplateToken]) { self.tokens = tokens }

  private var token: TemplateToken { tokens[index] }

  private mutating func advance() { if index + 1 < tokens.count { index += 1 } }

  private mutating func take(_ sign: String) -> Bool {
    guard token == .sign(sign) else { return false }
    advance()
    return true
  }

  private mutating func takeName(_ name: String) -> Bool {
    guard token == .name(name) else { return false }
    advance()
    return true
  }

  private mutating func expect(_ wanted: TemplateToken, _ what: String) throws(TemplateError) {
    guard token == wanted else { throw .syntax("\(what) is expected, not \(describe(token))") }
    advance()
  }

  private func describe(_ token: TemplateToken) -> String {
    switch token {
    case .name(let name): "\"\(name)\""
    case .sign(let sign): "\"\(sign)\""
    case .string(let text): "the text '\(text.prefix(20))'"
    case .integer, .number: "a number"
    case .text: "text"
    case .end: "the template's end"
    case .openOutput: "\"{{\""
    case .closeOutput: "\"}}\""
    case .openBlock: "\"{%\""
    case .closeBlock: "\"%}\""
    }
  }

  private mutating func name() throws(TemplateError) -> String {
    guard case .name(let name) = token else {
      throw .syntax("a name is expected, not \(describe(token))")
    }
    advance()
    return name
  }

  private mutating func deeper() throws(TemplateError) {
    depth += 1
    guard depth <= Self.deepest else { throw .syntax("the template is nested too deeply") }
  }

  // MARK: Statements

  /// Statements up to a block that begins with one of some names, which is taken.
  private mutating func body(
    until ends: Set<String>
  ) throws(TemplateError) -> ([TemplateStatement], String?) {
    try deeper()
    defer { depth -= 1 }
    var statements: [TemplateStatement] = []
    while true {
      switch token {
      case .end:
        guard ends.isEmpty else {
          throw .syntax("{% \(ends.sorted().joined(separator: " %} or {% ")) %} is missing")
        }
        return (statements, nil)
      case .text(let text):
        advance()
        statements.append(.text(TemplateText(text)))
      case .openOutput:
        advance()
        statements.append(.output(try tuple()))
        try expect(.closeOutput, "\"}}\"")
      case .openBlock:
        advance()
        let keyword = try name()
        if ends.contains(keyword) { return (statements, keyword) }
        if let statement = try block(keyword) { statements.append(statement) }
      default: throw .syntax("\(describe(token)) stands outside of code")
      }
    }
  }

  private mutating func closeBlock() throws(TemplateError) { try expect(.closeBlock, "\"%}\"") }

  /// The statements of a block whose head has been taken, to its end, which is taken too.
  private mutating func inner(_ end: String) throws(TemplateError) -> [TemplateStatement] {
    try closeBlock()
    let (statements, _) = try body(until: [end])
    // {% endmacro name %} and the like.
    while token != .closeBlock, token != .end { advance() }
    try closeBlock()
    return statements
  }

  private mutating func block(_ keyword: String) throws(TemplateError) -> TemplateStatement? {
    switch keyword {
    case "if": return try branch()
    case "for": return try loop()
    case "set": return try set()
    case "macro":
      let name = try name()
      let parameters = try parameters()
      return .macro(
        TemplateMacro(name: name, parameters: parameters, body: try inner("endmacro")))
    case "call":
      let parameters = token == .sign("(") ? try parameters() : []
      let callee = try expression()
      return .callBlock(
        callee,
        TemplateMacro(name: "caller", parameters: parameters, body: try inner("endcall")))
    case "filter":
      var filters = [try filter()]
      while take("|") { filters.append(try filter()) }
      return .filterBlock(filters, try inner("endfilter"))
    case "with":
      var variables: [(String, TemplateExpression)] = []
      while token != .closeBlock {
        let name = try name()
        try expect(.sign("="), "\"=\"")
        variables.append((name, try expression()))
        if !take(",") { break }
      }
      return .with(variables, try inner("endwith"))
    case "generation": return .with([], try inner("endgeneration"))
    case "break", "continue":
      try closeBlock()
      return keyword == "break" ? .stop : .skip
    default: throw .syntax("{% \(keyword) %} is not known")
    }
  }

  private mutating func branch() throws(TemplateError) -> TemplateStatement {
    var branches: [(TemplateExpression, [TemplateStatement])] = []
    var otherwise: [TemplateStatement] = []
    var condition: TemplateExpression? = try tuple()
    try closeBlock()
    while true {
      let (statements, end) = try body(
        until: condition == nil ? ["endif"] : ["elif", "else", "endif"])
      if let condition { branches.append((condition, statements)) } else { otherwise = statements }
      if end == "elif" { condition = try tuple() } else { condition = nil }
      try closeBlock()
      if end == "endif" { return .branch(branches, otherwise: otherwise) }
    }
  }

  private mutating func loop() throws(TemplateError) -> TemplateStatement {
    let targets = try targets()
    guard takeName("in") else { throw .syntax("{% for %} needs \"in\"") }
    let source = try disjunction()
    let condition = takeName("if") ? try expression() : nil
    _ = takeName("recursive")
    try closeBlock()
    var (statements, end) = try body(until: ["else", "endfor"])
    var otherwise: [TemplateStatement] = []
    try closeBlock()
    if end == "else" {
      (otherwise, end) = try body(until: ["endfor"])
      try closeBlock()
    }
    return .loop(
      TemplateLoop(
        targets: targets, source: source, condition: condition, body: statements,
        otherwise: otherwise))
  }

  private mutating func targets() throws(TemplateError) -> [String] {
    let isWrapped = take("(")
    var targets = [try name()]
    while take(",") { targets.append(try name()) }
    if isWrapped { try expect(.sign(")"), "\")\"") }
    return targets
  }

  private mutating func set() throws(TemplateError) -> TemplateStatement {
    let targets = try targets()
    if targets.count == 1, take(".") {
      let member = try name()
      try expect(.sign("="), "\"=\"")
      let value = try tuple()
      try closeBlock()
      return .setMember(targets[0], member, value)
    }
    if take("=") {
      let value = try tuple()
      try closeBlock()
      return .set(targets, value)
    }
    var filters: [(String, [TemplateArgument])] = []
    while take("|") { filters.append(try filter()) }
    guard targets.count == 1 else { throw .syntax("{% set %} of several names needs \"=\"") }
    return .setBlock(targets[0], filters, try inner("endset"))
  }

  private mutating func parameters() throws(TemplateError) -> [(
    name: String, fallback: TemplateExpression?
  )] {
    try expect(.sign("("), "\"(\"")
    var parameters: [(name: String, fallback: TemplateExpression?)] = []
    while token != .sign(")") {
      let name = try name()
      parameters.append((name, take("=") ? try expression() : nil))
      if !take(",") { break }
    }
    try expect(.sign(")"), "\")\"")
    return parameters
  }

  // MARK: Expressions, from the loosest to the tightest

  /// One expression, or several with commas as a list.
  private mutating func tuple() throws(TemplateError) -> TemplateExpression {
    let first = try expression()
    guard token == .sign(",") else { return first }
    var items = [first]
    while take(",") {
      if token == .closeOutput || token == .closeBlock || token == .sign(")") { break }
      items.append(try expression())
    }
    return .list(items)
  }

  private mutating func expression() throws(TemplateError) -> TemplateExpression {
    try deeper()
    defer { depth -= 1 }
    var value = try disjunction()
    while takeName("if") {
      let condition = try disjunction()
      let otherwise = takeName("else") ? try expression() : nil
      value = .conditional(condition, then: value, otherwise: otherwise)
    }
    return value
  }

  private mutating func disjunction() throws(TemplateError) -> TemplateExpression {
    var value = try conjunction()
    while takeName("or") { value = .or(value, try conjunction()) }
    return value
  }

  private mutating func conjunction() throws(TemplateError) -> TemplateExpression {
    var value = try negation()
    while takeName("and") { value = .and(value, try negation()) }
    return value
  }

  private mutating func negation() throws(TemplateError) -> TemplateExpression {
    guard takeName("not") else { return try comparison() }
    try deeper()
    defer { depth -= 1 }
    return .not(try negation())
  }

  private mutating func comparison() throws(TemplateError) -> TemplateExpression {
    let value = try sum()
    var chain: [(String, TemplateExpression)] = []
    while true {
      if case .sign(let sign) = token, ["==", "!=", "<", "<=", ">", ">="].contains(sign) {
        advance()
        chain.append((sign, try sum()))
      } else if takeName("in") {
        chain.append(("in", try sum()))
      } else if token == .name("not"), tokens[min(index + 1, tokens.count - 1)] == .name("in") {
        advance()
        advance()
        chain.append(("not in", try sum()))
      } else {
        return chain.isEmpty ? value : .comparison(value, chain)
      }
    }
  }

  private mutating func sum() throws(TemplateError) -> TemplateExpression {
    var value = try concatenation()
    while case .sign(let sign) = token, sign == "+" || sign == "-" {
      advance()
      value = .binary(sign, value, try concatenation())
    }
    return value
  }

  private mutating func concatenation() throws(TemplateError) -> TemplateExpression {
    var value = try product()
    while take("~") { value = .binary("~", value, try product()) }
    return value
  }

  private mutating func product() throws(TemplateError) -> TemplateExpression {
    var value = try unary()
    while case .sign(let sign) = token, ["*", "/", "//", "%"].contains(sign) {
      advance()
      value = .binary(sign, value, try unary())
    }
    return value
  }

  private mutating func unary(withFilters: Bool = true) throws(TemplateError) -> TemplateExpression
  {
    try deeper()
    defer { depth -= 1 }
    var value: TemplateExpression
    if take("-") {
      value = .sign("-", try unary(withFilters: false))
    } else if take("+") {
      value = .sign("+", try unary(withFilters: false))
    } else {
      value = try postfix(try primary())
      if take("**") { value = .binary("**", value, try unary()) }
    }
    return withFilters ? try filtersAndTests(value) : value
  }

  private mutating func filtersAndTests(
    _ start: TemplateExpression
  ) throws(TemplateError) -> TemplateExpression {
    var value = start
    while true {
      if take("|") {
        let (name, arguments) = try filter()
        value = .filter(value, name, arguments)
      } else if takeName("is") {
        let isNegated = takeName("not")
        var name = try self.name()
        if name == "not" { name = try self.name() }
        var arguments: [TemplateExpression] = []
        if token == .sign("(") {
          arguments = try self.arguments().map(\.value)
        } else if startsTestArgument {
          arguments = [try postfix(try primary())]
        }
        let test = TemplateExpression.test(value, name, arguments)
        value = isNegated ? .not(test) : test
      } else {
        return value
      }
    }
  }

  /// A test's one argument may stand without brackets.
  private var startsTestArgument: Bool {
    switch token {
    case .string, .integer, .number: true
    case .name(let name):
      !["and", "or", "else", "if", "is", "in", "not", "recursive"].contains(name)
    case .sign(let sign): sign == "[" || sign == "{"
    default: false
    }
  }

  private mutating func filter() throws(TemplateError) -> (String, [TemplateArgument]) {
    var name = try name()
    while take(".") { name += "." + (try self.name()) }
    return (name, token == .sign("(") ? try arguments() : [])
  }

  private mutating func arguments() throws(TemplateError) -> [TemplateArgument] {
    try expect(.sign("("), "\"(\"")
    var arguments: [TemplateArgument] = []
    while token != .sign(")") {
      if case .name(let name) = token, tokens[min(index + 1, tokens.count - 1)] == .sign("=") {
        advance()
        advance()
        arguments.append(TemplateArgument(name: name, value: try expression()))
      } else {
        arguments.append(TemplateArgument(name: nil, value: try expression()))
      }
      if !take(",") { break }
    }
    try expect(.sign(")"), "\")\"")
    return arguments
  }

  private mutating func postfix(
    _ start: TemplateExpression
  ) throws(TemplateError) -> TemplateExpression {
    var value = start
    while true {
      if take(".") {
        if case .integer(let number) = token {
          advance()
          value = .item(value, .constant(.integer(number)))
        } else {
          value = .member(value, try name())
        }
      } else if take("[") {
        value = try subscripted(value)
      } else if token == .sign("(") {
        value = .call(value, try arguments())
      } else {
        return value
      }
    }
  }

  private mutating func subscripted(
    _ value: TemplateExpression
  ) throws(TemplateError) -> TemplateExpression {
    var parts: [TemplateExpression?] = [nil]
    while token != .sign("]") {
      if take(":") { parts.append(nil) } else { parts[parts.count - 1] = try expression() }
      guard parts.count <= 3, token != .end else { throw .syntax("\"]\" is missing") }
    }
    advance()
    if parts.count == 1, let key = parts[0] { return .item(value, key) }
    guard parts.count > 1 else { throw .syntax("[] needs a key") }
    return .slice(value, parts[0], parts[1], parts.count > 2 ? parts[2] : nil)
  }

  private mutating func primary() throws(TemplateError) -> TemplateExpression {
    switch token {
    case .string(var text):
      advance()
      // Neighbouring texts are one.
      while case .string(let more) = token {
        text += more
        advance()
      }
      return .constant(.text(TemplateText(text)))
    case .integer(let value):
      advance()
      return .constant(.integer(value))
    case .number(let value):
      advance()
      return .constant(.number(value))
    case .name(let name):
      advance()
      switch name {
      case "true", "True": return .constant(.flag(true))
      case "false", "False": return .constant(.flag(false))
      case "none", "None": return .constant(.null)
      default: return .name(name)
      }
    case .sign("("):
      advance()
      if take(")") { return .list([]) }
      let value = try tuple()
      try expect(.sign(")"), "\")\"")
      return value
    case .sign("["):
      advance()
      var items: [TemplateExpression] = []
      while token != .sign("]") {
        items.append(try expression())
        if !take(",") { break }
      }
      try expect(.sign("]"), "\"]\"")
      return .list(items)
    case .sign("{"):
      advance()
      var members: [(TemplateExpression, TemplateExpression)] = []
      while token != .sign("}") {
        let key = try expression()
        try expect(.sign(":"), "\":\"")
        members.append((key, try expression()))
        if !take(",") { break }
      }
      try expect(.sign("}"), "\"}\"")
      return .object(members)
    default: throw .syntax("a value is expected, not \(describe(token))")
    }
  }
}
