// SPDX-License-Identifier: Apache-2.0
// What the selections of decoding share: the steps of select_decode.cu, which has a kernel for each, and of
// decode_once.cu, which has one for all.
//
// Candidates are the chunks and blocks behind the sink that begin `distance` before the query at the latest, which may
// be in its window: what of a listed block lies there is left to the window.
//
// Macros: ELEMENT, HEAD_SIZE, GROUP, BLOCK_KEYS (8 or 16), CHUNK_KEYS (32, 64), SOFT_CAP.
#pragma once
#include "decode_core.cuh"
#include "selection.cuh"
#include "sketch.cuh"

constexpr int kPartsPerChunk = CHUNK_KEYS / BLOCK_KEYS;
constexpr int kGroupsPerChunk = CHUNK_KEYS / 16;
constexpr int kSelectRoom = ihp_select_room(GROUP);
static_assert(CHUNK_KEYS % BLOCK_KEYS == 0 && (BLOCK_KEYS == 8 || BLOCK_KEYS == 16), "blocks divide chunks");

/// Chunks that may be selected.
__device__ __forceinline__ int candidateChunks(int count, const ihp_select_decode &p) {
  return startsUpTo(min(count - 1 - p.coarse.distance, count - CHUNK_KEYS), p.sink, CHUNK_KEYS);
}
/// The last position at which a block may begin.
__device__ __forceinline__ int lastBlock(int count, const ihp_select_decode &p) {
  return min(count - 1 - p.fine.distance, count - BLOCK_KEYS);
}
/// How many blocks of the survivors, which ascend, take part.
__device__ __forceinline__ int candidateBlocks(const int *survivors, int survivorCount, int last) {
  int blocks = survivorCount * kPartsPerChunk;
  while (blocks > 0 && survivors[(blocks - 1) / kPartsPerChunk] * CHUNK_KEYS + (blocks - 1) % kPartsPerChunk * BLOCK_KEYS > last) --blocks;
  return blocks;
}

// ----------------------------------------------------------------------------------------------- scan --

using Scores = PageScores<HEAD_SIZE, GROUP>;
using Query = typename Scores::Query;
using Heads = QueryHeads<ELEMENT, HEAD_SIZE>;

/// Maxima and sums of the scores that a lane saw, heads 4 tile + l % 4.
struct LaneStats {
  float maximum[Scores::kTiles], sum[Scores::kTiles];
  __device__ __forceinline__ LaneStats() {
#pragma unroll
    for (int t = 0; t < Scores::kTiles; ++t) { maximum[t] = kNegativeInfinity; sum[t] = 0.f; }
  }
  template <int kCount> __device__ __forceinline__ void take(int t, const float (&x)[kCount]) {
    float best = maximum[t];
#pragma unroll
    for (int i = 0; i < kCount; ++i) best = fmaxf(best, x[i]);
    const float base = best == kNegativeInfinity ? 0.f : best;
    float total = sum[t] * exp2Fast(maximum[t] - base);
#pragma unroll
    for (int i = 0; i < kCount; ++i) total += exp2Fast(x[i] - base);
    sum[t] = total;
    maximum[t] = best;
  }
  /// Those of a block of warps, to `out` [GROUP]. `byWarp`: [kWarpCount][kTiles * 4].
  template <int kWarpCount> __device__ __forceinline__ void merge(float2 *byWarp, float2 *out) const {
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    constexpr int kHeads = Scores::kTiles * 4;
#pragma unroll
    for (int t = 0; t < Scores::kTiles; ++t) {
      float best = maximum[t];
#pragma unroll
      for (int step = 4; step < 32; step *= 2) best = fmaxf(best, __shfl_xor_sync(~0u, best, step));
      float total = best == kNegativeInfinity ? 0.f : sum[t] * exp2Fast(maximum[t] - best);
#pragma unroll
      for (int step = 4; step < 32; step *= 2) total += __shfl_xor_sync(~0u, total, step);
      if (lane < 4) byWarp[warp * kHeads + 4 * t + lane] = make_float2(best, total);
    }
    __syncthreads();
    if (thread < GROUP) {
      float best = kNegativeInfinity, total = 0.f;
#pragma unroll
      for (int w = 0; w < kWarpCount; ++w) best = fmaxf(best, byWarp[w * kHeads + thread].x);
      const float base = best == kNegativeInfinity ? 0.f : best;
#pragma unroll
      for (int w = 0; w < kWarpCount; ++w) total += byWarp[w * kHeads + thread].y * exp2Fast(byWarp[w * kHeads + thread].x - base);
      out[thread] = make_float2(best, total);
    }
  }
};

/// A block's chunks [first, last), of which the first begins a page: put(chunk, head, score) for each. `query`:
/// Query::kBytes of shared memory.
template <int kWarpCount, class Put>
__device__ __forceinline__ LaneStats scanChunks(const ihp_select_decode &p, int sequence, int kvHead, int first, int last,
                                                char *query, Put put) {
  constexpr int kStep = kWarpCount * 16, kPer = kChunksPerPage;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, lastPage = (last - 1) / kPer;
  const int *table = p.page_table + (long long)sequence * p.table_stride + p.sink / kPage;
  // A lane's two pages of a step. They are looked up two steps before their bytes are needed, bytes one step.
  auto place = [&](int page) { return kvHead * p.page_count + __ldg(table + min(page, lastPage)); };
  const ELEMENT *q = (const ELEMENT *)p.query + (long long)(sequence * p.kv_heads + kvHead) * GROUP * HEAD_SIZE;
  auto value = [&](int head) { return [=](int d) { return widen(q[head * HEAD_SIZE + d]) * p.scale; }; };
  float x[Query::kPer];  // asked for before all else
  Query::take(x, warp < GROUP, value(warp));
  int at = first / kPer + warp * 16;
  Scores now, next;
  int2 nextPlaces = make_int2(0, 0);
  if (at * kPer < last) {
    const int2 places = make_int2(place(at + lane / 4), place(at + lane / 4 + 8));
    nextPlaces = make_int2(place(at + kStep + lane / 4), place(at + kStep + lane / 4 + 8));
    now.load(p.means, p.mean_scales, places.x, places.y);
  }
  for (int head = warp; head < Query::kColumns / 2; head += kWarpCount) {
    if (head != warp) Query::take(x, head < GROUP, value(head));
    Query::put(query, head, x);
  }
  __syncthreads();
  LaneStats stats;
  while (at * kPer < last) {
    if ((at + kStep) * kPer < last) {
      next.load(p.means, p.mean_scales, nextPlaces.x, nextPlaces.y);
      nextPlaces = make_int2(place(at + 2 * kStep + lane / 4), place(at + 2 * kStep + lane / 4 + 8));
    }
#pragma unroll
    for (int t = 0; t < Scores::kTiles; ++t) {
      float means[2][kMeansPerPage], s[2 * kPer];
      now.score(means, query, t);
      const int head = 4 * t + lane % 4;
#pragma unroll
      for (int i = 0; i < 2 * kPer; ++i) {
        const int chunk = (at + lane / 4 + i / kPer * 8) * kPer + i % kPer;
        s[i] = kPer == 1 ? logAdd(means[i / kPer][0], means[i / kPer][1]) : means[i / kPer][i % kPer];
        if (chunk >= last) s[i] = kNegativeInfinity;
        else if (head < GROUP) put(chunk, head, s[i]);
      }
      stats.take(t, s);
    }
    now = next;
    at += kStep;
  }
  return stats;
}

/// Logs of the sums of `count` parts [part][GROUP] of (maximum, sum), one warp per head.
template <int kWarpCount>
__device__ __forceinline__ void mergeStats(const float2 *stats, int count, float *logSums) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int head = warp; head < GROUP; head += kWarpCount) {
    float best = kNegativeInfinity, total = 0.f;
    for (int i = lane; i < count; i += 32) {
      const float2 s = __ldcg(stats + (long long)i * GROUP + head);
      const float next = fmaxf(best, s.x), base = next == kNegativeInfinity ? 0.f : next;
      total = total * exp2Fast(best - base) + s.y * exp2Fast(s.x - base);
      best = next;
    }
    const float all = laneMax<32>(best);
    total = laneSum<32>(best == kNegativeInfinity ? 0.f : total * exp2Fast(best - all));
    if (lane == 0) logSums[head] = all + log2Fast(total);
  }
}
/// Scores of a chunk or a block of keys.
struct HeadScores {
  float s[GROUP];
  __device__ __forceinline__ void load(const float *from) {
    if (GROUP % 4 == 0) {
#pragma unroll
      for (int head = 0; head < GROUP; head += 4) {
        const float4 x = __ldcg((const float4 *)(from + head));
        s[head] = x.x; s[head + 1] = x.y; s[head + 2] = x.z; s[head + 3] = x.w;
      }
    } else {
#pragma unroll
      for (int head = 0; head < GROUP; ++head) s[head] = __ldcg(from + head);
    }
  }
  /// Sum over heads of shares of softmax mass.
  __device__ __forceinline__ float share(const float (&logSums)[GROUP]) const {
    float out = 0.f;
#pragma unroll
    for (int head = 0; head < GROUP; ++head) out += exp2Fast(s[head] - logSums[head]);
    return out;
  }
};

// ---------------------------------------------------------------------------------------------- score --

/// Survivors and the rows of the pool at which they start, into shared memory.
__device__ __forceinline__ void findSurvivors(const ihp_select_decode &p, int sequence, int kvHead, int count, int *survivors, int *rows) {
  const int *table = p.page_table + (long long)sequence * p.table_stride;
  const int *from = p.survivors + (long long)(sequence * p.kv_heads + kvHead) * p.coarse.keep;
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    const int chunk = __ldcg(from + i), key = chunk * CHUNK_KEYS;
    survivors[i] = chunk;
    rows[i] = (__ldg(table + key / kPage) * p.kv_heads + kvHead) * kPage + key % kPage;
  }
  __syncthreads();
}

/// A block's share of the survivors' keys, 16 at a time: log mass of blocks of keys and, of them all, maximum and sum.
/// `byWarp`: 2 * kWarpCount * GROUP floats of shared memory.
template <int kWarpCount>
__device__ __forceinline__ void scoreKeys(const ihp_select_decode &p, const Heads &query, int pair, int split, int splits,
                                          int blocks, const int *rows, float *byWarp) {
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const float scaleLog2 = SOFT_CAP ? kLog2E : p.scale * kLog2E;
  const int groups = ceilDiv(blocks * BLOCK_KEYS, 16), step = splits * kWarpCount;
  float *out = p.block_scores + (long long)pair * p.coarse.keep * kPartsPerChunk * GROUP;
  float maximum[2] = {kNegativeInfinity, kNegativeInfinity}, sum[2] = {0.f, 0.f};
  auto rowOf = [&](int group) { return rows[group / kGroupsPerChunk] + group % kGroupsPerChunk * 16; };
  auto take = [&](int group, const uint4(&keys)[2][Heads::kKeyLoads]) {
    float s[2][4];
    query.score(s, keys);
#pragma unroll
    for (int half = 0; half < Heads::kHalves; ++half) {
      float m[2], l[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float &x = s[i][2 * half + c];
#if SOFT_CAP
          x = p.soft_cap * tanhFast(x * p.scale / p.soft_cap);
#endif
          x *= scaleLog2;
          if (BLOCK_KEYS == 8 && i && 2 * group + 1 >= blocks) x = kNegativeInfinity;
        }
        m[i] = fmaxf(s[i][2 * half], s[i][2 * half + 1]);
      }
      if (BLOCK_KEYS == 16) m[0] = m[1] = fmaxf(m[0], m[1]);
      m[0] = laneMax<4>(m[0]);
      m[1] = BLOCK_KEYS == 16 ? m[0] : laneMax<4>(m[1]);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float base = m[i] == kNegativeInfinity ? 0.f : m[i];
        l[i] = laneSum<4>(exp2Fast(s[i][2 * half] - base) + exp2Fast(s[i][2 * half + 1] - base));
      }
      if (BLOCK_KEYS == 16) l[0] += l[1];
      const int head = lane / 4 + 8 * half;
      if (head < GROUP && lane % 4 < 16 / BLOCK_KEYS)
        out[(group * (16 / BLOCK_KEYS) + lane % 4) * GROUP + head] = lane % 4 && BLOCK_KEYS == 8 ? m[1] + log2Fast(l[1]) : m[0] + log2Fast(l[0]);
      const float best = fmaxf(maximum[half], fmaxf(m[0], m[1]));
      sum[half] = sum[half] * exp2Fast(maximum[half] - best) + l[0] * exp2Fast(m[0] - best) +
                  (BLOCK_KEYS == 16 ? 0.f : l[1] * exp2Fast(m[1] - best));
      maximum[half] = best;
    }
  };
  const ELEMENT *keys = (const ELEMENT *)p.keys;
  uint4 k[2][2][Heads::kKeyLoads];
  int group = split * kWarpCount + warp;
  auto load = [&](uint4(&to)[2][Heads::kKeyLoads], int group) {
    if (group < groups) Heads::loadKeys(to, keys, rowOf(group), rowOf(group) + 8);
  };
  load(k[0], group);
  for (; group < groups; group += 2 * step) {
    load(k[1], group + step);
    take(group, k[0]);
    load(k[0], group + 2 * step);
    if (group + step < groups) take(group + step, k[1]);
  }
#pragma unroll
  for (int half = 0; half < Heads::kHalves; ++half) {
    const int head = lane / 4 + 8 * half;
    if (head < GROUP && lane % 4 == 0) {
      byWarp[warp * GROUP + head] = maximum[half];
      byWarp[(kWarpCount + warp) * GROUP + head] = sum[half];
    }
  }
  __syncthreads();
  if (thread < GROUP) {
    float best = kNegativeInfinity, total = 0.f;
#pragma unroll
    for (int w = 0; w < kWarpCount; ++w) best = fmaxf(best, byWarp[w * GROUP + thread]);
    const float base = best == kNegativeInfinity ? 0.f : best;
#pragma unroll
    for (int w = 0; w < kWarpCount; ++w) total += byWarp[(kWarpCount + w) * GROUP + thread] * exp2Fast(byWarp[w * GROUP + thread] - base);
    p.block_sums[((long long)pair * p.score_splits + split) * GROUP + thread] = make_float2(best, total);
  }
}

// --------------------------------------------------------------------------------------------- attend --

/// A split's share of octets [firstOctet, endOctet) of what a query attends to; a warp takes every kWarpCount-th 16 keys.
template <int kWarpCount>
__device__ __forceinline__ void attendShare(const ihp_select_decode &p, Heads &query, const DecodePlan &plan, int sequence, int kvHead,
                                            int split, int splits, int firstOctet, int endOctet) {
  const float scaleLog2 = SOFT_CAP ? kLog2E : p.scale * kLog2E;
  const int *table = p.page_table + (long long)sequence * p.table_stride;
  const int groups = ceilDiv(endOctet - firstOctet, 2), per = ceilDiv(groups, splits), end = min(groups, (split + 1) * per);
  for (int group = split * per + (int)threadIdx.x / 32; group < end; group += kWarpCount) {
    OctetRow octets[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int index = firstOctet + 2 * group + i;
      const int3 octet = index < endOctet ? plan.octet(index) : make_int3(0, 0, 0);
      octets[i] = {(table[octet.x / kPage] * p.kv_heads + kvHead) * kPage + octet.x % kPage, octet.y | octet.z << 8};
    }
    query.attend(octets, (const ELEMENT *)p.keys, (const ELEMENT *)p.values, p.scale, p.soft_cap, scaleLog2);
  }
}

/// The list of the best blocks of keys among the survivors', ascending, and the rows of the pool at which they start;
/// returns how many. The histogram must be zero.
template <int kWarpCount>
__device__ __forceinline__ int listBlocks(const ihp_select_decode &p, int pair, int parts, const int *survivors, const int *rows,
                                          SelectionRoom &room, float *logSumsShared, uint32 *bins, int *list, int *listRows) {
  constexpr int kThreads = kWarpCount * 32, kEarly = GROUP <= 4 ? 3 : 1;
  const int thread = threadIdx.x, keep = keptOf(parts, p.fine);
  if (parts == 0) return 0;
  const float *scores = p.block_scores + (long long)pair * p.coarse.keep * kPartsPerChunk * GROUP;
  HeadScores early[kEarly];  // asked for before the sums that they are compared with
#pragma unroll
  for (int j = 0; j < kEarly; ++j)
    if (thread + j * kThreads < parts) early[j].load(scores + (long long)(thread + j * kThreads) * GROUP);
  mergeStats<kWarpCount>(p.block_sums + (long long)pair * p.score_splits * GROUP, p.score_splits, logSumsShared);
  __syncthreads();
  float logSums[GROUP];
#pragma unroll
  for (int head = 0; head < GROUP; ++head) logSums[head] = logSumsShared[head];
#pragma unroll
  for (int j = 0; j < kEarly; ++j)
    if (thread + j * kThreads < parts) bins[thread + j * kThreads] = binOf<kFine>(early[j].share(logSums));
  for (int i = thread + kEarly * kThreads; i < parts; i += kThreads) {
    HeadScores s;
    s.load(scores + (long long)i * GROUP);
    bins[i] = binOf<kFine>(s.share(logSums));
  }
  __syncthreads();
  selectLargest<1, kFine>(bins, parts, keep, room, Team<kThreads, 0>{thread}, [&](uint32 at, int i) {
    list[at] = survivors[i / kPartsPerChunk] * kPartsPerChunk + i % kPartsPerChunk;
    listRows[at] = rows[i / kPartsPerChunk] + i % kPartsPerChunk * BLOCK_KEYS;
  });
  __syncthreads();
  return keep;
}

/// A split's share of the listed blocks.
template <int kWarpCount>
__device__ __forceinline__ void attendListed(const ihp_select_decode &p, Heads &query, const DecodePlan &plan, const int *list,
                                             const int *listRows, int keep, int split, int splits) {
  const float scaleLog2 = SOFT_CAP ? kLog2E : p.scale * kLog2E;
  constexpr int kPer = BLOCK_KEYS / 8;
  const int octetCount = keep * kPer, groups = ceilDiv(octetCount, 2), per = ceilDiv(groups, splits), end = min(groups, (split + 1) * per);
  for (int group = split * per + (int)threadIdx.x / 32; group < end; group += kWarpCount) {
    OctetRow octets[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int index = 2 * group + i, block = min(index, octetCount - 1) / kPer;
      const int visible = plan.farVisible(list[block] * BLOCK_KEYS + index % kPer * 8);
      octets[i] = {listRows[block] + index % kPer * 8, index < octetCount ? visible << 8 : 0};
    }
    query.attend(octets, (const ELEMENT *)p.keys, (const ELEMENT *)p.values, p.scale, p.soft_cap, scaleLog2);
  }
}
