// SPDX-License-Identifier: Apache-2.0
#ifndef IHP_TABLES_H
#define IHP_TABLES_H

#include "CHiPSIMD.h"

extern const ihp_kernels ihp_baseline_kernels;
extern const ihp_kernels ihp_avx2_kernels;
extern const ihp_kernels ihp_avx2_vnni_kernels;
extern const ihp_kernels ihp_avx512_kernels;
extern const ihp_kernels ihp_avx512_vnni_kernels;
extern const ihp_kernels ihp_avx512_bf16_kernels;
extern const ihp_kernels ihp_amx_kernels;
extern const ihp_kernels ihp_neon_kernels;
extern const ihp_kernels ihp_neon_dotprod_kernels;
extern const ihp_kernels ihp_neon_i8mm_kernels;

#endif
