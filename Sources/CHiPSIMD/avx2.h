// SPDX-License-Identifier: Apache-2.0
// What the sets with vectors of 32 bytes have in common.

#define LANES 8
#define TILE_ROWS 6
#define PRODUCTS_IN_BF16 0
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
