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

const hip_kernels *hip_kernels_for(hip_isa isa) {
  __builtin_cpu_init();
  switch (isa) {
  case HIP_BASELINE:
    return &hip_baseline_kernels;
  case HIP_AVX2:
    return has_avx2() ? &hip_avx2_kernels : NULL;
  case HIP_AVX512:
    return has_avx512() ? &hip_avx512_kernels : NULL;
  case HIP_AVX512_BF16:
    return has_avx512() && __builtin_cpu_supports("avx512bf16") &&
                   __builtin_cpu_supports("avx512vnni")
               ? &hip_avx512_bf16_kernels
               : NULL;
  default:
    return NULL;
  }
}

#elif defined(__aarch64__)

const hip_kernels *hip_kernels_for(hip_isa isa) {
  switch (isa) {
  case HIP_BASELINE:
    return &hip_baseline_kernels;
  case HIP_NEON:
    return &hip_neon_kernels;
  default:
    return NULL;
  }
}

#else

const hip_kernels *hip_kernels_for(hip_isa isa) {
  return isa == HIP_BASELINE ? &hip_baseline_kernels : NULL;
}

#endif
