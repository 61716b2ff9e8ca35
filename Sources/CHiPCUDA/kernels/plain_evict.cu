// SPDX-License-Identifier: Apache-2.0
// H2O, behind the attention of a block of queries: what each key has drawn, and which keys stay.
//
// Macros: ELEMENT, QUERY, REAL as in `plain.cuh`.

#include "plain_cut.cuh"

#define ROWS IHP_PLAIN_SCORE_ROWS
#define WARPS 8
#define OWN (ROWS / WARPS)

/// Queries as keys see them whose positions are their ranks; a warp each, `[row, head]`.
extern "C" __global__ __launch_bounds__(WARP) void plain_place(const ihp_plain_evict call) {
  const ihp_plain_input &in = call.input;
  const int row = blockIdx.x, head = blockIdx.y;
  stage_query(in, row, head, call.kept_count + row, in.amplitude * in.amplitude, 1, false,
              (REAL *)call.rows + ((Wide)head * in.rows + row) * in.head_size);
}

/// Adds the weights of all rows to each key's; 32 keys of a head in a block of 8 warps.
extern "C" __global__ __launch_bounds__(WARPS * WARP) void plain_weigh(const ihp_plain_evict call) {
  extern __shared__ double memory[];
  __shared__ double totals[WARPS][COLUMNS];
  const ihp_plain_input &in = call.input;
  REAL *tile = (REAL *)memory;
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const int size = in.head_size, stride = size + 1;
  const int kv_head = blockIdx.y, group = in.heads / in.kv_heads;
  const int first = blockIdx.x * COLUMNS, rank = first + lane, count = call.kept_count + in.rows;
  const int *kept = call.kept ? call.kept + (Wide)kv_head * call.kept_capacity : nullptr;
  const auto key_at = [=](int rank) {
    return rank >= call.kept_count ? in.start + rank - call.kept_count : kept ? kept[rank] : rank;
  };
  for (int column = warp; column < COLUMNS; column += WARPS)
    if (first + column < count) stage_key(in, kv_head, key_at(first + column), first + column, -1, tile + column * stride);
  __syncthreads();
  double total = 0;
  for (int base = 0; base < group * in.rows; base += ROWS) {
    const REAL *rows[OWN];
    REAL scores[OWN];
#pragma unroll
    for (int own = 0; own < OWN; own++) {
      const int row = lower(base + warp * OWN + own, group * in.rows - 1);
      rows[own] = (const REAL *)call.rows + ((Wide)kv_head * group * in.rows + row) * size;
    }
    multiply<OWN>(rows, tile + lane * stride, size, scores);
#pragma unroll
    for (int own = 0; own < OWN; own++) {
      const int row = base + warp * OWN + own, query = row % in.rows;
      if (row >= group * in.rows || rank > call.kept_count + query) continue;
      const Wide place = (Wide)query * in.heads + kv_head * group + row / in.rows;
      total += exponential((REAL)(capped(in, scores[own]) - call.log_sums[place]));
    }
  }
  totals[warp][lane] = total;
  __syncthreads();
  if (warp > 0 || rank >= count) return;
  for (int other = 1; other < WARPS; other++) total += totals[other][lane];
  const float before =
      rank < call.kept_count && call.masses ? call.masses[(Wide)kv_head * call.kept_capacity + rank] : 0;
  call.keys[(Wide)kv_head * call.capacity + rank] = key_at(rank);
  call.drawn[(Wide)kv_head * call.capacity + rank] = before + (float)total;
}

/// Keeps the last keys and those that have drawn the most, of equal ones the later; a block of threads for each head.
extern "C" __global__ __launch_bounds__(CUT_THREADS) void plain_evict(const ihp_plain_evict call) {
  const ihp_plain_input &in = call.input;
  const int count = call.kept_count + in.rows, end = in.start + in.rows;
  const int *keys = call.keys + (Wide)blockIdx.x * call.capacity;
  const float *drawn = call.drawn + (Wide)blockIdx.x * call.capacity;
  int *next_keys = call.next_keys + (Wide)blockIdx.x * call.next_capacity;
  float *next_masses = call.next_masses + (Wide)blockIdx.x * call.next_capacity;
  int old = 0, high = count;
  while (old < high) {
    const int middle = (old + high) / 2;
    if (keys[middle] < end - call.recent)
      old = middle + 1;
    else
      high = middle;
  }
  const int places = higher(0, call.next_count - (count - old));
  keep_largest(places, old, true, [=](int index) { return (double)drawn[index]; },
               [=](int to, int index) {
                 next_keys[to] = keys[index];
                 next_masses[to] = drawn[index];
               });
  for (int index = old + threadIdx.x; index < count; index += blockDim.x) {
    const int to = places + index - old;
    next_keys[to] = keys[index];
    next_masses[to] = drawn[index];
  }
}
