// SPDX-License-Identifier: Apache-2.0
#include "tables.h"

#if defined(__x86_64__)

#include <cpuid.h>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

static int has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

/// AVX-VNNI: leaf 7, sub-leaf 1, EAX bit 4. Not every compiler's `__builtin_cpu_supports` has a name for it.
static int has_avx_vnni(void) {
  unsigned most, a, b, c, d;
  if (!has_avx2() || !__get_cpuid_count(7, 0, &most, &b, &c, &d) || most < 1) return 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

static int has_avx512(void) {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

#if defined(__linux__)

/// AMX-BF16, AMX-TILE and AMX-INT8: leaf 7, EDX bits 22, 24 and 25. Tiles are a state that Linux gives to a process that
/// asks for it, once and for all its threads; alternate stacks for signals must be larger from then on, and where one is
/// too small the answer is no.
static int has_amx(void) {
  const unsigned needed = 1u << 22 | 1u << 24 | 1u << 25;
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & needed) != needed) return 0;
  const long request_permission = 0x1023, tile_data = 18;
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

#else

static int has_amx(void) { return 0; }

#endif

const ihp_kernels *ihp_kernels_for(ihp_isa isa) {
  __builtin_cpu_init();
  switch (isa) {
  case IHP_BASELINE:
    return &ihp_baseline_kernels;
  case IHP_AVX2:
    return has_avx2() ? &ihp_avx2_kernels : NULL;
  case IHP_AVX2_VNNI:
    return has_avx_vnni() ? &ihp_avx2_vnni_kernels : NULL;
  case IHP_AVX512:
    return has_avx512() ? &ihp_avx512_kernels : NULL;
  case IHP_AVX512_VNNI:
    return has_avx512() && __builtin_cpu_supports("avx512vnni") ? &ihp_avx512_vnni_kernels : NULL;
  case IHP_AVX512_BF16:
    return has_avx512() && __builtin_cpu_supports("avx512bf16") &&
                   __builtin_cpu_supports("avx512vnni")
               ? &ihp_avx512_bf16_kernels
               : NULL;
  case IHP_AMX:
    return has_avx512() && __builtin_cpu_supports("avx512bf16") &&
                   __builtin_cpu_supports("avx512vnni") && has_amx()
               ? &ihp_amx_kernels
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

#if defined(__aarch64__) && defined(__linux__)

#include <sys/auxv.h>

// As <asm/hwcap.h> has them.
static int has_dotprod(void) { return (getauxval(AT_HWCAP) >> 20 & 1) != 0; }
static int has_i8mm(void) { return has_dotprod() && (getauxval(AT_HWCAP2) >> 13 & 1) != 0; }

#elif defined(__aarch64__) && defined(__APPLE__)

#include <sys/sysctl.h>

static int has_feature(const char *name) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value != 0;
}

static int has_dotprod(void) { return has_feature("hw.optional.arm.FEAT_DotProd"); }
static int has_i8mm(void) { return has_dotprod() && has_feature("hw.optional.arm.FEAT_I8MM"); }

#elif defined(__aarch64__)

static int has_dotprod(void) { return 0; }
static int has_i8mm(void) { return 0; }

#endif

const ihp_kernels *ihp_kernels_for(ihp_isa isa) {
  switch (isa) {
  case IHP_BASELINE:
    return &ihp_baseline_kernels;
#if defined(__aarch64__)
  case IHP_NEON:
    return &ihp_neon_kernels;
  case IHP_NEON_DOTPROD:
    return has_dotprod() ? &ihp_neon_dotprod_kernels : NULL;
  case IHP_NEON_I8MM:
    return has_i8mm() ? &ihp_neon_i8mm_kernels : NULL;
#endif
  default:
    return NULL;
  }
}

ihp_bf16_speed ihp_bf16_products(void) { return IHP_BF16_UNKNOWN; }

#endif
