// SPDX-License-Identifier: Apache-2.0
// The CPU kernels, as tables of functions: one table per instruction set, chosen at run time.
//
// No function here allocates, starts a thread or keeps state. Sizes are element counts unless the
// name says bytes. A "panel" is a matrix block of up to 64 columns stored as [k][HIP_PANEL]: the
// form in which every product here reads its right-hand side.
#ifndef CHIPSIMD_H
#define CHIPSIMD_H

#include <stddef.h>
#include <stdint.h>

/// Columns of a panel: outputs of a weight matrix, keys of an attention tile, or value dimensions.
#define HIP_PANEL 64

/// How the elements of a row are stored.
typedef enum hip_element {
  HIP_F32 = 0,
  HIP_F16 = 1,
  HIP_BF16 = 2,
  /// Blocks of 32 signed bytes behind one half-precision scale (34 bytes).
  HIP_Q8_0 = 3,
  /// A key in 4 bits: bfloat16 scale and minimum, then for every 32 elements 16 bytes that hold
  /// element i in their low and element 16 + i in their high half; value = minimum + n * scale.
  HIP_K4 = 4,
} hip_element;

/// The keys or values of one head, in pages of equal token count.
typedef struct hip_rows {
  /// Address of each page.
  const uint8_t *const *pages;
  /// log2 of the tokens in a page.
  uint32_t page_shift;
  hip_element element;
  /// Byte distance from a page's address to its first row of this head.
  size_t offset;
  /// Byte distance between the rows of neighbouring tokens.
  size_t stride;
} hip_rows;

/// Running state of an online softmax over rows of one head size.
typedef struct hip_softmax {
  /// Largest score so far per row; -INFINITY while a row has seen no key.
  float *maximum;
  /// Sum of exp(score - maximum) per row.
  float *sum;
  /// Sum of exp(score - maximum) * value per row, [rows][head_size].
  float *output;
} hip_softmax;

typedef struct hip_kernels {
  const char *name;

  /// out[i] = row[i] as float32, for n elements starting at element `first` of a row.
  void (*widen)(hip_element element, const void *row, size_t first, size_t n, float *out);
  /// Rounds n floats to float32, float16 (saturating) or bfloat16, to nearest even.
  void (*narrow)(hip_element element, const float *x, size_t n, void *out);

  /// out[r] = dot(row r of w, x) for `rows` rows of n elements, `stride` bytes apart.
  void (*matvec)(hip_element element, const void *w, size_t stride, size_t rows, const float *x,
                 size_t n, float *out);
  /// panel[k][r] = w[r][k] for `rows` (at most 64) rows; absent rows become zero.
  void (*pack)(hip_element element, const void *w, size_t stride, size_t rows, size_t n,
               float *panel);
  /// c[r][j] = (keep ? c[r][j] : 0) + sum over k of a[r][k] * b[k][j], j < columns <= 64.
  /// b's rows are `ldb` floats apart and readable up to a multiple of 16 columns.
  void (*gemm)(const float *a, size_t lda, size_t rows, const float *b, size_t ldb, size_t k,
               float *c, size_t ldc, size_t columns, int keep);

  /// out = x / rms(x) * weight.
  void (*rms_norm)(const float *x, const float *weight, size_t n, float epsilon, float *out);
  /// gate = silu(gate) * up.
  void (*swiglu)(float *gate, const float *up, size_t n);
  /// Rotates pairs (x[i], x[i + half]) by the angle whose cosines stand at table[0..half) and sines
  /// at table[half..2 half), then multiplies all `head_size` elements by `scale`.
  void (*rotate)(const float *x, const float *table, size_t half, size_t head_size, float scale,
                 float *out);

  /// Gathers `count` (at most 64) keys, rotates each by its position's row of `table` (of
  /// 2 * half floats; null: no rotation), and packs them as panel[head_size][64]; absent keys
  /// become zero. `scratch` holds 64 * head_size floats.
  void (*pack_keys)(const hip_rows *keys, const int32_t *indices, size_t count, size_t head_size,
                    const float *table, size_t half, const int32_t *positions, float *scratch,
                    float *panel);
  /// Gathers and rotates like `pack_keys`, but leaves the keys as rows [64][head_size]: for few
  /// queries the transposition would cost more than it saves.
  void (*gather_keys)(const hip_rows *keys, const int32_t *indices, size_t count, size_t head_size,
                      const float *table, size_t half, const int32_t *positions, float *out);
  /// scores[r][j] = dot(query r, key j) for 64 key rows; a row of scores is `ld` floats.
  void (*score_rows)(const float *queries, size_t rows, const float *keys, size_t head_size,
                     float *scores, size_t ld);
  /// scores[r][j] = dot(query r, stored key indices[j]) for `count` keys that need no rotation: read
  /// once, widened in registers.
  void (*score_stored)(const hip_rows *keys, const int32_t *indices, size_t count,
                       size_t head_size, const float *queries, size_t rows, float *scores,
                       size_t ld);
  /// Gathers `count` rows as float32, [64][head_size]; absent ones become zero.
  void (*gather)(const hip_rows *rows, const int32_t *indices, size_t count, size_t head_size,
                 float *out);
  /// Folds a tile of scores [rows][64] into the softmax state and leaves the tile's weights in
  /// their place. Row r takes columns first[r] ..< last[r] only (null: 0 ..< count).
  void (*softmax_fold)(float *scores, size_t rows, size_t count, const int32_t *first,
                       const int32_t *last, size_t head_size, hip_softmax *state);
  /// output[r] = sum of weights over parts, merged: into[r] becomes the state of both.
  void (*softmax_merge)(hip_softmax *into, const hip_softmax *part, size_t rows, size_t head_size);
  /// output[r] /= sum[r]; rows without a key become zero.
  void (*softmax_finish)(hip_softmax *state, size_t rows, size_t head_size);

  /// out[j] = max over rows of scores[r][j].
  void (*column_max)(const float *scores, size_t ld, size_t rows, size_t columns, float *out);
  /// out[j] += sum over rows of softmax(scores[r])[j]; the scores are overwritten.
  void (*add_shares)(float *scores, size_t ld, size_t rows, size_t columns, float *out);
  /// mean[i], variance[i] of `count` consecutive keys from `first` on, over the keys.
  void (*moments)(const hip_rows *keys, size_t first, size_t count, size_t head_size, float *mean,
                  float *variance);
  /// Writes one key as HIP_K4: 4 + 16 * ceil(n / 32) bytes; n is a multiple of 16.
  void (*quantize_key)(const float *key, size_t n, uint8_t *out);
} hip_kernels;

/// Instruction sets that have a table.
typedef enum hip_isa { HIP_BASELINE = 0, HIP_AVX2 = 1, HIP_AVX512 = 2, HIP_NEON = 3 } hip_isa;
#define HIP_ISA_COUNT 4

/// The table of an instruction set; null when this build or this machine lacks it.
const hip_kernels *hip_kernels_for(hip_isa isa);

#endif
