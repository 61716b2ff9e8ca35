// SPDX-License-Identifier: Apache-2.0
// Products of single rows with quantised blocks.

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
  memset(steps, 0, padded_width(n) / BLOCK * sizeof(float));
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
  __m256i sum = _mm256_madd_epi16(weights[0], _mm256_loadu_si256((const __m256i *)input));
  __m256i second = _mm256_loadu_si256((const __m256i *)(input + 16));
  // One instruction: compilers make two of the intrinsic.
  __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(weights[1]), "v"(second));
  return __builtin_elementwise_fma((octet)_mm256_cvtepi32_ps(sum), (octet)factor, total);
}

INLINE void load_block(const uint8_t *block, __m256i weights[2]) {
  weights[0] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(block + 2)));
  weights[1] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(block + 18)));
}

/// Half-precision numbers of 8 blocks, so many bytes apart. Put together in registers: small stores and a wide load
/// would wait for each other.
INLINE __m256 block_halves(const uint8_t *block, const size_t stride) {
  uint16_t h[8];
#pragma clang loop unroll(full)
  for (size_t i = 0; i < 8; i++) memcpy(h + i, block + i * stride, 2);
  __m128i low = _mm_cvtsi32_si128(h[0]), high = _mm_cvtsi32_si128(h[4]);
  low = _mm_insert_epi16(_mm_insert_epi16(_mm_insert_epi16(low, h[1], 1), h[2], 2), h[3], 3);
  high = _mm_insert_epi16(_mm_insert_epi16(_mm_insert_epi16(high, h[5], 1), h[6], 2), h[7], 3);
  return _mm256_cvtph_ps(_mm_unpacklo_epi64(low, high));
}

/// One or two rows of Q8_0 times up to four inputs: two share what is loaded of the inputs. Sums of blocks
/// alternate between two, whatever else is computed beside them.
INLINE void dot_eight_bits(const int rows, const int inputs, const uint8_t *row, size_t stride,
                           const fine_input fine[4], size_t n, float *out, size_t out_ld) {
  octet sums[2][2][4];
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; r++)
#pragma clang loop unroll(full)
    for (int i = 0; i < inputs; i++) sums[r][0][i] = sums[r][1][i] = 0.0f;
  size_t blocks = n / BLOCK, b = 0;
  for (; b + 8 <= blocks; b += 8) {
    // Behind the end of a row stands one that is computed beside it: what comes next is behind that.
    size_t skipped = b * BLOCK_BYTES + ROW_BYTES_AHEAD >= stride ? (size_t)(rows - 1) * stride : 0;
    float factors[2][4][8];
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
      __m256 scales = block_halves(row + (size_t)r * stride, BLOCK_BYTES);
#pragma clang loop unroll(full)
      for (int i = 0; i < inputs; i++)
        _mm256_storeu_ps(factors[r][i], _mm256_mul_ps(scales, _mm256_loadu_ps(fine[i].steps + b)));
    }
    // Factors are broadcast from memory: kept in registers they would push the sums out.
    __asm__ volatile("" : : "r"(factors) : "memory");
#pragma clang loop unroll(full)
    for (size_t k = 0; k < 8; k++, row += BLOCK_BYTES) {
      __m256i weights[2][2];
#pragma clang loop unroll(full)
      for (int r = 0; r < rows; r++) {
        __builtin_prefetch(row + (size_t)r * stride + ROW_BYTES_AHEAD + skipped);
        load_block(row + (size_t)r * stride, weights[r]);
      }
#pragma clang loop unroll(full)
      for (int i = 0; i < inputs; i++)
#pragma clang loop unroll(full)
        for (int r = 0; r < rows; r++)
          sums[r][k % 2][i] = add_block(weights[r], fine[i].elements + (b + k) * BLOCK,
                                        factors[r][i][k], sums[r][k % 2][i]);
    }
  }
  for (; b < blocks; b++, row += BLOCK_BYTES) {
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
      __m256i weights[2];
      load_block(row + (size_t)r * stride, weights);
      float scale = half_to_float(row + (size_t)r * stride);
#pragma clang loop unroll(full)
      for (int i = 0; i < inputs; i++)
        sums[r][0][i] = add_block(weights, fine[i].elements + b * BLOCK, scale * fine[i].steps[b],
                                  sums[r][0][i]);
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; r++)
#pragma clang loop unroll(full)
    for (int i = 0; i < inputs; i++) {
      octet total = sums[r][0][i] + sums[r][1][i];
      quad four = total.lo + total.hi;
      out[(size_t)i * out_ld + (size_t)r] = (four[0] + four[2]) + (four[1] + four[3]);
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
#define ROWS_TIMES(together, inputs)                                                               \
  {                                                                                                \
    size_t r = first;                                                                              \
    for (; r + together <= end; r += together)                                                     \
      dot_eight_bits(together, inputs, row + r * stride, stride, fine, n, to + r, out_ld);         \
    for (; r < end; r++)                                                                           \
      dot_eight_bits(1, inputs, row + r * stride, stride, fine, n, to + r, out_ld);                \
  }                                                                                                \
  break
      switch (count) {
      case 1: ROWS_TIMES(1, 1);
      case 2: ROWS_TIMES(1, 2);
      case 3: ROWS_TIMES(1, 3);
      default: ROWS_TIMES(2, 4);
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

// MARK: Blocks of 32

/// Whether a format's blocks of 32 have one scale and digits that one register holds.
INLINE int has_register_blocks(ihp_element element) {
  switch (element) {
  case IHP_Q4_0: case IHP_Q4_1: case IHP_Q5_0: case IHP_Q5_1: case IHP_IQ4_NL: case IHP_MXFP4:
  case IHP_IQ4_XS: return 1;
  default: return 0;
  }
}

/// Bytes that 8 blocks of 32 take.
INLINE size_t bytes_of_eight(ihp_element element) {
  return quant_bytes(element) * (SUPER_BLOCK / quant_width(element));
}

/// The quants of two of 8 blocks. Pairs are a block's last 16 bytes, fifth bits the four before.
INLINE __m512i block_quants(ihp_element element, const uint8_t *row, size_t index) {
  const __m512i shifts = _mm512_set_epi32(4, 4, 4, 4, 0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0);
  const size_t bytes = element == IHP_IQ4_XS ? 16 : quant_bytes(element);
  const uint8_t *pairs = element == IHP_IQ4_XS ? row + 8 + 16 * index
                                               : row + (index + 1) * bytes - 16;
  __m512i both = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)pairs));
  both = _mm512_mask_broadcast_i32x4(both, 0xff00,
                                     _mm_loadu_si128((const __m128i *)(pairs + bytes)));
  __m512i digits = _mm512_and_si512(_mm512_srlv_epi32(both, shifts), _mm512_set1_epi8(15));
  switch (element) {
  case IHP_Q5_0:
  case IHP_Q5_1: {
    uint64_t fifth = word_at(pairs - 4) | (uint64_t)word_at(pairs + bytes - 4) << 32;
    return _mm512_mask_add_epi8(digits, fifth, digits, _mm512_set1_epi8(16));
  }
  case IHP_IQ4_NL:
  case IHP_IQ4_XS:
  case IHP_MXFP4: {
    const uint8_t *book = element == IHP_MXFP4 ? book_mxfp4 : book_nl;
    return _mm512_shuffle_epi8(
        _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)book)), digits);
  }
  default: return digits;
  }
}

/// The scales of 8 blocks.
INLINE __m256 register_scales(ihp_element element, const uint8_t *block) {
  if (element == IHP_IQ4_XS) {
    // Six bits each: four in the low part, two in the high one.
    uint16_t high;
    memcpy(&high, block + 2, sizeof high);
    __m256i low = _mm256_srlv_epi32(_mm256_set1_epi32((int)word_at(block + 4)),
                                    _mm256_set_epi32(28, 24, 20, 16, 12, 8, 4, 0));
    __m256i top = _mm256_srlv_epi32(_mm256_set1_epi32(high),
                                    _mm256_set_epi32(14, 12, 10, 8, 6, 4, 2, 0));
    __m256i six = _mm256_or_si256(
        _mm256_and_si256(low, _mm256_set1_epi32(15)),
        _mm256_slli_epi32(_mm256_and_si256(top, _mm256_set1_epi32(3)), 4));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(six, _mm256_set1_epi32(32))),
                         _mm256_set1_ps(half_to_float(block)));
  }
  if (element != IHP_MXFP4) return block_halves(block, quant_bytes(element));
  uint64_t exponents = 0;
#pragma clang loop unroll(full)
  for (int i = 0; i < 8; i++) exponents |= (uint64_t)block[i * 17] << (8 * i);
  __m256i wide = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)exponents));
  // Half of 2^(e - 127); what single precision has no normal number for is zero.
  __m256i less = _mm256_slli_epi32(_mm256_subs_epu16(wide, _mm256_set1_epi32(1)), 23);
  __mmask8 none = _mm256_cmpeq_epi32_mask(wide, _mm256_set1_epi32(255));
  return _mm256_castsi256_ps(_mm256_mask_set1_epi32(less, none, 0x7fc00000));
}

/// What is subtracted from each element of 8 blocks.
INLINE __m256 register_minima(ihp_element element, const uint8_t *block, __m256 scales) {
  float offset = 8;
  switch (element) {
  case IHP_Q4_1:
  case IHP_Q5_1:
    return _mm256_sub_ps(_mm256_setzero_ps(), block_halves(block + 2, quant_bytes(element)));
  case IHP_Q5_0: offset = 16; break;
  case IHP_IQ4_NL: case IHP_IQ4_XS: offset = BOOK_OFFSET_NL; break;
  case IHP_MXFP4: offset = BOOK_OFFSET_MXFP4; break;
  default: break;
  }
  return _mm256_mul_ps(scales, _mm256_set1_ps(offset));
}

/// A prepared input in 8 bits.
typedef struct coarse_input {
  /// Per block of 32: 127 of these are its greatest element.
  const float *steps;
  /// Per group of 16, of what the elements stand for.
  const float *sums;
  const int8_t *elements;
} coarse_input;

INLINE coarse_input coarse_part(const float *prepared, size_t n) {
  size_t groups = padded_width(n) / QUANT_GROUP;
  return (coarse_input){.steps = fine_part(prepared, n).steps,
                        .sums = prepared + groups,
                        .elements = (const int8_t *)(prepared + 2 * groups)};
}

/// The sums of 8 blocks of 32.
INLINE __m256 block_sums(const float *sums) {
  const __m512i even = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 14, 12, 10, 8, 6, 4, 2, 0);
  __m512 groups = _mm512_loadu_ps(sums);
  return _mm512_castps512_ps256(
      _mm512_permutexvar_ps(even, _mm512_add_ps(groups, _mm512_permute_ps(groups, 0xb1))));
}

/// A row times up to four inputs; quants never leave the registers. An input's sums are made alike whatever is
/// computed beside it.
INLINE void dot_registers(ihp_element element, const int inputs, const uint8_t *row,
                          const coarse_input coarse[4], size_t n, float *out, size_t out_ld) {
  const size_t bytes = bytes_of_eight(element);
  // The factors of two blocks, each in half of the lanes.
  const __m512i halves = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
  vec even[4], odd[4];
  octet minima[4];
#pragma clang loop unroll(full)
  for (int i = 0; i < inputs; i++) {
    even[i] = odd[i] = 0.0f;
    minima[i] = 0.0f;
  }
  size_t blocks = n / BLOCK, b = 0;
  // The last super-block may be a part of one: its blocks are copied, so that nothing behind the row is read.
  uint8_t rest[8 * 24] = {0};
  for (; b < blocks; b += 8, row += bytes) {
    if (blocks - b < 8) {
      memcpy(rest, row, (blocks - b) * (bytes / 8));
      row = rest;
    }
    for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(row + ROW_BYTES_AHEAD + line);
    __m256 scales = register_scales(element, row);
    __m256 lows = register_minima(element, row, scales);
    __m512 factors[4];
#pragma clang loop unroll(full)
    for (int i = 0; i < inputs; i++) {
      __m256 steps = _mm256_mul_ps(_mm256_loadu_ps(coarse[i].steps + b), _mm256_set1_ps(128.0f));
      factors[i] = _mm512_castps256_ps512(_mm256_mul_ps(scales, steps));
      minima[i] = __builtin_elementwise_fma((octet)lows, (octet)block_sums(coarse[i].sums + 2 * b),
                                            minima[i]);
    }
#pragma clang loop unroll(full)
    for (size_t k = 0; k < 8; k += 4) {
      __m512i first = block_quants(element, row, k), second = block_quants(element, row, k + 2);
      const __m512i low = _mm512_add_epi32(halves, _mm512_set1_epi32((int)k));
      const __m512i high = _mm512_add_epi32(halves, _mm512_set1_epi32((int)k + 2));
#pragma clang loop unroll(full)
      for (int i = 0; i < inputs; i++) {
        const int8_t *input = coarse[i].elements + (b + k) * BLOCK;
        __m512i one = _mm512_dpbusd_epi32(_mm512_setzero_si512(), first, _mm512_loadu_si512(input));
        __m512i two =
            _mm512_dpbusd_epi32(_mm512_setzero_si512(), second, _mm512_loadu_si512(input + 64));
        even[i] = fused((vec)_mm512_cvtepi32_ps(one),
                        (vec)_mm512_permutexvar_ps(low, factors[i]), even[i]);
        odd[i] = fused((vec)_mm512_cvtepi32_ps(two),
                       (vec)_mm512_permutexvar_ps(high, factors[i]), odd[i]);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < inputs; i++) {
    quad less = minima[i].lo + minima[i].hi;
    out[(size_t)i * out_ld] =
        sum_lanes(even[i] + odd[i]) - ((less[0] + less[2]) + (less[1] + less[3]));
  }
}

/// A row times up to four inputs; quants are unpacked to memory that stays near.
INLINE void dot_unpacked(ihp_element element, const int inputs, const uint8_t *row,
                         const float *prepared, size_t prepared_ld, size_t n, float *out,
                         size_t out_ld) {
  size_t groups = padded_width(n) / QUANT_GROUP;
  const __m512i four = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
  vec totals[4], minima[4];
  for (int i = 0; i < inputs; i++) totals[i] = minima[i] = 0.0f;
  quants d;
  for (size_t first = 0; first < n; first += SUPER_BLOCK) {
    size_t width = n - first < SUPER_BLOCK ? n - first : SUPER_BLOCK;
    const uint8_t *ahead = row + first / quant_width(element) * quant_bytes(element);
    for (size_t line = 0; line < 256; line += 64)
      __builtin_prefetch(ahead + ROW_BYTES_AHEAD + line);
    unpack(element, row, first, width, &d);
    for (int i = 0; i < inputs; i++) {
      const float *scales = prepared + (size_t)i * prepared_ld, *sums = scales + groups;
      const int8_t *elements = (const int8_t *)(sums + groups);
      vec scale = load(d.scale) * load(scales + first / QUANT_GROUP);
      vec total = totals[i];
      minima[i] = fused(load(d.minimum), load(sums + first / QUANT_GROUP), minima[i]);
#pragma clang loop unroll(full)
      for (int v = 0; v < 4; v++) {
        __m512i sum = _mm512_dpbusd_epi32(
            _mm512_setzero_si512(), _mm512_load_si512(d.quant + v * 64),
            _mm512_loadu_si512(elements + first + (size_t)v * 64));
        vec own = (vec)_mm512_permutexvar_ps(
            _mm512_add_epi32(four, _mm512_set1_epi32(4 * v)), (__m512)scale);
        total = fused((vec)_mm512_cvtepi32_ps(sum), own, total);
      }
      totals[i] = total;
    }
  }
  for (int i = 0; i < inputs; i++) out[(size_t)i * out_ld] = sum_lanes(totals[i] - minima[i]);
}

/// `matvec` of a format below 8 bits.
INLINE void multiply_quants(ihp_element element, const uint8_t *row, size_t stride, size_t rows,
                            const float *x, const float *prepared, size_t prepared_ld, size_t inputs,
                            size_t n, float *out, size_t out_ld) {
  (void)x;
  size_t step = inputs > 4 ? NEAR_ROWS : rows;
  for (size_t first = 0; first < rows; first += step) {
    size_t end = rows - first < step ? rows : first + step;
    for (size_t i = 0; i < inputs; i += 4) {
      size_t count = inputs - i < 4 ? inputs - i : 4;
      const float *ready = prepared + i * prepared_ld;
      float *to = out + i * out_ld;
      coarse_input coarse[4];
      for (size_t k = 0; k < count; k++) coarse[k] = coarse_part(ready + k * prepared_ld, n);
#define EACH_QUANT_ROW(product)                                                                    \
  for (size_t r = first; r < end; r++) {                                                           \
    const uint8_t *w = row + r * stride;                                                           \
    float *result = to + r;                                                                        \
    product;                                                                                       \
  }
      if (element == IHP_Q4_K) {
        EACH_QUANT_ROW(for (size_t k = 0; k < count; k++) result[k * out_ld] =
                           dot_four_bits(w, ready + k * prepared_ld, n))
      } else if (!has_register_blocks(element)) {
        EACH_QUANT_ROW(
            dot_unpacked(element, (int)count, w, ready, prepared_ld, n, result, out_ld))
      } else {
        switch (count) {
        case 1: EACH_QUANT_ROW(dot_registers(element, 1, w, coarse, n, result, out_ld)) break;
        case 2: EACH_QUANT_ROW(dot_registers(element, 2, w, coarse, n, result, out_ld)) break;
        case 3: EACH_QUANT_ROW(dot_registers(element, 3, w, coarse, n, result, out_ld)) break;
        default: EACH_QUANT_ROW(dot_registers(element, 4, w, coarse, n, result, out_ld)) break;
        }
      }
#undef EACH_QUANT_ROW
    }
  }
}

#else

static void prepare_input(const float *x, size_t n, float *out) {
  (void)x;
  (void)n;
  (void)out;
}

/// `matvec` of a format below 8 bits: a row is widened a part at a time, and takes all inputs in turn.
INLINE void multiply_quants(ihp_element element, const uint8_t *row, size_t stride, size_t rows,
                            const float *x, const float *prepared, size_t prepared_ld, size_t inputs,
                            size_t n, float *out, size_t out_ld) {
  (void)prepared;
  (void)prepared_ld;
  float wide[SUPER_BLOCK];
  for (size_t r = 0; r < rows; r++, row += stride)
    for (size_t i = 0; i < inputs; i++) {
      vec total = 0.0f;
      for (size_t first = 0; first < n; first += SUPER_BLOCK) {
        size_t width = n - first < SUPER_BLOCK ? n - first : SUPER_BLOCK;
        widen_quants(element, row, first, width, wide);
        for (size_t k = 0; k < width; k += LANES)
          total = fused(load(wide + k), load(x + i * n + first + k), total);
      }
      out[i * out_ld + r] = sum_lanes(total);
    }
}

#endif
