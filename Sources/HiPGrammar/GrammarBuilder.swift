// SPDX-License-Identifier: Apache-2.0

/// The number of a node of a grammar.
typealias Node = Int32

/// A step of a rule; equal steps are one node, so equal endings are stored once.
enum GrammarNode: Hashable, Sendable {
  /// The end of a rule: on to what follows its call.
  case end
  /// The end of the whole text.
  case accept
  /// No way on.
  case dead
  /// One byte of a set.
  case bytes(set: Int32, next: Node)
  /// Either of two.
  case split(Node, Node)
  /// All of a rule.
  case call(rule: Int32, next: Node)
}

/// A rule: where it starts, and the place of the schema that it stands for.
struct GrammarRule: Sendable {
  var start: Node
  let path: String
}

/// Builds a grammar from its end: each function takes the node that follows.
///
/// Beyond its limits it yields dead nodes and says so by `isFull`: callers that loop look at it.
final class GrammarBuilder {
  static let end: Node = 0
  static let accept: Node = 1
  static let dead: Node = 2
  static let nodeLimit = 200_000
  /// Bounds the time, where equal nodes keep the size small.
  static let workLimit = 2_000_000

  private(set) var nodes: [GrammarNode] = [.end, .accept, .dead]
  private(set) var sets: [ByteSet] = []
  private(set) var rules: [GrammarRule] = []
  /// The rules of JSON that this grammar uses so far.
  var named: [String: Int32] = [:]
  private var work = 0
  private var nodeIndex: [GrammarNode: Node] = [.end: end, .accept: accept, .dead: dead]
  private var setIndex: [ByteSet: Int32] = [:]

  var isFull: Bool { work > Self.workLimit || nodes.count >= Self.nodeLimit }

  func checkSize(at path: String) throws(GrammarError) {
    guard isFull else { return }
    throw GrammarError(
      .tooLarge, at: path,
      "the grammar grows beyond \(Self.nodeLimit) nodes; lower the bounds of lengths and counts")
  }

  private func node(_ node: GrammarNode) -> Node {
    work += 1
    if let known = nodeIndex[node] { return known }
    guard !isFull else { return Self.dead }
    nodes.append(node)
    nodeIndex[node] = Node(nodes.count - 1)
    return Node(nodes.count - 1)
  }

  func bytes(_ set: ByteSet, then next: Node) -> Node {
    if set.isEmpty || next == Self.dead { return Self.dead }
    let index = setIndex[set] ?? Int32(sets.count)
    if Int(index) == sets.count {
      sets.append(set)
      setIndex[set] = index
    }
    return node(.bytes(set: index, next: next))
  }

  func literal(_ bytes: some BidirectionalCollection<UInt8>, then next: Node) -> Node {
    bytes.reversed().reduce(next) { self.bytes(ByteSet($1), then: $0) }
  }

  func literal(_ text: String, then next: Node) -> Node { literal(text.utf8, then: next) }

  func split(_ options: [Node]) -> Node {
    var seen: Set<Node> = [Self.dead]
    let distinct = options.filter { seen.insert($0).inserted }
    guard var result = distinct.last else { return Self.dead }
    for option in distinct.dropLast().reversed() { result = node(.split(option, result)) }
    return result
  }

  func call(_ rule: Int32, then next: Node) -> Node { node(.call(rule: rule, next: next)) }

  /// A rule to define later, so that rules may call each other.
  func declare(path: String) -> Int32 {
    work += 1
    rules.append(GrammarRule(start: Self.dead, path: path))
    return Int32(rules.count - 1)
  }

  func define(_ rule: Int32, as start: Node) { rules[Int(rule)].start = start }

  /// Any number of bodies, then the exit.
  func loop(exit: Node, body: (Node) -> Node) -> Node {
    guard !isFull else { return Self.dead }
    nodes.append(.dead)
    let head = Node(nodes.count - 1)
    nodes[Int(head)] = .split(body(head), exit)
    return head
  }

  /// From `least` to `most` bodies (nil: without bound), then the exit.
  func repeated(_ least: Int, _ most: Int?, exit: Node, body: (Node) -> Node) -> Node {
    var result = most == nil ? loop(exit: exit, body: body) : exit
    var count = most ?? least
    while count > 0, !isFull {
      work += 1
      count -= 1
      result = count >= least ? split([body(result), exit]) : body(result)
    }
    return result
  }
}
