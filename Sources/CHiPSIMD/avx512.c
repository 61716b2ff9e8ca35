// SPDX-License-Identifier: Apache-2.0
// AVX-512 (F, BW, VL, DQ): vectors of sixteen floats.
#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "tables.h"

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c"))), apply_to = function)

#define IHP_TABLE ihp_avx512_kernels
#define IHP_NAME "avx512"
#define LANES 16
#define TILE_ROWS 6
#define PRODUCTS_IN_BF16 0
#define IN_INTEGERS 0
#define TILE_VECTORS 4

#include "vectors.h"
#include "folds512.h"
#include "kernels.h"

#pragma clang attribute pop

#endif
