// SPDX-License-Identifier: Apache-2.0

/// Transposes 16 rows of 16 words.
INLINE void transpose16(__m512i r[16]) {
  __m512i t[16];
#pragma clang loop unroll(full)
  for (int i = 0; i < 8; i++) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < 4; i++) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
    t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
    t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < 4; i++) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
    r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
    r[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
    r[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
  }
}

/// Transposes 16 rows of up to 64 words into the columns of a panel.
INLINE void transpose_words(uint8_t rows[16][256], size_t words, uint32_t *panel) {
  // 16 at a time; what lies beyond the head is not stored.
  for (size_t i = 0; i < words; i += 16) {
    __m512i part[16];
#pragma clang loop unroll(full)
    for (int r = 0; r < 16; r++) part[r] = _mm512_load_si512(rows[r] + 4 * i);
    transpose16(part);
    size_t depth = words - i < 16 ? words - i : 16;
    for (size_t k = 0; k < depth; k++) _mm512_storeu_si512(panel + (i + k) * IHP_PANEL, part[k]);
  }
}

/// Puts the lanes of each of 16 vectors together.
#define LANES_OF_EACH(name, together)                                                                                   \
  INLINE vec name(const vec x[16]) {                                                                                    \
    __m512 pairs[8], quads[4], eights[2];                                                                               \
    _Pragma("clang loop unroll(full)") for (int i = 0; i < 8; i++) {                                                    \
      const __m512 a = (__m512)x[2 * i], b = (__m512)x[2 * i + 1];                                                      \
      pairs[i] = together(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));                                          \
    }                                                                                                                   \
    _Pragma("clang loop unroll(full)") for (int i = 0; i < 4; i++) {                                                    \
      const __m512d a = (__m512d)pairs[2 * i], b = (__m512d)pairs[2 * i + 1];                                           \
      quads[i] = together((__m512)_mm512_unpacklo_pd(a, b), (__m512)_mm512_unpackhi_pd(a, b));                          \
    }                                                                                                                   \
    _Pragma("clang loop unroll(full)") for (int i = 0; i < 2; i++) eights[i] =                                          \
        together(_mm512_shuffle_f32x4(quads[2 * i], quads[2 * i + 1], 0x88),                                            \
                 _mm512_shuffle_f32x4(quads[2 * i], quads[2 * i + 1], 0xdd));                                           \
    return (vec)together(_mm512_shuffle_f32x4(eights[0], eights[1], 0x88),                                              \
                         _mm512_shuffle_f32x4(eights[0], eights[1], 0xdd));                                             \
  }

LANES_OF_EACH(greatest_of_each, _mm512_max_ps)
LANES_OF_EACH(sum_of_each, _mm512_add_ps)
#undef LANES_OF_EACH
