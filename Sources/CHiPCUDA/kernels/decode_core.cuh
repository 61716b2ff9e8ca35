// SPDX-License-Identifier: Apache-2.0
// One query's heads against 16 keys at a time, by one warp, with nothing in shared memory; and what a block of warps
// does with the results. Used by attention_decode.cu and select_decode.cu.
//
// mma.sync takes fragments whose elements lie apart. Instead of shuffling them, head dimensions (of keys) and output
// columns (of values) are numbered so that the 16 bytes that a lane loads are its fragments: a product does not mind
// in which order it sums, nor in which order its columns come.
#pragma once
#include "common.cuh"

#ifndef SOFT_CAP
#define SOFT_CAP 0
#endif
constexpr int kPage = 64;

/// Eight keys of a sequence, in the pool.
struct OctetRow {
  int row;      // of the pool: (page * kvHeads + kvHead) * 64 + key
  int visible;  // first | end << 8 of the keys that are seen
};

/// Puts parts of one softmax together, `stride` apart.
struct Parts {
  float x = 0.f, maximum = kNegativeInfinity, sum = 0.f;
  template <int kCount> __device__ __forceinline__ void merge(const float *outputs, const float *maxima, const float *sums, int outputStride, int stride) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) maximum = fmaxf(maximum, maxima[i * stride]);
    const float base = maximum == kNegativeInfinity ? 0.f : maximum;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float factor = exp2Fast(maxima[i * stride] - base);
      sum += factor * sums[i * stride];
      x += factor * outputs[i * outputStride];
    }
  }
};

/// Where splits of one query's keys meet.
struct SplitOutput {
  float *partial;           // [pair][split][GROUP][HEAD_SIZE + 2]: output, maximum, sum
  int *arrived;             // [pair], zeros; left as zeros
  void *output;             // [pair][GROUP][HEAD_SIZE]
  float *logSum;            // [pair][GROUP], base e; null: not wanted
  const float *sinkLogits;  // [heads]; null: none
};

template <class T, int kHead> struct QueryHeads {
  static constexpr int kKeyLoads = kHead / 32;           // 16 bytes of a key, by 4 lanes
  static constexpr int kValueLoads = ceilDiv(kHead, 64); // 16 bytes of a value, by 8 lanes
  static constexpr bool kTwoRows = GROUP > 8;            // rows 8 to 15 of a product are in use
  static constexpr int kHalves = kTwoRows ? 2 : 1;

  uint4 q[kHalves][kKeyLoads];
  float o[kValueLoads * 8][2 * kHalves];
  float maximum[2], sum[2];  // maximum of scores not yet multiplied by the scale

  /// Queries as the first operand: rows are heads.
  __device__ __forceinline__ void load(const T *query) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < kHalves; ++half)
#pragma unroll
      for (int i = 0; i < kKeyLoads; ++i) {
        const int head = lane / 4 + 8 * half;
        q[half][i] = head < GROUP ? *(const uint4 *)(query + head * kHead + 32 * i + 8 * (lane % 4)) : make_uint4(0, 0, 0, 0);
      }
  }
  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < kValueLoads * 8; ++i)
#pragma unroll
      for (int c = 0; c < 2 * kHalves; ++c) o[i][c] = 0.f;
    maximum[0] = maximum[1] = kNegativeInfinity;
    sum[0] = sum[1] = 0.f;
  }
  static __device__ __forceinline__ void loadKeys(uint4 (&k)[2][kKeyLoads], const T *keys, int row0, int row1) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < kKeyLoads; ++j)
        k[i][j] = loadStreaming(keys + (long long)((i ? row1 : row0) + lane / 4) * kHead + 32 * j + 8 * (lane % 4));
  }
  static __device__ __forceinline__ void loadValues(uint4 (&v)[2][2][kValueLoads], const T *values, int row0, int row1) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int c = 0; c < 2; ++c)
#pragma unroll
        for (int j = 0; j < kValueLoads; ++j) {
          const int column = 64 * j + 8 * (lane / 4);
          v[i][c][j] = column < kHead ? loadStreaming(values + (long long)((i ? row1 : row0) + 2 * (lane % 4) + c) * kHead + column)
                                      : make_uint4(0, 0, 0, 0);
        }
  }
  /// Scores, not scaled: s[octet][2 half + c] is of head lane / 4 + 8 half and key 2 (lane % 4) + c.
  __device__ __forceinline__ void score(float (&s)[2][4], const uint4 (&k)[2][kKeyLoads]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      s[i][0] = s[i][1] = s[i][2] = s[i][3] = 0.f;
#pragma unroll
      for (int j = 0; j < kKeyLoads; ++j) {
        Mma<T>::run(s[i], q[0][j].x, kTwoRows ? q[kTwoRows][j].x : 0, q[0][j].y, kTwoRows ? q[kTwoRows][j].y : 0, k[i][j].x, k[i][j].y);
        Mma<T>::run(s[i], q[0][j].z, kTwoRows ? q[kTwoRows][j].z : 0, q[0][j].w, kTwoRows ? q[kTwoRows][j].w : 0, k[i][j].z, k[i][j].w);
      }
    }
  }
  /// Takes 16 keys and values in.
  __device__ __forceinline__ void attend(const OctetRow (&octets)[2], const T *keys, const T *values, float scale,
                                         float softCap, float scaleLog2) {
    const int lane = threadIdx.x % 32;
    uint4 k[2][kKeyLoads], v[2][2][kValueLoads];
    loadKeys(k, keys, octets[0].row, octets[1].row);
    loadValues(v, values, octets[0].row, octets[1].row);
    float s[2][4];
    score(s, k);
    uint32 weights[2][2] = {};  // [octet][half]
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      float best = maximum[half];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int low = octets[i].visible & 255, high = octets[i].visible >> 8;
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float &x = s[i][2 * half + c];
#if SOFT_CAP
          x = softCap * tanhFast(x * scale / softCap);
#endif
          const int key = 2 * (lane % 4) + c;
          if (key < low || key >= high) x = kNegativeInfinity;
          best = fmaxf(best, x);
        }
      }
      best = laneMax<4>(best);
      const float base = best == kNegativeInfinity ? 0.f : best * scaleLog2;
      const float factor = exp2Fast(maximum[half] * scaleLog2 - base);
      maximum[half] = best;
      float total = 0.f;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float w0 = exp2Fast(fmaf(s[i][2 * half], scaleLog2, -base));
        const float w1 = exp2Fast(fmaf(s[i][2 * half + 1], scaleLog2, -base));
        total += w0 + w1;
        weights[i][half] = Element<T>::pack(w0, w1);
      }
      sum[half] = sum[half] * factor + total;
#pragma unroll
      for (int i = 0; i < kValueLoads * 8; ++i) {
        o[i][2 * half] *= factor;
        o[i][2 * half + 1] *= factor;
      }
    }
#pragma unroll
    for (int j = 0; j < kValueLoads; ++j)
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        // Column i of every lane's 8, of a pair of keys.
        const uint32 pick = i % 2 ? 0x7632 : 0x5410;
        auto word = [&](const uint4 &x) { return i / 2 == 0 ? x.x : i / 2 == 1 ? x.y : i / 2 == 2 ? x.z : x.w; };
        const uint32 b0 = __byte_perm(word(v[0][0][j]), word(v[0][1][j]), pick);
        const uint32 b1 = __byte_perm(word(v[1][0][j]), word(v[1][1][j]), pick);
        float c[4] = {o[8 * j + i][0], o[8 * j + i][1], kTwoRows ? o[8 * j + i][kTwoRows * 2] : 0.f,
                      kTwoRows ? o[8 * j + i][kTwoRows * 3] : 0.f};
        Mma<T>::run(c, weights[0][0], weights[0][1], weights[1][0], weights[1][1], b0, b1);
        o[8 * j + i][0] = c[0];
        o[8 * j + i][1] = c[1];
        if (kTwoRows) {
          o[8 * j + i][kTwoRows * 2] = c[2];
          o[8 * j + i][kTwoRows * 3] = c[3];
        }
      }
  }
  /// Puts a warp's results at [warp][head]: outputs, maxima (scaled, base 2) and sums.
  __device__ __forceinline__ void put(float *outputs, float *maxima, float *sums, int warp, float scaleLog2) const {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      const int head = lane / 4 + 8 * half;
      const float total = laneSum<4>(sum[half]);
      if (head < GROUP) {
        if (lane % 4 == 0) {
          maxima[warp * GROUP + head] = maximum[half] * scaleLog2;
          sums[warp * GROUP + head] = total;
        }
        float *to = outputs + (warp * GROUP + head) * kHead;
#pragma unroll
        for (int j = 0; j < kValueLoads; ++j)
#pragma unroll
          for (int c = 0; c < 2; ++c)
#pragma unroll
            for (int i = 0; i < 8; i += 4) {
              const int column = 64 * j + 8 * (2 * (lane % 4) + c) + i;
              if (column < kHead)
                *(float4 *)(to + column) = make_float4(o[8 * j + i][2 * half + c], o[8 * j + i + 1][2 * half + c],
                                                       o[8 * j + i + 2][2 * half + c], o[8 * j + i + 3][2 * half + c]);
            }
      }
    }
  }

  /// Merges what the warps of this block have; the last of the splits (blockIdx.x) to come merges those, writes, and
  /// returns true.
  /// `pair` is the sequence's key-value head. Shared memory: kWarps * GROUP * (kHead + 2) floats.
  template <int kWarps>
  __device__ __forceinline__ bool finish(char *shared, const SplitOutput &to, int pair, int kvHead, float scaleLog2) const {
    const int thread = threadIdx.x, splits = gridDim.x;
    float *outputs = (float *)shared, *maxima = outputs + kWarps * GROUP * kHead, *sums = maxima + kWarps * GROUP;
    __syncthreads();
    put(outputs, maxima, sums, thread / 32, scaleLog2);
    __syncthreads();
    constexpr int kStride = kHead + 2;
    float *mine = to.partial + ((long long)pair * splits + blockIdx.x) * GROUP * kStride;
    for (int i = thread; i < GROUP * kHead; i += kWarps * 32) {
      const int head = i / kHead, column = i % kHead;
      Parts all;
      all.merge<kWarps>(outputs + i, maxima + head, sums + head, GROUP * kHead, GROUP);
      if (splits == 1) {
        store(to, pair, kvHead, head, column, all.x, all.maximum, all.sum);
      } else {
        mine[head * kStride + column] = all.x;
        if (column == 0) {
          mine[head * kStride + kHead] = all.maximum;
          mine[head * kStride + kHead + 1] = all.sum;
        }
      }
    }
    if (splits == 1) return true;

    __shared__ int last;
    __threadfence();
    __syncthreads();
    if (thread == 0) last = atomicAdd(to.arrived + pair, 1) == splits - 1;
    __syncthreads();
    if (!last) return false;
    __threadfence();
    if (thread == 0) to.arrived[pair] = 0;
    const float *all = to.partial + (long long)pair * splits * GROUP * kStride;
    for (int i = thread; i < GROUP * kHead; i += kWarps * 32) {
      const int head = i / kHead, column = i % kHead;
      float best = kNegativeInfinity, total = 0.f, x = 0.f;
#pragma unroll 16
      for (int split = 0; split < splits; ++split) {
        const float *from = all + (split * GROUP + head) * kStride;
        const float m = __ldcg(from + kHead), l = __ldcg(from + kHead + 1), y = __ldcg(from + column);
        const float next = fmaxf(best, m);
        const float base = next == kNegativeInfinity ? 0.f : next;
        const float before = exp2Fast(best - base), now = exp2Fast(m - base);
        x = x * before + y * now;
        total = total * before + l * now;
        best = next;
      }
      store(to, pair, kvHead, head, column, x, best, total);
    }
    return true;
  }
  static __device__ __forceinline__ void store(const SplitOutput &to, int pair, int kvHead, int head, int column, float x,
                                               float maximum, float sum) {
    const float base = maximum == kNegativeInfinity ? 0.f : maximum;
    if (to.sinkLogits) sum += exp2Fast(to.sinkLogits[kvHead * GROUP + head] * kLog2E - base);
    const long long row = (long long)pair * GROUP + head;
    narrow(sum > 0.f ? x / sum : 0.f, ((T *)to.output)[row * kHead + column]);
    if (to.logSum && column == 0) to.logSum[row] = (base + log2Fast(sum)) / kLog2E;
  }
};

/// What a query attends to: runs of 8 keys of the sink, of selected blocks and of the window. What of a block lies in
/// the window is seen there.
struct DecodePlan {
  int count, sink, sinkOctets, farOctets, windowBegin, octets, firstVisible;
  const int *list;
  __device__ DecodePlan(int count, int sink_, int window, const int *list, int selected) : count(count), sink(sink_), list(list) {
    firstVisible = count < window ? 0 : count - window;
    if (firstVisible <= sink) firstVisible = sink = 0;  // all is seen
    sinkOctets = ceilDiv(sink, 8);
    farOctets = sinkOctets + (firstVisible > 0 ? selected * (BLOCK_KEYS / 8) : 0);
    windowBegin = firstVisible & ~7;
    octets = farOctets + ceilDiv(count - windowBegin, 8);
  }
  /// First key of an octet, and from which one to which one its keys are visible.
  __device__ __forceinline__ int3 octet(int index) const {
    if (index >= octets) return make_int3(0, 0, 0);
    if (index < sinkOctets) return make_int3(index * 8, 0, min(8, sink - index * 8));
    if (index < farOctets) {
      constexpr int kPer = BLOCK_KEYS / 8;
      const int i = index - sinkOctets, first = list[i / kPer] * BLOCK_KEYS + i % kPer * 8;
      return make_int3(first, 0, farVisible(first));
    }
    const int first = windowBegin + (index - farOctets) * 8;
    return make_int3(first, max(0, firstVisible - first), min(8, count - first));
  }
  /// How many keys of an octet of a listed block are not in the window.
  __device__ __forceinline__ int farVisible(int first) const { return min(8, max(0, firstVisible - first)); }
};
