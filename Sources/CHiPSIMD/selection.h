// SPDX-License-Identifier: Apache-2.0
// The kernels of selection: shares of softmax mass, and scores of keys in 4 bits.

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
#if PRODUCT_ELEMENT_IS_BF16
#define WEIGHT_BYTES 2
#define LOAD_WEIGHT widen_bfloat
#define STORE_WEIGHT(x, p) narrow_bfloat(x, p)
#else
#define WEIGHT_BYTES 4
#define LOAD_WEIGHT(p) load((const float *)(p))
#define STORE_WEIGHT(x, p) store((float *)(p), x)
#endif

static void share_tile(float *scores, size_t rows, size_t columns, void *weights, size_t ld,
                       float *maximum, float *sum, size_t tile_ld) {
  for (size_t r = 0; r < rows; r++) {
    float *row = scores + r * HIP_PANEL;
    uint8_t *out = (uint8_t *)weights + r * ld * WEIGHT_BYTES;
    if (columns < HIP_PANEL) mask_row(row, 0, columns);
    float best = row_max(row, HIP_PANEL);
    vec total = 0.0f;
    for (size_t j = 0; j < HIP_PANEL; j += LANES) {
      vec weight = exponential(load(row + j) - best);
      total += weight;
      STORE_WEIGHT(weight, out + j * WEIGHT_BYTES);
    }
    maximum[r * tile_ld] = best;
    sum[r * tile_ld] = sum_lanes(total);
  }
}

static void share_add(const void *weights, size_t ld, size_t rows, size_t tiles, float *maximum,
                      const float *sum, size_t tile_ld, float *out) {
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
    vec sums[HIP_PANEL / LANES];
    float *to = out + t * HIP_PANEL;
    for (size_t v = 0; v < HIP_PANEL / LANES; v++) sums[v] = load(to + v * LANES);
    for (size_t r = 0; r < rows; r++) {
      const uint8_t *row = (const uint8_t *)weights + (r * ld + t * HIP_PANEL) * WEIGHT_BYTES;
      vec factor = maximum[r * tile_ld + t];
      for (size_t v = 0; v < HIP_PANEL / LANES; v++)
        sums[v] = fused(LOAD_WEIGHT(row + v * LANES * WEIGHT_BYTES), factor, sums[v]);
    }
    for (size_t v = 0; v < HIP_PANEL / LANES; v++) store(to + v * LANES, sums[v]);
  }
}

// MARK: Keys in 4 bits

/// Keys of a group, which lie side by side so that one load brings four elements of each.
#define GROUP HIP_K4_GROUP
#define GROUP_HEADER (GROUP * 4)

INLINE float bfloat_to_float(const uint8_t *p) {
  uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

INLINE float rounded_to_bfloat(float x, uint8_t *p) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x7fffu + ((bits >> 16) & 1)) >> 16;
  p[0] = (uint8_t)bits;
  p[1] = (uint8_t)(bits >> 8);
  return bfloat_to_float(p);
}

static void quantize_key(const float *key, size_t n, uint8_t *group, size_t place) {
  float low = key[0], high = key[0];
  for (size_t i = 1; i < n; i++) {
    low = key[i] < low ? key[i] : low;
    high = key[i] > high ? key[i] : high;
  }
  float scale = rounded_to_bfloat((high - low) / 15.0f, group + place * 2);
  low = rounded_to_bfloat(low, group + (GROUP + place) * 2);
  for (size_t i = 0; i < n; i += 8) {
    uint8_t *out = group + GROUP_HEADER + i / 8 * GROUP * 4 + place * 4;
    uint8_t digits[8];
    for (size_t j = 0; j < 8; j++) {
      float x = scale > 0 ? (key[i + j] - low) / scale + 0.5f : 0.0f;
      digits[j] = (uint8_t)(x < 0 ? 0 : x > 15 ? 15 : x);
    }
    for (size_t j = 0; j < 4; j++) out[j] = (uint8_t)(digits[j] | digits[4 + j] << 4);
  }
}

/// A query that is prepared for scoring: what its elements are multiplied by, their sum, 128 times
/// the sum of what they are stored as, then the elements.
#define QUERY_HEADER HIP_QUERY_HEADER

typedef float gvec __attribute__((ext_vector_type(GROUP)));

INLINE void load_group(const uint8_t *p, gvec *out) {
  typedef uint16_t bits16 __attribute__((ext_vector_type(GROUP)));
  typedef uint32_t bits32 __attribute__((ext_vector_type(GROUP)));
  bits16 bits;
  memcpy(&bits, p, sizeof bits);
  *out = (gvec)(__builtin_convertvector(bits, bits32) << 16);
}

INLINE const uint8_t *group_address(const hip_rows *groups, const int32_t *firsts, size_t i) {
  return row_address(groups, (size_t)firsts[i] / GROUP);
}

INLINE void prefetch_group(const uint8_t *group, size_t head_size) {
  for (size_t line = 0; line < GROUP_HEADER + head_size / 2 * GROUP; line += CACHE_LINE)
    __builtin_prefetch(group + line);
}

#if PRODUCT_ELEMENT_IS_BF16

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

/// Keys in 8 bits as a panel: [head_size / 4][HIP_PANEL] words of four elements, moved up by 128,
/// then a scale per key.
static void pack_coarse(const hip_rows *keys, const int32_t *indices, size_t count,
                        size_t head_size, const float *table, size_t half,
                        const int32_t *positions, float *scratch, void *panel) {
  turn(keys, indices, count, head_size, table, half, positions, scratch);
  float *scales = (float *)panel + head_size / 4 * HIP_PANEL;
  uint8_t bytes[16][256] __attribute__((aligned(64)));
  for (size_t first = 0; first < HIP_PANEL; first += 16) {
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
        _mm512_storeu_si512((uint32_t *)panel + (i / 4 + k) * HIP_PANEL + first, words[k]);
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
      right[v] = _mm512_loadu_si512((const uint32_t *)panel + k * HIP_PANEL + (size_t)v * 16);
#pragma clang loop unroll(full)
    for (int r = 0; r < height; r++) {
      int32_t word;
      memcpy(&word, queries + (size_t)r * query_ld + QUERY_HEADER + k, sizeof word);
      __m512i left = _mm512_set1_epi32(word);
#pragma clang loop unroll(full)
      for (int v = 0; v < 4; v++) sums[r][v] = _mm512_dpbusd_epi32(sums[r][v], right[v], left);
    }
  }
  const float *scales = (const float *)panel + head_size / 4 * HIP_PANEL;
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

/// Two groups of keys times `height` queries.
INLINE void score_groups(const int height, const uint8_t *left, const uint8_t *right,
                         size_t head_size, const float *queries, float *scores, size_t ld) {
  size_t query_ld = head_size + QUERY_HEADER;
  __m256i sums[12][2];
#pragma clang loop unroll(full)
  for (int r = 0; r < height; r++) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
  const __m256i low = _mm256_set1_epi8(15);
  for (size_t k = 0; k < head_size; k += 8) {
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

static void score_four_bits(const hip_rows *groups, const int32_t *firsts, size_t count,
                            size_t head_size, const float *queries, size_t rows, float *scores,
                            size_t ld) {
  size_t query_ld = head_size + QUERY_HEADER;
  for (size_t g = 0; g < count; g += 2) {
    const uint8_t *left = group_address(groups, firsts, g);
    // Without a second group the first is scored twice; both land in the tile.
    const uint8_t *right = g + 1 < count ? group_address(groups, firsts, g + 1) : left;
    if (g + 4 < count) prefetch_group(group_address(groups, firsts, g + 4), head_size);
    if (g + 5 < count) prefetch_group(group_address(groups, firsts, g + 5), head_size);
    for (size_t r = 0; r < rows;) {
      size_t rest = rows - r;
      const float *query = queries + r * query_ld;
      float *out = scores + r * ld + g * GROUP;
      if (rest >= 12) {
        score_groups(12, left, right, head_size, query, out, ld);
        r += 12;
      } else if (rest >= 4) {
        score_groups(4, left, right, head_size, query, out, ld);
        r += 4;
      } else {
        score_groups(1, left, right, head_size, query, out, ld);
        r += 1;
      }
    }
  }
}

#else

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

static void pack_coarse(const hip_rows *keys, const int32_t *indices, size_t count,
                        size_t head_size, const float *table, size_t half,
                        const int32_t *positions, float *scratch, void *panel) {
  pack_keys(keys, indices, count, head_size, table, half, positions, scratch, panel);
}

static void score_coarse(const void *panel, size_t head_size, const float *queries, size_t rows,
                         float *scores, size_t ld) {
  gemm(HIP_F32, queries + QUERY_HEADER, head_size + QUERY_HEADER, rows, panel, head_size,
       scores, ld, HIP_PANEL, 0);
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

static void score_four_bits(const hip_rows *groups, const int32_t *firsts, size_t count,
                            size_t head_size, const float *queries, size_t rows, float *scores,
                            size_t ld) {
  size_t query_ld = head_size + QUERY_HEADER;
  for (size_t g = 0; g < count; g++) {
    const uint8_t *group = group_address(groups, firsts, g);
    if (g + 3 < count) prefetch_group(group_address(groups, firsts, g + 3), head_size);
    size_t r = 0;
    for (; r + 4 <= rows; r += 4)
      score_group(4, group, head_size, queries + r * query_ld, scores + r * ld + g * GROUP, ld);
    for (; r < rows; r++)
      score_group(1, group, head_size, queries + r * query_ld, scores + r * ld + g * GROUP, ld);
  }
}

#endif
