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
  func gatesEqualPlainOnes(_ tested: TestedBackend) throws {
    let backend = try tested.make()
    var numbers = SeededNumbers(4)
    let (gate, up) = (numbers.normals(rows * 64).map { $0 * 8 }, numbers.normals(rows * 64))
    let tensor = try tensor(gate, 64, on: backend)
    backend.activate(GateCall(gate: tensor, up: try self.tensor(up, 64, on: backend)))
    let expected = zip(gate, up).map { Double($0) / (1 + exp(-Double($0))) * Double($1) }
    expectClose(try read(tensor, backend), expected, within: 1e-4)
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
