// SPDX-License-Identifier: Apache-2.0
#ifndef HIP_TABLES_H
#define HIP_TABLES_H

#include "CHiPSIMD.h"

extern const hip_kernels hip_baseline_kernels;
extern const hip_kernels hip_avx2_kernels;
extern const hip_kernels hip_avx512_kernels;
extern const hip_kernels hip_avx512_bf16_kernels;
extern const hip_kernels hip_neon_kernels;

#endif
