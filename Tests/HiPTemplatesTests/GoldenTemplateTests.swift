// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPTemplates
import TestSupport
import Testing

/// What transformers makes of published templates, where those values lie beside the project.
@Suite struct GoldenTemplateTests {
  static let folder = DemoModel.packageFolder.appending(path: "../shared/golden/templates")
  static let files: [URL] = {
    let files =
      (try? FileManager.default.contentsOfDirectory(
        at: folder, includingPropertiesForKeys: nil)) ?? []
    let found = files.filter { $0.pathExtension == "json" }.sorted { $0.path() < $1.path() }
    if found.isEmpty { print("Skipped: there are no golden templates at \(folder.path())") }
    return found
  }()

  @Test(.enabled(if: !files.isEmpty))
  func renderingsEqualThoseOfTransformers() throws {
    var count = 0
    var wrong: [String] = []
    for file in Self.files {
      let document = try TemplateValue(json: String(contentsOf: file, encoding: .utf8))
      func member(_ name: String, of value: TemplateValue = document) -> TemplateValue? {
        guard case .object(let members) = value else { return nil }
        return members.first { $0.key == name }?.value
      }
      func text(_ value: TemplateValue?) -> String? {
        if case .text(let text)? = value { text.string } else { nil }
      }
      let template = try Template(try #require(text(member("template"))))
      guard case .list(let cases)? = member("cases") else { continue }
      for item in cases {
        count += 1
        let name = "\(file.lastPathComponent) \(text(member("name", of: item)) ?? "")"
        var variables: [(key: String, value: TemplateValue)] = [
          ("messages", member("messages", of: item) ?? .null),
          ("tools", member("tools", of: item) ?? .null), ("documents", .null),
        ]
        for token in ["bos_token", "eos_token"] {
          if case .text(let mark)? = member(token) {
            variables.append((token, .text(TemplateText(mark.string))))
          }
        }
        if case .object(let options)? = member("options", of: item) {
          variables.removeAll { variable in options.contains { $0.key == variable.key } }
          variables += options
        }
        let clock = TemplateClock(year: 2026, month: 1, day: 15, hour: 12, minute: 30, second: 45)
        let error = member("error", of: item)
        do {
          let found = try template.render(variables, clock: clock).string
          let allowed: Bool
          if let expected = text(member("expected", of: item)) {
            allowed = found == expected
          } else if let error, case .object(let lenient)? = member("lenient", of: error) {
            allowed = lenient.contains { text($0.value) == found }
          } else {
            allowed = false
          }
          if !allowed { wrong.append(name) }
        } catch {
          guard let expected = member("error", of: item) else {
            wrong.append("\(name): \(error)")
            continue
          }
          let isRaised = text(member("kind", of: expected)) == "raised"
          if isRaised, error.message != text(member("message", of: expected)) {
            wrong.append("\(name): \(error)")
          }
        }
      }
    }
    #expect(count == 1490)
    #expect(
      wrong.isEmpty, "\(wrong.count) of \(count): \(wrong.prefix(60).joined(separator: "\n"))")
  }
}
