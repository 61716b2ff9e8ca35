// SPDX-License-Identifier: Apache-2.0

/// Finds the nodes that lead to the end of their rule.
struct GrammarReach {
  private let nodes: [GrammarNode]
  private let starts: [Node]
  /// The nodes whose answer depends on a node's.
  private var dependents: [[Node]]

  init(_ nodes: [GrammarNode], starts: [Node]) {
    self.nodes = nodes
    self.starts = starts
    dependents = [[Node]](repeating: [], count: nodes.count)
    for (index, node) in nodes.enumerated() {
      for other in Self.needs(node, starts) { dependents[Int(other)].append(Node(index)) }
    }
  }

  /// With `acrossBytes`, whether there is any text; without, whether the empty text is one.
  func nodesThatEnd(acrossBytes: Bool) -> [Bool] {
    var result = [Bool](repeating: false, count: nodes.count)
    result[Int(GrammarBuilder.end)] = true
    result[Int(GrammarBuilder.accept)] = true
    var waiting = dependents[Int(GrammarBuilder.end)]
    while let index = waiting.popLast() {
      guard !result[Int(index)], ends(nodes[Int(index)], result, acrossBytes) else { continue }
      result[Int(index)] = true
      waiting += dependents[Int(index)]
    }
    return result
  }

  private func ends(_ node: GrammarNode, _ known: [Bool], _ acrossBytes: Bool) -> Bool {
    switch node {
    case .end, .accept: true
    case .dead: false
    case .bytes(_, let next): acrossBytes && known[Int(next)]
    case .split(let first, let second): known[Int(first)] || known[Int(second)]
    case .call(let rule, let next): known[Int(starts[Int(rule)])] && known[Int(next)]
    }
  }

  private static func needs(_ node: GrammarNode, _ starts: [Node]) -> [Node] {
    switch node {
    case .end, .accept, .dead: []
    case .bytes(_, let next): [next]
    case .split(let first, let second): [first, second]
    case .call(let rule, let next): [starts[Int(rule)], next]
    }
  }
}

/// Orders rules so that each starts only with rules behind it.
struct RuleOrder {
  /// The rules that are in order; all of them, unless some start with themselves.
  private(set) var rules: [Int32] = []
  /// A rule that starts with itself, directly or by way of others.
  private(set) var looping: Int32?

  /// `leads[r]` are the rules that `r` may start with.
  init(_ leads: [[Int32]]) {
    var counts = [Int](repeating: 0, count: leads.count)
    for rule in leads.joined() { counts[Int(rule)] += 1 }
    var waiting = leads.indices.filter { counts[$0] == 0 }.map { Int32($0) }
    while let rule = waiting.popLast() {
      rules.append(rule)
      for next in leads[Int(rule)] {
        counts[Int(next)] -= 1
        if counts[Int(next)] == 0 { waiting.append(next) }
      }
    }
    looping = Self.looping(leads, counts)
  }

  private static func looping(_ leads: [[Int32]], _ counts: [Int]) -> Int32? {
    guard var rule = counts.firstIndex(where: { $0 > 0 }) else { return nil }
    // Each rule left over starts another one that is: going backwards ends in a loop.
    var before: [Int: Int] = [:]
    for index in leads.indices where counts[index] > 0 {
      for next in leads[index] { before[Int(next)] = index }
    }
    for _ in leads { rule = before[rule] ?? rule }
    return Int32(rule)
  }
}
