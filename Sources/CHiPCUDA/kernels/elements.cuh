// SPDX-License-Identifier: Apache-2.0
// Element types and their conversions. No CUDA header is needed: NVRTC compiles kernels from their own text alone.
#pragma once

struct BFloat16 {
  unsigned short bits;
};
struct Half {
  unsigned short bits;
};

__device__ __forceinline__ float widen(float value) { return value; }
__device__ __forceinline__ float widen(BFloat16 value) { return __uint_as_float((unsigned)value.bits << 16); }
__device__ __forceinline__ float widen(Half value) {
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
  return wide;
}

__device__ __forceinline__ void narrow(float value, float &target) { target = value; }
__device__ __forceinline__ void narrow(float value, BFloat16 &target) {
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(target.bits) : "f"(value));
}
__device__ __forceinline__ void narrow(float value, Half &target) {
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(target.bits) : "f"(value));
}
