// SPDX-License-Identifier: Apache-2.0

internal import HiPCompute

/// Why a request cannot be served.
public struct InfiniteHiPError: Error, Sendable, CustomStringConvertible {
  /// What kind of failure, for callers that react to it.
  public enum Code: Sendable, Hashable {
    /// The model file cannot be used.
    case model
    /// The request is impossible as it stands.
    case request
    /// Prompt and answer do not fit into the context.
    case contextExceeded(needed: Int, limit: Int)
    /// The keys and values would not fit into what is free of the memory.
    case outOfMemory(neededBytes: Int)
    /// The session is answering another request.
    case busy
    /// The model computes numbers that are not finite in this layer; nil: outside of layers.
    case notFinite(layer: Int?)
    /// A file of keys and values could not be read or written.
    case lowerTier
    /// The device failed.
    case device
  }

  /// What kind of failure.
  public let code: Code
  /// What is wrong and what to do.
  public let message: String
  /// What led to it, where something else failed first.
  public let cause: (any Error)?

  /// Creates an error.
  public init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
    self.code = code
    self.message = message
    self.cause = cause
  }

  static let busy = InfiniteHiPError(
    .busy, "the session is answering another request; wait for it, or fork the session before")

  /// What a device could not do.
  init(_ error: ComputeError) {
    let code: Code =
      switch error.code {
      case .outOfMemory(let bytes): .outOfMemory(neededBytes: bytes)
      case .notFinite(let layer): .notFinite(layer: layer)
      case .unsupported: .request
      case .damaged, .lowerTier: .lowerTier
      case .device: .device
      }
    self.init(code, error.message, cause: error)
  }

  /// What has gone wrong below, whatever it is.
  init(wrapping error: any Error) {
    self =
      (error as? InfiniteHiPError) ?? (error as? ComputeError).map { InfiniteHiPError($0) }
      ?? InfiniteHiPError(.lowerTier, "\(error)", cause: error)
  }

  /// The text to show.
  public var description: String { message }
}
