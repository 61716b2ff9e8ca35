// SPDX-License-Identifier: Apache-2.0
// Products of bytes on Arm with I8MM: an unsigned factor, a signed one, four to a lane, or eight to a lane in matrices
// of two by two.

#include "integers_neon.h"

/// Whether both factors are signed.
#define SIGNED_BYTES 0
/// Queries, and rows of Q8_0, that one product takes.
#define QUERIES_TOGETHER 2
#define ROWS_TOGETHER 2

INLINE ivec add_bytes(ivec sum, ivec quants, ivec elements) {
  return (ivec)vusdotq_s32((int32x4_t)sum, (uint8x16_t)quants, (int8x16_t)elements);
}

INLINE ivec add_matrix(ivec sum, ivec bytes, ivec elements) {
  return (ivec)vusmmlaq_s32((int32x4_t)sum, (uint8x16_t)bytes, (int8x16_t)elements);
}

#define PEAK_PRODUCTS(sum, bits) add_matrix(sum, bits, bits)
#define PEAK_COUNT (8 * LANES)

/// Eight elements of pairs of keys, a register each.
typedef struct eight_keys {
  ivec pair[4];
} eight_keys;

/// From the first and the last four of eight elements of 8 keys.
INLINE eight_keys arranged(ints8 low, ints8 high) {
  return (eight_keys){{__builtin_shufflevector(low, high, 0, 8, 1, 9),
                       __builtin_shufflevector(low, high, 2, 10, 3, 11),
                       __builtin_shufflevector(low, high, 4, 12, 5, 13),
                       __builtin_shufflevector(low, high, 6, 14, 7, 15)}};
}

/// Sums of pairs of keys: of the first key with either query, then of the second.
typedef struct key_sums {
  ivec pair[4];
} key_sums;

INLINE key_sums sums_from(const int32_t start[2]) {
  ivec both = {start[0], start[1], start[0], start[1]};
  return (key_sums){{both, both, both, both}};
}

/// Adds products of two queries with two times 8 keys.
INLINE void add_scores(key_sums sums[2], const eight_keys keys[2], const int8_t *const query[2]) {
  typedef int64_t longs __attribute__((ext_vector_type(2)));
  longs elements;
  memcpy(&elements, query[0], 8);
  memcpy((int8_t *)&elements + 8, query[1], 8);
#pragma clang loop unroll(full)
  for (int i = 0; i < 8; i++)
    sums[i / 4].pair[i % 4] = add_matrix(sums[i / 4].pair[i % 4], keys[i / 4].pair[i % 4], (ivec)elements);
}

/// The sums of one of the queries.
INLINE ints8 sums_of_query(key_sums sums, const int query) {
  ints8 left = __builtin_shufflevector(sums.pair[0], sums.pair[1], 0, 2, 4, 6, 1, 3, 5, 7);
  ints8 right = __builtin_shufflevector(sums.pair[2], sums.pair[3], 0, 2, 4, 6, 1, 3, 5, 7);
  return query == 0 ? __builtin_shufflevector(left, right, 0, 1, 2, 3, 8, 9, 10, 11)
                    : __builtin_shufflevector(left, right, 4, 5, 6, 7, 12, 13, 14, 15);
}

/// Sums of two rows with the higher parts of inputs, then of those with the lower ones.
typedef vec part_sums;

/// Eights of elements of two rows, side by side.
typedef struct block_weights {
  ivec eights[4];
} block_weights;

INLINE block_weights load_block(const uint8_t *block, const uint8_t *next) {
  block_weights both;
#pragma clang loop unroll(full)
  for (int i = 0; i < 2; i++) {
    ivec first = load_bytes(block + 2 + 16 * i), second = load_bytes(next + 2 + 16 * i);
    both.eights[2 * i] = __builtin_shufflevector(first, second, 0, 1, 4, 5);
    both.eights[2 * i + 1] = __builtin_shufflevector(first, second, 2, 3, 6, 7);
  }
  return both;
}

/// 16 elements of an input: of eight of them the higher parts, then the lower ones.
INLINE void store_parts(const ivec high[4], const ivec low[4], int16_t *out) {
  for (int i = 0; i < 2; i++) {
    const ivec eight[4] = {high[2 * i], high[2 * i + 1], low[2 * i], low[2 * i + 1]};
    store_bytes(eight, out + 8 * i);
  }
}

/// 32 bytes of two rows times 32 elements of an input in 15 bits, times a factor for each row.
INLINE vec add_block(block_weights weights, const int16_t *input, float factor, float next, vec total) {
  int32x4_t sum = {0, 0, 0, 0};
#pragma clang loop unroll(full)
  for (int i = 0; i < 4; i++)
    sum = vmmlaq_s32(sum, (int8x16_t)load_bytes(input + 8 * i), (int8x16_t)weights.eights[i]);
  return fused((vec)vcvtq_f32_s32(sum), (vec){factor, next, factor, next}, total);
}

INLINE float total_of(vec sums, const int row) { return fused(sums, (vec)128.0f, sums.zwxy)[row]; }
