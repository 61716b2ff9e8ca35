// SPDX-License-Identifier: Apache-2.0
// Scores of keys and sketches for a selection, in float32.

static void prepare_queries(const float *queries, size_t rows, size_t head_size, float *out) {
  for (size_t r = 0; r < rows; r++) {
    const float *query = queries + r * head_size;
    float *to = out + r * (head_size + QUERY_HEADER);
    vec sum = 0.0f;
    for (size_t i = 0; i < head_size; i += LANES) sum += load(query + i);
    to[0] = 1;
    to[1] = sum_lanes(sum);
    to[2] = 0;
    memcpy(to + QUERY_HEADER, query, head_size * sizeof(float));
  }
}

#define COARSE_BYTES 4

static void pack_coarse(const ihp_rows *keys, const int32_t *indices, size_t count,
                        size_t head_size, const float *table, size_t half,
                        const int32_t *positions, float *scratch, void *panel) {
  pack_keys(keys, indices, count, head_size, table, half, positions, scratch, panel);
}

static void score_coarse(const void *panel, size_t head_size, const float *queries, size_t rows,
                         float *scores, size_t ld) {
  gemm(IHP_F32, queries + QUERY_HEADER, head_size + QUERY_HEADER, rows, panel, head_size,
       scores, ld, IHP_PANEL, 0);
}

/// Prefetches the two groups ahead.
INLINE void prefetch_ahead(const ihp_rows *groups, const int32_t *firsts, size_t g, size_t known,
                           size_t row_bytes) {
  const uint8_t *ahead[2];
  groups_ahead(groups, firsts, g, known, row_bytes, ahead);
  for (size_t line = 0; line < GROUP_HEADER + row_bytes * GROUP; line += CACHE_LINE) {
    __builtin_prefetch(ahead[0] + line);
    __builtin_prefetch(ahead[1] + line);
  }
}

/// One group of keys times `height` queries.
INLINE void score_group(const int height, const uint8_t *group, size_t head_size,
                        const float *queries, float *scores, size_t ld) {
  typedef uint32_t bits32 __attribute__((ext_vector_type(GROUP)));
  size_t query_ld = head_size + QUERY_HEADER;
  gvec sums[4];
  for (int r = 0; r < height; r++) sums[r] = 0.0f;
  for (size_t k = 0; k < head_size; k += 8) {
    bits32 words;
    memcpy(&words, group + GROUP_HEADER + k * 4, sizeof words);
#pragma clang loop unroll(full)
    for (uint32_t i = 0; i < 8; i++) {
      // Byte i of a word holds element i below and element 4 + i above.
      gvec element = __builtin_convertvector((words >> (i % 4 * 8 + i / 4 * 4)) & 15u, gvec);
      for (int r = 0; r < height; r++)
        sums[r] += element * queries[(size_t)r * query_ld + QUERY_HEADER + k + i];
    }
  }
  gvec scale, least;
  load_group(group, &scale);
  load_group(group + GROUP * 2, &least);
  for (int r = 0; r < height; r++) {
    const float *query = queries + (size_t)r * query_ld;
    gvec dots = sums[r] * scale + least * query[1];
    memcpy(scores + (size_t)r * ld, &dots, sizeof dots);
  }
}

static void score_four_bits(const ihp_rows *groups, const int32_t *firsts, size_t count,
                            size_t known, size_t head_size, const float *queries, size_t rows, float *scores,
                            size_t ld) {
  size_t query_ld = head_size + QUERY_HEADER;
  for (size_t g = 0; g < count; g++) {
    const uint8_t *group = group_address(groups, firsts, g);
    if (g % 2 == 0) prefetch_ahead(groups, firsts, g, known, head_size / 2);
    size_t r = 0;
    for (; r + 4 <= rows; r += 4)
      score_group(4, group, head_size, queries + r * query_ld, scores + r * ld + g * GROUP, ld);
    for (; r < rows; r++)
      score_group(1, group, head_size, queries + r * query_ld, scores + r * ld + g * GROUP, ld);
  }
}

/// A group of means times `height` queries.
INLINE void score_mean_group(const int height, const uint8_t *group, size_t head_size,
                             const float *queries, float *scores, size_t ld) {
  typedef uint32_t bits32 __attribute__((ext_vector_type(GROUP)));
  size_t query_ld = head_size + QUERY_HEADER;
  gvec scale, dots[4];
  load_group(group, &scale);
  for (int r = 0; r < height; r++) dots[r] = -128.0f * queries[(size_t)r * query_ld + 1];
  for (size_t k = 0; k < head_size; k += 4) {
    bits32 words;
    memcpy(&words, group + MEAN_HEADER + k * GROUP, sizeof words);
#pragma clang loop unroll(full)
    for (uint32_t i = 0; i < 4; i++) {
      gvec element = __builtin_convertvector((words >> (i * 8)) & 255u, gvec);
      for (int r = 0; r < height; r++)
        dots[r] += element * queries[(size_t)r * query_ld + QUERY_HEADER + k + i];
    }
  }
  for (int r = 0; r < height; r++) {
    dots[r] *= scale;
    memcpy(scores + (size_t)r * ld, &dots[r], sizeof dots[r]);
  }
}

static void score_means(const ihp_rows *groups, const int32_t *firsts, size_t count, size_t known,
                        size_t head_size, const float *queries, size_t rows, float *scores,
                        size_t ld) {
  size_t query_ld = head_size + QUERY_HEADER;
  for (size_t g = 0; g < count; g++) {
    const uint8_t *group = group_address(groups, firsts, g);
    if (g % 2 == 0) prefetch_ahead(groups, firsts, g, known, head_size);
    size_t r = 0;
    for (; r + 4 <= rows; r += 4)
      score_mean_group(4, group, head_size, queries + r * query_ld, scores + r * ld + g * GROUP, ld);
    for (; r < rows; r++)
      score_mean_group(1, group, head_size, queries + r * query_ld, scores + r * ld + g * GROUP, ld);
  }
}

#define PANEL_QUERIES 8

/// Brings a group of means into its columns of a panel.
INLINE void pack_group(const uint8_t *group, size_t head_size, void *panel, size_t column) {
  typedef uint32_t bits32 __attribute__((ext_vector_type(GROUP)));
  gvec scale;
  load_group(group, &scale);
  for (size_t k = 0; k < head_size; k += 4) {
    bits32 words;
    memcpy(&words, group + MEAN_HEADER + k * GROUP, sizeof words);
#pragma clang loop unroll(full)
    for (uint32_t i = 0; i < 4; i++) {
      const gvec element = (__builtin_convertvector((words >> (i * 8)) & 255u, gvec) - 128.0f) * scale;
      memcpy((float *)panel + (k + i) * IHP_PANEL + column, &element, sizeof element);
    }
  }
}
