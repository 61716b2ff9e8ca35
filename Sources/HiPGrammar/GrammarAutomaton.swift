// SPDX-License-Identifier: Apache-2.0

/// A finished grammar: nodes that all lead to an end, and an order of its rules.
struct GrammarAutomaton: Sendable {
  let nodes: [GrammarNode]
  let sets: [ByteSet]
  let classes: ByteClasses
  let root: Int32
  let rules: [GrammarRule]
  /// Rules that may match nothing.
  let isNullable: [Bool]
  /// A rule starts only with rules of higher rank.
  private(set) var ranks: [Int32]
  let order: RuleOrder

  /// Checks that there is a text, and that no rule starts with itself.
  init(_ builder: GrammarBuilder, root: Int32) throws(GrammarError) {
    self.init(unchecked: builder, root: root)
    if let looping = order.looping {
      throw GrammarError(
        .unsatisfiable, at: rules[Int(looping)].path,
        "it refers to itself before any text; put the reference into an object or an array")
    }
    guard nodes[Int(start(of: root))] == .dead else { return }
    let endless = rules.first { nodes[Int($0.start)] == .dead && $0.path != "#" }
    throw GrammarError(
      .unsatisfiable, at: endless?.path ?? "#",
      "no finite text satisfies it; make a member optional, or give the recursion an end")
  }

  /// Leaves out the checks, for grammars that pass them by design.
  init(unchecked builder: GrammarBuilder, root: Int32) {
    self.root = root
    rules = builder.rules
    sets = builder.sets
    classes = ByteClasses(builder.sets)
    let starts = builder.rules.map(\.start)
    let reach = GrammarReach(builder.nodes, starts: starts)
    let isAlive = reach.nodesThatEnd(acrossBytes: true)
    let isEmpty = reach.nodesThatEnd(acrossBytes: false)
    let isNullable = starts.map { isEmpty[Int($0)] }
    nodes = builder.nodes.indices.map { isAlive[$0] ? builder.nodes[$0] : .dead }
    self.isNullable = isNullable
    order = RuleOrder(
      starts.map { Self.leads(from: $0, in: builder.nodes, isNullable: isNullable) })
    ranks = [Int32](repeating: -1, count: starts.count)
    for (rank, rule) in order.rules.enumerated() { ranks[Int(rule)] = Int32(rank) }
  }

  func start(of rule: Int32) -> Node { rules[Int(rule)].start }

  /// The rules that may start at a node, before any byte.
  private static func leads(from start: Node, in nodes: [GrammarNode], isNullable: [Bool])
    -> [Int32]
  {
    var seen: Set<Node> = []
    var waiting = [start]
    var result: Set<Int32> = []
    while let node = waiting.popLast() {
      guard seen.insert(node).inserted else { continue }
      switch nodes[Int(node)] {
      case .end, .accept, .dead, .bytes: break
      case .split(let first, let second): waiting += [first, second]
      case .call(let rule, let next):
        result.insert(rule)
        if isNullable[Int(rule)] { waiting.append(next) }
      }
    }
    return result.sorted()
  }
}
