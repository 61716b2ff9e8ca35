// SPDX-License-Identifier: Apache-2.0
// NEON with 8-bit dot products (FEAT_DotProd), which Arm's cores have since 2018: vectors of four floats.
#if defined(__aarch64__)

#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "tables.h"

#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)

#define IHP_TABLE ihp_neon_dotprod_kernels
#define IHP_NAME "neon-dotprod"
#define IN_INTEGERS 1
#define INTEGERS "integers_dotprod.h"

#include "neon.h"
#include "kernels.h"

#pragma clang attribute pop

#endif
