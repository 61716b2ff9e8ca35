// SPDX-License-Identifier: Apache-2.0
// Shares of keys in 8 bits on matrix units (AMX-INT8): scores become weights without a place in memory between.

/// Rows whose weights are summed up together: twice two tiles.
#define SHARE_ROWS (4 * TILE_SIDE)

/// A row of queries on its way over the keys.
typedef struct share_row {
  /// What a weight's bits gain by one of a score, and what they are for a score of zero.
  float slope, origin;
  /// The greatest score of the tile that the origin is chosen by, and that tile.
  float best;
  uint32_t since;
  /// Sum of the weights since the origin was chosen, by lanes.
  vec sum;
} share_row;

/// The greatest of up to 64 scores, of folded columns.
INLINE float greatest_score(const vec scores[4], __mmask16 counts) {
  vec best = -INFINITY;
  for (int v = 0; v < 4; v++)
    best = __builtin_elementwise_max(best, (vec)_mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), counts, (__m512)scores[v]));
  return max_lanes(best);
}

/// Notes what weights are relative to in the tiles before `tile`, and their sum with the last of these.
INLINE void end_weights(const share_row *state, size_t row, size_t rows, size_t tile, float *maximum, float *sum) {
  for (size_t t = state->since; t < tile; t++) maximum[t * rows + row] = state->best;
  if (tile > 0) sum[(tile - 1) * rows + row] = sum_lanes(state->sum);
}

static void share_keys(const void *panels, size_t head_size, const float *queries, size_t rows, size_t columns,
                       size_t fold, float *scores, void *weights, float *maximum, float *sum) {
  if (fold != 4 || head_size % 64 != 0 || rows > SHARE_ROWS) {
    share_tiles(panels, head_size, queries, rows, columns, fold, scores, weights, maximum, sum);
    return;
  }
  const size_t query_ld = head_size + QUERY_HEADER, tiles = (columns + IHP_PANEL - 1) / IHP_PANEL;
  const size_t panel_bytes = head_size * IHP_PANEL + IHP_PANEL * sizeof(float);
  int8_t staged[SHARE_ROWS * IHP_HEAD_SIZE] __attribute__((aligned(64)));
  int32_t whole[SHARE_ROWS * IHP_PANEL] __attribute__((aligned(64)));
  share_row states[SHARE_ROWS];
  memset(staged, 0, sizeof staged);
  memset(sum, 0, tiles * rows * sizeof(float));
  for (size_t r = 0; r < rows; r++) {
    const float *query = queries + r * query_ld;
    memcpy(staged + r * head_size, query + QUERY_HEADER, head_size);
    states[r] = (share_row){.slope = query[0] * (1.44269504f * 8388608.0f)};
  }
  use_tiles();
  for (size_t t = 0; t < tiles; t++) {
    const uint8_t *panel = (const uint8_t *)panels + t * panel_bytes;
    if (t + 1 < tiles)
      for (size_t line = 0; line < panel_bytes; line += CACHE_LINE) __builtin_prefetch(panel + panel_bytes + line);
    for (size_t r = 0; r < rows; r += 2 * TILE_SIDE)
      for (size_t j = 0; j < IHP_PANEL; j += 2 * TILE_SIDE)
        whole_scores((const uint8_t *)staged + r * head_size, head_size, (const uint32_t *)panel + j, head_size / 64,
                     whole + r * IHP_PANEL + j);
    vec scales[4];
    for (int v = 0; v < 4; v++) scales[v] = load((const float *)(panel + head_size * IHP_PANEL) + v * LANES);
    const size_t count = columns - t * IHP_PANEL < IHP_PANEL ? columns - t * IHP_PANEL : IHP_PANEL;
    const __mmask16 counts = (__mmask16)((1u << count / 4) - 1);
    for (size_t r = 0; r < rows; r++) {
      share_row *state = states + r;
      const float *query = queries + r * query_ld;
      uint32_t total;
      memcpy(&total, query + 2, sizeof total);
      vec score[4], bits[4], most = 0.0f;
#pragma clang loop unroll(full)
      for (int v = 0; v < 4; v++) {
        ivec products;
        memcpy(&products, whole + r * IHP_PANEL + v * LANES, sizeof products);
        score[v] = __builtin_convertvector(products - (int32_t)total, vec) * scales[v];
        bits[v] = fused(score[v], (vec)state->slope, (vec)state->origin);
        most = __builtin_elementwise_max(most, bits[v]);
      }
      // Weights are relative to the greatest score of an earlier tile, until one would be too large for a float.
      if (t == 0 || _mm512_cmp_ps_mask((__m512)most, _mm512_set1_ps(250.0f * 8388608.0f), _CMP_NLT_UQ)) {
        end_weights(state, r, rows, t, maximum, sum);
        float best = greatest_score(score, counts);
        *state = (share_row){.slope = state->slope,
                             .origin = 127.0f * 8388608.0f - 366393.0f - best * state->slope,
                             .best = best * query[0],
                             .since = (uint32_t)t};
        for (int v = 0; v < 4; v++) bits[v] = fused(score[v], (vec)state->slope, (vec)state->origin);
      }
      vec weight = 0.0f;
#pragma clang loop unroll(full)
      for (int v = 0; v < 4; v++) weight += share_bits(bits[v]);
      weight = (vec)_mm512_maskz_mov_ps(counts, (__m512)weight);
      state->sum += weight;
      STORE_WEIGHT(weight, (uint8_t *)weights + (t * rows + r) * TILE_SIDE * WEIGHT_BYTES);
    }
  }
  for (size_t r = 0; r < rows; r++) end_weights(states + r, r, rows, tiles, maximum, sum);
}
