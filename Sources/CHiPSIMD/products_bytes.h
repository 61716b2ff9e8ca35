// SPDX-License-Identifier: Apache-2.0
// Products of many rows with quantised weights in bytes: both factors in blocks of 32 with a scale, sums of a block whole numbers,
// of blocks float32. A panel's block is [BLOCK / 4][IHP_PANEL] words of four weights, then a scale per column.

/// 32 elements of an input.
typedef struct input_block {
  float scale;
  /// What makes up for weights that stand moved up.
  int32_t start;
  int8_t elements[BLOCK];
} input_block;

#define PANEL_BLOCK (BLOCK * IHP_PANEL + IHP_PANEL * sizeof(float))

/// 32 elements as bytes that are moved up by `moved`; returns their scale, of what is no number none.
INLINE float round_block(const float *x, int32_t moved, void *bytes, uint32_t *total) {
  vec most = 0.0f, check = 0.0f;
  for (size_t i = 0; i < BLOCK; i += LANES) {
    most = __builtin_elementwise_max(most, __builtin_elementwise_abs(load(x + i)));
    check += load(x + i) * 0.0f;
  }
  const float greatest = max_lanes(most), scale = greatest > 0 ? 127.0f / greatest : 0.0f;
  // Of what is no number sums may be too large: they wrap.
  *total = (uint32_t)store_rounded(x, scale, moved, bytes);
  *total += (uint32_t)store_rounded(x + BLOCK / 2, scale, moved, (int8_t *)bytes + BLOCK / 2);
  return greatest / 127.0f + sum_lanes(check);
}

static void prepare_blocks(const float *x, size_t n, void *out) {
  for (size_t b = 0; b < n / BLOCK; b++) {
    input_block block;
    uint32_t total;
    block.scale = round_block(x + b * BLOCK, 0, block.elements, &total);
    block.start = (int32_t)(-(uint32_t)MOVED_BY * total);
    memcpy((uint8_t *)out + b * sizeof block, &block, sizeof block);
  }
}

/// Writes a block of one column.
INLINE void place_block(const uint8_t *bytes, float scale, size_t column, uint8_t *panel) {
  for (size_t q = 0; q < BLOCK / 4; q++) memcpy(panel + (q * IHP_PANEL + column) * 4, bytes + 4 * q, 4);
  memcpy(panel + BLOCK * IHP_PANEL + column * sizeof scale, &scale, sizeof scale);
}

static void pack_blocks(ihp_element element, const void *w, size_t stride, size_t rows, size_t n, void *panel) {
  float wide[PACK_WIDTH];
  uint8_t bytes[BLOCK];
  for (size_t r = 0; r < IHP_PANEL; r++) {
    const uint8_t *row = (const uint8_t *)w + r * stride;
    for (size_t first = 0; first < n; first += PACK_WIDTH) {
      const size_t width = n - first < PACK_WIDTH ? n - first : PACK_WIDTH;
      if (r < rows && element != IHP_Q8_0) widen_plain(element, row, first, width, wide);
      for (size_t i = 0; i < width; i += BLOCK) {
        float scale = 0.0f;
        if (r >= rows) {
          memset(bytes, 0, sizeof bytes);
        } else if (element == IHP_Q8_0) {
          const uint8_t *block = row + (first + i) / BLOCK * BLOCK_BYTES;
          scale = half_to_float(block);
          for (size_t j = 0; j < BLOCK; j++) bytes[j] = block[2 + j] ^ MOVED_BY;
        } else {
          uint32_t total;
          scale = round_block(wide + i, MOVED_BY, bytes, &total);
        }
        place_block(bytes, scale, r, (uint8_t *)panel + (first + i) / BLOCK * PANEL_BLOCK);
      }
    }
  }
}

/// Rows and vectors of columns of a tile.
#define BYTE_ROWS (LANES == 8 ? 2 : 4)
#define BYTE_VECTORS 2

/// `height` rows, `stride` bytes apart, times the columns of a panel from `column` on.
INLINE void byte_tile(const int height, const uint8_t *a, size_t stride, const uint8_t *panel, size_t column, size_t blocks,
                      float *c, size_t ldc, size_t columns, int keep) {
  vec sums[BYTE_ROWS][BYTE_VECTORS];
#pragma clang loop unroll(full)
  for (int r = 0; r < height; r++)
#pragma clang loop unroll(full)
    for (int v = 0; v < BYTE_VECTORS; v++) sums[r][v] = 0.0f;
  for (size_t b = 0; b < blocks; b++, a += sizeof(input_block), panel += PANEL_BLOCK) {
    ivec whole[BYTE_ROWS][BYTE_VECTORS];
#pragma clang loop unroll(full)
    for (int r = 0; r < height; r++) {
      int32_t start;
      memcpy(&start, a + (size_t)r * stride + offsetof(input_block, start), sizeof start);
#pragma clang loop unroll(full)
      for (int v = 0; v < BYTE_VECTORS; v++) whole[r][v] = start;
    }
#pragma clang loop unroll(full)
    for (size_t q = 0; q < BLOCK / 4; q++) {
      ivec weights[BYTE_VECTORS];
#pragma clang loop unroll(full)
      for (size_t v = 0; v < BYTE_VECTORS; v++) weights[v] = load_bytes(panel + (q * IHP_PANEL + column + v * LANES) * 4);
#pragma clang loop unroll(full)
      for (int r = 0; r < height; r++) {
        int32_t word;
        memcpy(&word, a + (size_t)r * stride + offsetof(input_block, elements) + 4 * q, sizeof word);
#pragma clang loop unroll(full)
        for (int v = 0; v < BYTE_VECTORS; v++) whole[r][v] = add_bytes(whole[r][v], weights[v], (ivec)word);
      }
    }
    const float *scales = (const float *)(panel + BLOCK * IHP_PANEL) + column;
#pragma clang loop unroll(full)
    for (int r = 0; r < height; r++) {
      float scale;
      memcpy(&scale, a + (size_t)r * stride, sizeof scale);
#pragma clang loop unroll(full)
      for (int v = 0; v < BYTE_VECTORS; v++)
        sums[r][v] = fused(__builtin_convertvector(whole[r][v], vec), load(scales + v * LANES) * scale, sums[r][v]);
    }
  }
  for (int r = 0; r < height; r++) {
    float row[BYTE_VECTORS * LANES];
    for (int v = 0; v < BYTE_VECTORS; v++) store(row + v * LANES, sums[r][v]);
    float *out = c + (size_t)r * ldc;
    for (size_t j = 0; j < BYTE_VECTORS * LANES && j < columns; j++) out[j] = keep ? out[j] + row[j] : row[j];
  }
}

static void gemm_blocks(const void *a, size_t stride, size_t rows, const void *panel, size_t k, float *c, size_t ldc,
                        size_t columns, int keep) {
  const size_t blocks = k / BLOCK, width = BYTE_VECTORS * LANES;
  for (size_t r = 0; r < rows;) {
    const int height = rows - r >= BYTE_ROWS ? BYTE_ROWS : 1;
    const uint8_t *left = (const uint8_t *)a + r * stride;
    for (size_t j = 0; j < columns; j += width) {
      const uint8_t *right = (const uint8_t *)panel + j / IHP_PANEL * blocks * PANEL_BLOCK;
      float *out = c + r * ldc + j;
      if (height > 1) byte_tile(BYTE_ROWS, left, stride, right, j % IHP_PANEL, blocks, out, ldc, columns - j, keep);
      else byte_tile(1, left, stride, right, j % IHP_PANEL, blocks, out, ldc, columns - j, keep);
    }
    r += (size_t)height;
  }
}
