// SPDX-License-Identifier: Apache-2.0

/// Executes a Go template's statements, within bounds of steps, output and depth.
struct GoEvaluator {
  private let templates: [String: [GoNode]]
  let functions: GoFunctions
  private(set) var output: GoWriter
  /// Values of variables by their places; the first is `$`.
  var variables: [TemplateValue] = []
  private var steps = 0
  var depth = 0
  private var calls = 0
  private let mostSteps: Int

  /// Deeper than templates nest or call each other.
  private static let deepest = 120
  private static let mostCalls = 100
  /// Deeper than the JSON reader lets values be.
  private static let deepestValue = 300

  /// How statements ended.
  private enum Flow { case through, stop, skip }

  /// An evaluator for data of so many characters: each of them is touched some times.
  init(_ template: GoTemplate, clock: TemplateClock, given: Int) {
    templates = template.templates
    let most = (1 << 20) + 4 * given
    functions = GoFunctions(clock: clock, most: most)
    output = GoWriter(most: 4 * most)
    mostSteps = 4_000_000 + 4 * given
  }

  /// Executes statements on data, behind what has been written.
  mutating func run(_ nodes: [GoNode], on data: TemplateValue) throws(TemplateError) {
    guard data.weight(atMost: 1 << 40, depth: Self.deepestValue) <= 1 << 40 else {
      throw TemplateError(.limit, "the data of a template is nested too deeply")
    }
    variables = [data]
    _ = try run(nodes, data)
  }

  mutating func step(_ count: Int = 1) throws(TemplateError) {
    steps += count
    guard steps <= mostSteps else {
      throw TemplateError(.limit, "the template takes more than \(mostSteps) steps")
    }
  }

  mutating func deeper() throws(TemplateError) {
    depth += 1
    guard depth <= Self.deepest else {
      throw TemplateError(.limit, "the template nests more than \(Self.deepest) deep")
    }
  }

  private mutating func set(_ place: Int, _ value: TemplateValue) {
    while variables.count <= place { variables.append(.absent) }
    variables[place] = value
  }

  // MARK: Statements

  private mutating func run(
    _ nodes: [GoNode], _ dot: TemplateValue
  ) throws(TemplateError) -> Flow {
    try deeper()
    defer { depth -= 1 }
    for node in nodes {
      try step()
      let flow = try run(node, dot)
      if flow != .through { return flow }
    }
    return .through
  }

  private mutating func run(_ node: GoNode, _ dot: TemplateValue) throws(TemplateError) -> Flow {
    switch node {
    case .text(let text): try output.write(text)
    case .action(let pipeline): try act(pipeline, dot)
    case .branch(let cases, let otherwise, let bindsDot):
      let (body, inner) = try chosen(cases, otherwise, bindsDot, dot)
      return try run(body, inner)
    case .range(let source, let body, let otherwise):
      return try loop(source, body, otherwise, dot)
    case .template(let name, let argument, let line):
      try call(name, try passed(argument, dot), line: line)
    case .stop: return .stop
    case .skip: return .skip
    }
    return .through
  }

  // Cases have functions of their own: those that call themselves shall take little of the stack.

  private mutating func act(
    _ pipeline: GoPipeline, _ dot: TemplateValue
  ) throws(TemplateError) {
    let value = try value(pipeline, dot)
    guard pipeline.targets.isEmpty else { return }
    do throws(TemplateError) {
      try output.print(value)
    } catch {
      throw error.at(line: pipeline.line)
    }
  }

  private mutating func passed(
    _ argument: GoPipeline?, _ dot: TemplateValue
  ) throws(TemplateError) -> TemplateValue {
    guard let argument else { return .absent }
    return try value(argument, dot)
  }

  /// The statements of the case that is true, and their dot.
  private mutating func chosen(
    _ cases: [GoCase], _ otherwise: [GoNode], _ bindsDot: Bool, _ dot: TemplateValue
  ) throws(TemplateError) -> ([GoNode], TemplateValue) {
    for branch in cases {
      let value = try value(branch.condition, dot)
      if value.isTrue { return (branch.body, bindsDot ? value : dot) }
    }
    return (otherwise, dot)
  }

  /// Executes a named template on a value, with variables of its own.
  private mutating func call(
    _ name: String, _ data: TemplateValue, line: Int
  ) throws(TemplateError) {
    guard let nodes = templates[name] else {
      throw TemplateError.runtime("template \"\(name)\" not defined").at(line: line)
    }
    guard calls < Self.mostCalls else {
      throw TemplateError(.limit, "templates call each other more than \(Self.mostCalls) deep")
        .at(line: line)
    }
    let outer = variables
    calls += 1
    variables = [data]
    defer {
      calls -= 1
      variables = outer
    }
    _ = try run(nodes, data)
  }

  private mutating func loop(
    _ source: GoPipeline, _ body: [GoNode], _ otherwise: [GoNode], _ dot: TemplateValue
  ) throws(TemplateError) -> Flow {
    let items = try items(source, dot)
    var count = 0
    while let value = try next(items, count, source.targets) {
      count += 1
      if try run(body, value) == .stop { return .through }
    }
    return count == 0 ? try run(otherwise, dot) : .through
  }

  /// What a loop goes through; members of an object by their names.
  private mutating func items(
    _ source: GoPipeline, _ dot: TemplateValue
  ) throws(TemplateError) -> TemplateValue {
    do throws(TemplateError) {
      let items = try evaluated(source, dot)
      try step(items.lookUpSteps)
      switch items {
      case .object(let members):
        return .object(
          members.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) })
      case .list, .integer, .undefined, .null: return items
      default: throw .runtime("range can't iterate over a \(items.goType)")
      }
    } catch {
      throw error.at(line: source.line)
    }
  }

  /// The item at a place, which the loop's variables take; nil behind the last.
  private mutating func next(
    _ items: TemplateValue, _ place: Int, _ targets: [Int]
  ) throws(TemplateError) -> TemplateValue? {
    try step()
    var key = TemplateValue.integer(place)
    let value: TemplateValue
    switch items {
    case .list(let list) where place < list.count: value = list[place]
    case .integer(let end) where place < end: value = key
    case .object(let members) where place < members.count:
      key = .text(TemplateText(members[place].key, isData: true))
      value = members[place].value
    default: return nil
    }
    if let last = targets.last { set(last, value) }
    if targets.count > 1 { set(targets[0], key) }
    return value
  }

  // MARK: Pipelines

  /// The value of a statement's pipeline, which its variables keep.
  private mutating func value(
    _ pipeline: GoPipeline, _ dot: TemplateValue
  ) throws(TemplateError) -> TemplateValue {
    do throws(TemplateError) {
      let value = try evaluated(pipeline, dot)
      for place in pipeline.targets { set(place, value) }
      return value
    } catch {
      throw error.at(line: pipeline.line)
    }
  }
}
