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

#if IN_INTEGERS

/// Bits of numbers as those numbers; what is below the normal ones becomes zero: some processors take a hundred cycles for
/// it.
INLINE vec share_bits(vec bits) { return (vec)(nearest(bits) & (bits >= 0x1p23f)); }

/// exp(x) for x <= 0 to 3 % of itself: the exponent's bits, with the fraction of the power in place
/// of its exponential (Schraudolph 1999). Shares are sums over many.
INLINE vec share_weight(vec x) {
  return share_bits(fused(x, (vec)(1.44269504f * 8388608.0f), (vec)(127.0f * 8388608.0f - 366393.0f)));
}

#else
#define share_weight exponential
#endif

/// `share_tile` of up to REDUCED_ROWS rows.
INLINE void share_rows(float *scores, size_t rows, size_t columns, const size_t fold, uint8_t *weights, float *maximum,
                       float *sum) {
  const size_t width = IHP_PANEL / fold;
  vec lanes[REDUCED_ROWS];
  memset(lanes, 0, sizeof lanes);
  for (size_t r = 0; r < rows; r++) {
    float *row = scores + r * IHP_PANEL;
    if (columns < IHP_PANEL)
      for (size_t v = 0; v < IHP_PANEL; v += width)
        for (size_t j = columns / fold; j < width; j++) row[v + j] = -INFINITY;
    lanes[r] = lane_max(row);
  }
  store_greatest(lanes, rows, maximum);
  for (size_t r = 0; r < rows; r++) {
    const float *row = scores + r * IHP_PANEL;
    const vec best = maximum[r];
    vec total = 0.0f;
    for (size_t j = 0; j < width; j += LANES) {
      vec weight = share_weight(load(row + j) - best);
      for (size_t v = width; v < IHP_PANEL; v += width) weight += share_weight(load(row + v + j) - best);
      total += weight;
      STORE_WEIGHT(weight, weights + (r * width + j) * WEIGHT_BYTES);
    }
    lanes[r] = total;
  }
  store_sums(lanes, rows, sum);
}

INLINE void share_folded(float *scores, size_t rows, size_t columns, const size_t fold, void *weights,
                         float *maximum, float *sum) {
  for (size_t r = 0; r < rows; r += REDUCED_ROWS)
    share_rows(scores + r * IHP_PANEL, rows - r < REDUCED_ROWS ? rows - r : REDUCED_ROWS, columns, fold,
               (uint8_t *)weights + r * (IHP_PANEL / fold) * WEIGHT_BYTES, maximum + r, sum + r);
}

static void share_tile(float *scores, size_t rows, size_t columns, size_t fold, void *weights, float *maximum,
                       float *sum) {
  if (fold == 1) share_folded(scores, rows, columns, 1, weights, maximum, sum);
  else if (fold == 2) share_folded(scores, rows, columns, 2, weights, maximum, sum);
  else share_folded(scores, rows, columns, 4, weights, maximum, sum);
}

INLINE void share_tiles(const void *panels, size_t head_size, const float *queries, size_t rows, size_t columns,
                        size_t fold, float *scores, void *weights, float *maximum, float *sum) {
  const size_t panel_bytes = coarse_panel_bytes(head_size);
  for (size_t t = 0; t * IHP_PANEL < columns; t++) {
    const size_t count = columns - t * IHP_PANEL < IHP_PANEL ? columns - t * IHP_PANEL : IHP_PANEL;
    score_coarse((const uint8_t *)panels + t * panel_bytes, head_size, queries, rows, scores, IHP_PANEL);
    share_tile(scores, rows, count, fold, (uint8_t *)weights + t * rows * IHP_PANEL / fold * WEIGHT_BYTES,
               maximum + t * rows, sum + t * rows);
  }
}

/// `share_tiles` of groups of means, two of which make a weight.
INLINE void share_groups(const ihp_rows *groups, const int32_t *firsts, size_t known, size_t head_size,
                         const float *queries, size_t rows, size_t columns, float *scores, void *weights, float *maximum,
                         float *sum) {
  uint8_t panel[COARSE_BYTES * IHP_HEAD_SIZE * IHP_PANEL + IHP_PANEL * sizeof(float)] __attribute__((aligned(64)));
  for (size_t t = 0; t * IHP_PANEL < columns; t++) {
    const size_t done = t * PANEL_GROUPS, left = known - done;
    const size_t count = columns - t * IHP_PANEL < IHP_PANEL ? columns - t * IHP_PANEL : IHP_PANEL;
    if (rows < PANEL_QUERIES) {
      score_means(groups, firsts + done, left < PANEL_GROUPS ? left : PANEL_GROUPS, left, head_size, queries, rows, scores,
                  IHP_PANEL);
    } else {
      pack_means(groups, firsts, done, known, head_size, panel);
      score_coarse(panel, head_size, queries, rows, scores, IHP_PANEL);
    }
    share_tile(scores, rows, count, 2, (uint8_t *)weights + t * rows * IHP_PANEL / 2 * WEIGHT_BYTES, maximum + t * rows,
               sum + t * rows);
  }
}

#if IN_TILES
#include "shares_amx.h"
#else
static void share_keys(const void *panels, size_t head_size, const float *queries, size_t rows, size_t columns,
                       size_t fold, float *scores, void *weights, float *maximum, float *sum) {
  share_tiles(panels, head_size, queries, rows, columns, fold, scores, weights, maximum, sum);
}

static void share_means(const ihp_rows *groups, const int32_t *firsts, size_t known, size_t head_size, const float *queries,
                        size_t rows, size_t columns, float *scores, void *weights, float *maximum, float *sum) {
  share_groups(groups, firsts, known, head_size, queries, rows, columns, scores, weights, maximum, sum);
}
#endif

/// The first of a vector's numbers, with others in place of what is missing.
INLINE vec load_some(const float *p, size_t count, float missing) {
  vec x = missing;
  if (count == LANES) return load(p);
  memcpy(&x, p, count * sizeof *p);
  return x;
}

INLINE void store_some(float *p, size_t count, vec x) { memcpy(p, &x, count * sizeof *p); }

static void share_add(const void *weights, size_t rows, size_t tiles, size_t width, float *maximum, const float *sum,
                      float *out) {
  // Row by row, as many as a vector has.
  for (size_t r = 0; r < rows; r += LANES) {
    const size_t height = rows - r < LANES ? rows - r : LANES;
    vec best = -INFINITY, total = 0.0f;
    for (size_t t = 0; t < tiles; t++)
      best = __builtin_elementwise_max(best, load_some(maximum + t * rows + r, height, -INFINITY));
    for (size_t t = 0; t < tiles; t++) {
      vec power = exponential(load_some(maximum + t * rows + r, height, -INFINITY) - best);
      total = fused(load_some(sum + t * rows + r, height, 0.0f), power, total);
      store_some(maximum + t * rows + r, height, power);
    }
    for (size_t t = 0; t < tiles; t++)
      store_some(maximum + t * rows + r, height, load_some(maximum + t * rows + r, height, 0.0f) / total);
  }
  for (size_t t = 0; t < tiles; t++) {
    const float *factors = maximum + t * rows;
    const uint8_t *tile = (const uint8_t *)weights + t * rows * width * WEIGHT_BYTES;
    for (size_t v = 0; v < width; v += LANES) {
      float *to = out + t * width + v;
      vec total = load(to);
      for (size_t r = 0; r < rows; r++)
        total = fused(LOAD_WEIGHT(tile + (r * width + v) * WEIGHT_BYTES), (vec)factors[r], total);
      store(to, total);
    }
  }
}
