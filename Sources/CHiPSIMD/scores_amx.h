// SPDX-License-Identifier: Apache-2.0
// Scores of keys in 8 bits on matrix units (AMX-INT8): a panel of `pack_coarse` holds tiles of 64 elements of 16 keys.

/// Queries of a block: two tiles.
#define SCORE_BLOCK (2 * TILE_SIDE)

/// Prepared queries as tiles take them.
typedef struct tile_queries {
  /// Elements, [SCORE_BLOCK][head_size]; missing queries are zero.
  int8_t elements[SCORE_BLOCK * IHP_HEAD_SIZE] __attribute__((aligned(64)));
  /// What makes up for keys that stand moved up, in every column of a tile.
  int32_t start[SCORE_BLOCK * TILE_SIDE] __attribute__((aligned(64)));
} tile_queries;

INLINE void load_queries(const float *queries, size_t rows, size_t head_size, tile_queries *out) {
  memset(out, 0, sizeof *out);
  for (size_t r = 0; r < rows; r++) {
    const float *query = queries + r * (head_size + QUERY_HEADER);
    uint32_t total;
    memcpy(&total, query + 2, sizeof total);
    memcpy(out->elements + r * head_size, query + QUERY_HEADER, head_size);
    for (size_t j = 0; j < TILE_SIDE; j++) out->start[r * TILE_SIDE + j] = (int32_t)-total;
  }
}

/// A block of queries times the 64 keys of a panel, as whole numbers: [SCORE_BLOCK][IHP_PANEL].
INLINE void whole_scores(const tile_queries *queries, size_t head_size, const uint32_t *panel, int32_t *out) {
  for (size_t j = 0; j < IHP_PANEL; j += 2 * TILE_SIDE) {
    const int8_t *elements = queries->elements;
    const uint32_t *keys = panel + j;
    _tile_loadd(0, queries->start, 64);
    _tile_loadd(1, queries->start, 64);
    _tile_loadd(2, queries->start + TILE_SIDE * TILE_SIDE, 64);
    _tile_loadd(3, queries->start + TILE_SIDE * TILE_SIDE, 64);
    for (size_t k = 0; k < head_size; k += 64) {
      _tile_loadd(4, elements + k, head_size);
      _tile_loadd(6, keys, IHP_PANEL * 4);
      _tile_dpbsud(0, 4, 6);
      _tile_loadd(7, keys + TILE_SIDE, IHP_PANEL * 4);
      _tile_dpbsud(1, 4, 7);
      _tile_loadd(5, elements + TILE_SIDE * head_size + k, head_size);
      _tile_dpbsud(2, 5, 6);
      _tile_dpbsud(3, 5, 7);
      keys += TILE_SIDE * IHP_PANEL;
    }
    end_tiles(2, out + j, IHP_PANEL * 4);
  }
}

static void score_coarse(const void *panel, size_t head_size, const float *queries, size_t rows, float *scores,
                         size_t ld) {
  if (head_size % 64 != 0) {
    score_columns(panel, head_size, queries, rows, scores, ld);
    return;
  }
  const float *scales = (const float *)panel + head_size / 4 * IHP_PANEL;
  int32_t whole[SCORE_BLOCK * IHP_PANEL] __attribute__((aligned(64)));
  tile_queries block;
  use_tiles();
  for (size_t r = 0; r < rows; r += SCORE_BLOCK) {
    const size_t height = rows - r < SCORE_BLOCK ? rows - r : SCORE_BLOCK;
    const float *first = queries + r * (head_size + QUERY_HEADER);
    load_queries(first, height, head_size, &block);
    whole_scores(&block, head_size, panel, whole);
    for (size_t i = 0; i < height; i++)
      for (size_t j = 0; j < IHP_PANEL; j += LANES) {
        ivec sum;
        memcpy(&sum, whole + i * IHP_PANEL + j, sizeof sum);
        store(scores + (r + i) * ld + j,
              __builtin_convertvector(sum, vec) * (load(scales + j) * first[i * (head_size + QUERY_HEADER)]));
      }
  }
}
