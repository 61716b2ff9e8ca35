// SPDX-License-Identifier: Apache-2.0
// What the plain kernels are launched with: one text for the compiler of the host, for Swift and for NVRTC.
#ifndef IHP_PLAIN_PARAMETERS_H
#define IHP_PLAIN_PARAMETERS_H

#include "ihp_kernel_parameters.h"

/// Position schemes, in the order of `PositionScheme`.
enum {
  IHP_PLAIN_RELATIVE,
  IHP_PLAIN_CHUNK_INDEXED,
  IHP_PLAIN_INFLLM,
  IHP_PLAIN_SELF_EXTEND,
  IHP_PLAIN_DYNAMIC,
  IHP_PLAIN_STREAMING,
  IHP_PLAIN_SPREAD,
  IHP_PLAIN_ABSOLUTE,
};

/// Which keys are reached, in the order of `AttendCall.Reach`.
enum { IHP_PLAIN_DENSE_REACH, IHP_PLAIN_STREAMING_REACH, IHP_PLAIN_SELECTED_REACH, IHP_PLAIN_KEPT_REACH };

/// How chunks are scored, in the order of `ChunkEstimate`.
enum { IHP_PLAIN_HALVING, IHP_PLAIN_MEANS, IHP_PLAIN_EXACT, IHP_PLAIN_FOUR_BIT, IHP_PLAIN_TREE };

/// What `plain_score` and `score_tiles` compute.
enum {
  /// The logarithm of each query's mass over the chunks of a thread block, in two numbers.
  IHP_PLAIN_MASSES,
  /// Each chunk's shares of those masses, added up.
  IHP_PLAIN_SHARES,
  /// The largest score of any query.
  IHP_PLAIN_MAXIMA,
};

/// Rows of `plain_attend` and `plain_score` that a thread block has at a time, and keys or chunks.
enum { IHP_PLAIN_ATTEND_ROWS = 16, IHP_PLAIN_SCORE_ROWS = 64, IHP_PLAIN_COLUMNS = 32 };

/// Keys of whole chunks that a thread block of `score_tiles` has.
enum { IHP_PLAIN_RUN_KEYS = 512 };

/// New keys and values of one sequence; `plain_append`.
typedef struct {
  /// `[rows, heads * head_size]`, reordered in place; null: none.
  IHP_DEVICE(void) queries;
  /// `[rows, kv_heads * head_size]`.
  IHP_DEVICE(const void) new_keys;
  IHP_DEVICE(const void) new_values;
  /// Pools of the layer: `[page][kv_head][64][head_size]`.
  IHP_DEVICE(void) keys;
  IHP_DEVICE(void) values;
  /// The sequence's pages, by place.
  IHP_DEVICE(const int) pages;
  /// A count, then pairs of a row and a layer: as many of the rows that are not finite as they are stored as
  /// there is room for.
  IHP_DEVICE(int) faults;
  int fault_capacity;
  int heads, kv_heads, head_size;
  /// Pairs of elements that are brought from neighbours to halves; 0: nothing is reordered.
  int interleaved_pairs;
  int rows, start;
  /// What faults call the first row, and the layer.
  int first_row, layer;
} ihp_plain_append;

/// Queries of consecutive tokens of one sequence, and the keys up to the last of them.
typedef struct {
  /// `[rows, heads * head_size]`, neither rotated nor scaled.
  IHP_DEVICE(const void) queries;
  /// Pools of the layer: `[page][kv_head][64][head_size]`, not rotated.
  IHP_DEVICE(const void) keys;
  IHP_DEVICE(const void) values;
  /// The sequence's pages, by place.
  IHP_DEVICE(const int) pages;
  /// Angles per position, `[pairs]`; null: nothing is rotated.
  IHP_DEVICE(const double) frequencies;
  /// What rotated elements of both, query and key, are multiplied by.
  double amplitude;
  /// `INT64_MAX`: not known.
  long long trained_length;
  int heads, kv_heads, head_size, pairs;
  /// Number of queries, and position of the first.
  int rows, start;
  float scale;
  /// 0: scores are not capped.
  float soft_cap;
} ihp_plain_input;

/// Attention; `plain_attend`.
typedef struct {
  ihp_plain_input input;
  /// `[rows, heads * head_size]`.
  IHP_DEVICE(void) output;
  /// A logit per head that takes part without a value; null: none.
  IHP_DEVICE(const float) sinks;
  /// `IHP_PLAIN_..._REACH`, and the scheme of selected keys.
  int reach, scheme;
  /// Queries that reach the same keys before their windows, and sets of heads that do.
  int query_block, sets;
  /// First positions, and last positions, that are reached. Dense: a window beyond all positions.
  int sink, window;
  /// Numbers of selected blocks, ascending, `[query block][owner][max_blocks]`, and how many.
  IHP_DEVICE(const int) lists;
  IHP_DEVICE(const int) counts;
  /// Positions of the sink and of each block, `[query block][owner][max_blocks + 1]`, under `spread`.
  IHP_DEVICE(const int) places;
  int owners, max_blocks, block_size;
  /// Keys that are kept, `[kv_head][kept_capacity]`, and how many.
  int kept_count, kept_capacity;
  IHP_DEVICE(const int) kept;
  /// Logarithms of the sums of each row's exponentials, `[row][head]`; null: nobody wants them.
  IHP_DEVICE(double) log_sums;
} ihp_plain_attend;

/// Rows of `attend_tiles` that a thread block has.
enum { IHP_ATTEND_TILE = 64 };

/// Attention by matrix units; `attend_tiles`, `merge_tiles`. Not for keys that are kept, nor for `IHP_PLAIN_DYNAMIC`.
typedef struct {
  ihp_plain_attend attend;
  /// Cosine and sine of each pair's angle by distance, `[turn_count][pairs][2]`, without the amplitude.
  IHP_DEVICE(const float) turns;
  /// Distances from here on are computed.
  int turn_count;
  /// Thread blocks that share the keys of the same rows (`gridDim.z` of `attend_tiles`).
  int splits;
  /// What each of them leaves of a row: its output, maximum and sum, `[tile of rows][split][IHP_ATTEND_TILE][head_size + 2]`;
  /// null: one block has all keys.
  IHP_DEVICE(float) partials;
} ihp_attend_tiles;

/// Chunks of keys, ascending: of a grid, or parts of those that a list has.
typedef struct {
  /// First positions, `[list][capacity]`; null: a grid from the sink on.
  IHP_DEVICE(const int) starts;
  /// How many of each list; null: `count`.
  IHP_DEVICE(const int) counts;
  /// The share of the mass that each list holds; null: 1.
  IHP_DEVICE(const float) held;
  /// Elements from one list to the next; 0: there is one for all.
  int capacity;
  int count;
  /// Each of the list's entries is so many chunks.
  int parts;
  /// Ranges of queries, of those that are computed, that one list serves.
  int ranges;
  /// Where the grid's chunks end: up to this length less the window; 0: of the range's own end and `grid_reach`.
  int grid_length;
} ihp_plain_list;

/// One stage of a selection, for some ranges of queries.
typedef struct {
  ihp_plain_list list;
  /// The first row of the first range, rows of a range, and how many ranges.
  int first_row, range_rows, ranges;
  /// Rows of a range's last block of queries reach to the end of a whole one.
  int query_block;
  int sink, window, pruning_window, candidate_distance;
  /// How far the grid of a range's own end reaches into its window.
  int grid_reach;
  int chunk_size, estimate, keys_per_mean, scheme;
  /// Whether shares are ranked.
  int ranks_shares;
  /// Of the halving search: whether the first key stands for a half, and whether the key that remains decides.
  int takes_first, takes_final;
  /// Whether it is the first stage, whose chunks end before the pruning window.
  int is_first;
  int query_stride, averages;
  /// Rows that a head has at most.
  int row_capacity;
  /// Sets of heads that share a selection, and that are scored apart.
  int owners, sets;
  /// Chunks that a list has at most.
  int chunk_capacity;
  /// Queries as the stage sees them, `[branch][range][head][row_capacity][head_size]`.
  IHP_DEVICE(void) rows;
  /// Maximum and sum, `[range][set][row][tile of chunks][2]`.
  IHP_DEVICE(double) partials;
  /// `[range][set][row]`.
  IHP_DEVICE(double) log_masses;
  /// `[range][set][chunk_capacity]`.
  IHP_DEVICE(double) scores;
  /// Whether scores decide; otherwise all is kept.
  int chooses;
  /// Chunks that stay, and of few: a share of those that take part, and the least; a share of 0: none.
  int keep, keep_least;
  double keep_share;
  /// `[range][owner][kept_capacity]`, ascending, and how many.
  IHP_DEVICE(int) kept;
  IHP_DEVICE(int) kept_counts;
  IHP_DEVICE(float) kept_held;
  /// The share of the mass that each of them holds; 0 where all was kept.
  IHP_DEVICE(float) kept_shares;
  /// Which ones of the list they are; null: nobody wants to know.
  IHP_DEVICE(int) kept_indices;
  int kept_capacity;
} ihp_plain_stage;

/// The tree search of HiP between its scorings, for some blocks of queries; `plain_split`.
typedef struct {
  /// First positions of the chunks that are scored, `[range][owner][2 * kept]`, and how many.
  IHP_DEVICE(int) starts;
  IHP_DEVICE(int) counts;
  /// First chunk and number of chunks of each half, `[range][owner][2 * kept][2]`: before, and after.
  IHP_DEVICE(const int) before;
  IHP_DEVICE(int) after;
  /// Which halves stay, `[range][owner][kept]`, and how many; null: the search begins.
  IHP_DEVICE(const int) indices;
  IHP_DEVICE(const int) index_counts;
  int start, first_row, range_rows;
  int sink, pruning_window, chunk_size, kept, owners;
  /// Whether the branches are to be listed instead of being halved.
  int is_last;
} ihp_plain_split;

/// Blocks that are attended to, from what the last stage keeps; `plain_finish`.
typedef struct {
  /// `[range][owner][kept_capacity]`; as the last stage has them.
  IHP_DEVICE(const int) kept;
  IHP_DEVICE(const int) kept_counts;
  IHP_DEVICE(const float) kept_shares;
  /// Ranges of queries, those that are computed, share what the stage keeps.
  int blocks_per_range;
  int kept_capacity;
  /// `[block][owner][max_blocks]`, how many, and what each holds; shares may be null.
  IHP_DEVICE(int) lists;
  IHP_DEVICE(int) counts;
  IHP_DEVICE(float) shares;
  int max_blocks, block_size, owners;
  /// Number of the first block, and blocks.
  int first_block, blocks;
  int start, query_block;
} ihp_plain_finish;

/// Positions under `spread`; `plain_spread`.
typedef struct {
  IHP_DEVICE(const int) lists;
  IHP_DEVICE(const int) counts;
  /// `[block][owner][max_blocks + 1]`.
  IHP_DEVICE(int) places;
  long long trained_length;
  int max_blocks, block_size, owners, blocks;
  int start, query_block, sink, window;
} ihp_plain_spread;

/// H2O behind the attention of a block of queries; `plain_place`, `plain_weigh`, `plain_evict`.
typedef struct {
  ihp_plain_input input;
  /// Queries as keys of that rank see them, `[head][row][head_size]`.
  IHP_DEVICE(void) rows;
  /// `[row][head]`.
  IHP_DEVICE(const double) log_sums;
  /// Keys that were kept, ascending, and what they have drawn, `[kv_head][kept_capacity]`; null: all before the block.
  IHP_DEVICE(const int) kept;
  IHP_DEVICE(const float) masses;
  /// Those and the block's, `[kv_head][capacity]`.
  IHP_DEVICE(int) keys;
  IHP_DEVICE(float) drawn;
  /// What stays of them, `[kv_head][next_capacity]`.
  IHP_DEVICE(int) next_keys;
  IHP_DEVICE(float) next_masses;
  int kept_count, kept_capacity, capacity, next_count, next_capacity;
  int recent;
} ihp_plain_evict;

#endif
