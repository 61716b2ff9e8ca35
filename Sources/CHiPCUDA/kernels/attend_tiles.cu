// SPDX-License-Identifier: Apache-2.0
// What `plain_attend` computes, by matrix units: 64 rows, of a block of queries and a set of heads that reach the same
// keys, in a block of 4 warps; 64 keys at a time, which are rotated while they are brought into shared memory. Where rows
// are few, several blocks share their keys, and `merge_tiles` puts together what each has seen.
//
// Macros: ELEMENT of keys and values (BFloat16, Half), QUERY of queries and outputs (float, ELEMENT), HEAD_SIZE.

#define REAL float
#include "plain.cuh"
#include "common.cuh"

constexpr int kRows = IHP_ATTEND_TILE;
constexpr int kKeys = 64;
constexpr int kThreads = 128;
/// Elements of a row in shared memory: neighbours begin in other banks.
constexpr int kStride = HEAD_SIZE + 8;
/// Parts of 8 elements that a row is rotated and copied by: 4 pairs, or 8 elements that are not rotated.
constexpr int kParts = HEAD_SIZE / 8;
/// Queries and rotated keys are rounded once more: to the type with more digits, which holds them up to 65,504.
typedef Half Factor;

/// Keys of a tile: which they are (-1: none), and what their distance from the block's origin appears to be.
struct Tile {
  int key[kKeys];
  int distance[kKeys];
};

struct Shared {
  unsigned short *queries, *keys, *values;
  Tile *tile;
};

/// A key, and where it appears to stand.
struct Placed {
  int key;
  Wide position;
};

/// Four neighbouring numbers.
struct Four {
  float at[4];
};

__device__ __forceinline__ Four load(const float *source) {
  const float4 four = *(const float4 *)source;
  return Four{{four.x, four.y, four.z, four.w}};
}
template <class T> __device__ __forceinline__ Four load(const T *source) {
  const uint2 pairs = *(const uint2 *)source;
  return Four{{Element<T>::low(pairs.x), Element<T>::high(pairs.x), Element<T>::low(pairs.y), Element<T>::high(pairs.y)}};
}
__device__ __forceinline__ uint2 packed(const Four &four) {
  return make_uint2(Element<Factor>::pack(four.at[0], four.at[1]), Element<Factor>::pack(four.at[2], four.at[3]));
}

/// Cosines and sines of four pairs' angles at a distance.
__device__ __forceinline__ void turns(const ihp_attend_tiles &call, int pair, int distance, Four &cosine, Four &sine) {
  const int there = distance < 0 ? -distance : distance;
  const ihp_plain_input &in = call.attend.input;
  if (there < call.turn_count) {
    const float4 *found = (const float4 *)(call.turns + ((Wide)there * in.pairs + pair) * 2);
    const float4 first = found[0], second = found[1];
    cosine = Four{{first.x, first.z, second.x, second.z}};
    sine = Four{{first.y, first.w, second.y, second.w}};
  } else {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      double c, s;
      sincos((double)there * in.frequencies[pair + i], &s, &c);
      cosine.at[i] = (float)c;
      sine.at[i] = (float)s;
    }
  }
  if (distance < 0) {
#pragma unroll
    for (int i = 0; i < 4; i++) sine.at[i] = -sine.at[i];
  }
}

/// A part of a row into shared memory, rotated by a distance and scaled.
template <class T>
__device__ __forceinline__ void stage(const ihp_attend_tiles &call, const T *row, int part, int distance, int pairs,
                                      float scale, float turned_scale, unsigned short *target) {
  if (4 * part < pairs) {
    const int pair = 4 * part;
    Four low = load(row + pair), high = load(row + pairs + pair), cosine, sine, first, second;
    turns(call, pair, distance, cosine, sine);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float a = low.at[i] * turned_scale, b = high.at[i] * turned_scale;
      first.at[i] = a * cosine.at[i] - b * sine.at[i];
      second.at[i] = b * cosine.at[i] + a * sine.at[i];
    }
    *(uint2 *)(target + pair) = packed(first);
    *(uint2 *)(target + pairs + pair) = packed(second);
  } else {
    const int element = 2 * pairs + 8 * (part - pairs / 4);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      Four four = load(row + element + 4 * half);
#pragma unroll
      for (int i = 0; i < 4; i++) four.at[i] *= scale;
      *(uint2 *)(target + element + 4 * half) = packed(four);
    }
  }
}

/// The rows of a thread's warp, and their softmax so far: lane l has rows l / 4 and l / 4 + 8.
struct Softmax {
  float output[HEAD_SIZE / 8][4];
  float maximum[2], sum[2];
};

/// Which rows a block has.
struct Block {
  int number, set, set_heads, first_row, count, first, start, end, kv_head;

  __device__ __forceinline__ explicit Block(const ihp_plain_attend &call) {
    const ihp_plain_input &in = call.input;
    set = blockIdx.y;
    set_heads = in.heads / call.sets;
    const int tiles = (call.query_block * set_heads + kRows - 1) / kRows;
    number = blockIdx.x / tiles;
    first_row = number * call.query_block;
    count = lower(call.query_block, in.rows - first_row);
    first = blockIdx.x % tiles * kRows;
    start = in.start + first_row;
    end = start + count;
    kv_head = set * set_heads / (in.heads / in.kv_heads);
  }

  __device__ __forceinline__ bool isEmpty() const { return first >= count * set_heads; }

  /// Head, query and position of a row of the tile; false: there is none.
  __device__ __forceinline__ bool row(const ihp_plain_input &in, int index, int &head, int &query) const {
    const int row = first + index;
    if (row >= count * set_heads) return false;
    head = set * set_heads + row / count;
    query = first_row + row % count;
    return true;
  }
};

/// What a block of several leaves of a row of its tile.
__device__ __forceinline__ float *partial(const ihp_attend_tiles &call, int split, int row) {
  const Wide tile = (Wide)blockIdx.y * gridDim.x + blockIdx.x;
  return call.partials + ((tile * call.splits + split) * kRows + row) * (HEAD_SIZE + 2);
}

/// Queries into shared memory, as far keys or near ones see them.
template <class Place>
__device__ __forceinline__ void loadQueries(const ihp_attend_tiles &call, const Block &block, const Shared &shared,
                                            Wide origin, Place place) {
  const ihp_plain_input &in = call.attend.input;
  const int pairs = in.frequencies ? in.pairs : 0;
  const float turned = in.scale * (float)(in.amplitude * in.amplitude);
  __syncthreads();
  for (int item = threadIdx.x; item < kRows * kParts; item += kThreads) {
    const int index = item / kParts, part = item % kParts;
    unsigned short *target = shared.queries + index * kStride;
    int head, query;
    if (block.row(in, index, head, query)) {
      const QUERY *source = (const QUERY *)in.queries + ((Wide)query * in.heads + head) * HEAD_SIZE;
      stage(call, source, part, (int)(place((Wide)in.start + query) - origin), pairs, in.scale, turned, target);
    } else {
      *(uint4 *)(target + 8 * part) = make_uint4(0, 0, 0, 0);
    }
  }
  // The next tile's barrier makes them seen.
}

/// Folds `count` keys, ascending, into the softmax of all rows.
/// `isVisible(key, position)`: whether a row sees a key; `isVisibleToAll(first, last)`: whether all rows see a run of keys.
template <class Key, class Visible, class VisibleToAll>
__device__ __forceinline__ void fold(const ihp_attend_tiles &call, const Block &block, const Shared &shared, int count,
                                     Wide origin, const int (&positions)[2], Softmax &softmax, Key keyAt,
                                     Visible isVisible, VisibleToAll isVisibleToAll) {
  const ihp_plain_input &in = call.attend.input;
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const uint32 queryBase = sharedAddress(shared.queries), keyBase = sharedAddress(shared.keys),
               valueBase = sharedAddress(shared.values);
  for (int base = (int)blockIdx.z * kKeys; base < count; base += (int)gridDim.z * kKeys) {
    __syncthreads();
    if (threadIdx.x < kKeys) {
      Placed placed = {-1, 0};
      if (base + (int)threadIdx.x < count) placed = keyAt(base + (int)threadIdx.x);
      shared.tile->key[threadIdx.x] = placed.key;
      shared.tile->distance[threadIdx.x] = (int)(placed.position - origin);
    }
    __syncthreads();
    for (int item = threadIdx.x; item < kKeys * kParts; item += kThreads) {
      const int index = item / kParts, part = item % kParts, key = shared.tile->key[index];
      unsigned short *keyTarget = shared.keys + index * kStride, *valueTarget = shared.values + index * kStride + 8 * part;
      if (key < 0) {
        *(uint4 *)(keyTarget + 8 * part) = make_uint4(0, 0, 0, 0);
        *(uint4 *)valueTarget = make_uint4(0, 0, 0, 0);
        continue;
      }
      const Wide offset = row_offset(in, block.kv_head, key);
      copyAsync16(sharedAddress(valueTarget), (const ELEMENT *)in.values + offset + 8 * part);
      stage(call, (const ELEMENT *)in.keys + offset, part, shared.tile->distance[index], in.frequencies ? in.pairs : 0,
            1.0f, 1.0f, keyTarget);
    }
    copyAsyncCommit();
    copyAsyncWait<0>();
    __syncthreads();

    float scores[kKeys / 8][4] = {};
#pragma unroll
    for (int k = 0; k < HEAD_SIZE; k += 16) {
      uint32 a[4];
      loadMatrices(a, queryBase + 2 * ((16 * warp + lane % 16) * kStride + k + lane / 16 * 8));
#pragma unroll
      for (int group = 0; group < kKeys / 16; group++) {
        uint32 b[4];
        loadMatrices(b, keyBase + 2 * ((16 * group + lane / 16 * 8 + lane % 8) * kStride + k + lane / 8 % 2 * 8));
        Mma<Factor>::run(scores[2 * group], a[0], a[1], a[2], a[3], b[0], b[1]);
        Mma<Factor>::run(scores[2 * group + 1], a[0], a[1], a[2], a[3], b[2], b[3]);
      }
    }
    if (in.soft_cap > 0) {
#pragma unroll
      for (int column = 0; column < kKeys / 8; column++)
#pragma unroll
        for (int i = 0; i < 4; i++) scores[column][i] = in.soft_cap * tanhf(scores[column][i] / in.soft_cap);
    }
    const int firstKey = shared.tile->key[0], lastKey = shared.tile->key[kKeys - 1];
    if (lastKey < 0 || !isVisibleToAll(firstKey, lastKey)) {
#pragma unroll
      for (int column = 0; column < kKeys / 8; column++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const int key = shared.tile->key[8 * column + lane % 4 * 2 + i % 2];
          if (key < 0 || !isVisible(key, (Wide)positions[i / 2])) scores[column][i] = kNegativeInfinity;
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float best = softmax.maximum[half];
#pragma unroll
      for (int column = 0; column < kKeys / 8; column++)
        best = fmaxf(best, fmaxf(scores[column][2 * half], scores[column][2 * half + 1]));
      best = laneMax<4>(best);
      // Of a row that sees nothing yet all weights are 0.
      const float reference = best == kNegativeInfinity ? 0 : best * kLog2E;
      const float shrink = exp2Fast(softmax.maximum[half] * kLog2E - reference);
      softmax.maximum[half] = best;
      float sum = 0;
#pragma unroll
      for (int column = 0; column < kKeys / 8; column++)
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; i++) {
          scores[column][i] = exp2Fast(scores[column][i] * kLog2E - reference);
          sum += scores[column][i];
        }
      softmax.sum[half] = softmax.sum[half] * shrink + sum;
#pragma unroll
      for (int part = 0; part < HEAD_SIZE / 8; part++) {
        softmax.output[part][2 * half] *= shrink;
        softmax.output[part][2 * half + 1] *= shrink;
      }
    }
#pragma unroll
    for (int group = 0; group < kKeys / 16; group++) {
      const float(&low)[4] = scores[2 * group], (&high)[4] = scores[2 * group + 1];
      typedef Element<ELEMENT> Pair;
      const uint32 a0 = Pair::pack(low[0], low[1]), a1 = Pair::pack(low[2], low[3]);
      const uint32 a2 = Pair::pack(high[0], high[1]), a3 = Pair::pack(high[2], high[3]);
#pragma unroll
      for (int part = 0; part < HEAD_SIZE / 16; part++) {
        uint32 b[4];
        loadMatricesTransposed(b, valueBase + 2 * ((16 * group + lane % 16) * kStride + 16 * part + lane / 16 * 8));
        Mma<ELEMENT>::run(softmax.output[2 * part], a0, a1, a2, a3, b[0], b[1]);
        Mma<ELEMENT>::run(softmax.output[2 * part + 1], a0, a1, a2, a3, b[2], b[3]);
      }
    }
  }
}

extern "C" __global__ __launch_bounds__(kThreads) void attend_tiles(const ihp_attend_tiles tiles_call) {
  extern __shared__ __align__(16) unsigned short memory[];
  __shared__ Tile tile;
  const ihp_plain_attend &call = tiles_call.attend;
  const ihp_plain_input &in = call.input;
  const Shared shared = {memory, memory + kRows * kStride, memory + (kRows + kKeys) * kStride, &tile};
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;

  const Block block(call);
  if (block.isEmpty()) return;

  int heads[2], queries[2], positions[2];
  bool exists[2];
#pragma unroll
  for (int half = 0; half < 2; half++) {
    heads[half] = 0, queries[half] = block.first_row;
    exists[half] = block.row(in, 16 * warp + lane / 4 + 8 * half, heads[half], queries[half]);
    positions[half] = in.start + queries[half];
  }
  Softmax softmax;
#pragma unroll
  for (int part = 0; part < HEAD_SIZE / 8; part++)
#pragma unroll
    for (int i = 0; i < 4; i++) softmax.output[part][i] = 0;
#pragma unroll
  for (int half = 0; half < 2; half++) softmax.maximum[half] = kNegativeInfinity, softmax.sum[half] = 0;

  const Wide window = call.window, sink = call.sink, origin = block.start;
  const int start = block.start, end = block.end;
  const auto isBehind = [=](int key, Wide position) { return key + window <= position; };
  const auto areBehind = [=](int, int last) { return last + window <= start; };
  if (call.reach == IHP_PLAIN_STREAMING_REACH) {
    // The query stands at the end of a cache of sinks and window.
    loadQueries(tiles_call, block, shared, 0, [=](Wide position) { return lower(position, sink + window - 1); });
    fold(tiles_call, block, shared, (int)higher(0LL, lower(sink, end - window)), 0, positions, softmax,
         [](int index) { return Placed{index, index}; }, isBehind, areBehind);
    loadQueries(tiles_call, block, shared, origin, [](Wide position) { return position; });
  } else {
    loadQueries(tiles_call, block, shared, origin, [](Wide position) { return position; });
  }
  if (call.reach == IHP_PLAIN_SELECTED_REACH) {
    const int list = block.number * call.owners + block.set * block.set_heads * call.owners / in.heads;
    const int blocks = call.lists ? call.counts[list] : 0, block_size = call.block_size;
    const int *numbers = call.lists + (Wide)list * call.max_blocks;
    const int *places = call.places + (Wide)list * (call.max_blocks + 1);
    const Wide border = start - window, all = sink + (Wide)blocks * block_size, trained = in.trained_length;
    const int scheme = call.scheme;
    const auto placed = [=](int key, Wide rank, int number) {
      Wide place;
      switch (scheme) {
      case IHP_PLAIN_STREAMING: place = higher(0LL, rank + border - all + 1); break;
      case IHP_PLAIN_INFLLM: place = higher(0LL, border); break;
      case IHP_PLAIN_RELATIVE: place = higher(0LL, border - 1); break;
      case IHP_PLAIN_CHUNK_INDEXED: place = higher(0LL, border - blocks + 1 + number); break;
      case IHP_PLAIN_SPREAD: place = places[number + 1] + (number < 0 ? rank : (rank - sink) % block_size); break;
      default: place = seen_position(scheme, key, start, end - 1, trained);
      }
      return Placed{key, place};
    };
    const int last = end - 1;
    // A block that is cut short by the end of the keys has them behind every row's window anyhow.
    fold(tiles_call, block, shared, blocks * block_size, origin, positions, softmax,
         [=](int index) {
           const int number = index / block_size;
           const int key = numbers[number] * block_size + index % block_size;
           return Placed{lower(key, last), placed(key, sink + index, number).position};
         },
         isBehind, areBehind);
    fold(tiles_call, block, shared, (int)lower(sink, (Wide)end), origin, positions, softmax,
         [=](int index) { return placed(index, index, -1); }, isBehind, areBehind);
  }
  const bool isBounded = call.reach != IHP_PLAIN_DENSE_REACH;
  const int oldest = isBounded ? (int)higher(0LL, start - window + 1) : 0;
  fold(tiles_call, block, shared, end - oldest, origin, positions, softmax,
       [=](int index) { return Placed{oldest + index, oldest + index}; },
       [=](int key, Wide position) { return key <= position && (!isBounded || key + window > position); },
       [=](int first, int last) { return last <= start && (!isBounded || first + window > end - 1); });

#pragma unroll
  for (int half = 0; half < 2; half++) {
    float sum = laneSum<4>(softmax.sum[half]);
    if (!exists[half]) continue;
    if (gridDim.z > 1) {
      float *target = partial(tiles_call, blockIdx.z, 16 * warp + lane / 4 + 8 * half);
#pragma unroll
      for (int part = 0; part < HEAD_SIZE / 8; part++) {
        target[8 * part + lane % 4 * 2] = softmax.output[part][2 * half];
        target[8 * part + lane % 4 * 2 + 1] = softmax.output[part][2 * half + 1];
      }
      if (lane % 4 == 0) target[HEAD_SIZE] = softmax.maximum[half], target[HEAD_SIZE + 1] = sum;
      continue;
    }
    float share = 1;
    if (call.sinks) {
      const float score = call.sinks[heads[half]], best = fmaxf(softmax.maximum[half], score);
      share = expf(softmax.maximum[half] - best);
      sum = sum * share + expf(score - best);
    }
    share /= sum;
    QUERY *output = (QUERY *)call.output + ((Wide)queries[half] * in.heads + heads[half]) * HEAD_SIZE + lane % 4 * 2;
#pragma unroll
    for (int part = 0; part < HEAD_SIZE / 8; part++) {
      narrow(softmax.output[part][2 * half] * share, output[8 * part]);
      narrow(softmax.output[part][2 * half + 1] * share, output[8 * part + 1]);
    }
  }
}

/// Puts together what several blocks have seen of their keys; `blockIdx.z` is the row of the tile.
extern "C" __global__ __launch_bounds__(64) void merge_tiles(const ihp_attend_tiles tiles_call) {
  const ihp_plain_attend &call = tiles_call.attend;
  const ihp_plain_input &in = call.input;
  const Block block(call);
  int head, query;
  if (!block.row(in, blockIdx.z, head, query)) return;
  float maximum = call.sinks ? call.sinks[head] : kNegativeInfinity;
  for (int split = 0; split < tiles_call.splits; split++)
    maximum = fmaxf(maximum, partial(tiles_call, split, blockIdx.z)[HEAD_SIZE]);
  float sum = call.sinks ? expf(call.sinks[head] - maximum) : 0;
  for (int split = 0; split < tiles_call.splits; split++) {
    // One that has seen no key has the maximum minus infinity: its weight is 0.
    const float *part = partial(tiles_call, split, blockIdx.z) + HEAD_SIZE;
    sum += expf(part[0] - maximum) * part[1];
  }
  QUERY *output = (QUERY *)call.output + ((Wide)query * in.heads + head) * HEAD_SIZE;
  for (int element = threadIdx.x; element < HEAD_SIZE; element += blockDim.x) {
    float value = 0;
    for (int split = 0; split < tiles_call.splits; split++) {
      const float *part = partial(tiles_call, split, blockIdx.z);
      value += expf(part[HEAD_SIZE] - maximum) * part[element];
    }
    narrow(value / sum, output[element]);
  }
}
