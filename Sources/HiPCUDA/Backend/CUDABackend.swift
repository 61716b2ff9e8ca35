// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
public import HiPCompute
public import HiPTensors

/// An NVIDIA GPU as a device.
///
/// Operations are enqueued on one stream and return at once; `submit` waits for them. Tuned kernels of attention serve
/// what nothing is rotated in, with keys and values in 16 bits; plain ones all the rest.
public final class CUDABackend {
  /// Which kernels compute.
  public enum Kernels: String, Sendable, Hashable, CaseIterable {
    /// The fast ones where there are any for the heads and the policy.
    case tuned
    /// Those that show what is meant, for comparison.
    case plain
  }

  /// Which kernels compute.
  public let kernels: Kernels
  let device: CUDADevice
  let stream: CUDAStream
  let memory: DeviceMemory
  let workspace: Workspace
  let rows: RowKernels
  let tuned: TunedKernels
  let plain: PlainKernels
  let models: ModelKernels
  let samples: StepSamples
  let faults: RowFaults
  let votes: PlainVotes
  let status = StepStatus()
  /// Pages and numbers of keys of batches.
  let batchTables: BatchTables
  /// Queries and outputs in the element of the keys, where calls have them in another one or scattered.
  let staging: RowStaging
  /// Selections of single queries that wait for the attention that goes with them.
  var pending: PendingSelection?
  var selectionCount = 0
  private let library: CUDALibrary
  private var submitCount = 0

  /// Opens a GPU of this machine.
  /// - Parameters:
  ///   - number: which of them, counted from 0.
  ///   - kernels: which kernels compute.
  ///   - home: the user's folder, where Python's wheels may lie; nil: there is none.
  ///   - environment: the process's variables, of which `CUDA_PATH`, `CUDA_HOME`, `VIRTUAL_ENV` and `CONDA_PREFIX` name
  ///     folders of libraries.
  ///   - cacheFolder: where compiled kernels are kept; nil: they are compiled anew by every process.
  /// - Throws: `unsupported` with what is missing and what to do.
  public convenience init(
    number: Int = 0, kernels: Kernels = .tuned, home: String?, environment: [String: String],
    cacheFolder: String?
  ) throws(ComputeError) {
    let library = try CUDALibrary(.usual(home: home, environment: environment))
    try self.init(library, number: number, kernels: kernels, cacheFolder: cacheFolder)
  }

  package init(
    _ library: CUDALibrary, number: Int = 0, kernels: Kernels, cacheFolder: String?
  ) throws(ComputeError) {
    self.library = library
    self.kernels = kernels
    device = try CUDADevice(library.driver, number: number)
    stream = try CUDAStream(device)
    memory = DeviceMemory(device)
    workspace = Workspace(memory)
    let loaded = try LoadedKernels(
      device, KernelCache(folder: cacheFolder, compiler: library.compiler))
    rows = RowKernels(loaded)
    tuned = TunedKernels(loaded, workspace)
    plain = PlainKernels(loaded, memory, usesMatrixUnits: kernels == .tuned)
    models = ModelKernels(loaded, memory, roundsFactors: kernels == .tuned)
    samples = StepSamples(memory, models)
    faults = try RowFaults(memory, on: stream)
    votes = PlainVotes(memory)
    staging = RowStaging(memory, rows)
    batchTables = BatchTables(memory)
    // Blocks of a sequence may go after the device.
    status.enqueueWaiting = { [weak self] in
      self?.enqueue { () throws(ComputeError) in try self?.flushSelections() }
    }
  }

  /// The GPU, and the kernels.
  public var name: String { "\(device.facts.name) (\(kernels.rawValue) kernels)" }

  /// The architecture that kernels are compiled for, and the kernels.
  public var arithmetic: String { "CUDA \(device.facts.capability) \(kernels.rawValue)" }

  /// What has happened so far.
  public var counters: ComputeCounters {
    var counters = ComputeCounters()
    counters.allocations = memory.account.allocations
    counters.submits = submitCount
    counters.selections = selectionCount
    return counters
  }

  /// What is left of the GPU's memory, other programs considered.
  public var ownMemoryByteCount: Int? {
    (try? device.availableByteCount()) ?? device.facts.memoryByteCount
  }

  /// What is taken of the GPU's memory once all is done and what was kept for reuse is given back.
  package func settledMemory() throws(ComputeError) -> MemoryAccount {
    try stream.wait()
    memory.trim()
    return memory.account
  }

  /// Heads of a multiple of 16 elements, at most 256, and keys and values that are not quantised.
  public func check(_ use: SequenceUse) throws(ComputeError) {
    let (size, element) = (use.format.shape.headSize, use.format.element)
    guard size % 16 == 0, (16...256).contains(size) else {
      throw ComputeError(
        .unsupported,
        "heads of \(size) elements are not supported on the GPU; they must be a multiple of 16, at most 256"
      )
    }
    guard element.blockSize == 1 else {
      throw ComputeError(
        .unsupported,
        "the GPU keeps keys and values as f16, bf16 or f32 (--kv-type), not as \(element.rawValue)")
    }
  }

  /// Scores of the chunks of a selection, and what the plain kernels take for as many queries as they compute at once.
  public func estimate(_ use: SequenceUse) -> Int {
    guard case .hierarchical(let pruning) = use.policy, let scan = pruning.stages.first else {
      return 0
    }
    return use.length / scan.chunkSize * use.format.shape.heads * 8 + PlainKernels.scratchByteCount
  }

  /// Memory of the GPU: what is given is copied there.
  public func makeTensor(
    _ source: TensorSource, element: ElementType, rows: Int, columns: Int
  ) throws(ComputeError) -> DeviceTensor {
    let buffer = try memory.allocate(byteCount: rows * element.byteCount(of: columns))
    let tensor = DeviceTensor(buffer: buffer, element: element, rows: rows, columns: columns)
    switch source {
    case .zeros: try stream.fill(buffer.all, with: 0)
    case .values(let values):
      precondition(values.count == rows * columns)
      guard element != .float32 else {
        try stream.uploadElements(values, to: buffer)
        break
      }
      let wide = try memory.allocate(byteCount: values.count * 4)
      try stream.uploadElements(values, to: wide)
      try self.rows.move(
        DeviceTensor(buffer: wide, element: .float32, rows: rows, columns: columns), to: tensor,
        on: stream)
    case .mapped(let range):
      try unsafe stream.upload(
        UnsafeRawBufferPointer(rebasing: range.file.bytes[range.range]), to: buffer.all)
    case .converted(_, let stored):
      throw ComputeError(
        .unsupported,
        "the GPU takes weights as the file has them and does not round \(stored.rawValue) to \(element.rawValue); leave "
          + "--weights out, or compute on the CPU (--device cpu)")
    }
    return tensor
  }

  /// Pools that grow as blocks are provided; there is no tier below the GPU's memory.
  public func makeStore(_ format: KVFormat, _ placement: KVPlacement) -> any KVStore {
    CUDAKVStore(format, memory, stream, status)
  }

  /// Waits for the device.
  public func submit() throws(ComputeError) -> StepOutput {
    submitCount += 1
    do throws(ComputeError) {
      try finishEnqueueing()
      try faults.fetch(on: stream)
      try votes.fetch(on: stream)
      try stream.wait()
    } catch {
      abandon()
      throw error
    }
    var output = StepOutput()
    votes.count(into: &output.votes)
    output.results = samples.results()
    output.faults = faults.fetched
    return output
  }

  /// Forgets a step that failed.
  func abandon() {
    // What was enqueued may have left counters in the midst of something.
    workspace.clear()
    votes.clear()
    samples.clear()
    pending = nil
    _ = status.taken()
    // On a lost device this fails, too, and whoever comes next is told.
    try? faults.forget(on: stream)
  }

  /// Enqueues what still waits, and throws what went wrong so far.
  func finishEnqueueing() throws(ComputeError) {
    status.settle()
    if let error = status.taken() { throw error }
  }

  /// Runs what may fail, unless something has: `submit` tells of it.
  func enqueue(_ body: () throws(ComputeError) -> Void) {
    guard !status.isFailed else { return }
    do throws(ComputeError) {
      try body()
    } catch {
      status.take(error)
    }
  }

  /// A copy in the process's memory, once all is done.
  public func download(_ tensor: DeviceTensor) throws(ComputeError) -> [Float] {
    guard let source = tensor.wholeBuffer else {
      throw ComputeError(.device, "a tensor of another device was given to the GPU")
    }
    let count = tensor.rows * tensor.columns
    guard tensor.element != .float32 else {
      return try stream.downloadElements(count, of: source, as: Float(0))
    }
    let wide = try memory.allocate(byteCount: count * 4)
    try rows.move(
      tensor,
      to: DeviceTensor(
        buffer: wide, element: .float32, rows: tensor.rows, columns: tensor.columns), on: stream)
    return try stream.downloadElements(count, of: wide, as: Float(0))
  }
}

extension DeviceTensor {
  /// Its bytes as a buffer; nil where another device has them.
  fileprivate var wholeBuffer: CUDABuffer? {
    guard type(of: buffer) == CUDABuffer.self else { return nil }
    let whole = unsafe unsafeDowncast(buffer, to: CUDABuffer.self)
    return CUDABuffer(offset..<offset + rows * rowByteCount, of: whole)
  }
}
