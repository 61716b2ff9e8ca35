// SPDX-License-Identifier: Apache-2.0

import HiPCompute
import HiPTensors
import TestSupport
import Testing

/// Operations on rows of every backend against plain sums in double precision.
@Suite struct RowConformanceTests {
  private let rows = 7

  private func tensor(
    _ values: [Float], _ columns: Int, on backend: any ComputeBackend
  ) throws -> DeviceTensor {
    try backend.makeTensor(
      .values(values), element: .float32, rows: values.count / columns, columns: columns)
  }

  private func read(_ tensor: DeviceTensor, _ backend: any ComputeBackend) throws -> [Float] {
    backend.sample(
      SampleCall(logits: tensor, items: [.init(rows: 0..<tensor.rows, request: .logits)]))
    guard case .logits(let values)? = try backend.submit().results.first else { return [] }
    return values
  }

  @Test(arguments: TestedBackend.available)
  func embeddingsAreTheTablesRows(_ tested: TestedBackend) throws {
    let backend = try tested.make()
    var numbers = SeededNumbers(1)
    let table = numbers.normals(20 * 48)
    let output = try backend.makeTensor(.zeros, element: .float32, rows: 3, columns: 48)
    backend.embed(
      EmbedCall(tokens: [19, 0, 7], table: try tensor(table, 48, on: backend), output: output))
    let expected: [Float] = [19, 0, 7].flatMap { Array(table[$0 * 48..<($0 + 1) * 48]) }
    #expect(try read(output, backend) == expected)
  }

  @Test(arguments: TestedBackend.available)
  func normsEqualPlainOnes(_ tested: TestedBackend) throws {
    let backend = try tested.make()
    var numbers = SeededNumbers(2)
    let (input, weight) = (numbers.normals(rows * 80), numbers.normals(80))
    let output = try backend.makeTensor(.zeros, element: .float32, rows: rows, columns: 80)
    backend.normalize(
      NormCall(
        layer: nil, input: try tensor(input, 80, on: backend),
        weight: try tensor(weight, 80, on: backend), epsilon: 1e-3, output: output))
    let expected = (0..<rows).flatMap { row in
      let values = input[row * 80..<(row + 1) * 80].map(Double.init)
      let scale = 1 / (values.reduce(0) { $0 + $1 * $1 } / 80 + 1e-3).squareRoot()
      return zip(values, weight).map { $0 * scale * Double($1) }
    }
    expectClose(try read(output, backend), expected, within: 1e-5)
  }

  /// Both ways of adding up: of many rows, and of rows each by itself.
  @Test(arguments: TestedBackend.available)
  func productsEqualPlainOnes(_ tested: TestedBackend) throws {
    let backend = try tested.make()
    var numbers = SeededNumbers(3)
    let (width, outputs) = (96, 70)
    let input = numbers.normals(rows * width)
    let weight = numbers.normals(outputs * width)
    let bias = numbers.normals(outputs)
    let before = numbers.normals(rows * outputs)
    for (decodeRows, update) in [(0, MatmulCall.Update.replace), (7, .add), (3, .add)] {
      let output = try tensor(before, outputs, on: backend)
      backend.multiply([
        MatmulCall(
          input: try tensor(input, width, on: backend),
          weight: try tensor(weight, width, on: backend),
          bias: try tensor(bias, outputs, on: backend), output: output, update: update,
          decodeRows: decodeRows)
      ])
      let expected = (0..<rows * outputs).map { place in
        let (row, column) = place.quotientAndRemainder(dividingBy: outputs)
        let sum = (0..<width).reduce(0.0) {
          $0 + Double(input[row * width + $1]) * Double(weight[column * width + $1])
        }
        return sum + Double(bias[column]) + (update == .add ? Double(before[place]) : 0)
      }
      // Sums of 96 terms around 1: measured worst 4e-6 in float32, 5e-2 of factors in bfloat16.
      expectClose(
        try read(output, backend), expected, within: tested.tolerance > 1e-3 ? 0.1 : 2e-5,
        "\(decodeRows) rows of decoding")
    }
  }

  @Test(arguments: TestedBackend.available)
  func whatIsAddedIsNormalisedAndScaledBefore(_ tested: TestedBackend) throws {
    let backend = try tested.make()
    var numbers = SeededNumbers(12)
    let (input, weight, before) = (
      numbers.normals(rows * 32), numbers.normals(32), numbers.normals(rows * 32)
    )
    let output = try tensor(before, 32, on: backend)
    backend.normalize(
      NormCall(
        layer: 0, input: try tensor(input, 32, on: backend),
        weight: try tensor(weight, 32, on: backend), epsilon: 1e-3, output: output, update: .add))
    let expected = (0..<rows).flatMap { row in
      let values = input[row * 32..<(row + 1) * 32].map(Double.init)
      let scale = 1 / (values.reduce(0) { $0 + $1 * $1 } / 32 + 1e-3).squareRoot()
      return (0..<32).map {
        Double(before[row * 32 + $0]) + values[$0] * scale * Double(weight[$0])
      }
    }
    expectClose(try read(output, backend), expected, within: 1e-5)
    let identity = (0..<32 * 32).map { $0 % 33 == 0 ? Float(1) : 0 }
    let scaled = try tensor(before, 32, on: backend)
    backend.multiply([
      MatmulCall(
        input: try tensor(input, 32, on: backend), weight: try tensor(identity, 32, on: backend),
        output: scaled, update: .add, scale: 0.25, decodeRows: 3)
    ])
    // Quarters of 16-bit numbers are 16-bit numbers, but bfloat16 holds fewer of their digits.
    expectClose(
      try read(scaled, backend), zip(input, before).map { Double($0) / 4 + Double($1) },
      within: tested.tolerance > 1e-3 ? 5e-3 : 1e-6)
  }

  /// One branch, and five of which each row takes two.
  @Test(arguments: TestedBackend.available, GateActivation.allCases)
  func feedForwardBlocksEqualPlainOnes(
    _ tested: TestedBackend, _ activation: GateActivation
  ) throws {
    let backend = try tested.make()
    let (width, size) = (48, 32)
    var numbers = SeededNumbers(4)
    let input = numbers.normals(rows * width)
    let before = numbers.normals(rows * width)
    struct Plain { let gate, up, down, gateBias, upBias, downBias: [Float] }
    let plain = (0..<5).map { _ in
      Plain(
        gate: numbers.normals(size * width).map { $0 / 2 },
        up: numbers.normals(size * width).map { $0 / 2 },
        down: numbers.normals(width * size).map { $0 / 4 }, gateBias: numbers.normals(size),
        upBias: numbers.normals(size), downBias: numbers.normals(width))
    }
    let router = numbers.normals(5 * width)
    let branches = try plain.map { branch in
      FeedForwardCall.Branch(
        gate: try tensor(branch.gate, width, on: backend),
        up: try tensor(branch.up, width, on: backend),
        down: try tensor(branch.down, size, on: backend),
        gateBias: try tensor(branch.gateBias, size, on: backend),
        upBias: try tensor(branch.upBias, size, on: backend),
        downBias: try tensor(branch.downBias, width, on: backend))
    }
    func product(_ matrix: [Float], _ x: [Double], _ bias: [Float]) -> [Double] {
      bias.indices.map { row in
        Double(bias[row])
          + x.indices.reduce(0) { $0 + Double(matrix[row * x.count + $1]) * x[$1] }
      }
    }
    func sigmoid(_ x: Double) -> Double { 1 / (1 + exp(-x)) }
    func run(_ branch: Plain, _ x: [Double]) -> [Double] {
      let (gate, up) = (
        product(branch.gate, x, branch.gateBias), product(branch.up, x, branch.upBias)
      )
      let inner = zip(gate, up).map { gate, up in
        switch activation {
        case .silu: gate * sigmoid(gate) * up
        case .geluTanh:
          gate / 2 * (1 + tanh(0.7978845608 * (gate + 0.044715 * gate * gate * gate))) * up
        case .clampedSwiGLU:
          min(gate, 7) * sigmoid(1.702 * min(gate, 7)) * (1 + max(-7, min(7, up)))
        }
      }
      return product(branch.down, inner, branch.downBias)
    }
    func workspace(_ count: Int) throws -> DeviceTensor {
      try backend.makeTensor(.zeros, element: .float32, rows: rows, columns: count)
    }
    for isRenormalised in [nil, true, false] {
      let output = try tensor(before, width, on: backend)
      let weights: FeedForwardCall.Weights =
        try isRenormalised.map {
          .experts(
            .init(
              router: try tensor(router, width, on: backend), routerBias: nil, branches: branches,
              routing: ExpertRouting(used: 2, isRenormalised: $0)))
        } ?? .dense(branches[0])
      backend.feedForward(
        FeedForwardCall(
          input: try tensor(input, width, on: backend), weights: weights, activation: activation,
          workspace: .init(
            gate: try workspace(size), up: try workspace(size),
            experts: .init(
              router: try workspace(5), gathered: try workspace(width),
              products: try workspace(width))), output: output, update: .add, decodeRows: 3))
      let expected = (0..<rows).flatMap { row -> [Double] in
        let x = input[row * width..<(row + 1) * width].map(Double.init)
        var sum = before[row * width..<(row + 1) * width].map(Double.init)
        func add(_ values: [Double], _ weight: Double) {
          for index in sum.indices { sum[index] += weight * values[index] }
        }
        guard let isRenormalised else {
          add(run(plain[0], x), 1)
          return sum
        }
        let drawn = product(router, x, .init(repeating: 0, count: 5)).map(exp)
        let chosen = drawn.indices.sorted { drawn[$0] > drawn[$1] }.prefix(2)
        let all = isRenormalised ? chosen.reduce(0) { $0 + drawn[$1] } : drawn.reduce(0, +)
        for expert in chosen { add(run(plain[expert], x), drawn[expert] / all) }
        return sum
      }
      // Sums of 48 terms around 1, then of 32: measured worst 2e-5 in float32; factors in bfloat16 are off by 2^-9.
      expectClose(
        try read(output, backend), expected, within: tested.tolerance > 1e-3 ? 0.5 : 1e-4,
        "experts: \(isRenormalised.map { "\($0)" } ?? "none")")
    }
  }

  @Test(arguments: TestedBackend.available)
  func logitsAreScaledAndCapped(_ tested: TestedBackend) throws {
    let backend = try tested.make()
    var numbers = SeededNumbers(6)
    let values = numbers.normals(70).map { $0 * 40 }
    let logits = try tensor(values, 70, on: backend)
    backend.sample(
      SampleCall(
        logits: logits, scale: 0.5, softCap: 30, items: [.init(rows: 0..<1, request: .logits)]))
    guard case .logits(let found)? = try backend.submit().results.first else {
      Issue.record("no logits")
      return
    }
    expectClose(
      found, values.map { 30 * tanh(Double($0) / 60) },
      within: tested.tolerance > 1e-3 ? 3e-4 : 1e-5)
  }

  /// Biases are added, and a filter leaves what it allows, whichever candidates are asked for.
  @Test(arguments: TestedBackend.available)
  func biasesAndFiltersShapeTheCandidates(_ tested: TestedBackend) throws {
    final class Fixed: TokenFilterSource {
      let bits: [UInt64]
      init(_ allowed: [Int], of count: Int) {
        var bits = [UInt64](repeating: 0, count: (count + 63) / 64)
        for token in allowed { bits[token / 64] |= 1 << UInt64(token % 64) }
        self.bits = bits
      }
      func words() -> [UInt64] { bits }
    }
    let backend = try tested.make()
    var numbers = SeededNumbers(6)
    let logits = numbers.normals(300)
    let allowed = [3, 64, 127, 299]
    let requests = [(1, 1.0), (3, 1.0), (0, 1.0), (0, 0.9)].map { count, mass in
      var request = CandidateRequest(count: count, mass: mass)
      request.bias = [64: 2.5, 5: 100]
      request.filter = TokenFilter(Fixed(allowed, of: 300))
      return request
    }
    var nothing = CandidateRequest.greedy
    nothing.filter = TokenFilter(Fixed([], of: 300))
    for request in requests + [nothing] {
      backend.sample(
        SampleCall(
          logits: try tensor(logits, 300, on: backend),
          items: [.init(rows: 0..<1, request: .candidates(request))]))
      guard case .candidates(let rows)? = try backend.submit().results.first else {
        Issue.record("no candidates")
        continue
      }
      guard request != nothing else {
        #expect(rows[0].ids.isEmpty)
        continue
      }
      let values = allowed.map { ($0, Double(logits[$0]) + ($0 == 64 ? 2.5 : 0)) }
      let total = log(values.reduce(0) { $0 + exp($1.1) })
      #expect(abs(rows[0].logSumExp - total) < 1e-4)
      let order =
        request.isWhole
        ? allowed : values.sorted { $0.1 > $1.1 }.map(\.0)
      #expect(rows[0].ids.map(Int.init) == Array(order.prefix(rows[0].ids.count)))
      #expect(rows[0].ids.count == (request.count > 0 ? request.count : rows[0].ids.count))
      #expect(!rows[0].ids.isEmpty)
    }
  }

  @Test(arguments: TestedBackend.available)
  func samplesAreTheMostProbableTokens(_ tested: TestedBackend) throws {
    let backend = try tested.make()
    var numbers = SeededNumbers(5)
    // Rounded, so that some are equal; more than one part of the device's sums.
    let logits = numbers.normals(2 * 1500).map { ($0 * 4).rounded() / 2 }
    let tensor = try tensor(logits, 1500, on: backend)
    let requests: [CandidateRequest] = [
      .greedy, CandidateRequest(count: 40), CandidateRequest(count: 0),
      CandidateRequest(count: 0, mass: 0.7), CandidateRequest(count: 300, mass: 0.3),
      CandidateRequest(count: 0, share: 0.05), CandidateRequest(count: 0, mass: 0.4, share: 0.05),
    ]
    backend.sample(
      SampleCall(
        logits: tensor,
        items: requests.map { .init(rows: 0..<2, request: .candidates($0)) } + [
          .init(rows: 0..<2, request: .negativeLogLikelihoods([3, 1499])),
          .init(
            rows: 1..<2,
            request: .candidates(CandidateRequest(count: 3, repeated: [8, 9, 8], penalty: 2))),
        ]))
    let results = try backend.submit().results
    func row(_ index: Int) -> [Double] {
      logits[index * 1500..<(index + 1) * 1500].map(Double.init)
    }
    func total(_ row: [Double]) -> Double { log(row.reduce(0) { $0 + exp($1) }) }
    func ranked(_ row: [Double]) -> [Int] {
      row.indices.sorted { row[$0] != row[$1] ? row[$0] > row[$1] : $0 < $1 }
    }
    for (request, result) in zip(requests, results) {
      guard case .candidates(let found) = result else {
        Issue.record("\(result)")
        continue
      }
      for (index, candidates) in found.enumerated() {
        let row = row(index)
        let ids = candidates.ids.map(Int.init)
        let order = request.isWhole ? Array(row.indices) : ranked(row)
        #expect(ids == Array(order.prefix(ids.count)))
        #expect(candidates.logits.map(Double.init) == ids.map { row[$0] })
        #expect(abs(candidates.logSumExp - total(row)) < 1e-4)
        let sum = total(row)
        let mass = ids.reduce(0.0) { $0 + exp(row[$1] - sum) }
        let least = (row.max() ?? 0) + log(request.share)
        let most = min(
          request.count == 0 ? 1500 : request.count, row.count { $0 >= least })
        let isEnough = request.mass < 1 && mass >= request.mass
        #expect(ids.count == most || isEnough)
        #expect(ids.count <= most)
      }
    }
    guard case .negativeLogLikelihoods(let values) = results[7],
      case .candidates(let penalised) = results[8]
    else {
      Issue.record("\(results)")
      return
    }
    expectClose(
      values.map(Float.init), [total(row(0)) - row(0)[3], total(row(1)) - row(1)[1499]],
      within: 1e-4)
    var changed = row(1)
    for token in [8, 9] {
      changed[token] = changed[token] > 0 ? changed[token] / 2 : changed[token] * 2
    }
    #expect(penalised[0].ids.map(Int.init) == Array(ranked(changed).prefix(3)))
  }

  @Test(arguments: TestedBackend.available)
  func rowsThatAreNotFiniteAreReported(_ tested: TestedBackend) throws {
    let backend = try tested.make()
    var values = [Float](repeating: 1, count: 4 * 32)
    values[2 * 32 + 5] = .nan
    values[3 * 32] = .infinity
    let input = try tensor(values, 32, on: backend)
    let weight = try tensor(.init(repeating: 1, count: 32), 32, on: backend)
    let output = try backend.makeTensor(.zeros, element: .float32, rows: 4, columns: 32)
    for layer in [4, 5] {
      backend.normalize(
        NormCall(
          layer: layer, firstRow: 10, input: input, weight: weight, epsilon: 1e-5, output: output))
    }
    backend.sample(
      SampleCall(
        logits: input,
        items: [
          .init(rows: 0..<2, request: .candidates(.greedy)),
          .init(rows: 1..<3, request: .candidates(.greedy)),
          .init(rows: 3..<4, request: .negativeLogLikelihoods([0])),
        ]))
    let step = try backend.submit()
    #expect(
      Set(step.faults) == [.init(row: 12, layer: 4), .init(row: 13, layer: 4)])
    #expect(step.results.dropFirst() == [.notFinite, .notFinite])
    #expect(try backend.submit().faults.isEmpty)
  }
}

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif
