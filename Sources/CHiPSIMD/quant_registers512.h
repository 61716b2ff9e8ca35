// SPDX-License-Identifier: Apache-2.0
// Products of single rows whose quants never leave the registers of AVX-512.

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
  if (element != IHP_MXFP4) return (__m256)block_halves(block, quant_bytes(element));
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
    return _mm256_sub_ps(_mm256_setzero_ps(), (__m256)block_halves(block + 2, quant_bytes(element)));
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

/// Some rows times up to four inputs.
INLINE void multiply_some(ihp_element element, size_t inputs, const uint8_t *row, size_t stride,
                          size_t rows, const float *prepared, size_t prepared_ld, size_t n,
                          float *out, size_t out_ld) {
  coarse_input coarse[4];
  for (size_t i = 0; i < inputs; i++) coarse[i] = coarse_part(prepared + i * prepared_ld, n);
#define EACH_QUANT_ROW(product)                                                                    \
  for (size_t r = 0; r < rows; r++, row += stride) product
  if (element == IHP_Q4_K) {
    EACH_QUANT_ROW(for (size_t i = 0; i < inputs; i++) out[i * out_ld + r] =
                       dot_four_bits(row, prepared + i * prepared_ld, n));
  } else if (!has_register_blocks(element)) {
    EACH_QUANT_ROW(
        dot_unpacked(element, (int)inputs, row, prepared, prepared_ld, n, out + r, out_ld));
  } else {
    switch (inputs) {
    case 1: EACH_QUANT_ROW(dot_registers(element, 1, row, coarse, n, out + r, out_ld)); break;
    case 2: EACH_QUANT_ROW(dot_registers(element, 2, row, coarse, n, out + r, out_ld)); break;
    case 3: EACH_QUANT_ROW(dot_registers(element, 3, row, coarse, n, out + r, out_ld)); break;
    default: EACH_QUANT_ROW(dot_registers(element, 4, row, coarse, n, out + r, out_ld)); break;
    }
  }
#undef EACH_QUANT_ROW
}
