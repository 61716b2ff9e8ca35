// SPDX-License-Identifier: Apache-2.0
// Panels in bfloat16: [k / 2][IHP_PANEL] pairs of neighbouring elements of k, with zeros up to a whole number of
// IHP_PANEL_DEPTH elements.

#define PRODUCT_ELEMENT IHP_BF16

#if IN_TILES

/// Where a pair stands: tiles of matrix units lie one behind the other.
INLINE uint32_t *panel_place(void *panel, size_t pair, size_t column) {
  const size_t tile = pair / TILE_SIDE * (IHP_PANEL / TILE_SIDE) + column / TILE_SIDE;
  return (uint32_t *)panel + (tile * TILE_SIDE + pair % TILE_SIDE) * TILE_SIDE + column % TILE_SIDE;
}

#else

/// Where a pair stands.
INLINE uint32_t *panel_place(void *panel, size_t pair, size_t column) {
  return (uint32_t *)panel + pair * IHP_PANEL + column;
}

#endif

/// 32 floats as bfloat16, the first 16 in the lower half.
INLINE __m512i narrow_pair(__m512 low, __m512 high) {
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/// Rows that `panel_part` takes at a time.
#define PANEL_PART 16

/// Transposes rows of `n` floats, `ld` apart, into panel columns from `column` on, from depth
/// `first` on.
INLINE void panel_part(const float *rows, size_t ld, size_t n, size_t first, size_t column,
                       void *panel) {
  for (size_t k = 0; k < n; k += 32) {
    int whole = n - k >= 32;
    __m512i pairs[16];
#pragma clang loop unroll(full)
    for (int i = 0; i < 16; i++) {
      const float *row = rows + (size_t)i * ld + k;
      pairs[i] = narrow_pair(_mm512_loadu_ps(row),
                             whole ? _mm512_loadu_ps(row + 16) : _mm512_setzero_ps());
    }
    transpose16(pairs);
    for (size_t i = 0; i < 16; i++)
      _mm512_storeu_si512(panel_place(panel, (first + k) / 2 + i, column), pairs[i]);
  }
}

/// 32 elements of 16 rows, `stride` bytes apart, as pairs.
INLINE void narrow_stored(const ihp_element element, const uint8_t *rows, size_t stride, size_t first, __m512i pairs[16]) {
  float scales[16] __attribute__((aligned(64)));
  if (element == IHP_Q8_0) {
    const __m512i places = _mm512_mullo_epi32(
        _mm512_set1_epi32((int)stride),
        _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
    __m512i words = _mm512_i32gather_epi32(places, rows + first / BLOCK * BLOCK_BYTES, 1);
    _mm512_store_ps(scales, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words)));
  }
#pragma clang loop unroll(full)
  for (size_t i = 0; i < 16; i++) {
    const uint8_t *row = rows + i * stride;
    switch (element) {
    case IHP_BF16:
      pairs[i] = _mm512_loadu_si512(row + first * 2);
      break;
    case IHP_F16:
      pairs[i] = narrow_pair((__m512)widen_half(row + first * 2), (__m512)widen_half(row + first * 2 + 32));
      break;
    default: {
      const int8_t *bytes = (const int8_t *)row + first / BLOCK * BLOCK_BYTES + 2;
      pairs[i] = narrow_pair((__m512)(widen_bytes(bytes) * scales[i]), (__m512)(widen_bytes(bytes + 16) * scales[i]));
      break;
    }
    }
  }
}

/// `panel_part` of a format whose elements are widened in registers.
INLINE void panel_of(const ihp_element element, const uint8_t *rows, size_t stride, size_t n, size_t column,
                     void *panel) {
  for (size_t k = 0; k < n; k += 32) {
    __m512i pairs[16];
    narrow_stored(element, rows, stride, k, pairs);
    transpose16(pairs);
    for (size_t i = 0; i < 16; i++) _mm512_storeu_si512(panel_place(panel, k / 2 + i, column), pairs[i]);
  }
}

/// `panel_part` of rows as they are stored, without a place in memory between; false where that is not known how.
INLINE int panel_stored(ihp_element element, const uint8_t *rows, size_t stride, size_t n, size_t column, void *panel) {
  if (n % 32 != 0 || stride > INT32_MAX / 16) return 0;
  switch (element) {
  case IHP_Q8_0: panel_of(IHP_Q8_0, rows, stride, n, column, panel); return 1;
  case IHP_F16: panel_of(IHP_F16, rows, stride, n, column, panel); return 1;
  case IHP_BF16: panel_of(IHP_BF16, rows, stride, n, column, panel); return 1;
  default: return 0;
  }
}

/// Writes elements from `first` on of two rows, the `k`-th and the next of a panel's depth, into its columns from
/// `column` on.
INLINE void panel_pair(const ihp_element element, const uint8_t *even, const uint8_t *odd, size_t first, size_t k,
                       size_t column, void *panel) {
  const __m512i halves = element == IHP_F16
                             ? narrow_pair((__m512)widen_half(even + 2 * first), (__m512)widen_half(odd + 2 * first))
                             : narrow_pair(_mm512_loadu_ps(even + 4 * first), _mm512_loadu_ps(odd + 4 * first));
  // Lane j of the lower half next to lane j of the upper.
  const __m512i order = _mm512_set_epi16(
      31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
      19, 3, 18, 2, 17, 1, 16, 0);
  _mm512_storeu_si512(panel_place(panel, k / 2, column), _mm512_permutexvar_epi16(order, halves));
}

/// Writes `count` rows of `columns` floats, `ld` apart, as the depth of a panel.
INLINE void panel_rows(const float *rows, size_t ld, size_t count, size_t columns, void *panel) {
  static const float none[IHP_PANEL] = {0};
  for (size_t k = 0; k < count || k % IHP_PANEL_DEPTH != 0; k += 2) {
    const float *even = k < count ? rows + k * ld : none, *odd = k + 1 < count ? rows + (k + 1) * ld : none;
    for (size_t j = 0; j < columns; j += 16)
      panel_pair(IHP_F32, (const uint8_t *)even, (const uint8_t *)odd, j, k, j, panel);
  }
}

/// Rounds `k` elements of a row to pairs, with zeros up to a whole number of vectors.
INLINE void narrow_row(const float *row, size_t k, uint32_t *pairs) {
  size_t i = 0;
  for (; i + 32 <= k; i += 32)
    _mm512_storeu_si512(pairs + i / 2,
                        narrow_pair(_mm512_loadu_ps(row + i), _mm512_loadu_ps(row + i + 16)));
  if (i == k) return;
  size_t left = k - i;
  __mmask16 low = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
  __mmask16 high = left > 16 ? (__mmask16)((1u << (left - 16)) - 1) : 0;
  _mm512_storeu_si512(pairs + i / 2, narrow_pair(_mm512_maskz_loadu_ps(low, row + i),
                                                 _mm512_maskz_loadu_ps(high, row + i + 16)));
}
