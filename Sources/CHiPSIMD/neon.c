// SPDX-License-Identifier: Apache-2.0
// NEON on 64-bit Arm: vectors of four floats.
#if defined(__aarch64__)

#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "tables.h"

#define IHP_TABLE ihp_neon_kernels
#define IHP_NAME "neon"
#define IN_INTEGERS 0

#include "neon.h"
#include "kernels.h"

#endif
