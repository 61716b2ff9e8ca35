// SPDX-License-Identifier: Apache-2.0

internal import HiPAttention
public import HiPCompute
internal import HiPTensors

extension DeviceBlockTable {
  var onCUDA: CUDABlockTable {
    precondition(
      type(of: self) == CUDABlockTable.self, "a table of another device was given to the GPU")
    return unsafe unsafeDowncast(self, to: CUDABlockTable.self)
  }
}

/// Selections of one query of each sequence, which the attention over them can be computed with in one go.
struct PendingSelection {
  let layer: Int
  let items: [SelectCall.Item]
  let plan: SelectionPlan
}

extension CUDABackend {
  // MARK: Append

  /// Stores rows, and completes the means that tuned selections scan.
  public func append(_ call: AppendCall) {
    enqueue { () throws(ComputeError) in
      try flushSelections()
      for part in call.batch where !part.rows.isEmpty {
        let table = part.table.onCUDA
        try plain.append(
          call, part, to: plainKeys(table, call.layer), faults: faults, on: stream)
        guard table.store.keepsMeans, table.store.format.keepsSketches(call.layer) else { continue }
        try tuned.means.completeMeans(
          counts: [part.rows.count], of: table.store.pagedKeys(call.layer),
          batchTables.tables([(table, part.start + part.rows.count)], on: stream), on: stream)
      }
    }
  }

  private func plainKeys(
    _ table: CUDABlockTable, _ layer: Int
  ) throws(ComputeError) -> PlainKeys {
    let (pools, format) = (table.store.layers[layer], table.store.format)
    return PlainKeys(
      keys: pools.keys.address, values: pools.values.address,
      pages: try table.uploaded(on: stream).address, shape: format.shape, element: format.element)
  }

  private func tables(_ inputs: [AttentionInput]) throws(ComputeError) -> SequenceTables {
    try batchTables.tables(
      inputs.map { ($0.table.onCUDA, $0.start + $0.queries.rows) }, on: stream)
  }

  // MARK: Select

  /// Runs the stages; those of single queries wait for the attention that goes with them.
  public func select(_ call: SelectCall) {
    enqueue { () throws(ComputeError) in
      try flushSelections()
      selectionCount += call.batch.count
      if let plan = decodingPlan(call) {
        pending = PendingSelection(layer: call.layer, items: call.batch, plan: plan)
        return
      }
      for item in call.batch {
        if let plan = tunedPlan(item) {
          if item.input.queries.rows > 1 {
            try select(item, layer: call.layer, plan)
          } else {
            let alone = PendingSelection(layer: call.layer, items: [item], plan: plan)
            try run(alone, outputs: 0, sinks: nil)
          }
        } else {
          try plain.select(
            item, layer: call.layer, plainKeys(item.input.table.onCUDA, call.layer), votes: votes,
            on: stream)
        }
      }
    }
  }

  /// How tuned kernels make a selection; nil: they do not.
  private func tunedPlan(_ item: SelectCall.Item, sequences: Int = 1) -> SelectionPlan? {
    let store = item.input.table.onCUDA.store
    guard kernels == .tuned, item.source == .grid, item.report == .nothing,
      item.input.rotary == nil, store.keepsMeans,
      sharesByGroup(item.pruning.sharing, item.input.shape), isComputedWhole(item.pruning),
      let plan = SelectionPlan(item.pruning)
    else { return nil }
    let (shape, element) = (item.input.shape, store.format.element)
    let isSupported =
      item.input.queries.rows == 1
      ? DecodeSelection.supports(shape, element, plan, sequences: sequences, on: device.facts)
      : PrefillSelection.supports(shape, element, plan, on: device.facts)
    return isSupported ? plan : nil
  }

  /// Whether the owners of selections are the key-value heads.
  private func sharesByGroup(_ sharing: HeadSharing, _ shape: AttentionShape) -> Bool {
    sharing.owners(shape) == shape.kvHeads
  }

  /// Whether no step goes on from what earlier stages have kept, which the tuned kernels do not keep.
  private func isComputedWhole(_ pruning: HierarchicalPruning) -> Bool {
    Set(pruning.stages.map(\.refreshInterval)).count <= 1
  }

  /// The plan of a batch of single queries that have the same one.
  private func decodingPlan(_ call: SelectCall) -> SelectionPlan? {
    guard let first = call.batch.first, let plan = tunedPlan(first, sequences: call.batch.count)
    else { return nil }
    let isAlike = call.batch.allSatisfy { item in
      item.input.queries.rows == 1 && tunedPlan(item) == plan
        && item.input.shape == first.input.shape && item.gridLength == first.gridLength
        && item.input.table.onCUDA.store === first.input.table.onCUDA.store
    }
    return isAlike ? plan : nil
  }

  private func select(
    _ item: SelectCall.Item, layer: Int, _ plan: SelectionPlan
  ) throws(ComputeError) {
    let input = item.input
    let keys = input.table.onCUDA.store.pagedKeys(layer)
    let run = QueryRun(
      sequence: 0, firstRow: 0, count: input.queries.rows, position: input.start)
    let lists = try room([item], layer: layer, rows: run.blockCount, plan)
    try tuned.prefillSelection.select(
      queries: staging.queries([input.queries], keys.element, on: stream), [run], over: keys,
      tables([input]), plan, gridLength: item.gridLength, into: lists, on: stream)
  }

  /// Room for the lists of items, each with `rows` rows, one after the other.
  private func room(
    _ items: [SelectCall.Item], layer: Int, rows: Int, _ plan: SelectionPlan
  ) throws(ComputeError) -> SelectedBlocks {
    let owners = items[0].input.shape.kvHeads
    if let known = lists(items.map { $0.state.onCUDA.layers[layer] }, items[0].pruning),
      known.capacity == plan.fine.keep,
      items.allSatisfy({ item in
        let selection = item.state.onCUDA.layers[layer]
        return selection.blockCount == rows && selection.ownerCount == owners
      })
    {
      for item in items { item.state.onCUDA.layers[layer].keepListsOnly() }
      return known
    }
    let lists = try memory.allocate(byteCount: 4 * items.count * rows * owners * plan.fine.keep)
    let counts = try memory.allocate(byteCount: 4 * items.count * rows * owners)
    // Whole lists are copied, and not every list is full.
    try stream.fill(lists.all, with: 0)
    for (index, item) in items.enumerated() {
      func part(_ buffer: CUDABuffer) -> CUDABuffer {
        let size = buffer.byteCount / items.count
        return CUDABuffer(index * size..<(index + 1) * size, of: buffer)
      }
      var selection = LayerSelection()
      (selection.blockCount, selection.ownerCount) = (rows, owners)
      selection.capacity = plan.fine.keep
      selection.lists = part(lists)
      selection.counts = part(counts)
      item.state.onCUDA.layers[layer] = selection
    }
    return SelectedBlocks(
      blocks: lists.address, counts: counts.address, capacity: plan.fine.keep,
      blockKeys: plan.fine.chunkKeys)
  }

  /// Lists of several sequences that lie one after the other; nil: they do not.
  private func lists(
    _ selections: [LayerSelection], _ pruning: HierarchicalPruning
  ) -> SelectedBlocks? {
    guard let first = selections.first, let lists = first.lists, let counts = first.counts else {
      return nil
    }
    var next = (lists: lists.address, counts: counts.address)
    for selection in selections {
      guard selection.capacity == first.capacity, selection.lists?.address == next.lists,
        selection.counts?.address == next.counts
      else { return nil }
      next.lists += UInt64(
        4 * selection.blockCount * selection.ownerCount * selection.capacity)
      next.counts += UInt64(4 * selection.blockCount * selection.ownerCount)
    }
    return SelectedBlocks(
      blocks: lists.address, counts: counts.address, capacity: first.capacity,
      blockKeys: pruning.blockSize)
  }

  /// Makes the selections that nobody has attended to yet.
  func flushSelections() throws(ComputeError) {
    guard let waiting = pending else { return }
    pending = nil
    try run(waiting, outputs: 0, sinks: nil)
  }

  private func run(
    _ selection: PendingSelection, outputs: UInt64, sinks: DeviceTensor?
  ) throws(ComputeError) {
    let inputs = selection.items.map(\.input)
    let keys = inputs[0].table.onCUDA.store.pagedKeys(selection.layer)
    let lists = try room(selection.items, layer: selection.layer, rows: 1, selection.plan)
    let rows = AttentionRows(
      queries: try staging.queries(inputs.map(\.queries), keys.element, on: stream),
      outputs: outputs, sinkLogits: sinks?.address ?? 0)
    try tuned.decodeSelection.run(
      rows, over: keys, tables(inputs), selection.plan,
      gridLength: selection.items[0].gridLength, into: lists, on: stream)
  }

  // MARK: Attend

  /// Attention, of single queries together with the selection that waits for it.
  public func attend(_ call: AttendCall) {
    enqueue { () throws(ComputeError) in
      if let waiting = pending, belongs(call, to: waiting) {
        pending = nil
        let element = waiting.items[0].input.table.onCUDA.store.format.element
        try staging.withOutputs(call.batch.map(\.output), element, on: stream) {
          outputs throws(ComputeError) in
          try run(waiting, outputs: outputs, sinks: call.batch[0].input.sinks)
        }
        return
      }
      try flushSelections()
      if try attendTogether(call) { return }
      for item in call.batch {
        if try attendTogether(AttendCall(layer: call.layer, batch: [item])) { continue }
        try plain.attend(
          item, layer: call.layer, plainKeys(item.input.table.onCUDA, call.layer), on: stream)
      }
    }
  }

  private func belongs(_ call: AttendCall, to selection: PendingSelection) -> Bool {
    call.layer == selection.layer && call.batch.count == selection.items.count
      && zip(call.batch, selection.items).allSatisfy { attended, selected in
        guard case .selected(let pruning, let state) = attended.reach else { return false }
        return state.onCUDA === selected.state.onCUDA && pruning.window == selected.pruning.window
          && pruning.sink == selected.pruning.sink
          && pruning.blockSize == selected.pruning.blockSize
          && attended.input.shape == selected.input.shape
          && attended.input.table.onCUDA === selected.input.table.onCUDA
          && attended.input.queries.address == selected.input.queries.address
          && attended.input.start == selected.input.start && attended.input.rotary == nil
          && attended.input.sinks?.address == call.batch[0].input.sinks?.address
      }
  }

  /// Attention by the tuned kernels: of one sequence, or of one query of each.
  /// - Returns: false: they do not have it.
  private func attendTogether(_ call: AttendCall) throws(ComputeError) -> Bool {
    guard kernels == .tuned, let first = call.batch.first else { return false }
    let inputs = call.batch.map(\.input)
    let store = first.input.table.onCUDA.store
    let (shape, element) = (first.input.shape, store.format.element)
    let isAlike = inputs.allSatisfy { input in
      input.rotary == nil && input.shape == shape && input.table.onCUDA.store === store
        && input.sinks?.address == first.input.sinks?.address
        && (call.batch.count == 1 || input.queries.rows == 1)
    }
    guard isAlike, let (reach, selection) = tunedReach(call) else { return false }
    let isDecoding = first.input.queries.rows == 1
    let isSupported =
      isDecoding
      ? DecodeAttention.supports(
        shape, element, reach, blockKeys: selection?.blockKeys, on: device.facts)
      : PrefillAttention.supports(
        shape, element, reach, blockKeys: selection?.blockKeys, on: device.facts)
    guard isSupported else { return false }
    let keys = store.pagedKeys(call.layer)
    let queries = try staging.queries(inputs.map(\.queries), element, on: stream)
    try staging.withOutputs(call.batch.map(\.output), element, on: stream) {
      outputs throws(ComputeError) in
      let rows = AttentionRows(
        queries: queries, outputs: outputs, sinkLogits: first.input.sinks?.address ?? 0)
      if isDecoding {
        try tuned.decode.attend(
          rows, over: keys, tables(inputs), reach: reach, selection: selection, on: stream)
      } else {
        let run = QueryRun(
          sequence: 0, firstRow: 0, count: first.input.queries.rows,
          position: first.input.start)
        try tuned.prefill.attend(
          rows, [run], over: keys, tables(inputs), reach: reach, selection: selection, on: stream)
      }
    }
    return true
  }

  /// What all items of a call reach alike; nil: something that the tuned kernels do not have.
  private func tunedReach(_ call: AttendCall) -> (reach: Reach, selection: SelectedBlocks?)? {
    switch call.batch[0].reach {
    case .dense:
      return call.batch.allSatisfy { if case .dense = $0.reach { true } else { false } }
        ? (.dense, nil) : nil
    case .streaming(let window):
      return call.batch.allSatisfy { item in
        if case .streaming(let other) = item.reach { other == window } else { false }
      } ? (Reach(sink: window.sink, window: window.window), nil) : nil
    case .heavyHitters: return nil
    case .selected(let pruning, _):
      let shape = call.batch[0].input.shape
      let rows = call.batch[0].input.queries.rows
      guard sharesByGroup(pruning.sharing, shape),
        rows == 1 || pruning.queryBlock == QueryRun.blockSize
      else { return nil }
      var selections: [LayerSelection] = []
      for item in call.batch {
        guard case .selected(let other, let state) = item.reach, other.sink == pruning.sink,
          other.window == pruning.window, other.blockSize == pruning.blockSize
        else { return nil }
        selections.append(state.onCUDA.layers[call.layer])
      }
      let reach = Reach(sink: pruning.sink, window: pruning.window)
      // Without stages there is nothing to list.
      guard !pruning.stages.isEmpty else { return (reach, nil) }
      return lists(selections, pruning).map { (reach, $0) }
    }
  }
}
