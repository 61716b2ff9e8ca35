// SPDX-License-Identifier: Apache-2.0
// NEON on 64-bit Arm: vectors of four floats with fused multiply-add.
#if defined(__aarch64__)

#include <math.h>
#include <string.h>

#include "tables.h"

#define HIP_TABLE hip_neon_kernels
#define HIP_NAME "neon"
#define LANES 4
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
  return x;
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

#endif
