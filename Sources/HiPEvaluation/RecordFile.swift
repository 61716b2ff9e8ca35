// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import HiPTensors
internal import Synchronization

/// What was measured so far, one JSON object a line: what makes a run resumable, and a score
/// believable.
public final class RecordFile<Record: Codable & Sendable>: Sendable {
  private let path: String
  private let held: Mutex<[Record]>

  /// Opens or creates the file in a folder, which is created.
  ///
  /// A last line that was cut off is left out.
  public init(folder: String, name: String = "answers") throws {
    path = URL(filePath: folder).appending(path: name + ".jsonl").path(percentEncoded: false)
    do {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      if !FileManager.default.fileExists(atPath: path) { try Data().write(to: URL(filePath: path)) }
      let decoder = JSONDecoder()
      let lines = try Data(contentsOf: URL(filePath: path)).split(separator: UInt8(ascii: "\n"))
      held = Mutex(lines.compactMap { try? decoder.decode(Record.self, from: $0) })
    } catch {
      throw FileError(path: path, problem: "cannot be kept: \(error.localizedDescription)")
    }
  }

  /// All of them.
  public var records: [Record] { held.withLock { $0 } }

  /// Adds some, on disk before it returns.
  public func append(_ records: [Record]) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    var lines = Data()
    for record in records { lines += try encoder.encode(record) + [UInt8(ascii: "\n")] }
    do {
      let file = try FileHandle(forWritingTo: URL(filePath: path))
      defer { try? file.close() }
      let end = try file.seekToEnd()
      // A line that was cut off stays by itself.
      if end > 0 {
        try file.write(contentsOf: Data("\n".utf8))
      }
      try file.write(contentsOf: lines)
    } catch {
      throw FileError(path: path, problem: "cannot be written: \(error.localizedDescription)")
    }
    held.withLock { $0 += records }
  }
}
