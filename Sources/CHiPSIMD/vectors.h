// SPDX-License-Identifier: Apache-2.0
// Vector types and conversions of the instruction sets that have fused multiply-add and half
// precision in hardware. The file that includes this defines LANES.

typedef float vec __attribute__((ext_vector_type(LANES)));
typedef float quad __attribute__((ext_vector_type(4)));
typedef int32_t ivec __attribute__((ext_vector_type(LANES)));
typedef uint32_t uvec __attribute__((ext_vector_type(LANES)));
typedef uint8_t bytes16 __attribute__((ext_vector_type(16)));
typedef _Float16 hvec __attribute__((ext_vector_type(LANES)));

static inline vec fused(vec a, vec b, vec c) { return __builtin_elementwise_fma(a, b, c); }

static inline vec widen_half(const void *p) {
  hvec half;
  memcpy(&half, p, sizeof half);
  return __builtin_convertvector(half, vec);
}

static inline float half_to_float(const void *p) {
  _Float16 half;
  memcpy(&half, p, sizeof half);
  return (float)half;
}

static inline void narrow_half(vec x, void *p) {
  vec bounded = __builtin_elementwise_min(__builtin_elementwise_max(x, (vec)-65504.0f), (vec)65504.0f);
  hvec half = __builtin_convertvector(bounded, hvec);
  memcpy(p, &half, sizeof half);
}

/// What a code book has for digits of 4 bits.
static inline bytes16 looked_up(bytes16 book, bytes16 digits) {
#if defined(__aarch64__)
  return (bytes16)vqtbl1q_u8((uint8x16_t)book, (uint8x16_t)digits);
#else
  return (bytes16)_mm_shuffle_epi8((__m128i)book, (__m128i)digits);
#endif
}
