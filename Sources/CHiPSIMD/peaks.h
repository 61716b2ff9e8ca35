// SPDX-License-Identifier: Apache-2.0
// What the machine can do at best, to compare kernels with.

/// Independent sums: enough to hide the latency of a multiply-add.
#define PEAK_SUMS 12

/// Keeps a vector in a register, and the compiler from knowing what is in it.
#if defined(__x86_64__)
#define OPAQUE(x) __asm__ volatile("" : "+v"(x))
#elif defined(__aarch64__)
#define OPAQUE(x) __asm__ volatile("" : "+w"(x))
#else
#define OPAQUE(x) __asm__ volatile("" : "+m"(x))
#endif

static double peak(ihp_element element, size_t rounds) {
  if (element == IHP_F32) {
    vec sums[PEAK_SUMS], factor = 0.5f, other = 0.25f;
    for (int i = 0; i < PEAK_SUMS; i++) sums[i] = (float)i;
    for (size_t round = 0; round < rounds; round++) {
#pragma clang loop unroll(full)
      for (int i = 0; i < PEAK_SUMS; i++) {
        sums[i] = fused(sums[i], factor, other);
        OPAQUE(sums[i]);
      }
    }
    return 2.0 * LANES * PEAK_SUMS * (double)rounds;
  }
#if IN_TILES
  if (element != IHP_F32) return tile_peak(element, rounds);
#endif
#if PRODUCTS_IN_BF16
  if (element == IHP_BF16) {
    __m512i bits = _mm512_set1_epi32(0x3c003c00);
    __m512 sums[PEAK_SUMS];
    for (int i = 0; i < PEAK_SUMS; i++) sums[i] = _mm512_set1_ps((float)i);
    for (size_t round = 0; round < rounds; round++) {
#pragma clang loop unroll(full)
      for (int i = 0; i < PEAK_SUMS; i++) {
        sums[i] = _mm512_dpbf16_ps(sums[i], (__m512bh)bits, (__m512bh)bits);
        OPAQUE(sums[i]);
      }
    }
    return 2.0 * 32 * PEAK_SUMS * (double)rounds;
  }
#endif
#if IN_INTEGERS
  if (element == IHP_Q8_0) {
    ivec sums[PEAK_SUMS], bits = 0x3c003c00;
    for (int i = 0; i < PEAK_SUMS; i++) sums[i] = i;
    for (size_t round = 0; round < rounds; round++) {
#pragma clang loop unroll(full)
      for (int i = 0; i < PEAK_SUMS; i++) {
        sums[i] = PEAK_PRODUCTS(sums[i], bits);
        OPAQUE(sums[i]);
      }
    }
    return 2.0 * PEAK_COUNT * PEAK_SUMS * (double)rounds;
  }
#endif
  return 0;
}

static uint64_t stream(const void *bytes, size_t count) {
  uvec sums[4] = {0, 0, 0, 0};
  const uint8_t *p = bytes;
  for (size_t i = 0; i + 4 * sizeof(uvec) <= count; i += 4 * sizeof(uvec))
    for (size_t v = 0; v < 4; v++) {
      uvec x;
      memcpy(&x, p + i + v * sizeof x, sizeof x);
      sums[v] ^= x;
    }
  uvec all = (sums[0] ^ sums[1]) ^ (sums[2] ^ sums[3]);
  uint64_t result = 0;
  for (int i = 0; i < LANES; i++) result ^= all[i];
  return result;
}
