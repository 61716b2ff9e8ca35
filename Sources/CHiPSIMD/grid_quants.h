// SPDX-License-Identifier: Apache-2.0
// Formats whose elements are points of a grid, eight or four at a time, with signs.

#if IN_INTEGERS && LANES == 16

/// 32 elements of a grid with signs, plus `offset`.
INLINE void put_signed_block(const uint64_t points[4], uint32_t signs, uint8_t offset, uint8_t *out) {
  __m256i grid = _mm256_loadu_si256((const __m256i *)points);
  grid = _mm256_mask_sub_epi8(grid, signs, _mm256_setzero_si256(), grid);
  _mm256_storeu_si256((__m256i *)out, _mm256_add_epi8(grid, _mm256_set1_epi8((char)offset)));
}

#else

/// Eight elements of a grid with signs, plus `offset`.
INLINE void put_signed(uint64_t elements, uint8_t signs, uint8_t offset, uint8_t *out) {
  bytes8 grid;
  memcpy(&grid, &elements, sizeof grid);
  const bytes8 places = {1, 2, 4, 8, 16, 32, 64, 128};
  bytes8 negative = (bytes8)((places & signs) != 0);
  bytes8 result = ((grid ^ negative) - negative) + offset;
  memcpy(out, &result, sizeof result);
}

/// 32 elements of a grid with signs, plus `offset`.
INLINE void put_signed_block(const uint64_t points[4], uint32_t signs, uint8_t offset, uint8_t *out) {
  for (size_t i = 0; i < 4; i++)
    put_signed(points[i], (uint8_t)(signs >> (8 * i)), offset, out + 8 * i);
}

#endif

/// The sign bits of four times eight elements from four times seven.
INLINE uint32_t even_signs_of_four(uint32_t sevens) {
  return (uint32_t)even_signs[sevens & 127] | (uint32_t)even_signs[sevens >> 7 & 127] << 8 |
         (uint32_t)even_signs[sevens >> 14 & 127] << 16 |
         (uint32_t)even_signs[sevens >> 21 & 127] << 24;
}

#define IQ2_OFFSET 43
#define IQ3_XXS_OFFSET 62
#define IQ3_S_OFFSET 15

static inline void unpack_IQ2_XXS(const uint8_t *block, size_t count, quants *out) {
  (void)count;
  float scale = half_to_float(block) * 0.25f;
  for (size_t b = 0; b < 8; b++) {
    uint32_t high = word_at(block + 6 + 8 * b);
    float own = scale * (0.5f + (float)(high >> 28));
    set_groups(out, 2 * b, 2, own, IQ2_OFFSET * own);
    uint64_t points[4];
    for (size_t i = 0; i < 4; i++) points[i] = grid_iq2_xxs[block[2 + 8 * b + i]];
    put_signed_block(points, even_signs_of_four(high), IQ2_OFFSET, out->quant + 32 * b);
  }
}

/// Scales of 16 elements, 4 bits each.
INLINE void set_nibble_scales(const uint8_t *scales, float scale, float offset, quants *out) {
  for (size_t g = 0; g < 16; g++) {
    float own = scale * (0.5f + (float)(scales[g / 2] >> (g % 2 * 4) & 15));
    set_groups(out, g, 1, own, offset * own);
  }
}

static inline void unpack_IQ2_XS(const uint8_t *block, size_t count, quants *out) {
  (void)count;
  set_nibble_scales(block + 66, half_to_float(block) * 0.25f, IQ2_OFFSET, out);
  for (size_t b = 0; b < 8; b++) {
    uint64_t points[4];
    uint32_t sevens = 0;
    for (size_t i = 0; i < 4; i++) {
      uint16_t point;
      memcpy(&point, block + 2 + 8 * b + 2 * i, sizeof point);
      points[i] = grid_iq2_xs[point & 511];
      sevens |= (uint32_t)(point >> 9) << (7 * i);
    }
    put_signed_block(points, even_signs_of_four(sevens), IQ2_OFFSET, out->quant + 32 * b);
  }
}

static inline void unpack_IQ2_S(const uint8_t *block, size_t count, quants *out) {
  (void)count;
  set_nibble_scales(block + 74, half_to_float(block) * 0.25f, IQ2_OFFSET, out);
  for (size_t b = 0; b < 8; b++) {
    uint64_t points[4];
    for (size_t i = 0; i < 4; i++)
      points[i] = grid_iq2_s[block[2 + 4 * b + i] | (size_t)(block[66 + b] >> (2 * i) & 3) << 8];
    put_signed_block(points, word_at(block + 34 + 4 * b), IQ2_OFFSET, out->quant + 32 * b);
  }
}

static inline void unpack_IQ3_XXS(const uint8_t *block, size_t count, quants *out) {
  (void)count;
  float scale = half_to_float(block) * 0.5f;
  for (size_t b = 0; b < 8; b++) {
    uint32_t high = word_at(block + 66 + 4 * b);
    float own = scale * (0.5f + (float)(high >> 28));
    set_groups(out, 2 * b, 2, own, IQ3_XXS_OFFSET * own);
    uint64_t points[4];
    for (size_t i = 0; i < 4; i++) {
      const uint8_t *pair = block + 2 + 8 * b + 2 * i;
      points[i] = grid_iq3_xxs[pair[0]] | (uint64_t)grid_iq3_xxs[pair[1]] << 32;
    }
    put_signed_block(points, even_signs_of_four(high), IQ3_XXS_OFFSET, out->quant + 32 * b);
  }
}

static inline void unpack_IQ3_S(const uint8_t *block, size_t count, quants *out) {
  (void)count;
  float scale = half_to_float(block);
  for (size_t b = 0; b < 8; b++) {
    float own = scale * (float)(1 + 2 * (block[106 + b / 2] >> (b % 2 * 4) & 15));
    set_groups(out, 2 * b, 2, own, IQ3_S_OFFSET * own);
    uint64_t points[4];
    for (size_t i = 0; i < 4; i++) {
      const uint8_t *pair = block + 2 + 8 * b + 2 * i;
      uint32_t ninth = (uint32_t)block[66 + b] >> (2 * i);
      points[i] = grid_iq3_s[pair[0] | (ninth & 1) << 8] |
                  (uint64_t)grid_iq3_s[pair[1] | (ninth & 2) << 7] << 32;
    }
    put_signed_block(points, word_at(block + 74 + 4 * b), IQ3_S_OFFSET, out->quant + 32 * b);
  }
}

static inline void unpack_IQ1_S(const uint8_t *block, size_t count, quants *out) {
  (void)count;
  float scale = half_to_float(block);
  for (size_t b = 0; b < 8; b++) {
    uint16_t high;
    memcpy(&high, block + 34 + 2 * b, sizeof high);
    float own = scale * (float)(2 * (high >> 12 & 7) + 1);
    // Grid values are counted from -1.
    set_groups(out, 2 * b, 2, own, own * (high & 0x8000 ? 1.125f : 0.875f));
    for (size_t i = 0; i < 4; i++)
      memcpy(out->quant + 32 * b + 8 * i,
             grid_iq1 + (block[2 + 4 * b + i] | (size_t)(high >> (3 * i) & 7) << 8), 8);
  }
}

static inline void unpack_IQ1_M(const uint8_t *block, size_t count, quants *out) {
  (void)count;
  uint16_t scales[4];
  memcpy(scales, block + 48, sizeof scales);
  uint16_t bits = (uint16_t)((scales[0] >> 12) | (scales[1] >> 12) << 4 | (scales[2] >> 12) << 8 |
                             (scales[3] >> 12) << 12);
  float scale = half_to_float(&bits) / 8;
  for (size_t g = 0; g < 16; g++) {
    float own = scale * (float)(2 * (scales[g / 4] >> (g % 4 * 3) & 7) + 1);
    set_groups(out, g, 1, own, 9 * own);
  }
  for (size_t i = 0; i < 32; i++) {
    uint8_t high = (uint8_t)(block[32 + i / 2] >> (i % 2 * 4));
    bytes8 grid;
    memcpy(&grid, grid_iq1 + (block[i] | (size_t)(high & 7) << 8), sizeof grid);
    // Eighths: each eight elements are moved up or down by one.
    bytes8 result = grid * 8 + (uint8_t)(high & 8 ? 0 : 2);
    memcpy(out->quant + 8 * i, &result, sizeof result);
  }
}
