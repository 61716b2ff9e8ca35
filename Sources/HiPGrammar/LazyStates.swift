// SPDX-License-Identifier: Apache-2.0

/// A node and what follows the rule that it stands in; as one number, so that sets of them
/// compare fast.
struct Position: Hashable, Comparable, Sendable {
  let bits: UInt64

  init(_ node: Node, _ frame: Int32) {
    bits = UInt64(UInt32(bitPattern: node)) << 32 | UInt64(UInt32(bitPattern: frame))
  }

  var node: Node { Node(truncatingIfNeeded: bits >> 32) }
  var frame: Int32 { Int32(truncatingIfNeeded: bits) }

  static func < (first: Position, second: Position) -> Bool { first.bits < second.bits }
}

/// Sets of positions, each stored once and known by its number.
struct PositionSets: Sendable {
  private(set) var sets: [[Position]] = []
  /// How many positions all sets hold.
  private(set) var total = 0
  private var index: [[Position]: Int32] = [:]

  var count: Int { sets.count }

  subscript(number: Int32) -> [Position] { sets[Int(number)] }

  /// The number of a set in order; new ones get the next number.
  mutating func number(of set: [Position]) -> Int32 {
    if let known = index[set] { return known }
    sets.append(set)
    total += set.count
    index[set] = Int32(sets.count - 1)
    return Int32(sets.count - 1)
  }
}

/// The states of a grammar, made when they are first reached.
///
/// A state is a set of positions that wait for a byte. A frame is a set too: the positions behind
/// the calls that lead into a rule at one place of the text. Calls that share place and rule
/// share their frame, so ambiguous grammars cost what their nodes do, and not what their readings
/// are.
struct LazyStates: Sendable {
  /// No byte leads on.
  static let dead: Int32 = -1
  private static let unknown: Int32 = -2
  /// Bounds one state; a schema with thousands of alternatives that all begin alike may reach it.
  private static let positionLimit = 50_000
  private static let totalLimit = 8_000_000
  private static let tableByteLimit = 256 << 20

  private let automaton: GrammarAutomaton
  private let classCount: Int
  private let stateLimit: Int
  private var states = PositionSets()
  private var frames = PositionSets()
  /// By state and class of bytes.
  private var table: [Int32] = []

  init(_ automaton: GrammarAutomaton, stateLimit: Int) {
    self.automaton = automaton
    classCount = automaton.classes.representatives.count
    self.stateLimit = min(stateLimit, Self.tableByteLimit / (4 * classCount))
    let bottom = frames.number(of: [Position(GrammarBuilder.accept, 0)])
    var closure = Closure()
    enter(automaton.root, from: frames[bottom], &closure)
    _ = add(finish(&closure))
  }

  var start: Int32 { 0 }

  func contains(_ state: Int32) -> Bool { state >= 0 && Int(state) < states.count }

  private static let acceptance = Position(GrammarBuilder.accept, 0)

  func isAccepting(_ state: Int32) -> Bool { states[state].first == Self.acceptance }

  func isComplete(_ state: Int32) -> Bool { states[state] == [Self.acceptance] }

  /// The state behind a byte, or `dead`.
  mutating func step(_ state: Int32, _ byte: UInt8) -> Int32 {
    let byteClass = Int(automaton.classes.classOfByte[Int(byte)])
    let slot = Int(state) * classCount + byteClass
    let known = table[slot]
    if known != Self.unknown { return known }
    let next = move(state, automaton.classes.representatives[byteClass])
    table[slot] = next
    return next
  }

  private mutating func move(_ state: Int32, _ byte: UInt8) -> Int32 {
    var closure = Closure()
    for position in states[state] {
      guard case .bytes(let set, let next) = automaton.nodes[Int(position.node)],
        automaton.sets[Int(set)].contains(byte)
      else { continue }
      closure.waiting.append(Position(next, position.frame))
    }
    return add(finish(&closure))
  }

  private mutating func add(_ positions: [Position]) -> Int32 {
    // Limits are ends: the text cannot go on, though it may be complete where it is.
    guard !positions.isEmpty, states.total + frames.total < Self.totalLimit else {
      return Self.dead
    }
    let before = states.count
    guard before < stateLimit else { return Self.dead }
    let number = states.number(of: positions)
    if states.count > before {
      table.append(contentsOf: repeatElement(Self.unknown, count: classCount))
    }
    return number
  }
}

/// The work of following everything that takes no byte.
private struct Closure {
  var waiting: [Position] = []
  var seen: Set<Position> = []
  var result: [Position] = []
  /// The positions behind calls, by the rank of the rule called.
  private var calls: [Int32: Set<Position>] = [:]
  /// The ranks in `calls`, the smallest last.
  private var ranks: [Int32] = []

  mutating func call(_ rank: Int32, from callers: [Position]) {
    if calls[rank] == nil { ranks.insert(rank, at: placeOfRank(rank)) }
    calls[rank, default: []].formUnion(callers)
  }

  mutating func nextCall() -> (rank: Int32, callers: Set<Position>)? {
    guard let rank = ranks.popLast(), let callers = calls.removeValue(forKey: rank) else {
      return nil
    }
    return (rank, callers)
  }

  private func placeOfRank(_ rank: Int32) -> Int {
    var (low, high) = (0, ranks.count)
    while low < high {
      let middle = (low + high) / 2
      if ranks[middle] > rank { low = middle + 1 } else { high = middle }
    }
    return low
  }
}

extension LazyStates {
  /// Follows what waits, then the rules called, in an order in which all calls of a rule come
  /// first.
  private mutating func finish(_ closure: inout Closure) -> [Position] {
    follow(&closure, leavesRules: true)
    while let (rank, callers) = closure.nextCall() {
      guard closure.seen.count < Self.positionLimit else { return [] }
      let frame = frames.number(of: callers.sorted())
      let rule = automaton.order.rules[Int(rank)]
      closure.waiting.append(Position(automaton.start(of: rule), frame))
      // A rule that ends where it starts was skipped at its call.
      follow(&closure, leavesRules: false)
    }
    guard closure.seen.count < Self.positionLimit else { return [] }
    return closure.result.sorted()
  }

  private func follow(_ closure: inout Closure, leavesRules: Bool) {
    while let position = closure.waiting.popLast(), closure.seen.count < Self.positionLimit {
      guard closure.seen.insert(position).inserted else { continue }
      switch automaton.nodes[Int(position.node)] {
      case .dead: break
      case .accept, .bytes: closure.result.append(position)
      case .end: if leavesRules { closure.waiting += frames[position.frame] }
      case .split(let first, let second):
        closure.waiting.append(Position(first, position.frame))
        closure.waiting.append(Position(second, position.frame))
      case .call(let rule, let next):
        call(rule, from: Position(next, position.frame), &closure)
      }
    }
  }

  private func call(_ rule: Int32, from caller: Position, _ closure: inout Closure) {
    // A call at the end of a rule leads back to where that rule was called: frames do not pile up.
    let callers = caller.node == GrammarBuilder.end ? frames[caller.frame] : [caller]
    enter(rule, from: callers, &closure)
    if automaton.isNullable[Int(rule)] { closure.waiting.append(caller) }
  }

  private func enter(_ rule: Int32, from callers: [Position], _ closure: inout Closure) {
    closure.call(automaton.ranks[Int(rule)], from: callers)
  }
}
