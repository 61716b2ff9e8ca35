// SPDX-License-Identifier: Apache-2.0
// Scores of keys and sketches for a selection, in products of bytes.

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
    float scale = most > 0 ? 127.0f / most : 0.0f;
    int8_t *elements = (int8_t *)(to + QUERY_HEADER);
    uint32_t total = 0;
    for (size_t i = 0; i < head_size; i += 16)
      total += MOVED_BY * (uint32_t)store_rounded(query + i, scale, 0, elements + i);
    memcpy(to + 2, &total, sizeof total);
  }
}

#define COARSE_BYTES 1

/// Keys that are brought into 8 bits together.
#define COARSE_KEYS REDUCED_ROWS

#if LANES != 16

/// Transposes rows of words into the columns of a panel.
INLINE void transpose_words(uint8_t rows[COARSE_KEYS][256], size_t words, uint32_t *panel) {
  for (size_t r = 0; r < COARSE_KEYS; r += 4)
    transpose4((const float *)rows[r], (const float *)rows[r + 1], (const float *)rows[r + 2],
               (const float *)rows[r + 3], words, (float *)panel + r);
}

#endif

#if LANES == 16

/// 64 numbers times `scale` as bytes, moved up by MOVED_BY.
INLINE void store_coarse(const vec x[4], float scale, uint8_t *out) {
  ivec whole[4];
#pragma clang loop unroll(full)
  for (int v = 0; v < 4; v++) whole[v] = nearest(x[v] * scale);
  const __m512i low = _mm512_packs_epi32((__m512i)whole[0], (__m512i)whole[1]);
  const __m512i high = _mm512_packs_epi32((__m512i)whole[2], (__m512i)whole[3]);
  // Packing leaves four bytes of each vector side by side.
  const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  const __m512i bytes = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(low, high));
  _mm512_storeu_si512(out, _mm512_xor_si512(bytes, _mm512_set1_epi8((char)MOVED_BY)));
}

#define COARSE_WIDTH 64

#else

INLINE void store_coarse(const vec x[16 / LANES], float scale, uint8_t *out) {
  float part[16];
  for (size_t v = 0; v < 16 / LANES; v++) store(part + v * LANES, x[v]);
  store_rounded(part, scale, MOVED_BY, out);
}

#define COARSE_WIDTH 16

#endif

INLINE vec key_part(ihp_element element, const uint8_t *row, size_t i) {
  switch (element) {
  case IHP_F16: return AT_F16(row, i);
  case IHP_BF16: return AT_BF16(row, i);
  case IHP_Q8_0: return AT_Q8(row, i);
  default: return AT_F32(row, i);
  }
}

/// Bits of halves, which are ordered as their amounts are where the sign is off.
typedef uint16_t halves __attribute__((ext_vector_type(LANES)));
typedef uint16_t more_halves __attribute__((ext_vector_type(2 * LANES)));

/// The greatest amounts among a key's halves, for each lane.
INLINE vec greatest_halves(const uint8_t *row, size_t head_size) {
  more_halves most = 0;
  for (size_t i = 0; i < head_size; i += 2 * LANES) {
    more_halves bits;
    memcpy(&bits, row + 2 * i, sizeof bits);
    most = __builtin_elementwise_max(most, bits & 0x7fff);
  }
  halves greatest = __builtin_elementwise_max(most.lo, most.hi);
  return widen_half(&greatest);
}

/// The greatest of each of COARSE_KEYS keys' elements.
INLINE void coarse_maxima(const ihp_element element, const uint8_t *const rows[COARSE_KEYS], const size_t head_size,
                          float most[COARSE_KEYS]) {
  vec lanes[COARSE_KEYS];
  for (size_t r = 0; r < COARSE_KEYS; r++) {
    if (element == IHP_F16 && head_size % (2 * LANES) == 0) {
      lanes[r] = greatest_halves(rows[r], head_size);
      continue;
    }
    lanes[r] = 0.0f;
    for (size_t i = 0; i < head_size; i += LANES)
      lanes[r] = __builtin_elementwise_max(lanes[r], __builtin_elementwise_abs(key_part(element, rows[r], i)));
  }
  store_greatest(lanes, COARSE_KEYS, most);
}

/// COARSE_KEYS keys in 8 bits, and their scales. Elements beyond a head, which fill up what is stored at a time, are
/// zero and not looked at.
INLINE void coarse_keys(const ihp_element element, const uint8_t *const rows[COARSE_KEYS], const size_t head_size,
                        uint8_t bytes[COARSE_KEYS][256], float *scales) {
  float most[COARSE_KEYS] __attribute__((aligned(64)));
  coarse_maxima(element, rows, head_size, most);
  for (size_t r = 0; r < COARSE_KEYS; r++) {
    scales[r] = most[r] / 127.0f;
    most[r] = most[r] > 0 ? 127.0f / most[r] : 0.0f;
  }
  for (size_t r = 0; r < COARSE_KEYS; r++)
    for (size_t i = 0; i < head_size; i += COARSE_WIDTH) {
      vec part[COARSE_WIDTH / LANES];
      for (size_t v = 0; v < COARSE_WIDTH / LANES; v++)
        part[v] = i + v * LANES < head_size ? key_part(element, rows[r], i + v * LANES) : (vec)0.0f;
      store_coarse(part, most[r], bytes[r] + i);
    }
}

/// Keys in 8 bits as a panel: [head_size / 4][IHP_PANEL] words of four elements, moved up by MOVED_BY,
/// then a scale per key.
static void pack_coarse(const ihp_rows *keys, const int32_t *indices, size_t count,
                        size_t head_size, const float *table, size_t half,
                        const int32_t *positions, float *scratch, void *panel) {
  static const float none[IHP_HEAD_SIZE] = {0};
  if (table) gather_rotated(keys, indices, count, head_size, table, half, positions, scratch);
  float *scales = (float *)panel + head_size / 4 * IHP_PANEL;
  uint8_t bytes[COARSE_KEYS][256] __attribute__((aligned(64)));
  for (size_t first = 0; first < IHP_PANEL; first += COARSE_KEYS) {
    const uint8_t *rows[COARSE_KEYS];
    for (size_t r = 0; r < COARSE_KEYS; r++) {
      const size_t j = first + r;
      if (!table && j + ROWS_AHEAD < count) prefetch_row(keys, indices[j + ROWS_AHEAD], head_size);
      rows[r] = j >= count ? (const uint8_t *)none
                : table    ? (const uint8_t *)(scratch + j * head_size)
                           : row_address(keys, (size_t)indices[j]);
    }
    const ihp_element element = table ? IHP_F32 : keys->element;
    // The usual keys, as constants.
    if (element == IHP_F16 && head_size == 64) coarse_keys(IHP_F16, rows, 64, bytes, scales + first);
    else if (element == IHP_F16) coarse_keys(IHP_F16, rows, head_size, bytes, scales + first);
    else coarse_keys(element, rows, head_size, bytes, scales + first);
    transpose_words(bytes, head_size / 4, (uint32_t *)panel + first);
  }
}

#if QUERIES_TOGETHER == 1

/// Elements k ..< k + 4 and k + 4 ..< k + 8 of 8 keys.
typedef struct eight_keys {
  ints8 low, high;
} eight_keys;

INLINE eight_keys arranged(ints8 low, ints8 high) { return (eight_keys){low, high}; }

typedef struct key_sums {
  ints8 all;
} key_sums;

INLINE key_sums sums_from(const int32_t start[1]) { return (key_sums){(ints8)start[0]}; }

/// Adds products of a query with two times 8 keys.
INLINE void add_scores(key_sums sums[2], const eight_keys keys[2], const int8_t *const query[1]) {
  int32_t words[2];
  memcpy(words, query[0], sizeof words);
  sums[0].all = add_eight(sums[0].all, keys[0].low, (ints8)words[0]);
  sums[1].all = add_eight(sums[1].all, keys[1].low, (ints8)words[0]);
  sums[0].all = add_eight(sums[0].all, keys[0].high, (ints8)words[1]);
  sums[1].all = add_eight(sums[1].all, keys[1].high, (ints8)words[1]);
}

INLINE ints8 sums_of_query(key_sums sums, const int query) {
  (void)query;
  return sums.all;
}

#endif

/// How keys lie that are scored: groups of 4-bit keys, groups of means, columns of a panel of `pack_coarse`.
typedef enum key_form { FOUR_BITS, MEANS, COLUMNS } key_form;

/// Elements k ..< k + 8 of 8 keys.
INLINE eight_keys load_keys(const key_form form, const uint8_t *keys, size_t k) {
  bytes32 low, high;
  if (form == FOUR_BITS) {
    memcpy(&high, keys + GROUP_HEADER + k * 4, sizeof high);
    low = high & 15;
    high >>= 4;
  } else {
    const size_t width = form == MEANS ? GROUP : IHP_PANEL;
    const uint8_t *words = keys + (form == MEANS ? MEAN_HEADER : 0) + k * width;
    memcpy(&low, words, sizeof low);
    memcpy(&high, words + 4 * width, sizeof high);
    // Means are stored moved up by 128.
    if (form == MEANS && SIGNED_BYTES) {
      low ^= 128;
      high ^= 128;
    }
  }
  return arranged((ints8)low, (ints8)high);
}

/// Prefetches, on the way through two groups, the line of the two groups ahead that lies as far in them.
INLINE void prefetch_line(const uint8_t *const ahead[2], size_t offset) {
  __builtin_prefetch(ahead[offset / 32 % 2] + offset / 64 * 64);
}

/// Twice 8 keys times `rows` queries; prefetches the lines of two more groups on the way, one at a
/// time, since more than a core can have on its way hold it up.
INLINE void score_keys(const key_form form, const int rows, const uint8_t *left, const uint8_t *right,
                       const uint8_t *const ahead[2], size_t head_size, const float *queries,
                       float *scores, size_t ld) {
  const size_t query_ld = head_size + QUERY_HEADER;
  const int tiles = (rows + QUERIES_TOGETHER - 1) / QUERIES_TOGETHER;
  key_sums sums[SCORE_ROWS][2];
  const float *query[SCORE_ROWS][QUERIES_TOGETHER];
#pragma clang loop unroll(full)
  for (int t = 0; t < tiles; t++) {
    int32_t start[QUERIES_TOGETHER];
#pragma clang loop unroll(full)
    for (int i = 0; i < QUERIES_TOGETHER; i++) {
      // What has no partner is multiplied twice.
      int row = t * QUERIES_TOGETHER + i < rows ? t * QUERIES_TOGETHER + i : rows - 1;
      query[t][i] = queries + (size_t)row * query_ld;
      uint32_t total;
      memcpy(&total, query[t][i] + 2, sizeof total);
      start[i] = form == FOUR_BITS ? 0 : (int32_t)-total;
    }
    sums[t][0] = sums[t][1] = sums_from(start);
  }
  // Bytes of a group in front of its elements, and of an element of its keys.
  const size_t header = form == FOUR_BITS ? GROUP_HEADER : MEAN_HEADER;
  const size_t width = form == FOUR_BITS ? GROUP / 2 : GROUP;
  if (form != COLUMNS) {
    __builtin_prefetch(ahead[0] + header + head_size * width - 1);
    __builtin_prefetch(ahead[1] + header + head_size * width - 1);
  }
  for (size_t k = 0; k < head_size; k += 8) {
    if (form != COLUMNS)
#pragma clang loop unroll(full)
      for (size_t half = 0; half < width / 4; half++) prefetch_line(ahead, k * width + half * 32);
    const eight_keys keys[2] = {load_keys(form, left, k), load_keys(form, right, k)};
#pragma clang loop unroll(full)
    for (int t = 0; t < tiles; t++) {
      const int8_t *elements[QUERIES_TOGETHER];
#pragma clang loop unroll(full)
      for (int i = 0; i < QUERIES_TOGETHER; i++)
        elements[i] = (const int8_t *)(query[t][i] + QUERY_HEADER) + k;
      add_scores(sums[t], keys, elements);
    }
  }
  const uint8_t *groups[2] = {left, right};
#pragma clang loop unroll(full)
  for (int g = 0; g < 2; g++) {
    gvec scale, least = 0.0f;
    if (form == COLUMNS) memcpy(&scale, groups[g] + head_size * IHP_PANEL, sizeof scale);
    else load_group(groups[g], &scale);
    if (form == FOUR_BITS) load_group(groups[g] + GROUP * 2, &least);
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
      const float *own = queries + (size_t)r * query_ld;
      ints8 whole = sums_of_query(sums[r / QUERIES_TOGETHER][g], r % QUERIES_TOGETHER);
      gvec dots = __builtin_convertvector(whole, gvec);
      dots = form == FOUR_BITS ? dots * (scale * own[0]) + least * own[1] : dots * (scale * own[0]);
      memcpy(scores + (size_t)r * ld + (size_t)g * GROUP, &dots, sizeof dots);
    }
  }
}

INLINE void score_rows(const key_form form, const uint8_t *left, const uint8_t *right,
                       const uint8_t *ahead[2], size_t head_size, const float *queries, size_t rows,
                       float *scores, size_t ld) {
  for (size_t r = 0; r < rows;) {
    const float *query = queries + r * (head_size + QUERY_HEADER);
    float *out = scores + r * ld;
#define SCORE_UP_TO(height)                                                                        \
  if (rows - r >= height) {                                                                        \
    score_keys(form, height, left, right, ahead, head_size, query, out, ld);                       \
    r += height;                                                                                   \
  }
    SCORE_UP_TO(SCORE_ROWS)
    else SCORE_UP_TO(4)
    else SCORE_UP_TO(2)
    else SCORE_UP_TO(1)
#undef SCORE_UP_TO
    ahead[0] = left;
    ahead[1] = right;
  }
}

INLINE void score_groups(const key_form form, const ihp_rows *groups, const int32_t *firsts,
                         size_t count, size_t known, size_t head_size, const float *queries,
                         size_t rows, float *scores, size_t ld) {
  for (size_t g = 0; g < count; g += 2) {
    const uint8_t *left = group_address(groups, firsts, g);
    // Without a second group the first is scored twice; both land in the tile.
    const uint8_t *right = g + 1 < count ? group_address(groups, firsts, g + 1) : left;
    const uint8_t *ahead[2];
    groups_ahead(groups, firsts, g, known, form == FOUR_BITS ? head_size / 2 : head_size, ahead);
    score_rows(form, left, right, ahead, head_size, queries, rows, scores + g * GROUP, ld);
  }
}

static void score_four_bits(const ihp_rows *groups, const int32_t *firsts, size_t count,
                            size_t known, size_t head_size, const float *queries, size_t rows, float *scores,
                            size_t ld) {
  score_groups(FOUR_BITS, groups, firsts, count, known, head_size, queries, rows, scores, ld);
}

static void score_means(const ihp_rows *groups, const int32_t *firsts, size_t count, size_t known,
                        size_t head_size, const float *queries, size_t rows, float *scores,
                        size_t ld) {
  score_groups(MEANS, groups, firsts, count, known, head_size, queries, rows, scores, ld);
}

/// Queries from which on means are brought into a panel to be scored, which they would be anew for every few of these.
#define PANEL_QUERIES (LANES == 16 ? 12 : SIZE_MAX)

/// Brings a group of means into its columns of a panel.
INLINE void pack_group(const uint8_t *group, size_t head_size, void *panel, size_t column) {
  gvec scale;
  load_group(group, &scale);
  memcpy((float *)panel + head_size / 4 * IHP_PANEL + column, &scale, sizeof scale);
  for (size_t q = 0; q < head_size / 4; q++) {
    bytes32 words;
    memcpy(&words, group + MEAN_HEADER + q * sizeof words, sizeof words);
    if (SIGNED_BYTES) words ^= 128;
    memcpy((uint32_t *)panel + q * IHP_PANEL + column, &words, sizeof words);
  }
}

#if LANES == 16

INLINE void coarse_tile(const int height, const void *panel, size_t head_size,
                        const float *queries, float *scores, size_t ld) {
  size_t query_ld = head_size + QUERY_HEADER;
  ivec sums[6][4];
#pragma clang loop unroll(full)
  for (int r = 0; r < height; r++) {
    uint32_t total;
    memcpy(&total, queries + (size_t)r * query_ld + 2, sizeof total);
#pragma clang loop unroll(full)
    for (int v = 0; v < 4; v++) sums[r][v] = (int32_t)-total;
  }
  for (size_t k = 0; k < head_size / 4; k++) {
    ivec right[4];
#pragma clang loop unroll(full)
    for (int v = 0; v < 4; v++)
      right[v] = load_bytes((const uint32_t *)panel + k * IHP_PANEL + (size_t)v * 16);
#pragma clang loop unroll(full)
    for (int r = 0; r < height; r++) {
      int32_t word;
      memcpy(&word, queries + (size_t)r * query_ld + QUERY_HEADER + k, sizeof word);
      ivec left = word;
#pragma clang loop unroll(full)
      for (int v = 0; v < 4; v++) sums[r][v] = add_bytes(sums[r][v], right[v], left);
    }
  }
  const float *scales = (const float *)panel + head_size / 4 * IHP_PANEL;
#pragma clang loop unroll(full)
  for (int r = 0; r < height; r++) {
    vec scale = queries[(size_t)r * query_ld];
#pragma clang loop unroll(full)
    for (int v = 0; v < 4; v++)
      store(scores + (size_t)r * ld + (size_t)v * 16,
            __builtin_convertvector(sums[r][v], vec) * (load(scales + v * 16) * scale));
  }
}

INLINE void score_columns(const void *panel, size_t head_size, const float *queries, size_t rows,
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

#if IN_TILES
#include "scores_amx.h"
#else
static void score_coarse(const void *panel, size_t head_size, const float *queries, size_t rows,
                         float *scores, size_t ld) {
  score_columns(panel, head_size, queries, rows, scores, ld);
}
#endif

#else

/// A panel is groups side by side.
static void score_coarse(const void *panel, size_t head_size, const float *queries, size_t rows,
                         float *scores, size_t ld) {
  for (size_t column = 0; column < IHP_PANEL; column += 2 * GROUP) {
    const uint8_t *left = (const uint8_t *)panel + column * 4;
    const uint8_t *none[2];
    score_rows(COLUMNS, left, left + GROUP * 4, none, head_size, queries, rows, scores + column, ld);
  }
}

#endif
