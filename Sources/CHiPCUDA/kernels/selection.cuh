// SPDX-License-Identifier: Apache-2.0
// The largest of many shares of softmax mass, by threads of one block or of a cluster of blocks, by a histogram. Order
// and ties are those of a stable sort: places ascend with the elements' indices, and of equal ones the first are taken.
#pragma once
#include "common.cuh"

/// The threads of a block that select together; barrier 0 is all of it.
template <int kThreads_, int kBarrier> struct Team {
  static constexpr int kThreads = kThreads_;
  int thread;
  __device__ __forceinline__ void sync() const {
    if (kBarrier == 0) __syncthreads();
    else namedSync(kBarrier, kThreads);
  }
};

#ifndef CLUSTER
#define CLUSTER 1
#endif
#if __CUDA_ARCH__ >= 900 && CLUSTER > 1
__device__ __forceinline__ int clusterRank() {
  int rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ void clusterSync() {
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}
/// The address of a neighbour's shared memory.
__device__ __forceinline__ uint32 remoteAddress(const void *mine, int rank) {
  uint32 out;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(out) : "r"(sharedAddress(mine)), "r"(rank));
  return out;
}
__device__ __forceinline__ uint32 loadRemote(const void *mine, int rank) {
  uint32 out;
  asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(out) : "r"(remoteAddress(mine, rank)) : "memory");
  return out;
}
__device__ __forceinline__ float loadRemoteFloat(const void *mine, int rank) { return __uint_as_float(loadRemote(mine, rank)); }
__device__ __forceinline__ void storeRemote(void *mine, int rank, uint32 value) {
  asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(remoteAddress(mine, rank)), "r"(value) : "memory");
}
#else
// One block is its own cluster.
__device__ __forceinline__ int clusterRank() { return 0; }
__device__ __forceinline__ void clusterSync() { __syncthreads(); }
__device__ __forceinline__ uint32 loadRemote(const void *mine, int) { return *(const volatile uint32 *)mine; }
__device__ __forceinline__ float loadRemoteFloat(const void *mine, int) { return *(const volatile float *)mine; }
__device__ __forceinline__ void storeRemote(void *mine, int, uint32 value) { *(volatile uint32 *)mine = value; }
#endif

/// Selections compare shares of softmax mass, which spread over many powers of two, by a histogram over 32 of them,
/// from 2^-30 on: `kSteps` bins each. Shares in one bin count as equal.
template <int kSteps> __device__ __forceinline__ uint32 binOf(float share) {
  constexpr int kShift = kSteps == 128 ? 16 : 18;
  static_assert(kSteps == 128 || kSteps == 32, "steps are bits of the fraction");
  const int bin = (__float_as_int(share) >> kShift) - (127 - 30) * kSteps;
  return (uint32)min(max(bin, 0), 32 * kSteps - 1);
}
constexpr int kCoarse = 32, kFine = 128;  // steps
/// Two counts in one number: of those that are in for sure (at most 2047), and, above these bits, of ties.
constexpr int kTieShift = 11;
constexpr uint32 kAboveMask = (1 << kTieShift) - 1;
constexpr int kBins = 32 * kCoarse;

/// Room for selections in shared memory.
struct SelectionRoom {
  uint32 histogram[32 * kFine];
  uint32 byWarp[2][32];
  uint32 bin, above, aboves, ties;
  template <class Team> __device__ __forceinline__ void clear(const Team &team) {
    for (int i = team.thread; i < 32 * kFine; i += Team::kThreads) histogram[i] = 0;
  }
};
static_assert(sizeof(SelectionRoom) == IHP_SELECTION_ROOM && kBins == IHP_ONCE_BINS, "the host reckons with it");

/// Inclusive sums over the team's threads. Between two with the same slot the team must meet.
template <int kSlot, class Team> __device__ __forceinline__ uint32 teamScan(uint32 x, SelectionRoom &room, const Team &team) {
  constexpr int kWarps = Team::kThreads / 32;
  const int lane = team.thread % 32, warp = team.thread / 32;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const uint32 y = __shfl_up_sync(~0u, x, step);
    if (lane >= step) x += y;
  }
  if (lane == 31) room.byWarp[kSlot][warp] = x;
  team.sync();
  return x + __reduce_add_sync(~0u, lane < warp && lane < kWarps ? room.byWarp[kSlot][lane] : 0);
}

/// The bin in which the `keep`-th largest lies; sets room.bin and room.above, how many lie in bins above it.
template <int kRanks, int kCount, class Team>
__device__ __forceinline__ void findBin(const uint32 *histogram, uint32 keep, SelectionRoom &room, const Team &team) {
  // A thread has kPer neighbouring bins, the first thread the largest.
  constexpr int kPer = ceilDiv(kCount, Team::kThreads);
  static_assert(kPer % 2 == 0 && kCount % kPer == 0, "bins are read in pairs");
  uint32 counts[kPer] = {}, total = 0;
  const int lowest = kCount - (team.thread + 1) * kPer;
  if (lowest >= 0) {
#pragma unroll
    for (int i = 0; i < kPer; i += 2) {
      if (kRanks == 1) {
        const uint2 n = *(const uint2 *)(histogram + lowest + i);
        counts[kPer - 1 - i] = n.x;
        counts[kPer - 2 - i] = n.y;
      } else {
#pragma unroll
        for (int rank = 0; rank < kRanks; ++rank) {
          counts[kPer - 1 - i] += loadRemote(histogram + lowest + i, rank);
          counts[kPer - 2 - i] += loadRemote(histogram + lowest + i + 1, rank);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kPer; ++i) total += counts[i];
  }
  uint32 before = teamScan<0>(total, room, team) - total;
#pragma unroll
  for (int i = 0; i < kPer; ++i) {
    if (before < keep && keep <= before + counts[i]) {
      room.bin = kCount - 1 - (team.thread * kPer + i);
      room.above = before;
    }
    before += counts[i];
  }
  team.sync();
}

/// Calls take(place, i) for the `keep` largest of the bins (binOf<kSteps>) that kRanks blocks hold, each `count` of its
/// own; places ascend with blocks and elements, and of equal ones the first are taken. `keep` is at most the number of
/// all, and 2047. The histogram must be zero; it is used up.
template <int kRanks, int kSteps, class Team, class Take>
__device__ __forceinline__ void selectLargest(const uint32 *bins, int count, uint32 keep, SelectionRoom &room, const Team &team,
                                              Take take) {
  constexpr int kThreads = Team::kThreads;
  auto everyone = [&] {
    if (kRanks > 1) clusterSync();
    else team.sync();
  };
  for (int i = team.thread; i < count; i += kThreads) atomicAdd(&room.histogram[bins[i]], 1);
  everyone();
  findBin<kRanks, 32 * kSteps>(room.histogram, keep, room, team);
  const uint32 threshold = room.bin, allowed = keep - room.above;  // of those at the threshold

  const int per = ceilDiv(count, kThreads), from = min(count, team.thread * per), to = min(count, from + per);
  uint32 mine = 0;
  for (int i = from; i < to; ++i) mine += bins[i] > threshold ? 1u : bins[i] == threshold ? 1u << kTieShift : 0u;
  const uint32 scanned = teamScan<1>(mine, room, team);
  uint32 aboves = (scanned - mine) & kAboveMask, ties = (scanned - mine) >> kTieShift;
  if (kRanks > 1) {
    const int rank = clusterRank();
    if (team.thread == kThreads - 1) {
      room.aboves = scanned & kAboveMask;
      room.ties = scanned >> kTieShift;
    }
    clusterSync();
#pragma unroll
    for (int r = 0; r < kRanks; ++r) {
      const uint32 a = loadRemote(&room.aboves, r), t = loadRemote(&room.ties, r);
      aboves += r < rank ? a : 0;
      ties += r < rank ? t : 0;
    }
  }
  for (int i = from; i < to; ++i) {
    const bool over = bins[i] > threshold, tie = bins[i] == threshold;
    if (over || (tie && ties < allowed)) take(aboves + min(ties, allowed), i);
    aboves += over;
    ties += tie;
  }
}
