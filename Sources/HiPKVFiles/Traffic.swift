// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// Bytes that were moved between memory and files.
public struct Traffic: Sendable, Hashable {
  /// Bytes read.
  public var bytesRead = 0
  /// Bytes written.
  public var bytesWritten = 0

  /// Nothing moved.
  public init() {}
}

/// Adds up what the threads move.
final class TrafficCounter: Sendable {
  private let read = Atomic(0)
  private let written = Atomic(0)
  private let space: Int

  /// - Parameter space: bytes after which the disk counts as full, for tests.
  init(space: Int = .max) { self.space = space }

  /// Whether something may still be written.
  var hasSpace: Bool { space == .max || written.load(ordering: .relaxed) < space }

  func addRead(_ count: Int) { read.add(count, ordering: .relaxed) }
  func addWritten(_ count: Int) { written.add(count, ordering: .relaxed) }

  var traffic: Traffic {
    var traffic = Traffic()
    traffic.bytesRead = read.load(ordering: .relaxed)
    traffic.bytesWritten = written.load(ordering: .relaxed)
    return traffic
  }
}
