// SPDX-License-Identifier: Apache-2.0

package import HiPCompute
internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Cubins in a folder of the user's caches, named by what they are made of: sources, options, compiler.
///
/// Shared by processes: files appear whole or not at all, and one that is not what was written is made anew.
package final class KernelCache: Sendable {
  /// The folder; nil: nothing is kept.
  package let folder: String?
  package let compiler: KernelCompiler
  private let state = Mutex(Statistics())

  /// How often cubins were where they were wanted.
  package struct Statistics: Sendable, Hashable {
    package var hits = 0
    /// Cubins that were compiled, damaged ones included.
    package var misses = 0
    /// Files that were not what had been written.
    package var damaged = 0
    /// Cubins that could not be kept.
    package var unwritten = 0
    /// Why, the last time.
    package var problem: String?
    fileprivate var writes = 0
  }

  package init(folder: String?, compiler: KernelCompiler) {
    self.folder = folder
    self.compiler = compiler
  }

  package var statistics: Statistics { state.withLock { $0 } }

  /// The code of a program, from the folder or compiled.
  package func cubin(
    _ program: KernelProgram, for architecture: KernelArchitecture
  ) throws(ComputeError) -> [UInt8] {
    guard let folder else {
      state.withLock { $0.misses += 1 }
      return try compiler.compile(program, for: architecture)
    }
    let path = folder + "/" + name(program, architecture)
    let found = CubinFile.read(path)
    if case .cubin(let cubin) = found {
      state.withLock { $0.hits += 1 }
      return cubin
    }
    if case .damaged = found { state.withLock { $0.damaged += 1 } }
    let cubin = try compiler.compile(program, for: architecture)
    let number = state.withLock { state in
      state.misses += 1
      state.writes += 1
      return state.writes
    }
    // Caches of one process may share a folder, too: the address tells them apart.
    let temporary =
      "\(path).\(getpid()).\(UInt(bitPattern: ObjectIdentifier(self).hashValue)).\(number)"
    if let problem = CubinFile.makeFolder(folder)
      ?? CubinFile.write(cubin, to: path, by: temporary)
    {
      // It works without, only slower the next time.
      state.withLock {
        $0.unwritten += 1
        $0.problem = problem
      }
    }
    return cubin
  }

  /// The file's name: a digest of all that the code depends on.
  func name(_ program: KernelProgram, _ architecture: KernelArchitecture) -> String {
    var bytes: [UInt8] = []
    func add(_ part: some Collection<UInt8>) {
      // With its length in front no part runs into the next.
      bytes += Array("\(part.count):".utf8) + part
    }
    add("NVRTC \(compiler.version)".utf8)
    for option in compiler.options(program, architecture) { add(option.utf8) }
    for source in KernelSource.all where source.isHeader || source.name == program.file {
      add(source.name.utf8)
      unsafe add(source.bytes)
    }
    let digits = Array("0123456789abcdef".utf8)
    let hex = CubinFile.digest(bytes).flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }
    return String(decoding: hex, as: UTF8.self) + ".cubin"
  }
}
