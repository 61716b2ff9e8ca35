// SPDX-License-Identifier: Apache-2.0
// Products in bfloat16 with float32 sums on matrix units (AMX-BF16).

#include "panels_bf16.h"

/// Depth of a pass over rows that are brought into the form of tiles first.
#define STAGED_DEPTH 512

/// Rows and columns of two by two tiles.
#define BLOCK_SIDE (2 * TILE_SIDE)

/// `height` tiles of left rows, `ld` bytes apart, times two tiles of a panel's columns.
INLINE void tile_products(const int height, const uint8_t *left, size_t ld, const uint32_t *right, size_t steps,
                          float *c, size_t ldc, int keep) {
  begin_tiles(height, c, ldc * sizeof(float), keep);
  for (size_t s = 0; s < steps; s++) {
    _tile_loadd(4, left + s * 64, ld);
    _tile_loadd(6, right, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, right + TILE_SIDE * TILE_SIDE, 64);
    _tile_dpbf16ps(1, 4, 7);
    if (height == 2) {
      _tile_loadd(5, left + TILE_SIDE * ld + s * 64, ld);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    right += TILE_SIDE * IHP_PANEL;
  }
  end_tiles(height, c, ldc * sizeof(float));
}

/// Columns that share what is loaded of the left factor: at this depth their panels fill a quarter of a second-level
/// cache.
#define BLOCK_COLUMNS 128
#define BLOCK_DEPTH 2048

static void gemm(ihp_element element, const void *a, size_t lda, size_t rows, const void *panel, size_t k, float *c,
                 size_t ldc, size_t columns, int keep) {
  uint32_t staged[BLOCK_SIDE * (STAGED_DEPTH / 2)] __attribute__((aligned(64)));
  float sums[BLOCK_SIDE * BLOCK_COLUMNS] __attribute__((aligned(64)));
  const size_t panel_size = (k + IHP_PANEL_DEPTH - 1) / IHP_PANEL_DEPTH * IHP_PANEL_DEPTH / 2 * IHP_PANEL;
  use_tiles();
  for (size_t r = 0; r < rows; r += BLOCK_SIDE) {
    const size_t height = rows - r < BLOCK_SIDE ? rows - r : BLOCK_SIDE;
    float *out = c + r * ldc;
    const int is_staged = element == IHP_F32 || height < BLOCK_SIDE || k % IHP_PANEL_DEPTH != 0;
    const size_t most = is_staged ? STAGED_DEPTH : k;
    // What fills no tiles goes through a near place, and is summed up in the same order.
    const int is_direct = height == BLOCK_SIDE && columns % BLOCK_SIDE == 0;
    float *to = is_direct ? out : sums;
    const size_t to_ld = is_direct ? ldc : BLOCK_COLUMNS;
    if (!is_direct && keep)
      for (size_t i = 0; i < height; i++) memcpy(sums + i * BLOCK_COLUMNS, out + i * ldc, columns * sizeof(float));
    for (size_t first = 0; first < k; first += most) {
      const size_t depth = k - first < most ? k - first : most;
      const size_t steps = (depth + IHP_PANEL_DEPTH - 1) / IHP_PANEL_DEPTH;
      const uint8_t *left = (const uint8_t *)staged;
      size_t ld = steps * 64;
      if (element == IHP_F32)
        for (size_t i = 0; i < height; i++)
          narrow_row((const float *)a + (r + i) * lda + first, depth, staged + i * steps * 16);
      else if (!is_staged)
        left = (const uint8_t *)((const uint16_t *)a + r * lda + first), ld = lda * 2;
      else {
        memset(staged, 0, height * ld);
        for (size_t i = 0; i < height; i++)
          memcpy(staged + i * steps * 16, (const uint16_t *)a + (r + i) * lda + first, depth * 2);
      }
      for (size_t j = 0; j < columns; j += BLOCK_SIDE) {
        const uint32_t *right =
            (const uint32_t *)panel + j / IHP_PANEL * panel_size + first / 2 * IHP_PANEL + j % IHP_PANEL * TILE_SIDE;
        const int is_sum = first > 0 || keep;
        if (height > TILE_SIDE) tile_products(2, left, ld, right, steps, to + j, to_ld, is_sum);
        else tile_products(1, left, ld, right, steps, to + j, to_ld, is_sum);
      }
    }
    if (!is_direct)
      for (size_t i = 0; i < height; i++) memcpy(out + i * ldc, sums + i * BLOCK_COLUMNS, columns * sizeof(float));
  }
}
