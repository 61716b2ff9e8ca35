// SPDX-License-Identifier: Apache-2.0

/// What a template's code computes.
indirect enum TemplateExpression {
  case constant(TemplateValue)
  case name(String)
  case list([TemplateExpression])
  case object([(TemplateExpression, TemplateExpression)])
  case member(TemplateExpression, String)
  case item(TemplateExpression, TemplateExpression)
  case slice(TemplateExpression, TemplateExpression?, TemplateExpression?, TemplateExpression?)
  case call(TemplateExpression, [TemplateArgument])
  case filter(TemplateExpression, String, [TemplateArgument])
  case test(TemplateExpression, String, [TemplateExpression])
  case not(TemplateExpression)
  case and(TemplateExpression, TemplateExpression)
  case or(TemplateExpression, TemplateExpression)
  case sign(String, TemplateExpression)
  case binary(String, TemplateExpression, TemplateExpression)
  /// A chain such as `a < b <= c`.
  case comparison(TemplateExpression, [(String, TemplateExpression)])
  case conditional(TemplateExpression, then: TemplateExpression, otherwise: TemplateExpression?)
}

/// A value that a call is given, by place or by name.
struct TemplateArgument {
  let name: String?
  let value: TemplateExpression
}

/// What a template does.
indirect enum TemplateStatement {
  case text(TemplateText)
  case output(TemplateExpression)
  case branch([(TemplateExpression, [TemplateStatement])], otherwise: [TemplateStatement])
  case loop(TemplateLoop)
  case set([String], TemplateExpression)
  case setMember(String, String, TemplateExpression)
  case setBlock(String, [(String, [TemplateArgument])], [TemplateStatement])
  case macro(TemplateMacro)
  case callBlock(TemplateExpression, TemplateMacro)
  case filterBlock([(String, [TemplateArgument])], [TemplateStatement])
  /// Statements in a scope of their own, with variables.
  case with([(String, TemplateExpression)], [TemplateStatement])
  case stop
  case skip
}

/// A loop over a list, whose items may be taken apart.
struct TemplateLoop {
  let targets: [String]
  let source: TemplateExpression
  let condition: TemplateExpression?
  let body: [TemplateStatement]
  let otherwise: [TemplateStatement]
}

/// A macro's parameters and body.
struct TemplateMacro {
  let name: String
  let parameters: [(name: String, fallback: TemplateExpression?)]
  let body: [TemplateStatement]
}
