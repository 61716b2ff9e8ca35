// SPDX-License-Identifier: Apache-2.0
// The article's call: queries [1, 32K, 32, 128] over keys and values [1, 128K, 8, 128] in bfloat16, to output and metadata.
//
// A package of its own depends on InfiniteHiP and imports these:
//   .target(name: "Example", dependencies: [.product(name: "InfiniteHiP", package: "InfiniteHiP")])

import Foundation
import HiPAttention
import HiPCUDA
import InfiniteHiP

let environment = ProcessInfo.processInfo.environment
let gpu = try CUDABackend(
  home: environment["HOME"], environment: environment,
  cacheFolder: NSTemporaryDirectory() + "infinitehip-kernels")
print(gpu.name)

let shape = AttentionShape(heads: 32, kvHeads: 8, headSize: 128)
func random(_ tokens: Int, _ heads: Int) -> [Float] {
  (0..<tokens * heads * shape.headSize).map { _ in Float.random(in: -1.7...1.7) }
}
let queries = random(32 << 10, shape.heads)
let keys = random(128 << 10, shape.kvHeads)
let values = random(128 << 10, shape.kvHeads)

let result = try AttentionOperator(on: gpu, keeping: .bf16).run(
  queries: queries, keys: keys, values: values, shape: shape,
  policy: AttentionChoice.gpu.policy, rotary: nil)

print("output [1, \(result.output.count / 4096), 32, 128], first \(result.output[0])")
if let selection = result.selection {
  let blocks = selection.blocks[0][511]
  print(
    "head 0, last 64 queries: \(blocks.count) blocks of \(selection.blockSize), from \(blocks[0])")
}
