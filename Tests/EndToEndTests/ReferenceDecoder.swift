// SPDX-License-Identifier: Apache-2.0

import Foundation
import HiPAttention
import HiPCompute
import HiPModelFiles
import HiPModels

/// A decoder as its plan says it: scalar, in double precision, all of a text at once.
struct ReferenceDecoder {
  let plan: ModelPlan

  private var architecture: DecoderArchitecture { plan.architecture }

  /// A weight's elements, row by row; nil where the family has no such weight.
  private func weight(
    _ role: LayerRole, _ layer: Int, _ rows: Int, _ columns: Int, expert: Int = 0
  ) throws -> [Double]? {
    guard let place = plan.weightMap.place(role, layer: layer, expert: expert) else { return nil }
    guard !place.isOptional || plan.weights.hasWeight(named: place.name) else { return nil }
    let count = place.rows?.count ?? (place.isShare ? rows * experts(layer) : rows)
    let all = try plan.weights.weight(named: place.name, rows: count, columns: columns)
    let first = place.rows?.first ?? (place.isShare ? expert * rows : 0)
    let floats = all.floats ?? []
    return floats[first * columns..<(first + rows) * columns].map(Double.init)
  }

  private func experts(_ layer: Int) -> Int {
    architecture.layers[layer].feedForward.experts?.count ?? 1
  }

  private func norm(_ x: [Double], _ weight: [Double]?) -> [Double] {
    guard let weight else { return x }
    let size = weight.count
    let offset = Double(plan.weightMap.normOffset)
    return stride(from: 0, to: x.count, by: size).flatMap { start -> [Double] in
      let part = x[start..<start + size]
      let mean = part.reduce(0) { $0 + $1 * $1 } / Double(size)
      let scale = 1 / (mean + Double(architecture.normEpsilon)).squareRoot()
      return zip(part, weight).map { $0 * scale * ($1 + offset) }
    }
  }

  private func product(_ matrix: [Double]?, _ x: [Double], _ bias: [Double]? = nil) -> [Double] {
    guard let matrix else { return x }
    return (0..<matrix.count / x.count).map { row in
      var sum = bias?[row] ?? 0
      for column in x.indices { sum += matrix[row * x.count + column] * x[column] }
      return sum
    }
  }

  private func feedForward(_ x: [Double], _ layer: Int) throws -> [Double] {
    let block = architecture.layers[layer].feedForward
    let hidden = architecture.hiddenSize
    func branch(_ expert: Int) throws -> [Double] {
      func bias(_ role: LayerRole, _ size: Int) throws -> [Double]? {
        try weight(role, layer, 1, size, expert: expert)
      }
      let gate = product(
        try weight(.gate, layer, block.size, hidden, expert: expert), x,
        try bias(.gateBias, block.size))
      let up = product(
        try weight(.up, layer, block.size, hidden, expert: expert), x,
        try bias(.upBias, block.size))
      let inner = zip(gate, up).map { gate, up in
        func sigmoid(_ x: Double) -> Double { 1 / (1 + exp(-x)) }
        switch block.activation {
        case .silu: return gate * sigmoid(gate) * up
        case .geluTanh:
          return gate / 2
            * (1 + tanh((2 / Double.pi).squareRoot() * (gate + 0.044715 * gate * gate * gate))) * up
        case .clampedSwiGLU:
          return min(gate, 7) * sigmoid(1.702 * min(gate, 7)) * (1 + max(-7, min(7, up)))
        }
      }
      return product(
        try weight(.down, layer, hidden, block.size, expert: expert), inner,
        try bias(.downBias, hidden))
    }
    guard let experts = block.experts else { return try branch(0) }
    let drawn = product(
      try weight(.router, layer, experts.count, hidden), x,
      try weight(.routerBias, layer, 1, experts.count)
    ).map(exp)
    let chosen = drawn.indices.sorted { drawn[$0] > drawn[$1] }.prefix(experts.routing.used)
    let all =
      experts.routing.isRenormalised ? chosen.reduce(0) { $0 + drawn[$1] } : drawn.reduce(0, +)
    var sum = [Double](repeating: 0, count: hidden)
    for expert in chosen {
      for (index, value) in try branch(expert).enumerated() {
        sum[index] += drawn[expert] / all * value
      }
    }
    return sum
  }

  /// log p of each token but the first, given those before it.
  func logProbabilities(of ids: [Int32]) throws -> [Double] {
    let (hidden, shape, scales) = (
      architecture.hiddenSize, architecture.attention, architecture.scales
    )
    let (queries, keys) = (shape.heads * shape.headSize, shape.kvHeads * shape.headSize)
    let table =
      try plan.weights.weight(
        named: plan.weightMap.embeddingName, rows: architecture.vocabularySize, columns: hidden
      ).floats ?? []
    var states = ids.map { id in
      table[Int(id) * hidden..<(Int(id) + 1) * hidden].map { Double($0) * Double(scales.embedding) }
    }
    let isTogether = plan.weightMap.normalisesHeadsTogether
    for (index, layer) in architecture.layers.enumerated() {
      func matrix(_ role: LayerRole, _ rows: Int, _ columns: Int) throws -> [Double]? {
        try weight(role, index, rows, columns)
      }
      let inputs = try states.map { norm($0, try matrix(.attentionNorm, 1, hidden)) }
      func project(
        _ role: LayerRole, _ bias: LayerRole, _ rows: Int, _ normRole: LayerRole?
      ) throws -> [[Double]] {
        let (weight, bias) = (try matrix(role, rows, hidden), try matrix(bias, 1, rows))
        let size = isTogether ? rows : shape.headSize
        let norms = try normRole.flatMap { try matrix($0, 1, size) }
        return inputs.map { norm(product(weight, $0, bias), norms) }
      }
      let reference = ReferenceAttention(
        queries: try project(.query, .queryBias, queries, .queryNorm).joined().map { Float($0) },
        keys: try project(.key, .keyBias, keys, .keyNorm).joined().map { Float($0) },
        values: try project(.value, .valueBias, keys, nil).joined().map { Float($0) }, shape: shape,
        rotary: layer.rotary?.embedding(length: ids.count),
        sinks: (try matrix(.attentionSinks, 1, shape.heads) ?? []).map { Float($0) })
      let attended: [Double]
      switch layer.reach {
      case .full: attended = reference.run(.dense)
      case .sliding(let window): attended = reference.run(.streaming(window))
      }
      func add(_ values: [Double], to token: Int, _ role: LayerRole) throws {
        let added = norm(values, try matrix(role, 1, hidden))
        for element in 0..<hidden {
          states[token][element] += Double(scales.residual) * added[element]
        }
      }
      let output = try matrix(.attentionOutput, hidden, queries)
      let outputBias = try matrix(.attentionOutputBias, 1, hidden)
      for token in ids.indices {
        try add(
          product(output, Array(attended[token * queries..<(token + 1) * queries]), outputBias),
          to: token,
          .attentionPostNorm)
        let input = norm(states[token], try matrix(.feedForwardNorm, 1, hidden))
        try add(try feedForward(input, index), to: token, .feedForwardPostNorm)
      }
    }
    let finalNorm = try plan.weights.weight(
      named: plan.weightMap.outputNormName, rows: 1, columns: hidden
    ).floats?.map(Double.init)
    let head = table.map(Double.init)
    return zip(states.dropLast(), ids.dropFirst()).map { state, next in
      let logits = product(head, norm(state, finalNorm)).map { logit in
        let scaled = logit * Double(scales.logits)
        return scales.logitSoftCap.map { Double($0) * tanh(scaled / Double($0)) } ?? scaled
      }
      let most = logits.max() ?? 0
      return logits[Int(next)] - most - log(logits.reduce(0) { $0 + exp($1 - most) })
    }
  }
}
