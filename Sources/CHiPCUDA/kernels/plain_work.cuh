// SPDX-License-Identifier: Apache-2.0
// What a block of a kernel that scores chunks works on.
//
// Macros: ELEMENT, QUERY, REAL as in `plain.cuh`.
#pragma once

#include "plain_stages.cuh"

/// The score of a chunk that does not take part.
#define INACTIVE -32000.0

/// Rows that a range has of a head.
__device__ __forceinline__ int rows_per_head(const ihp_plain_stage &stage, const Range &range) {
  return (range.rows + stage.query_stride - 1) / stage.query_stride;
}

/// What a block scores: the chunks of its lanes, for a set of heads and a range of queries.
struct Work {
  Range range;
  Chunks chunks;
  int set_heads, first_head, kv_head;
  /// Rows of a head, and of all heads of the set.
  int per_head, rows;

  __device__ __forceinline__ Work(const ihp_plain_input &in, const ihp_plain_stage &stage) {
    const int set = blockIdx.y;
    range = range_of(in, stage, blockIdx.z);
    chunks = chunks_of(in, stage, blockIdx.z, set * stage.owners / stage.sets);
    set_heads = in.heads / stage.sets;
    first_head = set * set_heads;
    kv_head = first_head / (in.heads / in.kv_heads);
    per_head = rows_per_head(stage, range);
    rows = per_head * set_heads;
  }

  /// Chunks of the list that take part.
  __device__ __forceinline__ int active() const { return chunks.active(range.last_start); }

  __device__ __forceinline__ const REAL *row(
      const ihp_plain_input &in, const ihp_plain_stage &stage, int row, int branch) const {
    // Rows that do not exist are multiplied, and not used.
    const int there = row < rows ? row : 0;
    const Wide head = ((Wide)branch * gridDim.z + blockIdx.z) * in.heads + first_head + there / per_head;
    return (const REAL *)stage.rows + (head * stage.row_capacity + there % per_head) * in.head_size;
  }

  /// Where the set's rows begin in what is kept of each.
  __device__ __forceinline__ Wide first_row(const ihp_plain_stage &stage) const {
    return ((Wide)blockIdx.z * stage.sets + blockIdx.y) * set_heads * stage.row_capacity;
  }
};
