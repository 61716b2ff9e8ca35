// SPDX-License-Identifier: Apache-2.0

public import Foundation

/// The model and the novel that come with the source.
public enum DemoModel {
  /// The folder of the package.
  public static let packageFolder = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()

  /// Path of the model file.
  public static var path: String {
    packageFolder.appending(path: "Models/hip-demo-28m.Q8_0.gguf").path(percentEncoded: false)
  }

  /// The novel's first `count` characters, from where its text begins.
  public static func novel(_ count: Int) throws -> String {
    let url = packageFolder.appending(path: "Examples/books/war-and-peace.txt")
    return String(try String(contentsOf: url, encoding: .utf8).dropFirst(8000).prefix(count))
  }
}
