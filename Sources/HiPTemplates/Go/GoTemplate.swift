// SPDX-License-Identifier: Apache-2.0

/// A chat template in the language of Go's text/template, as Ollama's store holds them.
///
/// It sees what it is given and nothing else, and is bounded in steps, output and depth. A field
/// that the data lacks is the zero value: false, of no length, and printed as nothing.
public struct GoTemplate: Sendable {
  /// Its text.
  public let source: String
  /// Fields of the top level that it names, such as `Messages`, `Tools` or `Response`.
  ///
  /// Fields of the dot count wherever they stand, so that those of messages are among them too.
  public let fields: Set<String>
  let statements: [GoNode]
  let templates: [String: [GoNode]]

  /// Parses a template.
  /// - Throws: `TemplateError` when it is none; the message names the line.
  public init(_ source: String) throws(TemplateError) {
    self.source = source
    var parser = try GoParser(source)
    statements = try parser.statements()
    templates = parser.templates
    fields = parser.fields
  }

  /// The text that the template makes of data in one execution.
  /// - Parameters:
  ///   - data: what the dot is; fields are found by their names in Go or on the wire.
  ///   - clock: what `currentDate` tells.
  /// - Throws: `TemplateError`; the message names the line.
  public func execute(
    _ data: TemplateValue, clock: TemplateClock
  ) throws(TemplateError) -> TemplateText {
    var evaluator = GoEvaluator(self, clock: clock, given: data.characterCount)
    try evaluator.run(statements, on: data)
    return evaluator.output.text
  }
}
