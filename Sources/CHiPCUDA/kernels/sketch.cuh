// SPDX-License-Identifier: Apache-2.0
// The sketch of keys: the mean of every 32 neighbouring keys, two a page, an element in 8 bits.
//
//   means        [kvHead][page][2][HEAD_SIZE] bytes with a sign
//   mean_scales  [kvHead][page][2] bfloat16, of which the bytes are multiples
//
// That is 1/64 of the bytes of 16-bit keys. Pages are those of the page table, so that a sketch needs no bookkeeping of
// its own.
//
// The softmax mass of a chunk of CHUNK_KEYS (32: a mean, 64: a page) is estimated by the sum of exp(q.mean) over its
// means, but for a constant. Products are in integers: a query
// is rounded to 14 bits and cut into two bytes, which are two columns of one product, so that its rounding is nothing
// beside that of the sketch.
#pragma once
#include "common.cuh"

#ifndef CHUNK_KEYS
#define CHUNK_KEYS 64
#endif
constexpr int kSketchPage = 64, kMeanKeys = 32, kMeansPerPage = kSketchPage / kMeanKeys;
constexpr int kChunksPerPage = kSketchPage / CHUNK_KEYS;
static_assert(CHUNK_KEYS == 32 || CHUNK_KEYS == 64, "a chunk is a mean or a page");

/// How many chunks, or blocks, begin at `sink` or behind and at `limit` or before.
__device__ __forceinline__ int startsUpTo(int limit, int sink, int size) { return limit < sink ? 0 : (limit - sink) / size + 1; }

/// How many of `count` candidates a stage keeps.
__device__ __forceinline__ int keptOf(int count, const ihp_stage &stage) {
  const int most = min(count, stage.keep), share = (int)ceil((double)count * stage.share);
  return min(most, max(share, stage.least));
}

/// Query heads in bytes, [column][HEAD_SIZE], column = 2 head + (0: high part, 1: low part), and what a step is worth,
/// [head].
template <int kHead, int kHeads> struct QueryBytes {
  static constexpr int kColumns = ihp_query_columns(kHeads);
  static constexpr int kBytes = ihp_query_bytes(kHead, kHeads);
  static __device__ __forceinline__ signed char *at(char *shared, int column) { return (signed char *)shared + column * kHead; }
  static __device__ __forceinline__ float *steps(char *shared) { return (float *)(shared + kColumns * kHead); }

  static constexpr int kPer = ceilDiv(kHead, 32);
  /// A lane's part of a query, times the softmax scale: dimensions lane + 32 i.
  template <class Value> static __device__ __forceinline__ void take(float (&x)[kPer], bool there, Value value) {
#pragma unroll
    for (int i = 0; i < kPer; ++i) {
      const int d = i * 32 + (int)threadIdx.x % 32;
      x[i] = d < kHead && there ? value(d) : 0.f;
    }
  }
  /// One warp rounds one head; products come out in base 2.
  static __device__ __forceinline__ void put(char *shared, int head, const float (&q)[kPer]) {
    const int lane = threadIdx.x % 32;
    float x[kPer], most = 0.f;
#pragma unroll
    for (int i = 0; i < kPer; ++i) {
      x[i] = q[i] * kLog2E;
      most = fmaxf(most, fabsf(x[i]));
    }
    most = laneMax<32>(most);
    const float step = most / 16256.f, inverse = most > 0.f ? 16256.f / most : 0.f;
#pragma unroll
    for (int i = 0; i < kPer; ++i) {
      const int d = i * 32 + lane;
      const int v = __float2int_rn(x[i] * inverse), high = (v + 64) >> 7;
      if (d < kHead) {
        at(shared, 2 * head)[d] = (signed char)high;
        at(shared, 2 * head + 1)[d] = (signed char)(v - high * 128);
      }
    }
    if (lane == 0) steps(shared)[head] = step;
  }
};

/// 16 pages against all columns, by one warp. Lane l has pages l / 4 and l / 4 + 8 of heads 4 tile + l % 4.
template <int kHead, int kHeads> struct PageScores {
  using Query = QueryBytes<kHead, kHeads>;
  static constexpr int kLoads = ceilDiv(kHead, 64);
  static constexpr int kTiles = Query::kColumns / 8;

  uint4 rows[2][kMeansPerPage][kLoads];  // [page l / 4 or l / 4 + 8][mean]
  uint32 scales[2];

  /// `index`: of the page in the sketch.
  __device__ __forceinline__ void load(const char *means, const uint32 *scaleOf, long long index0, long long index1) {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const char *from = means + (r ? index1 : index0) * kMeansPerPage * kHead;
#pragma unroll
      for (int mean = 0; mean < kMeansPerPage; ++mean)
#pragma unroll
        for (int j = 0; j < kLoads; ++j)
          rows[r][mean][j] = 64 * j + 16 * t < kHead ? loadStreaming(from + mean * kHead + 64 * j + 16 * t) : make_uint4(0, 0, 0, 0);
      scales[r] = __ldg(scaleOf + (r ? index1 : index0));
    }
  }
  /// Log mass of a key of each mean, base 2, for tile's heads: out[page][mean].
  __device__ __forceinline__ void score(float (&out)[2][kMeansPerPage], char *query, int tile) const {
    const int lane = threadIdx.x % 32, t = lane % 4;
    const float step = Query::steps(query)[tile * 4 + t];
#pragma unroll
    for (int mean = 0; mean < kMeansPerPage; ++mean) {
      int c[4] = {0, 0, 0, 0};
#pragma unroll
      for (int j = 0; j < kLoads; ++j) {
        const uint4 b = 64 * j + 16 * t < kHead ? *(const uint4 *)(Query::at(query, tile * 8 + lane / 4) + 64 * j + 16 * t)
                                                : make_uint4(0, 0, 0, 0);
        const uint4 &r0 = rows[0][mean][j], &r1 = rows[1][mean][j];
        mmaInt8(c, r0.x, r1.x, r0.y, r1.y, b.x, b.y);
        mmaInt8(c, r0.z, r1.z, r0.w, r1.w, b.z, b.w);
      }
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float scale = mean == 0 ? __uint_as_float(scales[r] << 16) : __uint_as_float(scales[r] & 0xffff0000u);
        out[r][mean] = step * scale * (float)(c[2 * r] * 128 + c[2 * r + 1]);
      }
    }
  }
};
/// Log of a sum, base 2.
__device__ __forceinline__ float logAdd(float a, float b) { return fmaxf(a, b) + log2Fast(1.f + exp2Fast(-fabsf(a - b))); }
