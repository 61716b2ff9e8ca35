// SPDX-License-Identifier: Apache-2.0
#include "tables.h"

#if defined(__x86_64__)

static int has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

static int has_avx512(void) {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

const ihp_kernels *ihp_kernels_for(ihp_isa isa) {
  __builtin_cpu_init();
  switch (isa) {
  case IHP_BASELINE:
    return &ihp_baseline_kernels;
  case IHP_AVX2:
    return has_avx2() ? &ihp_avx2_kernels : NULL;
  case IHP_AVX512:
    return has_avx512() ? &ihp_avx512_kernels : NULL;
  case IHP_AVX512_VNNI:
    return has_avx512() && __builtin_cpu_supports("avx512vnni") ? &ihp_avx512_vnni_kernels : NULL;
  case IHP_AVX512_BF16:
    return has_avx512() && __builtin_cpu_supports("avx512bf16") &&
                   __builtin_cpu_supports("avx512vnni")
               ? &ihp_avx512_bf16_kernels
               : NULL;
  default:
    return NULL;
  }
}

ihp_bf16_speed ihp_bf16_products(void) {
  __builtin_cpu_init();
  if (__builtin_cpu_is("amd")) return IHP_BF16_FAST;
  return __builtin_cpu_is("intel") ? IHP_BF16_SLOW : IHP_BF16_UNKNOWN;
}

#else

const ihp_kernels *ihp_kernels_for(ihp_isa isa) {
  switch (isa) {
  case IHP_BASELINE:
    return &ihp_baseline_kernels;
#if defined(__aarch64__)
  case IHP_NEON:
    return &ihp_neon_kernels;
#endif
  default:
    return NULL;
  }
}

ihp_bf16_speed ihp_bf16_products(void) { return IHP_BF16_UNKNOWN; }

#endif
