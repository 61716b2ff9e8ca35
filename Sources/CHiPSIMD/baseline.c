// SPDX-License-Identifier: Apache-2.0
// Portable kernels: vectors of four floats, no fused multiply-add, half precision by integer steps.
#include <math.h>
#include <string.h>

#include "tables.h"

#define IHP_TABLE ihp_baseline_kernels
#define IHP_NAME "baseline"
#define LANES 4
#define TILE_ROWS 4
#define PRODUCTS_IN_BF16 0
#define IN_INTEGERS 0
#define TILE_VECTORS 2

typedef float vec __attribute__((ext_vector_type(LANES)));
typedef float quad __attribute__((ext_vector_type(4)));
typedef int32_t ivec __attribute__((ext_vector_type(LANES)));
typedef uint32_t uvec __attribute__((ext_vector_type(LANES)));
typedef uint8_t bytes16 __attribute__((ext_vector_type(16)));

static inline vec fused(vec a, vec b, vec c) { return a * b + c; }

/// Adds the lanes down to four.
static inline quad fold(vec x) {
  return x;
}

/// The greatest of lanes four apart.
static inline quad fold_max(vec x) {
  return x;
}

static inline vec widen_half(const void *p) {
  typedef uint16_t hvec __attribute__((ext_vector_type(LANES)));
  hvec bits;
  memcpy(&bits, p, sizeof bits);
  uvec wide = __builtin_convertvector(bits, uvec);
  uvec magnitude = (wide & 0x7fffu) << 13;
  vec scaled = (vec)magnitude * 0x1p112f;
  // Infinity and NaN keep an exponent of all ones.
  uvec special = (uvec)(magnitude >= 0x0f800000u) & 0x7f800000u;
  return (vec)((uvec)scaled | special | ((wide & 0x8000u) << 16));
}

static inline float half_to_float(const void *p) {
  uint16_t padded[LANES] = {0};
  memcpy(padded, p, 2);
  return widen_half(padded)[0];
}

static inline void narrow_half(vec x, void *p) {
  uint16_t out[LANES];
  for (int i = 0; i < LANES; i++) {
    float magnitude = fminf(fabsf(x[i]), 65504.0f);
    uint32_t bits, half;
    if (magnitude < 0x1p-14f) {
      // Adding 0.5 rounds at 2^-24, the distance between subnormal halves.
      float shifted = magnitude + 0.5f;
      memcpy(&bits, &shifted, 4);
      half = bits - 0x3f000000u;
    } else {
      memcpy(&bits, &magnitude, 4);
      half = ((bits + 0xfffu + ((bits >> 13) & 1)) >> 13) - (112u << 10);
    }
    out[i] = (uint16_t)(half | (signbit(x[i]) ? 0x8000u : 0u));
  }
  memcpy(p, out, sizeof out);
}

/// What a code book has for digits of 4 bits.
static inline bytes16 looked_up(bytes16 book, bytes16 digits) {
  for (int i = 0; i < 16; i++) digits[i] = book[digits[i] & 15];
  return digits;
}

#include "kernels.h"
