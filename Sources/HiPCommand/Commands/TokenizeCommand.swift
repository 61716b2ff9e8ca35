// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import HiPModelFiles
import HiPTensors
import HiPTokenization
import InfiniteHiP

struct TokenizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tokenize", abstract: "Turn standard input into token ids, or ids into text.")

  @Option(help: "Whether names of control tokens in the text become those tokens.")
  var special: SpecialTokens = .parse

  enum SpecialTokens: String, ExpressibleByArgument, CaseIterable {
    case parse, text

    var reading: SpecialTokenReading { self == .parse ? .parse : .text }
  }

  @Flag(help: "Begin with the model's begin-of-text token.")
  var bos = false

  @Flag(help: "Read ids as a JSON list and write their text.")
  var decode = false

  @OptionGroup var options: EngineOptions

  func run() throws {
    let path = try options.modelPath()
    let model = try ModelText(ModelFile(path: path))
    let tokenizer = model.tokenizer
    let input = try FileHandle.standardInput.readToEnd() ?? Data()
    if decode {
      let ids = try TokenFile.ids(input, name: "standard input", below: tokenizer.vocabularySize)
      Terminal.write(Data(ids.flatMap { tokenizer.bytes(of: $0) }))
      return
    }
    guard let text = String(validating: input, as: UTF8.self) else {
      throw FileError(path: "standard input", problem: "is not UTF-8 text")
    }
    var ids = tokenizer.encode(text, special: special.reading)
    if bos {
      guard let begin = model.begin else {
        throw FileError(path: path, problem: "names no begin-of-text token for --bos")
      }
      ids.insert(begin, at: 0)
    }
    try Terminal.printJSON(ids)
  }
}

/// Token ids as a JSON list.
enum TokenFile {
  static func ids(_ data: Data, name: String, below size: Int) throws -> [TokenID] {
    guard let ids = try? JSONDecoder().decode([Int].self, from: data) else {
      throw FileError(path: name, problem: "is not a JSON list of token ids, such as [1, 2, 3]")
    }
    if let wrong = ids.first(where: { $0 < 0 || $0 >= size }) {
      throw FileError(
        path: name, problem: "holds the id \(wrong); the vocabulary has 0 to \(size - 1)")
    }
    return ids.map(TokenID.init)
  }
}
