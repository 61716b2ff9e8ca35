// SPDX-License-Identifier: Apache-2.0
// NEON on 64-bit Arm: vectors of four floats with fused multiply-add.
#if defined(__aarch64__)

#include <math.h>
#include <string.h>

#include "tables.h"

#define IHP_TABLE ihp_neon_kernels
#define IHP_NAME "neon"
#define LANES 4
#define TILE_ROWS 6
#define PRODUCTS_IN_BF16 0
#define IN_INTEGERS 0
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

#include "kernels.h"

#endif
