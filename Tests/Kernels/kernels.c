// SPDX-License-Identifier: Apache-2.0
// Every function of every table of kernels that runs here, on random data against the baseline's. Where a table rounds
// to bytes, the same rounding is computed here, so that what is left is the order of sums.
//
//   kernels NAME...    the tables that must be found, besides the baseline
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "CHiPSIMD.h"

static const ihp_kernels *base;
static const char *set;
static size_t checks, failures;

static uint64_t state = 1;

static uint32_t bits(void) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(state >> 32);
}

static float uniform(void) { return (float)bits() * 0x1p-32f * 2 - 1; }

/// Memory of exactly so many bytes: a sanitizer sees what is touched behind it.
static void *room(size_t bytes) {
  void *p = malloc(bytes ? bytes : 1);
  if (!p) exit(2);
  memset(p, 0xff, bytes);
  return p;
}

static float *randoms(size_t n) {
  float *x = room(n * sizeof *x);
  for (size_t i = 0; i < n; i++) x[i] = uniform() + uniform() + uniform();
  return x;
}

static void fail(const char *what, size_t index, double got, double want, double allowed) {
  if (failures++ < 20)
    printf("%s: %s [%zu]: %g, not %g (within %g)\n", set, what, index, got, want, allowed);
}

static void expect_close(const char *what, const float *got, const float *want, size_t n, double allowed) {
  checks++;
  for (size_t i = 0; i < n; i++)
    if (!(fabs((double)got[i] - (double)want[i]) <= allowed) && !(isnan(got[i]) && isnan(want[i]))) {
      fail(what, i, got[i], want[i], allowed);
      return;
    }
}

static void expect_bytes(const char *what, const void *got, const void *want, size_t n) {
  checks++;
  for (size_t i = 0; i < n; i++)
    if (((const uint8_t *)got)[i] != ((const uint8_t *)want)[i]) {
      fail(what, i, ((const uint8_t *)got)[i], ((const uint8_t *)want)[i], 0);
      return;
    }
}

/// What a product of many rows may be off by, of the size of its terms; factors in bfloat16 by 2^-9 each.
static double product_error(const ihp_kernels *table, double exact) {
  return table->product_element == IHP_F32 ? exact : 0.01;
}

// MARK: Formats

typedef struct format {
  const char *name;
  ihp_element element;
  size_t width, bytes;
  /// Where half-precision numbers stand in a block.
  int halves[2];
} format;

static const format formats[] = {
    {"F32", IHP_F32, 16, 64, {-1, -1}},        {"F64", IHP_F64, 16, 128, {-1, -1}},
    {"F16", IHP_F16, 16, 32, {-1, -1}},        {"BF16", IHP_BF16, 16, 32, {-1, -1}},
    {"Q8_0", IHP_Q8_0, 32, 34, {0, -1}},
#define FORMAT(name, number, width, bytes) {#name, IHP_##name, width, bytes, {HALVES_##name}},
#define HALVES_Q4_0 0, -1
#define HALVES_Q4_1 0, 2
#define HALVES_Q5_0 0, -1
#define HALVES_Q5_1 0, 2
#define HALVES_Q8_1 0, 2
#define HALVES_Q2_K 80, 82
#define HALVES_Q3_K 108, -1
#define HALVES_Q4_K 0, 2
#define HALVES_Q5_K 0, 2
#define HALVES_Q6_K 208, -1
#define HALVES_IQ2_XXS 0, -1
#define HALVES_IQ2_XS 0, -1
#define HALVES_IQ3_XXS 0, -1
#define HALVES_IQ1_S 0, -1
#define HALVES_IQ4_NL 0, -1
#define HALVES_IQ3_S 0, -1
#define HALVES_IQ2_S 0, -1
#define HALVES_IQ4_XS 0, -1
#define HALVES_IQ1_M -1, -1
#define HALVES_TQ1_0 52, -1
#define HALVES_TQ2_0 64, -1
#define HALVES_MXFP4 -1, -1
    IHP_QUANT_FORMATS(FORMAT)};
#define FORMATS (sizeof formats / sizeof *formats)

/// Half-precision numbers between 2^-8 and 2^-5.
static uint16_t half_bits(void) { return (uint16_t)((7 + bits() % 3) << 10 | (bits() & 0x83ff)); }

/// Rows of `n` random elements.
static uint8_t *stored(const format *f, size_t rows, size_t n) {
  size_t count = rows * n / f->width;
  uint8_t *bytes = room(count * f->bytes);
  for (size_t b = 0; b < count; b++) {
    uint8_t *block = bytes + b * f->bytes;
    for (size_t i = 0; i < f->bytes; i++) block[i] = (uint8_t)bits();
    for (size_t i = 0; i < 16 && f->width == 16; i++) {
      float x = uniform();
      double wide = (double)x;
      uint16_t half = half_bits();
      uint32_t word;
      memcpy(&word, &x, 4);
      word >>= 16;
      if (f->element == IHP_F32) memcpy(block + 4 * i, &x, 4);
      else if (f->element == IHP_F64) memcpy(block + 8 * i, &wide, 8);
      else if (f->element == IHP_F16) memcpy(block + 2 * i, &half, 2);
      else memcpy(block + 2 * i, &word, 2);
    }
    for (int i = 0; i < 2; i++)
      if (f->halves[i] >= 0) {
        uint16_t half = half_bits();
        memcpy(block + f->halves[i], &half, 2);
      }
    if (f->element == IHP_MXFP4) block[0] = (uint8_t)(118 + bits() % 8);
    if (f->element == IHP_IQ1_M) {
      // The scale's bits are the highest of four words.
      uint16_t half = half_bits();
      for (int i = 0; i < 4; i++)
        block[49 + 2 * i] = (uint8_t)((block[49 + 2 * i] & 15) | (half >> (4 * i) & 15) << 4);
    }
  }
  return bytes;
}

/// What is left of x when blocks of 32 are rounded to so many steps on either side.
static void rounded(const float *x, size_t n, float steps, float *out) {
  for (size_t i = 0; i < n; i += 32) {
    float most = 0;
    for (size_t k = 0; k < 32; k++) most = fmaxf(most, fabsf(x[i + k]));
    for (size_t k = 0; k < 32; k++)
      out[i + k] = most > 0 ? nearbyintf(x[i + k] * (steps / most)) * (most / steps) : 0;
  }
}

// MARK: Rows and products

static void test_rows(const ihp_kernels *table) {
  for (const format *f = formats; f < formats + FORMATS; f++) {
    size_t n = f->width < 256 ? 544 : 768;
    uint8_t *bytes = stored(f, 1, n);
    for (size_t first = 0; first < n; first += 256) {
      size_t width = n - first < 512 ? n - first : 512;
      float *got = room(width * 4), *want = room(width * 4);
      table->widen(f->element, bytes, first, width, got);
      base->widen(f->element, bytes, first, width, want);
      // Fused or not: a bit of the least element's scale times quant.
      expect_close(f->name, got, want, width, 1e-5);
      free(got);
      free(want);
    }
    free(bytes);
  }
  float *x = randoms(1024);
  const float special[] = {0, -0.0f, 65504, 1e6f, -1e6f, 1e-7f, 6e-8f, 1e-9f, 2048.5f, 2049.5f};
  memcpy(x + 512, special, sizeof special);
  uint8_t *got = room(4096), *want = room(4096);
  const ihp_element narrow[] = {IHP_F32, IHP_F16, IHP_BF16, IHP_Q8_0};
  const size_t sizes[] = {4096, 2048, 2048, 1088};
  for (int i = 0; i < 4; i++) {
    table->narrow(narrow[i], x, 1024, got);
    base->narrow(narrow[i], x, 1024, want);
    expect_bytes("narrow", got, want, sizes[i]);
  }
  // Fits of scales may end elsewhere, and as well.
  double errors[2] = {0, 0};
  for (int i = 0; i < 2; i++) {
    const ihp_kernels *own = i ? base : table;
    float back[256];
    own->narrow(IHP_Q4_K, x, 256, got);
    own->widen(IHP_Q4_K, got, 0, 256, back);
    for (int k = 0; k < 256; k++) errors[i] += pow((double)back[k] - (double)x[k], 2);
  }
  checks++;
  if (errors[0] > 1.001 * errors[1]) fail("narrow Q4_K", 0, errors[0], errors[1], 0);
  free(got);
  free(want);
  free(x);
}

static void test_products(const ihp_kernels *table, const format *f, size_t rows, size_t n, size_t inputs) {
  uint8_t *w = stored(f, rows, n);
  size_t stride = n / f->width * f->bytes, size = 2 * n + IHP_PREPARED_EXTRA;
  float *x = randoms(inputs * n), *taken = room(inputs * n * 4), *weights = room(rows * n * 4);
  for (size_t i = 0; i < 32 && inputs > 1; i++) x[n + i] = 0;
  memcpy(taken, x, inputs * n * 4);
  if (table->decodes_in_integers && f->width > 16)
    for (size_t i = 0; i < inputs; i++)
      rounded(x + i * n, n, f->element == IHP_Q8_0 ? 16256 : 127, taken + i * n);
  for (size_t r = 0; r < rows; r++) base->widen(f->element, w + r * stride, 0, n, weights + r * n);
  float *want = room(inputs * rows * 4), *exact = room(inputs * rows * 4);
  double largest = 0;
  for (size_t i = 0; i < inputs; i++)
    for (size_t r = 0; r < rows; r++) {
      double sum = 0, whole = 0, size = 0;
      for (size_t k = 0; k < n; k++) {
        double weight = weights[r * n + k];
        sum += weight * (double)taken[i * n + k];
        whole += weight * (double)x[i * n + k];
        size += fabs(weight * (double)x[i * n + k]);
      }
      want[i * rows + r] = (float)sum;
      exact[i * rows + r] = (float)whole;
      largest = fmax(largest, size);
    }
  float *prepared = room(inputs * size * 4), *got = room(inputs * rows * 4);
  for (size_t i = 0; i < inputs; i++) table->prepare_input(x + i * n, n, prepared + i * size);
  table->matvec(f->element, w, stride, rows, x, prepared, size, inputs, n, got, rows);
  char name[64];
  snprintf(name, sizeof name, "matvec %s %zu x %zu, %zu", f->name, rows, n, inputs);
  // Of all terms' size: sums in float32, and elements that fall on the other side of a half (1/254 of them in 8 bits).
  expect_close(name, got, want, inputs * rows, 1e-5 * largest);
  float *single = room(rows * 4);
  for (size_t i = 0; i < inputs; i++) {
    table->matvec(f->element, w, stride, rows, x + i * n, prepared + i * size, size, 1, n, single, rows);
    expect_bytes("matvec of one input", single, got + i * rows, rows * 4);
  }
  float *panel = room(n * IHP_PANEL * 4), *c = room(inputs * rows * 4);
  for (int keep = 0; keep < 2; keep++)
    for (size_t first = 0; first < rows; first += IHP_PANEL) {
      size_t columns = rows - first < IHP_PANEL ? rows - first : IHP_PANEL;
      table->pack(f->element, w + first * stride, stride, columns, n, panel);
      table->gemm(IHP_F32, x, n, inputs, panel, n, c + first, rows, columns, keep);
    }
  for (size_t i = 0; i < inputs * rows; i++) exact[i] *= 2;
  snprintf(name, sizeof name, "gemm %s %zu x %zu, %zu", f->name, rows, n, inputs);
  expect_close(name, c, exact, inputs * rows, product_error(table, 1e-5) * largest);
  free(w), free(x), free(taken), free(weights), free(want), free(exact), free(prepared), free(got), free(single);
  free(panel), free(c);
}

/// What products add to `start`; returns the greatest sum of their amounts.
static double exact_products(const float *x, size_t rows, const float *w, size_t columns, size_t k, const float *start,
                             float *want) {
  double largest = 0;
  for (size_t r = 0; r < rows; r++)
    for (size_t j = 0; j < columns; j++) {
      double sum = start[r * columns + j], size = 0;
      for (size_t i = 0; i < k; i++) {
        sum += (double)x[r * k + i] * (double)w[j * k + i];
        size += fabs((double)x[r * k + i] * (double)w[j * k + i]);
      }
      want[r * columns + j] = (float)sum;
      largest = fmax(largest, size);
    }
  return largest;
}

/// Several panels at once, inputs in the precision of products, sums that go on; and each row as if it were alone.
static void test_panels(const ihp_kernels *table, size_t rows, size_t k, size_t columns) {
  const size_t depth = (k + IHP_PANEL_DEPTH - 1) / IHP_PANEL_DEPTH * IHP_PANEL_DEPTH;
  const size_t bytes = table->product_element == IHP_BF16 ? 2 : 4, ld = k + 32, panel_bytes = depth * IHP_PANEL * bytes;
  if (columns > table->product_columns) columns = table->product_columns;
  float *x = randoms(rows * k), *w = randoms(columns * k), *start = randoms(rows * columns);
  uint8_t *inputs = room(rows * ld * bytes), *panels = room((columns + IHP_PANEL - 1) / IHP_PANEL * panel_bytes);
  float *got = room(rows * columns * 4), *want = room(rows * columns * 4), *alone = room(columns * 4);
  // Factors as products take them: what is left are sums in float32.
  uint8_t *narrow = room(k * bytes);
  for (size_t j = 0; j < columns; j++) {
    table->narrow(table->product_element, w + j * k, k, narrow);
    base->widen(table->product_element, narrow, 0, k, w + j * k);
  }
  for (size_t r = 0; r < rows; r++) {
    table->narrow(table->product_element, x + r * k, k, inputs + r * ld * bytes);
    base->widen(table->product_element, inputs + r * ld * bytes, 0, k, x + r * k);
  }
  const double largest = exact_products(x, rows, w, columns, k, start, want);
  for (size_t first = 0; first < columns; first += IHP_PANEL)
    table->pack(IHP_F32, w + first * k, k * 4, columns - first < IHP_PANEL ? columns - first : IHP_PANEL, k,
                panels + first / IHP_PANEL * panel_bytes);
  memcpy(got, start, rows * columns * 4);
  table->gemm(table->product_element, inputs, ld, rows, panels, k, got, columns, columns, 1);
  expect_close("gemm of panels", got, want, rows * columns, 1e-6 * largest);
  for (size_t r = 0; r < rows; r++) {
    memcpy(alone, start + r * columns, columns * 4);
    table->gemm(table->product_element, inputs + r * ld * bytes, ld, 1, panels, k, alone, columns, columns, 1);
    expect_bytes("gemm of one row", got + r * columns, alone, columns * 4);
  }
  free(x), free(w), free(start), free(inputs), free(panels), free(narrow), free(got), free(want), free(alone);
}

/// Products in bytes: several panels, sums that go on, each row as if it were alone, and what is no number.
static void test_blocks(const ihp_kernels *table, const format *f, size_t rows, size_t k, size_t columns) {
  if (!table->gemm_blocks) return;
  const size_t stride = k / f->width * f->bytes, ld = k / 32 * table->input_block_bytes + 8;
  const size_t panel_bytes = k / 32 * table->panel_block_bytes;
  uint8_t *weights = stored(f, columns, k), *inputs = room(rows * ld);
  uint8_t *panels = room((columns + IHP_PANEL - 1) / IHP_PANEL * panel_bytes);
  float *x = randoms(rows * k), *w = room(columns * k * 4), *start = randoms(rows * columns);
  float *got = room(rows * columns * 4), *want = room(rows * columns * 4), *alone = room(columns * 4);
  memset(x, 0, 32 * 4);
  for (size_t r = 0; r < rows; r++) table->prepare_blocks(x + r * k, k, inputs + r * ld);
  for (size_t first = 0; first < columns; first += IHP_PANEL)
    table->pack_blocks(f->element, weights + first * stride, stride, columns - first < IHP_PANEL ? columns - first : IHP_PANEL, k,
                       panels + first / IHP_PANEL * panel_bytes);
  rounded(x, rows * k, 127, x);
  for (size_t j = 0; j < columns; j++) base->widen(f->element, weights + j * stride, 0, k, w + j * k);
  if (f->element != IHP_Q8_0) rounded(w, columns * k, 127, w);
  const double largest = exact_products(x, rows, w, columns, k, start, want);
  memcpy(got, start, rows * columns * 4);
  table->gemm_blocks(inputs, ld, rows, panels, k, got, columns, columns, 1);
  expect_close(f->name, got, want, rows * columns, 2e-6 * largest);
  for (size_t r = 0; r < rows; r++) {
    memcpy(alone, start + r * columns, columns * 4);
    table->gemm_blocks(inputs + r * ld, ld, 1, panels, k, alone, columns, columns, 1);
    expect_bytes("gemm in bytes of one row", got + r * columns, alone, columns * 4);
  }
  // Nothing that is no number gets lost.
  const float wrong[] = {INFINITY, NAN};
  for (size_t i = 0; i < 2; i++) {
    x[7] = wrong[i];
    table->prepare_blocks(x, k, inputs);
    table->gemm_blocks(inputs, ld, 1, panels, k, alone, columns, columns, 0);
    checks++;
    if (!isnan(alone[0])) fail("a product with what is no number", i, alone[0], NAN, 0);
  }
  free(weights), free(inputs), free(panels), free(x), free(w), free(start), free(got), free(want), free(alone);
}

/// Rows in half precision are packed as the same rows in float32 are.
static void test_halves(const ihp_kernels *table, size_t head) {
  enum { count = 37 };
  uint16_t *halves = room(64 * head * 2);
  float *wide = room(64 * head * 4), *scratch = room(64 * head * 4);
  for (size_t i = 0; i < 64 * head; i++) halves[i] = half_bits();
  // The greatest of a key with a sign, and in the second half of what is looked at together.
  for (size_t j = 0; j < 64; j++) halves[j * head + (j * 5 + 19) % head] = (uint16_t)(0xc000 | j);
  base->widen(IHP_F16, halves, 0, 64 * head, wide);
  int32_t indices[64];
  for (int i = 0; i < 64; i++) indices[i] = (i * 13 + 5) % 64;
  const uint8_t *near[1] = {(const uint8_t *)halves}, *far[1] = {(const uint8_t *)wide};
  ihp_rows half_rows = {near, 6, IHP_F16, 0, head * 2}, wide_rows = {far, 6, IHP_F32, 0, head * 4};
  const size_t coarse = table->coarse_bytes * head * 64 + 64 * 4, values = (head + 63) / 64 * 64 * 64 * 4;
  uint8_t *got = room(coarse > values ? coarse : values), *want = room(coarse > values ? coarse : values);
  table->pack_coarse(&half_rows, indices, 64, head, NULL, 0, indices, scratch, got);
  table->pack_coarse(&wide_rows, indices, 64, head, NULL, 0, indices, scratch, want);
  expect_bytes("pack_coarse of halves", got, want, coarse);
  memset(got, 0, values), memset(want, 0, values);
  table->pack_values(&half_rows, indices, count, head, scratch, (float *)got);
  table->pack_values(&wide_rows, indices, count, head, scratch, (float *)want);
  expect_bytes("pack_values of halves", got, want, values);
  free(halves), free(wide), free(scratch), free(got), free(want);
}

// MARK: Element by element

static void test_elements(const ihp_kernels *table) {
  const size_t n = 96, odd = 101;
  float *x = randoms(odd), *weight = randoms(n), got[128], want[128];
  expect_close("mean square", (float[]){table->rms_norm(x, weight, n, 1e-5f, got)},
               (float[]){base->rms_norm(x, weight, n, 1e-5f, want)}, 1, 1e-6);
  expect_close("rms_norm", got, want, n, 1e-5);
  for (size_t at = 0; at < odd; at += 7)
    for (int kind = 0; kind < 3; kind++) {
      float *y = room(odd * 4);
      memcpy(y, x, odd * 4);
      if (kind) y[at] = kind == 1 ? NAN : INFINITY;
      expect_close("is_finite", (float[]){(float)table->is_finite(y, odd)}, (float[]){!kind}, 1, 0);
      expect_close("greatest", (float[]){table->greatest(y, odd)}, (float[]){base->greatest(y, odd)}, 1, 0);
      free(y);
    }
  expect_close("exponential_sum", (float[]){table->exponential_sum(x, odd, 3)},
               (float[]){base->exponential_sum(x, odd, 3)}, 1, 1e-5);
  for (int activation = 0; activation < 3; activation++) {
    for (size_t i = 0; i < n; i++) got[i] = want[i] = x[i] * (i % 8 == 0 ? 40 : 4);
    table->gate((ihp_activation)activation, got, weight, n);
    base->gate((ihp_activation)activation, want, weight, n);
    expect_close("gate", got, want, n, 1e-3);
  }
  memcpy(got, x, odd * 4);
  memcpy(want, x, odd * 4);
  table->soft_cap(got, odd, 2);
  base->soft_cap(want, odd, 2);
  expect_close("soft_cap", got, want, odd, 1e-5);
  for (size_t half = 0; half <= 48; half += 12) {
    table->rotate(x, weight, half, n, 0.7f, got);
    base->rotate(x, weight, half, n, 0.7f, want);
    expect_close("rotate", got, want, n, 1e-5);
  }
  uint64_t words[64];
  for (int i = 0; i < 64; i++) words[i] = (uint64_t)bits() << 32 | bits();
  checks++;
  if (table->stream(words, sizeof words) == 0) fail("stream", 0, 0, 1, 0);
  const ihp_element peaks[] = {IHP_F32, IHP_Q8_0};
  for (int i = 0; i < 1 + table->decodes_in_integers; i++, checks++)
    if (!(table->peak(peaks[i], 3) > 0)) fail("peak", peaks[i], 0, 1, 0);
  free(x), free(weight);
}

// MARK: Attention

/// Calls `each` with the table under test, then with the baseline, and compares what both write.
#define BOTH(what, got, want, n, allowed, call)                                                    \
  do {                                                                                             \
    for (int pass = 0; pass < 2; pass++) {                                                         \
      const ihp_kernels *own = pass ? base : table;                                                \
      float *out = pass ? want : got;                                                              \
      call;                                                                                        \
    }                                                                                              \
    expect_close(what, got, want, n, allowed);                                                     \
  } while (0)

static void test_attention(const ihp_kernels *table, const format *f, size_t head, size_t half, size_t rows) {
  enum { keys = 64 };
  const size_t count = 37;
  uint8_t *bytes = stored(f, keys, head);
  const uint8_t *blocks[1] = {bytes};
  ihp_rows stored_rows = {blocks, 6, f->element, 0, head / f->width * f->bytes};
  int32_t indices[keys], positions[keys];
  for (int i = 0; i < keys; i++) indices[i] = i * 29 % 64, positions[i] = i * 5 % 64;
  float *turns = randoms(64 * 2 * (half ? half : 1)), *queries = randoms(rows * head);
  const float *turn = half ? turns : NULL;
  float *scratch = room(64 * head * 4), *panel = room(4 * 64 * 64 * 4 + 256);
  float *got = room(rows * 256 * 4), *want = room(rows * 256 * 4);
  const double allowed = table->product_element == IHP_F32 ? 2e-3 : 2;
  memset(got, 0, rows * 256 * 4);
  memset(want, 0, rows * 256 * 4);
  BOTH("score_stored", got, want, rows * 64, allowed,
       own->score_stored(&stored_rows, indices, count, head, turn, half, positions,
                         (ihp_ahead){&stored_rows, indices, pass ? 0 : count}, (ihp_ahead){&stored_rows, indices, pass},
                         scratch, queries, rows, out, 64));
  BOTH("pack_keys", got, want, rows * 64, allowed,
       own->pack_keys(&stored_rows, indices, count, head, turn, half, positions, scratch, panel);
       own->gemm(IHP_F32, queries, head, rows, panel, head, out, 64, 64, 0));
  float *weights = randoms(rows * 64), *sums = randoms(rows * head);
  memcpy(got, sums, rows * head * 4);
  memcpy(want, sums, rows * head * 4);
  BOTH("add_values", got, want, rows * head, allowed,
       own->add_values(&stored_rows, indices, count, head, (ihp_ahead){&stored_rows, indices, count}, weights, rows, 64, out));
  for (size_t part = 0; part < head; part += 64)
    BOTH("pack_values", got, want, rows * 64, allowed,
         own->pack_values(&stored_rows, indices, count, head, scratch, panel);
         own->gemm(IHP_F32, weights, 64, rows, panel + part * 64, count, out, 64, head - part < 64 ? head - part : 64, 0));
  BOTH("mean", got, want, head, 1e-3, own->mean(&stored_rows, 3, 21, head, out));

  // Online softmax: two tiles into one state, a third into another, merged.
  int32_t first[64], last[64];
  for (size_t r = 0; r < rows; r++) first[r] = (int32_t)(r % 5), last[r] = (int32_t)(r == 1 ? r % 5 : 37 - r);
  float *scores = randoms(3 * rows * 64);
  // The second tile has scores far above those that the first one's weights are relative to.
  for (size_t i = rows * 64; i < 2 * rows * 64; i++) scores[i] *= 60;
  for (int pass = 0; pass < 2; pass++) {
    const ihp_kernels *own = pass ? base : table;
    float *out = pass ? want : got, maximum[2][64], sum[2][64], *output[2] = {room(rows * head * 4), room(rows * head * 4)};
    ihp_softmax states[2];
    for (int s = 0; s < 2; s++) {
      states[s] = (ihp_softmax){maximum[s], sum[s], output[s]};
      for (size_t r = 0; r < rows; r++) maximum[s][r] = -INFINITY, sum[s][r] = 0;
      memset(output[s], 0, rows * head * 4);
    }
    for (size_t t = 0; t < 3; t++) {
      float *tile = room(rows * 64 * 4);
      memcpy(tile, scores + t * rows * 64, rows * 64 * 4);
      int whole = t == 1;
      own->softmax_fold(tile, rows, count, whole ? NULL : first, whole ? NULL : last, head, IHP_F32, &states[t / 2]);
      own->add_values(&stored_rows, indices, count, head, (ihp_ahead){0}, tile, rows, 64, output[t / 2]);
      if (own->product_element == IHP_BF16) {
        // Once more with weights for products: no maximum is new.
        float *products = room(rows * 64 * 4), wide[64], again[64] = {0};
        memcpy(products, scores + t * rows * 64, rows * 64 * 4);
        ihp_softmax known = {maximum[t / 2], again, output[t / 2]};
        own->softmax_fold(products, rows, count, whole ? NULL : first, whole ? NULL : last, head, IHP_BF16, &known);
        for (size_t r = 0; r < rows; r++) {
          own->widen(IHP_BF16, products + r * 64, 0, 64, wide);
          for (size_t j = 0; j < 64; j++) {
            const float exact = tile[r * 64 + j];
            expect_close("weights in bfloat16", wide + j, &exact, 1, 0.004 * exact + 1e-30);
          }
        }
        free(products);
      }
      free(tile);
    }
    own->softmax_merge(&states[0], &states[1], rows, head);
    own->softmax_finish(&states[0], rows, head);
    memcpy(out, output[0], rows * head * 4);
    free(output[0]), free(output[1]);
  }
  expect_close("softmax", got, want, rows * head, 1e-4);
  free(bytes), free(turns), free(queries), free(scratch), free(panel), free(got), free(want), free(weights);
  free(sums), free(scores);
}

#include "selection.h"

static void test_table(const ihp_kernels *table) {
  set = table->name;
  const size_t checked = checks, failed = failures;
  test_no_numbers(table);
  test_rows(table);
  static const size_t shapes[][3] = {{1, 32, 1}, {3, 256, 2}, {5, 544, 13}, {67, 512, 3}, {2, 1056, 4}, {4, 768, 1}};
  for (const format *f = formats; f < formats + FORMATS; f++)
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
      if (shapes[s][1] % f->width == 0) test_products(table, f, shapes[s][0], shapes[s][1], shapes[s][2]);
  static const size_t panels[][3] = {{1, 16, 64}, {15, 48, 128}, {16, 64, 100}, {32, 512, 128}, {70, 80, 96}, {33, 2080, 128}, {64, 4096, 32}};
  for (size_t s = 0; s < sizeof panels / sizeof *panels; s++)
    test_panels(table, panels[s][0], panels[s][1], panels[s][2]);
  for (const format *f = formats; f < formats + FORMATS; f++)
    for (size_t s = 0; s < 4 && f->width > 16; s++) {
      static const size_t blocks[][3] = {{1, 256, 64}, {15, 512, 100}, {16, 256, 128}, {7, 768, 40}};
      test_blocks(table, f, blocks[s][0], blocks[s][1], blocks[s][2]);
    }
  test_halves(table, 64), test_halves(table, 80), test_halves(table, 256);
  test_elements(table);
  static const size_t heads[][3] = {{64, 32, 4}, {128, 64, 5}, {96, 48, 1}, {160, 20, 3}, {64, 0, 2}, {256, 128, 17}, {64, 32, 40}};
  for (const format *f = formats; f < formats + 5; f++)
    for (size_t s = 0; s < sizeof heads / sizeof *heads && f->element != IHP_F64; s++)
      test_attention(table, f, heads[s][0], heads[s][1], heads[s][2]);
  for (size_t fold = 1; fold <= 4; fold *= 2)
    for (size_t columns = 4; columns <= 200; columns += 28) test_shares(table, columns, fold);
  static const size_t shared[][4] = {{64, 64, 200, 4}, {64, 5, 200, 4},  {128, 33, 132, 4}, {128, 16, 132, 4},
                                     {80, 7, 64, 4},   {64, 32, 100, 2}, {256, 31, 68, 4},  {64, 70, 72, 4}};
  for (size_t s = 0; s < sizeof shared / sizeof *shared; s++)
    for (int growth = 0; growth < 3; growth++)
      test_shares_of_keys(table, shared[s][0], shared[s][1], shared[s][2], shared[s][3], (float)(growth * growth));
  static const size_t halves[][3] = {{64, 32, 192}, {64, 5, 330}, {128, 33, 100}, {80, 7, 40},  {256, 64, 256},
                                     {64, 8, 40},   {80, 16, 100}, {96, 48, 330}, {16, 12, 64}, {64, 70, 200}};
  for (size_t s = 0; s < sizeof halves / sizeof *halves; s++)
    for (int growth = 0; growth < 3; growth++)
      test_shares_of_means(table, halves[s][0], halves[s][1], halves[s][2], (float)(growth * growth));
  // Each weight is a float when relative to the first tile's score, but not their sum.
  test_shares_of_keys(table, 64, 1, 70000, 4, -78);
  static const size_t sizes[] = {16, 64, 80, 256}, queries[] = {1, 2, 3, 4, 7, 12, 17, 30};
  for (size_t s = 0; s < 4; s++)
    for (size_t r = 0; r < 8; r++) test_scores(table, sizes[s], queries[r]);
  printf("%-14s %zu checks, %zu failures\n", set, checks - checked, failures - failed);
}

int main(int argc, char **argv) {
  base = ihp_kernels_for(IHP_BASELINE);
  int found = 1;
  for (int isa = IHP_AVX2; isa <= IHP_AMX; isa++) {
    const ihp_kernels *table = ihp_kernels_for((ihp_isa)isa);
    if (!table) continue;
    if (found >= argc || strcmp(argv[found], table->name) != 0) {
      printf("%s is found, and was not expected to be\n", table->name);
      return 1;
    }
    found++;
    test_table(table);
  }
  if (found < argc) printf("%s is not found\n", argv[found]);
  return found < argc || failures > 0;
}
