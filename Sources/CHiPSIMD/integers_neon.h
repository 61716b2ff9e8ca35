// SPDX-License-Identifier: Apache-2.0
// What the products of bytes have in common on Arm, with dot products and with those of matrices.

typedef int32_t ints8 __attribute__((ext_vector_type(8)));
typedef float octet __attribute__((ext_vector_type(8)));

/// Queries of a tile of scores, rows of Q8_0 that share what is loaded of four inputs.
#define SCORE_ROWS 4
#define WEIGHT_ROWS 2

/// Whole numbers nearest to x.
INLINE ivec nearest(vec x) { return (ivec)vcvtnq_s32_f32((float32x4_t)x); }

/// For lanes of vector `v` of a super-block's sums the scale of their group of 16.
INLINE vec spread(const vec *scales, const int v) { return scales[v / 4][v % 4]; }

/// 16 elements of an input from their higher and their lower parts.
INLINE void store_parts(const ivec high[4], const ivec low[4], int16_t *out);

/// 32 numbers in 15 bits: what stands above their lower seven bits, and the rest from -64 on.
INLINE void store_fine(const float *x, float scale, int16_t *out) {
  for (size_t half = 0; half < 2; half++, x += 16, out += 16) {
    ivec high[4], low[4];
    for (int v = 0; v < 4; v++) {
      ivec whole = nearest(load(x + v * LANES) * scale);
      high[v] = (whole + 64) >> 7;
      low[v] = whole - (high[v] << 7);
    }
    store_parts(high, low, out);
  }
}

/// Registers are many enough.
#define KEEP_IN_MEMORY(factors)

/// Half-precision numbers of 8 blocks, so many bytes apart.
INLINE octet block_halves(const uint8_t *block, const size_t stride) {
  typedef _Float16 halves __attribute__((ext_vector_type(8)));
  _Float16 h[8];
#pragma clang loop unroll(full)
  for (size_t i = 0; i < 8; i++) memcpy(h + i, block + i * stride, 2);
  return __builtin_convertvector((halves){h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]}, octet);
}
