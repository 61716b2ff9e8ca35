// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
public import HiPCompute
internal import HiPModels

/// What a context would take of each tier, before it is read: a value.
public struct ContextPlan: Sendable, Hashable {
  /// Tokens of the context.
  public let tokens: Int
  /// Bytes of sketches, which stay in memory.
  public let sketchBytes: Int
  /// Bytes of keys and values that attention can still reach.
  public let pageBytes: Int
  /// Bytes of these that memory holds at most.
  public let memoryPageBytes: Int
  /// Bytes that go to files; 0 where there is no folder.
  public let fileBytes: Int
  /// Why it cannot be read, and what could be; nil: it can.
  public let problem: String?

  /// Plans a context.
  /// - Parameters:
  ///   - format: how keys and values are kept.
  ///   - memory: the most bytes of keys, values and sketches in memory.
  ///   - files: the most bytes of files; 0: none.
  ///   - writes: the most bytes that are written in a day.
  public init(_ format: KVFormat, tokens: Int, memory: Int, files: Int, writes: Int) {
    let size = Size(format, tokens: tokens)
    self.tokens = tokens
    sketchBytes = size.sketches
    pageBytes = size.pages
    memoryPageBytes = min(size.pages, max(0, memory - size.sketches))
    fileBytes = files > 0 ? size.file : 0
    guard !Self.fits(size, memory, files, writes) else {
      problem = nil
      return
    }
    var (fitting, refused) = (0, tokens)
    while refused - fitting > 1024 {
      let middle = (fitting + refused) / 2
      if Self.fits(Size(format, tokens: middle), memory, files, writes) {
        fitting = middle
      } else {
        refused = middle
      }
    }
    func text(_ bytes: Int) -> String { "\(max(1, (bytes + 999_999) / 1_000_000)) MB" }
    let needed = max(size.sketches * 8 / 7, size.sketches + size.leastPages)
    let files =
      memory < needed
      ? "\(text(needed)) of memory at least, for sketches and the pages of a step, and there are \(text(memory)) (--kv-ram)"
      : files == 0
        ? "\(text(size.sketches + size.pages)) of memory, and there are \(text(memory)) (--kv-ram) and no files "
          + "below (--kv-disk)"
        : "\(text(size.file)) of files, and there are \(text(min(files, writes))) (--kv-disk, --kv-writes)"
    problem =
      "\(tokens) tokens take \(files); "
      + (fitting >= 1024 ? "\(fitting / 1024 * 1024) tokens would fit" : "not even 1,024 would fit")
  }

  /// Bytes of a context.
  private struct Size {
    let sketches, pages, file, leastPages: Int

    init(_ format: KVFormat, tokens: Int) {
      let blocks = (tokens + format.blockSize - 1) / format.blockSize
      let layerBytes = format.rowsByteCount
      let sliding = format.sliding
      let full = format.layerCount - (sliding?.layers.count ?? 0)
      // Behind the windows of sliding layers nothing is kept; in files each segment keeps the last one.
      let window = sliding.map { ($0.window + format.blockSize - 1) / format.blockSize } ?? 0
      let perSegment = max(1, DecoderModel.largestPrefill / format.blockSize)
      sketches = blocks * format.sketchByteCount
      pages =
        blocks * full * layerBytes + min(blocks, window) * (format.layerCount - full) * layerBytes
      file =
        sketches + blocks * full * layerBytes
        + blocks * min(perSegment, window) / perSegment * (format.layerCount - full) * layerBytes
      // What one step writes, what is being stored meanwhile, and what threads read.
      leastPages = min(pages, 3 * perSegment * format.layerCount * layerBytes)
    }
  }

  private static func fits(_ size: Size, _ memory: Int, _ files: Int, _ writes: Int) -> Bool {
    if size.sketches + size.pages <= memory { return true }
    return files > 0 && size.file <= min(files, writes) && size.sketches <= memory - memory / 8
      && size.sketches + size.leastPages <= memory
  }
}

extension ModelRunner {
  /// What a context of a sequence's format would take.
  /// - Parameter isInFile: a saved context holds it, or will.
  func plan(_ format: KVFormat, tokens: Int, isInFile: Bool) -> ContextPlan {
    let tiers = tiers
    let folder = tiers.flatMap { $0.usedFolder == nil ? nil : $0 }
    return ContextPlan(
      format, tokens: tokens, memory: blocks.capacity,
      files: isInFile ? .max : folder?.diskByteCount ?? 0,
      writes: isInFile ? .max : folder?.writesPerDay ?? .max)
  }
}
