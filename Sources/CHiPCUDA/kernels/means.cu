// SPDX-License-Identifier: Apache-2.0
// The means that new keys complete, for selections to scan. The keys are in the pages of their sequences already.
//
// Grid (pages that the longest addition touches, kvHeads, sequences). A block owns one page of one head.
//
// Macros: ELEMENT, HEAD_SIZE.
#include "sketch.cuh"

constexpr int kThreads = 128;

/// Means that are complete among keys [from, to) of a page; from is a multiple of their keys.
__device__ void sketchPage(const ihp_means &p, int page, int kvHead, int from, int to) {
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

extern "C" __global__ void __launch_bounds__(kThreads) completeMeans(const __grid_constant__ ihp_means p) {
  waitForPreviousKernel();
  letNextKernelStart();
  const int sequence = blockIdx.z, kvHead = blockIdx.y, end = p.key_counts[sequence];
  const int firstPosition = end - p.new_counts[sequence];
  const int logical = firstPosition / kSketchPage + blockIdx.x;
  const int from = max(firstPosition - logical * kSketchPage, 0), to = min(end - logical * kSketchPage, kSketchPage);
  if (from >= to) return;
  const int page = p.page_table[(long long)sequence * p.table_stride + logical];
  sketchPage(p, page, kvHead, from / kMeanKeys * kMeanKeys, to);
}
