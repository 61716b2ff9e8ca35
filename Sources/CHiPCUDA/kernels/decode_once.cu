// SPDX-License-Identifier: Apache-2.0
// Decode with a fresh selection: the four kernels of select_decode.cu as phases of one, grid (splits, kvHeads, sequences),
// for as many blocks as the device holds at once, one per multiprocessor (blocks of one head wait for each other).
// Scores of chunks never leave shared memory. It selects what the four kernels select, but for the order of sums.
//
// Phases of a sequence's head, each ended by a count in p.phase: sums of the scan; histograms; survivors; scores.
//
// Macros: those of select_core.cuh.
#include "select_core.cuh"

#ifndef PREFETCH  // what part of a split's share of survivors is asked for before it is known
#define PREFETCH 0.3f
#endif

constexpr int kOnceWarps = ihp_once_warps(HEAD_SIZE), kOnceThreads = kOnceWarps * 32;

struct OnceRoom {
  SelectionRoom selection;
  float logSums[GROUP];
  __align__(16) float byWarp[2 * kOnceWarps * (Scores::kTiles * 4 > GROUP ? Scores::kTiles * 4 : GROUP)];
  __align__(16) char query[Query::kBytes];
  uint32 lower, tied;  // chosen before this split's, and equal ones
};
constexpr int kOnceRoom = ihp_once_room(HEAD_SIZE, GROUP);
static_assert(sizeof(OnceRoom) <= kOnceRoom, "the host reckons with it");

/// What was written before is to be seen by all blocks of a head.
__device__ __forceinline__ void arrive(int *phase) {
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    atomicAdd(phase, 1);
  }
}
__device__ __forceinline__ void await(const int *phase, int count) {
  if (threadIdx.x == 0) {
    int seen;
    do asm volatile("ld.acquire.gpu.global.b32 %0, [%1];" : "=r"(seen) : "l"(phase) : "memory");
    while (seen < count);
  }
  __syncthreads();
}

extern "C" __global__ void __launch_bounds__(kOnceThreads, 1) decodeOnce(const __grid_constant__ ihp_select_decode p) {
  extern __shared__ __align__(16) char shared[];
  OnceRoom &room = *(OnceRoom *)shared;
  // Behind OnceRoom as in attendSelected; scores and bins of the scan lie where survivors come to lie.
  int *list = (int *)(shared + kOnceRoom), *listRows = list + p.fine.keep;
  char *tail = (char *)(list + (2 * p.fine.keep + 3) / 4 * 4);
  int *survivors = (int *)tail, *rows = survivors + p.coarse.keep;
  const int thread = threadIdx.x, split = blockIdx.x, splits = gridDim.x;
  const int kvHead = blockIdx.y, sequence = blockIdx.z, pair = sequence * p.kv_heads + kvHead;
  const float scaleLog2 = SOFT_CAP ? kLog2E : p.scale * kLog2E;
  const Team<kOnceThreads, 0> team{thread};
  room.selection.clear(team);
  if (thread == 0) room.lower = 0;
  waitForPreviousKernel();
  letNextKernelStart();
  const int count = p.key_counts[sequence], chunks = candidateChunks(count, p), kept = keptOf(chunks, p.coarse);
  const DecodePlan plan(count, p.sink, p.window, nullptr, 0);
  int *phase = p.phase + pair;
  Heads query;

  int parts = 0;
  if (chunks > 0) {
    // Scan.
    const int per = ceilDiv(ceilDiv(chunks, kChunksPerPage), splits) * kChunksPerPage, first = min(chunks, split * per), last = min(chunks, first + per), mine = last - first;
    float *scores = (float *)tail;
    uint32 *bins = (uint32 *)(scores + per * GROUP);
    scanChunks<kOnceWarps>(p, sequence, kvHead, first, last, room.query, [&](int chunk, int head, float s) {
      scores[(chunk - first) * GROUP + head] = s;
    }).template merge<kOnceWarps>((float2 *)room.byWarp, p.scan_sums + ((long long)pair * splits + split) * GROUP);
    arrive(phase);
    if (p.output) {  // What is near will be needed, and the memory has nothing else to do.
      const int *table = p.page_table + (long long)sequence * p.table_stride;
      const int octetsPer = 2 * ceilDiv(ceilDiv(plan.octets, 2), splits), end = min(plan.octets, (split + 1) * octetsPer);
      for (int i = split * octetsPer + thread; i < end; i += kOnceThreads) {
        const int key = plan.octet(i).x;
        const long long row = (long long)(table[key / kPage] * p.kv_heads + kvHead) * kPage + key % kPage;
        prefetchBytes((const ELEMENT *)p.keys + row * HEAD_SIZE, 8 * HEAD_SIZE * sizeof(ELEMENT));
        prefetchBytes((const ELEMENT *)p.values + row * HEAD_SIZE, 8 * HEAD_SIZE * sizeof(ELEMENT));
      }
    }
    await(phase, splits);

    // Shares, and how many there are of each size.
    mergeStats<kOnceWarps>(p.scan_sums + (long long)pair * splits * GROUP, splits, room.logSums);
    __syncthreads();
    for (int i = thread; i < mine; i += kOnceThreads) {
      float share = 0.f;
#pragma unroll
      for (int head = 0; head < GROUP; ++head) share += exp2Fast(scores[i * GROUP + head] - room.logSums[head]);
      bins[i] = binOf<kCoarse>(share);
      atomicAdd(&room.selection.histogram[bins[i]], 1);
    }
    __syncthreads();
    uint32 *histograms = p.histograms + (long long)pair * splits * kBins;
    for (int i = thread; i < kBins; i += kOnceThreads) histograms[split * kBins + i] = room.selection.histogram[i];
    arrive(phase);
    // While the others count: the best of this split's chunks will hardly be among the losers.
    findBin<1, kBins>(room.selection.histogram, min(mine, max(1, (int)(PREFETCH * kept / splits))), room.selection, team);
    for (int i = thread; i < mine; i += kOnceThreads)
      if (bins[i] > room.selection.bin) {
        const int key = (first + i) * CHUNK_KEYS + p.sink;
        const long long row = (long long)(p.page_table[(long long)sequence * p.table_stride + key / kPage] * p.kv_heads + kvHead) * kPage + key % kPage;
        prefetchBytes((const ELEMENT *)p.keys + row * HEAD_SIZE, CHUNK_KEYS * HEAD_SIZE * sizeof(ELEMENT));
      }
    room.selection.clear(team);
    await(phase, 2 * splits);

    // The bin that the selection ends in; what lies before this split's chunks; the list.
    constexpr int kPerThread = kBins / kOnceThreads;
    static_assert(kPerThread % 2 == 0, "bins are read in pairs");
    uint32 all[kPerThread] = {}, lower[kPerThread] = {}, total = 0;
#pragma unroll 8
    for (int other = 0; other < splits; ++other)
#pragma unroll
      for (int i = 0; i < kPerThread; i += 2) {
        const uint2 n = __ldcg((const uint2 *)(histograms + other * kBins + kBins - 2 - (thread * kPerThread + i)));
        all[i] += n.y;
        all[i + 1] += n.x;
        lower[i] += other < split ? n.y : 0;
        lower[i + 1] += other < split ? n.x : 0;
      }
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) total += all[i];
    uint32 before = teamScan<0>(total, room.selection, team) - total;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      if (before < kept && kept <= before + all[i]) {
        room.selection.bin = kBins - 1 - (thread * kPerThread + i);
        room.selection.above = before;
        room.tied = lower[i];
      }
      before += all[i];
    }
    __syncthreads();
    const uint32 threshold = room.selection.bin, allowed = kept - room.selection.above;
    uint32 lowerAbove = 0;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i)
      if (kBins - 1 - (thread * kPerThread + i) > (int)threshold) lowerAbove += lower[i];
    lowerAbove = __reduce_add_sync(~0u, lowerAbove);
    if (thread % 32 == 0) atomicAdd(&room.lower, lowerAbove);
    const int each = ceilDiv(mine, kOnceThreads), from = min(mine, thread * each), to = min(mine, from + each);
    uint32 counts = 0;
    for (int i = from; i < to; ++i) counts += bins[i] > threshold ? 1u : bins[i] == threshold ? 1u << kTieShift : 0u;
    const uint32 scanned = teamScan<1>(counts, room.selection, team) - counts;  // its barrier shows room.lower to all
    uint32 aboves = room.lower + (scanned & kAboveMask), ties = room.tied + (scanned >> kTieShift);
    int *out = p.survivors + (long long)pair * p.coarse.keep;
    for (int i = from; i < to; ++i) {
      const bool over = bins[i] > threshold, tie = bins[i] == threshold;
      if (over || (tie && ties < allowed)) out[aboves + min(ties, allowed)] = first + i + p.sink / CHUNK_KEYS;
      aboves += over;
      ties += tie;
    }
    arrive(phase);
    query.load((const ELEMENT *)p.query + (long long)pair * GROUP * HEAD_SIZE);
    await(phase, 3 * splits);

    findSurvivors(p, sequence, kvHead, kept, survivors, rows);
    parts = candidateBlocks(survivors, kept, lastBlock(count, p));
    scoreKeys<kOnceWarps>(p, query, pair, split, splits, parts, rows, room.byWarp);
    arrive(phase);
  } else {
    query.load((const ELEMENT *)p.query + (long long)pair * GROUP * HEAD_SIZE);
  }

  if (!p.output && split != 0) return;
  // Sink and window while the others score.
  query.clear();
  if (p.output) attendShare<kOnceWarps>(p, query, plan, sequence, kvHead, split, splits, 0, plan.octets);
  int keep = 0;
  if (chunks > 0) {
    await(phase, 4 * splits);
    keep = listBlocks<kOnceWarps>(p, pair, parts, survivors, rows, room.selection, room.logSums, (uint32 *)(rows + p.coarse.keep), list, listRows);
    if (p.output) attendListed<kOnceWarps>(p, query, plan, list, listRows, keep, split, splits);
  }
  if (split == 0) {
    for (int i = thread; i < keep; i += kOnceThreads) p.selection[(long long)pair * p.list_capacity + i] = list[i];
    if (thread == 0) p.selected_counts[pair] = keep;
  }
  if (!p.output) {  // nobody else waits any more
    if (thread == 0) *phase = 0;
    return;
  }
  if (query.template finish<kOnceWarps>(tail, {p.partial, p.arrived, p.output, p.log_sums, p.sink_logits}, pair, kvHead, scaleLog2) && thread == 0)
    *phase = 0;  // the last block: none waits any more
}
