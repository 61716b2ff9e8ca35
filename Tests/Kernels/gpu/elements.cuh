// SPDX-License-Identifier: Apache-2.0
// In place of the kernels' `elements.cuh`: the same conversions without the GPU's instructions.
#pragma once

#include "device.h"

struct BFloat16 {
  unsigned short bits;
};
struct Half {
  unsigned short bits;
};

inline float widen(float value) { return value; }
inline float widen(BFloat16 value) { return __uint_as_float((unsigned)value.bits << 16); }
inline float widen(Half value) { return (float)device::same_bits<_Float16>(value.bits); }

inline void narrow(float value, float &target) { target = value; }
inline void narrow(float value, BFloat16 &target) {
  const unsigned bits = __float_as_uint(value);
  target.bits = value != value ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
inline void narrow(float value, Half &target) { target.bits = device::same_bits<unsigned short>((_Float16)value); }
