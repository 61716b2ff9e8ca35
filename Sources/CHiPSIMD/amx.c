// SPDX-License-Identifier: Apache-2.0
// AVX-512 with bfloat16, 8-bit dot products and matrix units (BF16, VNNI, AMX): vectors of sixteen floats.
#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "tables.h"

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni,amx-tile,amx-bf16,amx-int8,avx2,fma,f16c"))), apply_to = function)

#define IHP_TABLE ihp_amx_kernels
#define IHP_NAME "amx"
#define LANES 16
#define TILE_ROWS 6
#define PRODUCTS_IN_BF16 1
#define IN_TILES 1
#define IN_INTEGERS 1
#define INTEGERS "integers_x86.h"
#define TILE_VECTORS 4

#include "vectors.h"
#include "folds512.h"
#include "kernels.h"

#pragma clang attribute pop

#endif
