// SPDX-License-Identifier: Apache-2.0
// The set avx2-vnni in the encoding of AVX-512 (EVEX), for processors that have no AVX-VNNI: all of its code and the
// same products, which differ from those of the shipped set in how their instructions are encoded, and in nothing else.
#include <immintrin.h>

#define IHP_TARGET "avx2,fma,f16c,avx512vl,avx512vnni"
#define EIGHT_PRODUCTS _mm256_dpbusd_epi32
#define PAIR_PRODUCTS "vpdpwssd"
#include "../../Sources/CHiPSIMD/avx2_vnni.c"

/// Takes the place of detect.c: what this program is linked with.
const ihp_kernels *ihp_kernels_for(ihp_isa isa) {
  __builtin_cpu_init();
  if (isa == IHP_BASELINE) return &ihp_baseline_kernels;
  int runs = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  return isa == IHP_AVX2_VNNI && runs ? &ihp_avx2_vnni_kernels : NULL;
}
