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
#define PRODUCT_ELEMENT_IS_BF16 0
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
