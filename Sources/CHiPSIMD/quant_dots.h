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
    vec greatest = 0.0f;
    for (size_t k = 0; k < BLOCK; k += LANES)
      greatest = __builtin_elementwise_max(greatest, __builtin_elementwise_abs(load(x + i + k)));
    float most = max_lanes(greatest);
    float inverse = most > 0 ? 127.0f / most : 0.0f;
    int8_t *pair = paired + i / 128 * 128 + (i / 64 % 2 + i / 32 % 2 * 2) * BLOCK;
    for (size_t half = 0; half < BLOCK; half += QUANT_GROUP) {
      int32_t sum = store_rounded(x + i + half, inverse, 0, elements + i + half);
      memcpy(pair + half, elements + i + half, QUANT_GROUP);
      scales[(i + half) / QUANT_GROUP] = most / 127.0f;
      // Of what is multiplied, so that rounding weighs by the weight and not by its quant.
      sums[(i + half) / QUANT_GROUP] = (float)sum * (most / 127.0f);
    }
    steps[i / BLOCK] = most / 16256.0f;
    store_fine(x + i, most > 0 ? 16256.0f / most : 0.0f, wide + i);
  }
}

/// One or two rows of Q8_0 times up to four inputs: two share what is loaded of the inputs, or are multiplied
/// together. Sums of blocks alternate between two, whatever else is computed beside them.
INLINE void dot_eight_bits(const int rows, const int inputs, const uint8_t *row, size_t stride,
                           const fine_input fine[4], size_t n, float *out, size_t out_ld) {
  // Rows that are multiplied together, or one with itself.
  const int parts = (rows + ROWS_TOGETHER - 1) / ROWS_TOGETHER, last = rows - 1;
  part_sums sums[2][2][4];
#pragma clang loop unroll(full)
  for (int p = 0; p < parts; p++)
#pragma clang loop unroll(full)
    for (int i = 0; i < inputs; i++) sums[p][0][i] = sums[p][1][i] = 0.0f;
  size_t blocks = n / BLOCK, b = 0;
  for (; b + 8 <= blocks; b += 8) {
    // Behind the end of a row stands one that is computed beside it: what comes next is behind that.
    size_t skipped = b * BLOCK_BYTES + ROW_BYTES_AHEAD >= stride ? (size_t)last * stride : 0;
    float factors[2][4][8];
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
      octet scales = block_halves(row + (size_t)r * stride, BLOCK_BYTES);
#pragma clang loop unroll(full)
      for (int i = 0; i < inputs; i++) {
        octet own;
        memcpy(&own, fine[i].steps + b, sizeof own);
        own *= scales;
        memcpy(factors[r][i], &own, sizeof own);
      }
    }
    KEEP_IN_MEMORY(factors);
#pragma clang loop unroll(full)
    for (size_t k = 0; k < 8; k++, row += BLOCK_BYTES) {
#pragma clang loop unroll(full)
      for (int r = 0; r < rows; r++)
        __builtin_prefetch(row + (size_t)r * stride + ROW_BYTES_AHEAD + skipped);
      block_weights weights[2];
#pragma clang loop unroll(full)
      for (int p = 0; p < parts; p++)
        weights[p] = load_block(row + (size_t)(p * ROWS_TOGETHER) * stride, row + (size_t)last * stride);
#pragma clang loop unroll(full)
      for (int i = 0; i < inputs; i++)
#pragma clang loop unroll(full)
        for (int p = 0; p < parts; p++)
          sums[p][k % 2][i] = add_block(weights[p], fine[i].elements + (b + k) * BLOCK,
                                        factors[p * ROWS_TOGETHER][i][k], factors[last][i][k],
                                        sums[p][k % 2][i]);
    }
  }
  for (; b < blocks; b++, row += BLOCK_BYTES) {
#pragma clang loop unroll(full)
    for (int p = 0; p < parts; p++) {
      const uint8_t *first = row + (size_t)(p * ROWS_TOGETHER) * stride, *second = row + (size_t)last * stride;
      block_weights weights = load_block(first, second);
#pragma clang loop unroll(full)
      for (int i = 0; i < inputs; i++)
        sums[p][0][i] = add_block(weights, fine[i].elements + b * BLOCK,
                                  half_to_float(first) * fine[i].steps[b],
                                  half_to_float(second) * fine[i].steps[b], sums[p][0][i]);
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; r++)
#pragma clang loop unroll(full)
    for (int i = 0; i < inputs; i++)
      out[(size_t)i * out_ld + (size_t)r] = total_of(
          sums[r / ROWS_TOGETHER][0][i] + sums[r / ROWS_TOGETHER][1][i], r % ROWS_TOGETHER);
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
      case 1: ROWS_TIMES(ROWS_TOGETHER, 1);
      case 2: ROWS_TIMES(ROWS_TOGETHER, 2);
      case 3: ROWS_TIMES(ROWS_TOGETHER, 3);
      default: ROWS_TIMES(WEIGHT_ROWS, 4);
      }
#undef ROWS_TIMES
    }
  }
}

/// Whether quants are moved down by 128, since they are multiplied as signed bytes and may have eight bits.
INLINE int moves_down(ihp_element element) {
  return SIGNED_BYTES && (element == IHP_Q8_1 || element == IHP_IQ4_NL || element == IHP_IQ4_XS);
}

INLINE void move_down(quants *d) {
  for (size_t i = 0; i < SUPER_BLOCK; i++) d->quant[i] ^= 128;
  for (size_t g = 0; g < QUANT_GROUPS; g++) d->minimum[g] -= 128.0f * d->scale[g];
}

/// A row times up to four inputs; quants are unpacked to memory that stays near.
INLINE void dot_unpacked(ihp_element element, const int inputs, const uint8_t *row,
                         const float *prepared, size_t prepared_ld, size_t n, float *out,
                         size_t out_ld) {
  const size_t groups = padded_width(n) / QUANT_GROUP;
  // Vectors of scales, of quants, and of sums that do not wait for each other.
  enum { parts = QUANT_GROUPS / LANES, vectors = SUPER_BLOCK / 4 / LANES, chains = LANES == 16 ? 1 : 2 };
  vec totals[4][chains], minima[4];
  for (int i = 0; i < inputs; i++) {
    for (int c = 0; c < chains; c++) totals[i][c] = 0.0f;
    minima[i] = 0.0f;
  }
  quants d;
  for (size_t first = 0; first < n; first += SUPER_BLOCK) {
    size_t width = n - first < SUPER_BLOCK ? n - first : SUPER_BLOCK;
    const uint8_t *ahead = row + first / quant_width(element) * quant_bytes(element);
    for (size_t line = 0; line < 256; line += 64)
      __builtin_prefetch(ahead + ROW_BYTES_AHEAD + line);
    unpack(element, row, first, width, &d);
    if (moves_down(element)) move_down(&d);
    for (int i = 0; i < inputs; i++) {
      const float *steps = prepared + (size_t)i * prepared_ld + first / QUANT_GROUP;
      const int8_t *elements = (const int8_t *)(prepared + (size_t)i * prepared_ld + 2 * groups) + first;
      vec scales[parts], total[chains];
      memcpy(total, totals[i], sizeof total);
#pragma clang loop unroll(full)
      for (int p = 0; p < parts; p++) {
        scales[p] = load(d.scale + p * LANES) * load(steps + p * LANES);
        minima[i] = fused(load(d.minimum + p * LANES), load(steps + groups + p * LANES), minima[i]);
      }
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) {
        const int at = v * 4 * LANES, chain = v % chains;
        ivec sum = add_bytes((ivec)0, load_bytes(d.quant + at), load_bytes(elements + at));
        total[chain] = fused(__builtin_convertvector(sum, vec), spread(scales, v), total[chain]);
      }
      memcpy(totals[i], total, sizeof total);
    }
  }
  for (int i = 0; i < inputs; i++) {
    vec total = totals[i][0];
    for (int c = 1; c < chains; c++) total += totals[i][c];
    out[(size_t)i * out_ld] = sum_lanes(total - minima[i]);
  }
}

#if LANES == 16
#include "quant_registers512.h"
#else

/// Some rows times up to four inputs.
INLINE void multiply_some(ihp_element element, size_t inputs, const uint8_t *row, size_t stride,
                          size_t rows, const float *prepared, size_t prepared_ld, size_t n,
                          float *out, size_t out_ld) {
  for (size_t r = 0; r < rows; r++, row += stride)
    if (inputs == 1) dot_unpacked(element, 1, row, prepared, prepared_ld, n, out + r, out_ld);
    else dot_unpacked(element, (int)inputs, row, prepared, prepared_ld, n, out + r, out_ld);
}

#endif

/// `matvec` of a format below 8 bits.
INLINE void multiply_quants(ihp_element element, const uint8_t *row, size_t stride, size_t rows,
                            const float *x, const float *prepared, size_t prepared_ld, size_t inputs,
                            size_t n, float *out, size_t out_ld) {
  (void)x;
  size_t step = inputs > 4 ? NEAR_ROWS : rows;
  for (size_t first = 0; first < rows; first += step)
    for (size_t i = 0; i < inputs; i += 4)
      multiply_some(element, inputs - i < 4 ? inputs - i : 4, row + first * stride, stride,
                    rows - first < step ? rows - first : step, prepared + i * prepared_ld,
                    prepared_ld, n, out + i * out_ld + first, out_ld);
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
