// SPDX-License-Identifier: Apache-2.0

import HiPKVFiles
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A folder that goes with the test.
final class TemporaryFolder {
  let path: String

  init() {
    var template = Array("/tmp/kvfiles.XXXXXX".utf8CString)
    path = template.withUnsafeMutableBufferPointer { buffer in
      buffer.baseAddress.flatMap { mkdtemp($0) }.map { String(cString: $0) } ?? ""
    }
  }

  deinit { Self.remove(path) }

  static func names(_ path: String) -> [String] {
    guard let folder = opendir(path) else { return [] }
    defer { closedir(folder) }
    var names: [String] = []
    while let entry = readdir(folder) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
      }
      if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  private static func remove(_ path: String) {
    for name in names(path) { remove(path + "/" + name) }
    if unlink(path) != 0 { rmdir(path) }
  }

  /// All files below a folder, by their path in it.
  static func files(_ path: String, _ inner: String = "") -> [String] {
    names(path + inner).flatMap { name in
      var status = stat()
      guard lstat(path + inner + "/" + name, &status) == 0 else { return [String]() }
      return status.st_mode & S_IFMT == S_IFDIR
        ? files(path, inner + "/" + name) : [inner + "/" + name]
    }
  }
}

/// Bytes of whole files; in a debug build arrays are slow to compare.
enum Bytes {
  static func areEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    left.count == right.count && memcmp(left, right, left.count) == 0
  }

  /// The one place where they differ; nil where there are more or none.
  static func onlyDifference(_ left: [UInt8], _ right: [UInt8]) -> Int? {
    guard left.count == right.count, !areEqual(left, right) else { return nil }
    return left.withUnsafeBytes { one in
      right.withUnsafeBytes { other in
        var found: Int?
        var index = 0
        while index < one.count {
          if one[index] != other[index] {
            if found != nil { return nil }
            found = index
          }
          index += 1
        }
        return found
      }
    }
  }

  static func read(_ path: String) -> [UInt8] {
    guard let file = fopen(path, "rb") else { return [] }
    defer { fclose(file) }
    fseek(file, 0, SEEK_END)
    var bytes = [UInt8](repeating: 0, count: ftell(file))
    rewind(file)
    let count = fread(&bytes, 1, bytes.count, file)
    return Array(bytes.prefix(count))
  }

  static func write(_ bytes: some Collection<UInt8>, _ path: String) {
    guard let file = fopen(path, "wb") else { return }
    defer { fclose(file) }
    _ = fwrite(Array(bytes), 1, bytes.count, file)
  }
}

/// A text's segments, with pages of numbers that differ everywhere.
final class SampleText {
  static let shape = SegmentShape(
    blockSize: 4, blocksPerSegment: 4, pagesPerBlock: 3, pageByteCount: 256, sketchByteCount: 24)
  static let kind = ContextKind(shape: shape, description: "model: sample\nversion: 1")

  let kind: ContextKind
  let tokens: [Int32]
  let identities: [SegmentIdentity]
  /// Never freed: contents point into it, and may be written after the last use of the text.
  private let memory: [UnsafeMutableRawBufferPointer]
  private let absent: Set<Int>

  /// - Parameter absent: places of pages that are not kept.
  init(
    _ seed: UInt64, tokenCount: Int, absent: Set<Int> = [], pages: UInt64? = nil,
    kind: ContextKind = SampleText.kind
  ) {
    self.kind = kind
    self.absent = absent
    var numbers = SeededNumbers(seed)
    tokens = (0..<tokenCount).map { _ in Int32(numbers.index(below: 100_000)) - 100 }
    identities = SegmentIdentity.chain(of: tokens, kind: kind)
    var random = SeededNumbers(pages ?? seed &+ 1000)
    memory = identities.map { _ in
      let size = kind.shape.pageCount * kind.shape.pageByteCount
      let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 64)
      for index in buffer.indices { buffer[index] = UInt8(random.index(below: 256)) }
      return buffer
    }
  }

  func page(_ index: Int, _ place: Int) -> [UInt8] {
    let size = kind.shape.pageByteCount
    return Array(UnsafeRawBufferPointer(rebasing: memory[index][place * size..<(place + 1) * size]))
  }

  func sketches(_ index: Int) -> [UInt8] {
    let blocks = kind.shape.blockCount(tokens: identities[index].tokens.count)
    return (0..<blocks * kind.shape.sketchByteCount).map {
      UInt8(truncatingIfNeeded: $0 * 7 + index)
    }
  }

  func contents(_ index: Int) -> SegmentContents {
    let blocks = kind.shape.blockCount(tokens: identities[index].tokens.count)
    let pages = (0..<kind.shape.pageCount).map { place -> UnsafeRawPointer? in
      let isThere = place % kind.shape.blocksPerSegment < blocks && !absent.contains(place)
      return isThere
        ? memory[index].baseAddress.map { UnsafeRawPointer($0 + place * kind.shape.pageByteCount) }
        : nil
    }
    return SegmentContents(
      identity: identities[index], pages: pages, sketches: sketches(index))
  }

  /// Whether everything of a stored segment is what was written; throws what reading throws.
  func matches(_ segment: StoredSegment, _ index: Int) throws -> Bool {
    let shape = kind.shape
    guard try segment.tokens() == identities[index].tokens, segment.index == index else {
      return false
    }
    var sketches = [UInt8](repeating: 0, count: segment.blockCount * shape.sketchByteCount)
    try sketches.withUnsafeMutableBytes { try segment.readSketches(into: $0) }
    guard sketches == self.sketches(index) else { return false }
    for place in 0..<shape.pageCount {
      let block = place % shape.blocksPerSegment
      let isThere = block < segment.blockCount && !absent.contains(place)
      if segment.hasPage(place / shape.blocksPerSegment, block: block) != isThere { return false }
    }
    let size = shape.pageByteCount
    var pages = [UInt8](repeating: 0, count: shape.pageCount * size)
    try pages.withUnsafeMutableBytes { buffer in
      guard let start = buffer.baseAddress else { return }
      var reads: [PageRead] = []
      for page in 0..<shape.pagesPerBlock {
        for block in 0..<segment.blockCount where segment.hasPage(page, block: block) {
          let place = page * shape.blocksPerSegment + block
          reads.append(PageRead(page: page, block: block, destination: start + place * size))
        }
      }
      try segment.readPages(reads)
    }
    for page in 0..<shape.pagesPerBlock {
      for block in 0..<segment.blockCount where segment.hasPage(page, block: block) {
        let place = page * shape.blocksPerSegment + block
        var one = [UInt8](repeating: 0, count: size)
        try one.withUnsafeMutableBytes { buffer in
          guard let start = buffer.baseAddress else { return }
          try segment.readPage(page, block: block, into: start)
        }
        let expected = self.page(index, place)
        let part = Array(pages[place * size..<(place + 1) * size])
        if !Bytes.areEqual(one, expected) || !Bytes.areEqual(part, expected) {
          return false
        }
      }
    }
    return true
  }
}

/// The code of what is thrown.
func code(_ body: () throws -> Void) -> KVFileError.Code? {
  do {
    try body()
    return nil
  } catch {
    return (error as? KVFileError)?.code
  }
}

/// A folder whose clock stands still until it is moved.
func makeCache(
  _ path: String, limit: Int = 1 << 30, writes: Int = .max, files: Int = 256,
  space: Int = .max, clock: @escaping @Sendable () -> Int = { 1_000_000 }
) throws -> CacheFolder {
  var options = CacheFolder.Options()
  options.openFileLimit = files
  options.clock = clock
  options.diskSpace = space
  return try CacheFolder(path: path, byteLimit: limit, writesPerDay: writes, options: options)
}
