// SPDX-License-Identifier: Apache-2.0
// Exact scores of keys that are not rotated, by matrix units: what `plain_score` computes of them, from rows that are
// rounded to the elements of the keys.
//
// A block of 4 warps has a run of keys, of which each warp copies tiles of its own, one ahead of the one it scores, and
// the rows of its set, as many at a time as shared memory is meant for. Keys are rows of products and queries columns,
// so that a lane's numbers belong to few queries: what it has seen of each stays in its registers from tile to tile.
//
// Macros: ELEMENT of keys (BFloat16, Half), HEAD_SIZE: a multiple of 16, at most 256.

// Rows have been computed, and queries are not seen.
#define QUERY ELEMENT
#define REAL float

#include "common.cuh"
#include "plain_work.cuh"

constexpr int kWarps = 4, kThreads = kWarps * WARP;
constexpr int kRun = IHP_PLAIN_RUN_KEYS;
/// Large heads have half of the rows and of the keys at a time: registers and shared memory hold no more.
constexpr bool kWide = HEAD_SIZE > 128;
/// Groups of 16 keys of a tile, and its keys.
constexpr int kGroups = kWide ? 1 : 2, kKeys = 16 * kGroups;
/// Keys of all warps' tiles.
constexpr int kStep = kWarps * kKeys;
/// Rows at a time, and those of them that a lane has numbers of.
constexpr int kRows = kWide ? 32 : 64, kOwn = kRows / 4;
/// Bytes from one row in shared memory to the next: an odd number of 16, so that 8 of them lie in all banks.
constexpr int kStride = 2 * HEAD_SIZE + 16;
/// Products of a row: steps of 16 elements.
constexpr int kProducts = HEAD_SIZE / 16;
/// Blocks that Hopper's shared memory has room for.
constexpr int kBlocks = HEAD_SIZE > 64 ? 2 : 4;
/// Below all scores, but a number: differences to it are numbers, too.
constexpr float kLeast = -1e30f;

/// The row of those at hand that a lane's number `own` belongs to.
__device__ __forceinline__ int row_of(int own) { return 8 * (own / 2) + 2 * (threadIdx.x % 4) + own % 2; }

/// Rows from `base` on, rounded; zeros where there are none.
__device__ __forceinline__ void stage_rows(
    const ihp_plain_input &in, const ihp_plain_stage &stage, const Work &work, int base, char *rows) {
  constexpr int kParts = HEAD_SIZE / 4, kCount = kRows * kParts / kThreads, kTogether = 4;
  static_assert(kRows * kParts % kThreads == 0, "threads have as many parts each");
#pragma unroll 1
  for (int first = 0; first < kCount; first += kTogether) {
    float4 x[kTogether];
    // Loads that no store stands between are on their way together.
#pragma unroll
    for (int i = 0; i < kTogether; i++) {
      const int index = (first + i) * kThreads + threadIdx.x;
      x[i] = ((const float4 *)work.row(in, stage, base + index / kParts, 0))[index % kParts];
    }
#pragma unroll
    for (int i = 0; i < kTogether; i++) {
      const int index = (first + i) * kThreads + threadIdx.x, row = index / kParts;
      const bool is_there = base + row < work.rows;
      const uint32 low = Element<ELEMENT>::pack(x[i].x, x[i].y), high = Element<ELEMENT>::pack(x[i].z, x[i].w);
      if (first + i < kCount)
        *(uint2 *)(rows + row * kStride + 8 * (index % kParts)) = make_uint2(is_there ? low : 0, is_there ? high : 0);
    }
  }
}

/// A warp asks for keys of the run from `first` on; the last one that takes part stands for those behind it.
__device__ __forceinline__ void copy_keys(
    const ihp_plain_input &in, const Wide *offsets, int first, int live, uint32 target) {
  constexpr int kPieces = HEAD_SIZE / 8;
  const int lane = threadIdx.x % WARP;
#pragma unroll
  for (int index = lane; index < kKeys * kPieces; index += WARP) {
    const int key = index / kPieces, piece = index % kPieces;
    const ELEMENT *source = (const ELEMENT *)in.keys + offsets[lower(first + key, live - 1)];
    copyAsync16(target + key * kStride + 16 * piece, source + 8 * piece);
  }
}

/// Maximum and sum of a row's exponentials, of two parts.
__device__ __forceinline__ void join(float &maximum, float &sum, float other, float more) {
  const float best = fmaxf(maximum, other);
  sum = sum * exp2Fast((maximum - best) * kLog2E) + more * exp2Fast((other - best) * kLog2E);
  maximum = best;
}

/// Leaves a lane with half of the rows that it had, joined with what its partner, `kLanes` lanes on, has seen of them.
template <int kLanes, int kHalf>
__device__ __forceinline__ void join_partners(float (&maximum)[kOwn], float (&sum)[kOwn], int &first) {
  const bool upper = threadIdx.x & kLanes;
#pragma unroll
  for (int own = 0; own < kHalf; own++) {
    const float low = maximum[own], high = maximum[own + kHalf], low_sum = sum[own], high_sum = sum[own + kHalf];
    const float other = __shfl_xor_sync(EVERY, upper ? low : high, kLanes);
    const float more = __shfl_xor_sync(EVERY, upper ? low_sum : high_sum, kLanes);
    maximum[own] = upper ? high : low;
    sum[own] = upper ? high_sum : low_sum;
    join(maximum[own], sum[own], other, more);
  }
  first += upper ? kHalf : 0;
}

/// What the lanes of a warp have seen of the rows: maximum and sum of each, to `parts` [kRows].
__device__ __forceinline__ void join_lanes(float (&maximum)[kOwn], float (&sum)[kOwn], float2 *parts) {
  int first = 0;
  join_partners<16, kOwn / 2>(maximum, sum, first);
  join_partners<8, kOwn / 4>(maximum, sum, first);
  join_partners<4, kOwn / 8>(maximum, sum, first);
#pragma unroll
  for (int own = 0; own < kOwn / 8; own++) parts[row_of(first + own)] = make_float2(maximum[own], sum[own]);
}

/// `totals`: of each key of the run, over the rows.
template <int kWanted>
__device__ __forceinline__ void score_run(
    const ihp_plain_input &in, const ihp_plain_stage &stage, char *memory, Wide *offsets, float *totals) {
  const int thread = threadIdx.x, lane = thread % WARP, warp = thread / WARP;
  const Work work(in, stage);
  const Wide first_row = work.first_row(stage);
  const int size = stage.chunk_size, first = blockIdx.x * (kRun / size), last_key = in.start + in.rows - 1;

  // Chunks that take part come first, and so do their keys.
  int live = 0;
#pragma unroll 1
  for (int index = thread; index < kRun; index += kThreads) {
    const int chunk = first + index / size;
    bool is_live = chunk < work.chunks.count;
    if (is_live) {
      const int start = work.chunks.start(chunk);
      is_live = start <= work.range.last_start;
      if (is_live) offsets[index] = row_offset(in, work.kv_head, lower(start + index % size, last_key));
    }
    live += __syncthreads_count(is_live);
  }

  char *rows = memory, *own_keys = memory + (kRows + warp * 2 * kKeys) * kStride;
  const uint32 keys = sharedAddress(own_keys);
  // Where a lane's addresses for four matrices of 8 rows and 8 elements begin.
  const uint32 from_keys = keys + lane % 16 * kStride + lane / 16 * 16;
  const uint32 from_rows = sharedAddress(rows) + (lane % 8 + lane / 16 * 8) * kStride + lane / 8 % 2 * 16;
#pragma unroll 1
  for (int base = 0; live > 0 && base < work.rows; base += kRows) {
    // Neither the rows before nor what warps have left of them is read any more.
    __syncthreads();
    if (warp * kKeys < live) copy_keys(in, offsets, warp * kKeys, live, keys);
    copyAsyncCommit();
    stage_rows(in, stage, work, base, rows);
    float maximum[kOwn], sum[kOwn];
#pragma unroll
    for (int own = 0; own < kOwn; own++) {
      const int row = base + row_of(own);
      maximum[own] = kLeast;
      // What is added to a score: rows that do not exist draw nothing, and are never the largest.
      if (kWanted == IHP_PLAIN_MASSES)
        sum[own] = 0;
      else if (row >= work.rows)
        sum[own] = kNegativeInfinity;
      else
        sum[own] = kWanted == IHP_PLAIN_SHARES ? -(float)stage.log_masses[first_row + row] * kLog2E : 0;
    }
    __syncthreads();

    int slot = 0;
#pragma unroll 1
    for (int at = warp * kKeys; at < live; at += kStep, slot ^= 1) {
      if (at + kStep < live) copy_keys(in, offsets, at + kStep, live, keys + (slot ^ 1) * kKeys * kStride);
      copyAsyncCommit();
      copyAsyncWait<1>();
      __syncwarp();
      uint32 a[kGroups][kProducts][4];
#pragma unroll
      for (int group = 0; group < kGroups; group++)
#pragma unroll
        for (int k = 0; k < kProducts; k++)
          loadMatrices(a[group][k], from_keys + (slot * kKeys + 16 * group) * kStride + 32 * k);
      // Key by key: lane / 4, 8 further on, and so on.
      float total[2 * kGroups];
#pragma unroll
      for (int i = 0; i < 2 * kGroups; i++) total[i] = kWanted == IHP_PLAIN_MAXIMA ? kNegativeInfinity : 0;
#pragma unroll
      for (int part = 0; part < kRows / 16; part++) {
        if (base + 16 * part >= work.rows) continue;
        float c[kGroups][2][4] = {};
#pragma unroll
        for (int k = 0; k < kProducts; k++) {
          uint32 b[4];
          loadMatrices(b, from_rows + 16 * part * kStride + 32 * k);
#pragma unroll
          for (int group = 0; group < kGroups; group++) {
            const uint32(&key)[4] = a[group][k];
            Mma<ELEMENT>::run(c[group][0], key[0], key[1], key[2], key[3], b[0], b[1]);
            Mma<ELEMENT>::run(c[group][1], key[0], key[1], key[2], key[3], b[2], b[3]);
          }
        }
        if (kWanted == IHP_PLAIN_MASSES && at + kKeys > live) {
#pragma unroll
          for (int i = 0; i < 2 * kGroups; i++)
            if (at + 8 * i + lane / 4 >= live)
#pragma unroll
              for (int column = 0; column < 4; column++)
                c[i / 2][column / 2][i % 2 * 2 + column % 2] = kNegativeInfinity;
        }
#pragma unroll
        for (int column = 0; column < 4; column++) {
          const int own = 4 * part + column;
          float scores[2 * kGroups];
#pragma unroll
          for (int i = 0; i < 2 * kGroups; i++) scores[i] = c[i / 2][column / 2][i % 2 * 2 + column % 2];
          if (kWanted == IHP_PLAIN_MASSES) {
            float best = maximum[own];
#pragma unroll
            for (int i = 0; i < 2 * kGroups; i++) best = fmaxf(best, scores[i]);
            const float offset = -best * kLog2E;
            float more = 0;
#pragma unroll
            for (int i = 0; i < 2 * kGroups; i++) more += exp2Fast(fmaf(scores[i], kLog2E, offset));
            // The difference comes first: of a lane that has seen no key yet it is 0.
            sum[own] = fmaf(sum[own], exp2Fast((maximum[own] - best) * kLog2E), more);
            maximum[own] = best;
          } else {
#pragma unroll
            for (int i = 0; i < 2 * kGroups; i++) {
              if (kWanted == IHP_PLAIN_SHARES)
                total[i] += exp2Fast(fmaf(scores[i], kLog2E, sum[own]));
              else
                total[i] = fmaxf(total[i], scores[i] + sum[own]);
            }
          }
        }
      }
      if (kWanted != IHP_PLAIN_MASSES) {
#pragma unroll
        for (int i = 0; i < 2 * kGroups; i++) {
          const float all = kWanted == IHP_PLAIN_SHARES ? laneSum<4>(total[i]) : laneMax<4>(total[i]);
          if (lane % 4) continue;
          // The same lane has had the rows before.
          float &kept = totals[at + 8 * i + lane / 4];
          kept = base == 0 ? all : kWanted == IHP_PLAIN_SHARES ? kept + all : fmaxf(kept, all);
        }
      }
      // The next copy goes where this tile's keys were.
      __syncwarp();
    }

    if (kWanted == IHP_PLAIN_MASSES) {
      // A warp's own keys are done with, and none of them are on their way.
      join_lanes(maximum, sum, (float2 *)own_keys);
      __syncthreads();
      if (thread < kRows && base + thread < work.rows) {
        float best = kLeast, all = 0;
#pragma unroll
        for (int other = 0; other < kWarps; other++) {
          const float2 part = ((const float2 *)(memory + (kRows + other * 2 * kKeys) * kStride))[thread];
          join(best, all, part.x, part.y);
        }
        double *partial = stage.partials + 2 * ((first_row + base + thread) * gridDim.x + blockIdx.x);
        partial[0] = best;
        partial[1] = all;
      }
    }
  }

  if (kWanted == IHP_PLAIN_MASSES) {
    for (int row = thread; live == 0 && row < work.rows; row += kThreads) {
      double *partial = stage.partials + 2 * ((first_row + row) * gridDim.x + blockIdx.x);
      partial[0] = kLeast;
      partial[1] = 0;
    }
    return;
  }
  __syncthreads();
  double *scores = stage.scores + ((Wide)blockIdx.z * stage.sets + blockIdx.y) * stage.chunk_capacity;
  for (int index = thread; index < kRun / size && first + index < work.chunks.count; index += kThreads) {
    const float *of_keys = totals + index * size;
    double score = INACTIVE;
    if (index * size < live) {
      float all = of_keys[0];
      for (int key = 1; key < size; key++)
        all = kWanted == IHP_PLAIN_SHARES ? all + of_keys[key] : fmaxf(all, of_keys[key]);
      score = all;
    }
    scores[first + index] = score;
  }
}

/// Exact scores; `IHP_PLAIN_MASSES`, `_SHARES` or `_MAXIMA`. Shared memory: `PlainKernels.scoringByteCount`.
extern "C" __global__ __launch_bounds__(kThreads, kBlocks) void score_tiles(
    const ihp_plain_input in, const ihp_plain_stage stage, const int wanted) {
  extern __shared__ __align__(16) double memory[];
  __shared__ Wide offsets[kRun];
  __shared__ float totals[kRun];
  if (wanted == IHP_PLAIN_MASSES)
    score_run<IHP_PLAIN_MASSES>(in, stage, (char *)memory, offsets, totals);
  else if (wanted == IHP_PLAIN_SHARES)
    score_run<IHP_PLAIN_SHARES>(in, stage, (char *)memory, offsets, totals);
  else
    score_run<IHP_PLAIN_MAXIMA>(in, stage, (char *)memory, offsets, totals);
}
