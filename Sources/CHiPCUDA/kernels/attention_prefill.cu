// SPDX-License-Identifier: Apache-2.0
// Attention of many queries: dense, sliding window, or sink + selected blocks + window.
//
// A work item is a tile of 128 rows of one key-value head. Rows are (query, head of the group), heads innermost, so
// that a key is read once for all heads that share it. A tile of rows runs over tiles of keys: first those of the
// window, from the query's own back, then the far ones (sink and selected blocks), in any order of positions.
//
//   window tiles: keys from `windowBegin` (down to a whole page) to the last query. Row p sees key i where
//                 p - window < i <= p, or i <= p and i < sink.
//   far tiles:    keys [0, min(sink, windowBegin)), and the selected blocks, of which row p sees keys i <= p - window.
//                 Only the last tiles, whose blocks reach into the first row's window, have a mask.
//
// Dense causal attention is window = infinity with no list; StreamingLLM is a list of no blocks.
//
// Hopper: one producer warp fetches key and value tiles through the block table with bulk tensor copies (a box per
// block and 128 bytes of head size), two warpgroups multiply (wgmma) and take turns, so that one's softmax runs
// beside the other's products; within a warpgroup the scores of the next tile are multiplied beside the softmax too.
// Elsewhere (sm_80, sm_100, or PORTABLE): mma.sync with copies by cp.async.
//
// Macros: ELEMENT (BFloat16, Half), HEAD_SIZE (64, 96, 128, 256), GROUP (query heads per key-value head),
// BLOCK_KEYS (keys in a selected block: 8, 16, 32, 64), SOFT_CAP (0, 1), PORTABLE (0, 1).

#include "common.cuh"
#include "wgmma.cuh"

#ifndef PINGPONG
#define PINGPONG 1
#endif
#ifndef PORTABLE
#define PORTABLE 0
#endif
#ifndef SOFT_CAP
#define SOFT_CAP 0
#endif

constexpr int kPage = 64;
constexpr int kRows = 128;

/// The keys of one work item, tile by tile.
template <int kTile> struct KeyPlan {
  int sequence, kvHead, firstPosition, lastPosition, queryCount, firstQuery;
  int windowBegin, windowTiles, sinkBlocks, farKeys, tiles;
  int maskFrom, sinkTile;  // far tiles from that one on have a mask, and the one in which the sink ends within a block
  const int *list;

  __device__ KeyPlan(const ihp_prefill &p, int index) {
    const ihp_prefill_item item = p.items[index / p.kv_heads];
    kvHead = index % p.kv_heads;
    sequence = item.sequence;
    firstQuery = item.first_query;
    queryCount = item.query_count;
    firstPosition = item.first_position;
    lastPosition = firstPosition + queryCount - 1;
    windowBegin = firstPosition < p.window ? 0 : (firstPosition - p.window + 1) & ~(kPage - 1);
    windowTiles = ceilDiv(lastPosition + 1 - windowBegin, kTile);
    const int sink = min(p.sink, windowBegin);
    sinkBlocks = ceilDiv(sink, BLOCK_KEYS);
    int blocks = sinkBlocks;
    list = nullptr;
    if (p.selected_counts && lastPosition - p.window >= p.sink) {
      const long long row = (long long)item.list_row * p.kv_heads + kvHead;
      blocks += p.selected_counts[row];
      list = p.selection + row * p.list_capacity;
    }
    farKeys = blocks * BLOCK_KEYS;
    tiles = windowTiles + ceilDiv(farKeys, kTile);
    maskFrom = farKeys / kTile;
    sinkTile = sink % BLOCK_KEYS ? sink / kTile : -1;
  }
  /// Finds where masks begin, by a warp: the blocks that reach into the first row's window are the last.
  __device__ __forceinline__ void findMasks(const ihp_prefill &p) {
    if (!list) return;
    int reaching = 0;
    for (int left = farKeys / BLOCK_KEYS - sinkBlocks; left > 0; left -= 32) {
      const int index = left - 1 - (int)threadIdx.x % 32;
      const unsigned seen = __ballot_sync(~0u, index >= 0 && list[index] * BLOCK_KEYS + BLOCK_KEYS - 1 > firstPosition - p.window);
      reaching += __popc(seen);
      if (~seen) break;
    }
    maskFrom = min(maskFrom, (farKeys - reaching * BLOCK_KEYS) / kTile);
  }
  __device__ __forceinline__ bool isWindow(int tile) const { return tile < windowTiles; }
  /// First key of a window tile; the one that holds the last query comes first.
  __device__ __forceinline__ int windowKey(int tile) const { return windowBegin + (windowTiles - 1 - tile) * kTile; }
  /// Position of far key `index`.
  __device__ __forceinline__ int farPosition(int index) const {
    int block = index / BLOCK_KEYS;
    return (block < sinkBlocks ? block : list[block - sinkBlocks]) * BLOCK_KEYS + index % BLOCK_KEYS;
  }
};

/// Scores of a row that is spread over four lanes: registers 4j, 4j + 1 belong to row l / 4 at columns 8j + 2 (l % 4)
/// and the next, 4j + 2, 4j + 3 to row l / 4 + 8.
template <int kTile>
__device__ __forceinline__ void mask(float (&s)[kTile / 2], const KeyPlan<kTile> &plan, const ihp_prefill &p,
                                     int tile, int row0) {
  const int lane = threadIdx.x % 32;
  if (plan.isWindow(tile)) {
    const int key0 = plan.windowKey(tile);
    if (key0 + kTile - 1 <= plan.firstPosition && key0 > plan.lastPosition - p.window) return;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int position = plan.firstPosition + (row0 + lane / 4 + half * 8) / GROUP;
#pragma unroll
      for (int j = 0; j < kTile / 8; ++j)
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const int key = key0 + 8 * j + 2 * (lane % 4) + c;
          const bool visible = key <= position && (key > position - p.window || key < p.sink);
          float &x = s[4 * j + 2 * half + c];
          x = visible ? x : kNegativeInfinity;
        }
    }
  } else {
    const int farTile = tile - plan.windowTiles;
    if (farTile < plan.maskFrom && farTile != plan.sinkTile) return;
    const int far0 = plan.firstPosition + (row0 + lane / 4) / GROUP - p.window, far1 = plan.firstPosition + (row0 + lane / 4 + 8) / GROUP - p.window;
#pragma unroll
    for (int j = 0; j < kTile / 8; ++j) {
      // Sinks end where the sink does, blocks where the row's window begins, and the list ends.
      const int index = farTile * kTile + 8 * j, block = index / BLOCK_KEYS;
      const bool isSink = block < plan.sinkBlocks;
      const int key = (isSink || index >= plan.farKeys ? block : plan.list[block - plan.sinkBlocks]) * BLOCK_KEYS + index % BLOCK_KEYS + 2 * (lane % 4);
      const int last0 = index >= plan.farKeys ? -1 : isSink ? p.sink - 1 : far0, last1 = index >= plan.farKeys ? -1 : isSink ? p.sink - 1 : far1;
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        if (key + c > last0) s[4 * j + c] = kNegativeInfinity;
        if (key + c > last1) s[4 * j + 2 + c] = kNegativeInfinity;
      }
    }
  }
}

/// One step of the online softmax; `factor` is what sums and outputs so far are to be multiplied by.
template <int kScores>
__device__ __forceinline__ void softmaxStep(float (&s)[kScores], float (&maximum)[2], float (&sum)[2],
                                            float (&factor)[2], float scaleLog2) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float best = maximum[half];
#pragma unroll
    for (int j = 0; j < kScores / 4; ++j) best = fmaxf(best, fmaxf(s[4 * j + 2 * half], s[4 * j + 2 * half + 1]));
    best = laneMax<4>(best);
    const float base = best == kNegativeInfinity ? 0.f : best * scaleLog2;
    factor[half] = exp2Fast(maximum[half] * scaleLog2 - base);
    maximum[half] = best;
    float total = 0.f;
#pragma unroll
    for (int j = 0; j < kScores / 4; ++j)
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float &x = s[4 * j + 2 * half + c];
        x = exp2Fast(fmaf(x, scaleLog2, -base));
        total += x;
      }
    sum[half] = sum[half] * factor[half] + total;
  }
}

template <int kScores>
__device__ __forceinline__ void softCap(float (&s)[kScores], const ihp_prefill &p) {
#if SOFT_CAP
#pragma unroll
  for (int i = 0; i < kScores; ++i) s[i] = p.soft_cap * tanhFast(s[i] * p.scale / p.soft_cap);
#endif
}

/// Sums over the lanes of a row, takes a sink logit in, and turns sums into what outputs are multiplied by.
template <int kTile>
__device__ __forceinline__ void finish(float (&maximum)[2], float (&sum)[2], const KeyPlan<kTile> &plan,
                                       const ihp_prefill &p, int row0, float scaleLog2) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = row0 + lane / 4 + half * 8;
    const int head = plan.kvHead * GROUP + row % GROUP;
    float total = laneSum<4>(sum[half]);
    const float base = maximum[half] == kNegativeInfinity ? 0.f : maximum[half] * scaleLog2;
    if (p.sink_logits) total += exp2Fast(p.sink_logits[head] * kLog2E - base);
    if (p.log_sums && lane % 4 == 0 && row / GROUP < plan.queryCount)
      p.log_sums[(long long)(plan.firstQuery + row / GROUP) * p.kv_heads * GROUP + head] =
          (base + log2Fast(total)) / kLog2E;
    sum[half] = total > 0.f ? 1.f / total : 0.f;
  }
}

#if HAS_WGMMA && !PORTABLE
// ---------------------------------------------------------------------------------------------- Hopper --

template <class T, int kHead> struct HopperPrefill {
  static constexpr int kTile = ihp_prefill_tile(kHead, 1);
  static constexpr int kStages = 2;
  static constexpr int kChunks = ceilDiv(kHead, 64);  // of 128 bytes
  static constexpr int kTileBytes = kTile * 128 * kChunks;
  static constexpr int kQueryBytes = 64 * 128 * kChunks;  // of a warpgroup

  // Shared memory, from a multiple of 1024 on.
  static constexpr int kKeysAt = 2 * kQueryBytes;
  static constexpr int kValuesAt = kKeysAt + kStages * kTileBytes;
  static constexpr int kBarriersAt = kValuesAt + kStages * kTileBytes;
  static_assert(kBarriersAt + kStages * 32 + 1024 <= ihp_prefill_room(kHead, 1), "the host reckons with it");

  // Barriers: full and empty, of keys and of values.
  static __device__ __forceinline__ uint32 barrier(uint32 shared, int kind, int stage) {
    return shared + kBarriersAt + (kind * kStages + stage) * 8;
  }
  enum { kKeysFull, kValuesFull, kKeysEmpty, kValuesEmpty };

  struct Stream {
    int stage = 0;
    uint32 phase = 0;
    __device__ __forceinline__ void next() {
      if (++stage == kStages) { stage = 0; phase ^= 1; }
    }
  };

  static __device__ __forceinline__ int itemOf(int round) {
    // Every other round backwards: long items that come first are spread evenly.
    const int place = round & 1 ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
    return round * gridDim.x + place;
  }

  static __device__ void produce(const ihp_prefill &p, const TensorMap &keyPages, const TensorMap &valuePages,
                                 const TensorMap &keyBlocks, const TensorMap &valueBlocks, uint32 shared) {
    const int lane = threadIdx.x % 32;
    Stream keys, values;
    constexpr int kMost = kTile / BLOCK_KEYS;
    constexpr int kLoads = ceilDiv(kMost, 32) < 1 ? 1 : ceilDiv(kMost, 32);
    static_assert(kLoads == 1, "one lane per block");
    const int total = p.item_count * p.kv_heads;
    for (int round = 0;; ++round) {
      if (round * (int)gridDim.x >= total) break;
      const int index = itemOf(round);
      if (index >= total) continue;
      const KeyPlan<kTile> plan(p, index);
      const int *table = p.page_table + (long long)plan.sequence * p.table_stride;
      const int lastPage = plan.lastPosition / kPage;
      // First position of a lane's block, and the row of the pool that it starts at: two loads, one after the other,
      // which is why they are begun two tiles and one tile before they are needed.
      auto locate = [&](int tile) {
        if (tile >= plan.tiles || lane >= 16) return 0;
        if (plan.isWindow(tile)) return min(plan.windowKey(tile) / kPage + lane, lastPage) * kPage;
        const int index = (tile - plan.windowTiles) * kTile + lane * BLOCK_KEYS;
        return plan.farPosition(index < plan.farKeys ? index : 0);
      };
      auto resolve = [&](int position) {
        return (table[position / kPage] * p.kv_heads + plan.kvHead) * kPage + position % kPage;
      };
      auto fetch = [&](int tile, int row, Stream &stream, int full, int empty, int at, const TensorMap &pages,
                       const TensorMap &blocks) {
        const uint32 done = barrier(shared, full, stream.stage);
        barrierWait(barrier(shared, empty, stream.stage), stream.phase ^ 1);
        if (lane == 0) barrierExpect(done, kTileBytes);
        __syncwarp();
        const uint32 to = shared + at + stream.stage * kTileBytes;
        if (plan.isWindow(tile)) {
          if (lane < kTile / kPage)
#pragma unroll
            for (int c = 0; c < kChunks; ++c)
              copyBox(to + c * kTile * 128 + lane * kPage * 128, &pages, c * 64, row, done);
        } else if (lane < kMost) {
#pragma unroll
          for (int c = 0; c < kChunks; ++c)
            copyBox(to + c * kTile * 128 + lane * BLOCK_KEYS * 128, &blocks, c * 64, row, done);
        }
        stream.next();
      };
      int row = resolve(locate(0)), nextPosition = locate(1);
      fetch(0, row, keys, kKeysFull, kKeysEmpty, kKeysAt, keyPages, keyBlocks);
      for (int tile = 0; tile < plan.tiles; ++tile) {
        const int nextRow = resolve(nextPosition);
        nextPosition = locate(tile + 2);
        if (tile + 1 < plan.tiles) fetch(tile + 1, nextRow, keys, kKeysFull, kKeysEmpty, kKeysAt, keyPages, keyBlocks);
        fetch(tile, row, values, kValuesFull, kValuesEmpty, kValuesAt, valuePages, valueBlocks);
        row = nextRow;
      }
    }
  }

  static __device__ __forceinline__ void multiplyQueryKeys(float (&s)[kTile / 2], uint32 query, uint32 keys) {
#pragma unroll
    for (int step = 0; step < kHead / 16; ++step) {
      const uint32 inside = (step % 4) * 32;
      WgmmaSS<T, kTile>::run(s, tileDescriptor(query + (step / 4) * 64 * 128 + inside, 16, 1024),
                             tileDescriptor(keys + (step / 4) * kTile * 128 + inside, 16, 1024), step > 0);
    }
    wgmmaCommit();
  }
  static __device__ __forceinline__ void multiplyWeightsValues(float (&o)[kHead / 2], const uint32 (&w)[kTile / 16][4],
                                                               uint32 values) {
#pragma unroll
    for (int step = 0; step < kTile / 16; ++step)
      WgmmaRS<T, kHead>::run(o, w[step], tileDescriptor(values + step * 2048, kTile * 128, 1024), 1);
    wgmmaCommit();
  }
  static __device__ __forceinline__ void pack(const float (&s)[kTile / 2], uint32 (&w)[kTile / 16][4]) {
#pragma unroll
    for (int step = 0; step < kTile / 16; ++step)
#pragma unroll
      for (int i = 0; i < 4; ++i) w[step][i] = Element<T>::pack(s[8 * step + 2 * i], s[8 * step + 2 * i + 1]);
  }

  static __device__ void consume(const ihp_prefill &p, uint32 shared, char *sharedBytes) {
    const int group = threadIdx.x / 128 - 1, thread = threadIdx.x % 128, lane = thread % 32, warp = thread / 32;
    const uint32 query = shared + group * kQueryBytes;
    char *queryBytes = sharedBytes + group * kQueryBytes;
    const int row0 = group * 64 + warp * 16;
    const float scaleLog2 = SOFT_CAP ? kLog2E : p.scale * kLog2E;
    const int heads = p.kv_heads * GROUP;
    const int total = p.item_count * p.kv_heads;
    Stream keys, values;
#if PINGPONG
    if (group == 1) namedArrive(2, 256);
#endif
    for (int round = 0;; ++round) {
      if (round * (int)gridDim.x >= total) break;
      const int index = itemOf(round);
      if (index >= total) continue;
      KeyPlan<kTile> plan(p, index);
      plan.findMasks(p);
      // The warpgroup's 64 rows of queries, 16 bytes a thread and step.
      constexpr int kRowChunks = kHead / 8;
#pragma unroll
      for (int i = thread; i < 64 * kRowChunks; i += 128) {
        const int row = i / kRowChunks, chunk = i % kRowChunks;
        const int tileRow = group * 64 + row, q = tileRow / GROUP;
        uint4 v = make_uint4(0, 0, 0, 0);
        if (tileRow < kRows / GROUP * GROUP && q < plan.queryCount)
          v = *(const uint4 *)((const T *)p.query +
                               ((long long)(plan.firstQuery + q) * heads + plan.kvHead * GROUP + tileRow % GROUP) * kHead +
                               chunk * 8);
        *(uint4 *)(queryBytes + (chunk / 8) * 64 * 128 + swizzled(row, chunk % 8)) = v;
      }
      fenceForAsyncProxy();
      namedSync(4 + group, 128);

      float o[kHead / 2], s[kTile / 2], maximum[2], sum[2], factor[2];
      uint32 w[kTile / 16][4];
#pragma unroll
      for (int i = 0; i < kHead / 2; ++i) o[i] = 0.f;
      maximum[0] = maximum[1] = kNegativeInfinity;
      sum[0] = sum[1] = 0.f;

      barrierWait(barrier(shared, kKeysFull, keys.stage), keys.phase);
#if PINGPONG
      namedSync(2 + group, 256);
#endif
      wgmmaFence();
      multiplyQueryKeys(s, query, shared + kKeysAt + keys.stage * kTileBytes);
#if PINGPONG
      namedArrive(3 - group, 256);
#endif
      wgmmaWait<0>();
      pin(s);
      if (thread == 0) barrierArrive(barrier(shared, kKeysEmpty, keys.stage));
      keys.next();
      softCap(s, p);
      mask(s, plan, p, 0, row0);
      softmaxStep(s, maximum, sum, factor, scaleLog2);
      pack(s, w);

      for (int tile = 1; tile < plan.tiles; ++tile) {
        barrierWait(barrier(shared, kKeysFull, keys.stage), keys.phase);
#if PINGPONG
        namedSync(2 + group, 256);
#endif
        pin(s);
        pin(o);
        wgmmaFence();
        multiplyQueryKeys(s, query, shared + kKeysAt + keys.stage * kTileBytes);
        barrierWait(barrier(shared, kValuesFull, values.stage), values.phase);
        multiplyWeightsValues(o, w, shared + kValuesAt + values.stage * kTileBytes);
#if PINGPONG
        namedArrive(3 - group, 256);
#endif
        wgmmaWait<1>();
        pin(s);
        if (thread == 0) barrierArrive(barrier(shared, kKeysEmpty, keys.stage));
        keys.next();
        softCap(s, p);
        mask(s, plan, p, tile, row0);
        softmaxStep(s, maximum, sum, factor, scaleLog2);
        wgmmaWait<0>();
        pin(o);
        if (thread == 0) barrierArrive(barrier(shared, kValuesEmpty, values.stage));
        values.next();
        pack(s, w);
#pragma unroll
        for (int i = 0; i < kHead / 2; ++i) o[i] *= factor[(i / 2) % 2];
      }
      barrierWait(barrier(shared, kValuesFull, values.stage), values.phase);
      pin(o);
      wgmmaFence();
      multiplyWeightsValues(o, w, shared + kValuesAt + values.stage * kTileBytes);
      finish(maximum, sum, plan, p, row0, scaleLog2);
      wgmmaWait<0>();
      pin(o);
      if (thread == 0) barrierArrive(barrier(shared, kValuesEmpty, values.stage));
      values.next();

      // Out by way of the queries' place, which only this warpgroup reads.
#pragma unroll
      for (int j = 0; j < kHead / 8; ++j)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int row = warp * 16 + lane / 4 + half * 8;
          *(uint32 *)(queryBytes + (j / 8) * 64 * 128 + swizzled(row, j % 8) + (lane % 4) * 4) =
              Element<T>::pack(o[4 * j + 2 * half] * sum[half], o[4 * j + 2 * half + 1] * sum[half]);
        }
      namedSync(4 + group, 128);
#pragma unroll
      for (int i = thread; i < 64 * kRowChunks; i += 128) {
        const int row = i / kRowChunks, chunk = i % kRowChunks;
        const int tileRow = group * 64 + row, q = tileRow / GROUP;
        if (tileRow < kRows / GROUP * GROUP && q < plan.queryCount)
          *(uint4 *)((T *)p.output +
                     ((long long)(plan.firstQuery + q) * heads + plan.kvHead * GROUP + tileRow % GROUP) * kHead + chunk * 8) =
              *(const uint4 *)(queryBytes + (chunk / 8) * 64 * 128 + swizzled(row, chunk % 8));
      }
      namedSync(4 + group, 128);
    }
  }
};

extern "C" __global__ void __launch_bounds__(384, 1)
    attentionPrefill(const __grid_constant__ ihp_prefill p, const __grid_constant__ TensorMap keyPages,
                     const __grid_constant__ TensorMap valuePages, const __grid_constant__ TensorMap keyBlocks,
                     const __grid_constant__ TensorMap valueBlocks) {
  using Kernel = HopperPrefill<ELEMENT, HEAD_SIZE>;
  extern __shared__ char raw[];
  const uint32 start = sharedAddress(raw), shared = (start + 1023) & ~1023u;
  char *bytes = raw + (shared - start);
  if (threadIdx.x == 0) {
    prefetchMap(&keyPages); prefetchMap(&valuePages); prefetchMap(&keyBlocks); prefetchMap(&valueBlocks);
    for (int stage = 0; stage < Kernel::kStages; ++stage) {
      barrierInit(Kernel::barrier(shared, Kernel::kKeysFull, stage), 1);
      barrierInit(Kernel::barrier(shared, Kernel::kValuesFull, stage), 1);
      barrierInit(Kernel::barrier(shared, Kernel::kKeysEmpty, stage), 2);
      barrierInit(Kernel::barrier(shared, Kernel::kValuesEmpty, stage), 2);
    }
    barrierFence();
  }
  __syncthreads();
  waitForPreviousKernel();
  letNextKernelStart();
  if (threadIdx.x < 128) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (threadIdx.x < 32) Kernel::produce(p, keyPages, valuePages, keyBlocks, valueBlocks, shared);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
    Kernel::consume(p, shared, bytes);
  }
}

#else
// -------------------------------------------------------------------------------- every tensor core --

/// 8 warps of 16 rows; tiles of keys in two stages by cp.async.
template <class T, int kHead> struct PortablePrefill {
  static constexpr int kTile = ihp_prefill_tile(kHead, 0);
  static constexpr int kThreads = 256;
  static constexpr int kChunks = ceilDiv(kHead, 64);
  static constexpr int kTileBytes = kTile * 128 * kChunks;
  static constexpr int kQueryBytes = kRows * 128 * kChunks;
  static constexpr int kKeysAt = kQueryBytes;
  static constexpr int kValuesAt = kKeysAt + 2 * kTileBytes;
  static constexpr int kRowChunks = kHead / 8;
  static_assert(kValuesAt + 2 * kTileBytes + 1024 <= ihp_prefill_room(kHead, 0), "the host reckons with it");

  static __device__ void run(const ihp_prefill &p, int index, uint32 shared, char *bytes) {
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32, row0 = warp * 16;
    KeyPlan<kTile> plan(p, index);
    plan.findMasks(p);
    const int heads = p.kv_heads * GROUP;
    const float scaleLog2 = SOFT_CAP ? kLog2E : p.scale * kLog2E;
    const int *table = p.page_table + (long long)plan.sequence * p.table_stride;

    auto fetch = [&](int tile, const void *pool, int at) {
      for (int i = thread; i < kTile * kRowChunks; i += kThreads) {
        const int row = i / kRowChunks, chunk = i % kRowChunks;
        int position;
        if (plan.isWindow(tile)) {
          position = min(plan.windowKey(tile) + row, plan.lastPosition);
        } else {
          const int index = (tile - plan.windowTiles) * kTile + row;
          position = plan.farPosition(index < plan.farKeys ? index : 0);
        }
        const long long from = ((long long)table[position / kPage] * p.kv_heads + plan.kvHead) * kPage + position % kPage;
        copyAsync16(shared + at + (tile & 1) * kTileBytes + (chunk / 8) * kTile * 128 + swizzled(row, chunk % 8),
                    (const T *)pool + from * kHead + chunk * 8);
      }
      copyAsyncCommit();
    };
    auto tileRowPointer = [&](int row) {
      return ((long long)(plan.firstQuery + row / GROUP) * heads + plan.kvHead * GROUP + row % GROUP) * kHead;
    };

    for (int i = thread; i < kRows * kRowChunks; i += kThreads) {
      const int row = i / kRowChunks, chunk = i % kRowChunks;
      uint4 v = make_uint4(0, 0, 0, 0);
      if (row < kRows / GROUP * GROUP && row / GROUP < plan.queryCount)
        v = *(const uint4 *)((const T *)p.query + tileRowPointer(row) + chunk * 8);
      *(uint4 *)(bytes + (chunk / 8) * kRows * 128 + swizzled(row, chunk % 8)) = v;
    }
    fetch(0, p.keys, kKeysAt);
    fetch(0, p.values, kValuesAt);

    float o[kHead / 2], maximum[2] = {kNegativeInfinity, kNegativeInfinity}, sum[2] = {0.f, 0.f}, factor[2];
#pragma unroll
    for (int i = 0; i < kHead / 2; ++i) o[i] = 0.f;

    for (int tile = 0; tile < plan.tiles; ++tile) {
      copyAsyncWait<0>();
      __syncthreads();
      if (tile + 1 < plan.tiles) {
        fetch(tile + 1, p.keys, kKeysAt);
        fetch(tile + 1, p.values, kValuesAt);
      }
      const uint32 keys = shared + kKeysAt + (tile & 1) * kTileBytes, values = shared + kValuesAt + (tile & 1) * kTileBytes;
      float s[kTile / 2];
#pragma unroll
      for (int i = 0; i < kTile / 2; ++i) s[i] = 0.f;
#pragma unroll
      for (int step = 0; step < kHead / 16; ++step) {
        uint32 a[4];
        const int part = (step / 4), inside = (step % 4) * 2;
        loadMatrices(a, shared + part * kRows * 128 + swizzled(row0 + lane % 16, inside + lane / 16));
#pragma unroll
        for (int j = 0; j < kTile / 16; ++j) {
          uint32 b[4];
          loadMatrices(b, keys + part * kTile * 128 + swizzled(16 * j + lane % 8 + (lane / 16) * 8, inside + (lane / 8) % 2));
          Mma<T>::run(*(float(*)[4]) & s[8 * j], a[0], a[1], a[2], a[3], b[0], b[1]);
          Mma<T>::run(*(float(*)[4]) & s[8 * j + 4], a[0], a[1], a[2], a[3], b[2], b[3]);
        }
      }
      softCap(s, p);
      mask(s, plan, p, tile, row0);
      softmaxStep(s, maximum, sum, factor, scaleLog2);
#pragma unroll
      for (int i = 0; i < kHead / 2; ++i) o[i] *= factor[(i / 2) % 2];
#pragma unroll
      for (int step = 0; step < kTile / 16; ++step) {
        uint32 a[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) a[i] = Element<T>::pack(s[8 * step + 2 * i], s[8 * step + 2 * i + 1]);
#pragma unroll
        for (int j = 0; j < kHead / 16; ++j) {
          uint32 b[4];
          loadMatricesTransposed(b, values + (j / 4) * kTile * 128 + swizzled(16 * step + lane % 16, (j % 4) * 2 + lane / 16));
          Mma<T>::run(*(float(*)[4]) & o[8 * j], a[0], a[1], a[2], a[3], b[0], b[1]);
          Mma<T>::run(*(float(*)[4]) & o[8 * j + 4], a[0], a[1], a[2], a[3], b[2], b[3]);
        }
      }
    }
    finish(maximum, sum, plan, p, row0, scaleLog2);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = row0 + lane / 4 + half * 8;
      if (row >= kRows / GROUP * GROUP || row / GROUP >= plan.queryCount) continue;
      T *to = (T *)p.output + tileRowPointer(row) + 2 * (lane % 4);
#pragma unroll
      for (int j = 0; j < kHead / 8; ++j)
        *(uint32 *)(to + 8 * j) = Element<T>::pack(o[4 * j + 2 * half] * sum[half], o[4 * j + 2 * half + 1] * sum[half]);
    }
  }
};

extern "C" __global__ void __launch_bounds__(256, 1)
    attentionPrefill(const __grid_constant__ ihp_prefill p, const __grid_constant__ TensorMap,
                     const __grid_constant__ TensorMap, const __grid_constant__ TensorMap,
                     const __grid_constant__ TensorMap) {
  using Kernel = PortablePrefill<ELEMENT, HEAD_SIZE>;
  extern __shared__ char raw[];
  const uint32 start = sharedAddress(raw), shared = (start + 1023) & ~1023u;
  waitForPreviousKernel();
  letNextKernelStart();
  for (int index = blockIdx.x; index < p.item_count * p.kv_heads; index += gridDim.x) {
    Kernel::run(p, index, shared, raw + (shared - start));
    __syncthreads();
  }
}
#endif
