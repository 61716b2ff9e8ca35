// SPDX-License-Identifier: Apache-2.0
// Products in float32: a panel is [k][IHP_PANEL] floats.

#define PRODUCT_ELEMENT IHP_F32
/// Columns, and their depth: a panel fills a second-level cache's share.
#define BLOCK_COLUMNS IHP_PANEL
#define BLOCK_DEPTH 512

/// Transposes four rows of `n` floats into four neighbouring panel columns.
INLINE void transpose4(const float *a, const float *b, const float *c, const float *d, size_t n,
                       float *panel) {
  for (size_t k = 0; k < n; k += 4) {
    quad ra, rb, rc, rd;
    memcpy(&ra, a + k, 16);
    memcpy(&rb, b + k, 16);
    memcpy(&rc, c + k, 16);
    memcpy(&rd, d + k, 16);
    quad ab_low = __builtin_shufflevector(ra, rb, 0, 4, 1, 5);
    quad ab_high = __builtin_shufflevector(ra, rb, 2, 6, 3, 7);
    quad cd_low = __builtin_shufflevector(rc, rd, 0, 4, 1, 5);
    quad cd_high = __builtin_shufflevector(rc, rd, 2, 6, 3, 7);
    quad out0 = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
    quad out1 = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
    quad out2 = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
    quad out3 = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
    memcpy(panel + k * IHP_PANEL, &out0, 16);
    memcpy(panel + (k + 1) * IHP_PANEL, &out1, 16);
    memcpy(panel + (k + 2) * IHP_PANEL, &out2, 16);
    memcpy(panel + (k + 3) * IHP_PANEL, &out3, 16);
  }
}

/// Rows that `panel_part` takes at a time.
#define PANEL_PART 4

/// Transposes rows of `n` floats, `ld` apart, into panel columns from `column` on, from depth
/// `first` on.
INLINE void panel_part(const float *rows, size_t ld, size_t n, size_t first, size_t column,
                       void *panel) {
  transpose4(rows, rows + ld, rows + 2 * ld, rows + 3 * ld, n,
             (float *)panel + first * IHP_PANEL + column);
}

/// No format is transposed without a place in memory between.
INLINE int panel_stored(ihp_element element, const uint8_t *rows, size_t stride, size_t n, size_t column, void *panel) {
  (void)element, (void)rows, (void)stride, (void)n, (void)column, (void)panel;
  return 0;
}

/// Writes `count` rows of `columns` floats, `ld` apart, as the depth of a panel.
INLINE void panel_rows(const float *rows, size_t ld, size_t count, size_t columns, void *panel) {
  for (size_t k = 0; k < count; k++)
    memcpy((float *)panel + k * IHP_PANEL, rows + k * ld, columns * sizeof(float));
}

/// One register tile: `height` rows times `vectors` vectors of columns.
INLINE void tile(const int height, const int vectors, const float *a, size_t lda, const float *b,
                 size_t k, float *c, size_t ldc, size_t columns, int keep) {
  vec sum[TILE_ROWS][TILE_VECTORS];
#pragma clang loop unroll(full)
  for (int r = 0; r < height; r++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) sum[r][v] = 0.0f;
  for (size_t i = 0; i < k; i++) {
    vec right[TILE_VECTORS];
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) right[v] = load(b + i * IHP_PANEL + v * LANES);
#pragma clang loop unroll(full)
    for (int r = 0; r < height; r++) {
      vec left = a[r * lda + i];
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) sum[r][v] = fused(left, right[v], sum[r][v]);
    }
  }
  if (columns >= (size_t)vectors * LANES) {
#pragma clang loop unroll(full)
    for (int r = 0; r < height; r++)
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) {
        float *out = c + r * ldc + v * LANES;
        store(out, keep ? load(out) + sum[r][v] : sum[r][v]);
      }
    return;
  }
  for (int r = 0; r < height; r++) {
    float row[TILE_VECTORS * LANES];
    for (int v = 0; v < vectors; v++) store(row + v * LANES, sum[r][v]);
    for (size_t j = 0; j < columns; j++)
      c[r * ldc + j] = keep ? c[r * ldc + j] + row[j] : row[j];
  }
}

#define TILE_OF(height)                                                                            \
  switch (vectors) {                                                                               \
  case 1: tile(height, 1, a, lda, b, k, c, ldc, columns, keep); break;                        \
  case 2: tile(height, 2, a, lda, b, k, c, ldc, columns, keep); break;                        \
  case 3: if (TILE_VECTORS > 2) tile(height, TILE_VECTORS > 2 ? 3 : 2, a, lda, b, k, c, ldc, columns, keep); break; \
  default: if (TILE_VECTORS > 3) tile(height, TILE_VECTORS, a, lda, b, k, c, ldc, columns, keep); break; \
  }

static void tile_rows(size_t height, size_t vectors, const float *a, size_t lda, const float *b,
                      size_t k, float *c, size_t ldc, size_t columns, int keep) {
  switch (height) {
  case 1: TILE_OF(1); break;
  case 2: TILE_OF(2); break;
  case 4: TILE_OF(4); break;
  default: TILE_OF(TILE_ROWS); break;
  }
}

static void gemm(ihp_element element, const void *left_rows, size_t lda, size_t rows,
                 const void *panel, size_t k, float *c, size_t ldc, size_t columns, int keep) {
  (void)element; // Always IHP_F32 here.
  const float *a = left_rows, *b = panel;
  size_t width = TILE_VECTORS * LANES;
  for (size_t r = 0; r < rows;) {
    size_t left = rows - r;
    size_t height = left >= TILE_ROWS ? TILE_ROWS : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    for (size_t j = 0; j < columns; j += width) {
      size_t rest = columns - j;
      size_t vectors = rest >= width ? TILE_VECTORS : (rest + LANES - 1) / LANES;
      tile_rows(height, vectors, a + r * lda, lda, b + j, k, c + r * ldc + j, ldc, rest, keep);
    }
    r += height;
  }
}
