// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A saved context: the segments of one text in one file, complete.
///
/// It keeps a digest for each segment in memory. Segments that are damaged leave the others usable.
public final class ContextFile: Sendable {
  /// The file.
  public let path: String
  /// Tokens of the text.
  public let tokenCount: Int
  /// Tokens at its end that lie in no segment.
  public let tailCount: Int

  private let file: ContextSegments
  private let digests: [Digest256]
  private let hashes: [Digest256]

  /// What a file is called while it is written.
  static let partSuffix = ".part"

  private init(_ path: String, kind: ContextKind?) throws(KVFileError) {
    let counter = TrafficCounter()
    let opened: OpenFile
    do throws(KVFileError) {
      opened = try OpenFile(path, O_RDONLY, counter: counter)
    } catch  where error.code == .missing && Folder.exists(path + Self.partSuffix) {
      throw KVFileError(
        .missing, path,
        "is not finished: there is \(path)\(Self.partSuffix); save it again to go on")
    }
    let header = try ContextHeader.read(opened)
    if let kind, kind != header.kind {
      throw KVFileError(
        .otherKind, path,
        "belongs to another model, format or policy: \(kind.differences(from: header.kind))")
    }
    let trailer = try ContextTrailer.read(opened, header)
    let kept = trailer.tokens.count - trailer.tailCount
    var parent = header.kind.digest
    digests = stride(from: 0, to: kept, by: header.kind.shape.tokenCapacity).map { start in
      let end = min(start + header.kind.shape.tokenCapacity, kept)
      parent = SegmentIdentity.digest(parent: parent, tokens: trailer.tokens[start..<end])
      return parent
    }
    hashes = trailer.segmentHashes
    tokenCount = trailer.tokens.count
    tailCount = trailer.tailCount
    file = ContextSegments(opened, header, counter: counter)
    self.path = path
  }

  /// Opens a complete file and verifies its header and its end.
  /// - Parameter kind: of which kind it must be; nil: of any.
  public static func open(
    _ path: String, kind: ContextKind? = nil
  ) throws(KVFileError) -> ContextFile {
    try ContextFile(path, kind: kind)
  }

  /// Opens what has been written of a file, or makes one, to go on with it.
  /// - Throws: `KVFileError` with the code `busy` where another process writes it, `otherKind` where it was begun for
  ///   another model, format or policy.
  public static func resume(
    _ path: String, kind: ContextKind
  ) throws(KVFileError) -> ContextFileWriter {
    try ContextFileWriter(path, kind: kind)
  }

  /// What its segments are.
  public var kind: ContextKind { file.header.kind }
  /// How many segments it has.
  public var segmentCount: Int { digests.count }
  /// What was read here.
  public var traffic: Traffic { file.counter.traffic }

  /// All tokens of the text, read from the file.
  public func tokens() throws(KVFileError) -> [Int32] {
    let trailer = try ContextTrailer.read(file.file, file.header)
    guard trailer.segmentHashes == hashes, trailer.tokens.count == tokenCount else {
      throw .damaged(path, "its end is not what it was")
    }
    return trailer.tokens
  }

  /// The digest of a segment's text up to its end.
  public func digest(of index: Int) -> Digest256 { digests[index] }

  /// A segment, its header verified now.
  public func segment(_ index: Int) -> Lookup {
    precondition(digests.indices.contains(index), "there is no segment \(index)")
    do throws(KVFileError) {
      let segment = try file.segment(
        index, parent: index == 0 ? kind.digest : digests[index - 1])
      guard segment.digest == digests[index], segment.header.hash == hashes[index] else {
        throw .damaged(segment.location, "it is not the segment that was saved here")
      }
      return .found(segment)
    } catch {
      return .damaged(error)
    }
  }

  /// Reads everything, and says of each segment that is damaged what is wrong.
  /// - Parameter progress: is told how many segments have been read, and of how many.
  public func verify(
    progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) -> [KVFileError] {
    var problems: [KVFileError] = []
    for index in digests.indices {
      do throws(KVFileError) {
        switch segment(index) {
        case .found(let segment): try segment.verify()
        case .damaged(let error): throw error
        case .absent: break
        }
      } catch {
        problems.append(error)
      }
      progress(index + 1, segmentCount)
    }
    return problems
  }
}

/// Segments one after the other in an open file.
struct ContextSegments: Sendable {
  let file: OpenFile
  let header: ContextHeader
  let counter: TrafficCounter
  private let segmentFile: SegmentFile

  init(_ file: OpenFile, _ header: ContextHeader, counter: TrafficCounter) {
    self.file = file
    self.header = header
    self.counter = counter
    segmentFile = SegmentFile(file, named: file.path, counter: counter)
  }

  func offset(_ index: Int) -> Int { header.byteCount + index * header.kind.shape.byteCount }

  /// Reads and verifies the header of a segment, whose bytes lie within the file.
  func segment(_ index: Int, parent: Digest256) throws(KVFileError) -> StoredSegment {
    let kind = header.kind
    let place = StoredSegment.location(file.path, index)
    let segment = try SegmentHeader.read(
      file, at: offset(index), kind: kind.digest, kind.shape, place)
    guard segment.index == index, segment.parent == parent else {
      throw .damaged(place, "it is a segment of another place")
    }
    return stored(segment, index)
  }

  func stored(_ segment: SegmentHeader, _ index: Int) -> StoredSegment {
    StoredSegment(
      segment, header.kind.shape, in: segmentFile, at: offset(index), number: index)
  }
}
