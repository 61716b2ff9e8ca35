// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import HiPAttention
import HiPTensors

/// A preset's name or the path of a policy file.
struct AttentionArgument: ExpressibleByArgument {
  let name: String

  init(name: String) { self.name = name }
  init?(argument: String) { name = argument }

  var defaultValueDescription: String { name }

  static let names = AttentionChoice.presets.map(\.name).joined(separator: ", ")

  private static let allNames = names + ", on GPUs " + AttentionChoice.gpu.name

  /// The choice that is meant.
  func choice() throws -> AttentionChoice {
    if let preset = AttentionChoice.named(name) { return preset }
    guard FileManager.default.fileExists(atPath: name) else {
      throw ValidationError(
        "\"\(name)\" is neither a preset (\(Self.allNames)) nor a policy file")
    }
    do {
      let data = Data(try TextFile.read(name).utf8)
      let document = try JSONDecoder().decode(AttentionChoice.Document.self, from: data)
      return AttentionChoice(name: name, policy: document.policy, dense: document.dense)
    } catch let error as PolicyError {
      throw FileError(path: name, problem: error.message, cause: error)
    } catch let error as DecodingError {
      guard case .dataCorrupted(let context) = error else { throw error }
      throw FileError(path: name, problem: "is not JSON: \(context.debugDescription)", cause: error)
    }
  }
}
