// SPDX-License-Identifier: Apache-2.0
// Shares of keys in 8 bits on matrix units (AMX-INT8): scores become weights without a place in memory between.

/// Blocks of queries whose weights are summed up together.
#define SHARE_BLOCKS 2

/// Weights are not less than this, which is nothing beside others: bits of numbers that stay normal in products.
#define LEAST_WEIGHT (24.0f * 8388608.0f)
/// Weights are less than 2^73 times that of the score that they are relative to, so that no sum of them is too large
/// for a float.
#define MOST_WEIGHT (200.0f * 8388608.0f)

/// A query on its way over the keys.
typedef struct share_row {
  /// Sum of the weights since the origin was chosen, by lanes.
  vec sum;
  /// What a weight's bits gain by one of a score, and what they are for a score of zero.
  float slope, origin;
  /// What scores are multiplied by in the end; the greatest of the tile that the origin is chosen by, and that tile.
  float scale, best;
  uint32_t since;
} share_row;

/// Which folded columns count: vectors of weights that stand side by side.
typedef struct share_counts {
  __mmask16 lanes[2];
} share_counts;

/// The greatest of up to 64 scores, of columns of which `fold` make a weight.
INLINE float greatest_score(const vec scores[4], const int fold, share_counts counts) {
  vec best = -INFINITY;
  for (int v = 0; v < 4; v++)
    best = __builtin_elementwise_max(
        best, (vec)_mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), counts.lanes[v % (4 / fold)], (__m512)scores[v]));
  return max_lanes(best);
}

/// Notes what weights are relative to in the tiles before `tile`, and their sum with the last of these.
INLINE void end_weights(const share_row *state, size_t row, size_t rows, size_t tile, float *maximum, float *sum) {
  for (size_t t = state->since; t < tile; t++) maximum[t * rows + row] = state->best;
  if (tile > 0) sum[(tile - 1) * rows + row] = sum_lanes(state->sum);
}

/// Where the shares of all rows go.
typedef struct share_places {
  uint8_t *weights;
  float *maximum, *sum;
  size_t rows;
} share_places;

/// Weights of tile `t` for `height` rows from `first` on; bits of what is scored, then of their exponentials.
INLINE void weigh_block(const int32_t *whole, const float *scales, size_t t, size_t first, size_t height, const int fold,
                        share_counts counts, share_row *states, const share_places *to) {
  const int vectors = 4 / fold;
  const vec scale[4] = {load(scales), load(scales + LANES), load(scales + 2 * LANES), load(scales + 3 * LANES)};
  uint8_t *out = to->weights + (t * to->rows + first) * (size_t)vectors * TILE_SIDE * WEIGHT_BYTES;
  for (size_t r = 0; r < height; r++) {
    share_row *state = states + r;
    vec score[4], bits[4], most = LEAST_WEIGHT;
#pragma clang loop unroll(full)
    for (int v = 0; v < 4; v++) {
      ivec products;
      memcpy(&products, whole + r * IHP_PANEL + v * LANES, sizeof products);
      score[v] = __builtin_convertvector(products, vec) * scale[v];
      bits[v] = fused(score[v], (vec)state->slope, (vec)state->origin);
      most = __builtin_elementwise_max(most, bits[v]);
    }
    // Weights are relative to the greatest score of an earlier tile, until one would be too large for a float.
    if (__builtin_expect(_mm512_cmp_ps_mask((__m512)most, _mm512_set1_ps(MOST_WEIGHT), _CMP_NLT_UQ) != 0, 0)) {
      end_weights(state, first + r, to->rows, t, to->maximum, to->sum);
      const float best = greatest_score(score, fold, counts);
      state->sum = 0.0f;
      state->origin = 127.0f * 8388608.0f - 366393.0f - best * state->slope;
      state->best = best * state->scale;
      state->since = (uint32_t)t;
      for (int v = 0; v < 4; v++) bits[v] = fused(score[v], (vec)state->slope, (vec)state->origin);
    }
    vec weight[2] = {0.0f, 0.0f};
#pragma clang loop unroll(full)
    for (int v = 0; v < 4; v++) weight[v % vectors] += (vec)nearest(__builtin_elementwise_max(bits[v], (vec)LEAST_WEIGHT));
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      weight[v] = (vec)_mm512_maskz_mov_ps(counts.lanes[v], (__m512)weight[v]);
      state->sum += weight[v];
      STORE_WEIGHT(weight[v], out + (r * (size_t)vectors + (size_t)v) * TILE_SIDE * WEIGHT_BYTES);
    }
  }
}

/// Where the columns of tiles come from: panels of keys, or groups of means, which are put side by side on the way.
typedef struct share_columns {
  const uint8_t *panels;
  const ihp_rows *groups;
  const int32_t *firsts;
  size_t known, tiles, head_size;
} share_columns;

/// The panel of a tile; `room` has space for one.
INLINE const uint8_t *share_panel(const share_columns *from, size_t t, uint8_t *room) {
  const size_t head_size = from->head_size;
  if (from->panels) {
    const size_t bytes = coarse_panel_bytes(head_size);
    const uint8_t *panel = from->panels + t * bytes;
    if (t + PANELS_AHEAD < from->tiles)
      for (size_t line = 0; line < bytes; line += CACHE_LINE) __builtin_prefetch(panel + PANELS_AHEAD * bytes + line);
    return panel;
  }
  pack_means(from->groups, from->firsts, t * PANEL_GROUPS, from->known, head_size, room);
  return room;
}

INLINE void share_tiles_of(const share_columns *from, const float *queries, size_t rows, size_t columns, const int fold,
                           void *weights, float *maximum, float *sum) {
  const size_t head_size = from->head_size;
  const size_t tiles = from->tiles, blocks = (rows + SCORE_BLOCK - 1) / SCORE_BLOCK;
  tile_queries loaded[SHARE_BLOCKS];
  share_row states[SHARE_BLOCKS * SCORE_BLOCK];
  int32_t whole[2][SCORE_BLOCK * IHP_PANEL] __attribute__((aligned(64)));
  uint8_t rooms[2][IHP_HEAD_SIZE * IHP_PANEL + IHP_PANEL * sizeof(float)] __attribute__((aligned(64)));
  const share_places places = {weights, maximum, sum, rows};
  memset(sum, 0, tiles * rows * sizeof(float));
  for (size_t b = 0; b < blocks; b++)
    load_queries(queries + b * SCORE_BLOCK * (head_size + QUERY_HEADER),
                 rows - b * SCORE_BLOCK < SCORE_BLOCK ? rows - b * SCORE_BLOCK : SCORE_BLOCK, head_size, loaded + b);
  for (size_t r = 0; r < rows; r++) {
    const float scale = queries[r * (head_size + QUERY_HEADER)];
    // The first tile finds its weights too large.
    states[r] = (share_row){.slope = scale * (1.44269504f * 8388608.0f), .origin = INFINITY, .scale = scale};
  }
  use_tiles();
  const uint8_t *panel = share_panel(from, 0, rooms[0]), *following = panel;
  whole_scores(loaded, head_size, (const uint32_t *)panel, whole[0]);
  for (size_t unit = 0; unit < tiles * blocks; unit++) {
    const size_t t = unit / blocks, b = unit % blocks, next = unit + 1;
    // Matrix units are a block ahead of what is made of their products.
    if (next < tiles * blocks) {
      if (next % blocks == 0) following = share_panel(from, next / blocks, rooms[next / blocks % 2]);
      whole_scores(loaded + next % blocks, head_size, (const uint32_t *)following, whole[next % 2]);
    }
    const size_t count = (columns - t * IHP_PANEL < IHP_PANEL ? columns - t * IHP_PANEL : IHP_PANEL) / (size_t)fold;
    const size_t row = b * SCORE_BLOCK, height = rows - row < SCORE_BLOCK ? rows - row : SCORE_BLOCK;
    const uint32_t lanes = (uint32_t)(((uint64_t)1 << count) - 1);
    weigh_block(whole[unit % 2], (const float *)(panel + head_size * IHP_PANEL), t, row, height, fold,
                (share_counts){{(__mmask16)lanes, (__mmask16)(lanes >> TILE_SIDE)}}, states + row, &places);
    panel = following;
  }
  for (size_t r = 0; r < rows; r++) end_weights(states + r, r, rows, tiles, maximum, sum);
}

static void share_keys(const void *panels, size_t head_size, const float *queries, size_t rows, size_t columns,
                       size_t fold, float *scores, void *weights, float *maximum, float *sum) {
  if (fold != 4 || head_size % 64 != 0 || rows > SHARE_BLOCKS * SCORE_BLOCK) {
    share_tiles(panels, head_size, queries, rows, columns, fold, scores, weights, maximum, sum);
    return;
  }
  const share_columns keys = {.panels = panels, .tiles = (columns + IHP_PANEL - 1) / IHP_PANEL, .head_size = head_size};
  share_tiles_of(&keys, queries, rows, columns, 4, weights, maximum, sum);
}

static void share_means(const ihp_rows *groups, const int32_t *firsts, size_t known, size_t head_size, const float *queries,
                        size_t rows, size_t columns, float *scores, void *weights, float *maximum, float *sum) {
  if (head_size % 64 != 0 || rows > SHARE_BLOCKS * SCORE_BLOCK) {
    share_groups(groups, firsts, known, head_size, queries, rows, columns, scores, weights, maximum, sum);
    return;
  }
  const share_columns means = {
      .groups = groups, .firsts = firsts, .known = known, .tiles = (columns + IHP_PANEL - 1) / IHP_PANEL, .head_size = head_size};
  share_tiles_of(&means, queries, rows, columns, 2, weights, maximum, sum);
}
