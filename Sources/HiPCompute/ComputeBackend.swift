// SPDX-License-Identifier: Apache-2.0

public import HiPAttention
public import HiPTensors

/// One device: memory and the operations of attention, no decisions.
///
/// Belongs to the thread that made it, with everything that it hands out. Operations are enqueued in order;
/// what they compute, and whether they failed, is known when `submit` returns.
public protocol AttentionBackend: AnyObject {
  /// A name for reports, with the kernels in use.
  var name: String { get }
  /// What results depend on to the bit: the kernels.
  var arithmetic: String { get }
  /// What has happened so far.
  var counters: ComputeCounters { get }
  /// Bytes that are left of memory of the device's own, which keeps all keys and values and has no tier below; nil: it
  /// computes in the process's.
  var ownMemoryByteCount: Int? { get }

  /// Throws when the device cannot serve a sequence of this kind.
  func check(_ use: SequenceUse) throws(ComputeError)
  /// Bytes that the device's own working memory grows to while it serves a sequence of this kind.
  func estimate(_ use: SequenceUse) -> Int
  /// A matrix in the device's memory.
  func makeTensor(_ source: TensorSource, element: ElementType, rows: Int, columns: Int)
    throws(ComputeError) -> DeviceTensor
  /// Room for blocks of keys and values.
  func makeStore(_ format: KVFormat, _ placement: KVPlacement) -> any KVStore

  func append(_ call: AppendCall)
  func select(_ call: SelectCall)
  func attend(_ call: AttendCall)
  /// Waits for all that has been enqueued and returns what it was asked for.
  /// - Throws: when an operation failed; what was enqueued since the last call is then void.
  func submit() throws(ComputeError) -> StepOutput
  /// The elements of a tensor that is not quantised, row by row, once all that was enqueued is done.
  func download(_ tensor: DeviceTensor) throws(ComputeError) -> [Float]
}

/// A device that runs whole models.
public protocol ComputeBackend: AttentionBackend {
  func embed(_ call: EmbedCall)
  func normalize(_ call: NormCall)
  /// Products that all have the same input.
  func multiply(_ calls: [MatmulCall])
  func feedForward(_ call: FeedForwardCall)
  func sample(_ call: SampleCall)
}

extension AttentionBackend {
  /// Room for blocks whose keys and values stay in the device's memory.
  public func makeStore(_ format: KVFormat) -> any KVStore { makeStore(format, .memory) }
}

/// Where a store keeps keys and values.
public enum KVPlacement: Sendable, Hashable {
  /// In the device's memory, all of them.
  case memory
  /// In pages: as many in the device's memory as its store is allowed, the others in the tier below.
  case tiered
}

/// What a matrix holds at first.
public enum TensorSource {
  /// Zeros.
  case zeros
  /// Bytes of a mapped file, which stays mapped as long as the tensor lives.
  case mapped(MappedRange)
  /// Bytes of a mapped file in another element type, rounded to the tensor's: float32, float16, bfloat16, Q8_0 or Q4_K.
  case converted(MappedRange, from: ElementType)
  /// Elements, row by row, rounded to the tensor's element type where that is not float32.
  case values([Float])
}

/// What a sequence will ask of a device.
public struct SequenceUse: Sendable, Hashable {
  /// What its tokens attend to.
  public let policy: AttentionPolicy
  /// How its keys and values are kept.
  public let format: KVFormat
  /// Tokens that it may come to have.
  public let length: Int
  /// First positions that attend densely whatever the policy.
  public let denseLength: Int

  /// Stores the parts.
  public init(policy: AttentionPolicy, format: KVFormat, length: Int, denseLength: Int) {
    self.policy = policy
    self.format = format
    self.length = length
    self.denseLength = denseLength
  }
}

/// What the operations since the last `submit` were asked for.
public struct StepOutput: Sendable {
  /// One per item of the sample calls, in their order.
  public var results: [SampleResult] = []
  /// By the number that selections voted under.
  public var votes: [Int: PassageVotes] = [:]
  /// Rows of the step that stopped being finite, and where.
  public var faults: [RowFault] = []

  /// Nothing was asked for.
  public init() {}

  /// A row whose numbers are not finite.
  public struct RowFault: Sendable, Hashable {
    /// The row of the step.
    public let row: Int
    /// The layer that it comes out of; nil: the embedding, or what follows the last layer.
    public let layer: Int?

    /// Stores the parts.
    public init(row: Int, layer: Int?) {
      self.row = row
      self.layer = layer
    }
  }
}

/// What a backend has done since it was made.
///
/// Exact, and cheap enough to keep always.
public struct ComputeCounters: Sendable, Hashable {
  /// Times that memory was taken: for tensors, slabs of blocks and working memory.
  public var allocations = 0
  /// Times that the host has waited.
  public var submits = 0
  /// Selections that ran at least one stage.
  public var selections = 0

  /// Nothing has happened yet.
  public init() {}
}
