// SPDX-License-Identifier: Apache-2.0
// NEON with 8-bit dot products and products of 8-bit matrices (FEAT_DotProd, FEAT_I8MM): vectors of four floats.
#if defined(__aarch64__)

#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "tables.h"

#pragma clang attribute push(__attribute__((target("dotprod,i8mm"))), apply_to = function)

#define IHP_TABLE ihp_neon_i8mm_kernels
#define IHP_NAME "neon-i8mm"
#define IN_INTEGERS 1
#define INTEGERS "integers_i8mm.h"

#include "neon.h"
#include "kernels.h"

#pragma clang attribute pop

#endif
