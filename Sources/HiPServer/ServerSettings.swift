// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
internal import InfiniteHiP

/// How a server listens, and what it allows.
public struct ServerSettings: Sendable {
  /// The address that it listens on; loopback unless told otherwise.
  public var host = "127.0.0.1"
  /// The port; 0 takes a free one.
  public var port = 11_434
  /// What requests must carry as a bearer token; nil: nothing.
  public var apiKey: String?
  /// Origins of pages elsewhere that may ask, as `https://example.org`; `*` for any.
  public var origins: [String] = []
  /// Requests that are answered at once.
  public var parallel = 16
  /// Requests that wait besides; further ones are refused.
  public var queue = 512
  /// The most bytes of a request's body; blobs are not counted.
  public var bodyLimit = 64 << 20
  /// Seconds within which a request has to be there.
  public var bodySeconds = 60.0
  /// The most tokens of prompt and answer, unless a request asks for fewer.
  public var contextLimit = 1 << 24
  /// What tokens attend to, unless a request says otherwise.
  public var attention = AttentionChoice.automatic
  /// Seconds that a model stays loaded after its last request; negative: for ever.
  public var keepAliveSeconds = 300.0
  /// Models that are loaded at once.
  public var loadedModels = 2
  /// Bytes of keys and values of all models; nil: half of the memory.
  public var cacheBytes: Int?
  /// Where models come from whose names have no host, as `https://HOST`.
  public var registry: String?

  /// The usual settings.
  public init() {}

  /// Seconds that a text says, as `5m` or `-1`.
  ///
  /// Nil where it says none; negative: for ever.
  public static func keepAliveSeconds(_ text: String) -> Double? {
    switch KeepAlive(text) {
    case nil: nil
    case .forever?: -1
    case .seconds(let seconds)?: seconds
    }
  }
}
