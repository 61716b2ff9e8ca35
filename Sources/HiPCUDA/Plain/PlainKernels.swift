// SPDX-License-Identifier: Apache-2.0

internal import CHiPCUDA
package import HiPAttention
internal import HiPCompute
package import HiPTensors

/// One layer of one sequence as plain kernels find it.
package struct PlainKeys: Sendable, Hashable {
  /// The device's address of the layer's keys, `[page][kvHead][64][headSize]`, not rotated.
  package var keys: UInt64
  /// The device's address of its values, the same.
  package var values: UInt64
  /// The device's address of the sequence's pages by place, 32-bit integers.
  package var pages: UInt64
  package var shape: AttentionShape
  /// How keys and values are stored: `float32`, `float16` or `bfloat16`.
  package var element: ElementType

  package init(
    keys: UInt64, values: UInt64, pages: UInt64, shape: AttentionShape, element: ElementType
  ) {
    self.keys = keys
    self.values = values
    self.pages = pages
    self.shape = shape
    self.element = element
  }
}

/// Attention by every policy that there is, for any heads of a multiple of 16 elements up to 256: what tuned kernels are
/// held against, and what serves where there are none.
///
/// Everything is enqueued, in order, on the stream that calls name; nothing is waited for.
package final class PlainKernels {
  let kernels: LoadedKernels
  let memory: DeviceMemory
  /// Whether products of 16-bit keys go to the GPU's matrix units.
  let usesMatrixUnits: Bool
  private var frequencies: [[Double]: CUDABuffer] = [:]
  var turnTables: [[Double]: TurnTable] = [:]

  package init(_ kernels: LoadedKernels, _ memory: DeviceMemory, usesMatrixUnits: Bool) {
    self.kernels = kernels
    self.memory = memory
    self.usesMatrixUnits = usesMatrixUnits
  }

  // MARK: Programs

  /// A program for keys and values of one type and queries, or new rows, of another.
  private static func program(_ file: String, _ element: String, _ query: String) -> KernelProgram {
    guard file != "plain_append.cu" else {
      return KernelProgram(file, [.init("SOURCE", query), .init("ELEMENT", element)])
    }
    // Sums in double, where what is stored is not rounded, can be held against the reference.
    let real = element == "float" ? "double" : "float"
    return KernelProgram(
      file, [.init("ELEMENT", element), .init("QUERY", query), .init("REAL", real)])
  }

  private static let selecting = KernelProgram("plain_select.cu")

  /// All of them, for whoever compiles them ahead.
  package static let programs: [KernelProgram] = {
    let pairs = ["float", "Half", "BFloat16"].flatMap { element in
      Set(["float", element]).sorted().map { (element, $0) }
    }
    let files = ["plain_append.cu", "plain_attend.cu", "plain_score.cu", "plain_evict.cu"]
    let tiles = [64, 80, 128, 256].flatMap { size in
      pairs.filter { $0.0 != "float" }.map { tileProgram($0.0, $0.1, headSize: size) }
    }
    return [selecting, turnProgram] + tiles + scoringPrograms
      + files.flatMap { file in pairs.map { program(file, $0.0, $0.1) } }
  }()

  /// A kernel of a file for keys and values of one type, and queries of another.
  func kernel(
    _ name: String, of file: String, _ element: ElementType, _ query: ElementType
  ) throws(ComputeError) -> CUDAKernel {
    guard let stored = element.kernelName, let asked = query.kernelName,
      query == .float32 || query == element
    else {
      throw ComputeError(
        .unsupported,
        "the GPU has no attention of queries in \(query.rawValue) over keys in \(element.rawValue); keep keys and values "
          + "as f16 or bf16, or compute on the CPU (--device cpu)")
    }
    return try kernels.kernel(name, of: Self.program(file, stored, asked))
  }

  /// A kernel that sees neither keys nor queries.
  func selectingKernel(_ name: String) throws(ComputeError) -> CUDAKernel {
    try kernels.kernel(name, of: Self.selecting)
  }

  /// Bytes of the numbers that sums are in.
  func realByteCount(_ element: ElementType) -> Int { element == .float32 ? 8 : 4 }

  // MARK: Memory

  /// The device's copy of some numbers.
  func uploaded<Element: BitwiseCopyable>(
    _ elements: [Element], on stream: CUDAStream
  ) throws(ComputeError) -> CUDABuffer {
    let buffer = try memory.allocate(byteCount: elements.count * MemoryLayout<Element>.stride)
    try stream.uploadElements(elements, to: buffer)
    return buffer
  }

  /// Angles per position; 0 where nothing is rotated.
  func frequencies(
    _ rotary: RotaryEmbedding?, on stream: CUDAStream
  ) throws(ComputeError) -> UInt64 {
    guard let rotary, !rotary.frequencies.isEmpty else { return 0 }
    if let known = frequencies[rotary.frequencies] { return known.address }
    // Texts that grow beyond what a model was trained on have ever other ones.
    if frequencies.count >= 64 { frequencies = [:] }
    let buffer = try uploaded(rotary.frequencies, on: stream)
    frequencies[rotary.frequencies] = buffer
    return buffer.address
  }

  // MARK: Inputs

  /// What kernels see of some rows of an input.
  func input(
    _ input: AttentionInput, rows: Range<Int>, _ keys: PlainKeys, on stream: CUDAStream
  ) throws(ComputeError) -> ihp_plain_input {
    let shape = input.shape
    guard shape.headSize % 16 == 0, (16...256).contains(shape.headSize),
      (input.rotary?.frequencies.count ?? 0) * 2 <= shape.headSize
    else {
      throw ComputeError(
        .unsupported,
        "heads of \(shape.headSize) elements are not supported on the GPU; they must be a multiple of 16, at most 256, "
          + "and rotate no more elements than they have")
    }
    let queries = input.queries.rows(rows)
    return ihp_plain_input(
      queries: queries.address, keys: keys.keys, values: keys.values, pages: keys.pages,
      frequencies: try frequencies(input.rotary, on: stream),
      amplitude: input.rotary?.amplitude ?? 1, trained_length: Int64(input.trainedLength),
      heads: Int32(shape.heads), kv_heads: Int32(shape.kvHeads), head_size: Int32(shape.headSize),
      pairs: Int32(input.rotary?.frequencies.count ?? 0), rows: Int32(rows.count),
      start: Int32(clamping: input.start + rows.lowerBound), scale: shape.scale,
      soft_cap: shape.softCap ?? 0)
  }

  /// An error that says that somebody's numbers do not fit together.
  func mistake(_ what: String) -> ComputeError {
    ComputeError(.device, "\(what); this is a mistake in the program")
  }
}

extension PositionScheme {
  /// What kernels call it.
  var kernelNumber: Int32 {
    switch self {
    case .relative: Int32(IHP_PLAIN_RELATIVE)
    case .chunkIndexed: Int32(IHP_PLAIN_CHUNK_INDEXED)
    case .infllm: Int32(IHP_PLAIN_INFLLM)
    case .selfExtend: Int32(IHP_PLAIN_SELF_EXTEND)
    case .dynamic: Int32(IHP_PLAIN_DYNAMIC)
    case .streaming: Int32(IHP_PLAIN_STREAMING)
    case .spread: Int32(IHP_PLAIN_SPREAD)
    case .absolute: Int32(IHP_PLAIN_ABSOLUTE)
    }
  }
}

extension ChunkEstimate {
  /// What kernels call it.
  var kernelNumber: Int32 {
    switch self {
    case .halving: Int32(IHP_PLAIN_HALVING)
    case .means: Int32(IHP_PLAIN_MEANS)
    case .exact: Int32(IHP_PLAIN_EXACT)
    case .fourBit: Int32(IHP_PLAIN_FOUR_BIT)
    case .tree: Int32(IHP_PLAIN_TREE)
    }
  }
}

extension HeadSharing {
  /// Number of sets of heads that share a selection.
  package func owners(_ shape: AttentionShape) -> Int {
    switch self {
    case .allHeads: 1
    case .group: shape.kvHeads
    case .head: shape.heads
    }
  }
}

extension CUDAStream {
  /// Copies numbers from the process, which may change when this returns.
  func uploadElements<Element: BitwiseCopyable>(
    _ elements: [Element], to target: CUDABuffer
  ) throws(ComputeError) {
    guard !elements.isEmpty else { return }
    var problem: ComputeError?
    unsafe elements.withUnsafeBytes { bytes in
      do throws(ComputeError) {
        unsafe try upload(bytes, to: target[0..<bytes.count])
      } catch {
        problem = error
      }
    }
    if let problem { throw problem }
  }

  /// The first numbers of a buffer, once all that was enqueued is done.
  func downloadElements<Element: BitwiseCopyable>(
    _ count: Int, of buffer: CUDABuffer, as zero: Element
  ) throws(ComputeError) -> [Element] {
    var elements = [Element](repeating: zero, count: count)
    guard count > 0 else { return [] }
    var problem: ComputeError?
    unsafe elements.withUnsafeMutableBytes { bytes in
      do throws(ComputeError) {
        unsafe try download(buffer[0..<bytes.count], to: bytes)
      } catch {
        problem = error
      }
    }
    if let problem { throw problem }
    return elements
  }
}
