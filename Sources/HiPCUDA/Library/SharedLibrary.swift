// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
internal import HiPCompute

/// An open library of CUDA; it is never closed.
@safe struct SharedLibrary: Sendable {
  /// The loader's handle, which any thread may use.
  nonisolated(unsafe) let handle: UnsafeMutableRawPointer
  /// Its path, or its name where the loader found it.
  let path: String

  /// What to say of a library that is not there.
  struct Wanted {
    /// Names, the best first.
    let names: [String]
    /// What it is, as "the NVIDIA driver".
    let title: String
    /// What to do without it, as "install …".
    let remedy: String
    /// A pattern of files beside it that it will look for by their names.
    var companions: String?
  }

  /// Finds a library: of each name first the loader's, then those of the folders.
  /// - Throws: `unsupported`, with what was looked for, where, and what to do.
  init(_ wanted: Wanted, in places: LibraryPlaces) throws(ComputeError) {
    var problems: [String] = []
    for name in wanted.names {
      for path in (places.asksLoader ? [name] : []) + places.paths(of: name) {
        if let companions = wanted.companions, let slash = path.lastIndex(of: "/") {
          // They have no path of their own; what is loaded already is found by its name.
          for companion in LibraryPlaces.matches(path[..<slash] + "/" + companions) {
            _ = unsafe Self.open(companion)
          }
        }
        switch unsafe Self.open(path) {
        case .success(let handle):
          unsafe self.handle = handle
          self.path = path
          return
        case .failure(let problem):
          // The loader's way to say that there is none.
          let isAbsent = path == name && problem.words.hasPrefix(name + ": cannot open shared")
          if !isAbsent { problems.append(problem.words) }
        }
      }
    }
    let names = wanted.names.joined(separator: " or ")
    let looked =
      (places.asksLoader ? ["on the loader's path"] : [])
      + (places.folders.isEmpty ? [] : ["in " + places.folders.joined(separator: ", ")])
    throw ComputeError(
      .unsupported,
      problems.isEmpty
        ? "\(wanted.title) is missing; \(wanted.remedy). Looked for: \(names), \(looked.joined(separator: " and "))"
        : "\(wanted.title) cannot be loaded: \(problems.joined(separator: "; ")); \(wanted.remedy)")
  }

  private struct Problem: Error { let words: String }

  private static func open(_ path: String) -> Result<UnsafeMutableRawPointer, Problem> {
    var words = [CChar](repeating: 0, count: 512)
    guard let handle = unsafe ihp_library_open(path, &words, words.count) else {
      let text = words.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
      return unsafe .failure(Problem(words: String(decoding: text, as: UTF8.self)))
    }
    return unsafe .success(handle)
  }

  /// The path of the file that a function of a library lies in.
  static func path(of function: UnsafeRawPointer) -> String? {
    unsafe ihp_library_path(function).map { unsafe String(cString: $0) }
  }

  /// An error about a function that a library lacks.
  static func missing(
    _ symbol: UnsafePointer<CChar>, in path: String, _ remedy: String
  ) -> ComputeError {
    unsafe ComputeError(
      .unsupported, "\(path) has no \(String(cString: symbol)): it is too old or damaged; \(remedy)"
    )
  }
}
