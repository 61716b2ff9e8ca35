// SPDX-License-Identifier: Apache-2.0
// Scores of keys in 8 bits on matrix units (AMX-INT8): a panel of `pack_coarse` holds tiles of 64 elements of 16 keys.

/// Queries that fill two tiles times 32 keys, as whole numbers.
INLINE void whole_scores(const uint8_t *queries, size_t ld, const uint32_t *keys, size_t steps, int32_t *out) {
  begin_tiles(2, out, IHP_PANEL * 4, 0);
  for (size_t s = 0; s < steps; s++) {
    _tile_loadd(4, queries + s * 64, ld);
    _tile_loadd(6, keys, IHP_PANEL * 4);
    _tile_dpbsud(0, 4, 6);
    _tile_loadd(7, keys + TILE_SIDE, IHP_PANEL * 4);
    _tile_dpbsud(1, 4, 7);
    _tile_loadd(5, queries + TILE_SIDE * ld + s * 64, ld);
    _tile_dpbsud(2, 5, 6);
    _tile_dpbsud(3, 5, 7);
    keys += TILE_SIDE * IHP_PANEL;
  }
  end_tiles(2, out, IHP_PANEL * 4);
}

static void score_coarse(const void *panel, size_t head_size, const float *queries, size_t rows, float *scores,
                         size_t ld) {
  const size_t query_ld = head_size + QUERY_HEADER;
  const float *scales = (const float *)panel + head_size / 4 * IHP_PANEL;
  int32_t whole[2 * TILE_SIDE * IHP_PANEL] __attribute__((aligned(64)));
  size_t r = 0;
  if (head_size % 64 == 0)
    for (; r + 2 * TILE_SIDE <= rows; r += 2 * TILE_SIDE) {
      const float *first = queries + r * query_ld;
      use_tiles();
      for (size_t j = 0; j < IHP_PANEL; j += 2 * TILE_SIDE)
        whole_scores((const uint8_t *)(first + QUERY_HEADER), query_ld * 4, (const uint32_t *)panel + j,
                     head_size / 64, whole + j);
      for (size_t i = 0; i < 2 * TILE_SIDE; i++) {
        const float *query = first + i * query_ld;
        uint32_t total;
        memcpy(&total, query + 2, sizeof total);
        for (size_t j = 0; j < IHP_PANEL; j += LANES) {
          ivec sum;
          memcpy(&sum, whole + i * IHP_PANEL + j, sizeof sum);
          sum -= (int32_t)total;
          store(scores + (r + i) * ld + j, __builtin_convertvector(sum, vec) * (load(scales + j) * query[0]));
        }
      }
    }
  if (r < rows) score_columns(panel, head_size, queries + r * query_ld, rows - r, scores + r * ld, ld);
}
