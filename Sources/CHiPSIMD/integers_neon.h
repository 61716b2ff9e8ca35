// SPDX-License-Identifier: Apache-2.0
// Products of bytes on Arm, four to a lane: of two signed factors (dot products), or with an unsigned one of eight
// in matrices of two by two (I8MM). A set says by MATRIX_PRODUCTS which.

typedef int32_t ints8 __attribute__((ext_vector_type(8)));
typedef float octet __attribute__((ext_vector_type(8)));

#define SCORE_ROWS 4
#define WEIGHT_ROWS 1

/// Whole numbers nearest to x.
INLINE ivec nearest(vec x) { return (ivec)vcvtnq_s32_f32((float32x4_t)x); }

/// For lanes of vector `v` of a super-block's sums the scale of their group of 16.
INLINE vec spread(const vec *scales, const int v) { return scales[v / 4][v % 4]; }

#if MATRIX_PRODUCTS

#define SIGNED_BYTES 0
#define QUERIES_TOGETHER 2

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

INLINE key_sums add_scores(key_sums sums, eight_keys keys, const int8_t *const query[2]) {
  typedef int64_t longs __attribute__((ext_vector_type(2)));
  longs elements;
  memcpy(&elements, query[0], 8);
  memcpy((int8_t *)&elements + 8, query[1], 8);
  for (int i = 0; i < 4; i++) sums.pair[i] = add_matrix(sums.pair[i], keys.pair[i], (ivec)elements);
  return sums;
}

/// The sums of one of the queries.
INLINE ints8 sums_of_query(key_sums sums, const int query) {
  ints8 left = __builtin_shufflevector(sums.pair[0], sums.pair[1], 0, 2, 4, 6, 1, 3, 5, 7);
  ints8 right = __builtin_shufflevector(sums.pair[2], sums.pair[3], 0, 2, 4, 6, 1, 3, 5, 7);
  return query == 0 ? __builtin_shufflevector(left, right, 0, 1, 2, 3, 8, 9, 10, 11)
                    : __builtin_shufflevector(left, right, 4, 5, 6, 7, 12, 13, 14, 15);
}

#else

#define SIGNED_BYTES 1
#define QUERIES_TOGETHER 1

INLINE ivec add_bytes(ivec sum, ivec quants, ivec elements) {
  return (ivec)vdotq_s32((int32x4_t)sum, (int8x16_t)quants, (int8x16_t)elements);
}

INLINE ints8 add_eight(ints8 sum, ints8 bytes, ints8 elements) {
  ivec low = add_bytes(sum.lo, bytes.lo, elements.lo), high = add_bytes(sum.hi, bytes.hi, elements.hi);
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
}

#define PEAK_PRODUCTS(sum, bits) add_bytes(sum, bits, bits)
#define PEAK_COUNT (4 * LANES)

#endif

// MARK: Q8_0

/// Sums of a block's products.
typedef vec part_sums;

/// 32 elements of an input in 15 bits: first what stands above their lower seven bits, then the rest, from -64 on.
INLINE void store_fine(const float *x, float scale, int16_t *out) {
  int8_t *bytes = (int8_t *)out;
  for (size_t i = 0; i < BLOCK; i += LANES) {
    ivec whole = nearest(load(x + i) * scale);
    ivec high = (whole + 64) >> 7;
    store_bytes(high, bytes + i);
    store_bytes(whole - (high << 7), bytes + BLOCK + i);
  }
}

typedef struct block_weights {
  int8x16_t half[2];
} block_weights;

INLINE block_weights load_block(const uint8_t *block) {
  return (block_weights){{vld1q_s8((const int8_t *)block + 2), vld1q_s8((const int8_t *)block + 18)}};
}

/// 32 bytes of weights times 32 elements of an input in 15 bits, times a factor.
INLINE vec add_block(block_weights weights, const int16_t *input, float factor, vec total) {
  const int8_t *bytes = (const int8_t *)input;
  int32x4_t sum = vdotq_s32(vdupq_n_s32(0), weights.half[0], vld1q_s8(bytes));
  sum = vshlq_n_s32(vdotq_s32(sum, weights.half[1], vld1q_s8(bytes + 16)), 7);
  sum = vdotq_s32(sum, weights.half[0], vld1q_s8(bytes + 32));
  sum = vdotq_s32(sum, weights.half[1], vld1q_s8(bytes + 48));
  return fused((vec)vcvtq_f32_s32(sum), (vec)factor, total);
}

INLINE float total_of(vec sums) { return sum_lanes(sums); }

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
