// SPDX-License-Identifier: Apache-2.0
// AVX2 with 8-bit dot products (AVX-VNNI), for processors without AVX-512 (Intel's since Alder Lake): vectors of eight floats.
#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "tables.h"

#ifndef IHP_TARGET
#define IHP_TARGET "avx2,fma,f16c,avxvnni"
#endif
#pragma clang attribute push(__attribute__((target(IHP_TARGET))), apply_to = function)

#define IHP_TABLE ihp_avx2_vnni_kernels
#define IHP_NAME "avx2-vnni"
#define IN_INTEGERS 1
#define INTEGERS "integers_x86.h"

#include "avx2.h"
#include "kernels.h"

#pragma clang attribute pop

#endif
