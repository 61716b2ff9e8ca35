// SPDX-License-Identifier: Apache-2.0
// The attention and selection kernels: the second half of the body that `kernels.h` begins.

// MARK: Keys and values

INLINE const uint8_t *row_address(const ihp_rows *rows, size_t index) {
  size_t inside = index & (((size_t)1 << rows->block_shift) - 1);
  return rows->blocks[index >> rows->block_shift] + rows->offset + inside * rows->stride;
}

/// Rows that are prefetched: selected rows lie scattered, where no hardware looks ahead.
#define ROWS_AHEAD 20
#define CACHE_LINE 64

INLINE size_t row_bytes(ihp_element element, size_t head_size) {
  switch (element) {
  case IHP_F32: return head_size * 4;
  case IHP_Q8_0: return head_size / BLOCK * BLOCK_BYTES;
  default: return head_size * 2;
  }
}

/// Into the second-level cache: more lines may be on their way there than to the first.
INLINE void prefetch_row(const ihp_rows *rows, int32_t index, size_t head_size) {
  const uint8_t *row = row_address(rows, (size_t)index);
  size_t bytes = row_bytes(rows->element, head_size);
  for (size_t line = 0; line < bytes; line += CACHE_LINE) __builtin_prefetch(row + line, 0, 2);
}

static void gather(const ihp_rows *rows, const int32_t *indices, size_t count, size_t head_size,
                   float *out) {
  for (size_t i = 0; i < count; i++) {
    if (i + ROWS_AHEAD < count) prefetch_row(rows, indices[i + ROWS_AHEAD], head_size);
    widen_plain(rows->element, row_address(rows, (size_t)indices[i]), 0, head_size,
                out + i * head_size);
  }
  memset(out + count * head_size, 0, (IHP_PANEL - count) * head_size * sizeof(float));
}

INLINE void gather_rotated(const ihp_rows *keys, const int32_t *indices, size_t count, size_t head_size,
                 const float *table, size_t half, const int32_t *positions, float *out) {
  gather(keys, indices, count, head_size, out);
  if (!table) return;
  for (size_t i = 0; i < count; i++) {
    float *row = out + i * head_size;
    rotate_row(row, table + (size_t)positions[i] * 2 * half, half, head_size, 1.0f, row);
  }
}

/// A pair of keys times four queries, the halves of each key rotated on the way; missing queries repeat
/// the last one.
#define SCORE_PAIR(widened)                                                                        \
  {                                                                                                \
    for (size_t k = 0; k < rotated; k += LANES) {                                                   \
      vec low[2] = {widened(first, k), widened(second, k)};                                        \
      vec high[2] = {widened(first, half + k), widened(second, half + k)};                         \
      for (int i = 0; i < 2; i++) {                                                                \
        vec c = load(angles[i] + k), s = load(angles[i] + half + k);                               \
        vec real = low[i] * c - high[i] * s;                                                       \
        high[i] = fused(high[i], c, low[i] * s);                                                   \
        low[i] = real;                                                                             \
      }                                                                                            \
      for (int i = 0; i < 4; i++) {                                                                \
        vec query = load(q[i] + k);                                                                \
        even[i] = fused(query, low[0], even[i]);                                                   \
        odd[i] = fused(query, low[1], odd[i]);                                                     \
        query = load(q[i] + half + k);                                                             \
        even[i] = fused(query, high[0], even[i]);                                                  \
        odd[i] = fused(query, high[1], odd[i]);                                                    \
      }                                                                                            \
    }                                                                                              \
    for (size_t k = 2 * rotated; k < head_size; k += LANES) {                                       \
      vec left = widened(first, k), right = widened(second, k);                                    \
      for (int i = 0; i < 4; i++) {                                                                \
        vec query = load(q[i] + k);                                                                \
        even[i] = fused(query, left, even[i]);                                                     \
        odd[i] = fused(query, right, odd[i]);                                                      \
      }                                                                                            \
    }                                                                                              \
  }

/// The sums of the lanes of even[i] and odd[i], side by side.
INLINE void sum_pairs(const vec even[4], const vec odd[4], float sums[8]) {
#if LANES == 16
  // Halves of two vectors at a time are added up in one, until each has four lanes, then one.
  vec half[4];
#pragma clang loop unroll(full)
  for (int i = 0; i < 4; i++) {
    vec a = i < 2 ? even[2 * i] : odd[2 * i - 4], b = i < 2 ? even[2 * i + 1] : odd[2 * i - 3];
    half[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
              __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  }
  vec left = __builtin_shufflevector(half[0], half[1], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25,
                                     26, 27) +
             __builtin_shufflevector(half[0], half[1], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28,
                                     29, 30, 31);
  vec right = __builtin_shufflevector(half[2], half[3], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24,
                                      25, 26, 27) +
              __builtin_shufflevector(half[2], half[3], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28,
                                      29, 30, 31);
  vec two = __builtin_shufflevector(left, right, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13,
                                    29) +
            __builtin_shufflevector(left, right, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30,
                                    15, 31);
  vec one = two + __builtin_shufflevector(two, two, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  typedef float octet __attribute__((ext_vector_type(8)));
  octet pairs = __builtin_shufflevector(one, one, 0, 1, 4, 5, 8, 9, 12, 13);
  memcpy(sums, &pairs, sizeof pairs);
#else
  quad a = sums_of(even[0], even[1], even[2], even[3]);
  quad b = sums_of(odd[0], odd[1], odd[2], odd[3]);
  for (int i = 0; i < 4; i++) {
    sums[2 * i] = a[i];
    sums[2 * i + 1] = b[i];
  }
#endif
}

/// Scores `count` stored keys by at most four queries; keys are rotated by whole vectors.
INLINE void score_four(const ihp_rows *keys, const int32_t *indices, size_t count,
                       size_t head_size, const float *table, size_t half,
                       const int32_t *positions, ihp_ahead ahead, ihp_ahead further,
                       const float *queries, size_t height, float *scores, size_t ld) {
  size_t rotated = table ? half : 0;
  const float *q[4], *angles[2] = {table, table};
  for (size_t i = 0; i < 4; i++) q[i] = queries + (i < height ? i : height - 1) * head_size;
  for (size_t j = 0; j < count; j += 2) {
    size_t next = j + 1 < count ? j + 1 : j;
    if (j % 4 == 0 && j / 4 < further.count) prefetch_row(further.rows, further.indices[j / 4], head_size);
    if (next < ahead.count) {
      prefetch_row(ahead.rows, ahead.indices[j], head_size);
      prefetch_row(ahead.rows, ahead.indices[next], head_size);
    } else if (j + ROWS_AHEAD + 1 < count) {
      prefetch_row(keys, indices[j + ROWS_AHEAD], head_size);
      prefetch_row(keys, indices[j + ROWS_AHEAD + 1], head_size);
    }
    const uint8_t *first = row_address(keys, (size_t)indices[j]);
    const uint8_t *second = row_address(keys, (size_t)indices[next]);
    if (table) {
      angles[0] = table + (size_t)positions[j] * 2 * half;
      angles[1] = table + (size_t)positions[next] * 2 * half;
    }
    vec even[4] = {0.0f, 0.0f, 0.0f, 0.0f}, odd[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    switch (keys->element) {
    case IHP_F16: SCORE_PAIR(AT_F16) break;
    case IHP_BF16: SCORE_PAIR(AT_BF16) break;
    case IHP_Q8_0: SCORE_PAIR(AT_Q8) break;
    default: SCORE_PAIR(AT_F32) break;
    }
    float sums[8];
    sum_pairs(even, odd, sums);
    // A tile has an even number of columns: without a second key the first one's score stands twice.
    for (size_t i = 0; i < height; i++) memcpy(scores + i * ld + j, sums + 2 * i, 2 * sizeof(float));
  }
}

static void score_stored(const ihp_rows *keys, const int32_t *indices, size_t count,
                         size_t head_size, const float *table, size_t half,
                         const int32_t *positions, ihp_ahead ahead, ihp_ahead further,
                         float *scratch, const float *queries, size_t rows, float *scores, size_t ld) {
  ihp_rows rotated = *keys;
  const uint8_t *block = (const uint8_t *)scratch;
  int32_t order[IHP_PANEL];
  if (table && half % LANES != 0) {
    // Halves that fill no vectors are rotated row by row first.
    gather_rotated(keys, indices, count, head_size, table, half, positions, scratch);
    for (size_t j = 0; j < ahead.count && j < count; j++) prefetch_row(ahead.rows, ahead.indices[j], head_size);
    ahead.count = 0;
    rotated = (ihp_rows){.blocks = &block, .block_shift = 6, .stride = head_size * sizeof(float)};
    for (size_t j = 0; j < count; j++) order[j] = (int32_t)j;
    indices = order;
    table = NULL;
  }
  for (size_t r = 0; r < rows; r += 4) {
    const float *q = queries + r * head_size;
    float *out = scores + r * ld;
    size_t height = rows - r < 4 ? rows - r : 4;
    // The usual sizes as constants: loops over a key's elements unroll, and queries stay in registers.
#define SCORE_FOUR(size, half, height)                                                             \
  score_four(&rotated, indices, count, size, table, half, positions, ahead, further, q, height, out, ld)
    if (head_size == 64 && half == 32 && height == 4) SCORE_FOUR(64, 32, 4);
    else if (head_size == 128 && half == 64 && height == 4) SCORE_FOUR(128, 64, 4);
    else if (head_size == 64 && half == 32) SCORE_FOUR(64, 32, height);
    else if (head_size == 128 && half == 64) SCORE_FOUR(128, 64, height);
    else SCORE_FOUR(head_size, half, height);
#undef SCORE_FOUR
  }
}

/// Dimensions whose sums stay in registers: with four rows of them 16 vectors of 16.
#define VALUE_PART (4 * LANES)

#define ADD_VALUES(widened)                                                                        \
  for (size_t j = 0; j < count; j++) {                                                             \
    if (j < ahead.count) prefetch_row(ahead.rows, ahead.indices[j], head_size);                    \
    const uint8_t *row = row_address(values, (size_t)indices[j]);                                  \
    for (int v = 0; v < 4; v++) {                                                                  \
      if (k + (size_t)v * LANES >= head_size) break;                                               \
      vec value = widened(row, k + (size_t)v * LANES);                                             \
      for (int i = 0; i < 4; i++) sums[i][v] = fused((vec)w[i][j], value, sums[i][v]);             \
    }                                                                                              \
  }

/// Adds the weighted values to four rows of sums, `height` of which are wanted.
INLINE void add_four(const ihp_rows *values, const int32_t *indices, size_t count, size_t head_size,
                     ihp_ahead ahead, const float *weights, size_t height, size_t ld, float *out) {
  const float *w[4];
  for (size_t i = 0; i < 4; i++) w[i] = weights + (i < height ? i : height - 1) * ld;
  for (size_t k = 0; k < head_size; k += VALUE_PART) {
    vec sums[4][4] = {{0.0f}};
    switch (values->element) {
    case IHP_F16: ADD_VALUES(AT_F16) break;
    case IHP_BF16: ADD_VALUES(AT_BF16) break;
    case IHP_Q8_0: ADD_VALUES(AT_Q8) break;
    default: ADD_VALUES(AT_F32) break;
    }
#pragma clang loop unroll(full)
    for (size_t i = 0; i < 4; i++)
#pragma clang loop unroll(full)
      for (size_t v = 0; v < 4; v++) {
        if (i >= height || k + v * LANES >= head_size) continue;
        float *to = out + i * head_size + k + v * LANES;
        store(to, load(to) + sums[i][v]);
      }
  }
}

static void add_values(const ihp_rows *values, const int32_t *indices, size_t count,
                       size_t head_size, ihp_ahead ahead, const float *weights, size_t rows, size_t ld,
                       float *out) {
  for (size_t r = 0; r < rows; r += 4) {
    size_t height = rows - r < 4 ? rows - r : 4;
    const float *w = weights + r * ld;
    float *to = out + r * head_size;
    if (head_size == 64) add_four(values, indices, count, 64, ahead, w, height, ld, to);
    else if (head_size == 128) add_four(values, indices, count, 128, ahead, w, height, ld, to);
    else add_four(values, indices, count, head_size, ahead, w, height, ld, to);
  }
}

static void pack_keys(const ihp_rows *keys, const int32_t *indices, size_t count, size_t head_size,
                      const float *table, size_t half, const int32_t *positions, float *scratch,
                      void *panel) {
  gather_rotated(keys, indices, count, head_size, table, half, positions, scratch);
  for (size_t i = 0; i < IHP_PANEL; i += PANEL_PART)
    panel_part(scratch + i * head_size, head_size, head_size, 0, i, panel);
}

#if PRODUCTS_IN_BF16

/// `pack_values` from where values lie, without a place in memory between.
INLINE void pack_pairs(const ihp_element element, const ihp_rows *values, const int32_t *indices, size_t count,
                       const size_t head_size, float *panels) {
  static const float none[IHP_HEAD_SIZE] = {0};
  const uint8_t *missing = (const uint8_t *)none;
  for (size_t k = 0; k < count || k % IHP_PANEL_DEPTH != 0; k += 2) {
    for (size_t ahead = k + ROWS_AHEAD; ahead < k + ROWS_AHEAD + 2 && ahead < count; ahead++)
      prefetch_row(values, indices[ahead], head_size);
    const uint8_t *even = k < count ? row_address(values, (size_t)indices[k]) : missing;
    const uint8_t *odd = k + 1 < count ? row_address(values, (size_t)indices[k + 1]) : missing;
    for (size_t j = 0; j < head_size; j += 16)
      panel_pair(element, even, odd, j, k, j % IHP_PANEL, panels + j / IHP_PANEL * IHP_PANEL * IHP_PANEL);
  }
}

#endif

static void pack_values(const ihp_rows *values, const int32_t *indices, size_t count,
                        size_t head_size, float *scratch, float *panels) {
#if PRODUCTS_IN_BF16
  if (values->element == IHP_F16 && head_size == 64) return pack_pairs(IHP_F16, values, indices, count, 64, panels);
  if (values->element == IHP_F16) return pack_pairs(IHP_F16, values, indices, count, head_size, panels);
#endif
  gather(values, indices, count, head_size, scratch);
  for (size_t j = 0; j < head_size; j += IHP_PANEL) {
    size_t columns = head_size - j < IHP_PANEL ? head_size - j : IHP_PANEL;
    panel_rows(scratch + j, head_size, count, columns, panels + j * IHP_PANEL);
  }
}

static void mean_of_keys(const ihp_rows *keys, size_t first, size_t count, size_t head_size, float *mean) {
  float row[IHP_HEAD_SIZE];
  // The device's `check` refuses larger heads; nothing is written beyond the row all the same.
  if (head_size > IHP_HEAD_SIZE) return;
  memset(mean, 0, head_size * sizeof(float));
  for (size_t i = 0; i < count; i++) {
    widen_plain(keys->element, row_address(keys, first + i), 0, head_size, row);
    for (size_t j = 0; j < head_size; j += LANES) store(mean + j, load(mean + j) + load(row + j));
  }
  for (size_t j = 0; j < head_size; j += LANES) store(mean + j, load(mean + j) / (float)count);
}

// MARK: Online softmax

// Weights of a selection wait for their second pass in the precision of the products.
#if PRODUCTS_IN_BF16
#define WEIGHT_BYTES 2
#define LOAD_WEIGHT widen_bfloat
#define STORE_WEIGHT(x, p) _mm256_storeu_si256((__m256i *)(p), (__m256i)_mm512_cvtneps_pbh((__m512)(x)))
#else
#define WEIGHT_BYTES 4
#define LOAD_WEIGHT(p) load((const float *)(p))
#define STORE_WEIGHT(x, p) store((float *)(p), x)
#endif

/// Columns outside first ..< last weigh nothing.
INLINE void mask_row(float *row, size_t first, size_t last) {
  for (size_t j = 0; j < first; j++) row[j] = -INFINITY;
  for (size_t j = last; j < IHP_PANEL; j++) row[j] = -INFINITY;
}

/// The greatest of each lane of a row of a tile.
INLINE vec lane_max(const float *row) {
  vec best = -INFINITY;
  for (size_t j = 0; j < IHP_PANEL; j += LANES) best = __builtin_elementwise_max(best, load(row + j));
  return best;
}

/// How much greater than the one that weights are relative to a score may be, in nats: no weight is beyond e^8.
#define SOFTMAX_SLACK 8.0f

INLINE void add_sums(const vec totals[REDUCED_ROWS], size_t rows, float *sum) {
  float sums[REDUCED_ROWS];
  store_sums(totals, rows, sums);
  for (size_t r = 0; r < rows; r++) sum[r] += sums[r];
}

static void softmax_fold(float *scores, size_t rows, size_t count, const int32_t *first,
                         const int32_t *last, size_t head_size, ihp_element weights, ihp_softmax *state) {
  vec totals[REDUCED_ROWS];
  for (size_t r = 0; r < rows; r++) {
    if (r % REDUCED_ROWS == 0) {
      if (r > 0) add_sums(totals, REDUCED_ROWS, state->sum + r - REDUCED_ROWS);
      memset(totals, 0, sizeof totals);
    }
    float *row = scores + r * IHP_PANEL;
    size_t begin = first ? (size_t)first[r] : 0, end = last ? (size_t)last[r] : count;
    if (end <= begin) {
      memset(row, 0, IHP_PANEL * sizeof(float));
      continue;
    }
    if (begin > 0 || end < IHP_PANEL) mask_row(row, begin, end);
    vec lanes = lane_max(row);
    float best, old = state->maximum[r];
    // Weights are relative to a score that is not much less than the greatest: few tiles have one that is, and rows
    // need not know theirs.
    if (__builtin_reduce_or(lanes > old + SOFTMAX_SLACK) != 0) {
      best = max_lanes(lanes);
      // exp(-inf) is zero, so a row without keys so far needs no case of its own.
      float shrink = old == -INFINITY ? 0.0f : expf(old - best);
      state->maximum[r] = best;
      state->sum[r] *= shrink;
      float *out = state->output + r * head_size;
      for (size_t j = 0; j < head_size; j += LANES) store(out + j, load(out + j) * shrink);
    } else {
      best = old;
    }
    vec total = 0.0f;
    for (size_t j = 0; j < IHP_PANEL; j += LANES) {
      vec weight = exponential(load(row + j) - best);
      total += weight;
      // What is narrower lies in front of what has not been read.
      if (weights == PRODUCT_ELEMENT) STORE_WEIGHT(weight, (uint8_t *)row + j * WEIGHT_BYTES);
      else store(row + j, weight);
    }
    totals[r % REDUCED_ROWS] = total;
  }
  if (rows > 0) {
    const size_t done = (rows - 1) / REDUCED_ROWS * REDUCED_ROWS;
    add_sums(totals, rows - done, state->sum + done);
  }
}

static void softmax_merge(ihp_softmax *into, const ihp_softmax *part, size_t rows,
                          size_t head_size) {
  for (size_t r = 0; r < rows; r++) {
    float old = into->maximum[r], other = part->maximum[r];
    if (other == -INFINITY) continue;
    float best = other > old ? other : old;
    float keep = old == -INFINITY ? 0.0f : expf(old - best), add = expf(other - best);
    into->maximum[r] = best;
    into->sum[r] = into->sum[r] * keep + part->sum[r] * add;
    float *out = into->output + r * head_size;
    const float *more = part->output + r * head_size;
    for (size_t j = 0; j < head_size; j += LANES)
      store(out + j, load(out + j) * keep + load(more + j) * add);
  }
}

static void softmax_finish(ihp_softmax *state, size_t rows, size_t head_size) {
  for (size_t r = 0; r < rows; r++) {
    float scale = state->sum[r] > 0 ? 1.0f / state->sum[r] : 0.0f;
    float *out = state->output + r * head_size;
    for (size_t j = 0; j < head_size; j += LANES) store(out + j, load(out + j) * scale);
  }
}
