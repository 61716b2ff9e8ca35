// SPDX-License-Identifier: Apache-2.0
// AVX2 with FMA and F16C: vectors of eight floats.
#if defined(__x86_64__)

#include <math.h>
#include <string.h>

#include "tables.h"

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)

#define IHP_TABLE ihp_avx2_kernels
#define IHP_NAME "avx2"
#define LANES 8
#define TILE_ROWS 6
#define PRODUCTS_IN_BF16 0
#define IN_INTEGERS 0
#define TILE_VECTORS 2

#include "vectors.h"

/// Adds the lanes down to four.
static inline quad fold(vec x) {
  return x.lo + x.hi;
}

/// The greatest of lanes four apart.
static inline quad fold_max(vec x) {
  return __builtin_elementwise_max(x.lo, x.hi);
}

#include "kernels.h"

#pragma clang attribute pop

#endif
