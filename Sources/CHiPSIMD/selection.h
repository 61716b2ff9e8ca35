// SPDX-License-Identifier: Apache-2.0
// What a selection makes of scores: maxima, and shares of softmax mass.

// MARK: Shares

static void column_max(const float *scores, size_t ld, size_t rows, size_t columns, float *out) {
  memcpy(out, scores, columns * sizeof(float));
  for (size_t r = 1; r < rows; r++) {
    const float *row = scores + r * ld;
    size_t j = 0;
    for (; j + LANES <= columns; j += LANES)
      store(out + j, __builtin_elementwise_max(load(out + j), load(row + j)));
    for (; j < columns; j++) out[j] = row[j] > out[j] ? row[j] : out[j];
  }
}

// Weights wait between the two passes over them in the precision of the products.
#if PRODUCTS_IN_BF16
#define WEIGHT_BYTES 2
#define LOAD_WEIGHT widen_bfloat
#define STORE_WEIGHT(x, p) _mm256_storeu_si256((__m256i *)(p), (__m256i)_mm512_cvtneps_pbh((__m512)(x)))
#else
#define WEIGHT_BYTES 4
#define LOAD_WEIGHT(p) load((const float *)(p))
#define STORE_WEIGHT(x, p) store((float *)(p), x)
#endif

#if IN_INTEGERS

/// exp(x) for x <= 0 to 3 % of itself: the exponent's bits, with the fraction of the power in place
/// of its exponential (Schraudolph 1999). Shares are sums over many.
INLINE vec share_bits(vec bits) {
  // What is below the normal numbers becomes zero: some processors take a hundred cycles for it.
  return (vec)(nearest(bits) & (bits >= 0x1p23f));
}

INLINE vec share_weight(vec x) {
  return share_bits(fused(x, (vec)(1.44269504f * 8388608.0f), (vec)(127.0f * 8388608.0f - 366393.0f)));
}

#else
#define share_weight exponential
#endif

INLINE void share_folded(float *scores, size_t rows, size_t columns, const size_t fold, void *weights,
                         size_t ld, float *maximum, float *sum, size_t tile_ld) {
  const size_t width = IHP_PANEL / fold;
  for (size_t r = 0; r < rows; r++) {
    float *row = scores + r * IHP_PANEL;
    uint8_t *out = (uint8_t *)weights + r * ld * WEIGHT_BYTES;
    if (columns < IHP_PANEL)
      for (size_t v = 0; v < IHP_PANEL; v += width)
        for (size_t j = columns / fold; j < width; j++) row[v + j] = -INFINITY;
    float best = row_max(row, IHP_PANEL);
    vec total = 0.0f;
    for (size_t j = 0; j < width; j += LANES) {
      vec weight = share_weight(load(row + j) - best);
      for (size_t v = width; v < IHP_PANEL; v += width)
        weight += share_weight(load(row + v + j) - best);
      total += weight;
      STORE_WEIGHT(weight, out + j * WEIGHT_BYTES);
    }
    maximum[r * tile_ld] = best;
    sum[r * tile_ld] = sum_lanes(total);
  }
}

static void share_tile(float *scores, size_t rows, size_t columns, size_t fold, void *weights,
                       size_t ld, float *maximum, float *sum, size_t tile_ld) {
  if (fold == 1) share_folded(scores, rows, columns, 1, weights, ld, maximum, sum, tile_ld);
  else if (fold == 2) share_folded(scores, rows, columns, 2, weights, ld, maximum, sum, tile_ld);
  else share_folded(scores, rows, columns, 4, weights, ld, maximum, sum, tile_ld);
}

INLINE void share_tiles(const void *panels, size_t head_size, const float *queries, size_t rows, size_t columns,
                        size_t fold, float *scores, void *weights, size_t ld, float *maximum, float *sum,
                        size_t tile_ld) {
  const size_t panel_bytes = COARSE_BYTES * head_size * IHP_PANEL + IHP_PANEL * sizeof(float);
  for (size_t t = 0; t * IHP_PANEL < columns; t++) {
    const size_t count = columns - t * IHP_PANEL < IHP_PANEL ? columns - t * IHP_PANEL : IHP_PANEL;
    score_coarse((const uint8_t *)panels + t * panel_bytes, head_size, queries, rows, scores, IHP_PANEL);
    share_tile(scores, rows, count, fold, (uint8_t *)weights + t * IHP_PANEL / fold * WEIGHT_BYTES, ld, maximum + t,
               sum + t, tile_ld);
  }
}

#if IN_TILES
#include "shares_amx.h"
#else
static void share_keys(const void *panels, size_t head_size, const float *queries, size_t rows, size_t columns,
                       size_t fold, float *scores, void *weights, size_t ld, float *maximum, float *sum,
                       size_t tile_ld) {
  share_tiles(panels, head_size, queries, rows, columns, fold, scores, weights, ld, maximum, sum, tile_ld);
}
#endif

static void share_add(const void *weights, size_t ld, size_t rows, size_t tiles, size_t width,
                      float *maximum, const float *sum, size_t tile_ld, float *out) {
  for (size_t r = 0; r < rows; r++) {
    float *factor = maximum + r * tile_ld;
    float best = -INFINITY, total = 0;
    for (size_t t = 0; t < tiles; t++) best = factor[t] > best ? factor[t] : best;
    for (size_t t = 0; t < tiles; t++) {
      factor[t] = expf(factor[t] - best);
      total += sum[r * tile_ld + t] * factor[t];
    }
    for (size_t t = 0; t < tiles; t++) factor[t] /= total;
  }
  for (size_t t = 0; t < tiles; t++) {
    float *to = out + t * width;
    for (size_t v = 0; v < width; v += LANES) {
      vec total = load(to + v);
      for (size_t r = 0; r < rows; r++)
        total = fused(
            LOAD_WEIGHT((const uint8_t *)weights + (r * ld + t * width + v) * WEIGHT_BYTES),
            (vec)maximum[r * tile_ld + t], total);
      store(to + v, total);
    }
  }
}
