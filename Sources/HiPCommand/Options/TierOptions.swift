// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import HiPKVFiles
import InfiniteHiP

/// Bytes that a file or a day may have: as `ByteSize`, or 0 for none; "/day" may follow.
struct ByteLimit: ExpressibleByArgument {
  let count: Int

  init(count: Int) { self.count = count }

  init?(argument: String) {
    let text = argument.hasSuffix("/day") ? String(argument.dropLast(4)) : argument
    if text == "0" {
      count = 0
    } else if let size = ByteSize(argument: text) {
      count = size.count
    } else {
      return nil
    }
  }

  var defaultValueDescription: String { "\(count >> 30)G" }
}

/// What a command can be told about where keys and values live.
struct TierOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The most memory of keys and values, as 2G. (default: what the machine, or the GPU, has beside the weights; serve: half of the machine's)",
      valueName: "size"))
  var kvRam: ByteSize?

  @Option(
    help: ArgumentHelp(
      "The most bytes of the files below memory, at most half of what the disk has for them; 0: none.",
      valueName: "size"))
  var kvDisk = ByteLimit(count: 20 << 30)

  @Option(
    help: ArgumentHelp(
      "Folder of those files. (default: infinitehip/kv where caches lie)", valueName: "path"))
  var kvDir: String?

  @Option(
    help: ArgumentHelp(
      "The most bytes that are written to them in a day, as 200G/day; 0: none.", valueName: "size"))
  var kvWrites = ByteLimit(count: 200 << 30)

  mutating func validate() throws {
    if kvDir == "" { throw ValidationError("--kv-dir is empty; give a folder") }
    if let kvRam, kvRam.count < 16 << 20 {
      throw ValidationError("--kv-ram is less than 16M; give more")
    }
  }

  /// Throws where files were asked for: below a GPU's memory there are none.
  func refuseFiles() throws {
    guard kvDir != nil else { return }
    throw ValidationError(
      "--kv-dir is for the CPU: on a GPU all keys and values stay in its memory; leave it out, or take --device cpu"
    )
  }

  /// The folder, whether it is used or not.
  var folder: String { kvDir ?? Self.defaultFolder }

  static var defaultFolder: String { UserCaches.folder("kv") }

  /// The tiers; a folder that nobody asked for and that cannot be used is none.
  func tiers() -> KVTiers {
    var tiers = KVTiers(
      memoryByteCount: kvRam?.count, folder: folder, diskByteCount: kvDisk.count,
      writesPerDay: kvWrites.count)
    // Where nothing is written, nothing is made.
    guard kvDisk.count > 0, kvWrites.count > 0 else { return tiers }
    do {
      try FileManager.default.createDirectory(
        atPath: folder, withIntermediateDirectories: true)
      let free = try FileManager.default.attributesOfFileSystem(forPath: folder)[.systemFreeSize]
      if let free = free as? Int {
        // What is kept already stays, however little is free.
        let used =
          (try? CacheFolder(path: folder, byteLimit: .max, writesPerDay: .max))?.byteCount ?? 0
        tiers.diskByteCount = min(tiers.diskByteCount, max(used, (used + free) / 2))
        if tiers.diskByteCount == 0 {
          Terminal.note("[\(folder): the disk is full; nothing is kept for later]\n")
        }
      }
      if kvDir == nil, !FileManager.default.isWritableFile(atPath: folder) { tiers.folder = nil }
    } catch {
      if kvDir == nil { tiers.folder = nil }
    }
    return tiers
  }
}
