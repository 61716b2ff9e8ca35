// SPDX-License-Identifier: Apache-2.0
// Outputs of one attention over disjoint sets of keys, put together: each part brings its output, already divided by
// its sum, and the logarithm of that sum (base e; minus infinity where it saw no key).
//
// Grid (rows), HEAD_SIZE / 2 threads; rows are tokens x heads. Macros: ELEMENT, HEAD_SIZE.
#include "common.cuh"

extern "C" __global__ void mergeParts(const __grid_constant__ ihp_merge p) {
  waitForPreviousKernel();
  letNextKernelStart();
  const long long row = blockIdx.x;
  float best = kNegativeInfinity, total = 0.f, x = 0.f, y = 0.f;
  for (int part = 0; part < p.part_count; ++part) best = fmaxf(best, p.log_sums[(long long)part * p.rows + row]);
  const float base = best == kNegativeInfinity ? 0.f : best;
  for (int part = 0; part < p.part_count; ++part) {
    const float weight = exp2Fast((p.log_sums[(long long)part * p.rows + row] - base) * kLog2E);
    const uint32 pair = ((const uint32 *)p.parts)[((long long)part * p.rows + row) * (HEAD_SIZE / 2) + threadIdx.x];
    total += weight;
    // A part without keys may hold anything.
    x += weight > 0.f ? weight * Element<ELEMENT>::low(pair) : 0.f;
    y += weight > 0.f ? weight * Element<ELEMENT>::high(pair) : 0.f;
  }
  const float factor = total > 0.f ? 1.f / total : 0.f;
  ((uint32 *)p.output)[row * (HEAD_SIZE / 2) + threadIdx.x] = Element<ELEMENT>::pack(x * factor, y * factor);
  if (p.log_sum && threadIdx.x == 0) p.log_sum[row] = total > 0.f ? best + log2Fast(total) / kLog2E : kNegativeInfinity;
}
