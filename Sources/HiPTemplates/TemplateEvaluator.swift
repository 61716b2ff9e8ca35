// SPDX-License-Identifier: Apache-2.0

/// Evaluates a template's statements: changes nothing but its own scopes.
struct TemplateEvaluator {
  let clock: TemplateClock
  private var scopes: [Scope] = []
  private var current = 0
  private var output = TemplateText()
  private var macros: [(macro: TemplateMacro, scope: Int)] = []
  private var namespaces: [[(key: String, value: TemplateValue)]] = []
  private var steps = 0
  private var depth = 0

  /// Far more than a template of a long conversation takes.
  private static let deepest = 200

  private struct Scope {
    var variables: [String: TemplateValue] = [:]
    let parent: Int?
  }

  /// How statements ended.
  private enum Flow { case through, stop, skip }

  /// Bounds, for templates that are given so many characters: each of them is touched some times.
  private let mostSteps, mostWeight, mostOutput: Int

  init(clock: TemplateClock, given: Int) {
    self.clock = clock
    mostSteps = 5_000_000 + 4 * given
    mostWeight = (1 << 18) + given
    mostOutput = 4 * mostWeight
  }

  mutating func render(
    _ statements: [TemplateStatement], _ variables: [(key: String, value: TemplateValue)]
  ) throws(TemplateError) -> TemplateText {
    var globals = Scope(parent: nil)
    for function in TemplateValue.Function.allCases {
      globals.variables[function.rawValue] = .function(function)
    }
    for variable in variables { globals.variables[variable.key] = variable.value }
    scopes = [globals, Scope(parent: 0)]
    current = 1
    let result = TemplateText.$most.withValue(4 * mostWeight + 64) {
      () -> Result<Flow, TemplateError> in
      do throws(TemplateError) {
        return .success(try run(statements))
      } catch {
        return .failure(error)
      }
    }
    _ = try result.get()
    return output
  }

  private mutating func step(_ count: Int = 1) throws(TemplateError) {
    steps += count
    guard steps <= mostSteps else {
      throw TemplateError(.limit, "the template takes more than \(mostSteps) steps")
    }
  }

  private mutating func emit(_ text: TemplateText) throws(TemplateError) {
    guard output.count + text.count <= mostOutput else {
      throw TemplateError(.limit, "the template writes more than \(mostOutput) characters")
    }
    output.append(text)
  }

  private mutating func deeper() throws(TemplateError) {
    depth += 1
    guard depth <= Self.deepest else {
      throw TemplateError(.limit, "the template calls itself too deeply")
    }
  }

  /// Counts the work that a value makes, and throws where it has grown beyond what templates need: one that
  /// doubles would soon fill the memory.
  private mutating func bounded(_ value: TemplateValue) throws(TemplateError) -> TemplateValue {
    let weight = value.weight(atMost: mostWeight)
    guard weight <= mostWeight else {
      throw TemplateError(
        .limit, "a value of the template grows too large, or is nested too deeply")
    }
    try step(weight / 4)
    return value
  }

  // MARK: Scopes

  private func lookUp(_ name: String) -> TemplateValue {
    var scope: Int? = current
    while let index = scope {
      if let value = scopes[index].variables[name] { return value }
      scope = scopes[index].parent
    }
    return .undefined(name)
  }

  private mutating func inScope(
    of parent: Int, _ variables: [String: TemplateValue],
    _ body: (inout TemplateEvaluator) throws(TemplateError) -> Flow
  ) throws(TemplateError) -> Flow {
    let before = current
    let own = scopes.count
    scopes.append(Scope(variables: variables, parent: parent))
    current = own
    defer {
      current = before
      // A macro that was defined there may still look things up in it.
      if scopes.count == own + 1, !macros.contains(where: { $0.scope == own }) {
        scopes.removeLast()
      }
    }
    return try body(&self)
  }

  /// What statements write.
  private mutating func captured(
    _ body: (inout TemplateEvaluator) throws(TemplateError) -> Flow
  ) throws(TemplateError) -> TemplateText {
    let before = output
    output = TemplateText()
    _ = try body(&self)
    defer { output = before }
    return output
  }

  // MARK: Statements

  private mutating func run(_ statements: [TemplateStatement]) throws(TemplateError) -> Flow {
    for statement in statements {
      try step()
      let flow = try run(statement)
      if flow != .through { return flow }
    }
    return .through
  }

  private mutating func run(_ statement: TemplateStatement) throws(TemplateError) -> Flow {
    switch statement {
    case .text(let text): try emit(text)
    case .output(let expression): try emit(try value(expression).printed())
    case .branch(let branches, let otherwise):
      for (condition, body) in branches where try value(condition).isTrue { return try run(body) }
      return try run(otherwise)
    case .loop(let loop): try run(loop)
    case .set(let targets, let expression):
      for (target, value) in try taken(apart: value(expression), targets) {
        scopes[current].variables[target] = value
      }
    case .setMember(let name, let member, let expression):
      guard case .namespace(let index) = lookUp(name) else {
        throw .runtime("\(name) is no namespace, so its member \(member) cannot be set")
      }
      let value = try value(expression)
      if let place = namespaces[index].firstIndex(where: { $0.key == member }) {
        namespaces[index][place].value = value
      } else {
        namespaces[index].append((member, value))
      }
    case .setBlock(let name, let filters, let body):
      let text = try captured { evaluator throws(TemplateError) in
        try evaluator.inScope(of: evaluator.current, [:]) { inner throws(TemplateError) in
          try inner.run(body)
        }
      }
      scopes[current].variables[name] = try filtered(.text(text), filters)
    case .macro(let macro):
      macros.append((macro, current))
      scopes[current].variables[macro.name] = .macro(macros.count - 1)
    case .callBlock(let callee, let caller):
      macros.append((caller, current))
      guard case .call(let target, let arguments) = callee else {
        throw .runtime("{% call %} needs a call")
      }
      let result = try call(target, arguments, caller: .macro(macros.count - 1))
      try emit(result.printed())
    case .filterBlock(let filters, let body):
      let text = try captured { evaluator throws(TemplateError) in try evaluator.run(body) }
      try emit(try filtered(.text(text), filters).printed())
    case .with(let variables, let body):
      var values: [String: TemplateValue] = [:]
      for (name, expression) in variables { values[name] = try value(expression) }
      return try inScope(of: current, values) { inner throws(TemplateError) in try inner.run(body) }
    case .stop: return .stop
    case .skip: return .skip
    }
    return .through
  }

  private func taken(
    apart value: TemplateValue, _ targets: [String]
  ) throws(TemplateError) -> [(String, TemplateValue)] {
    guard targets.count > 1 else { return [(targets[0], value)] }
    guard case .list(let parts) = value, parts.count == targets.count else {
      throw .runtime("\(value.kind) cannot be taken apart into \(targets.count) names")
    }
    return Array(zip(targets, parts))
  }

  private mutating func run(_ loop: TemplateLoop) throws(TemplateError) {
    var items: [TemplateValue] = []
    for item in try Self.items(of: value(loop.source)) {
      try step()
      if let condition = loop.condition {
        var variables: [String: TemplateValue] = [:]
        for (name, value) in try taken(apart: item, loop.targets) { variables[name] = value }
        var isKept = false
        _ = try inScope(of: current, variables) { inner throws(TemplateError) in
          isKept = try inner.value(condition).isTrue
          return .through
        }
        guard isKept else { continue }
      }
      items.append(item)
    }
    guard !items.isEmpty else {
      _ = try run(loop.otherwise)
      return
    }
    for (index, item) in items.enumerated() {
      try step()
      var variables: [String: TemplateValue] = [:]
      for (name, value) in try taken(apart: item, loop.targets) { variables[name] = value }
      let last = items.count - 1
      variables["loop"] = .object([
        ("index", .integer(index + 1)), ("index0", .integer(index)), ("first", .flag(index == 0)),
        ("last", .flag(index == last)), ("length", .integer(items.count)),
        ("revindex", .integer(items.count - index)), ("revindex0", .integer(last - index)),
        ("depth", .integer(1)), ("depth0", .integer(0)),
        ("previtem", index > 0 ? items[index - 1] : .undefined("loop.previtem")),
        ("nextitem", index < last ? items[index + 1] : .undefined("loop.nextitem")),
      ])
      let flow = try inScope(of: current, variables) { inner throws(TemplateError) in
        try inner.run(loop.body)
      }
      if flow == .stop { return }
    }
  }

  /// What a loop goes through.
  static func items(of value: TemplateValue) throws(TemplateError) -> [TemplateValue] {
    switch value {
    case .list(let list): return list
    case .object(let members): return members.map { .text(TemplateText($0.key, isData: true)) }
    case .text(let text):
      try TemplateText.permit(text.count)
      return (0..<text.count).map { .text(text[$0..<$0 + 1]) }
    case .undefined: return []
    default: throw .runtime("\(value.kind) cannot be looped over")
    }
  }

  // MARK: Expressions

  mutating func value(_ expression: TemplateExpression) throws(TemplateError) -> TemplateValue {
    try step()
    try deeper()
    defer { depth -= 1 }
    let value = try evaluated(expression)
    switch expression {
    case .list, .object, .slice, .call, .filter, .binary: return try bounded(value)
    default: return value
    }
  }

  private mutating func evaluated(
    _ expression: TemplateExpression
  ) throws(TemplateError) -> TemplateValue {
    switch expression {
    case .constant(let value): return value
    case .name(let name): return lookUp(name)
    case .list(let items):
      var list: [TemplateValue] = []
      for item in items { list.append(try value(item)) }
      return .list(list)
    case .object(let members):
      var object: [(key: String, value: TemplateValue)] = []
      for (key, member) in members {
        let name = try value(key).printed().string
        let value = try value(member)
        if let place = object.firstIndex(where: { $0.key == name }) {
          object[place].value = value
        } else {
          object.append((name, value))
        }
      }
      return .object(object)
    // A call sees the evaluator as it was before its arguments: those come first where they may change it.
    case .member(let base, let name):
      let object = try value(base)
      return try member(name, of: object)
    case .item(let base, let key):
      let (object, place) = (try value(base), try value(key))
      return try item(place, of: object)
    case .slice(let base, let start, let stop, let stride):
      var bounds: [Int?] = []
      for bound in [start, stop, stride] {
        guard let bound else {
          bounds.append(nil)
          continue
        }
        let value = try value(bound)
        if case .null = value {
          bounds.append(nil)
        } else if let integer = value.asInteger {
          bounds.append(integer)
        } else {
          throw .runtime("\(value.kind) is no place in a list")
        }
      }
      let whole = try value(base)
      return try slice(whole, bounds)
    case .call(let target, let arguments): return try call(target, arguments, caller: nil)
    case .filter(let base, let name, let arguments):
      return try filtered(value(base), [(name, arguments)])
    case .test(let base, let name, let arguments):
      var values: [TemplateValue] = []
      for argument in arguments { values.append(try value(argument)) }
      return .flag(try TemplateTests.holds(name, bounded(value(base)), values))
    case .not(let operand): return .flag(!(try value(operand).isTrue))
    case .and(let left, let right):
      let first = try value(left)
      return first.isTrue ? try value(right) : first
    case .or(let left, let right):
      let first = try value(left)
      return first.isTrue ? first : try value(right)
    case .sign(let sign, let operand): return try TemplateArithmetic.signed(sign, value(operand))
    case .binary(let sign, let left, let right):
      let (a, b) = (try value(left), try value(right))
      return try TemplateArithmetic.binary(sign, a, b)
    case .comparison(let first, let chain):
      var left = try bounded(value(first))
      for (sign, operand) in chain {
        let right = try bounded(value(operand))
        guard try TemplateArithmetic.compares(sign, left, right) else { return .flag(false) }
        left = right
      }
      return .flag(true)
    case .conditional(let condition, let then, let otherwise):
      if try value(condition).isTrue { return try value(then) }
      return try otherwise.map { expression throws(TemplateError) in try value(expression) }
        ?? .undefined("the value of an if without else")
    }
  }

  private func member(_ name: String, of value: TemplateValue) throws(TemplateError)
    -> TemplateValue
  {
    switch value {
    case .undefined(let what): throw .undefined("\(what) is undefined and has no member \(name)")
    case .object(let members):
      return members.first { $0.key == name }?.value ?? .undefined(name)
    case .namespace(let index):
      return namespaces[index].first { $0.key == name }?.value ?? .undefined(name)
    default: return .undefined(name)
    }
  }

  private func item(
    _ key: TemplateValue, of value: TemplateValue
  ) throws(TemplateError) -> TemplateValue {
    switch (value, key) {
    case (.undefined(let what), _): throw .undefined("\(what) is undefined and has no elements")
    case (.list(let list), _):
      guard let index = key.asInteger else { return .undefined("an element") }
      let place = index < 0 ? list.count + index : index
      return list.indices.contains(place) ? list[place] : .undefined("element \(index)")
    case (.text(let text), _):
      guard let index = key.asInteger else { return .undefined("a character") }
      let place = index < 0 ? text.count + index : index
      return (0..<text.count).contains(place)
        ? .text(text[place..<place + 1]) : .undefined("character \(index)")
    case (.object, .text(let name)), (.namespace, .text(let name)):
      return try member(name.string, of: value)
    default: return .undefined("an element")
    }
  }

  private func slice(
    _ value: TemplateValue, _ bounds: [Int?]
  ) throws(TemplateError) -> TemplateValue {
    let count: Int
    switch value {
    case .list(let list): count = list.count
    case .text(let text): count = text.count
    case .undefined(let what): throw .undefined("\(what) is undefined and has no elements")
    default: throw .runtime("\(value.kind) has no elements")
    }
    let stride = bounds[2] ?? 1
    guard stride != 0 else { throw .runtime("a slice's step is 0") }
    func place(_ bound: Int?, _ fallback: Int) -> Int {
      guard let bound else { return fallback }
      let (low, high) = stride > 0 ? (0, count) : (-1, count - 1)
      return min(max(bound < 0 ? max(bound, -count - 1) + count : bound, low), high)
    }
    let start = place(bounds[0], stride > 0 ? 0 : count - 1)
    let stop = place(bounds[1], stride > 0 ? count : -1)
    let places = Array(
      Swift.stride(from: start, to: stop, by: min(max(stride, -count - 1), count + 1)))
    switch value {
    case .list(let list): return .list(places.map { list[$0] })
    case .text(let text):
      return .text(
        TemplateText(
          scalars: places.map { text.scalars[$0] }, isData: places.map { text.isData[$0] }))
    default: return value
    }
  }

  // MARK: Calls

  private mutating func values(
    of arguments: [TemplateArgument]
  ) throws(TemplateError) -> TemplateArguments {
    var result = TemplateArguments()
    for argument in arguments {
      let value = try value(argument.value)
      if let name = argument.name {
        result.named.append((name, value))
      } else {
        result.placed.append(value)
      }
    }
    return result
  }

  private mutating func call(
    _ target: TemplateExpression, _ arguments: [TemplateArgument], caller: TemplateValue?
  ) throws(TemplateError) -> TemplateValue {
    if case .member(let base, let name) = target {
      let object = try value(base)
      let given = try values(of: arguments)
      if case .undefined = object {
      } else if case .macro(let index) = try member(name, of: object) {
        return try call(macro: index, given, caller: caller)
      }
      return try TemplateMethods.call(name, on: object, given)
    }
    let callee = try value(target)
    let given = try values(of: arguments)
    switch callee {
    case .macro(let index): return try call(macro: index, given, caller: caller)
    case .function(let function): return try call(function, given)
    case .undefined(let name): throw .undefined("\(name) is undefined and cannot be called")
    default: throw .runtime("\(callee.kind) cannot be called")
    }
  }

  private mutating func call(
    macro index: Int, _ given: TemplateArguments, caller: TemplateValue?
  ) throws(TemplateError) -> TemplateValue {
    let (macro, scope) = macros[index]
    guard given.placed.count <= macro.parameters.count else {
      throw .runtime(
        "\(macro.name) takes \(macro.parameters.count) values, not \(given.placed.count)")
    }
    try deeper()
    defer { depth -= 1 }
    let text = try captured { evaluator throws(TemplateError) in
      try evaluator.inScope(of: scope, [:]) { inner throws(TemplateError) in
        for (place, parameter) in macro.parameters.enumerated() {
          let value: TemplateValue
          if place < given.placed.count {
            value = given.placed[place]
          } else if let named = given[parameter.name] {
            value = named
          } else if let fallback = parameter.fallback {
            value = try inner.value(fallback)
          } else {
            value = .undefined(parameter.name)
          }
          inner.scopes[inner.current].variables[parameter.name] = value
        }
        if let caller { inner.scopes[inner.current].variables["caller"] = caller }
        return try inner.run(macro.body)
      }
    }
    return .text(text)
  }

  private mutating func call(
    _ function: TemplateValue.Function, _ given: TemplateArguments
  ) throws(TemplateError) -> TemplateValue {
    switch function {
    case .raiseException:
      throw TemplateError(.raised, given.placed.first?.printed().string ?? "")
    case .strftimeNow:
      return .text(TemplateText(clock.formatted(given.placed.first?.printed().string ?? "")))
    case .namespace:
      namespaces.append(given.named)
      if case .object(let members)? = given.placed.first {
        namespaces[namespaces.count - 1] = members + given.named
      }
      return .namespace(namespaces.count - 1)
    case .dict:
      if case .object(let members)? = given.placed.first { return .object(members + given.named) }
      return .object(given.named)
    case .range:
      let bounds = given.placed.compactMap(\.asInteger)
      guard bounds.count == given.placed.count, (1...3).contains(bounds.count),
        bounds.count < 3 || bounds[2] != 0
      else { throw .runtime("range takes one to three integers") }
      let (start, stop) = bounds.count == 1 ? (0, bounds[0]) : (bounds[0], bounds[1])
      let numbers = stride(from: start, to: stop, by: bounds.count == 3 ? bounds[2] : 1)
      var list: [TemplateValue] = []
      for number in numbers {
        try step()
        list.append(.integer(number))
        try TemplateText.permit(list.count)
      }
      return .list(list)
    }
  }

  private mutating func filtered(
    _ value: TemplateValue, _ filters: [(String, [TemplateArgument])]
  ) throws(TemplateError) -> TemplateValue {
    var value = value
    for (name, arguments) in filters {
      let given = try values(of: arguments)
      value = try TemplateFilters.apply(name, to: bounded(value), given)
    }
    return try bounded(value)
  }
}

/// What a call is given.
struct TemplateArguments {
  var placed: [TemplateValue] = []
  var named: [(key: String, value: TemplateValue)] = []

  subscript(name: String) -> TemplateValue? { named.first { $0.key == name }?.value }

  /// The argument at a place, or of a name.
  func value(_ place: Int, _ name: String) -> TemplateValue? {
    place < placed.count ? placed[place] : self[name]
  }

  func text(_ place: Int, _ name: String) -> TemplateText? {
    if case .text(let text)? = value(place, name) { text } else { nil }
  }
}
