// SPDX-License-Identifier: Apache-2.0
// Products of bytes on Arm (dot products): two signed factors, four to a lane.

#include "integers_neon.h"

/// Whether both factors are signed.
#define SIGNED_BYTES 1
/// Queries, and rows of Q8_0, that one product takes.
#define QUERIES_TOGETHER 1
#define ROWS_TOGETHER 1

INLINE ivec add_bytes(ivec sum, ivec quants, ivec elements) {
  return (ivec)vdotq_s32((int32x4_t)sum, (int8x16_t)quants, (int8x16_t)elements);
}

INLINE ints8 add_eight(ints8 sum, ints8 bytes, ints8 elements) {
  ivec low = add_bytes(sum.lo, bytes.lo, elements.lo), high = add_bytes(sum.hi, bytes.hi, elements.hi);
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
}

#define PEAK_PRODUCTS(sum, bits) add_bytes(sum, bits, bits)
#define PEAK_COUNT (4 * LANES)

/// Sums of a block's products.
typedef vec part_sums;

typedef struct block_weights {
  ivec half[2];
} block_weights;

INLINE block_weights load_block(const uint8_t *block, const uint8_t *same) {
  (void)same;
  return (block_weights){{load_bytes(block + 2), load_bytes(block + 18)}};
}

/// 16 elements of an input: their higher parts, then their lower ones.
INLINE void store_parts(const ivec high[4], const ivec low[4], int16_t *out) {
  store_bytes(high, out);
  store_bytes(low, out + 8);
}

/// 32 bytes of weights times 32 elements of an input in 15 bits, times a factor.
INLINE vec add_block(block_weights weights, const int16_t *input, float factor, float same, vec total) {
  (void)same;
  ivec sum = add_bytes((ivec)0, weights.half[0], load_bytes(input));
  sum = add_bytes(sum, weights.half[1], load_bytes(input + 16)) << 7;
  sum = add_bytes(sum, weights.half[0], load_bytes(input + 8));
  sum = add_bytes(sum, weights.half[1], load_bytes(input + 24));
  return fused(__builtin_convertvector(sum, vec), (vec)factor, total);
}

INLINE float total_of(vec sums, const int row) {
  (void)row;
  return sum_lanes(sums);
}
