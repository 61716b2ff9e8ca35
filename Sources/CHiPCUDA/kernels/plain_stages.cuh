// SPDX-License-Identifier: Apache-2.0
// Ranges of queries and lists of chunks, as the kernels of a selection see them.
#pragma once

#include "plain.cuh"

/// Queries that share what a stage keeps.
struct Range {
  /// Rows of the input, and positions.
  int first, rows, start, end;
  /// The last key that a chunk, or what the halving search leaves of it, may begin with.
  int last_start;
  /// Keys from here on are not searched.
  int limit;
};

__device__ __forceinline__ Range range_of(const ihp_plain_input &in, const ihp_plain_stage &stage, int index) {
  Range range;
  range.first = stage.first_row + index * stage.range_rows;
  range.rows = lower(stage.range_rows, in.rows - range.first);
  range.start = in.start + range.first;
  range.end = range.start + range.rows;
  const int length = stage.list.grid_length ? stage.list.grid_length : range.end;
  range.limit = stage.is_first ? length - stage.pruning_window : 0x7fffffff;
  const int last = higher(range.start - stage.candidate_distance, 0);
  range.last_start =
      stage.estimate == IHP_PLAIN_TREE
          ? 0x7fffffff
          // The search scores the keys below the limit; the other estimates take whole chunks.
          : lower(last, stage.estimate == IHP_PLAIN_HALVING ? range.limit - 1 : range.end - stage.chunk_size);
  return range;
}

/// The chunks of a range and an owner.
struct Chunks {
  const int *starts;
  int count, parts, size, sink;
  float held;

  __device__ __forceinline__ int start(int index) const {
    if (!starts) return sink + index * size;
    return starts[index / parts] + index % parts * size;
  }

  /// Chunks at the start of the list that take part: the others lie within the window.
  __device__ __forceinline__ int active(int last_start) const {
    int low = 0, high = count;
    while (low < high) {
      const int middle = (low + high) / 2;
      if (start(middle) <= last_start)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  }
};

__device__ __forceinline__ Chunks chunks_of(const ihp_plain_input &in, const ihp_plain_stage &stage, int range, int owner) {
  const ihp_plain_list &list = stage.list;
  const int place = range / list.ranges * stage.owners + owner;
  Chunks chunks;
  chunks.size = stage.chunk_size;
  chunks.parts = list.parts;
  chunks.sink = stage.sink;
  chunks.held = list.held ? list.held[place] : 1;
  if (list.starts) {
    chunks.starts = list.starts + (Wide)place * list.capacity;
    chunks.count = (list.counts ? list.counts[place] : list.count) * list.parts;
    return chunks;
  }
  const int size = stage.chunk_size * list.parts, rows = stage.range_rows * list.ranges;
  const int end = lower(in.rows, stage.first_row + (range / list.ranges + 1) * rows);
  // A decoding step's list is reused while keys leave the window.
  const Wide length = list.grid_length ? list.grid_length : (Wide)in.start + end + stage.grid_reach;
  const Wide span = higher(0LL, length - stage.sink - stage.window);
  chunks.starts = nullptr;
  chunks.count = (int)((span + size - 1) / size) * list.parts;
  return chunks;
}
