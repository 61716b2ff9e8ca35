// SPDX-License-Identifier: Apache-2.0
// New keys and values into their pages; a block of threads for each token, a warp for each head.
//
// Macros: SOURCE of the new rows and of queries, ELEMENT of the pools (float, BFloat16, Half).

#include "elements.cuh"
#include "ihp_plain_parameters.h"

#define PAGE 64
#define WARP 32
#define LARGEST 256

/// Where the halves order takes the element from that it has at `element`.
__device__ __forceinline__ int origin(int element, int pairs) {
  if (element >= 2 * pairs) return element;
  return element < pairs ? 2 * element : 2 * (element - pairs) + 1;
}

/// A warp copies a head; false in a lane that has stored a number that is not finite: 70,000 is none as a Half.
__device__ __forceinline__ bool store(const SOURCE *source, ELEMENT *target, int size, int pairs) {
  bool is_finite = true;
  for (int element = threadIdx.x % WARP; element < size; element += WARP) {
    ELEMENT stored;
    narrow(widen(source[origin(element, pairs)]), stored);
    target[element] = stored;
    // False for what is not a number, too.
    is_finite = is_finite && fabsf(widen(stored)) <= 3.402823466e38f;
  }
  return is_finite;
}

extern "C" __global__ __launch_bounds__(256) void plain_append(const ihp_plain_append call) {
  const int row = blockIdx.x, size = call.head_size;
  const int warp = threadIdx.x / WARP, warps = blockDim.x / WARP, lane = threadIdx.x % WARP;
  const int position = call.start + row;
  const long long page = call.pages[position / PAGE];
  bool is_finite = true;
  for (int head = warp; head < call.kv_heads; head += warps) {
    const long long from = ((long long)row * call.kv_heads + head) * size;
    const long long to = ((page * call.kv_heads + head) * PAGE + position % PAGE) * size;
    is_finite &= store((const SOURCE *)call.new_keys + from, (ELEMENT *)call.keys + to, size, call.interleaved_pairs);
    is_finite &= store((const SOURCE *)call.new_values + from, (ELEMENT *)call.values + to, size, 0);
  }
  if (call.queries && call.interleaved_pairs > 0) {
    for (int head = warp; head < call.heads; head += warps) {
      SOURCE *query = (SOURCE *)call.queries + ((long long)row * call.heads + head) * size;
      SOURCE moved[LARGEST / WARP];
#pragma unroll
      for (int part = 0; part < LARGEST / WARP; part++) {
        const int element = part * WARP + lane;
        if (element < size) moved[part] = query[origin(element, call.interleaved_pairs)];
      }
      __syncwarp();
#pragma unroll
      for (int part = 0; part < LARGEST / WARP; part++) {
        const int element = part * WARP + lane;
        if (element < size) query[element] = moved[part];
      }
    }
  }
  if (__syncthreads_or(!is_finite) && threadIdx.x == 0) {
    const int index = atomicAdd(call.faults, 1);
    if (index < call.fault_capacity) {
      call.faults[1 + 2 * index] = call.first_row + row;
      call.faults[2 + 2 * index] = call.layer;
    }
  }
}
