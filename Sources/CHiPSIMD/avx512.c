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
#define PRODUCT_ELEMENT_IS_BF16 0
#define TILE_VECTORS 4

#include "vectors.h"

/// Adds the lanes down to four.
static inline quad fold(vec x) {
  typedef float octet __attribute__((ext_vector_type(8)));
  octet eight = x.lo + x.hi;
  return eight.lo + eight.hi;
}

/// The greatest of lanes four apart.
static inline quad fold_max(vec x) {
  typedef float octet __attribute__((ext_vector_type(8)));
  octet eight = __builtin_elementwise_max(x.lo, x.hi);
  return __builtin_elementwise_max(eight.lo, eight.hi);
}

#include "kernels.h"

#pragma clang attribute pop

#endif
