// SPDX-License-Identifier: Apache-2.0

import CHiPSIMD
import Foundation
import HiPAttention
import HiPCPU
import HiPCompute
import HiPTensors
import TestSupport
import Testing

/// Every table of functions that this machine can run, against scalar double precision.
@Suite struct KernelTests {
  private func table(_ kernels: CPUKernels) throws -> ihp_kernels {
    try #require(kernels.table).pointee
  }

  /// Blocks of quantised formats, and the numbers they stand for by the gguf package (Scripts/make-quant-tables.py).
  private static let goldens: [ElementType: (bytes: [UInt8], values: [Float])] = {
    struct Item: Decodable {
      let blocks, values: Data
    }
    guard
      let url = Bundle.module.url(
        forResource: "quants", withExtension: "json", subdirectory: "Fixtures"),
      let data = try? Data(contentsOf: url),
      let items = try? JSONDecoder().decode([String: Item].self, from: data)
    else { preconditionFailure("the fixture of quantised blocks cannot be read") }
    var goldens: [ElementType: (bytes: [UInt8], values: [Float])] = [:]
    for (name, item) in items where name != "Q8_0" {
      guard let element = ElementType(rawValue: name) else {
        preconditionFailure("no format is called \(name)")
      }
      let values = item.values.withUnsafeBytes { bytes in
        (0..<bytes.count / 4).map { bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
      }
      goldens[element] = (Array(item.blocks), values)
    }
    return goldens
  }()

  /// Random rows as stored, and the exact numbers that they stand for.
  private func stored(
    _ element: ElementType, rows: Int, columns: Int, seed: UInt64
  ) -> (bytes: [UInt8], values: [Double]) {
    var numbers = SeededNumbers(seed)
    var bytes: [UInt8] = []
    var values: [Double] = []
    func append(_ bits: UInt16) { bytes += [UInt8(bits & 0xff), UInt8(bits >> 8)] }
    if let golden = Self.goldens[element] {
      for _ in 0..<rows * columns / element.blockSize {
        let block = numbers.index(below: golden.values.count / element.blockSize)
        bytes +=
          golden.bytes[
            block * element.blockByteCount..<(block + 1) * element.blockByteCount]
        values += golden.values[block * element.blockSize..<(block + 1) * element.blockSize].map(
          Double.init)
      }
      return (bytes, values)
    }
    if element == .q8_0 || element == .q8_1 {
      for _ in 0..<rows * columns / 32 {
        // Scales are powers of two times small numbers: half precision holds them.
        let scale = Float(numbers.index(below: 100) + 1) / 1024
        append(Self.half(scale))
        // The sum of the elements, which nothing here needs.
        if element == .q8_1 { append(0) }
        for _ in 0..<32 {
          let value = Int8(numbers.index(below: 255) - 127)
          bytes.append(UInt8(bitPattern: value))
          values.append(Double(value) * Double(scale))
        }
      }
      return (bytes, values)
    }
    for value in numbers.normals(rows * columns) {
      values.append(Double(value))
      switch element {
      case .float64: withUnsafeBytes(of: Double(value).bitPattern.littleEndian) { bytes += $0 }
      case .float16: append(Self.half(value))
      case .bfloat16:
        let rounded = Float(bitPattern: value.bitPattern & 0xffff_0000)
        values[values.count - 1] = Double(rounded)
        append(UInt16(rounded.bitPattern >> 16))
      default: withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes += $0 }
      }
    }
    return (bytes, values)
  }

  /// Half-precision bits of a number that half precision holds exactly.
  private static func half(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    guard value != 0 else { return 0 }
    let exponent = Int((bits >> 23) & 0xff) - 127 + 15
    return UInt16(bits >> 31) << 15 | UInt16(exponent) << 10 | UInt16((bits >> 13) & 0x3ff)
  }

  @Test(arguments: CPUKernels.supported, ElementType.allCases)
  func productsEqualTheScalarOnes(_ kernels: CPUKernels, _ element: ElementType) throws {
    let table = try table(kernels)
    for (outputs, width, inputs) in [
      (1, 32, 1), (64, 64, 6), (70, 96, 5), (3, 544, 13), (70, 768, 5),
    ]
    where width % element.blockSize == 0 {
      let (bytes, weights) = stored(element, rows: outputs, columns: width, seed: 5)
      var numbers = SeededNumbers(6)
      let x = numbers.normals(inputs * width)
      var expected = [Double](repeating: 0, count: inputs * outputs)
      // Of a product's terms, the root of the sum of squares: what a sum may fall short of by chance.
      var spread = 0.0
      for row in 0..<inputs {
        for output in 0..<outputs {
          let terms = (0..<width).map {
            Double(x[row * width + $0]) * weights[output * width + $0]
          }
          expected[row * outputs + output] = terms.reduce(0, +)
          spread = max(spread, terms.reduce(0) { $0 + $1 * $1 }.squareRoot())
        }
      }
      let stride = element.byteCount(of: width)
      let size = 2 * width + Int(IHP_PREPARED_EXTRA)
      // What is not written must not be read.
      var prepared = [Float](repeating: .nan, count: inputs * size)
      for row in 0..<inputs {
        x[(row * width)...].withUnsafeBufferPointer { input in
          prepared[(row * size)...].withUnsafeMutableBufferPointer {
            table.prepare_input(input.baseAddress, width, $0.baseAddress)
          }
        }
      }
      /// The products of some inputs, `[inputs, outputs]`.
      func matvec(_ rows: Range<Int>) -> [Float] {
        var product = [Float](repeating: 0, count: rows.count * outputs)
        x[(rows.lowerBound * width)...].withUnsafeBufferPointer { input in
          prepared[(rows.lowerBound * size)...].withUnsafeBufferPointer { prepared in
            table.matvec(
              element.kernelElement, bytes, stride, outputs, input.baseAddress,
              prepared.baseAddress, size, rows.count, width, &product, outputs)
          }
        }
        return product
      }
      let product = matvec(0..<inputs)
      #expect(
        product == (0..<inputs).flatMap { matvec($0..<$0 + 1) },
        "an input's products depend on what stands beside it")
      // Sums of up to 768 terms around 1: measured worst 4e-5. Inputs in 8 bits are off by 1/254 of the
      // largest of 32: measured worst 4e-3 of the largest product.
      let largest = max(spread, expected.map(abs).max() ?? 0)
      let rounds = element.blockSize > 1 && table.decodes_in_integers == 1
      expectClose(
        product, expected,
        within: rounds ? (element == .q8_0 ? 1e-4 : 0.01) * largest : 2e-4 * max(1, largest / 30),
        "matvec \(outputs) x \(width)")
      var panel = [Float](repeating: .nan, count: width * 64)
      var tiled = [Float](repeating: 1, count: inputs * outputs)
      for first in Swift.stride(from: 0, to: outputs, by: 64) {
        let count = min(64, outputs - first)
        bytes.withUnsafeBytes { bytes in
          table.pack(
            element.kernelElement, bytes.baseAddress! + first * stride, stride, count,
            width, &panel)
        }
        tiled.withUnsafeMutableBufferPointer { output in
          table.gemm(
            IHP_F32, x, width, inputs, panel, width, output.baseAddress! + first, outputs, count, 1)
        }
      }
      // In bfloat16 each factor is off by up to 2^-9 of itself: measured worst 2.5e-3 of the largest.
      expectClose(
        tiled, expected.map { $0 + 1 },
        within: table.product_element == IHP_F32 ? 2e-4 * max(1, largest / 30) : 0.01 * largest,
        "gemm \(outputs) x \(width)")
    }
  }

  @Test(arguments: CPUKernels.supported, [ElementType.float16, .bfloat16])
  func narrowingRoundsToTheNearest(_ kernels: CPUKernels, _ element: ElementType) throws {
    let table = try table(kernels)
    var numbers = SeededNumbers(8)
    var values = (0..<256).map { _ in
      numbers.normal() * Float(sign: .plus, exponent: numbers.index(below: 30) - 20, significand: 1)
    }
    values += [
      0, -0.0, 65504, -65504, 1e-7, 6e-8, 1e-9, 2048.5, 2049.5, 1, -1, 0.1, 70000, -1e6, 5, 6,
    ]
    var bytes = [UInt8](repeating: 0, count: values.count * 2)
    var back = [Float](repeating: 0, count: values.count)
    table.narrow(element.kernelElement, values, values.count, &bytes)
    table.widen(element.kernelElement, bytes, 0, values.count, &back)
    let digits = element == .float16 ? 11 : 8
    for (value, result) in zip(values, back) {
      let bounded = element == .float16 ? max(-65504, min(65504, value)) : value
      // Half a unit in the last place; halves below 2^-14 are 2^-24 apart.
      let unit =
        bounded == 0
        ? 0 : max(bounded.ulp * Float(1 << (24 - digits)), element == .float16 ? 0x1p-24 : 0)
      #expect(abs(result - bounded) <= unit / 2, "\(value) became \(result)")
    }
  }

  @Test(arguments: CPUKernels.supported)
  func normsAndActivationsEqualTheScalarOnes(_ kernels: CPUKernels) throws {
    let table = try table(kernels)
    var numbers = SeededNumbers(9)
    let x = numbers.normals(96)
    let weight = numbers.normals(96)
    var out = [Float](repeating: 0, count: 96)
    _ = table.rms_norm(x, weight, 96, 1e-5, &out)
    let scale = 1 / (x.reduce(0.0) { $0 + Double($1) * Double($1) } / 96 + 1e-5).squareRoot()
    expectClose(out, zip(x, weight).map { Double($0) * Double($1) * scale }, within: 1e-6, "norm")

    var gate: [Float] =
      x.map { $0 * 8 } + [-100, 100, -1e30, 88, -88, 0, 1e-20, 3, -3, 20, -20, 50, -50, 1, -1, 2]
    let up = [Float](repeating: 2, count: gate.count)
    let inputs = gate
    func sigmoid(_ x: Double) -> Double { 1 / (1 + exp(-x)) }
    let functions: [(ihp_activation, (Double) -> Double)] = [
      (IHP_SILU, { $0 * sigmoid($0) * 2 }),
      (
        IHP_GELU_TANH,
        { $0 * (1 + tanh((2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0))) }
      ),
      (IHP_CLAMPED_SWIGLU, { min($0, 7) * sigmoid(1.702 * min($0, 7)) * 3 }),
    ]
    for (activation, function) in functions {
      gate = inputs
      table.gate(activation, &gate, up, gate.count)
      for (value, input) in zip(gate, inputs) {
        let wanted = function(Double(input))
        // The factor of a sigmoid near zero is lost in its argument's rounding; so is the product then.
        #expect(
          abs(Double(value) - wanted) <= 4e-6 * max(1, abs(wanted)), "\(input): \(value), \(wanted)"
        )
      }
    }
    var capped = inputs + [Float](repeating: 3, count: 5)
    table.soft_cap(&capped, capped.count, 50)
    // Where exponentials err by 4e-6 of themselves: measured worst 2e-4.
    let allowed = table.product_element == IHP_F32 ? 1e-5 : 3e-4
    for (value, input) in zip(capped, inputs + [Float](repeating: 3, count: 5)) {
      #expect(abs(Double(value) - 50 * tanh(Double(input) / 50)) <= allowed, "\(input): \(value)")
    }
  }

  @Test(arguments: CPUKernels.supported)
  func sharesAddUpToOnePerRow(_ kernels: CPUKernels) throws {
    let table = try table(kernels)
    for columns in [1, 15, 64, 100] {
      var numbers = SeededNumbers(10)
      let (rows, tiles) = (3, (columns + 63) / 64)
      let scores = (0..<rows * columns).map { _ in numbers.normal() * 20 }
      var weights = [Float](repeating: 0, count: rows * tiles * 64)
      var maxima = [Float](repeating: 0, count: rows * tiles)
      var sums = maxima
      for index in 0..<tiles {
        let count = min(64, columns - index * 64)
        var tile = [Float](repeating: .nan, count: rows * 64)
        for row in 0..<rows {
          for column in 0..<count {
            tile[row * 64 + column] = scores[row * columns + index * 64 + column]
          }
        }
        weights.withUnsafeMutableBytes { weights in
          maxima.withUnsafeMutableBufferPointer { maxima in
            sums.withUnsafeMutableBufferPointer { sums in
              table.share_tile(
                &tile, rows, count, 1,
                weights.baseAddress! + index * rows * 64 * table.weight_bytes,
                maxima.baseAddress! + index * rows, sums.baseAddress! + index * rows)
            }
          }
        }
      }
      var shares = [Float](repeating: 0, count: tiles * 64)
      table.share_add(weights, rows, tiles, 64, &maxima, sums, &shares)
      var expected = [Double](repeating: 0, count: tiles * 64)
      for row in 0..<rows {
        let part = scores[row * columns..<(row + 1) * columns].map(Double.init)
        let top = part.max() ?? 0
        let total = part.reduce(0) { $0 + exp($1 - top) }
        for column in 0..<columns { expected[column] += exp(part[column] - top) / total }
      }
      // Scores in integers go with exponentials to 3 %: measured worst 6.7e-3.
      expectClose(
        shares, expected, within: table.scores_in_integers == 0 ? 1e-6 : 0.02, "\(columns) columns")
    }
  }

  /// Scores of 4-bit keys and of means are exact but for the query's 8 bits where a table has such products.
  @Test(arguments: CPUKernels.supported, [16, 64, 80, 256])
  func scoresOfSketchesEqualTheScalarOnes(_ kernels: CPUKernels, _ headSize: Int) throws {
    let table = try table(kernels)
    try expectScores(
      of: headSize, table, groupBytes: 8 * (4 + headSize / 2), table.quantize_key,
      table.score_four_bits
    ) { FourBitKey($0).values }
    try expectScores(
      of: headSize, table, groupBytes: 8 * (2 + headSize), table.quantize_mean, table.score_means
    ) { EightBitMean($0).values }
  }

  /// Expects the scores of rows that `quantize` writes to be those of `rounded` rows.
  private func expectScores(
    of headSize: Int, _ table: ihp_kernels, groupBytes: Int,
    _ quantize: (UnsafePointer<Float>?, Int, UnsafeMutablePointer<UInt8>?, Int) -> Void,
    _ score: (
      UnsafePointer<ihp_rows>?, UnsafePointer<Int32>?, Int, Int, Int, UnsafePointer<Float>?, Int,
      UnsafeMutablePointer<Float>?, Int
    ) -> Void, rounded: ([Float]) -> [Float]
  ) throws {
    var numbers = SeededNumbers(12)
    let groups = 6
    var stored = [UInt8](repeating: 0, count: groups * groupBytes)
    let keys = (0..<groups * 8).map { _ in numbers.normals(headSize) }
    for (index, key) in keys.enumerated() {
      stored.withUnsafeMutableBufferPointer { stored in
        guard let start = stored.baseAddress else { return }
        quantize(key, headSize, start + index / 8 * groupBytes, index % 8)
      }
    }
    for rows in [1, 3, 4, 17] {
      let queries = numbers.normals(rows * headSize)
      let width = headSize + Int(IHP_QUERY_HEADER)
      var prepared = [Float](repeating: 0, count: rows * width)
      table.prepare_queries(queries, rows, headSize, &prepared)
      var firsts: [Int32] = [40, 0, 16, 24, 8]
      var scores = [Float](repeating: 0, count: rows * 64)
      stored.withUnsafeBufferPointer { stored in
        let blocks: [UnsafePointer<UInt8>?] = [stored.baseAddress]
        blocks.withUnsafeBufferPointer { blocks in
          var rowsOfGroups = ihp_rows(
            blocks: blocks.baseAddress, block_shift: 3, element: IHP_F32, offset: 0,
            stride: groupBytes)
          score(
            &rowsOfGroups, &firsts, firsts.count, firsts.count, headSize, prepared, rows, &scores,
            64)
        }
      }
      for row in 0..<rows {
        let query = queries[row * headSize..<(row + 1) * headSize].map(Double.init)
        let expected = firsts.flatMap { first in
          (0..<8).map { place in
            zip(query, rounded(keys[Int(first) + place]))
              .reduce(0.0) { $0 + $1.0 * Double($1.1) }
          }
        }
        expectClose(
          Array(scores[row * 64..<row * 64 + 40]), expected,
          // 8 bits of the query: measured worst 0.055 times the root of the head size.
          within: table.scores_in_integers == 0 ? 1e-4 : 0.08 * Double(headSize).squareRoot(),
          "\(rows) rows, row \(row)")
      }
    }
  }

  @Test(arguments: CPUKernels.supported, [16, 64, 80, 256])
  func coarseScoresAreCloseToTheScalarOnes(_ kernels: CPUKernels, _ headSize: Int) throws {
    let table = try table(kernels)
    var numbers = SeededNumbers(13)
    let keys = numbers.normals(64 * headSize)
    for rows in [1, 2, 7, 12] {
      let queries = numbers.normals(rows * headSize)
      var prepared = [Float](repeating: 0, count: rows * (headSize + Int(IHP_QUERY_HEADER)))
      table.prepare_queries(queries, rows, headSize, &prepared)
      var indices = (0..<50).map(Int32.init)
      var positions = indices
      var panel = [Float](repeating: 0, count: 64 * (headSize + 1))
      var scratch = [Float](repeating: 0, count: 64 * headSize)
      var scores = [Float](repeating: .nan, count: rows * 64)
      keys.withUnsafeBytes { keys in
        let blocks: [UnsafePointer<UInt8>?] = [keys.bindMemory(to: UInt8.self).baseAddress]
        blocks.withUnsafeBufferPointer { blocks in
          var stored = ihp_rows(
            blocks: blocks.baseAddress, block_shift: 6, element: IHP_F32, offset: 0,
            stride: headSize * 4)
          table.pack_coarse(
            &stored, &indices, 50, headSize, nil, 0, &positions, &scratch, &panel)
        }
      }
      table.score_coarse(panel, headSize, prepared, rows, &scores, 64)
      for row in 0..<rows {
        let expected = (0..<64).map { key in
          key < 50
            ? (0..<headSize).reduce(0.0) {
              $0 + Double(queries[row * headSize + $1]) * Double(keys[key * headSize + $1])
            } : 0
        }
        expectClose(
          Array(scores[row * 64..<row * 64 + 64]), expected,
          // 8 bits of query and key: measured worst 0.03 times the root of the head size.
          within: table.scores_in_integers == 0 ? 1e-4 : 0.04 * Double(headSize).squareRoot(),
          "\(rows) rows, row \(row)")
      }
    }
  }

  /// Keys and values of every way of keeping them, of usual and unusual head sizes, turned and not.
  @Test(arguments: CPUKernels.supported, [ElementType.float32, .float16, .bfloat16, .q8_0])
  func storedKeysAndValuesEqualTheScalarOnes(
    _ kernels: CPUKernels, _ element: ElementType
  ) throws {
    let table = try table(kernels)
    for (headSize, half, rows) in [
      (64, 32, 4), (128, 64, 5), (96, 48, 1), (160, 20, 3), (64, 0, 2),
    ] {
      let count = 37
      let (bytes, keys) = stored(element, rows: 64, columns: headSize, seed: 21)
      var numbers = SeededNumbers(22)
      let queries = numbers.normals(rows * headSize)
      let angles = (0..<64 * max(1, half)).map { Double($0) / 7 }
      // [position][cosines, sines]
      let turns = (0..<64).flatMap { position in
        let own = angles[position * half..<(position + 1) * half]
        return own.map { Float(cos($0)) } + own.map { Float(sin($0)) }
      }
      let indices = (0..<count).map { Int32(($0 * 29) % 64) }
      let positions = (0..<count).map { Int32(($0 * 5) % 64) }
      var scores = [Float](repeating: 0, count: rows * 64)
      var sums = [Float](repeating: 1, count: rows * headSize)
      let weights = numbers.normals(rows * 64)
      var scratch = [Float](repeating: 0, count: 64 * headSize)
      bytes.withUnsafeBufferPointer { bytes in
        let blocks: [UnsafePointer<UInt8>?] = [bytes.baseAddress]
        blocks.withUnsafeBufferPointer { blocks in
          var rowsOfKeys = ihp_rows(
            blocks: blocks.baseAddress, block_shift: 6,
            element: element.kernelElement, offset: 0,
            stride: element.byteCount(of: headSize))
          turns.withUnsafeBufferPointer { turns in
            table.score_stored(
              &rowsOfKeys, indices, count, headSize, half == 0 ? nil : turns.baseAddress, half,
              positions, ihp_ahead(), ihp_ahead(), &scratch, queries, rows, &scores, 64)
          }
          table.add_values(
            &rowsOfKeys, indices, count, headSize, ihp_ahead(), weights, rows, 64, &sums)
        }
      }
      // Elements of Q8_0 here reach 12; sums of 37 of them, or of 160.
      let tolerance = element == .q8_0 ? 5e-3 : 3e-4
      for row in 0..<rows {
        let expected = (0..<count).map { column in
          let key = Array(
            keys[Int(indices[column]) * headSize..<(Int(indices[column]) + 1) * headSize])
          var turned = key
          for pair in 0..<half {
            let angle = angles[Int(positions[column]) * half + pair]
            turned[pair] = key[pair] * cos(angle) - key[half + pair] * sin(angle)
            turned[half + pair] = key[half + pair] * cos(angle) + key[pair] * sin(angle)
          }
          return (0..<headSize).reduce(0.0) {
            $0 + Double(queries[row * headSize + $1]) * turned[$1]
          }
        }
        expectClose(
          Array(scores[row * 64..<row * 64 + count]), expected, within: tolerance,
          "scores, heads of \(headSize), row \(row)")
        let added = (0..<headSize).map { element in
          (0..<count).reduce(1.0) {
            $0 + Double(weights[row * 64 + $1]) * keys[Int(indices[$1]) * headSize + element]
          }
        }
        expectClose(
          Array(sums[row * headSize..<(row + 1) * headSize]), added, within: tolerance,
          "sums, heads of \(headSize), row \(row)")
      }
    }
  }

  @Test(arguments: CPUKernels.supported)
  func blocksOfBytesAreWithinHalfAStep(_ kernels: CPUKernels) throws {
    let table = try table(kernels)
    var numbers = SeededNumbers(23)
    var values = numbers.normals(96)
    for index in 32..<64 { values[index] = 0 }
    values[70] = 1e4
    var bytes = [UInt8](repeating: 0, count: 3 * 34)
    var back = [Float](repeating: .nan, count: 96)
    table.narrow(IHP_Q8_0, values, 96, &bytes)
    table.widen(IHP_Q8_0, bytes, 0, 96, &back)
    for block in 0..<3 {
      let part = block * 32..<(block + 1) * 32
      let largest = values[part].map(abs).max() ?? 0
      for index in part { #expect(abs(back[index] - values[index]) <= largest / 127 * 0.51) }
    }
  }

  @Test func theLargestAreFoundWithTiesFromTheFront() {
    var numbers = SeededNumbers(11)
    let tied = (0..<400).map { _ in Float(numbers.index(below: 40) - 20) / 4 }
    // Some that differ in the last bits only.
    let close = (0..<400).map { 1 + Float($0 * 7 % 400) * .ulpOfOne }
    for values in [tied, numbers.normals(400), close] {
      for count in [0, 1, 2, 50, 399, 400, 500] {
        let expected = values.indices.sorted {
          values[$0] != values[$1] ? values[$0] > values[$1] : $0 < $1
        }.prefix(count).sorted()
        let found = values.withUnsafeBufferPointer { indicesOfLargest(count, of: $0) }
        #expect(found == Array(expected))
      }
    }
  }
}
