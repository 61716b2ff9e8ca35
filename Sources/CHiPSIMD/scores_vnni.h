// SPDX-License-Identifier: Apache-2.0
// Scores of keys and sketches for a selection, in 8-bit products (VNNI).

/// Elements in 8 bits.
static void prepare_queries(const float *queries, size_t rows, size_t head_size, float *out) {
  for (size_t r = 0; r < rows; r++) {
    const float *query = queries + r * head_size;
    float *to = out + r * (head_size + QUERY_HEADER);
    vec greatest = 0.0f, sum = 0.0f;
    for (size_t i = 0; i < head_size; i += LANES) {
      vec x = load(query + i);
      greatest = __builtin_elementwise_max(greatest, __builtin_elementwise_abs(x));
      sum += x;
    }
    float most = max_lanes(greatest);
    to[0] = most / 127.0f;
    to[1] = sum_lanes(sum);
    __m512 scale = _mm512_set1_ps(most > 0 ? 127.0f / most : 0.0f);
    int8_t *elements = (int8_t *)(to + QUERY_HEADER);
    __m512i wholes = _mm512_setzero_si512();
    for (size_t i = 0; i < head_size; i += LANES) {
      __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(query + i), scale));
      wholes = _mm512_add_epi32(wholes, whole);
      _mm_storeu_si128((__m128i *)(elements + i), _mm512_cvtepi32_epi8(whole));
    }
    int32_t total = 128 * _mm512_reduce_add_epi32(wholes);
    memcpy(to + 2, &total, sizeof total);
  }
}

#define COARSE_BYTES 1

/// Keys in 8 bits as a panel: [head_size / 4][IHP_PANEL] words of four elements, moved up by 128,
/// then a scale per key.
static void pack_coarse(const ihp_rows *keys, const int32_t *indices, size_t count,
                        size_t head_size, const float *table, size_t half,
                        const int32_t *positions, float *scratch, void *panel) {
  gather_rotated(keys, indices, count, head_size, table, half, positions, scratch);
  float *scales = (float *)panel + head_size / 4 * IHP_PANEL;
  uint8_t bytes[16][256] __attribute__((aligned(64)));
  for (size_t first = 0; first < IHP_PANEL; first += 16) {
    for (size_t r = 0; r < 16; r++) {
      const float *key = scratch + (first + r) * head_size;
      vec greatest = 0.0f;
      for (size_t i = 0; i < head_size; i += LANES)
        greatest = __builtin_elementwise_max(greatest, __builtin_elementwise_abs(load(key + i)));
      float most = max_lanes(greatest);
      scales[first + r] = most / 127.0f;
      __m512 scale = _mm512_set1_ps(most > 0 ? 127.0f / most : 0.0f);
      for (size_t i = 0; i < head_size; i += LANES) {
        __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(key + i), scale));
        _mm_store_si128((__m128i *)(bytes[r] + i),
                        _mm512_cvtepi32_epi8(_mm512_xor_si512(whole, _mm512_set1_epi32(128))));
      }
    }
    // 16 words, 64 elements, at a time; what lies beyond the head is not stored.
    for (size_t i = 0; i < head_size; i += 64) {
      __m512i words[16];
#pragma clang loop unroll(full)
      for (int r = 0; r < 16; r++) words[r] = _mm512_load_si512(bytes[r] + i);
      transpose16(words);
      size_t depth = head_size - i < 64 ? (head_size - i) / 4 : 16;
      for (size_t k = 0; k < depth; k++)
        _mm512_storeu_si512((uint32_t *)panel + (i / 4 + k) * IHP_PANEL + first, words[k]);
    }
  }
}

INLINE void coarse_tile(const int height, const void *panel, size_t head_size,
                        const float *queries, float *scores, size_t ld) {
  size_t query_ld = head_size + QUERY_HEADER;
  __m512i sums[6][4];
#pragma clang loop unroll(full)
  for (int r = 0; r < height; r++) {
    int32_t total;
    memcpy(&total, queries + (size_t)r * query_ld + 2, sizeof total);
#pragma clang loop unroll(full)
    for (int v = 0; v < 4; v++) sums[r][v] = _mm512_set1_epi32(-total);
  }
  for (size_t k = 0; k < head_size / 4; k++) {
    __m512i right[4];
#pragma clang loop unroll(full)
    for (int v = 0; v < 4; v++)
      right[v] = _mm512_loadu_si512((const uint32_t *)panel + k * IHP_PANEL + (size_t)v * 16);
#pragma clang loop unroll(full)
    for (int r = 0; r < height; r++) {
      int32_t word;
      memcpy(&word, queries + (size_t)r * query_ld + QUERY_HEADER + k, sizeof word);
      __m512i left = _mm512_set1_epi32(word);
#pragma clang loop unroll(full)
      for (int v = 0; v < 4; v++) sums[r][v] = _mm512_dpbusd_epi32(sums[r][v], right[v], left);
    }
  }
  const float *scales = (const float *)panel + head_size / 4 * IHP_PANEL;
#pragma clang loop unroll(full)
  for (int r = 0; r < height; r++) {
    vec scale = queries[(size_t)r * query_ld];
#pragma clang loop unroll(full)
    for (int v = 0; v < 4; v++)
      store(scores + (size_t)r * ld + (size_t)v * 16,
            (vec)_mm512_cvtepi32_ps(sums[r][v]) * (load(scales + v * 16) * scale));
  }
}

static void score_coarse(const void *panel, size_t head_size, const float *queries, size_t rows,
                         float *scores, size_t ld) {
  for (size_t r = 0; r < rows;) {
    const float *query = queries + r * (head_size + QUERY_HEADER);
    float *out = scores + r * ld;
    if (rows - r >= 6) {
      coarse_tile(6, panel, head_size, query, out, ld);
      r += 6;
    } else if (rows - r >= 2) {
      coarse_tile(2, panel, head_size, query, out, ld);
      r += 2;
    } else {
      coarse_tile(1, panel, head_size, query, out, ld);
      r += 1;
    }
  }
}

/// Prefetches, on the way through two groups, the line of the two groups ahead that lies as far in them.
INLINE void prefetch_line(const uint8_t *const ahead[2], size_t offset) {
  __builtin_prefetch(ahead[offset / 32 % 2] + offset / 64 * 64);
}

/// Two groups of keys times `height` queries; prefetches the lines of two more on the way, one at a
/// time, since more than a core can have on its way hold it up.
INLINE void score_groups(const int height, const uint8_t *left, const uint8_t *right,
                         const uint8_t *const ahead[2], size_t head_size, const float *queries,
                         float *scores, size_t ld) {
  size_t query_ld = head_size + QUERY_HEADER;
  __m256i sums[12][2];
#pragma clang loop unroll(full)
  for (int r = 0; r < height; r++) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
  const __m256i low = _mm256_set1_epi8(15);
  __builtin_prefetch(ahead[0] + GROUP_HEADER + head_size * 4 - 1);
  __builtin_prefetch(ahead[1] + GROUP_HEADER + head_size * 4 - 1);
  for (size_t k = 0; k < head_size; k += 8) {
    prefetch_line(ahead, k * 4);
    __m256i a = _mm256_loadu_si256((const __m256i *)(left + GROUP_HEADER + k * 4));
    __m256i b = _mm256_loadu_si256((const __m256i *)(right + GROUP_HEADER + k * 4));
    __m256i a_low = _mm256_and_si256(a, low), b_low = _mm256_and_si256(b, low);
    __m256i a_high = _mm256_and_si256(_mm256_srli_epi16(a, 4), low);
    __m256i b_high = _mm256_and_si256(_mm256_srli_epi16(b, 4), low);
#pragma clang loop unroll(full)
    for (int r = 0; r < height; r++) {
      const int8_t *query = (const int8_t *)(queries + (size_t)r * query_ld + QUERY_HEADER) + k;
      int32_t words[2];
      memcpy(words, query, sizeof words);
      __m256i first = _mm256_set1_epi32(words[0]), second = _mm256_set1_epi32(words[1]);
      sums[r][0] = _mm256_dpbusd_epi32(sums[r][0], a_low, first);
      sums[r][1] = _mm256_dpbusd_epi32(sums[r][1], b_low, first);
      sums[r][0] = _mm256_dpbusd_epi32(sums[r][0], a_high, second);
      sums[r][1] = _mm256_dpbusd_epi32(sums[r][1], b_high, second);
    }
  }
  const uint8_t *groups[2] = {left, right};
#pragma clang loop unroll(full)
  for (int g = 0; g < 2; g++) {
    gvec scale, least;
    load_group(groups[g], &scale);
    load_group(groups[g] + GROUP * 2, &least);
#pragma clang loop unroll(full)
    for (int r = 0; r < height; r++) {
      const float *query = queries + (size_t)r * query_ld;
      gvec dots = (gvec)_mm256_cvtepi32_ps(sums[r][g]) * (scale * query[0]) + least * query[1];
      memcpy(scores + (size_t)r * ld + (size_t)g * GROUP, &dots, sizeof dots);
    }
  }
}

static void score_four_bits(const ihp_rows *groups, const int32_t *firsts, size_t count,
                            size_t known, size_t head_size, const float *queries, size_t rows, float *scores,
                            size_t ld) {
  size_t query_ld = head_size + QUERY_HEADER;
  for (size_t g = 0; g < count; g += 2) {
    const uint8_t *left = group_address(groups, firsts, g);
    // Without a second group the first is scored twice; both land in the tile.
    const uint8_t *right = g + 1 < count ? group_address(groups, firsts, g + 1) : left;
    const uint8_t *ahead[2];
    groups_ahead(groups, firsts, g, known, head_size / 2, ahead);
    for (size_t r = 0; r < rows;) {
      size_t rest = rows - r;
      const float *query = queries + r * query_ld;
      float *out = scores + r * ld + g * GROUP;
      if (rest >= 12) {
        score_groups(12, left, right, ahead, head_size, query, out, ld);
        r += 12;
      } else if (rest >= 4) {
        score_groups(4, left, right, ahead, head_size, query, out, ld);
        r += 4;
      } else {
        score_groups(1, left, right, ahead, head_size, query, out, ld);
        r += 1;
      }
      ahead[0] = left;
      ahead[1] = right;
    }
  }
}

/// Two groups of means times `height` queries; prefetches two more as `score_groups` does.
INLINE void score_mean_groups(const int height, const uint8_t *left, const uint8_t *right,
                              const uint8_t *const ahead[2], size_t head_size,
                              const float *queries, float *scores, size_t ld) {
  size_t query_ld = head_size + QUERY_HEADER;
  __m256i sums[12][2];
#pragma clang loop unroll(full)
  for (int r = 0; r < height; r++) {
    int32_t total;
    // Means stand 128 too high.
    memcpy(&total, queries + (size_t)r * query_ld + 2, sizeof total);
    sums[r][0] = sums[r][1] = _mm256_set1_epi32(-total);
  }
  __builtin_prefetch(ahead[0] + MEAN_HEADER + head_size * GROUP - 1);
  __builtin_prefetch(ahead[1] + MEAN_HEADER + head_size * GROUP - 1);
  for (size_t k = 0; k < head_size; k += 4) {
    prefetch_line(ahead, k * GROUP);
    __m256i a = _mm256_loadu_si256((const __m256i *)(left + MEAN_HEADER + k * GROUP));
    __m256i b = _mm256_loadu_si256((const __m256i *)(right + MEAN_HEADER + k * GROUP));
#pragma clang loop unroll(full)
    for (int r = 0; r < height; r++) {
      const int8_t *query = (const int8_t *)(queries + (size_t)r * query_ld + QUERY_HEADER) + k;
      int32_t word;
      memcpy(&word, query, sizeof word);
      __m256i elements = _mm256_set1_epi32(word);
      sums[r][0] = _mm256_dpbusd_epi32(sums[r][0], a, elements);
      sums[r][1] = _mm256_dpbusd_epi32(sums[r][1], b, elements);
    }
  }
  const uint8_t *groups[2] = {left, right};
#pragma clang loop unroll(full)
  for (int g = 0; g < 2; g++) {
    gvec scale;
    load_group(groups[g], &scale);
#pragma clang loop unroll(full)
    for (int r = 0; r < height; r++) {
      gvec dots = (gvec)_mm256_cvtepi32_ps(sums[r][g]) * (scale * queries[(size_t)r * query_ld]);
      memcpy(scores + (size_t)r * ld + (size_t)g * GROUP, &dots, sizeof dots);
    }
  }
}

static void score_means(const ihp_rows *groups, const int32_t *firsts, size_t count, size_t known,
                        size_t head_size, const float *queries, size_t rows, float *scores,
                        size_t ld) {
  size_t query_ld = head_size + QUERY_HEADER;
  for (size_t g = 0; g < count; g += 2) {
    const uint8_t *left = group_address(groups, firsts, g);
    // Without a second group the first is scored twice; both land in the tile.
    const uint8_t *right = g + 1 < count ? group_address(groups, firsts, g + 1) : left;
    const uint8_t *ahead[2];
    groups_ahead(groups, firsts, g, known, head_size, ahead);
    for (size_t r = 0; r < rows;) {
      const float *query = queries + r * query_ld;
      float *out = scores + r * ld + g * GROUP;
      if (rows - r >= 12) {
        score_mean_groups(12, left, right, ahead, head_size, query, out, ld);
        r += 12;
      } else if (rows - r >= 4) {
        score_mean_groups(4, left, right, ahead, head_size, query, out, ld);
        r += 4;
      } else {
        score_mean_groups(1, left, right, ahead, head_size, query, out, ld);
        r += 1;
      }
      ahead[0] = left;
      ahead[1] = right;
    }
  }
}
