// SPDX-License-Identifier: Apache-2.0
// Attention over whatever keys a policy reaches: 16 rows, of a block of queries and a set of heads that reach the same
// keys, in a block of 8 warps; 32 keys at a time, one in each lane.
//
// Macros: ELEMENT, QUERY, REAL as in `plain.cuh`.

#include "plain.cuh"

#define ROWS IHP_PLAIN_ATTEND_ROWS
#define WARPS 8
/// Rows of a warp, and elements of an output that a lane has at most.
#define OWN (ROWS / WARPS)
#define PARTS (256 / WARP)

/// A key, and where it appears to stand.
struct Placed {
  int key;
  Wide position;
  /// What a quarter of it appears to stand at; negative: nothing.
  Wide quarter;
};

/// The rows of a warp, and their softmax so far.
struct Rows {
  int query[OWN], head[OWN];
  bool exists[OWN];
  Wide position[OWN];
  REAL maximum[OWN], sum[OWN];
  REAL output[OWN][PARTS];
};

/// Queries of the warp's rows into shared memory, as far keys or near ones see them.
template <typename Place>
__device__ __forceinline__ void load(const ihp_plain_input &in, const Rows &rows, REAL *queries, Place place) {
  __syncwarp();
  for (int own = 0; own < OWN; own++) {
    if (!rows.exists[own]) continue;
    stage_query(in, rows.query[own], rows.head[own], place(rows.position[own]), in.amplitude * in.amplitude, 1, false,
                queries + own * in.head_size);
  }
  __syncwarp();
}

/// Folds `count` keys into the softmax of all rows.
template <typename Key, typename Visible>
__device__ __forceinline__ void fold(const ihp_plain_input &in, int kv_head, int count, Rows &rows, const REAL *queries,
                                     REAL *tile, int *staged, Key key_at, Visible is_visible) {
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const int size = in.head_size, stride = size + 1;
  const REAL *mine[OWN];
  for (int own = 0; own < OWN; own++) mine[own] = queries + own * size;
  for (int base = 0; base < count; base += COLUMNS) {
    __syncthreads();
    for (int column = warp; column < COLUMNS; column += WARPS) {
      if (base + column < count) {
        const Placed placed = key_at(base + column);
        stage_key(in, kv_head, placed.key, placed.position, placed.quarter, tile + column * stride);
        if (lane == 0) staged[column] = placed.key;
      } else {
        for (int element = lane; element < size; element += WARP) tile[column * stride + element] = 0;
        if (lane == 0) staged[column] = -1;
      }
    }
    __syncthreads();
    REAL scores[OWN];
    multiply<OWN>(mine, tile + lane * stride, size, scores);
    const int key = staged[lane];
#pragma unroll
    for (int own = 0; own < OWN; own++) {
      const bool counts = rows.exists[own] && key >= 0 && is_visible(key, rows.position[own]);
      const REAL score = counts ? capped(in, scores[own]) : -infinity();
      const REAL best = warp_maximum(score);
      if (best == -infinity()) continue;
      const REAL maximum = best < rows.maximum[own] ? rows.maximum[own] : best;
      const REAL shrink = exponential(rows.maximum[own] - maximum);
      const REAL weight = counts ? exponential(score - maximum) : 0;
      rows.maximum[own] = maximum;
      rows.sum[own] = rows.sum[own] * shrink + warp_sum(weight);
#pragma unroll
      for (int part = 0; part < PARTS; part++) rows.output[own][part] *= shrink;
      for (int column = 0; column < COLUMNS; column++) {
        const REAL factor = __shfl_sync(EVERY, weight, column);
        // A value may be infinite where its weight is none.
        if (factor == 0 || staged[column] < 0) continue;
        const ELEMENT *value = (const ELEMENT *)in.values + row_offset(in, kv_head, staged[column]);
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
          const int element = part * WARP + lane;
          if (element < size) rows.output[own][part] += factor * (REAL)widen(value[element]);
        }
      }
    }
  }
}

extern "C" __global__ __launch_bounds__(WARPS * WARP) void plain_attend(const ihp_plain_attend call) {
  extern __shared__ double memory[];
  __shared__ int staged[COLUMNS];
  const ihp_plain_input &in = call.input;
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const int size = in.head_size;
  REAL *tile = (REAL *)memory;
  REAL *queries = tile + COLUMNS * (size + 1) + warp * OWN * size;

  const int set = blockIdx.y, set_heads = in.heads / call.sets;
  const int tiles = (call.query_block * set_heads + ROWS - 1) / ROWS;
  const int block = blockIdx.x / tiles, first_row = block * call.query_block;
  const int count = lower(call.query_block, in.rows - first_row);
  const int first = blockIdx.x % tiles * ROWS;
  if (first >= count * set_heads) return;
  const int start = in.start + first_row, end = start + count;
  const int kv_head = set * set_heads / (in.heads / in.kv_heads);

  Rows rows;
  for (int own = 0; own < OWN; own++) {
    const int row = first + warp * OWN + own;
    rows.exists[own] = row < count * set_heads;
    rows.head[own] = set * set_heads + (rows.exists[own] ? row / count : 0);
    rows.query[own] = first_row + (rows.exists[own] ? row % count : 0);
    rows.position[own] = in.start + rows.query[own];
    rows.maximum[own] = -infinity();
    rows.sum[own] = 0;
    for (int part = 0; part < PARTS; part++) rows.output[own][part] = 0;
    // Of rows that do not exist nothing is used, but they are multiplied.
    for (int element = lane; element < size; element += WARP) queries[own * size + element] = 0;
  }

  const Wide window = call.window, sink = call.sink;
  const auto is_behind = [=](int key, Wide position) { return key + window <= position; };
  if (call.reach == IHP_PLAIN_STREAMING_REACH) {
    // The query stands at the end of a cache of sinks and window.
    load(in, rows, queries, [=](Wide position) { return lower(position, sink + window - 1); });
    fold(in, kv_head, (int)higher(0LL, lower(sink, end - window)), rows, queries, tile, staged,
         [](int index) { return Placed{index, index, -1}; }, is_behind);
  } else if (call.reach == IHP_PLAIN_SELECTED_REACH) {
    const int list = block * call.owners + set * set_heads * call.owners / in.heads;
    const int blocks = call.lists ? call.counts[list] : 0, block_size = call.block_size;
    const int *numbers = call.lists + (Wide)list * call.max_blocks;
    const int *places = call.places + (Wide)list * (call.max_blocks + 1);
    const Wide border = start - window, all = sink + (Wide)blocks * block_size, trained = in.trained_length;
    const int scheme = call.scheme;
    const auto placed = [=](int key, Wide rank, int number) {
      const Wide streamed = higher(0LL, rank + border - all + 1);
      Wide place;
      switch (scheme) {
      case IHP_PLAIN_STREAMING: place = streamed; break;
      case IHP_PLAIN_INFLLM: place = higher(0LL, border); break;
      case IHP_PLAIN_RELATIVE: place = higher(0LL, border - 1); break;
      case IHP_PLAIN_CHUNK_INDEXED: place = higher(0LL, border - blocks + 1 + number); break;
      case IHP_PLAIN_SPREAD: place = places[number + 1] + (number < 0 ? rank : (rank - sink) % block_size); break;
      default: place = seen_position(scheme, key, start, end - 1, trained);
      }
      return scheme == IHP_PLAIN_DYNAMIC ? Placed{key, streamed, place} : Placed{key, place, -1};
    };
    load(in, rows, queries, [](Wide position) { return position; });
    const int last = end - 1;
    // A block that is cut short by the end of the keys has them behind every row's window anyhow.
    fold(in, kv_head, blocks * block_size, rows, queries, tile, staged,
         [=](int index) {
           const int number = index / block_size;
           const int key = numbers[number] * block_size + index % block_size;
           const Placed there = placed(key, sink + index, number);
           return Placed{lower(key, last), there.position, there.quarter};
         },
         is_behind);
    fold(in, kv_head, (int)lower(sink, (Wide)end), rows, queries, tile, staged,
         [=](int index) { return placed(index, index, -1); }, is_behind);
  } else if (call.reach == IHP_PLAIN_KEPT_REACH) {
    // Kept keys close up: their positions are their ranks.
    const int shift = start - call.kept_count;
    const int *kept = call.kept ? call.kept + (Wide)kv_head * call.kept_capacity : nullptr;
    load(in, rows, queries, [=](Wide position) { return position - shift; });
    fold(in, kv_head, call.kept_count, rows, queries, tile, staged,
         [=](int index) { return Placed{kept ? kept[index] : index, index, -1}; }, [](int, Wide) { return true; });
  }
  const bool is_bounded = call.reach == IHP_PLAIN_STREAMING_REACH || call.reach == IHP_PLAIN_SELECTED_REACH;
  const int oldest =
      call.reach == IHP_PLAIN_KEPT_REACH ? start : is_bounded ? (int)higher(0LL, start - window + 1) : 0;
  load(in, rows, queries, [](Wide position) { return position; });
  fold(in, kv_head, end - oldest, rows, queries, tile, staged,
       [=](int index) { return Placed{oldest + index, oldest + index, -1}; },
       [=](int key, Wide position) { return key <= position && (!is_bounded || key + window > position); });

  for (int own = 0; own < OWN; own++) {
    if (!rows.exists[own]) continue;
    if (call.sinks) {
      const REAL sink_score = call.sinks[rows.head[own]];
      const REAL best = larger(rows.maximum[own], sink_score);
      const REAL shrink = exponential(rows.maximum[own] - best);
      rows.sum[own] = rows.sum[own] * shrink + exponential(sink_score - best);
      for (int part = 0; part < PARTS; part++) rows.output[own][part] *= shrink;
      rows.maximum[own] = best;
    }
    const Wide place = (Wide)rows.query[own] * in.heads + rows.head[own];
    QUERY *output = (QUERY *)call.output + place * size;
    for (int part = 0; part < PARTS; part++) {
      const int element = part * WARP + lane;
      if (element < size) narrow((float)(rows.output[own][part] / rows.sum[own]), output[element]);
    }
    if (call.log_sums && lane == 0) call.log_sums[place] = rows.maximum[own] + logarithm(rows.sum[own]);
  }
}
