// SPDX-License-Identifier: Apache-2.0

import Foundation

/// Where this product keeps what it can compute anew.
enum UserCaches {
  /// A folder of it.
  static func folder(_ name: String) -> String {
    if let caches = ProcessInfo.processInfo.environment["XDG_CACHE_HOME"], !caches.isEmpty {
      return caches + "/infinitehip/" + name
    }
    #if canImport(Darwin)
      return NSHomeDirectory() + "/Library/Caches/infinitehip/" + name
    #else
      return NSHomeDirectory() + "/.cache/infinitehip/" + name
    #endif
  }
}
