// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HiPJSON
internal import HiPModelFiles
internal import HiPTensors
internal import HiPTokenization

extension ModelText {
  /// Reads the tokenizer of a Hugging Face folder, its ends and its chat template.
  init(_ folder: HuggingFaceFolder) throws {
    let settings = try folder.json("tokenizer_config.json") ?? .object([])
    template = try Self.template(folder, settings)
    let document = try folder.json("tokenizer.json").map { TokenizerDocument($0) }
    tokenizer = try Self.tokenizer(folder, document, template: template ?? "")
    begin = Self.name(settings["bos_token"]).flatMap { [tokenizer] in tokenizer.specialToken($0) }
    end = Self.name(settings["eos_token"]).flatMap { [tokenizer] in tokenizer.specialToken($0) }
    var declared: [TokenID] = []
    for metadata in [folder.config, folder.generation] {
      switch metadata.values["eos_token_id"] {
      case .integer(let id): declared += [TokenID(clamping: id)]
      case .integers(let ids): declared += ids.map { TokenID(clamping: $0) }
      default: break
      }
      if begin == nil, case .integer(let id)? = metadata.values["bos_token_id"] {
        begin = TokenID(clamping: id)
      }
    }
    let size = tokenizer.vocabularySize
    declared = declared.filter { $0 >= 0 && $0 < size }
    if let id = begin, id < 0 || id >= size { begin = nil }
    end = end ?? declared.first
    ends = Set(declared + endsByName())
    if let end { ends.insert(end) }
    // As the tokenizer's own template of texts does, or as the settings say.
    addsBegin =
      begin.map { [tokenizer] begin in
        document?.begins(with: begin, tokenizer) ?? settings["add_bos_token"]?.flag ?? true
      } ?? false
  }

  /// A token that stands in the settings as a text, or as an object with its text.
  private static func name(_ value: JSONValue?) -> String? {
    value?.text ?? value?["content"]?.text
  }

  private static func template(
    _ folder: HuggingFaceFolder, _ settings: JSONValue
  ) throws -> String? {
    if let bytes = try folder.bytes("chat_template.jinja") {
      return String(decoding: bytes, as: UTF8.self)
    }
    let value = try settings["chat_template"] ?? folder.json("chat_template.json")?["chat_template"]
    // Several of them have names.
    return value?.text
      ?? value?.items.flatMap { items in
        (items.first { $0["name"]?.text == "default" } ?? items.first)?["template"]?.text
      }
  }

  private static func tokenizer(
    _ folder: HuggingFaceFolder, _ document: TokenizerDocument?, template: String
  ) throws -> any Tokenizer {
    func refuse(_ name: String, _ problem: String) -> FileError {
      FileError(path: folder.path + "/" + name, problem: problem)
    }
    if let document {
      do {
        return try document.tokenizer(
          kindOf: { TurnMarker.kind(of: $0, $1, template: template) },
          composed: { $0.precomposedStringWithCanonicalMapping })
      } catch {
        throw refuse("tokenizer.json", "\(error)")
      }
    }
    if let bytes = try folder.bytes("tokenizer.model") {
      do {
        return try SentencePieceModel(bytes).tokenizer()
      } catch {
        throw refuse("tokenizer.model", "\(error)")
      }
    }
    throw FileError(
      .missing, path: folder.path, problem: "has neither tokenizer.json nor tokenizer.model")
  }
}
