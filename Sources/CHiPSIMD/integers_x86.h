// SPDX-License-Identifier: Apache-2.0
// Products of bytes on x86 (VNNI): an unsigned factor, a signed one, four to a lane.

/// Whether both factors are signed.
#define SIGNED_BYTES 0
/// Queries, and rows of Q8_0, that one product takes.
#define QUERIES_TOGETHER 1
#define ROWS_TOGETHER 1

typedef int32_t ints8 __attribute__((ext_vector_type(8)));
typedef float octet __attribute__((ext_vector_type(8)));

#if LANES == 16

typedef __m512 wide_floats;
typedef __m512i wide_ints;
#define WIDE(name) _mm512_##name
#define WIDE_PRODUCTS _mm512_dpbusd_epi32
#define EIGHT_PRODUCTS _mm256_dpbusd_epi32
#define PAIR_PRODUCTS "vpdpwssd"
/// Queries of a tile of scores, rows of Q8_0 that share what is loaded of four inputs.
#define SCORE_ROWS 12
#define WEIGHT_ROWS 2

/// For lanes of vector `v` of a super-block's sums the scales of their groups of 16.
INLINE vec spread(const vec *scales, const int v) {
  const __m512i four = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
  return (vec)_mm512_permutexvar_ps(_mm512_add_epi32(four, _mm512_set1_epi32(4 * v)),
                                    (__m512)scales[0]);
}

#else

typedef __m256 wide_floats;
typedef __m256i wide_ints;
#define WIDE(name) _mm256_##name
#define WIDE_PRODUCTS EIGHT_PRODUCTS
// Tests of processors without AVX-VNNI take the same products of AVX-512 VNNI, which are encoded otherwise.
#ifndef EIGHT_PRODUCTS
#define EIGHT_PRODUCTS _mm256_dpbusd_avx_epi32
#define PAIR_PRODUCTS "%{vex%} vpdpwssd"
#endif
#define SCORE_ROWS 4
#define WEIGHT_ROWS 1

INLINE vec spread(const vec *scales, const int v) {
  const __m256i two = _mm256_set_epi32(1, 1, 1, 1, 0, 0, 0, 0);
  return (vec)_mm256_permutevar8x32_ps(
      (__m256)scales[v / 4], _mm256_add_epi32(two, _mm256_set1_epi32(v % 4 * 2)));
}

#endif

/// Whole numbers nearest to x.
INLINE ivec nearest(vec x) { return (ivec)WIDE(cvtps_epi32)((wide_floats)x); }

INLINE ivec add_bytes(ivec sum, ivec quants, ivec elements) {
  return (ivec)WIDE_PRODUCTS((wide_ints)sum, (wide_ints)quants, (wide_ints)elements);
}

INLINE ints8 add_eight(ints8 sum, ints8 bytes, ints8 elements) {
  return (ints8)EIGHT_PRODUCTS((__m256i)sum, (__m256i)bytes, (__m256i)elements);
}

#define PEAK_PRODUCTS(sum, bits) add_bytes(sum, bits, bits)
#define PEAK_COUNT (4 * LANES)

// MARK: Q8_0

/// Sums of a block's products.
typedef octet part_sums;

/// 32 elements of an input in 15 bits.
INLINE void store_fine(const float *x, float scale, int16_t *out) {
  typedef int16_t shorts __attribute__((ext_vector_type(LANES)));
  for (size_t i = 0; i < BLOCK; i += LANES) {
    shorts whole = __builtin_convertvector(nearest(load(x + i) * scale), shorts);
    memcpy(out + i, &whole, sizeof whole);
  }
}

typedef struct block_weights {
  __m256i half[2];
} block_weights;

INLINE block_weights load_block(const uint8_t *block, const uint8_t *same) {
  (void)same;
  return (block_weights){{_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(block + 2))),
                          _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(block + 18)))}};
}

/// 32 bytes of weights times 32 elements of an input in 15 bits, times a factor.
INLINE octet add_block(block_weights weights, const int16_t *input, float factor, float same, octet total) {
  (void)same;
  __m256i sum = _mm256_madd_epi16(weights.half[0], _mm256_loadu_si256((const __m256i *)input));
  __m256i second = _mm256_loadu_si256((const __m256i *)(input + 16));
  // One instruction: compilers make two of the intrinsic.
  __asm__(PAIR_PRODUCTS " %2, %1, %0" : "+v"(sum) : "v"(weights.half[1]), "v"(second));
  return __builtin_elementwise_fma((octet)_mm256_cvtepi32_ps(sum), (octet)factor, total);
}

INLINE float total_of(octet sums, const int row) {
  (void)row;
  quad four = sums.lo + sums.hi;
  return (four[0] + four[2]) + (four[1] + four[3]);
}

/// Factors are broadcast from memory: kept in registers they would push the sums out.
#define KEEP_IN_MEMORY(factors) __asm__ volatile("" : : "r"(factors) : "memory")

/// Half-precision numbers of 8 blocks, so many bytes apart. Put together in registers: small stores and a wide load
/// would wait for each other.
INLINE octet block_halves(const uint8_t *block, const size_t stride) {
  uint16_t h[8];
#pragma clang loop unroll(full)
  for (size_t i = 0; i < 8; i++) memcpy(h + i, block + i * stride, 2);
  __m128i low = _mm_cvtsi32_si128(h[0]), high = _mm_cvtsi32_si128(h[4]);
  low = _mm_insert_epi16(_mm_insert_epi16(_mm_insert_epi16(low, h[1], 1), h[2], 2), h[3], 3);
  high = _mm_insert_epi16(_mm_insert_epi16(_mm_insert_epi16(high, h[5], 1), h[6], 2), h[7], 3);
  return (octet)_mm256_cvtph_ps(_mm_unpacklo_epi64(low, high));
}
