// SPDX-License-Identifier: Apache-2.0
// AVX-512 (F, BW, VL, DQ): vectors of sixteen floats.
#if defined(__x86_64__)

#include <math.h>
#include <string.h>

#include "tables.h"

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c"))), apply_to = function)

#define HIP_TABLE hip_avx512_kernels
#define HIP_NAME "avx512"
#define LANES 16
#define TILE_ROWS 6
#define TILE_VECTORS 4

typedef float vec __attribute__((ext_vector_type(LANES)));
typedef float quad __attribute__((ext_vector_type(4)));
typedef int32_t ivec __attribute__((ext_vector_type(LANES)));
typedef uint32_t uvec __attribute__((ext_vector_type(LANES)));
typedef _Float16 hvec __attribute__((ext_vector_type(LANES)));

static inline vec fused(vec a, vec b, vec c) { return __builtin_elementwise_fma(a, b, c); }

/// Adds the lanes down to four.
static inline quad fold(vec x) {
  typedef float octet __attribute__((ext_vector_type(8)));
  octet eight = x.lo + x.hi;
  return eight.lo + eight.hi;
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
