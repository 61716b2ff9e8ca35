// SPDX-License-Identifier: Apache-2.0
// Attention of one query per sequence (decode), split over keys: dense, or sink + selected blocks + window.
//
// Grid (splits, kvHeads, sequences). The keys that a query attends to are numbered as runs of 8 ("octets"): sink,
// selected blocks, window. A split takes a contiguous share of them, its warps take 16 keys at a time. Keys and
// values go from device memory straight into the registers of mma.sync, with no stop in shared memory: a lane loads
// 16 bytes, and head dimensions (for keys) and output columns (for values) are numbered so that these bytes are its
// matrix fragments. All heads of a group share a load. The last split of a sequence and head to finish merges all.
//
// Macros: ELEMENT, HEAD_SIZE (64, 96, 128, 256), GROUP (1 to 16), BLOCK_KEYS (8, 16, 32, 64), SOFT_CAP.

#include "decode_core.cuh"

#ifndef WARPS
#define WARPS 8
#endif
#ifndef BLOCKS_PER_SM
#define BLOCKS_PER_SM (HEAD_SIZE > 128 ? 1 : 2)
#endif

constexpr int kWarps = WARPS;

template <class T, int kHead> struct Decode {
  static constexpr int kOctets = 512;  // looked up at a time

  static __device__ void run(const ihp_decode &p, char *shared) {
    const int thread = threadIdx.x, warp = thread / 32;
    const int kvHead = blockIdx.y, sequence = blockIdx.z, heads = p.kv_heads * GROUP;
    const int listRow = sequence * p.kv_heads + kvHead;
    const DecodePlan plan(p.key_counts[sequence], p.sink, p.window, p.selection + (long long)listRow * p.list_capacity,
                          p.selected_counts ? p.selected_counts[listRow] : 0);
    const int *table = p.page_table + (long long)sequence * p.table_stride;
    const int groups = ceilDiv(plan.octets, 2), perSplit = ceilDiv(groups, (int)gridDim.x);
    const int firstGroup = blockIdx.x * perSplit, lastGroup = min(groups, firstGroup + perSplit);
    const float scaleLog2 = SOFT_CAP ? kLog2E : p.scale * kLog2E;
    OctetRow *rows = (OctetRow *)shared;

    QueryHeads<T, kHead> heads16;
    heads16.load((const T *)p.query + ((long long)sequence * heads + kvHead * GROUP) * kHead);
    heads16.clear();
    for (int start = firstGroup; start < lastGroup; start += kOctets / 2) {
      const int here = min(kOctets, 2 * (lastGroup - start));
      if (start != firstGroup) __syncthreads();
      for (int i = thread; i < here; i += kWarps * 32) {
        const int3 octet = plan.octet(2 * start + i);
        rows[i] = {(table[octet.x / kPage] * p.kv_heads + kvHead) * kPage + octet.x % kPage, octet.y | octet.z << 8};
      }
      __syncthreads();
      for (int group = warp; group < here / 2; group += kWarps) {
        const OctetRow octets[2] = {rows[2 * group], rows[2 * group + 1]};
        heads16.attend(octets, (const T *)p.keys, (const T *)p.values, p.scale, p.soft_cap, scaleLog2);
      }
    }

    heads16.template finish<kWarps>(shared, {p.partial, p.arrived, p.output, p.log_sums, p.sink_logits}, listRow, kvHead, scaleLog2);
  }
};

extern "C" __global__ void __launch_bounds__(kWarps * 32, BLOCKS_PER_SM)
    attentionDecode(const __grid_constant__ ihp_decode p) {
  extern __shared__ __align__(16) char shared[];
  waitForPreviousKernel();
  letNextKernelStart();
  Decode<ELEMENT, HEAD_SIZE>::run(p, shared);
}
