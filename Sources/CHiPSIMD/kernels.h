// SPDX-License-Identifier: Apache-2.0
// The body of every kernel table. PRODUCTS_IN_BF16 rounds the factors of products of many rows to
// bfloat16; IN_INTEGERS computes single rows of quantised blocks and the scores of selections in 8 bits,
// with the products that the header INTEGERS has (`integers_x86.h`, `integers_dotprod.h`, `integers_i8mm.h`); IN_TILES,
// which goes with both, has matrix units compute what many rows share. A file per
// instruction set defines `vec`, LANES, TILE_ROWS, TILE_VECTORS, PRODUCTS_IN_BF16, IN_INTEGERS, `fused`,
// `fold`, `fold_max`, `widen_half`, `half_to_float` and `narrow_half`, and then includes this once.
//
// Conditions that the callers keep: head sizes and widths of F16/BF16/F32 rows are multiples of
// 16, widths of Q8_0 rows multiples of 32.

#ifndef IN_TILES
#define IN_TILES 0
#endif

#define INLINE static inline __attribute__((always_inline))
#define BLOCK 32
#define BLOCK_BYTES 34

INLINE vec load(const float *p) {
  vec x;
  memcpy(&x, p, sizeof x);
  return x;
}

INLINE void store(float *p, vec x) { memcpy(p, &x, sizeof x); }

INLINE vec widen_bfloat(const void *p) {
  typedef uint16_t hvec16 __attribute__((ext_vector_type(LANES)));
  hvec16 bits;
  memcpy(&bits, p, sizeof bits);
  return (vec)(__builtin_convertvector(bits, uvec) << 16);
}

INLINE void narrow_bfloat(vec x, void *p) {
  typedef uint16_t hvec16 __attribute__((ext_vector_type(LANES)));
  uvec bits = (uvec)x;
  bits = (bits + 0x7fffu + ((bits >> 16) & 1)) >> 16;
  hvec16 half = __builtin_convertvector(bits, hvec16);
  memcpy(p, &half, sizeof half);
}

INLINE vec widen_bytes(const int8_t *p) {
  typedef int8_t bvec __attribute__((ext_vector_type(LANES)));
  bvec bytes;
  memcpy(&bytes, p, sizeof bytes);
  return __builtin_convertvector(bytes, vec);
}

INLINE float sum_lanes(vec x) {
  quad four = fold(x);
  return (four[0] + four[2]) + (four[1] + four[3]);
}

INLINE float max_lanes(vec x) {
  quad four = fold_max(x);
  float even = four[0] > four[2] ? four[0] : four[2], odd = four[1] > four[3] ? four[1] : four[3];
  return even > odd ? even : odd;
}

/// The sums of four vectors' lanes.
INLINE quad sums_of(vec a, vec b, vec c, vec d) {
  quad fa = fold(a), fb = fold(b), fc = fold(c), fd = fold(d);
  quad ab = __builtin_shufflevector(fa, fb, 0, 4, 1, 5) + __builtin_shufflevector(fa, fb, 2, 6, 3, 7);
  quad cd = __builtin_shufflevector(fc, fd, 0, 4, 1, 5) + __builtin_shufflevector(fc, fd, 2, 6, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

#if LANES == 16
#include "transpose512.h"
#endif

/// Rows whose greatest lanes, or sums of lanes, are found together: one after the other they would wait for each other.
#define REDUCED_ROWS 16

/// The greatest lane of each of `rows` vectors.
INLINE void store_greatest(const vec lanes[REDUCED_ROWS], size_t rows, float *out) {
#if LANES == REDUCED_ROWS
  const vec greatest = greatest_of_each(lanes);
  memcpy(out, &greatest, rows * sizeof *out);
#else
  for (size_t r = 0; r < rows; r++) out[r] = max_lanes(lanes[r]);
#endif
}

/// The sum of the lanes of each of `rows` vectors.
INLINE void store_sums(const vec lanes[REDUCED_ROWS], size_t rows, float *out) {
#if LANES == REDUCED_ROWS
  const vec sums = sum_of_each(lanes);
  memcpy(out, &sums, rows * sizeof *out);
#else
  for (size_t r = 0; r < rows; r++) out[r] = sum_lanes(lanes[r]);
#endif
}

#if IN_INTEGERS

/// As many bytes as a vector has.
INLINE ivec load_bytes(const void *p) {
  ivec x;
  memcpy(&x, p, sizeof x);
  return x;
}

/// The lowest bytes of 16 numbers.
INLINE void store_bytes(const ivec *numbers, void *out) {
  typedef int32_t ints16 __attribute__((ext_vector_type(16)));
  typedef int8_t chars16 __attribute__((ext_vector_type(16)));
  ints16 all;
  memcpy(&all, numbers, sizeof all);
  chars16 bytes = __builtin_convertvector(all, chars16);
  memcpy(out, &bytes, sizeof bytes);
}

#include INTEGERS

/// How much too high the bytes of weights, keys and means stand as they are multiplied.
#define MOVED_BY (SIGNED_BYTES ? 0 : 128)

/// 16 numbers times `scale` as bytes, moved up by `moved`; returns the sum of what they are without that.
INLINE int32_t store_rounded(const float *x, float scale, int32_t moved, void *out) {
  enum { vectors = 16 / LANES };
  ivec whole[vectors];
  uvec sum = 0;
#pragma clang loop unroll(full)
  for (int v = 0; v < vectors; v++) {
    whole[v] = nearest(load(x + v * LANES) * scale);
    sum += (uvec)whole[v];
    whole[v] ^= moved;
  }
  store_bytes(whole, out);
  return (int32_t)__builtin_reduce_add(sum);
}

#endif

#if PRODUCTS_IN_BF16

/// exp(x) to 4e-6 of itself; results below 2^-126 become zero; of NaN NaN.
INLINE vec exponential(vec x) {
  __m512 power = _mm512_mul_ps((__m512)x, _mm512_set1_ps(1.44269504f));
  // Numbers below the normal ones take some processors a hundred cycles.
  __mmask16 counts = _mm512_cmp_ps_mask(power, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
  // The part above the next lower integer; `scalef` takes that integer.
  vec rest = (vec)_mm512_reduce_ps(power, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  vec poly = fused(rest, (vec)0.013534167f, (vec)0.0520114f);
  poly = fused(poly, rest, (vec)0.24144275f);
  poly = fused(poly, rest, (vec)0.69300383f);
  poly = fused(poly, rest, (vec)1.0000026f);
  return (vec)_mm512_maskz_scalef_ps(counts, (__m512)poly, power);
}

#else

/// exp(x) to about 1 ulp for x <= 88; results below 2^-126 become zero; of NaN NaN.
INLINE vec exponential(vec x) {
  ivec tiny = x < -87.3f;
  vec bounded = __builtin_elementwise_max(x, (vec)-87.3f);
  // Adding 1.5 * 2^23 rounds to the nearest integer.
  vec shifted = fused(bounded, (vec)1.44269504f, (vec)12582912.0f);
  vec power = shifted - 12582912.0f;
  vec rest = fused(power, (vec)-0.693359375f, bounded);
  rest = fused(power, (vec)2.12194440e-4f, rest);
  vec poly = (vec)1.9875691500e-4f;
  poly = fused(poly, rest, (vec)1.3981999507e-3f);
  poly = fused(poly, rest, (vec)8.3334519073e-3f);
  poly = fused(poly, rest, (vec)4.1665795894e-2f);
  poly = fused(poly, rest, (vec)1.6666665459e-1f);
  poly = fused(poly, rest, (vec)5.0000001201e-1f);
  poly = fused(poly, rest * rest, rest + 1.0f);
  ivec exponent = ((ivec)shifted - (ivec)(vec)12582912.0f) << 23;
  ivec no_number = x != x;
  return (vec)((((ivec)poly + exponent) & ~tiny) | (no_number & 0x7fc00000));
}

#endif

// MARK: Rows

#include "quants.h"

/// One function for all formats: what loads keys and values has no use for them.
static __attribute__((noinline)) void widen_quant_row(ihp_element element, const uint8_t *row,
                                                      size_t first, size_t n, float *out) {
  switch (element) {
#define WIDEN_ROW(name, number, width, size)                                                       \
  case IHP_##name: widen_quants(IHP_##name, row, first, n, out); break;
    IHP_QUANT_FORMATS(WIDEN_ROW)
#undef WIDEN_ROW
  case IHP_F32: case IHP_F16: case IHP_BF16: case IHP_F64: case IHP_Q8_0: break;
  }
}

INLINE void widen_plain(ihp_element element, const void *row, size_t first, size_t n, float *out) {
  const uint8_t *bytes = row;
  switch (element) {
  case IHP_F32:
    memcpy(out, bytes + first * 4, n * 4);
    break;
  case IHP_F16:
    for (size_t i = 0; i < n; i += LANES) store(out + i, widen_half(bytes + (first + i) * 2));
    break;
  case IHP_BF16:
    for (size_t i = 0; i < n; i += LANES) store(out + i, widen_bfloat(bytes + (first + i) * 2));
    break;
  case IHP_Q8_0:
    for (size_t b = first / BLOCK; b < (first + n) / BLOCK; b++) {
      const uint8_t *block = bytes + b * BLOCK_BYTES;
      vec scale = half_to_float(block);
      for (size_t i = 0; i < BLOCK; i += LANES)
        store(out + b * BLOCK - first + i, widen_bytes((const int8_t *)block + 2 + i) * scale);
    }
    break;
  case IHP_F64:
    for (size_t i = 0; i < n; i++) {
      double x;
      memcpy(&x, bytes + (first + i) * 8, sizeof x);
      out[i] = (float)x;
    }
    break;
  default: widen_quant_row(element, bytes, first, n, out); break;
  }
}

static void widen(ihp_element element, const void *row, size_t first, size_t n, float *out) {
  widen_plain(element, row, first, n, out);
}

/// 32 elements as signed bytes behind a scale.
INLINE void narrow_block(const float *x, uint8_t *out) {
  vec greatest = 0.0f;
  for (size_t i = 0; i < BLOCK; i += LANES)
    greatest = __builtin_elementwise_max(greatest, __builtin_elementwise_abs(load(x + i)));
  uint8_t halves[2 * LANES];
  narrow_half((vec)(max_lanes(greatest) / 127.0f), halves);
  memcpy(out, halves, 2);
  // The scale as it is stored, so that the elements make up for its rounding.
  float scale = half_to_float(out);
  for (size_t i = 0; i < BLOCK; i++) {
    float whole = scale > 0 ? rintf(x[i] / scale) : 0.0f;
    // Compared so that a NaN, too, becomes a number that bytes hold.
    out[2 + i] = (uint8_t)(int8_t)(!(whole > -127) ? -127 : whole > 127 ? 127 : whole);
  }
}

#include "quantize.h"

static void narrow(ihp_element element, const float *x, size_t n, void *out) {
  uint8_t *bytes = out;
  switch (element) {
  case IHP_F16:
    for (size_t i = 0; i < n; i += LANES) narrow_half(load(x + i), bytes + i * 2);
    break;
  case IHP_BF16:
    for (size_t i = 0; i < n; i += LANES) narrow_bfloat(load(x + i), bytes + i * 2);
    break;
  case IHP_Q8_0:
    for (size_t i = 0; i < n; i += BLOCK) narrow_block(x + i, bytes + i / BLOCK * BLOCK_BYTES);
    break;
  case IHP_Q4_K:
    for (size_t i = 0; i < n; i += SUPER_BLOCK) narrow_Q4_K(x + i, bytes + i / SUPER_BLOCK * 144);
    break;
  default:
    memcpy(out, x, n * 4);
    break;
  }
}

// MARK: Products

INLINE float dot_blocks(const uint8_t *row, const float *x, size_t n) {
  vec even = 0.0f, odd = 0.0f;
  for (size_t b = 0; b < n / BLOCK; b++) {
    const uint8_t *block = row + b * BLOCK_BYTES;
    const int8_t *bytes = (const int8_t *)block + 2;
    vec sum = widen_bytes(bytes) * load(x + b * BLOCK);
    for (size_t i = LANES; i < BLOCK; i += LANES)
      sum = fused(widen_bytes(bytes + i), load(x + b * BLOCK + i), sum);
    vec scale = half_to_float(block);
    if (b & 1) odd = fused(sum, scale, odd);
    else even = fused(sum, scale, even);
  }
  return sum_lanes(even + odd);
}

#define DOT_LOOP(widened)                                                                          \
  vec even = 0.0f, odd = 0.0f;                                                                     \
  size_t i = 0;                                                                                    \
  for (; i + 2 * LANES <= n; i += 2 * LANES) {                                                     \
    even = fused(widened(row, i), load(x + i), even);                                              \
    odd = fused(widened(row, i + LANES), load(x + i + LANES), odd);                                \
  }                                                                                                \
  for (; i < n; i += LANES) even = fused(widened(row, i), load(x + i), even);                      \
  return sum_lanes(even + odd)

#define AT_F32(row, i) load((const float *)(row) + (i))
#define AT_F16(row, i) widen_half((row) + (i) * 2)
#define AT_BF16(row, i) widen_bfloat((row) + (i) * 2)
#define AT_Q8(row, i)                                                                              \
  (widen_bytes((const int8_t *)(row) + (i) / BLOCK * BLOCK_BYTES + 2 + (i) % BLOCK) *              \
   half_to_float((row) + (i) / BLOCK * BLOCK_BYTES))

INLINE float dot_f32(const uint8_t *row, const float *x, size_t n) { DOT_LOOP(AT_F32); }
INLINE float dot_f16(const uint8_t *row, const float *x, size_t n) { DOT_LOOP(AT_F16); }
INLINE float dot_bf16(const uint8_t *row, const float *x, size_t n) { DOT_LOOP(AT_BF16); }

/// Nobody publishes weights like that; they are computed with all the same.
static float dot_f64(const uint8_t *row, const float *x, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; i++) {
    double weight;
    memcpy(&weight, row + 8 * i, sizeof weight);
    sum += weight * (double)x[i];
  }
  return (float)sum;
}

#include "quant_dots.h"

/// A row of weights is near once it has been loaded: all inputs take it in turn.
#define EACH_ROW(dot)                                                                              \
  for (size_t r = 0; r < rows; r++, row += stride)                                                 \
    for (size_t i = 0; i < inputs; i++) {                                                          \
      const float *input = x + i * n, *ready = prepared + i * prepared_ld;                         \
      (void)input;                                                                                 \
      (void)ready;                                                                                 \
      out[i * out_ld + r] = dot;                                                                   \
    }                                                                                              \
  break

static void matvec(ihp_element element, const void *w, size_t stride, size_t rows, const float *x,
                   const float *prepared, size_t prepared_ld, size_t inputs, size_t n, float *out,
                   size_t out_ld) {
  const uint8_t *row = w;
  switch (element) {
  case IHP_F32: EACH_ROW(dot_f32(row, input, n));
  case IHP_F16: EACH_ROW(dot_f16(row, input, n));
  case IHP_BF16: EACH_ROW(dot_bf16(row, input, n));
  case IHP_Q8_0:
#if IN_INTEGERS
    multiply_eight_bits(row, stride, rows, prepared, prepared_ld, inputs, n, out, out_ld);
    break;
#else
    EACH_ROW(dot_blocks(row, input, n));
#endif
  case IHP_F64: EACH_ROW(dot_f64(row, input, n));
#define MULTIPLY_ROW(name, number, width, size)                                                    \
  case IHP_##name:                                                                                 \
    multiply_quants(IHP_##name, row, stride, rows, x, prepared, prepared_ld, inputs, n, out,       \
                    out_ld);                                                                       \
    break;
    IHP_QUANT_FORMATS(MULTIPLY_ROW)
#undef MULTIPLY_ROW
  }
}

#if IN_TILES
#include "tiles_amx.h"
#include "products_amx.h"
#elif PRODUCTS_IN_BF16
#include "products_bf16.h"
#else
#include "products_f32.h"
#endif

/// Columns that are widened together before they are transposed.
#define PACK_WIDTH 256

static void pack(ihp_element element, const void *w, size_t stride, size_t rows, size_t n,
                 void *panel) {
  float wide[PANEL_PART * PACK_WIDTH];
  for (size_t r = 0; r < IHP_PANEL; r += PANEL_PART) {
    const uint8_t *part = (const uint8_t *)w + r * stride;
    if (r + PANEL_PART <= rows && panel_stored(element, part, stride, n, r, panel)) continue;
    for (size_t first = 0; first < n; first += PACK_WIDTH) {
      size_t width = n - first < PACK_WIDTH ? n - first : PACK_WIDTH;
      for (size_t i = 0; i < PANEL_PART; i++) {
        float *row = wide + i * PACK_WIDTH;
        if (r + i < rows) widen_plain(element, part + i * stride, first, width, row);
        else memset(row, 0, width * sizeof(float));
      }
      panel_part(wide, PACK_WIDTH, width, first, r, panel);
    }
  }
}

// MARK: Element-wise

static float rms_norm(const float *x, const float *weight, size_t n, float epsilon, float *out) {
  vec squares = 0.0f;
  for (size_t i = 0; i < n; i += LANES) squares = fused(load(x + i), load(x + i), squares);
  float mean = sum_lanes(squares) / (float)n;
  float scale = 1.0f / sqrtf(mean + epsilon);
  for (size_t i = 0; i < n; i += LANES) store(out + i, load(x + i) * scale * load(weight + i));
  return mean;
}

static int is_finite(const float *x, size_t n) {
  // A number less itself is zero; of infinity and NaN it is NaN, which stays in a sum.
  vec sum = 0.0f;
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) sum += load(x + i) - load(x + i);
  float rest = sum_lanes(sum);
  for (; i < n; i++) rest += x[i] - x[i];
  return rest == 0;
}

static float greatest(const float *x, size_t n) {
  if (!is_finite(x, n)) return NAN;
  vec most = -INFINITY;
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) most = __builtin_elementwise_max(most, load(x + i));
  float best = max_lanes(most);
  for (; i < n; i++) best = x[i] > best ? x[i] : best;
  return best;
}

static float exponential_sum(const float *x, size_t n, float most) {
  vec sum = 0.0f;
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) sum += exponential(load(x + i) - most);
  float total = sum_lanes(sum);
  for (; i < n; i++) total += expf(x[i] - most);
  return total;
}

/// x sigmoid(y).
INLINE vec times_sigmoid(vec x, vec y) {
  // Below -87 the sigmoid is zero in effect, and exp(-y) would overflow.
  return x / (1.0f + exponential(-__builtin_elementwise_max(y, (vec)-87.0f)));
}

static void gate(ihp_activation activation, float *gate, const float *up, size_t n) {
  switch (activation) {
  case IHP_SILU:
    for (size_t i = 0; i < n; i += LANES) {
      vec x = load(gate + i);
      store(gate + i, times_sigmoid(x, x) * load(up + i));
    }
    break;
  case IHP_GELU_TANH:
    for (size_t i = 0; i < n; i += LANES) {
      vec x = load(gate + i);
      // (1 + tanh(y)) / 2 = sigmoid(2 y), with 2 sqrt(2 / pi).
      vec y = 1.5957691216f * fused(x * x * x, (vec)0.044715f, x);
      store(gate + i, times_sigmoid(x, y) * load(up + i));
    }
    break;
  case IHP_CLAMPED_SWIGLU:
    for (size_t i = 0; i < n; i += LANES) {
      vec x = __builtin_elementwise_min(load(gate + i), (vec)7.0f);
      vec y = __builtin_elementwise_max(__builtin_elementwise_min(load(up + i), (vec)7.0f), (vec)-7.0f);
      store(gate + i, times_sigmoid(x, 1.702f * x) * (y + 1.0f));
    }
    break;
  }
}

static void soft_cap(float *x, size_t n, float cap) {
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    // tanh(y) = 1 - 2 / (exp(2 y) + 1); beyond 20 it is 1 in single precision.
    vec y = __builtin_elementwise_min(load(x + i) * (2.0f / cap), (vec)40.0f);
    store(x + i, cap - 2.0f * cap / (exponential(y) + 1.0f));
  }
  for (; i < n; i++) x[i] = cap * tanhf(x[i] / cap);
}

INLINE void rotate_row(const float *x, const float *table, size_t half, size_t head_size,
                       float scale, float *out) {
  size_t i = 0;
  for (; i + LANES <= half; i += LANES) {
    vec low = load(x + i), high = load(x + half + i);
    vec c = load(table + i), s = load(table + half + i);
    store(out + i, (low * c - high * s) * scale);
    store(out + half + i, (high * c + low * s) * scale);
  }
  for (; i < half; i++) {
    float low = x[i], high = x[half + i];
    out[i] = (low * table[i] - high * table[half + i]) * scale;
    out[half + i] = (high * table[i] + low * table[half + i]) * scale;
  }
  for (size_t j = 2 * half; j < head_size; j++) out[j] = x[j] * scale;
}

static void rotate(const float *x, const float *table, size_t half, size_t head_size, float scale,
                   float *out) {
  rotate_row(x, table, half, head_size, scale, out);
}

#if IN_INTEGERS && !PRODUCTS_IN_BF16
#include "products_bytes.h"
#endif

#include "attention.h"
#include "peaks.h"
#include "sketches.h"
#include "selection.h"

const ihp_kernels IHP_TABLE = {
    .name = IHP_NAME,
    .peak = peak,
    .stream = stream,
    .widen = widen,
    .narrow = narrow,
    .prepare_input = prepare_input,
    .matvec = matvec,
    .product_element = PRODUCT_ELEMENT,
    .product_columns = BLOCK_COLUMNS,
    .product_depth = BLOCK_DEPTH,
    .decodes_in_integers = IN_INTEGERS,
    .scores_in_integers = IN_INTEGERS,
    .pack = pack,
    .gemm = gemm,
#if IN_INTEGERS && !PRODUCTS_IN_BF16
    .input_block_bytes = sizeof(input_block),
    .panel_block_bytes = PANEL_BLOCK,
    .prepare_blocks = prepare_blocks,
    .pack_blocks = pack_blocks,
    .gemm_blocks = gemm_blocks,
#endif
#if IN_TILES
    .release = release_tiles,
#endif
    .rms_norm = rms_norm,
    .is_finite = is_finite,
    .greatest = greatest,
    .exponential_sum = exponential_sum,
    .gate = gate,
    .soft_cap = soft_cap,
    .rotate = rotate,
    .pack_keys = pack_keys,
    .score_stored = score_stored,
    .add_values = add_values,
    .pack_values = pack_values,
    .softmax_fold = softmax_fold,
    .softmax_merge = softmax_merge,
    .softmax_finish = softmax_finish,
    .column_max = column_max,
    .weight_bytes = WEIGHT_BYTES,
    .share_tile = share_tile,
    .share_keys = share_keys,
    .share_means = share_means,
    .share_add = share_add,
    .mean = mean_of_keys,
    .quantize_key = quantize_key,
    .prepare_queries = prepare_queries,
    .coarse_bytes = COARSE_BYTES,
    .pack_coarse = pack_coarse,
    .score_coarse = score_coarse,
    .score_four_bits = score_four_bits,
    .quantize_mean = quantize_mean,
    .score_means = score_means,
};
