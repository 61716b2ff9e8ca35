// SPDX-License-Identifier: Apache-2.0
// Decode with a fresh selection, four kernels one after the other, nothing of which visits the host:
//
// 1. scanSketches     every chunk's log mass for every head, from the sketch. Grid (tiles, kvHeads, sequences).
// 2. selectChunks     the chunks with the largest shares of softmax mass, summed over the heads of a group, by one
//                     cluster of blocks over distributed shared memory. Grid (CLUSTER, kvHeads, sequences) in
//                     clusters of (CLUSTER, 1, 1).
// 3. scoreSurvivors   exact scores of their keys, log mass of blocks of BLOCK_KEYS. Grid (splits, kvHeads, sequences).
// 4. attendSelected   every split ranks the blocks by itself, so that all have the list of the best, and attends to its
//                     share of sink, selected blocks and window; the last one merges. Grid (splits, kvHeads,
//                     sequences). Sink and window are attended to while kernel 3 still runs (programmatic launch).
//
// Without an output, 4 lists and attends to nothing. Where the grid fits the device at once, decode_once.cu is faster.
//
// Macros: those of select_core.cuh, WARPS, CLUSTER (1 where blocks form no clusters: before sm_90).
#ifndef CLUSTER
#define CLUSTER 8
#endif
#ifndef WARPS
#define WARPS 8
#endif
#include "select_core.cuh"

constexpr int kScanThreads = 256;
constexpr int kSelectThreads = 512;
constexpr int kWarps = WARPS;

extern "C" __global__ void __launch_bounds__(kScanThreads, HEAD_SIZE > 128 ? 1 : 2)
    scanSketches(const __grid_constant__ ihp_select_decode p) {
  constexpr int kScanWarps = kScanThreads / 32;
  __shared__ __align__(16) char query[Query::kBytes];
  __shared__ float2 byWarp[kScanWarps * Scores::kTiles * 4];
  waitForPreviousKernel();
  letNextKernelStart();
  const int sequence = blockIdx.z, kvHead = blockIdx.y, tile = blockIdx.x, pair = sequence * p.kv_heads + kvHead;
  const int chunks = candidateChunks(p.key_counts[sequence], p);
  const int first = tile * p.tile_chunks, last = min(chunks, first + p.tile_chunks);
  if (first >= last) return;
  float *scores = p.scores + (long long)pair * p.chunk_capacity * GROUP;
  scanChunks<kScanWarps>(p, sequence, kvHead, first, last, query, [&](int chunk, int head, float s) {
    scores[(long long)chunk * GROUP + head] = s;
  }).template merge<kScanWarps>(byWarp, p.scan_sums + ((long long)pair * p.tile_capacity + tile) * GROUP);
}

extern "C" __global__ void __launch_bounds__(kSelectThreads, 2) selectChunks(const __grid_constant__ ihp_select_decode p) {
  struct Room {
    SelectionRoom selection;
    float logSums[GROUP];
  };
  static_assert(sizeof(Room) <= kSelectRoom, "the host reckons with it");
  extern __shared__ __align__(16) char shared[];
  Room &room = *(Room *)shared;
  const int thread = threadIdx.x, rank = clusterRank(), kvHead = blockIdx.y, sequence = blockIdx.z;
  const int pair = sequence * p.kv_heads + kvHead, sinkChunks = p.sink / CHUNK_KEYS;
  room.selection.clear(Team<kSelectThreads, 0>{thread});
  waitForPreviousKernel();
  letNextKernelStart();
  const int chunks = candidateChunks(p.key_counts[sequence], p);
  const int keep = keptOf(chunks, p.coarse);
  if (rank == 0 && thread == 0) p.survivor_counts[pair] = keep;
  if (chunks == 0) return;
  mergeStats<kSelectThreads / 32>(p.scan_sums + (long long)pair * p.tile_capacity * GROUP, ceilDiv(chunks, p.tile_chunks), room.logSums);
  __syncthreads();
  const int per = ceilDiv(chunks, CLUSTER), from = min(chunks, rank * per), to = min(chunks, from + per);
  uint32 *bins = per <= p.slice_chunks ? (uint32 *)(shared + kSelectRoom) : p.bins + (long long)pair * p.chunk_capacity + from;
  const float *scores = p.scores + (long long)pair * p.chunk_capacity * GROUP;
  float logSums[GROUP];
#pragma unroll
  for (int head = 0; head < GROUP; ++head) logSums[head] = room.logSums[head];
#pragma unroll 4
  for (int i = from + thread; i < to; i += kSelectThreads) {
    HeadScores s;
    s.load(scores + (long long)i * GROUP);
    bins[i - from] = binOf<kCoarse>(s.share(logSums));
  }
  __syncthreads();
  int *out = p.survivors + (long long)pair * p.coarse.keep;
  selectLargest<CLUSTER, kCoarse>(bins, to - from, keep, room.selection, Team<kSelectThreads, 0>{thread},
                                  [&](uint32 at, int i) { out[at] = from + i + sinkChunks; });
  clusterSync();  // a neighbour may still read this block's counts
}

extern "C" __global__ void __launch_bounds__(kWarps * 32, (HEAD_SIZE > 128 ? 8 : 16) / kWarps)
    scoreSurvivors(const __grid_constant__ ihp_select_decode p) {
  __shared__ float byWarp[2 * kWarps * GROUP];
  extern __shared__ __align__(16) char shared[];  // [2][coarseKeep] integers
  int *survivors = (int *)shared, *rows = survivors + p.coarse.keep;
  const int kvHead = blockIdx.y, sequence = blockIdx.z, pair = sequence * p.kv_heads + kvHead;
  waitForPreviousKernel();
  letNextKernelStart();
  Heads query;
  query.load((const ELEMENT *)p.query + (long long)pair * GROUP * HEAD_SIZE);
  const int count = p.survivor_counts[pair];
  findSurvivors(p, sequence, kvHead, count, survivors, rows);
  const int blocks = candidateBlocks(survivors, count, lastBlock(p.key_counts[sequence], p));
  scoreKeys<kWarps>(p, query, pair, blockIdx.x, gridDim.x, blocks, rows, byWarp);
}

extern "C" __global__ void __launch_bounds__(kWarps * 32, (HEAD_SIZE > 128 ? 8 : 16) / kWarps)
    attendSelected(const __grid_constant__ ihp_select_decode p) {
  constexpr int kThreads = kWarps * 32;
  struct Room {
    SelectionRoom selection;
    float logSums[GROUP];
  };
  static_assert(sizeof(Room) <= kSelectRoom, "the host reckons with it");
  // Behind Room: the list and its rows [2][fineKeep], then survivors and their rows [2][coarseKeep] and bins of parts,
  // and in the end the warps' outputs in their place.
  extern __shared__ __align__(16) char shared[];
  Room &room = *(Room *)shared;
  int *list = (int *)(shared + kSelectRoom), *listRows = list + p.fine.keep;
  char *tail = (char *)(list + (2 * p.fine.keep + 3) / 4 * 4);
  int *survivors = (int *)tail, *rows = survivors + p.coarse.keep;
  uint32 *bins = (uint32 *)(rows + p.coarse.keep);
  const int thread = threadIdx.x;
  const int kvHead = blockIdx.y, sequence = blockIdx.z, pair = sequence * p.kv_heads + kvHead, splits = gridDim.x, split = blockIdx.x;
  const float scaleLog2 = SOFT_CAP ? kLog2E : p.scale * kLog2E;
  room.selection.clear(Team<kThreads, 0>{thread});
  Heads query;
  query.load((const ELEMENT *)p.query + (long long)pair * GROUP * HEAD_SIZE);
  query.clear();
  // Nothing that the kernel before writes is read here: queries, keys and values were there before its predecessors.
  const int count = p.key_counts[sequence];
  const DecodePlan plan(count, p.sink, p.window, nullptr, 0);
  if (p.output) attendShare<kWarps>(p, query, plan, sequence, kvHead, split, splits, 0, plan.octets);
  waitForPreviousKernel();
  letNextKernelStart();
  const int kept = p.survivor_counts[pair];
  findSurvivors(p, sequence, kvHead, kept, survivors, rows);
  const int parts = candidateBlocks(survivors, kept, lastBlock(count, p));
  const int keep = listBlocks<kWarps>(p, pair, parts, survivors, rows, room.selection, room.logSums, bins, list, listRows);
  if (split == 0) {
    for (int i = thread; i < keep; i += kThreads) p.selection[(long long)pair * p.list_capacity + i] = list[i];
    if (thread == 0) p.selected_counts[pair] = keep;
  }
  if (!p.output) return;
  attendListed<kWarps>(p, query, plan, list, listRows, keep, split, splits);
  query.template finish<kWarps>(tail, {p.partial, p.arrived, p.output, p.log_sums, p.sink_logits}, pair, kvHead, scaleLog2);
}
