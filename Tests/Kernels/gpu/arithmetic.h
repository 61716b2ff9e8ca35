// SPDX-License-Identifier: Apache-2.0
// What the GPU computes with numbers and words, for kernels that are compiled for this processor.
#pragma once

#include <stdint.h>
#include <string.h>

struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

namespace device {
template <class To, class From> To same_bits(From from) {
  static_assert(sizeof(To) == sizeof from, "");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
}  // namespace device

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline float __uint_as_float(unsigned bits) { return device::same_bits<float>(bits); }
inline float __int_as_float(int bits) { return device::same_bits<float>(bits); }
inline unsigned __float_as_uint(float value) { return device::same_bits<unsigned>(value); }
inline double __longlong_as_double(long long bits) { return device::same_bits<double>(bits); }
inline long long __double_as_longlong(double value) { return device::same_bits<long long>(value); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
template <class T> T __ldg(const T *at) { return *at; }
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return (unsigned)(((uint64_t)high << 32 | low) >> (shift & 31));
}
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const uint64_t both = (uint64_t)high << 32 | low;
  unsigned out = 0;
  for (int i = 0; i < 4; i++) {
    const unsigned digit = selector >> (4 * i) & 15, byte = both >> (8 * (digit & 7)) & 255;
    // The fourth bit asks for the sign of the byte, eight times.
    out |= (digit & 8 ? (byte & 128 ? 255u : 0) : byte) << (8 * i);
  }
  return out;
}
