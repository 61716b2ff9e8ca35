// SPDX-License-Identifier: Apache-2.0
// Products in bfloat16 with float32 sums (AVX512-BF16).

#include "panels_bf16.h"

/// Depth of one pass; longer products are summed up in passes.
#define PASS_DEPTH 512
/// Columns, and their depth: a panel fills a second-level cache's share.
#define BLOCK_COLUMNS IHP_PANEL
#define BLOCK_DEPTH 512

/// One register tile: `height` rows of pairs times `vectors` vectors of columns.
INLINE void tile(const int height, const int vectors, const uint32_t *a, size_t lda,
                 const uint32_t *b, size_t pairs, float *c, size_t ldc, size_t columns, int keep) {
  __m512 sum[TILE_ROWS][TILE_VECTORS];
#pragma clang loop unroll(full)
  for (int r = 0; r < height; r++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) sum[r][v] = _mm512_setzero_ps();
  for (size_t i = 0; i < pairs; i++) {
    __m512bh right[TILE_VECTORS];
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++)
      right[v] = (__m512bh)_mm512_loadu_si512(b + i * IHP_PANEL + (size_t)v * 16);
#pragma clang loop unroll(full)
    for (int r = 0; r < height; r++) {
      __m512bh left = (__m512bh)_mm512_set1_epi32((int)a[(size_t)r * lda + i]);
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], left, right[v]);
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < height; r++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      float *out = c + (size_t)r * ldc + (size_t)v * 16;
      size_t left = columns - (size_t)v * 16;
      __mmask16 mask = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
      __m512 old = keep ? _mm512_maskz_loadu_ps(mask, out) : _mm512_setzero_ps();
      _mm512_mask_storeu_ps(out, mask, _mm512_add_ps(old, sum[r][v]));
    }
}

#define TILE_OF(height)                                                                            \
  switch ((columns + 15) / 16) {                                                                   \
  case 1: tile(height, 1, left, ld, b, pairs, out, ldc, columns, keep); break;                         \
  case 2: tile(height, 2, left, ld, b, pairs, out, ldc, columns, keep); break;                         \
  case 3: tile(height, 3, left, ld, b, pairs, out, ldc, columns, keep); break;                         \
  default: tile(height, 4, left, ld, b, pairs, out, ldc, columns, keep); break;                        \
  }

static void gemm(ihp_element element, const void *a, size_t lda, size_t rows, const void *panel,
                 size_t k, float *c, size_t ldc, size_t columns, int keep) {
  uint32_t narrowed[TILE_ROWS * (PASS_DEPTH / 2)] __attribute__((aligned(64)));
  for (size_t first = 0; first < k; first += PASS_DEPTH) {
    size_t depth = k - first < PASS_DEPTH ? k - first : PASS_DEPTH;
    size_t pairs = (depth + 1) / 2;
    const uint32_t *b = (const uint32_t *)panel + first / 2 * IHP_PANEL;
    for (size_t r = 0; r < rows;) {
      size_t rest = rows - r;
      size_t height = rest >= TILE_ROWS ? TILE_ROWS : rest >= 4 ? 4 : rest >= 2 ? 2 : 1;
      const uint32_t *left = narrowed;
      size_t ld = PASS_DEPTH / 2;
      if (element == IHP_BF16) {
        left = (const uint32_t *)((const uint16_t *)a + r * lda + first);
        ld = lda / 2;
      } else {
        for (size_t i = 0; i < height; i++)
          narrow_row((const float *)a + (r + i) * lda + first, depth,
                     narrowed + i * (PASS_DEPTH / 2));
      }
      float *out = c + r * ldc;
      switch (height) {
      case 1: TILE_OF(1); break;
      case 2: TILE_OF(2); break;
      case 4: TILE_OF(4); break;
      default: TILE_OF(TILE_ROWS); break;
      }
      r += height;
    }
    keep = 1;
  }
}
