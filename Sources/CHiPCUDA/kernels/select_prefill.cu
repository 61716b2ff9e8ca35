// SPDX-License-Identifier: Apache-2.0
// Selection for blocks of 64 queries. SHARE neighbouring blocks form a set that scans the sketch together.
//
// 1. averageQueries: means of SCAN_STRIDE neighbouring queries (for the scan), and of every FINE_STRIDE neighbours the
//    last one (for exact scores), in kFineRows rows per block and key-value head, row = part * GROUP + head.
// 2. scanForSets: for a set, its mean queries against the means of every chunk, twice: first for each row's softmax sum,
//    then for shares of it, which are summed over the rows and stay in shared memory until the best chunks are found.
//    No score is written out.
// 3. refineSets: exact scores of the survivors' keys, again twice; shares of blocks of BLOCK_KEYS keys, and the best for
//    each block of queries. Where a set has more than 128 rows, several blocks of threads share it.
//
// Candidates are the chunks behind the sink that begin `coarse.distance` before a set's first query at the latest, of
// their blocks those that begin `fine.distance` before the block's first query. They may be in the window of its first
// queries; attention sorts that out.
//
// Macros: ELEMENT, HEAD_SIZE, GROUP, BLOCK_KEYS (8 to CHUNK_KEYS), CHUNK_KEYS, SHARE (1, 2, 4), SCAN_STRIDE (up to 64),
// FINE_STRIDE (64 / FINE_STRIDE * GROUP <= 128), SOFT_CAP, PORTABLE.
#include "selection.cuh"
#include "sketch.cuh"
#include "wgmma.cuh"

#ifndef SHARE
#define SHARE 4
#endif
#ifndef SCAN_STRIDE
#define SCAN_STRIDE 64
#endif
#ifndef FINE_STRIDE
#define FINE_STRIDE 8
#endif
#ifndef SOFT_CAP
#define SOFT_CAP 0
#endif
#ifndef PORTABLE
#define PORTABLE 0
#endif

constexpr int kPage = 64, kBlock = 64;
constexpr int kMeansPerBlock = kBlock / SCAN_STRIDE, kMeans = SHARE * kMeansPerBlock;
constexpr int kParts = kBlock / FINE_STRIDE, kFineRows = ihp_fine_rows(GROUP, FINE_STRIDE);
constexpr int kRefineShare = ihp_refine_share(SHARE, kFineRows), kRefineSplit = SHARE / kRefineShare;
constexpr int kRefineRows = kRefineShare * kFineRows;
static_assert(kBlock % SCAN_STRIDE == 0 && kBlock % FINE_STRIDE == 0 && kFineRows <= 128, "strides divide blocks");

/// Chunks that a set's candidates are.
__device__ __forceinline__ int candidateChunks(const ihp_query_set &set, const ihp_select_prefill &p) {
  const int last = min(set.first_position - p.coarse.distance, set.first_position + set.query_count - CHUNK_KEYS);
  return startsUpTo(min(last, set.grid_end - 1), p.sink, CHUNK_KEYS);
}
/// The last position at which a block of keys may begin that a block of queries selects.
__device__ __forceinline__ int lastBlock(const ihp_query_set &set, int block, const ihp_select_prefill &p) {
  const int first = set.first_position + block * kBlock, queries = min(kBlock, set.query_count - block * kBlock);
  return min(first - p.fine.distance, first + queries - BLOCK_KEYS);
}

// -------------------------------------------------------------------------------------------- average --

/// Grid (set * SHARE, kvHeads), HEAD_SIZE / 2 threads.
extern "C" __global__ void averageQueries(const __grid_constant__ ihp_select_prefill p) {
  waitForPreviousKernel();
  letNextKernelStart();
  const int setIndex = blockIdx.x / SHARE, block = blockIdx.x % SHARE, kvHead = blockIdx.y, d = threadIdx.x * 2;
  const ihp_query_set set = p.sets[setIndex];
  const int queries = max(0, min(kBlock, set.query_count - block * kBlock));
  const int heads = p.kv_heads * GROUP;
  uint32 *fine = (uint32 *)((ELEMENT *)p.fine_queries + (((long long)setIndex * p.kv_heads + kvHead) * SHARE + block) * kFineRows * HEAD_SIZE + d);
  for (int head = 0; head < GROUP; ++head) {
    const ELEMENT *first = (const ELEMENT *)p.query + ((long long)(set.first_query + block * kBlock) * heads + kvHead * GROUP + head) * HEAD_SIZE + d;
    const long long step = (long long)heads * HEAD_SIZE;
#pragma unroll
    for (int part = 0; part < kMeansPerBlock; ++part) {
      float sum[2] = {0, 0};
      const int here = min(SCAN_STRIDE, queries - part * SCAN_STRIDE);
#pragma unroll 8
      for (int i = 0; i < here; ++i) {
        const uint32 pair = *(const uint32 *)(first + (part * SCAN_STRIDE + i) * step);
        sum[0] += Element<ELEMENT>::low(pair);
        sum[1] += Element<ELEMENT>::high(pair);
      }
      const float factor = here > 0 ? 1.f / here : 0.f;
      float *mean = p.scan_queries + (((long long)setIndex * kMeans + block * kMeansPerBlock + part) * heads + kvHead * GROUP + head) * HEAD_SIZE + d;
      mean[0] = sum[0] * factor;
      mean[1] = sum[1] * factor;
    }
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const int last = min((part + 1) * FINE_STRIDE, queries) - 1;
      fine[(part * GROUP + head) * (HEAD_SIZE / 2)] = part * FINE_STRIDE < queries ? *(const uint32 *)(first + last * step) : 0;
    }
  }
  for (int row = kParts * GROUP; row < kFineRows; ++row) fine[row * (HEAD_SIZE / 2)] = 0;
}

// ----------------------------------------------------------------------------------------------- scan --

constexpr int kScanThreads = ihp_scan_threads(HEAD_SIZE);
constexpr int kScanRoom = ihp_scan_room(HEAD_SIZE, kMeans * GROUP);

/// Grid (sets, kvHeads).
extern "C" __global__ void __launch_bounds__(kScanThreads, 1) scanForSets(const __grid_constant__ ihp_select_prefill p) {
  constexpr int kRows = kMeans * GROUP, kWarps = kScanThreads / 32;
  using Scores = PageScores<HEAD_SIZE, kRows>;
  using Query = typename Scores::Query;
  struct Room {
    SelectionRoom selection;
    __align__(16) char query[Query::kBytes];
    float2 byWarp[kWarps][Scores::kTiles * 4];
    float logSums[Scores::kTiles * 4];
  };
  static_assert(sizeof(Room) <= kScanRoom, "the host reckons with it");
  extern __shared__ __align__(16) char shared[];
  Room &room = *(Room *)shared;
  waitForPreviousKernel();
  letNextKernelStart();
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const int setIndex = blockIdx.x, kvHead = blockIdx.y;
  const ihp_query_set set = p.sets[setIndex];
  const int means = ceilDiv(set.query_count, SCAN_STRIDE), sinkChunks = p.sink / CHUNK_KEYS;
  const int chunks = candidateChunks(set, p);
  const long long pair = (long long)setIndex * p.kv_heads + kvHead;
  if (chunks <= 0) {
    if (thread == 0) p.survivor_counts[pair] = 0;
    return;
  }
  const int *table = p.page_table + (long long)set.sequence * p.table_stride;
  uint32 *bins = chunks <= p.slice_chunks ? (uint32 *)(shared + kScanRoom) : p.bins + pair * p.chunk_capacity;
  for (int row = warp; row < Query::kColumns / 2; row += kWarps) {
    const int index = row / GROUP, head = row % GROUP;
    const float *mean = p.scan_queries + (((long long)setIndex * kMeans + min(index, kMeans - 1)) * p.kv_heads * GROUP + kvHead * GROUP + head) * HEAD_SIZE;
    float x[Query::kPer];
    Query::take(x, index < means, [&](int d) { return mean[d] * p.scale; });
    Query::put(room.query, row, x);
  }
  room.selection.clear(Team<kScanThreads, 0>{thread});
  __syncthreads();

  constexpr int kPer = kChunksPerPage;
  const int pages = ceilDiv(chunks, kPer);
  auto place = [&](int page) { return (long long)kvHead * p.page_count + __ldg(table + min(page, pages - 1) + p.sink / kPage); };
  // Calls take(scores of 16 pages, first of them) for every 16 pages of this warp.
  auto scan = [&](auto take) {
    Scores now, next;
    int at = warp * 16;
    if (at < pages) now.load(p.means, p.mean_scales, place(at + lane / 4), place(at + lane / 4 + 8));
    while (at < pages) {
      const int after = at + kWarps * 16;
      if (after < pages) next.load(p.means, p.mean_scales, place(after + lane / 4), place(after + lane / 4 + 8));
      take(now, at);
      now = next;
      at = after;
    }
  };
  float maximum[Scores::kTiles], sum[Scores::kTiles];
#pragma unroll
  for (int t = 0; t < Scores::kTiles; ++t) { maximum[t] = kNegativeInfinity; sum[t] = 0.f; }
  scan([&](const Scores &scores, int at) {
#pragma unroll
    for (int t = 0; t < Scores::kTiles; ++t) {
      float s[2][kMeansPerPage], best = maximum[t];
      scores.score(s, room.query, t);
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int mean = 0; mean < kMeansPerPage; ++mean) {
          if ((at + lane / 4 + 8 * i) * kPer + mean * kPer / kMeansPerPage >= chunks) s[i][mean] = kNegativeInfinity;
          best = fmaxf(best, s[i][mean]);
        }
      const float base = best == kNegativeInfinity ? 0.f : best;
      sum[t] = sum[t] * exp2Fast(maximum[t] - base) + exp2Fast(s[0][0] - base) + exp2Fast(s[0][1] - base) +
               exp2Fast(s[1][0] - base) + exp2Fast(s[1][1] - base);
      maximum[t] = best;
    }
  });
#pragma unroll
  for (int t = 0; t < Scores::kTiles; ++t) {
    float best = maximum[t];
#pragma unroll
    for (int step = 4; step < 32; step *= 2) best = fmaxf(best, __shfl_xor_sync(~0u, best, step));
    float total = best == kNegativeInfinity ? 0.f : sum[t] * exp2Fast(maximum[t] - best);
#pragma unroll
    for (int step = 4; step < 32; step *= 2) total += __shfl_xor_sync(~0u, total, step);
    if (lane < 4) room.byWarp[warp][4 * t + lane] = make_float2(best, total);
  }
  __syncthreads();
  if (thread < Scores::kTiles * 4) {
    float best = kNegativeInfinity, total = 0.f;
    for (int w = 0; w < kWarps; ++w) best = fmaxf(best, room.byWarp[w][thread].x);
    for (int w = 0; w < kWarps; ++w)
      if (room.byWarp[w][thread].x != kNegativeInfinity) total += room.byWarp[w][thread].y * exp2Fast(room.byWarp[w][thread].x - best);
    // Rows that are not there take no part.
    room.logSums[thread] = thread < means * GROUP ? best + log2Fast(total) : -kNegativeInfinity;
  }
  __syncthreads();
  scan([&](const Scores &scores, int at) {
    float share[2 * kPer] = {};
#pragma unroll
    for (int t = 0; t < Scores::kTiles; ++t) {
      float s[2][kMeansPerPage];
      scores.score(s, room.query, t);
      const float logSum = room.logSums[4 * t + lane % 4];
#pragma unroll
      for (int i = 0; i < 2 * kMeansPerPage; ++i) share[i * kPer / kMeansPerPage] += exp2Fast(s[i / kMeansPerPage][i % kMeansPerPage] - logSum);
    }
#pragma unroll
    for (int i = 0; i < 2 * kPer; ++i) {
      share[i] = laneSum<4>(share[i]);
      const int chunk = (at + lane / 4 + i / kPer * 8) * kPer + i % kPer;
      if (lane % 4 == 0 && chunk < chunks) bins[chunk] = binOf<kFine>(share[i]);
    }
  });
  __syncthreads();
  const int keep = keptOf(chunks, p.coarse);
  int *out = p.survivors + pair * p.coarse.keep;
  selectLargest<1, kFine>(bins, chunks, keep, room.selection, Team<kScanThreads, 0>{thread}, [&](uint32 at, int i) { out[at] = i + sinkChunks; });
  if (thread == 0) p.survivor_counts[pair] = keep;
}

// --------------------------------------------------------------------------------------------- refine --

/// Scores of a tile in registers, as in attention_prefill.cu; what both passes do with them.
template <int kTile> struct RefineRows {
  static constexpr int kBlocksPerTile = kTile / BLOCK_KEYS;
  float maximum[2] = {kNegativeInfinity, kNegativeInfinity}, sum[2] = {0.f, 0.f};
  float logSum[2];

  /// Masks keys behind the list's end and blocks that begin behind `last`. chunksHere: of the tile.
  static __device__ __forceinline__ void mask(float (&s)[kTile / 2], const int *chunks, int chunksHere, int last) {
    constexpr int kChunks = kTile / CHUNK_KEYS;
    if (chunksHere >= kChunks && (chunks[kChunks - 1] + 1) * CHUNK_KEYS - BLOCK_KEYS <= last) return;
#pragma unroll
    for (int j = 0; j < kTile / 8; ++j) {
      const int chunk = 8 * j / CHUNK_KEYS;
      if (chunk >= chunksHere || chunks[chunk] * CHUNK_KEYS + 8 * j % CHUNK_KEYS / BLOCK_KEYS * BLOCK_KEYS > last)
        s[4 * j] = s[4 * j + 1] = s[4 * j + 2] = s[4 * j + 3] = kNegativeInfinity;
    }
  }
  static __device__ __forceinline__ void cap(float (&s)[kTile / 2], const ihp_select_prefill &p) {
#if SOFT_CAP
#pragma unroll
    for (int i = 0; i < kTile / 2; ++i) s[i] = p.soft_cap * tanhFast(s[i] * p.scale / p.soft_cap);
#endif
  }
  __device__ __forceinline__ void first(const float (&s)[kTile / 2], float scaleLog2) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float best = maximum[half];
#pragma unroll
      for (int j = 0; j < kTile / 8; ++j) best = fmaxf(best, fmaxf(s[4 * j + 2 * half], s[4 * j + 2 * half + 1]));
      best = laneMax<4>(best);
      const float base = best == kNegativeInfinity ? 0.f : best * scaleLog2;
      float total = sum[half] * exp2Fast(maximum[half] * scaleLog2 - base);
#pragma unroll
      for (int j = 0; j < kTile / 8; ++j)
#pragma unroll
        for (int c = 0; c < 2; ++c) total += exp2Fast(fmaf(s[4 * j + 2 * half + c], scaleLog2, -base));
      sum[half] = total;
      maximum[half] = best;
    }
  }
  /// Between the passes. Rows that are not there take no part.
  __device__ __forceinline__ void between(int row0, float scaleLog2, int queriesInBlock) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float total = laneSum<4>(sum[half]);
      const int row = (row0 + lane / 4 + 8 * half) % kFineRows;
      const bool there = row < kParts * GROUP && row / GROUP * FINE_STRIDE < queriesInBlock && total > 0.f;
      logSum[half] = there ? maximum[half] * scaleLog2 + log2Fast(total) : -kNegativeInfinity;
    }
  }
  /// Adds the shares of the tile's blocks of keys to `shares`.
  __device__ __forceinline__ void second(const float (&s)[kTile / 2], float scaleLog2, float *shares) {
    const int lane = threadIdx.x % 32;
    float parts[kBlocksPerTile];
#pragma unroll
    for (int b = 0; b < kBlocksPerTile; ++b) {
      float x = 0.f;
#pragma unroll
      for (int j = b * BLOCK_KEYS / 8; j < (b + 1) * BLOCK_KEYS / 8; ++j)
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
          for (int c = 0; c < 2; ++c) x += exp2Fast(fmaf(s[4 * j + 2 * half + c], scaleLog2, -logSum[half]));
      parts[b] = x;
    }
    // Over the lanes: every step halves how many numbers a lane holds.
    int width = 32;
#pragma unroll
    for (int held = kBlocksPerTile; held > 1; held /= 2) {
      width /= 2;
      const bool upper = lane & width;
#pragma unroll
      for (int b = 0; b < held / 2; ++b) {
        const float give = upper ? parts[b] : parts[b + held / 2];
        parts[b] = (upper ? parts[b + held / 2] : parts[b]) + __shfl_xor_sync(~0u, give, width);
      }
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2)
      if (step < width) parts[0] += __shfl_xor_sync(~0u, parts[0], step);
    if (lane % width == 0) atomicAdd(shares + lane / width, parts[0]);
  }
};

/// Shares of every block of queries, from `block0` on, to its list. Shares [kRefineShare][most], of `survivors` in `list`.
template <class Team>
__device__ __forceinline__ void takeBest(const ihp_select_prefill &p, const ihp_query_set &set, int block0, int kvHead,
                                         const int *list, int survivors, uint32 *shares, int most, SelectionRoom &room, const Team &team) {
  constexpr int kPer = CHUNK_KEYS / BLOCK_KEYS;
  for (int block = block0; block < block0 + kRefineShare && block * kBlock < set.query_count; ++block) {
    const int last = lastBlock(set, block, p);
    uint32 *mine = shares + (block - block0) * most;
    // Survivors ascend, so those that take no part are the last.
    int low = 0, high = survivors * kPer;
    while (low < high) {
      const int middle = (low + high) / 2;
      if (list[middle / kPer] * CHUNK_KEYS + middle % kPer * BLOCK_KEYS <= last) low = middle + 1;
      else high = middle;
    }
    const int count = low, keep = keptOf(count, p.fine);
    const long long row = (long long)(set.first_row + block) * p.kv_heads + kvHead;
    room.clear(team);
    for (int i = team.thread; i < count; i += Team::kThreads) mine[i] = binOf<kFine>(__uint_as_float(mine[i]));
    team.sync();
    if (keep > 0)
      selectLargest<1, kFine>(mine, count, keep, room, team, [&](uint32 at, int i) {
        p.selection[row * p.list_capacity + at] = list[i / kPer] * kPer + i % kPer;
      });
    if (team.thread == 0) p.selected_counts[row] = keep;
    team.sync();
  }
}

#if HAS_WGMMA && !PORTABLE
template <class T, int kHead> struct HopperRefine {
  static constexpr int kTile = ihp_refine_tile(kHead, 1), kStages = ihp_refine_stages(kHead, 1);
  static constexpr int kChunks = ceilDiv(kHead, 64), kTileBytes = kTile * 128 * kChunks, kQueryBytes = 64 * 128 * kChunks;
  static constexpr int kGroups = ceilDiv(kRefineRows, 64);  // of warps that multiply
  static constexpr int kThreads = ihp_refine_threads(kRefineRows, 1) - 128;
  static constexpr int kKeysAt = kGroups * kQueryBytes, kRoomAt = kKeysAt + kStages * kTileBytes;
  static constexpr int kChunksPerTile = kTile / CHUNK_KEYS;
  struct Room {
    uint64 full[kStages], empty[kStages];
    SelectionRoom selection;
  };
  /// Where the list of survivors is (coarse.keep, up to whole tiles); then come shares [kRefineShare][coarse.keep *
  /// blocks of a chunk] and room for two tiles more.
  static constexpr int kListAt = ihp_refine_room(kHead, kRefineRows, 1) - 1024;
  static_assert(kThreads == kGroups * 128 && kRoomAt + sizeof(Room) <= kListAt, "the host reckons with it");

  static __device__ void run(const ihp_select_prefill &p, const TensorMap &keyChunks, uint32 shared, char *bytes) {
    const int kvHead = blockIdx.y;
    const int setIndex = blockIdx.x / kRefineSplit, block0 = blockIdx.x % kRefineSplit * kRefineShare;
    const ihp_query_set set = p.sets[setIndex];
    if (block0 * kBlock >= set.query_count) return;
    const long long pair = (long long)setIndex * p.kv_heads + kvHead;
    const int survivors = p.survivor_counts[pair], tiles = ceilDiv(survivors, kChunksPerTile), evenTiles = (tiles + 1) & ~1;
    Room &room = *(Room *)(bytes + kRoomAt);
    int *list = (int *)(bytes + kListAt);
    const int most = p.coarse.keep * (CHUNK_KEYS / BLOCK_KEYS);
    float *shares = (float *)(list + ceilDiv(p.coarse.keep, kChunksPerTile) * kChunksPerTile);
    const uint32 full = sharedAddress(room.full), empty = sharedAddress(room.empty);
    const int *table = p.page_table + (long long)set.sequence * p.table_stride;
    if (threadIdx.x == 0) {
      for (int i = 0; i < kStages; ++i) {
        barrierInit(full + 8 * i, 1);
        barrierInit(empty + 8 * i, kGroups);
      }
      barrierFence();
    }
    for (int i = threadIdx.x; i < tiles * kChunksPerTile; i += blockDim.x) list[i] = i < survivors ? p.survivors[pair * p.coarse.keep + i] : 1 << 30;
    for (int i = threadIdx.x; i < kRefineShare * most; i += blockDim.x) shares[i] = 0.f;
    __syncthreads();
    if (threadIdx.x < 128) {
      asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
      if (threadIdx.x >= 32) return;
      const int lane = threadIdx.x;
      int stage = 0;
      uint32 phase = 0;
      for (int i = 0; i < 2 * evenTiles; ++i) {
        const int at = i % evenTiles * kChunksPerTile + lane;
        int row = 0;
        if (lane < kChunksPerTile) {
          // Where the list is over, any chunk will do: its scores are masked.
          const int key = list[at < survivors ? at : 0] * CHUNK_KEYS;
          row = (table[key / kPage] * p.kv_heads + kvHead) * kPage + key % kPage;
        }
        barrierWait(empty + 8 * stage, phase ^ 1);
        if (lane == 0) barrierExpect(full + 8 * stage, kTileBytes);
        __syncwarp();
        if (lane < kChunksPerTile)
#pragma unroll
          for (int c = 0; c < kChunks; ++c)
            copyBox(shared + kKeysAt + stage * kTileBytes + c * kTile * 128 + lane * CHUNK_KEYS * 128, &keyChunks, c * 64, row, full + 8 * stage);
        if (++stage == kStages) { stage = 0; phase ^= 1; }
      }
      return;
    }
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    const int group = threadIdx.x / 128 - 1, thread = threadIdx.x % 128, warp = thread / 32;
    const uint32 query = shared + group * kQueryBytes;
    constexpr int kRowChunks = kHead / 8;
    for (int i = thread; i < 64 * kRowChunks; i += 128) {
      const int row = i / kRowChunks, chunk = i % kRowChunks;
      uint4 v = make_uint4(0, 0, 0, 0);
      if (group * 64 + row < kRefineRows)
        v = *(const uint4 *)((const T *)p.fine_queries + (pair * SHARE * kFineRows + block0 * kFineRows + group * 64 + row) * kHead + chunk * 8);
      *(uint4 *)(bytes + group * kQueryBytes + (chunk / 8) * 64 * 128 + swizzled(row, chunk % 8)) = v;
    }
    fenceForAsyncProxy();
    namedSync(4 + group, 128);

    const int row0 = group * 64 + warp * 16, block = row0 / kFineRows;
    const int last = block < kRefineShare ? lastBlock(set, block0 + block, p) : -1;
    const float scaleLog2 = SOFT_CAP ? kLog2E : p.scale * kLog2E;
    RefineRows<kTile> rows;
    float s[2][kTile / 2];
    int loadStage = 0, freeStage = 0;
    uint32 loadPhase = 0;
    auto multiply = [&](float(&to)[kTile / 2]) {
      barrierWait(full + 8 * loadStage, loadPhase);
      const uint32 keys = shared + kKeysAt + loadStage * kTileBytes;
      pin(to);
      wgmmaFence();
#pragma unroll
      for (int step = 0; step < kHead / 16; ++step) {
        const uint32 inside = (step % 4) * 32;
        WgmmaSS<T, kTile>::run(to, tileDescriptor(query + (step / 4) * 64 * 128 + inside, 16, 1024),
                               tileDescriptor(keys + (step / 4) * kTile * 128 + inside, 16, 1024), step > 0);
      }
      wgmmaCommit();
      if (++loadStage == kStages) { loadStage = 0; loadPhase ^= 1; }
    };
    auto release = [&] {
      if (thread == 0) barrierArrive(empty + 8 * freeStage);
      if (++freeStage == kStages) freeStage = 0;
    };
    // Two tiles at a time: the second is multiplied beside what is done with the first, and the other warpgroup's
    // beside both.
    auto prepare = [&](float(&x)[kTile / 2], int tile) {
      pin(x);
      release();
      rows.cap(x, p);
      rows.mask(x, list + tile * kChunksPerTile, survivors - tile * kChunksPerTile, last);
    };
    for (int tile = 0; tile < tiles; tile += 2) {
      multiply(s[0]);
      multiply(s[1]);
      wgmmaWait<1>();
      prepare(s[0], tile);
      rows.first(s[0], scaleLog2);
      wgmmaWait<0>();
      prepare(s[1], tile + 1);
      rows.first(s[1], scaleLog2);
    }
    rows.between(row0, scaleLog2, set.query_count - (block0 + block) * kBlock);
    float *mine = shares + min(block, kRefineShare - 1) * most;
    for (int tile = 0; tile < tiles; tile += 2) {
      multiply(s[0]);
      multiply(s[1]);
      wgmmaWait<1>();
      prepare(s[0], tile);
      rows.second(s[0], scaleLog2, mine + tile * (kTile / BLOCK_KEYS));
      wgmmaWait<0>();
      prepare(s[1], tile + 1);
      rows.second(s[1], scaleLog2, mine + (tile + 1) * (kTile / BLOCK_KEYS));
    }
    namedSync(6, kThreads);
    takeBest(p, set, block0, kvHead, list, survivors, (uint32 *)shares, most, room.selection, Team<kThreads, 6>{(int)threadIdx.x - 128});
  }
};

/// Grid (sets * kRefineSplit, kvHeads), 128 threads more than rows need.
extern "C" __global__ void __launch_bounds__(HopperRefine<ELEMENT, HEAD_SIZE>::kThreads + 128, 1)
    refineSets(const __grid_constant__ ihp_select_prefill p, const __grid_constant__ TensorMap keyChunks) {
  using Kernel = HopperRefine<ELEMENT, HEAD_SIZE>;
  extern __shared__ char raw[];
  const uint32 start = sharedAddress(raw), shared = (start + 1023) & ~1023u;
  waitForPreviousKernel();
  letNextKernelStart();
  Kernel::run(p, keyChunks, shared, raw + (shared - start));
}

#else
template <class T, int kHead> struct PortableRefine {
  static constexpr int kTile = 64, kThreads = kRefineRows * 2;
  static constexpr int kChunks = ceilDiv(kHead, 64), kTileBytes = kTile * 128 * kChunks, kQueryBytes = kRefineRows * 128 * kChunks;
  static constexpr int kKeysAt = kQueryBytes, kRoomAt = kKeysAt + 2 * kTileBytes;
  static constexpr int kChunksPerTile = kTile / CHUNK_KEYS, kRowChunks = kHead / 8;
  struct Room { SelectionRoom selection; };
  static constexpr int kListAt = ihp_refine_room(kHead, kRefineRows, 0) - 1024;
  static_assert(kThreads == ihp_refine_threads(kRefineRows, 0) && kTile == ihp_refine_tile(kHead, 0) &&
                    kRoomAt + sizeof(Room) <= kListAt, "the host reckons with it");

  static __device__ void run(const ihp_select_prefill &p, uint32 shared, char *bytes) {
    const int kvHead = blockIdx.y, thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const int setIndex = blockIdx.x / kRefineSplit, block0 = blockIdx.x % kRefineSplit * kRefineShare;
    const ihp_query_set set = p.sets[setIndex];
    if (block0 * kBlock >= set.query_count) return;
    const long long pair = (long long)setIndex * p.kv_heads + kvHead;
    const int survivors = p.survivor_counts[pair], tiles = ceilDiv(survivors, kChunksPerTile);
    Room &room = *(Room *)(bytes + kRoomAt);
    int *list = (int *)(bytes + kListAt);
    const int most = p.coarse.keep * (CHUNK_KEYS / BLOCK_KEYS);
    float *shares = (float *)(list + ceilDiv(p.coarse.keep, kChunksPerTile) * kChunksPerTile);
    const int *table = p.page_table + (long long)set.sequence * p.table_stride;
    for (int i = thread; i < tiles * kChunksPerTile; i += kThreads) list[i] = i < survivors ? p.survivors[pair * p.coarse.keep + i] : 1 << 30;
    for (int i = thread; i < kRefineShare * most; i += kThreads) shares[i] = 0.f;
    for (int i = thread; i < kRefineRows * kRowChunks; i += kThreads) {
      const int row = i / kRowChunks, chunk = i % kRowChunks;
      *(uint4 *)(bytes + (chunk / 8) * kRefineRows * 128 + swizzled(row, chunk % 8)) =
          *(const uint4 *)((const T *)p.fine_queries + (pair * SHARE * kFineRows + block0 * kFineRows + row) * kHead + chunk * 8);
    }
    __syncthreads();
    const int row0 = warp * 16, block = row0 / kFineRows, last = lastBlock(set, block0 + block, p);
    const float scaleLog2 = SOFT_CAP ? kLog2E : p.scale * kLog2E;
    auto fetch = [&](int i) {
      const int tile = i < tiles ? i : i - tiles;
      for (int j = thread; j < kTile * kRowChunks; j += kThreads) {
        const int row = j / kRowChunks, column = j % kRowChunks, chunk = list[tile * kChunksPerTile + row / CHUNK_KEYS];
        const int key = (chunk == 1 << 30 ? list[0] : chunk) * CHUNK_KEYS + row % CHUNK_KEYS;
        const long long from = ((long long)table[key / kPage] * p.kv_heads + kvHead) * kPage + key % kPage;
        copyAsync16(shared + kKeysAt + (i & 1) * kTileBytes + (column / 8) * kTile * 128 + swizzled(row, column % 8), (const T *)p.keys + from * kHead + column * 8);
      }
      copyAsyncCommit();
    };
    RefineRows<kTile> rows;
    if (tiles > 0) fetch(0);
    for (int i = 0; i < 2 * tiles; ++i) {
      copyAsyncWait<0>();
      __syncthreads();
      if (i + 1 < 2 * tiles) fetch(i + 1);
      const uint32 keys = shared + kKeysAt + (i & 1) * kTileBytes;
      const int tile = i < tiles ? i : i - tiles;
      float s[kTile / 2];
#pragma unroll
      for (int j = 0; j < kTile / 2; ++j) s[j] = 0.f;
#pragma unroll
      for (int step = 0; step < kHead / 16; ++step) {
        uint32 a[4];
        const int part = step / 4, inside = (step % 4) * 2;
        loadMatrices(a, shared + part * kRefineRows * 128 + swizzled(row0 + lane % 16, inside + lane / 16));
#pragma unroll
        for (int j = 0; j < kTile / 16; ++j) {
          uint32 b[4];
          loadMatrices(b, keys + part * kTile * 128 + swizzled(16 * j + lane % 8 + (lane / 16) * 8, inside + (lane / 8) % 2));
          Mma<T>::run(*(float(*)[4]) & s[8 * j], a[0], a[1], a[2], a[3], b[0], b[1]);
          Mma<T>::run(*(float(*)[4]) & s[8 * j + 4], a[0], a[1], a[2], a[3], b[2], b[3]);
        }
      }
      if (i == tiles) rows.between(row0, scaleLog2, set.query_count - (block0 + block) * kBlock);
      rows.cap(s, p);
      rows.mask(s, list + tile * kChunksPerTile, survivors - tile * kChunksPerTile, last);
      if (i < tiles) rows.first(s, scaleLog2);
      else rows.second(s, scaleLog2, shares + block * most + tile * (kTile / BLOCK_KEYS));
    }
    __syncthreads();
    takeBest(p, set, block0, kvHead, list, survivors, (uint32 *)shares, most, room.selection, Team<kThreads, 0>{thread});
  }
};

extern "C" __global__ void __launch_bounds__(PortableRefine<ELEMENT, HEAD_SIZE>::kThreads, 1)
    refineSets(const __grid_constant__ ihp_select_prefill p, const __grid_constant__ TensorMap) {
  extern __shared__ char raw[];
  const uint32 start = sharedAddress(raw), shared = (start + 1023) & ~1023u;
  waitForPreviousKernel();
  letNextKernelStart();
  PortableRefine<ELEMENT, HEAD_SIZE>::run(p, shared, raw + (shared - start));
}
#endif
