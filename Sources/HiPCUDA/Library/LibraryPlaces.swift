// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Where CUDA's libraries are looked for, besides the loader's own path, which comes first.
package struct LibraryPlaces: Sendable {
  /// Folders as the shell has them, with `*` and `[12]`, in order.
  package let folders: [String]
  /// Whether the loader is asked first.
  package let asksLoader: Bool

  package init(folders: [String], asksLoader: Bool = true) {
    self.folders = folders
    self.asksLoader = asksLoader
  }

  /// The usual places: what the environment names, toolkits, the distributions' folders and the wheels of Python.
  /// - Parameters:
  ///   - home: the user's folder.
  ///   - environment: the variables of the process, of which `CUDA_PATH`, `CUDA_HOME`, `VIRTUAL_ENV` and `CONDA_PREFIX`
  ///     name folders; whoever makes the device reads them.
  package static func usual(home: String?, environment: [String: String] = [:]) -> LibraryPlaces {
    func named(_ variable: String, _ parts: [String]) -> [String] {
      guard let folder = environment[variable], folder.hasPrefix("/") else { return [] }
      return parts.map { folder + $0 }
    }
    let wheels = "/lib/python3*/site-packages/nvidia/*/lib"
    let toolkit = ["/lib64", "/lib", "/targets/*/lib"]
    var folders = named("CUDA_PATH", toolkit) + named("CUDA_HOME", toolkit)
    folders += named("VIRTUAL_ENV", [wheels]) + named("CONDA_PREFIX", ["/lib", wheels])
    folders += ["/usr/local/cuda/lib64", "/usr/local/cuda-1*/lib64", "/opt/cuda/lib64"]
    folders += ["/usr/lib/*-linux-gnu", "/usr/lib64", "/usr/lib/wsl/lib", "/run/opengl-driver/lib"]
    if let home { folders.append(home + "/.local" + wheels) }
    folders += ["/usr/local" + wheels, "/usr/local/lib/python3*/dist-packages/nvidia/*/lib"]
    folders += ["/usr/lib/python3*/dist-packages/nvidia/*/lib"]
    return LibraryPlaces(folders: folders)
  }

  /// The files of that name, or of that pattern, in the folders.
  func paths(of name: String) -> [String] {
    folders.flatMap { Self.matches($0 + "/" + name) }
  }

  /// The paths that a pattern of the shell stands for, of those that exist.
  static func matches(_ pattern: String) -> [String] {
    var found = unsafe glob_t()
    defer { unsafe globfree(&found) }
    guard unsafe glob(pattern, 0, nil, &found) == 0 else { return [] }
    return unsafe (0..<Int(found.gl_pathc)).compactMap { index in
      unsafe found.gl_pathv[index].map { unsafe String(cString: $0) }
    }
  }
}
