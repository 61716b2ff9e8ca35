// SPDX-License-Identifier: Apache-2.0
// AVX-512 with 8-bit dot products (VNNI), for processors whose bfloat16 products are missing or slow: vectors of sixteen floats.
#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "tables.h"

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"))), apply_to = function)

#define IHP_TABLE ihp_avx512_vnni_kernels
#define IHP_NAME "avx512-vnni"
#define LANES 16
#define TILE_ROWS 6
#define PRODUCTS_IN_BF16 0
#define IN_INTEGERS 1
#define INTEGERS "integers_x86.h"
#define TILE_VECTORS 4

#include "vectors.h"
#include "folds512.h"
#include "kernels.h"

#pragma clang attribute pop

#endif
