// SPDX-License-Identifier: Apache-2.0
// What the kernels of attention and selection are launched with, and how much shared memory they want: one text for
// the compiler of the host, for Swift and for NVRTC.
//
// Pools of keys and of values are [page][kvHead][64][headSize]. A sequence's pages are listed in a table
// [sequence][table_stride]. Lists of selected blocks are [row][kvHead][list_capacity]: first position / keys of a block,
// ascending; a row is a sequence (decoding) or a block of 64 queries.
#ifndef IHP_ATTENTION_PARAMETERS_H
#define IHP_ATTENTION_PARAMETERS_H

#include "ihp_kernel_parameters.h"

/// New keys that are in their pages, the last ones of their sequences, and the means that they complete.
typedef struct {
  /// Pool.
  IHP_DEVICE(const void) keys;
  /// [kvHead][page][2][headSize] bytes with a sign: the mean of every 32 keys.
  IHP_DEVICE(char) means;
  /// [kvHead][page][2] bfloat16: what the means' elements are multiples of.
  IHP_DEVICE(unsigned short) mean_scales;
  IHP_DEVICE(const int) page_table;
  /// [sequence]: how many are new.
  IHP_DEVICE(const int) new_counts;
  /// [sequence], the new ones included.
  IHP_DEVICE(const int) key_counts;
  int kv_heads, table_stride, page_count;
} ihp_means;

/// Some queries of one block, for all heads of a key-value head at once.
typedef struct {
  int sequence;
  /// Row of the query tensor.
  int first_query;
  /// At most 128 / heads of a group.
  int query_count;
  /// Of the first query.
  int first_position;
  /// Row of the lists.
  int list_row;
} ihp_prefill_item;

/// Attention of many queries.
typedef struct {
  /// [tokens][heads][headSize].
  IHP_DEVICE(const void) query;
  /// The same.
  IHP_DEVICE(void) output;
  /// [tokens][heads], base e; null: not wanted.
  IHP_DEVICE(float) log_sums;
  IHP_DEVICE(const void) keys;
  IHP_DEVICE(const void) values;
  IHP_DEVICE(const int) page_table;
  IHP_DEVICE(const int) selection;
  /// [row][kvHead]; null: no lists.
  IHP_DEVICE(const int) selected_counts;
  IHP_DEVICE(const ihp_prefill_item) items;
  /// [heads]; null: none.
  IHP_DEVICE(const float) sink_logits;
  int item_count, kv_heads, table_stride, list_capacity;
  int sink, window;
  float scale, soft_cap;
} ihp_prefill;

/// Attention of one query of each sequence, its last one.
typedef struct {
  /// [sequence][heads][headSize].
  IHP_DEVICE(const void) query;
  /// The same.
  IHP_DEVICE(void) output;
  /// [sequence][heads], base e; null: not wanted.
  IHP_DEVICE(float) log_sums;
  IHP_DEVICE(const void) keys;
  IHP_DEVICE(const void) values;
  IHP_DEVICE(const int) page_table;
  /// [sequence], the query's own included.
  IHP_DEVICE(const int) key_counts;
  IHP_DEVICE(const int) selection;
  /// [sequence][kvHead]; null: no lists.
  IHP_DEVICE(const int) selected_counts;
  /// [heads]; null: none.
  IHP_DEVICE(const float) sink_logits;
  /// Scratch [sequence][kvHead][split][group][headSize + 2]: output, maximum, sum.
  IHP_DEVICE(float) partial;
  /// Scratch [sequence][kvHead], zeros; left as zeros.
  IHP_DEVICE(int) arrived;
  int kv_heads, table_stride, list_capacity;
  int sink, window;
  float scale, soft_cap;
} ihp_decode;

/// A stage of a selection: of n candidates min(keep, max(least, share n)) stay.
typedef struct {
  double share;
  /// In chunks of the stage.
  int keep, least;
  /// The last candidate begins so far before the first query that shares the stage.
  int distance;
  int padding;
} ihp_stage;

/// A selection for one query of each sequence, its last one, and attention to what it finds.
typedef struct {
  /// [sequence][heads][headSize].
  IHP_DEVICE(const void) query;
  /// The same; null: nothing is attended to.
  IHP_DEVICE(void) output;
  /// [sequence][heads], base e; null: not wanted.
  IHP_DEVICE(float) log_sums;
  IHP_DEVICE(const void) keys;
  IHP_DEVICE(const void) values;
  /// As in ihp_means.
  IHP_DEVICE(const char) means;
  IHP_DEVICE(const unsigned) mean_scales;
  IHP_DEVICE(const int) page_table;
  /// [sequence], the query's own included.
  IHP_DEVICE(const int) key_counts;
  /// Scratch [sequence][kvHead][chunk_capacity][group], base 2.
  IHP_DEVICE(float) scores;
  /// Scratch [sequence][kvHead][tile_capacity][group]: maximum, sum.
  IHP_DEVICE(float2) scan_sums;
  /// Scratch [sequence][kvHead][chunk_capacity], where shared memory is too small; null: it never is.
  IHP_DEVICE(unsigned) bins;
  /// Scratch [sequence][kvHead][coarse.keep]: chunks, ascending.
  IHP_DEVICE(int) survivors;
  /// Scratch [sequence][kvHead].
  IHP_DEVICE(int) survivor_counts;
  /// Scratch [sequence][kvHead][coarse.keep * blocks of a chunk][group], base 2.
  IHP_DEVICE(float) block_scores;
  /// Scratch [sequence][kvHead][score_splits][group]: maximum, sum.
  IHP_DEVICE(float2) block_sums;
  /// Scratch, as in ihp_decode.
  IHP_DEVICE(float) partial;
  IHP_DEVICE(int) arrived;
  /// Scratch of decodeOnce [sequence][kvHead][split][1024].
  IHP_DEVICE(unsigned) histograms;
  /// Scratch of decodeOnce [sequence][kvHead], zeros; left as zeros.
  IHP_DEVICE(int) phase;
  /// Out: lists.
  IHP_DEVICE(int) selection;
  /// Out: [sequence][kvHead].
  IHP_DEVICE(int) selected_counts;
  /// [heads]; null: none.
  IHP_DEVICE(const float) sink_logits;
  ihp_stage coarse, fine;
  int kv_heads, table_stride, page_count, list_capacity, chunk_capacity, tile_capacity, score_splits;
  /// Chunks that a block of scanSketches scans; a multiple of 128.
  int tile_chunks;
  /// Bins that a block's shared memory holds in selectChunks.
  int slice_chunks;
  int sink, window;
  float scale, soft_cap;
} ihp_select_decode;

/// Neighbouring blocks of queries that scan together.
typedef struct {
  int sequence;
  /// Row of the query tensor.
  int first_query;
  /// At most 64 * SHARE.
  int query_count;
  /// Of the first query.
  int first_position;
  /// Row of the lists: of the first block.
  int first_row;
  /// Candidates begin before it.
  int grid_end;
} ihp_query_set;

/// A selection for blocks of 64 queries.
typedef struct {
  /// [tokens][heads][headSize].
  IHP_DEVICE(const void) query;
  /// Scratch [set][means of a set][heads][headSize]: mean queries.
  IHP_DEVICE(float) scan_queries;
  /// Scratch [set][kvHead][SHARE * rows of a block][headSize]: queries that score keys.
  IHP_DEVICE(void) fine_queries;
  IHP_DEVICE(const void) keys;
  /// As in ihp_means.
  IHP_DEVICE(const char) means;
  IHP_DEVICE(const unsigned) mean_scales;
  IHP_DEVICE(const int) page_table;
  IHP_DEVICE(const ihp_query_set) sets;
  /// Scratch [set][kvHead][chunk_capacity], where shared memory is too small; null: it never is.
  IHP_DEVICE(unsigned) bins;
  /// Scratch [set][kvHead][coarse.keep]: chunks, ascending.
  IHP_DEVICE(int) survivors;
  /// Scratch [set][kvHead].
  IHP_DEVICE(int) survivor_counts;
  /// Out: lists.
  IHP_DEVICE(int) selection;
  /// Out: [row][kvHead].
  IHP_DEVICE(int) selected_counts;
  ihp_stage coarse, fine;
  int set_count, kv_heads, table_stride, page_count, list_capacity, chunk_capacity;
  /// Bins that shared memory holds.
  int slice_chunks;
  int sink;
  float scale, soft_cap;
} ihp_select_prefill;

// Shared memory: bytes that kernels have before what depends on the length of lists. The kernels assert them.

#ifdef __CUDACC_RTC__
#define IHP_CONSTANT_FUNCTION constexpr
#else
#define IHP_CONSTANT_FUNCTION static inline
#endif

IHP_CONSTANT_FUNCTION int ihp_round_up(int value, int step) { return (value + step - 1) / step * step; }
IHP_CONSTANT_FUNCTION int ihp_larger(int a, int b) { return a > b ? a : b; }

/// A histogram of 4096 bins, and sums of 32 warps.
#define IHP_SELECTION_ROOM (4 * 4096 + 2 * 4 * 32 + 16)
/// Bins of the histograms of decodeOnce.
#define IHP_ONCE_BINS 1024

/// Columns of queries in bytes: two of each row.
IHP_CONSTANT_FUNCTION int ihp_query_columns(int rows) { return ihp_round_up(2 * rows, 8); }
/// Bytes of such queries.
IHP_CONSTANT_FUNCTION int ihp_query_bytes(int head_size, int rows) {
  return ihp_round_up(ihp_query_columns(rows) * head_size + 2 * ihp_query_columns(rows), 16);
}

/// selectChunks and attendSelected.
IHP_CONSTANT_FUNCTION int ihp_select_room(int group) { return ihp_round_up(IHP_SELECTION_ROOM + 4 * group, 16); }

/// Warps of a block of decodeOnce.
IHP_CONSTANT_FUNCTION int ihp_once_warps(int head_size) { return head_size > 128 ? 8 : 16; }
/// decodeOnce.
IHP_CONSTANT_FUNCTION int ihp_once_room(int head_size, int group) {
  return ihp_select_room(group) + 8 * ihp_once_warps(head_size) * ihp_larger(ihp_query_columns(group) / 2, group) +
         ihp_query_bytes(head_size, group) + 16;
}

/// Threads of scanForSets.
IHP_CONSTANT_FUNCTION int ihp_scan_threads(int head_size) { return head_size > 128 ? 256 : 512; }
/// scanForSets, by the rows of mean queries that a set has for a key-value head.
IHP_CONSTANT_FUNCTION int ihp_scan_room(int head_size, int rows) {
  return IHP_SELECTION_ROOM + 16 + ihp_query_bytes(head_size, rows) +
         (ihp_scan_threads(head_size) / 32 * 8 + 4) * (ihp_query_columns(rows) / 2) + 16;
}

/// Rows of a block's queries that score keys, in multiples of what a product has: 32 or 64.
IHP_CONSTANT_FUNCTION int ihp_fine_rows(int group, int stride) { return ihp_round_up(64 / stride * group, 32); }
/// Blocks of queries that a block of refineSets has: 128 rows at most.
IHP_CONSTANT_FUNCTION int ihp_refine_share(int share, int fine_rows) {
  return share * fine_rows > 128 ? 128 / fine_rows : share;
}
/// Keys of a tile of refineSets.
IHP_CONSTANT_FUNCTION int ihp_refine_tile(int head_size, int hopper) { return hopper && head_size <= 128 ? 128 : 64; }
/// Tiles of keys that it holds.
IHP_CONSTANT_FUNCTION int ihp_refine_stages(int head_size, int hopper) { return !hopper ? 2 : head_size > 128 ? 3 : 4; }
/// Its threads, by its rows.
IHP_CONSTANT_FUNCTION int ihp_refine_threads(int rows, int hopper) {
  return hopper ? 128 * ((rows + 63) / 64 + 1) : 2 * rows;
}
/// Bytes of rows of 128 bytes that hold a head.
IHP_CONSTANT_FUNCTION int ihp_tile_bytes(int rows, int head_size) { return rows * 128 * ((head_size + 63) / 64); }
/// refineSets.
IHP_CONSTANT_FUNCTION int ihp_refine_room(int head_size, int rows, int hopper) {
  return ihp_tile_bytes(hopper ? ihp_round_up(rows, 64) : rows, head_size) +
         ihp_refine_stages(head_size, hopper) * ihp_tile_bytes(ihp_refine_tile(head_size, hopper), head_size) +
         ihp_round_up(IHP_SELECTION_ROOM + 64, 16) + 1024;
}

/// Keys of a tile of attentionPrefill.
IHP_CONSTANT_FUNCTION int ihp_prefill_tile(int head_size, int hopper) {
  return head_size == 256 ? (hopper ? 64 : 32) : hopper ? 128 : 64;
}
/// attentionPrefill, all of it: queries, two tiles of keys and two of values, barriers, and what aligning takes.
IHP_CONSTANT_FUNCTION int ihp_prefill_room(int head_size, int hopper) {
  return ihp_tile_bytes(128, head_size) + 4 * ihp_tile_bytes(ihp_prefill_tile(head_size, hopper), head_size) + 128 + 1024;
}

#endif
