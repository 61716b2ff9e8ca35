// SPDX-License-Identifier: Apache-2.0

/// Nodes that a walk over a list of directed edges comes to: like OpenAI's GraphWalks
/// (huggingface.co/datasets/openai/graphwalks).
///
/// Instruction, worked examples, operations and scoring, the F1 of the set of nodes, are GraphWalks'. Graphs are ours: two
/// edges from every node. Walks are one and two edges deep by turns, and the beginning of the answer is given, as RULER gives it. Four
/// questions share a graph.
public enum GraphWalk: String, Sendable, Hashable, CaseIterable {
  /// Nodes whose shortest way from the node is one or two edges long.
  case breadthFirst = "graphwalks_bfs"
  /// Nodes that have an edge to the node.
  case parents = "graphwalks_parents"

  private static let instruction = """
    You will be given a graph as a list of directed edges. All nodes are at least degree 1. You will \
    also get a description of an operation to perform on the graph.
    Your job is to execute the operation on the graph and return the set of nodes that the operation \
    results in. If asked for a breadth-first search (BFS), only return the nodes that are reachable at \
    that depth, do not return the starting node. If asked for the parents of a node, only return the \
    nodes that have an edge leading to the given node, do not return the given node itself.

    Here is an example:
    <begin example>
    The graph has the following edges:
    uvwx -> alke
    abcd -> uvwx
    abcd -> efgh
    efgh -> uvwx

    Example 1:
    Operation:
    Perform a BFS from node abcd with depth 1.
    Final Answer: [uvwx, efgh]

    Example 2:
    Operation:
    Perform a BFS from node alke with depth 1.
    Final Answer: []

    Example 3:
    Operation:
    Find the parents of node uvwx.
    Final Answer: [abcd, efgh]
    <end example>

    Here is the graph to operate on:
    The graph has the following edges:

    """

  /// Edges by the numbers of their nodes, those of a node one after the other.
  struct Graph {
    let edges: [(from: Int, to: Int)]

    /// Two edges from each node to others.
    init(nodes: Int, _ words: inout Words) {
      edges = (0..<nodes).flatMap { node in
        (0..<2).map { _ in
          let other = Int.random(in: 0..<max(1, nodes - 1), using: &words.generator)
          return (from: node, to: other < node ? other : other + 1)
        }
      }
    }

    init(edges: [(from: Int, to: Int)]) { self.edges = edges }

    /// Nodes with an edge to a node.
    func parents(of node: Int) -> Set<Int> {
      Set(edges.filter { $0.to == node && $0.from != node }.map(\.from))
    }

    /// Nodes whose shortest way from a node has so many edges.
    func reached(from node: Int, depth: Int) -> Set<Int> {
      var seen: Set<Int> = [node]
      var last = seen
      for _ in 0..<depth {
        last = Set(edges.filter { last.contains($0.from) }.map(\.to)).subtracting(seen)
        seen.formUnion(last)
      }
      return last
    }
  }

  func context(_ request: ContextRequest, _ words: inout Words) throws -> EvaluationContext {
    let hexadecimal = Array("0123456789abcdef")
    var names: [String] = []
    var used: Set<String> = []
    let most = max(16, request.length / 12)
    while names.count < most {
      let name = String(
        (0..<10).map { _ in hexadecimal[Int.random(in: 0..<16, using: &words.generator)] })
      if used.insert(name).inserted { names.append(name) }
    }
    let places = (0..<EvaluationTask.questionsPerContext).map { index in
      (Double(index) + Double.random(in: 0..<1, using: &words.generator))
        / Double(EvaluationTask.questionsPerContext)
    }
    let start = words
    return try request.largest(from: 8, guess: request.length / 48) { count in
      var words = start
      let graph = Graph(nodes: min(count, most), &words)
      let lines = graph.edges.map { "\(names[$0.from]) -> \(names[$0.to])" }
      return EvaluationContext(
        text: Self.instruction + lines.joined(separator: "\n") + "\n\n",
        questions: places.enumerated().map { number, place in
          question(graph, Int(place * Double(min(count, most))), depth: 1 + number % 2, names)
        })
    }
  }

  private func question(
    _ graph: Graph, _ node: Int, depth: Int, _ names: [String]
  ) -> EvaluationContext.Question {
    let operation: String
    let found: Set<Int>
    switch self {
    case .breadthFirst:
      operation = "Perform a BFS from node \(names[node]) with depth \(depth)."
      found = graph.reached(from: node, depth: depth)
    case .parents:
      // One that has an edge from the node.
      let child = graph.edges.first { $0.from == node }?.to ?? node
      operation = "Find the parents of node \(names[child])."
      found = graph.parents(of: child)
    }
    return EvaluationContext.Question(
      text: "Operation:\n\(operation)\n",
      answerPrefix: "Final Answer: [", references: found.sorted().map { names[$0] },
      scoring: .nameSet, maximumTokens: 96)
  }
}
