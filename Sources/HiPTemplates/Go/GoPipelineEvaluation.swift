// SPDX-License-Identifier: Apache-2.0

/// Values of pipelines.
extension GoEvaluator {
  mutating func evaluated(
    _ pipeline: GoPipeline, _ dot: TemplateValue
  ) throws(TemplateError) -> TemplateValue {
    try deeper()
    defer { depth -= 1 }
    var value: TemplateValue?
    for command in pipeline.commands {
      switch command {
      case .value(let operand): value = try evaluated(operand, dot)
      case .call(let function, let operands):
        value = try call(function, operands, passed: value, dot)
      }
    }
    return value ?? .absent
  }

  private mutating func evaluated(
    _ operand: GoOperand, _ dot: TemplateValue
  ) throws(TemplateError) -> TemplateValue {
    switch operand {
    case .constant(let value): return value
    case .dot: return dot
    case .variable(let place): return place < variables.count ? variables[place] : .absent
    case .member(let owner, let chain):
      var value = try evaluated(owner, dot)
      for field in chain {
        if case .object = value { try step(1 + value.lookUpSteps) }
        value = try value.field(field)
      }
      return value
    case .pipeline(let pipeline): return try evaluated(pipeline, dot)
    case .call(let function): return try call(function, [], passed: nil, dot)
    }
  }

  private mutating func call(
    _ function: GoFunction, _ operands: [GoOperand], passed: TemplateValue?, _ dot: TemplateValue
  ) throws(TemplateError) -> TemplateValue {
    var arguments: [TemplateValue] = []
    for operand in operands {
      let value = try evaluated(operand, dot)
      // The first that decides is the last that is evaluated.
      if function == .and, !value.isTrue { return value }
      if function == .or, value.isTrue { return value }
      try step(1 + value.lookUpSteps)
      arguments.append(value)
    }
    if let passed { arguments.append(passed) }
    // All digits of a number are far more work than others'.
    if function == .printf { try step(32 * arguments.count) }
    let result = try functions.call(function, arguments)
    // What a function makes takes time and memory.
    switch result {
    case .text(let text): try step(text.count / 4)
    case .list(let list): try step(list.count / 4)
    default: break
    }
    return result
  }
}
