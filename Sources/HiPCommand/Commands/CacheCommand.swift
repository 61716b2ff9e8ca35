// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import HiPEvaluation
import HiPKVFiles

struct CacheCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cache", abstract: "What is kept of texts that were read.",
    subcommands: [
      CacheListCommand.self, CacheVerifyCommand.self, CacheRemoveCommand.self,
      CacheExportCommand.self,
    ])
}

/// Which folder.
struct CacheFolderOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The folder. (default: infinitehip/kv where caches lie)", valueName: "path"))
  var kvDir: String?

  /// The folder; nil where there is none.
  func cache() throws -> CacheFolder? {
    let path = kvDir ?? TierOptions.defaultFolder
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    return try CacheFolder(path: path, byteLimit: .max, writesPerDay: .max)
  }
}

struct CacheListCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List what is kept, by model and attention.")

  @Flag(help: "Print one JSON object.")
  var json = false

  @OptionGroup var options: CacheFolderOptions

  struct Output: Encodable {
    let name: String
    let model: String
    let attention: String
    let segments: Int
    let tokens: Int
    let bytes: Int
    /// Seconds since 1970.
    let lastUse: Int

    init(_ entry: CacheFolder.Entry) {
      name = entry.name
      model = entry.value(of: "model")
      attention = entry.value(of: "attention")
      segments = entry.segmentCount
      tokens = entry.tokenCount
      bytes = entry.byteCount
      lastUse = entry.lastUse
    }
  }

  func run() throws {
    let entries = try options.cache()?.list() ?? []
    if json {
      try Terminal.printJSON(entries.map { Output($0) })
      return
    }
    guard !entries.isEmpty else {
      Terminal.line("Nothing is kept.")
      return
    }
    Terminal.line("name               tokens       size  last use              model")
    for entry in entries {
      let date = Date(timeIntervalSince1970: Double(entry.lastUse))
        .formatted(.iso8601.dateSeparator(.dash).timeSeparator(.colon))
      Terminal.line(
        "\(entry.name)  \(pad(sizeText(entry.tokenCount), 6)) \(pad(byteText(entry.byteCount), 10))  \(date)  "
          + entry.value(of: "model"))
    }
  }
}

extension CacheFolder.Entry {
  /// What its description says of a key.
  fileprivate func value(of key: String) -> String {
    description.split(separator: "\n").first { $0.hasPrefix(key + ": ") }
      .map { String($0.dropFirst(key.count + 2)) } ?? "?"
  }
}

struct CacheVerifyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify", abstract: "Read everything that is kept, and say what is damaged.")

  @Option(help: ArgumentHelp("A saved context in place of the folder.", valueName: "path"))
  var file: String?

  @Flag(help: "Remove what is damaged.")
  var remove = false

  @OptionGroup var options: CacheFolderOptions

  mutating func validate() throws {
    guard file == nil || !remove else {
      throw ValidationError(
        "--remove is for the folder; what is damaged of a saved context is computed anew when it is used"
      )
    }
  }

  func run() throws {
    let problems =
      try file.map { try ContextFile.open($0).verify().map(\.message) }
      ?? options.cache()?.verify(removing: remove).map { "\($0.path): \($0.message)" } ?? []
    for problem in problems { Terminal.line(problem) }
    guard problems.isEmpty else { throw ExitCode.failure }
    Terminal.line("Everything is as it was written.")
  }
}

struct CacheRemoveCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "remove", abstract: "Remove what is kept.")

  @Argument(help: ArgumentHelp("Names, as `list` shows them.", valueName: "name"))
  var names: [String] = []

  @Flag(help: "Remove everything.")
  var all = false

  @Option(
    help: ArgumentHelp("Remove what was not used for so many days.", valueName: "n"))
  var unusedDays: Int?

  @OptionGroup var options: CacheFolderOptions

  mutating func validate() throws {
    guard [!names.isEmpty, all, unusedDays != nil].filter({ $0 }).count == 1 else {
      throw ValidationError("give names, --all or --unused-days")
    }
    if let unusedDays, !(0...100_000).contains(unusedDays) {
      throw ValidationError("--unused-days is \(unusedDays); give 0 to 100000")
    }
  }

  func run() throws {
    guard let cache = try options.cache() else {
      Terminal.line("Nothing is kept.")
      return
    }
    var freed = 0
    if all {
      freed = try cache.remove(.all)
    } else if let unusedDays {
      let now = Int(Date().timeIntervalSince1970)
      freed = try cache.remove(.unused(since: now - unusedDays * 86_400))
    } else {
      let known = cache.list().map(\.name)
      for name in names where !known.contains(name) {
        throw ValidationError(
          "nothing of the name \(name) is kept; there is \(known.isEmpty ? "nothing" : known.joined(separator: ", "))"
        )
      }
      for name in names { freed += try cache.remove(.kind(name)) }
    }
    Terminal.line("\(byteText(freed)) are free again.")
  }
}

struct CacheExportCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export", abstract: "Save the context of texts that were read, as `index` does.",
    discussion: """
      Example:  infinitehip cache export book.txt --save book.hipkv
      What is kept of the texts is taken; what is missing is read.
      """)

  @OptionGroup var index: IndexCommand

  func run() async throws { try await index.run() }
}
