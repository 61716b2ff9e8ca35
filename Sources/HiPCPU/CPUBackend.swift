// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
public import HiPCompute
public import HiPTensors
import Synchronization

/// The process's own memory and cores as a device.
///
/// Operations are done when they are enqueued; `submit` tells what they came to.
public final class CPUBackend: ComputeBackend {
  /// The kernels in use.
  public let kernels: CPUKernels
  /// Pointers to functions without state.
  let table: ihp_kernels
  /// Bytes of an element that products of many rows take.
  var productBytes: Int { table.product_element == IHP_BF16 ? 2 : 4 }
  let pool: ThreadPool
  let ledger = MemoryLedger()
  /// What the next `submit` returns.
  var output = StepOutput()
  var selectionCount = 0
  private var submitCount = 0
  /// Rows that are not finite, in the order in which they were found by any thread.
  private let faults = Mutex<[StepOutput.RowFault]>([])
  private var rotations: [RotaryEmbedding: RotationTable] = [:]
  private let scratches: [Scratch]
  private let panels: [KeyPanels]
  private let heldPages: [HeldPages]
  /// Partial results of split attention.
  let partials: Scratch
  /// A product's left-hand side in the precision of the products.
  let narrowedInputs: Scratch
  /// Scores of one pruning stage.
  let selectionScores: Scratch

  /// Rotation tables that are kept from one step to the next.
  private static let keptRotations = 4

  /// Makes a device of this machine.
  /// - Parameters:
  ///   - threads: how many threads compute; nil takes one for each core that the process may use.
  ///   - kernels: which kernels to use; they must be supported.
  public init(threads: Int? = nil, kernels: CPUKernels = .best) throws(ComputeError) {
    guard let table = kernels.table else {
      throw ComputeError(
        .unsupported, "this machine has no \(kernels.rawValue); use \(CPUKernels.best.rawValue)")
    }
    self.kernels = kernels
    self.table = table.pointee
    pool = ThreadPool(
      threadCount: threads ?? AvailableCores.count, afterLoop: table.pointee.release)
    let ledger = ledger
    scratches = (0..<pool.threadCount).map { _ in Scratch(ledger) }
    panels = (0..<pool.threadCount).map { _ in KeyPanels(ledger) }
    heldPages = (0..<pool.threadCount).map { _ in HeldPages() }
    partials = Scratch(ledger)
    narrowedInputs = Scratch(ledger)
    selectionScores = Scratch(ledger)
  }

  /// The kernels and the number of threads.
  public var name: String { "CPU (\(kernels.rawValue), \(pool.threadCount) threads)" }

  /// The kernels.
  public var arithmetic: String { "CPU \(kernels.rawValue)" }

  /// What has happened so far.
  public var counters: ComputeCounters {
    var counters = ComputeCounters()
    counters.allocations = ledger.allocations.load(ordering: .relaxed)
    counters.submits = submitCount
    counters.selections = selectionCount
    return counters
  }

  /// None: it is the process's.
  public var ownMemoryByteCount: Int? { nil }

  /// Keys that a mean of a sketch stands for; a chunk has two, so that kernels add neighbours up.
  static let keysPerMean = EightBitMean.defaultKeyCount

  /// Heads of a multiple of 16 elements, at most 256, formats whose rows fill quantised blocks, and means of 4 keys
  /// in chunks of 8.
  public func check(_ use: SequenceUse) throws(ComputeError) {
    let shape = use.format.shape
    guard shape.headSize % 16 == 0, (16...256).contains(shape.headSize) else {
      throw ComputeError(
        .unsupported,
        "heads of \(shape.headSize) elements are not supported on the CPU; they must be a multiple of "
          + "16, at most 256")
    }
    guard shape.headSize % use.format.element.blockSize == 0 else {
      throw ComputeError(
        .unsupported,
        "heads of \(shape.headSize) elements do not fill the blocks of \(use.format.element.blockSize) of "
          + "\(use.format.element.rawValue); keep keys and values as f16 or bf16")
    }
    guard case .hierarchical(let pruning) = use.policy else { return }
    for stage in pruning.stages + (pruning.fineStages ?? []) where stage.estimate == .means {
      guard stage.keysPerMean == Self.keysPerMean, stage.chunkSize == 2 * Self.keysPerMean else {
        throw ComputeError(
          .unsupported,
          "means of \(stage.keysPerMean) keys in chunks of \(stage.chunkSize) are for GPUs; the CPU scans means of "
            + "\(Self.keysPerMean) in chunks of \(2 * Self.keysPerMean), as \"infinitehip\" has them"
        )
      }
    }
  }

  /// Memory of the process, or a reference to the mapped bytes, which are not copied.
  public func makeTensor(
    _ source: TensorSource, element: ElementType, rows: Int, columns: Int
  ) throws(ComputeError) -> DeviceTensor {
    let buffer: CPUBuffer
    switch source {
    case .mapped(let bytes): buffer = CPUBuffer(bytes)
    case .zeros, .values, .converted:
      do {
        buffer = try CPUBuffer(byteCount: rows * element.byteCount(of: columns))
        ledger.countAllocation()
      } catch {
        throw ComputeError(error)
      }
    }
    let tensor = DeviceTensor(buffer: buffer, element: element, rows: rows, columns: columns)
    if case .converted(let bytes, let stored) = source {
      try convert(bytes, from: stored, to: tensor)
    }
    if case .values(let values) = source {
      precondition(values.count == rows * columns)
      values.withUnsafeBufferPointer { source in
        guard let start = source.baseAddress else { return }
        for row in 0..<rows {
          table.narrow(
            element.kernelElement, start + row * columns, columns,
            tensor.bytes + row * tensor.rowByteCount)
        }
      }
    }
    return tensor
  }

  private func convert(
    _ bytes: MappedRange, from stored: ElementType, to tensor: DeviceTensor
  ) throws(ComputeError) {
    let damaged = Atomic<Bool>(false)
    let rowSize = stored.byteCount(of: tensor.columns)
    pool.run(tensor.rows) { row, thread in
      let scratch = scratch(thread)
      guard scratch.reset(Scratch.size(tensor.columns)) else { return }
      let wide = scratch.take(tensor.columns)
      table.widen(
        stored.kernelElement,
        bytes.file.bytes.baseAddress?.advanced(by: bytes.range.lowerBound + row * rowSize), 0,
        tensor.columns, wide)
      // What is rounded to few bits would hide it.
      guard table.is_finite(wide, tensor.columns) == 1 else {
        damaged.store(true, ordering: .relaxed)
        return
      }
      table.narrow(
        tensor.element.kernelElement, wide, tensor.columns, tensor.bytes + row * tensor.rowByteCount
      )
    }
    if damaged.load(ordering: .relaxed) {
      throw ComputeError(
        .notFinite(layer: nil), "a matrix holds weights that are not finite; the file is damaged")
    }
    if let failure = ledger.takeFailure() { throw failure }
  }

  /// A copy, which is there at once.
  public func download(_ tensor: DeviceTensor) throws(ComputeError) -> [Float] {
    var values = [Float](repeating: 0, count: tensor.rows * tensor.columns)
    values.withUnsafeMutableBufferPointer { values in
      guard let start = values.baseAddress else { return }
      for row in 0..<tensor.rows {
        table.widen(
          tensor.element.kernelElement, tensor.bytes + row * tensor.rowByteCount, 0, tensor.columns,
          start + row * tensor.columns)
      }
    }
    return values
  }

  /// Blocks in slabs that are taken as they are needed.
  public func makeStore(_ format: KVFormat, _ placement: KVPlacement) -> any KVStore {
    CPUKVStore(format, placement, readers: pool.threadCount, ledger)
  }

  /// Widens the tokens' rows.
  public func embed(_ call: EmbedCall) {
    pool.run(call.tokens.count) { item, _ in
      table.widen(
        call.table.element.kernelElement,
        call.table.bytes + Int(call.tokens[item]) * call.table.rowByteCount, 0,
        call.table.columns, call.output.floats(row: item))
      guard call.scale != 1 else { return }
      let row = call.output.floats(row: item)
      for column in 0..<call.table.columns { row[column] *= call.scale }
    }
  }

  /// Normalises row by row.
  public func normalize(_ call: NormCall) {
    let grain = 16
    pool.run((call.input.rows + grain - 1) / grain) { item, _ in
      for row in item * grain..<min(call.input.rows, (item + 1) * grain) {
        let (input, output) = (call.input.floats(row: row), call.output.floats(row: row))
        let square = table.rms_norm(
          input, call.weight.floats, call.input.columns, call.epsilon,
          call.update == .add ? input : output)
        if call.update == .add {
          for column in 0..<call.input.columns { output[column] += input[column] }
        }
        if !square.isFinite {
          countFault(row: call.firstRow + row / call.rowsPerToken, layer: call.layer)
        }
      }
    }
  }

  /// What the operations since the last call came to; all of them are done.
  public func submit() throws(ComputeError) -> StepOutput {
    submitCount += 1
    var result = output
    output = StepOutput()
    let faults = faults.withLock { faults in
      defer { faults = [] }
      return faults
    }
    var rows: Set<Int> = []
    // The first of a row is where it began.
    result.faults = faults.filter { rows.insert($0.row).inserted }
    forgetRotations()
    if let failure = ledger.takeFailure() { throw failure }
    return result
  }

  /// A row that stopped being finite.
  func countFault(row: Int, layer: Int?) {
    faults.withLock { $0.append(StepOutput.RowFault(row: row, layer: layer)) }
  }

  /// Scratch memory of one thread of a loop.
  func scratch(_ thread: Int) -> Scratch { scratches[thread] }

  /// Packed keys of one thread of a loop.
  func keyPanels(_ thread: Int) -> KeyPanels { panels[thread] }

  /// Pages that one thread of a loop reads.
  func heldPages(_ thread: Int) -> HeldPages { heldPages[thread] }

  /// Rotations for positions 0 ..< `count`; none without an embedding.
  func rotations(_ rotary: RotaryEmbedding?, count: Int) -> Rotations {
    guard let rotary else { return .none }
    let table = rotations[rotary] ?? RotationTable(rotary, ledger)
    table.lastUse = submitCount
    rotations[rotary] = table
    return table.rotations(count: count)
  }

  /// Keeps the tables used last: a text that grows under `dynamic` needs another one each time it doubles.
  private func forgetRotations() {
    for table in rotations.values { table.endStep() }
    while rotations.count > Self.keptRotations,
      let oldest = rotations.min(by: { $0.value.lastUse < $1.value.lastUse })
    {
      rotations[oldest.key] = nil
    }
  }
}
