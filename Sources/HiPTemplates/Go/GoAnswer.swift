// SPDX-License-Identifier: Apache-2.0

/// Where a template of turns writes the answer.
extension GoTemplate {
  /// The statements of a turn: one that names neither messages nor an answer writes the answer at
  /// its end.
  var turn: [GoNode] {
    guard fields.isDisjoint(with: ["Messages", "Response"]) else { return statements }
    let answer = GoOperand.member(of: .dot, [GoField("Response")])
    return statements + [
      .action(GoPipeline(line: 1, targets: [], commands: [.value(answer)]))
    ]
  }

  /// The statements up to the answer, which is the first place that writes `.Response`.
  var turnUpToAnswer: [GoNode] {
    var isCut = false
    return Self.cut(turn, &isCut)
  }

  /// Statements without those behind the answer, in whatever branch that stands.
  private static func cut(_ nodes: [GoNode], _ isCut: inout Bool) -> [GoNode] {
    var kept: [GoNode] = []
    for node in nodes {
      guard !isCut else { break }
      switch node {
      case .action(let pipeline):
        isCut = names(pipeline)
        kept.append(node)
      case .branch(var cases, let otherwise, let bindsDot):
        for index in cases.indices { cases[index].body = cut(cases[index].body, &isCut) }
        let rest = cut(otherwise, &isCut)
        kept.append(.branch(cases, otherwise: rest, bindsDot: bindsDot))
      case .range(let source, let body, let otherwise):
        let body = cut(body, &isCut)
        kept.append(.range(source, body: body, otherwise: cut(otherwise, &isCut)))
      default: kept.append(node)
      }
    }
    return kept
  }

  private static func names(_ pipeline: GoPipeline) -> Bool {
    pipeline.commands.contains { command in
      switch command {
      case .value(let operand): names(operand)
      case .call(_, let operands): operands.contains(where: names)
      }
    }
  }

  private static func names(_ operand: GoOperand) -> Bool {
    switch operand {
    case .member(let owner, let chain):
      chain.contains { $0.name == "Response" } || names(owner)
    case .pipeline(let pipeline): names(pipeline)
    default: false
    }
  }
}
