// SPDX-License-Identifier: Apache-2.0
// The body of every kernel table. A file per instruction set defines `vec`, LANES, TILE_ROWS,
// TILE_VECTORS, `fused`, `widen_half` and `narrow_half`, and then includes this once.
//
// Conditions that the callers keep: head sizes and widths of F16/BF16/F32 rows are multiples of
// 16, widths of Q8_0 rows multiples of 32.

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

INLINE float half_to_float(const void *p) {
  uint16_t padded[LANES] = {0};
  memcpy(padded, p, 2);
  return widen_half(padded)[0];
}

INLINE float sum_lanes(vec x) {
  quad four = fold(x);
  return (four[0] + four[2]) + (four[1] + four[3]);
}

/// The sums of four vectors' lanes.
INLINE quad sums_of(vec a, vec b, vec c, vec d) {
  quad fa = fold(a), fb = fold(b), fc = fold(c), fd = fold(d);
  quad ab = __builtin_shufflevector(fa, fb, 0, 4, 1, 5) + __builtin_shufflevector(fa, fb, 2, 6, 3, 7);
  quad cd = __builtin_shufflevector(fc, fd, 0, 4, 1, 5) + __builtin_shufflevector(fc, fd, 2, 6, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

/// exp(x) to about 1 ulp for x <= 88; results below 2^-126 become zero.
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
  return (vec)(((ivec)poly + exponent) & ~tiny);
}

// MARK: Rows

#define K4_HEADER 4

/// Elements first ..< first + LANES of a key in 4 bits, as numbers from 0 to 15.
INLINE vec four_bits(const uint8_t *row, size_t first) {
  typedef uint8_t bvec __attribute__((ext_vector_type(LANES)));
  bvec bytes;
  memcpy(&bytes, row + K4_HEADER + first / 32 * 16 + first % 16, sizeof bytes);
  uvec whole = __builtin_convertvector(bytes, uvec);
  return __builtin_convertvector(first % 32 < 16 ? whole & 15u : whole >> 4, vec);
}

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

static void quantize_key(const float *key, size_t n, uint8_t *out) {
  float low = key[0], high = key[0];
  for (size_t i = 1; i < n; i++) {
    low = key[i] < low ? key[i] : low;
    high = key[i] > high ? key[i] : high;
  }
  float scale = rounded_to_bfloat((high - low) / 15.0f, out);
  low = rounded_to_bfloat(low, out + 2);
  memset(out + K4_HEADER, 0, (n + 31) / 32 * 16);
  for (size_t i = 0; i < n; i++) {
    float place = scale > 0 ? (key[i] - low) / scale + 0.5f : 0.0f;
    place = place < 0 ? 0 : place > 15 ? 15 : place;
    out[K4_HEADER + i / 32 * 16 + i % 16] |= (uint8_t)((uint8_t)place << (i % 32 < 16 ? 0 : 4));
  }
}

INLINE void widen_plain(hip_element element, const void *row, size_t first, size_t n, float *out) {
  const uint8_t *bytes = row;
  switch (element) {
  case HIP_F32:
    memcpy(out, bytes + first * 4, n * 4);
    break;
  case HIP_F16:
    for (size_t i = 0; i < n; i += LANES) store(out + i, widen_half(bytes + (first + i) * 2));
    break;
  case HIP_BF16:
    for (size_t i = 0; i < n; i += LANES) store(out + i, widen_bfloat(bytes + (first + i) * 2));
    break;
  case HIP_Q8_0:
    for (size_t b = first / BLOCK; b < (first + n) / BLOCK; b++) {
      const uint8_t *block = bytes + b * BLOCK_BYTES;
      vec scale = half_to_float(block);
      for (size_t i = 0; i < BLOCK; i += LANES)
        store(out + b * BLOCK - first + i, widen_bytes((const int8_t *)block + 2 + i) * scale);
    }
    break;
  case HIP_K4: {
    vec scale = bfloat_to_float(bytes), low = bfloat_to_float(bytes + 2);
    for (size_t i = 0; i < n; i += LANES)
      store(out + i, fused(four_bits(bytes, first + i), scale, low));
    break;
  }
  }
}

static void widen(hip_element element, const void *row, size_t first, size_t n, float *out) {
  widen_plain(element, row, first, n, out);
}

static void narrow(hip_element element, const float *x, size_t n, void *out) {
  uint8_t *bytes = out;
  switch (element) {
  case HIP_F16:
    for (size_t i = 0; i < n; i += LANES) narrow_half(load(x + i), bytes + i * 2);
    break;
  case HIP_BF16:
    for (size_t i = 0; i < n; i += LANES) narrow_bfloat(load(x + i), bytes + i * 2);
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

INLINE float dot_f32(const uint8_t *row, const float *x, size_t n) { DOT_LOOP(AT_F32); }
INLINE float dot_f16(const uint8_t *row, const float *x, size_t n) { DOT_LOOP(AT_F16); }
INLINE float dot_bf16(const uint8_t *row, const float *x, size_t n) { DOT_LOOP(AT_BF16); }

static void matvec(hip_element element, const void *w, size_t stride, size_t rows, const float *x,
                   size_t n, float *out) {
  const uint8_t *row = w;
  switch (element) {
  case HIP_F32:
    for (size_t r = 0; r < rows; r++, row += stride) out[r] = dot_f32(row, x, n);
    break;
  case HIP_F16:
    for (size_t r = 0; r < rows; r++, row += stride) out[r] = dot_f16(row, x, n);
    break;
  case HIP_BF16:
    for (size_t r = 0; r < rows; r++, row += stride) out[r] = dot_bf16(row, x, n);
    break;
  case HIP_K4: // Keys only, never weights.
    break;
  case HIP_Q8_0:
    for (size_t r = 0; r < rows; r++, row += stride) out[r] = dot_blocks(row, x, n);
    break;
  }
}

/// Transposes four rows of `n` floats into panel columns j ..< j + 4.
INLINE void transpose4(const float *a, const float *b, const float *c, const float *d, size_t n,
                       float *panel) {
  for (size_t k = 0; k < n; k += 4) {
    quad ra, rb, rc, rd;
    memcpy(&ra, a + k, 16);
    memcpy(&rb, b + k, 16);
    memcpy(&rc, c + k, 16);
    memcpy(&rd, d + k, 16);
    quad ab_low = __builtin_shufflevector(ra, rb, 0, 4, 1, 5);
    quad ab_high = __builtin_shufflevector(ra, rb, 2, 6, 3, 7);
    quad cd_low = __builtin_shufflevector(rc, rd, 0, 4, 1, 5);
    quad cd_high = __builtin_shufflevector(rc, rd, 2, 6, 3, 7);
    quad out0 = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
    quad out1 = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
    quad out2 = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
    quad out3 = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
    memcpy(panel + k * HIP_PANEL, &out0, 16);
    memcpy(panel + (k + 1) * HIP_PANEL, &out1, 16);
    memcpy(panel + (k + 2) * HIP_PANEL, &out2, 16);
    memcpy(panel + (k + 3) * HIP_PANEL, &out3, 16);
  }
}

/// Columns that are widened together before they are transposed.
#define PACK_WIDTH 256

static void pack(hip_element element, const void *w, size_t stride, size_t rows, size_t n,
                 float *panel) {
  const uint8_t *bytes = w;
  float wide[4][PACK_WIDTH];
  for (size_t first = 0; first < n; first += PACK_WIDTH) {
    size_t width = n - first < PACK_WIDTH ? n - first : PACK_WIDTH;
    for (size_t r = 0; r < HIP_PANEL; r += 4) {
      for (size_t i = 0; i < 4; i++) {
        if (r + i < rows) widen_plain(element, bytes + (r + i) * stride, first, width, wide[i]);
        else memset(wide[i], 0, width * sizeof(float));
      }
      transpose4(wide[0], wide[1], wide[2], wide[3], width, panel + first * HIP_PANEL + r);
    }
  }
}

/// One register tile: `height` rows times `vectors` vectors of columns.
INLINE void tile(const int height, const int vectors, const float *a, size_t lda, const float *b,
                 size_t ldb, size_t k, float *c, size_t ldc, size_t columns, int keep) {
  vec sum[TILE_ROWS][TILE_VECTORS];
#pragma clang loop unroll(full)
  for (int r = 0; r < height; r++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) sum[r][v] = 0.0f;
  for (size_t i = 0; i < k; i++) {
    vec right[TILE_VECTORS];
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) right[v] = load(b + i * ldb + v * LANES);
#pragma clang loop unroll(full)
    for (int r = 0; r < height; r++) {
      vec left = a[r * lda + i];
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) sum[r][v] = fused(left, right[v], sum[r][v]);
    }
  }
  if (columns >= (size_t)vectors * LANES) {
#pragma clang loop unroll(full)
    for (int r = 0; r < height; r++)
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) {
        float *out = c + r * ldc + v * LANES;
        store(out, keep ? load(out) + sum[r][v] : sum[r][v]);
      }
    return;
  }
  for (int r = 0; r < height; r++) {
    float row[TILE_VECTORS * LANES];
    for (int v = 0; v < vectors; v++) store(row + v * LANES, sum[r][v]);
    for (size_t j = 0; j < columns; j++)
      c[r * ldc + j] = keep ? c[r * ldc + j] + row[j] : row[j];
  }
}

#define TILE_OF(height)                                                                            \
  switch (vectors) {                                                                               \
  case 1: tile(height, 1, a, lda, b, ldb, k, c, ldc, columns, keep); break;                        \
  case 2: tile(height, 2, a, lda, b, ldb, k, c, ldc, columns, keep); break;                        \
  case 3: if (TILE_VECTORS > 2) tile(height, TILE_VECTORS > 2 ? 3 : 2, a, lda, b, ldb, k, c, ldc, columns, keep); break; \
  default: if (TILE_VECTORS > 3) tile(height, TILE_VECTORS, a, lda, b, ldb, k, c, ldc, columns, keep); break; \
  }

static void tile_rows(size_t height, size_t vectors, const float *a, size_t lda, const float *b,
                      size_t ldb, size_t k, float *c, size_t ldc, size_t columns, int keep) {
  switch (height) {
  case 1: TILE_OF(1); break;
  case 2: TILE_OF(2); break;
  case 4: TILE_OF(4); break;
  default: TILE_OF(TILE_ROWS); break;
  }
}

static void gemm(const float *a, size_t lda, size_t rows, const float *b, size_t ldb, size_t k,
                 float *c, size_t ldc, size_t columns, int keep) {
  size_t width = TILE_VECTORS * LANES;
  for (size_t r = 0; r < rows;) {
    size_t left = rows - r;
    size_t height = left >= TILE_ROWS ? TILE_ROWS : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    for (size_t j = 0; j < columns; j += width) {
      size_t rest = columns - j;
      size_t vectors = rest >= width ? TILE_VECTORS : (rest + LANES - 1) / LANES;
      tile_rows(height, vectors, a + r * lda, lda, b + j, ldb, k, c + r * ldc + j, ldc, rest, keep);
    }
    r += height;
  }
}

// MARK: Element-wise

static void rms_norm(const float *x, const float *weight, size_t n, float epsilon, float *out) {
  vec squares = 0.0f;
  for (size_t i = 0; i < n; i += LANES) squares = fused(load(x + i), load(x + i), squares);
  float scale = 1.0f / sqrtf(sum_lanes(squares) / (float)n + epsilon);
  for (size_t i = 0; i < n; i += LANES) store(out + i, load(x + i) * scale * load(weight + i));
}

static void swiglu(float *gate, const float *up, size_t n) {
  for (size_t i = 0; i < n; i += LANES) {
    vec x = load(gate + i);
    // Below -87 the sigmoid is zero in effect, and exp(-x) would overflow.
    vec bounded = __builtin_elementwise_max(x, (vec)-87.0f);
    store(gate + i, x / (1.0f + exponential(-bounded)) * load(up + i));
  }
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

#include "attention.h"

const hip_kernels HIP_TABLE = {
    .name = HIP_NAME,
    .widen = widen,
    .narrow = narrow,
    .matvec = matvec,
    .pack = pack,
    .gemm = gemm,
    .rms_norm = rms_norm,
    .swiglu = swiglu,
    .rotate = rotate,
    .pack_keys = pack_keys,
    .gather_keys = gather_keys,
    .score_rows = score_rows,
    .score_stored = score_stored,
    .gather = gather,
    .softmax_fold = softmax_fold,
    .softmax_merge = softmax_merge,
    .softmax_finish = softmax_finish,
    .column_max = column_max,
    .add_shares = add_shares,
    .moments = moments,
    .quantize_key = quantize_key,
};
