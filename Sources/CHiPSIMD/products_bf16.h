// SPDX-License-Identifier: Apache-2.0
// Products in bfloat16 with float32 sums (AVX512-BF16): a panel is [k / 2][IHP_PANEL] pairs of
// neighbouring elements of k.

#define PRODUCT_ELEMENT IHP_BF16
/// Depth of one pass; longer products are summed up in passes.
#define PASS_DEPTH 512

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
    uint32_t *out = (uint32_t *)panel + (first + k) / 2 * IHP_PANEL + column;
    for (int i = 0; i < (whole ? 16 : 8); i++)
      _mm512_storeu_si512(out + (size_t)i * IHP_PANEL, pairs[i]);
  }
}

/// Writes `count` rows of `columns` floats, `ld` apart, as the depth of a panel.
INLINE void panel_rows(const float *rows, size_t ld, size_t count, size_t columns, void *panel) {
  for (size_t k = 0; k < count; k += 2)
    for (size_t j = 0; j < columns; j += 16) {
      __m512 even = _mm512_loadu_ps(rows + k * ld + j);
      __m512 odd = k + 1 < count ? _mm512_loadu_ps(rows + (k + 1) * ld + j) : _mm512_setzero_ps();
      __m512i halves = narrow_pair(even, odd);
      // Lane j of the lower half next to lane j of the upper.
      const __m512i order = _mm512_set_epi16(
          31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
          19, 3, 18, 2, 17, 1, 16, 0);
      _mm512_storeu_si512((uint32_t *)panel + k / 2 * IHP_PANEL + j,
                          _mm512_permutexvar_epi16(order, halves));
    }
}

/// One register tile: `height` rows of pairs times `vectors` vectors of columns.
INLINE void tile(const int height, const int vectors, const uint32_t *a, size_t lda,
                 const uint32_t *b, size_t pairs, float *c, size_t ldc, size_t columns, int keep) {
  __m512 sum[TILE_ROWS][TILE_VECTORS];
#pragma clang loop unroll(full)
  for (int r = 0; r < height; r++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) sum[r][v] = _mm512_setzero_ps();
  for (size_t i = 0; i < pairs; i++) {
    __m512bh right[TILE_VECTORS];
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++)
      right[v] = (__m512bh)_mm512_loadu_si512(b + i * IHP_PANEL + (size_t)v * 16);
#pragma clang loop unroll(full)
    for (int r = 0; r < height; r++) {
      __m512bh left = (__m512bh)_mm512_set1_epi32((int)a[(size_t)r * lda + i]);
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], left, right[v]);
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < height; r++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      float *out = c + (size_t)r * ldc + (size_t)v * 16;
      size_t left = columns - (size_t)v * 16;
      __mmask16 mask = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
      __m512 old = keep ? _mm512_maskz_loadu_ps(mask, out) : _mm512_setzero_ps();
      _mm512_mask_storeu_ps(out, mask, _mm512_add_ps(old, sum[r][v]));
    }
}

#define TILE_OF(height)                                                                            \
  switch ((columns + 15) / 16) {                                                                   \
  case 1: tile(height, 1, left, ld, b, pairs, out, ldc, columns, keep); break;                         \
  case 2: tile(height, 2, left, ld, b, pairs, out, ldc, columns, keep); break;                         \
  case 3: tile(height, 3, left, ld, b, pairs, out, ldc, columns, keep); break;                         \
  default: tile(height, 4, left, ld, b, pairs, out, ldc, columns, keep); break;                        \
  }

/// Rounds `k` elements of a row to pairs; an odd last one is paired with zero.
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

static void gemm(ihp_element element, const void *a, size_t lda, size_t rows, const void *panel,
                 size_t k, float *c, size_t ldc, size_t columns, int keep) {
  uint32_t narrowed[TILE_ROWS * (PASS_DEPTH / 2)] __attribute__((aligned(64)));
  for (size_t first = 0; first < k; first += PASS_DEPTH) {
    size_t depth = k - first < PASS_DEPTH ? k - first : PASS_DEPTH;
    size_t pairs = (depth + 1) / 2;
    const uint32_t *b = (const uint32_t *)panel + first / 2 * IHP_PANEL;
    for (size_t r = 0; r < rows;) {
      size_t rest = rows - r;
      size_t height = rest >= TILE_ROWS ? TILE_ROWS : rest >= 4 ? 4 : rest >= 2 ? 2 : 1;
      const uint32_t *left = narrowed;
      size_t ld = PASS_DEPTH / 2;
      if (element == IHP_BF16) {
        left = (const uint32_t *)((const uint16_t *)a + r * lda + first);
        ld = lda / 2;
      } else {
        for (size_t i = 0; i < height; i++)
          narrow_row((const float *)a + (r + i) * lda + first, depth,
                     narrowed + i * (PASS_DEPTH / 2));
      }
      float *out = c + r * ldc;
      switch (height) {
      case 1: TILE_OF(1); break;
      case 2: TILE_OF(2); break;
      case 4: TILE_OF(4); break;
      default: TILE_OF(TILE_ROWS); break;
      }
      r += height;
    }
    keep = 1;
  }
}
