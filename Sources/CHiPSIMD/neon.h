// SPDX-License-Identifier: Apache-2.0
// What the sets of 64-bit Arm have in common: vectors of four floats with fused multiply-add.

#define LANES 4
#define TILE_ROWS 6
#define PRODUCTS_IN_BF16 0
#define TILE_VECTORS 4

#include "vectors.h"

/// Adds the lanes down to four.
static inline quad fold(vec x) {
  return x;
}

/// The greatest of lanes four apart.
static inline quad fold_max(vec x) {
  return x;
}
