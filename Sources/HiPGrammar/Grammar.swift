// SPDX-License-Identifier: Apache-2.0

public import HiPJSON

/// A set of texts that generation is held to: JSON of a schema, alone or between fixed parts.
///
/// White space is bounded: one blank, or one line end and up to 20 blanks, behind `{ [ , :` and
/// before `} ]`. Numbers have at most 16 digits on each side of the point. So only texts without a
/// maximum length, arrays, objects and recursion can go on for ever.
public struct Grammar: Sendable {
  /// A piece of a text.
  public indirect enum Part: Sendable, Hashable {
    /// These characters.
    case literal(String)
    /// A JSON value that satisfies a schema.
    case schema(JSONValue)
    /// Any JSON object.
    case anyObject
    /// One of several sequences.
    case choice([[Part]])
    /// A sequence, or nothing.
    case optional([Part])
  }

  let automaton: GrammarAutomaton

  /// The JSON values that satisfy a schema.
  /// - Throws: `GrammarError` that names the keyword and its place, where one is not supported.
  public init(schema: JSONValue) throws(GrammarError) {
    try self.init([.schema(schema)])
  }

  /// The parts one after the other.
  /// - Throws: `GrammarError` as for a schema; paths are those within the schema at fault.
  public init(_ parts: [Part]) throws(GrammarError) {
    let builder = GrammarBuilder()
    let root = builder.declare(path: "#")
    builder.define(root, as: try builder.parts(parts, depth: 0, then: GrammarBuilder.end))
    try builder.checkSize(at: "#")
    self.init(automaton: try GrammarAutomaton(builder, root: root))
    let states = LazyStates(automaton, stateLimit: 1)
    guard states.contains(states.start) else {
      throw GrammarError(
        .tooLarge, at: "#", "too many alternatives begin at once; repeat no part that may be empty")
    }
  }

  private init(automaton: GrammarAutomaton) { self.automaton = automaton }

  /// Any JSON object, with values up to 32 deep.
  public static let anyObject: Grammar = {
    let builder = GrammarBuilder()
    let root = builder.declare(path: "#")
    builder.define(root, as: builder.anyObject(then: GrammarBuilder.end))
    return Grammar(automaton: GrammarAutomaton(unchecked: builder, root: root))
  }()
}

extension GrammarBuilder {
  private static let partDepth = 32

  fileprivate func parts(_ parts: [Grammar.Part], depth: Int, then next: Node)
    throws(GrammarError) -> Node
  {
    guard depth <= Self.partDepth else {
      throw GrammarError(.tooLarge, at: "#", "parts nest deeper than \(Self.partDepth)")
    }
    var result = next
    for part in parts.reversed() {
      try checkSize(at: "#")
      switch part {
      case .literal(let text): result = literal(text, then: result)
      case .schema(let schema):
        result = try SchemaCompiler(schema, builder: self).root(then: result)
      case .anyObject: result = anyObject(then: result)
      case .choice(let options):
        var nodes: [Node] = []
        for option in options {
          nodes.append(try self.parts(option, depth: depth + 1, then: result))
        }
        result = split(nodes)
      case .optional(let inner):
        result = split([try self.parts(inner, depth: depth + 1, then: result), result])
      }
    }
    return result
  }
}
