// SPDX-License-Identifier: Apache-2.0
// AVX2 with FMA and F16C: vectors of eight floats.
#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "tables.h"

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)

#define IHP_TABLE ihp_avx2_kernels
#define IHP_NAME "avx2"
#define IN_INTEGERS 0

#include "avx2.h"
#include "kernels.h"

#pragma clang attribute pop

#endif
