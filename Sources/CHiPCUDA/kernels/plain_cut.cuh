// SPDX-License-Identifier: Apache-2.0
// The largest of many numbers, and the places of those that stay, by a whole block of threads.
#pragma once

#include "plain.cuh"

#define CUT_THREADS 1024

/// What parts the largest numbers from the others.
struct Cut {
  /// The smallest of them, as bits that order as the numbers do.
  unsigned long long key;
  /// How many numbers are equal to it, and how many of those stay.
  int equal, rest;
};

__device__ __forceinline__ unsigned long long ordered(double value) {
  const unsigned long long bits = (unsigned long long)__double_as_longlong(value);
  return bits >> 63 ? ~bits : bits | 1ULL << 63;
}

/// The cut below the `kept` largest of `count` numbers, `kept` from 1 to `count`: digit by digit.
template <typename Value>
__device__ Cut cut_below(int kept, int count, Value value) {
  __shared__ int histogram[256];
  __shared__ Cut shared_cut;
  if (threadIdx.x == 0) shared_cut = Cut{0, 0, kept};
  for (int shift = 56; shift >= 0; shift -= 8) {
    for (int digit = threadIdx.x; digit < 256; digit += blockDim.x) histogram[digit] = 0;
    __syncthreads();
    const unsigned long long prefix = shared_cut.key;
    const int lane = threadIdx.x % WARP;
    for (int base = 0; base < count; base += blockDim.x) {
      const int index = base + threadIdx.x;
      const unsigned long long key = index < count ? ordered(value(index)) : 0;
      const bool counts = index < count && (shift == 56 || key >> (shift + 8) == prefix >> (shift + 8));
      const int digit = key >> shift & 255;
      // First digits are mostly the same: a warp counts each of them once.
      const unsigned same = __match_any_sync(EVERY, counts ? digit : -1);
      if (counts && lane == __ffs(same) - 1) atomicAdd(&histogram[digit], __popc(same));
    }
    __syncthreads();
    if (threadIdx.x < WARP) {
      // A lane has 8 digits, the first one the greatest.
      const int rest = shared_cut.rest;
      int own = 0;
      for (int i = 0; i < 8; i++) own += histogram[255 - 8 * lane - i];
      int above = own;
      for (int step = 1; step < WARP; step *= 2) {
        const int more = __shfl_up_sync(EVERY, above, step);
        if (lane >= step) above += more;
      }
      above -= own;
      if (above < rest && above + own >= rest) {
        int digit = 255 - 8 * lane, left = rest - above;
        while (histogram[digit] < left) left -= histogram[digit--];
        shared_cut = Cut{prefix | (unsigned long long)digit << shift, histogram[digit], left};
      }
    }
    __syncthreads();
  }
  return shared_cut;
}

/// How many threads in front of this one, of a block of `CUT_THREADS` at most, have something; `total` counts all.
__device__ __forceinline__ int count_before(bool has, int &total) {
  __shared__ int counts[CUT_THREADS / WARP];
  const unsigned all = __ballot_sync(EVERY, has);
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  __syncthreads();
  if (lane == 0) counts[warp] = __popc(all);
  __syncthreads();
  int before = __popc(all & ((1u << lane) - 1));
  total = 0;
  for (int other = 0; other < (int)blockDim.x / WARP; other++) {
    if (other < warp) before += counts[other];
    total += counts[other];
  }
  return before;
}

/// Calls `take(place, index)` for the `kept` largest of `count` numbers, places in the order of their indices; of equal
/// ones the first stay, or the last.
template <typename Value, typename Take>
__device__ void keep_largest(int kept, int count, bool prefers_last, Value value, Take take) {
  if (kept >= count) {
    for (int index = threadIdx.x; index < count; index += blockDim.x) take(index, index);
    return;
  }
  if (kept <= 0) return;
  const Cut cut = cut_below(kept, count, value);
  int equal = 0, place = 0;
  for (int base = 0; base < count; base += blockDim.x) {
    const int index = base + threadIdx.x;
    const unsigned long long key = index < count ? ordered(value(index)) : 0;
    const bool ties = index < count && key == cut.key;
    int all_equal = 0, all_taken;
    bool stays = ties;
    if (cut.rest < cut.equal) {
      const int rank = equal + count_before(ties, all_equal);
      stays = ties && (prefers_last ? rank >= cut.equal - cut.rest : rank < cut.rest);
    }
    const bool takes = index < count && (key > cut.key || stays);
    const int before = count_before(takes, all_taken);
    if (takes) take(place + before, index);
    equal += all_equal;
    place += all_taken;
  }
}
