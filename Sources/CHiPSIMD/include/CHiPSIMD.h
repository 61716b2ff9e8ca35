// SPDX-License-Identifier: Apache-2.0
// The CPU kernels, as tables of functions: one table per instruction set, chosen at run time.
//
// No function here allocates, starts a thread or keeps state. Sizes are element counts unless the
// name says bytes. A "panel" is a matrix block of up to 64 columns, in the form in which a
// table's products read their right-hand side; it takes at most k * HIP_PANEL floats.
#ifndef CHIPSIMD_H
#define CHIPSIMD_H

#include <stddef.h>
#include <stdint.h>

/// Columns of a panel: outputs of a weight matrix, keys of an attention tile, or value dimensions.
#define HIP_PANEL 64

/// Rows of a sketch come in groups, side by side, so that one load brings the same four elements of
/// each.
///
/// Keys in 4 bits: 8 bfloat16 scales, 8 bfloat16 minima, then for every 8 elements four bytes of each
/// key, of which byte i holds element i in its low and element 4 + i in its high half; an element is
/// minimum + n * scale.
///
/// Moments of chunks in 8 bits: 8 bfloat16 scales of means, 8 of variances, then for every 4 elements
/// four bytes of each chunk's mean (128 + n), then likewise of its variance (n).
#define HIP_GROUP 8

/// A prepared input of n elements takes 2 n floats and these.
#define HIP_PREPARED_EXTRA 512

/// Floats in front of a prepared query's elements.
#define HIP_QUERY_HEADER 3

/// How the elements of a row are stored.
typedef enum hip_element {
  HIP_F32 = 0,
  HIP_F16 = 1,
  HIP_BF16 = 2,
  /// Blocks of 32 signed bytes behind one half-precision scale (34 bytes).
  HIP_Q8_0 = 3,
  /// Blocks of 32 (Q4_0) and 256 (K) elements in 4 to 6 bits, as GGUF files hold them.
  HIP_Q4_0 = 4,
  HIP_Q4_K = 5,
  HIP_Q5_K = 6,
  HIP_Q6_K = 7,
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

  /// What the machine can do at best: multiply-adds in registers, `rounds` times, with factors in
  /// float32 (HIP_F32), bfloat16 (HIP_BF16) or bytes (HIP_Q8_0). Returns the number of operations, two
  /// to a multiply-add; 0 where the table has no such products.
  double (*peak)(hip_element element, size_t rounds);
  /// Reads memory and returns what depends on all of it.
  uint64_t (*stream)(const void *bytes, size_t count);

  /// out[i] = row[i] as float32, for n elements starting at element `first` of a row.
  void (*widen)(hip_element element, const void *row, size_t first, size_t n, float *out);
  /// Rounds n floats to float32, float16 (saturating), bfloat16 or blocks of bytes, to nearest even.
  void (*narrow)(hip_element element, const float *x, size_t n, void *out);

  /// Brings n elements (a multiple of 32) into the form in which `matvec` multiplies blocks of
  /// bytes and of less: where the table has products of bytes, in 15 and in 8 bits. `out` takes
  /// 2 n + HIP_PREPARED_EXTRA floats.
  void (*prepare_input)(const float *x, size_t n, float *out);
  /// out[r] = dot(row r of w, x) for `rows` rows of n elements, `stride` bytes apart; `prepared` is
  /// what `prepare_input` made of x.
  void (*matvec)(hip_element element, const void *w, size_t stride, size_t rows, const float *x,
                 const float *prepared, size_t n, float *out);
  /// How products take their factors: HIP_F32, or HIP_BF16 with float32 sums.
  hip_element product_element;
  /// panel[k][r] = w[r][k] for `rows` (at most 64) rows; absent rows become zero.
  void (*pack)(hip_element element, const void *w, size_t stride, size_t rows, size_t n,
               void *panel);
  /// c[r][j] = (keep ? c[r][j] : 0) + sum over k of a[r][k] * panel[k][j], j < columns <= 64.
  /// a's elements are HIP_F32, or already `product_element` (then k and lda are even).
  void (*gemm)(hip_element element, const void *a, size_t lda, size_t rows, const void *panel,
               size_t k, float *c, size_t ldc, size_t columns, int keep);

  /// out = x / rms(x) * weight.
  void (*rms_norm)(const float *x, const float *weight, size_t n, float epsilon, float *out);
  /// gate = silu(gate) * up.
  void (*swiglu)(float *gate, const float *up, size_t n);
  /// Rotates pairs (x[i], x[i + half]) by the angle whose cosines stand at table[0..half) and sines
  /// at table[half..2 half), then multiplies all `head_size` elements by `scale`.
  void (*rotate)(const float *x, const float *table, size_t half, size_t head_size, float scale,
                 float *out);

  /// Gathers `count` (at most 64) keys, rotates each by its position's row of `table` (of
  /// 2 * half floats; null: no rotation), and packs them as the columns of a panel; absent keys
  /// become zero. `scratch` holds 64 * head_size floats.
  void (*pack_keys)(const hip_rows *keys, const int32_t *indices, size_t count, size_t head_size,
                    const float *table, size_t half, const int32_t *positions, float *scratch,
                    void *panel);
  /// scores[r][j] = dot(query r, stored key indices[j]) for `count` (at most 64) keys, rotated as by
  /// `pack_keys`: for few queries, reads keys once and packs nothing. `scratch` holds
  /// 64 * head_size floats. Asks for the rows of `ahead` (null: none) at the same indices.
  void (*score_stored)(const hip_rows *keys, const int32_t *indices, size_t count,
                       size_t head_size, const float *table, size_t half,
                       const int32_t *positions, const hip_rows *ahead, float *scratch,
                       const float *queries, size_t rows, float *scores, size_t ld);
  /// out[r] += sum over j of weights[r][j] * stored value indices[j], for few rows. Asks for
  /// `next_count` rows of `ahead`, at `next`.
  void (*add_values)(const hip_rows *values, const int32_t *indices, size_t count,
                     size_t head_size, const hip_rows *ahead, const int32_t *next,
                     size_t next_count, const float *weights, size_t rows, size_t ld, float *out);
  /// Gathers `count` (at most 64) values and packs them as the depth of panels, one for every 64
  /// dimensions, 64 * 64 floats apart. `scratch` holds 64 * head_size floats.
  void (*pack_values)(const hip_rows *values, const int32_t *indices, size_t count,
                      size_t head_size, float *scratch, float *panels);
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
  /// Bytes of a weight between the two passes.
  size_t weight_bytes;
  /// First pass over a tile of scores [rows][64] of `columns` keys: weights[r][j] becomes
  /// exp(score - largest of the tile), summed over `fold` keys, and each row's largest score and sum of
  /// weights are noted, at r * tile_ld. Weights are of `weight_bytes` each, `ld` of them to a row. With
  /// `fold` 4 (else 1) key 4q + v stands in column 16v + q, and `columns` is a multiple of 4.
  void (*share_tile)(float *scores, size_t rows, size_t columns, size_t fold, void *weights,
                     size_t ld, float *maximum, float *sum, size_t tile_ld);
  /// Second pass: out[j] += sum over rows of row r's share of softmax mass in weight j, for
  /// `tiles` tiles of `width` (64 or 16) weights; `maximum` is overwritten.
  void (*share_add)(const void *weights, size_t ld, size_t rows, size_t tiles, size_t width,
                    float *maximum, const float *sum, size_t tile_ld, float *out);
  /// mean[i], variance[i] of `count` consecutive keys from `first` on, over the keys.
  void (*moments)(const hip_rows *keys, size_t first, size_t count, size_t head_size, float *mean,
                  float *variance);
  /// Writes one key, of n elements (a multiple of 8), to its place in a group of 4-bit keys.
  void (*quantize_key)(const float *key, size_t n, uint8_t *group, size_t place);
  /// Writes the moments of one chunk, of n elements each, to their place in a group.
  void (*quantize_moments)(const float *mean, const float *variance, size_t n, uint8_t *group,
                           size_t place);
  /// Brings queries into the form in which keys are scored for a selection, in 8 bits where the
  /// table has products of those: head_size + HIP_QUERY_HEADER floats each.
  void (*prepare_queries)(const float *queries, size_t rows, size_t head_size, float *out);
  /// Bytes of an element in a panel of `pack_coarse`.
  size_t coarse_bytes;
  /// Packs keys as `pack_keys` does, for `score_coarse`, in 8 bits where the table has products of
  /// those. The panel takes head_size * HIP_PANEL elements and HIP_PANEL floats.
  void (*pack_coarse)(const hip_rows *keys, const int32_t *indices, size_t count,
                      size_t head_size, const float *table, size_t half,
                      const int32_t *positions, float *scratch, void *panel);
  /// scores[r][j] = dot(prepared query r, key j) for the 64 keys of a panel of `pack_coarse`.
  void (*score_coarse)(const void *panel, size_t head_size, const float *queries, size_t rows,
                       float *scores, size_t ld);
  /// scores[r][8 * g + i] = dot(query r, key firsts[g] + i) for `count` (at most 8) groups, whose
  /// first keys are multiples of 8 and whose rows are groups. `scores` has room for an even number.
  /// `known` groups stand in `firsts`: those behind `count` are asked for ahead.
  void (*score_four_bits)(const hip_rows *groups, const int32_t *firsts, size_t count,
                          size_t known, size_t head_size, const float *queries, size_t rows, float *scores,
                          size_t ld);
  /// scores[r][8 * g + i] = dot(query 2r, mean) + dot(query 2r + 1, variance) of chunk firsts[g] + i,
  /// for `count` (at most 8) groups of moments, whose first chunks are multiples of 8.
  void (*score_moments)(const hip_rows *groups, const int32_t *firsts, size_t count, size_t known,
                        size_t head_size, const float *queries, size_t rows, float *scores,
                        size_t ld);
} hip_kernels;

/// Instruction sets that have a table.
typedef enum hip_isa {
  HIP_BASELINE = 0,
  HIP_AVX2 = 1,
  HIP_AVX512 = 2,
  HIP_NEON = 3,
  /// AVX-512 with its bfloat16 and 8-bit dot products (BF16, VNNI).
  HIP_AVX512_BF16 = 4,
} hip_isa;

/// The table of an instruction set; null when this build or this machine lacks it.
const hip_kernels *hip_kernels_for(hip_isa isa);

#endif
