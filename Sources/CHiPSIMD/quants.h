// SPDX-License-Identifier: Apache-2.0
// Weights below 8 bits: rows of blocks whose elements are quants times a scale, less a minimum.

/// Elements that are unpacked at a time: a super-block of the K formats.
#define SUPER_BLOCK 256
/// Elements that share a scale at least.
#define QUANT_GROUP 16
#define QUANT_GROUPS (SUPER_BLOCK / QUANT_GROUP)

/// Up to 256 elements of a row: element i is quant[i] * scale[i / 16] - minimum[i / 16].
typedef struct quants {
  uint8_t quant[SUPER_BLOCK] __attribute__((aligned(64)));
  float scale[QUANT_GROUPS] __attribute__((aligned(64)));
  float minimum[QUANT_GROUPS] __attribute__((aligned(64)));
} quants;

typedef uint8_t bytes32 __attribute__((ext_vector_type(32)));

// Macros: a 32-byte vector as an argument would depend on the instruction set.
#define LOAD_BYTES(name, p)                                                                        \
  bytes32 name;                                                                                    \
  memcpy(&name, p, sizeof name)
#define STORE_BYTES(p, x)                                                                          \
  do {                                                                                             \
    bytes32 stored = x;                                                                            \
    memcpy(p, &stored, sizeof stored);                                                             \
  } while (0)

/// Bytes of a block, elements of a block.
INLINE size_t quant_bytes(ihp_element element) {
  switch (element) {
  case IHP_Q4_0: return 18;
  case IHP_Q4_1: return 20;
  case IHP_Q4_K: return 144;
  case IHP_Q5_K: return 176;
  default: return 210;
  }
}

INLINE size_t quant_width(ihp_element element) {
  return element == IHP_Q4_0 || element == IHP_Q4_1 ? BLOCK : SUPER_BLOCK;
}

/// 8 scales and 8 minima of 6 bits each, in the 12 bytes of Q4_K and Q5_K.
INLINE void unpack_scales(const uint8_t *block, quants *out) {
  uint32_t word[3];
  memcpy(word, block + 4, sizeof word);
  uint32_t packed[4] = {
      word[0] & 0x3f3f3f3fu,
      (word[2] & 0x0f0f0f0fu) | ((word[0] >> 6) & 0x03030303u) << 4,
      word[1] & 0x3f3f3f3fu,
      ((word[2] >> 4) & 0x0f0f0f0fu) | ((word[1] >> 6) & 0x03030303u) << 4,
  };
  typedef uint8_t bytes16 __attribute__((ext_vector_type(16)));
  typedef float floats16 __attribute__((ext_vector_type(16)));
  bytes16 six;
  memcpy(&six, packed, sizeof six);
  floats16 both = __builtin_convertvector(six, floats16);
  floats16 scale = __builtin_shufflevector(both, both, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6,
                                           7, 7) *
                   half_to_float(block);
  floats16 minimum = __builtin_shufflevector(both, both, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13,
                                             14, 14, 15, 15) *
                     half_to_float(block + 2);
  memcpy(out->scale, &scale, sizeof scale);
  memcpy(out->minimum, &minimum, sizeof minimum);
}

/// Elements `first` ..< `first + width` of a row, both multiples of the block; the rest is zero.
INLINE void unpack(ihp_element element, const uint8_t *row, size_t first, size_t width,
                   quants *out) {
  const uint8_t *block = row + first / quant_width(element) * quant_bytes(element);
  switch (element) {
  case IHP_Q4_0:
  case IHP_Q4_1:
    if (width < SUPER_BLOCK) memset(out, 0, sizeof *out);
    for (size_t b = 0; b < width / 32; b++, block += quant_bytes(element)) {
      float scale = half_to_float(block);
      float minimum = element == IHP_Q4_0 ? 8 * scale : -half_to_float(block + 2);
      for (size_t half = 0; half < 2; half++) {
        out->scale[2 * b + half] = scale;
        out->minimum[2 * b + half] = minimum;
      }
      typedef uint8_t bytes16 __attribute__((ext_vector_type(16)));
      bytes16 pairs;
      memcpy(&pairs, block + quant_bytes(element) - 16, sizeof pairs);
      bytes16 low = pairs & 15, high = pairs >> 4;
      memcpy(out->quant + b * 32, &low, sizeof low);
      memcpy(out->quant + b * 32 + 16, &high, sizeof high);
    }
    break;
  case IHP_Q4_K:
    unpack_scales(block, out);
    for (size_t j = 0; j < 4; j++) {
      LOAD_BYTES(pairs, block + 16 + 32 * j);
      STORE_BYTES(out->quant + 64 * j, pairs & 15);
      STORE_BYTES(out->quant + 64 * j + 32, pairs >> 4);
    }
    break;
  case IHP_Q5_K: {
    unpack_scales(block, out);
    LOAD_BYTES(fifth, block + 16);
    for (size_t j = 0; j < 4; j++) {
      LOAD_BYTES(pairs, block + 48 + 32 * j);
      STORE_BYTES(out->quant + 64 * j, (pairs & 15) | (fifth & 1) << 4);
      STORE_BYTES(out->quant + 64 * j + 32, (pairs >> 4) | ((fifth >> 1) & 1) << 4);
      fifth >>= 2;
    }
    break;
  }
  default:
    for (size_t j = 0; j < 2; j++) {
      LOAD_BYTES(low, block + 64 * j);
      LOAD_BYTES(next, block + 64 * j + 32);
      LOAD_BYTES(top, block + 128 + 32 * j);
      uint8_t *to = out->quant + 128 * j;
      STORE_BYTES(to, (low & 15) | (top & 3) << 4);
      STORE_BYTES(to + 32, (next & 15) | ((top >> 2) & 3) << 4);
      STORE_BYTES(to + 64, (low >> 4) | ((top >> 4) & 3) << 4);
      STORE_BYTES(to + 96, (next >> 4) | (top >> 6) << 4);
    }
    float scale = half_to_float(block + 208);
    for (int g = 0; g < QUANT_GROUPS; g += LANES) {
      vec own = widen_bytes((const int8_t *)block + 192 + g) * scale;
      store(out->scale + g, own);
      store(out->minimum + g, own * 32.0f);
    }
    break;
  }
}

/// Elements of a row as float32.
INLINE void widen_quants(ihp_element element, const uint8_t *row, size_t first, size_t n,
                         float *out) {
  quants d;
  for (size_t done = 0; done < n; done += SUPER_BLOCK) {
    size_t width = n - done < SUPER_BLOCK ? n - done : SUPER_BLOCK;
    unpack(element, row, first + done, width, &d);
    for (size_t i = 0; i < width; i += LANES) {
      typedef uint8_t bvec __attribute__((ext_vector_type(LANES)));
      bvec bytes;
      memcpy(&bytes, d.quant + i, sizeof bytes);
      vec quant = __builtin_convertvector(bytes, vec);
      store(out + done + i, quant * d.scale[i / QUANT_GROUP] - d.minimum[i / QUANT_GROUP]);
    }
  }
}

/// Weights are prefetched this far ahead: hardware stops at the end of a memory page.
#define ROW_BYTES_AHEAD 2048

#if IN_INTEGERS

// A prepared input: per group of 16 its scale and its sum, then the elements in 8 bits, once in their
// order, once as the quants of Q4_K lie (of 128, blocks of 32: 0, 2, 1, 3). For weights of 8 bits, behind
// those: a scale per block of 32, and the elements in 15 bits.

INLINE size_t padded_width(size_t n) { return (n + SUPER_BLOCK - 1) / SUPER_BLOCK * SUPER_BLOCK; }

/// The part of a prepared input for weights of 8 bits.
typedef struct fine_input {
  const float *steps;
  const int16_t *elements;
} fine_input;

INLINE fine_input fine_part(const float *prepared, size_t n) {
  const float *steps = prepared + 2 * padded_width(n) / QUANT_GROUP + padded_width(n) / 2;
  return (fine_input){.steps = steps, .elements = (const int16_t *)(steps + padded_width(n) / BLOCK)};
}

static void prepare_input(const float *x, size_t n, float *out) {
  size_t groups = padded_width(n) / QUANT_GROUP;
  float *scales = out, *sums = out + groups;
  int8_t *elements = (int8_t *)(sums + groups);
  int8_t *paired = elements + padded_width(n);
  fine_input fine = fine_part(out, n);
  float *steps = (float *)fine.steps;
  int16_t *wide = (int16_t *)fine.elements;
  memset(out, 0, groups * 2 * sizeof(float) + 2 * padded_width(n));
  for (size_t i = 0; i < n; i += BLOCK) {
    vec low = load(x + i), high = load(x + i + 16);
    float most = max_lanes(__builtin_elementwise_max(__builtin_elementwise_abs(low),
                                                     __builtin_elementwise_abs(high)));
    float inverse = most > 0 ? 127.0f / most : 0.0f;
    vec parts[2] = {low, high};
    for (size_t half = 0; half < 2; half++) {
      scales[i / QUANT_GROUP + half] = most / 127.0f;
      __m512i whole = _mm512_cvtps_epi32((__m512)(parts[half] * inverse));
      // Of what is multiplied, so that rounding weighs by the weight and not by its quant.
      sums[i / QUANT_GROUP + half] = (float)_mm512_reduce_add_epi32(whole) * (most / 127.0f);
      __m128i bytes = _mm512_cvtepi32_epi8(whole);
      static const size_t places[4] = {0, 64, 32, 96};
      _mm_storeu_si128((__m128i *)(elements + i + half * 16), bytes);
      _mm_storeu_si128(
          (__m128i *)(paired + i / 128 * 128 + places[i / 32 % 4] + half * 16), bytes);
    }
    steps[i / BLOCK] = most / 16256.0f;
    for (size_t half = 0; half < 2; half++) {
      __m512i whole = _mm512_cvtps_epi32((__m512)(parts[half] * (most > 0 ? 16256.0f / most : 0.0f)));
      _mm256_storeu_si256((__m256i *)(wide + i + half * 16), _mm512_cvtepi32_epi16(whole));
    }
  }
}

typedef float octet __attribute__((ext_vector_type(8)));

/// 32 bytes of weights times 32 elements of an input in 15 bits, times a factor.
INLINE octet add_block(const __m256i weights[2], const int16_t *input, float factor, octet total) {
  __m256i sum = _mm256_dpwssd_epi32(_mm256_setzero_si256(), weights[0],
                                    _mm256_loadu_si256((const __m256i *)input));
  sum = _mm256_dpwssd_epi32(sum, weights[1], _mm256_loadu_si256((const __m256i *)(input + 16)));
  return __builtin_elementwise_fma((octet)_mm256_cvtepi32_ps(sum), (octet)factor, total);
}

INLINE void load_block(const uint8_t *block, __m256i weights[2]) {
  weights[0] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(block + 2)));
  weights[1] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(block + 18)));
}

/// The scales of 8 blocks. Put together in registers: small stores and a wide load would wait for each other.
INLINE __m256 block_scales(const uint8_t *block) {
  uint16_t h[8];
#pragma clang loop unroll(full)
  for (int i = 0; i < 8; i++) memcpy(h + i, block + i * BLOCK_BYTES, 2);
  __m128i low = _mm_cvtsi32_si128(h[0]), high = _mm_cvtsi32_si128(h[4]);
  low = _mm_insert_epi16(_mm_insert_epi16(_mm_insert_epi16(low, h[1], 1), h[2], 2), h[3], 3);
  high = _mm_insert_epi16(_mm_insert_epi16(_mm_insert_epi16(high, h[5], 1), h[6], 2), h[7], 3);
  return _mm256_cvtph_ps(_mm_unpacklo_epi64(low, high));
}

/// A row of Q8_0 times up to four inputs. Sums of blocks alternate between two, whatever else is computed
/// beside them.
INLINE void dot_eight_bits(const int inputs, const uint8_t *row, const fine_input fine[4], size_t n,
                           float *out, size_t out_ld) {
  octet even[4], odd[4];
#pragma clang loop unroll(full)
  for (int i = 0; i < inputs; i++) even[i] = odd[i] = 0.0f;
  size_t blocks = n / BLOCK, b = 0;
  for (; b + 8 <= blocks; b += 8) {
    __m256 scales = block_scales(row);
    float factors[4][8];
#pragma clang loop unroll(full)
    for (int i = 0; i < inputs; i++)
      _mm256_storeu_ps(factors[i], _mm256_mul_ps(scales, _mm256_loadu_ps(fine[i].steps + b)));
#pragma clang loop unroll(full)
    for (size_t k = 0; k < 8; k += 2, row += 2 * BLOCK_BYTES) {
      __m256i first[2], second[2];
      __builtin_prefetch(row + ROW_BYTES_AHEAD);
      __builtin_prefetch(row + ROW_BYTES_AHEAD + BLOCK_BYTES);
      load_block(row, first);
      load_block(row + BLOCK_BYTES, second);
#pragma clang loop unroll(full)
      for (int i = 0; i < inputs; i++) {
        const int16_t *input = fine[i].elements + (b + k) * BLOCK;
        even[i] = add_block(first, input, factors[i][k], even[i]);
        odd[i] = add_block(second, input + BLOCK, factors[i][k + 1], odd[i]);
      }
    }
  }
  for (; b < blocks; b++, row += BLOCK_BYTES) {
    __m256i weights[2];
    load_block(row, weights);
    float scale = half_to_float(row);
#pragma clang loop unroll(full)
    for (int i = 0; i < inputs; i++)
      even[i] = add_block(weights, fine[i].elements + b * BLOCK, scale * fine[i].steps[b], even[i]);
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < inputs; i++) {
    octet total = even[i] + odd[i];
    quad four = total.lo + total.hi;
    out[(size_t)i * out_ld] = (four[0] + four[2]) + (four[1] + four[3]);
  }
}

/// Rows of weights that stay near while one group of inputs after the other takes them.
#define NEAR_ROWS 16

/// `matvec` of Q8_0.
static void multiply_eight_bits(const uint8_t *row, size_t stride, size_t rows, const float *prepared,
                                size_t prepared_ld, size_t inputs, size_t n, float *out,
                                size_t out_ld) {
  size_t step = inputs > 4 ? NEAR_ROWS : rows;
  for (size_t first = 0; first < rows; first += step) {
    size_t end = rows - first < step ? rows : first + step;
    for (size_t i = 0; i < inputs; i += 4) {
      fine_input fine[4];
      size_t count = inputs - i < 4 ? inputs - i : 4;
      for (size_t k = 0; k < count; k++) fine[k] = fine_part(prepared + (i + k) * prepared_ld, n);
      float *to = out + i * out_ld;
#define ROWS_TIMES(inputs)                                                                         \
  for (size_t r = first; r < end; r++) dot_eight_bits(inputs, row + r * stride, fine, n, to + r, out_ld); \
  break
      switch (count) {
      case 1: ROWS_TIMES(1);
      case 2: ROWS_TIMES(2);
      case 3: ROWS_TIMES(3);
      default: ROWS_TIMES(4);
      }
#undef ROWS_TIMES
    }
  }
}

/// The 8 scales, then the 8 minima of a block of Q4_K or Q5_K, as floats.
INLINE __m512 six_bits(const uint8_t *block) {
  __m128i words = _mm_loadu_si128((const __m128i *)(block + 4));
  __m128i low = _mm_and_si128(words, _mm_set1_epi32(0x3f3f3f3f));
  __m128i third = _mm_srlv_epi32(_mm_shuffle_epi32(words, 0xaa), _mm_set_epi32(0, 0, 4, 0));
  __m128i high = _mm_or_si128(
      _mm_and_si128(third, _mm_set1_epi32(0x0f0f0f0f)),
      _mm_and_si128(_mm_srli_epi32(words, 2), _mm_set1_epi32(0x30303030)));
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_unpacklo_epi32(low, high)));
}

/// A row of Q4_K, whose quants never leave the registers.
INLINE float dot_four_bits(const uint8_t *row, const float *prepared, size_t n) {
  size_t groups = padded_width(n) / QUANT_GROUP;
  const float *scales = prepared, *sums = prepared + groups;
  const int8_t *elements = (const int8_t *)(sums + groups) + padded_width(n);
  // Of 128 elements the blocks of 32 with low and with high quants, and the groups of 16 in those.
  const __m512i low_groups = _mm512_set_epi32(5, 5, 5, 5, 4, 4, 4, 4, 1, 1, 1, 1, 0, 0, 0, 0);
  const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
  const __m512i fifteen = _mm512_set1_epi8(15);
  vec totals[2] = {0.0f, 0.0f}, minima = 0.0f;
  for (size_t first = 0; first < n; first += SUPER_BLOCK, row += 144) {
    __builtin_prefetch(row + ROW_BYTES_AHEAD);
    __builtin_prefetch(row + ROW_BYTES_AHEAD + 64);
    __builtin_prefetch(row + ROW_BYTES_AHEAD + 128);
    __m512 both = six_bits(row);
    __m512 scale = _mm512_mul_ps(
        _mm512_permutexvar_ps(twice, both),
        _mm512_mul_ps(_mm512_loadu_ps(scales + first / QUANT_GROUP), _mm512_set1_ps(half_to_float(row))));
    __m512 minimum = _mm512_permutexvar_ps(_mm512_add_epi32(twice, _mm512_set1_epi32(8)), both);
    minima = fused((vec)minimum, load(sums + first / QUANT_GROUP) * half_to_float(row + 2), minima);
#pragma clang loop unroll(full)
    for (int half = 0; half < 2; half++) {
      __m512i pairs = _mm512_loadu_si512(row + 16 + half * 64);
#pragma clang loop unroll(full)
      for (int high = 0; high < 2; high++) {
        __m512i quant = _mm512_and_si512(high ? _mm512_srli_epi16(pairs, 4) : pairs, fifteen);
        __m512i sum = _mm512_dpbusd_epi32(
            _mm512_setzero_si512(), quant,
            _mm512_loadu_si512(elements + first + (size_t)half * 128 + (size_t)high * 64));
        __m512 own = _mm512_permutexvar_ps(
            _mm512_add_epi32(low_groups, _mm512_set1_epi32(8 * half + 2 * high)), scale);
        totals[high] = fused((vec)_mm512_cvtepi32_ps(sum), (vec)own, totals[high]);
      }
    }
  }
  return sum_lanes(totals[0] + totals[1] - minima);
}

INLINE float dot_quants(ihp_element element, const uint8_t *row, const float *x,
                        const float *prepared, size_t n) {
  (void)x;
  if (element == IHP_Q4_K) return dot_four_bits(row, prepared, n);
  size_t groups = padded_width(n) / QUANT_GROUP;
  const float *scales = prepared, *sums = prepared + groups;
  const int8_t *elements = (const int8_t *)(sums + groups);
  const __m512i four = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
  vec total = 0.0f, minima = 0.0f;
  quants d;
  for (size_t first = 0; first < n; first += SUPER_BLOCK) {
    size_t width = n - first < SUPER_BLOCK ? n - first : SUPER_BLOCK;
    const uint8_t *ahead = row + first / quant_width(element) * quant_bytes(element);
    for (size_t line = 0; line < 256; line += 64)
      __builtin_prefetch(ahead + ROW_BYTES_AHEAD + line);
    unpack(element, row, first, width, &d);
    vec scale = load(d.scale) * load(scales + first / QUANT_GROUP);
    minima = fused(load(d.minimum), load(sums + first / QUANT_GROUP), minima);
#pragma clang loop unroll(full)
    for (int v = 0; v < 4; v++) {
      __m512i sum = _mm512_dpbusd_epi32(
          _mm512_setzero_si512(), _mm512_load_si512(d.quant + v * 64),
          _mm512_loadu_si512(elements + first + (size_t)v * 64));
      vec own = (vec)_mm512_permutexvar_ps(
          _mm512_add_epi32(four, _mm512_set1_epi32(4 * v)), (__m512)scale);
      total = fused((vec)_mm512_cvtepi32_ps(sum), own, total);
    }
  }
  return sum_lanes(total - minima);
}

#else

static void prepare_input(const float *x, size_t n, float *out) {
  (void)x;
  (void)n;
  (void)out;
}

INLINE float dot_quants(ihp_element element, const uint8_t *row, const float *x,
                        const float *prepared, size_t n) {
  (void)prepared;
  float wide[SUPER_BLOCK];
  vec total = 0.0f;
  for (size_t first = 0; first < n; first += SUPER_BLOCK) {
    size_t width = n - first < SUPER_BLOCK ? n - first : SUPER_BLOCK;
    widen_quants(element, row, first, width, wide);
    for (size_t i = 0; i < width; i += LANES)
      total = fused(load(wide + i), load(x + first + i), total);
  }
  return sum_lanes(total);
}

#endif
