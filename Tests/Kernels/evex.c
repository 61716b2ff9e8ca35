// SPDX-License-Identifier: Apache-2.0
// The set avx2-vnni with its products in the encoding of AVX-512 (EVEX), for processors that have no AVX-VNNI: what
// surrounds them is compiled for AVX2, as it is shipped. Not run by this are the encoding that is shipped (VEX), and
// what tells whether a processor has it.
#include <immintrin.h>

__attribute__((target("avx2"), always_inline)) static inline __m256i products_of_eight(__m256i sum, __m256i bytes,
                                                                                     __m256i elements) {
  __asm__("vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(bytes), "x"(elements));
  return sum;
}

#define IHP_TARGET "avx2,fma,f16c"
#define EIGHT_PRODUCTS products_of_eight
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
