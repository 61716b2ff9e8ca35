// SPDX-License-Identifier: Apache-2.0

internal import CHiPSIMD
internal import HiPAttention
public import HiPCompute
public import HiPTensors

/// The process's own memory and cores as a device.
public final class CPUBackend: ComputeBackend {
  /// The kernels in use.
  public let kernels: CPUKernels
  /// Pointers to functions without state.
  nonisolated(unsafe) let table: hip_kernels
  let pool: ThreadPool
  // The ones below belong to the thread that makes the calls; loops use one scratch per thread.
  /// What this device has done so far.
  nonisolated(unsafe) private(set) public var counters = ComputeCounters()
  nonisolated(unsafe) private var rotations: [RotaryEmbedding: RotationTable] = [:]
  nonisolated(unsafe) private var scratches: [Scratch]
  nonisolated(unsafe) private var keyPanels: [KeyPanels]
  /// Partial results of split attention.
  nonisolated(unsafe) let partials = Scratch()
  /// A product's left-hand side in the precision of the products.
  nonisolated(unsafe) let narrowedInputs = Scratch()
  /// Scores of one pruning stage.
  nonisolated(unsafe) let selectionScores = Scratch()

  /// Makes a device of this machine.
  /// - Parameters:
  ///   - threads: how many threads compute; nil takes one per core.
  ///   - kernels: which kernels to use; they must be supported.
  public init(threads: Int? = nil, kernels: CPUKernels = .best) throws(ComputeError) {
    guard let table = kernels.table else {
      throw ComputeError(
        .unsupported, "this machine has no \(kernels.rawValue); use \(CPUKernels.best.rawValue)")
    }
    self.kernels = kernels
    self.table = table.pointee
    pool = ThreadPool(threadCount: threads ?? Self.coreCount)
    scratches = (0..<pool.threadCount).map { _ in Scratch() }
    keyPanels = (0..<pool.threadCount).map { _ in KeyPanels() }
  }

  /// The kernels and the number of threads.
  public var name: String { "CPU (\(kernels.rawValue), \(pool.threadCount) threads)" }

  /// Allocates zeroed memory of the process.
  public func makeBuffer(byteCount: Int) throws(ComputeError) -> any DeviceBuffer {
    counters.buffers += 1
    return CPUBuffer(byteCount: byteCount)
  }

  /// Refers to the mapped bytes; nothing is copied.
  public func makeTensor(
    _ bytes: MappedRange, element: ElementType, rows: Int, columns: Int
  ) throws(ComputeError) -> DeviceTensor {
    DeviceTensor(buffer: CPUBuffer(bytes), element: element, rows: rows, columns: columns)
  }

  /// Pages in slabs that are taken as they are needed.
  public func makePageStore(_ layout: KVLayout) -> any PageStore { CPUPageStore(layout: layout) }

  /// An empty selection.
  public func makeSelectionState() -> any SelectionState { CPUSelectionState() }

  /// Widens the tokens' rows.
  public func embed(_ call: EmbedCall) {
    pool.run(call.tokens.count) { item, _ in
      table.widen(
        call.table.element.kernelElement,
        call.table.bytes + Int(call.tokens[item]) * call.table.rowByteCount, 0,
        call.table.columns, call.output.floats(row: item))
    }
  }

  /// Normalises row by row.
  public func normalize(_ call: NormCall) {
    let grain = 16
    pool.run((call.input.rows + grain - 1) / grain) { item, _ in
      for row in item * grain..<min(call.input.rows, (item + 1) * grain) {
        table.rms_norm(
          call.input.floats(row: row), call.weight.floats, call.input.columns, call.epsilon,
          call.output.floats(row: row))
      }
    }
  }

  /// Applies the gate in place.
  public func activate(_ call: GateCall) {
    let count = call.gate.rows * call.gate.columns
    let grain = 16 * 1024
    pool.run((count + grain - 1) / grain) { item, _ in
      let start = item * grain
      table.swiglu(call.gate.floats + start, call.up.floats + start, min(grain, count - start))
    }
  }

  /// Copies the elements.
  public func read(_ tensor: DeviceTensor) -> [Float] {
    counters.reads += 1
    return Array(
      UnsafeBufferPointer(start: tensor.floats, count: tensor.rows * tensor.columns))
  }

  /// Copies the elements.
  public func write(_ values: [Float], to tensor: DeviceTensor) {
    precondition(values.count == tensor.rows * tensor.columns)
    values.withUnsafeBufferPointer { source in
      guard let start = source.baseAddress else { return }
      tensor.floats.update(from: start, count: source.count)
    }
  }

  func countSelection() { counters.selections += 1 }

  /// Scratch memory of one thread of a loop.
  func scratch(_ thread: Int) -> Scratch { scratches[thread] }

  /// Packed keys of one thread of a loop.
  func keyPanels(_ thread: Int) -> KeyPanels { keyPanels[thread] }

  /// Rotations for positions 0 ..< `count`; null without an embedding.
  func rotations(_ rotary: RotaryEmbedding?, count: Int) -> Rotations {
    guard let rotary else { return Rotations(table: nil, half: 0) }
    let table = rotations[rotary] ?? RotationTable(rotary)
    rotations[rotary] = table
    return table.rotations(count: count)
  }

  private static var coreCount: Int {
    #if canImport(Darwin)
      Int(sysconf(_SC_NPROCESSORS_ONLN))
    #else
      Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    #endif
  }
}

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif
