// SPDX-License-Identifier: Apache-2.0
// New keys and values into the pages of their sequences, keys rotated where asked, and the means that they complete.
//
// Grid (pages that the longest addition touches, kvHeads, sequences). A block owns one page of one head: it writes
// what of the page is new and then the means of keys that became complete.
//
// Macros: ELEMENT, HEAD_SIZE, ROTATE (0: keys as they are; 1: pairs (i, i + HEAD_SIZE / 2); 2: pairs of
// neighbours).
#include "sketch.cuh"

#ifndef ROTATE
#define ROTATE 0
#endif

constexpr int kThreads = 128;

/// Means that are complete among keys [from, to) of a page; from is a multiple of their keys.
__device__ void sketchPage(const ihp_append &p, int page, int kvHead, int from, int to) {
  constexpr int kPairs = HEAD_SIZE / 2, kAtOnce = kThreads / kPairs < kMeansPerPage ? 1 : kMeansPerPage;
  __shared__ unsigned limits[kAtOnce];
  const int which = threadIdx.x / kPairs, d = threadIdx.x % kPairs;
  for (int first = from / kMeanKeys; (first + 1) * kMeanKeys <= to; first += kAtOnce) {
    const int index = first + which;
    const bool isMine = which < kAtOnce && (index + 1) * kMeanKeys <= to;
    const ELEMENT *key = (const ELEMENT *)p.keys + (((long long)page * p.kv_heads + kvHead) * kSketchPage + index * kMeanKeys) * HEAD_SIZE;
    float mean[2] = {0, 0};
    if (isMine) {
#pragma unroll 8
      for (int i = 0; i < kMeanKeys; ++i) {
        const uint32 pair = *(const uint32 *)(key + i * HEAD_SIZE + 2 * d);
        mean[0] += Element<ELEMENT>::low(pair);
        mean[1] += Element<ELEMENT>::high(pair);
      }
      mean[0] /= kMeanKeys;
      mean[1] /= kMeanKeys;
    }
    if (threadIdx.x < kAtOnce) limits[threadIdx.x] = 0;
    __syncthreads();
    const float most = fmaxf(fabsf(mean[0]), fabsf(mean[1]));
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const float all = laneMax<32>(which == i ? most : 0.f);
      if (threadIdx.x % 32 == 0) atomicMax(limits + i, __float_as_uint(all));
    }
    __syncthreads();
    if (isMine) {
      // The scale, rounded to bfloat16, is what the bytes are multiples of.
      const uint32 bits = Element<BFloat16>::pack(__uint_as_float(limits[which]) / 127.f, 0.f);
      const float scale = Element<BFloat16>::low(bits);
      const long long row = ((long long)kvHead * p.page_count + page) * kMeansPerPage + index;
      char to[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) to[i] = scale > 0.f ? (char)min(max((int)floorf(mean[i] / scale + 0.5f), -128), 127) : 0;
      *(unsigned short *)(p.means + row * HEAD_SIZE + 2 * d) = (unsigned short)((unsigned char)to[0] | (unsigned char)to[1] << 8);
      if (d == 0) p.mean_scales[row] = (unsigned short)bits;
    }
    __syncthreads();
  }
}

extern "C" __global__ void __launch_bounds__(kThreads) append(const __grid_constant__ ihp_append p) {
  waitForPreviousKernel();
  letNextKernelStart();
  const int sequence = blockIdx.z, kvHead = blockIdx.y;
  const int firstToken = p.first_tokens[sequence], count = p.first_tokens[sequence + 1] - firstToken;
  const int firstPosition = p.key_counts[sequence] - count;
  const int logical = firstPosition / 64 + blockIdx.x;
  const int from = max(firstPosition, logical * 64), to = min(firstPosition + count, logical * 64 + 64);
  if (from >= to) return;
  const int page = p.page_table[(long long)sequence * p.table_stride + logical];
  constexpr int kVectors = HEAD_SIZE / 8;
  for (int i = threadIdx.x; p.new_keys && i < (to - from) * kVectors; i += kThreads) {
    const int position = from + i / kVectors, column = i % kVectors * 8;
    const long long source = ((long long)(firstToken + position - firstPosition) * p.kv_heads + kvHead) * HEAD_SIZE;
    const long long target = (((long long)page * p.kv_heads + kvHead) * 64 + position % 64) * HEAD_SIZE;
    *(uint4 *)((ELEMENT *)p.values + target + column) = *(const uint4 *)((const ELEMENT *)p.new_values + source + column);
    const ELEMENT *k = (const ELEMENT *)p.new_keys + source;
    uint4 x = *(const uint4 *)(k + column);
#if ROTATE
    constexpr int kHalf = HEAD_SIZE / 2;
    uint32 *words = (uint32 *)&x;
#if ROTATE == 1
    const bool second = column >= kHalf;
    const uint4 other = *(const uint4 *)(k + (second ? column - kHalf : column + kHalf));
    const uint32 *others = (const uint32 *)&other;
    const float *c = p.cosines + (long long)position * kHalf + column % kHalf, *s = p.sines + (long long)position * kHalf + column % kHalf;
    const float sign = second ? 1.f : -1.f;
#pragma unroll
    for (int w = 0; w < 4; ++w)
      words[w] = Element<ELEMENT>::pack(
          Element<ELEMENT>::low(words[w]) * c[2 * w] + sign * Element<ELEMENT>::low(others[w]) * s[2 * w],
          Element<ELEMENT>::high(words[w]) * c[2 * w + 1] + sign * Element<ELEMENT>::high(others[w]) * s[2 * w + 1]);
#else
    const float *c = p.cosines + (long long)position * kHalf + column / 2, *s = p.sines + (long long)position * kHalf + column / 2;
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const float a = Element<ELEMENT>::low(words[w]), b = Element<ELEMENT>::high(words[w]);
      words[w] = Element<ELEMENT>::pack(a * c[w] - b * s[w], a * s[w] + b * c[w]);
    }
#endif
#endif
    *(uint4 *)((ELEMENT *)p.keys + target + column) = x;
  }
  if (!p.means) return;
  __syncthreads();
  sketchPage(p, page, kvHead, from % 64 / kMeanKeys * kMeanKeys, to - logical * 64);
}
