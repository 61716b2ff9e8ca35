// SPDX-License-Identifier: Apache-2.0
// AVX2 with FMA and F16C: vectors of eight floats.
#if defined(__x86_64__)

#include <math.h>
#include <string.h>

#include "tables.h"

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)

#define HIP_TABLE hip_avx2_kernels
#define HIP_NAME "avx2"
#define LANES 8
#define TILE_ROWS 6
#define TILE_VECTORS 2

typedef float vec __attribute__((ext_vector_type(LANES)));
typedef float quad __attribute__((ext_vector_type(4)));
typedef int32_t ivec __attribute__((ext_vector_type(LANES)));
typedef uint32_t uvec __attribute__((ext_vector_type(LANES)));
typedef _Float16 hvec __attribute__((ext_vector_type(LANES)));

static inline vec fused(vec a, vec b, vec c) { return __builtin_elementwise_fma(a, b, c); }

/// Adds the lanes down to four.
static inline quad fold(vec x) {
  return x.lo + x.hi;
}

static inline vec widen_half(const void *p) {
  hvec half;
  memcpy(&half, p, sizeof half);
  return __builtin_convertvector(half, vec);
}

static inline void narrow_half(vec x, void *p) {
  vec bounded = __builtin_elementwise_min(__builtin_elementwise_max(x, (vec)-65504.0f), (vec)65504.0f);
  hvec half = __builtin_convertvector(bounded, hvec);
  memcpy(p, &half, sizeof half);
}

#include "kernels.h"

#pragma clang attribute pop

#endif
