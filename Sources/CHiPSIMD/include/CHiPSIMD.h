// SPDX-License-Identifier: Apache-2.0
// The CPU kernels, as tables of functions: one table per instruction set, chosen at run time.
//
// No function here allocates, starts a thread or keeps state but that of a thread's matrix units
// (`release`). Sizes are element counts unless the
// name says bytes. A "panel" is a matrix block of up to 64 columns, in the form in which a
// table's products read their right-hand side; it takes at most k * IHP_PANEL floats, k rounded up to IHP_PANEL_DEPTH.
#ifndef CHIPSIMD_H
#define CHIPSIMD_H

#include <stddef.h>
#include <stdint.h>

/// Columns of a panel: outputs of a weight matrix, keys of an attention tile, or value dimensions.
#define IHP_PANEL 64
/// Of what a panel's depth is a multiple, with zeros.
#define IHP_PANEL_DEPTH 32

/// The largest head.
#define IHP_HEAD_SIZE 256

/// Rows of a sketch come in groups, side by side, so that one load brings the same four elements of
/// each.
///
/// Keys in 4 bits: 8 bfloat16 scales, 8 bfloat16 minima, then for every 8 elements four bytes of each
/// key, of which byte i holds element i in its low and element 4 + i in its high half; an element is
/// minimum + n * scale.
///
/// Means of keys in 8 bits: 8 bfloat16 scales, then for every 4 elements four bytes of each mean; an element is
/// (n - 128) * scale.
#define IHP_GROUP 8

/// A prepared input of n elements takes 2 n floats and these.
#define IHP_PREPARED_EXTRA 512

/// Floats in front of a prepared query's elements.
#define IHP_QUERY_HEADER 3

/// The formats whose elements are quants times a scale, less a minimum: name, number in GGUF files, elements and
/// bytes of a block. `quants.h` has a function for each that unpacks it.
#define IHP_QUANT_FORMATS(ROW)                                                                     \
  ROW(Q4_0, 2, 32, 18)                                                                             \
  ROW(Q4_1, 3, 32, 20)                                                                             \
  ROW(Q5_0, 6, 32, 22)                                                                             \
  ROW(Q5_1, 7, 32, 24)                                                                             \
  ROW(Q8_1, 9, 32, 36)                                                                             \
  ROW(Q2_K, 10, 256, 84)                                                                           \
  ROW(Q3_K, 11, 256, 110)                                                                          \
  ROW(Q4_K, 12, 256, 144)                                                                          \
  ROW(Q5_K, 13, 256, 176)                                                                          \
  ROW(Q6_K, 14, 256, 210)                                                                          \
  ROW(IQ2_XXS, 16, 256, 66)                                                                        \
  ROW(IQ2_XS, 17, 256, 74)                                                                         \
  ROW(IQ3_XXS, 18, 256, 98)                                                                        \
  ROW(IQ1_S, 19, 256, 50)                                                                          \
  ROW(IQ4_NL, 20, 32, 18)                                                                          \
  ROW(IQ3_S, 21, 256, 110)                                                                         \
  ROW(IQ2_S, 22, 256, 82)                                                                          \
  ROW(IQ4_XS, 23, 256, 136)                                                                        \
  ROW(IQ1_M, 29, 256, 56)                                                                          \
  ROW(TQ1_0, 34, 256, 54)                                                                          \
  ROW(TQ2_0, 35, 256, 66)                                                                          \
  ROW(MXFP4, 39, 32, 17)

/// How the elements of a row are stored, by the number that GGUF files have for it.
typedef enum ihp_element {
  IHP_F32 = 0,
  IHP_F16 = 1,
  /// Blocks of 32 signed bytes behind one half-precision scale (34 bytes).
  IHP_Q8_0 = 8,
  IHP_F64 = 28,
  IHP_BF16 = 30,
#define IHP_ENUM_ROW(name, number, width, bytes) IHP_##name = number,
  IHP_QUANT_FORMATS(IHP_ENUM_ROW)
#undef IHP_ENUM_ROW
} ihp_element;

/// What a gate is passed through.
typedef enum ihp_activation {
  /// x sigmoid(x).
  IHP_SILU = 0,
  /// GELU by its tanh form.
  IHP_GELU_TANH = 1,
  /// min(x, 7) sigmoid(1.702 min(x, 7)), with the factor 1 + min(max(up, -7), 7) (gpt-oss).
  IHP_CLAMPED_SWIGLU = 2,
} ihp_activation;

/// The keys or values of one head, in blocks of equal token count.
typedef struct ihp_rows {
  /// Address of each block.
  const uint8_t *const *blocks;
  /// log2 of the tokens in a block.
  uint32_t block_shift;
  ihp_element element;
  /// Byte distance from a block's address to its first row of this head.
  size_t offset;
  /// Byte distance between the rows of neighbouring tokens.
  size_t stride;
} ihp_rows;

/// Rows that a kernel prefetches while it computes with others; without a count none.
typedef struct ihp_ahead {
  const ihp_rows *rows;
  const int32_t *indices;
  size_t count;
} ihp_ahead;

/// Running state of an online softmax over rows of one head size.
typedef struct ihp_softmax {
  /// Per row a score that is at most SOFTMAX_SLACK less than the largest so far; -INFINITY while it has seen no key.
  float *maximum;
  /// Sum of exp(score - maximum) per row.
  float *sum;
  /// Sum of exp(score - maximum) * value per row, [rows][head_size].
  float *output;
} ihp_softmax;

typedef struct ihp_kernels {
  const char *name;

  /// What the machine can do at best: multiply-adds in registers, `rounds` times, with factors in
  /// float32 (IHP_F32), bfloat16 (IHP_BF16) or bytes (IHP_Q8_0). Returns the number of operations, two
  /// to a multiply-add; 0 where the table has no such products.
  double (*peak)(ihp_element element, size_t rounds);
  /// Reads memory and returns what depends on all of it.
  uint64_t (*stream)(const void *bytes, size_t count);

  /// out[i] = row[i] as float32, for n elements starting at element `first` of a row.
  void (*widen)(ihp_element element, const void *row, size_t first, size_t n, float *out);
  /// Rounds n floats to float32, float16 (saturating), bfloat16, blocks of bytes or Q4_K, to nearest even.
  void (*narrow)(ihp_element element, const float *x, size_t n, void *out);

  /// Brings n elements (a multiple of 32) into the form in which `matvec` multiplies blocks of
  /// bytes and of less: where the table has products of bytes, in 15 and in 8 bits. `out` takes
  /// 2 n + IHP_PREPARED_EXTRA floats.
  void (*prepare_input)(const float *x, size_t n, float *out);
  /// out[i][r] = dot(row r of w, x[i]) for `rows` rows of n elements, `stride` bytes apart, and `inputs`
  /// inputs of n floats; `prepared`, `prepared_ld` floats apart, is what `prepare_input` made of them.
  /// Outputs are `out_ld` floats apart. An input's outputs are the same to the bit whatever stands beside it.
  void (*matvec)(ihp_element element, const void *w, size_t stride, size_t rows, const float *x,
                 const float *prepared, size_t prepared_ld, size_t inputs, size_t n, float *out,
                 size_t out_ld);
  /// How products of many rows take their factors: IHP_F32, or IHP_BF16 with float32 sums.
  ihp_element product_element;
  /// Whether products of single rows with quantised blocks are computed in integers.
  int decodes_in_integers;
  /// Whether keys are scored for a selection in integers.
  int scores_in_integers;
  /// panel[k][r] = w[r][k] for `rows` (at most 64) rows; absent rows become zero.
  void (*pack)(ihp_element element, const void *w, size_t stride, size_t rows, size_t n,
               void *panel);
  /// Columns that `gemm` takes at most, a multiple of 64, and the depth that suits it for so many.
  size_t product_columns, product_depth;
  /// c[r][j] = (keep ? c[r][j] : 0) + sum over k of a[r][k] * panel[k][j], j < columns. Further panels follow
  /// each other. a's elements are IHP_F32, or already `product_element` (then k and lda are even).
  void (*gemm)(ihp_element element, const void *a, size_t lda, size_t rows, const void *panel,
               size_t k, float *c, size_t ldc, size_t columns, int keep);
  /// Bytes of 32 elements of an input, and of 32 weights of 64 rows, as `gemm_blocks` takes them; 0: this table has no
  /// products of bytes of many rows.
  size_t input_block_bytes, panel_block_bytes;
  /// Brings n elements (a multiple of 32) into blocks of 8 bits with a scale.
  void (*prepare_blocks)(const float *x, size_t n, void *out);
  /// `pack` of quantised weights into blocks of 8 bits, n a multiple of 32; of Q8_0 they are what is stored.
  void (*pack_blocks)(ihp_element element, const void *w, size_t stride, size_t rows, size_t n, void *panel);
  /// `gemm` of blocks of inputs, rows `stride` bytes apart.
  void (*gemm_blocks)(const void *a, size_t stride, size_t rows, const void *panel, size_t k, float *c, size_t ldc,
                      size_t columns, int keep);
  /// Gives back what the calling thread holds of the processor's matrix units, before it waits; null: nothing.
  void (*release)(void);

  /// out = x / rms(x) * weight; the mean square, so that it is known whether it is finite.
  float (*rms_norm)(const float *x, const float *weight, size_t n, float epsilon, float *out);
  /// Whether none of n floats is infinite or NaN.
  int (*is_finite)(const float *x, size_t n);
  /// The largest of n floats; NaN when one of them is not finite.
  float (*greatest)(const float *x, size_t n);
  /// The sum of exp(x - greatest) over n floats.
  float (*exponential_sum)(const float *x, size_t n, float greatest);
  /// gate = activation(gate) * up; IHP_CLAMPED_SWIGLU adds 1 to up first.
  void (*gate)(ihp_activation activation, float *gate, const float *up, size_t n);
  /// x = cap * tanh(x / cap).
  void (*soft_cap)(float *x, size_t n, float cap);
  /// Rotates pairs (x[i], x[i + half]) by the angle whose cosines stand at table[0..half) and sines
  /// at table[half..2 half), then multiplies all `head_size` elements by `scale`.
  void (*rotate)(const float *x, const float *table, size_t half, size_t head_size, float scale,
                 float *out);

  /// Gathers `count` (at most 64) keys, rotates each by its position's row of `table` (of
  /// 2 * half floats; null: no rotation), and packs them as the columns of a panel; absent keys
  /// become zero. `scratch` holds 64 * head_size floats.
  void (*pack_keys)(const ihp_rows *keys, const int32_t *indices, size_t count, size_t head_size,
                    const float *table, size_t half, const int32_t *positions, float *scratch,
                    void *panel);
  /// scores[r][j] = dot(query r, stored key indices[j]) for `count` (at most 64) keys, rotated as by
  /// `pack_keys`: for few queries, loads keys once and packs nothing. `scratch` holds
  /// 64 * head_size floats. Prefetches a row of `ahead` for each key, and one of `further` for every fourth.
  void (*score_stored)(const ihp_rows *keys, const int32_t *indices, size_t count,
                       size_t head_size, const float *table, size_t half,
                       const int32_t *positions, ihp_ahead ahead, ihp_ahead further,
                       float *scratch, const float *queries, size_t rows, float *scores, size_t ld);
  /// out[r] += sum over j of weights[r][j] * stored value indices[j], for few rows. Prefetches a row of `ahead` for
  /// each value.
  void (*add_values)(const ihp_rows *values, const int32_t *indices, size_t count,
                     size_t head_size, ihp_ahead ahead, const float *weights, size_t rows, size_t ld, float *out);
  /// Gathers `count` (at most 64) values and packs them as the depth of panels, one for every 64
  /// dimensions, 64 * 64 floats apart. `scratch` holds 64 * head_size floats.
  void (*pack_values)(const ihp_rows *values, const int32_t *indices, size_t count,
                      size_t head_size, float *scratch, float *panels);
  /// Folds a tile of scores [rows][64] into the softmax state and leaves the tile's weights in
  /// their place, as IHP_F32 or, for `gemm`, in `product_element`: 64 at the beginning of each row.
  /// Row r takes columns first[r] ..< last[r] only (null: 0 ..< count).
  void (*softmax_fold)(float *scores, size_t rows, size_t count, const int32_t *first,
                       const int32_t *last, size_t head_size, ihp_element weights, ihp_softmax *state);
  /// output[r] = sum of weights over parts, merged: into[r] becomes the state of both.
  void (*softmax_merge)(ihp_softmax *into, const ihp_softmax *part, size_t rows, size_t head_size);
  /// output[r] /= sum[r]; rows without a key become zero.
  void (*softmax_finish)(ihp_softmax *state, size_t rows, size_t head_size);

  /// out[j] = max over rows of scores[r][j].
  void (*column_max)(const float *scores, size_t ld, size_t rows, size_t columns, float *out);
  /// Bytes of a weight between the two passes.
  size_t weight_bytes;
  /// First pass over a tile of scores [rows][64] of `columns` keys: weights[r][j] becomes
  /// exp(score - largest of the tile), summed over `fold` keys, and each row's largest score and sum of
  /// weights are noted. Weights are of `weight_bytes` each, [rows][64 / fold]. With
  /// `fold` 2 or 4 (else 1) key fold * q + v stands in column IHP_PANEL / fold * v + q, and `columns` is a multiple
  /// of it.
  void (*share_tile)(float *scores, size_t rows, size_t columns, size_t fold, void *weights, float *maximum,
                     float *sum);
  /// `share_tile` of the scores of `columns` keys by up to 64 prepared queries, as `score_coarse` has them, a tile
  /// behind the other: weights [tiles][rows][64 / fold], maxima and sums [tiles][rows]. A maximum is the score that a
  /// tile's weights are relative to, which may be an earlier tile's; a sum may stand for several tiles. Panels of
  /// `pack_coarse` follow each other. `scores` holds [rows][64].
  void (*share_keys)(const void *panels, size_t head_size, const float *queries, size_t rows, size_t columns,
                     size_t fold, float *scores, void *weights, float *maximum, float *sum);
  /// The same of means, two of which make a weight: `known` groups as `score_means` takes them.
  void (*share_means)(const ihp_rows *groups, const int32_t *firsts, size_t known, size_t head_size, const float *queries,
                      size_t rows, size_t columns, float *scores, void *weights, float *maximum, float *sum);
  /// Second pass: out[j] += sum over rows of row r's share of softmax mass in weight j, for
  /// `tiles` tiles of `width` (64, 32 or 16) weights; `maximum` is overwritten.
  void (*share_add)(const void *weights, size_t rows, size_t tiles, size_t width, float *maximum, const float *sum,
                    float *out);
  /// mean[i] of `count` consecutive keys from `first` on.
  void (*mean)(const ihp_rows *keys, size_t first, size_t count, size_t head_size, float *mean);
  /// Writes one key, of n elements (a multiple of 8), to its place in a group of 4-bit keys.
  void (*quantize_key)(const float *key, size_t n, uint8_t *group, size_t place);
  /// Writes a mean, of n elements (a multiple of 4), to its place in a group.
  void (*quantize_mean)(const float *mean, size_t n, uint8_t *group, size_t place);
  /// Brings queries into the form in which keys are scored for a selection, in 8 bits where the
  /// table has products of those: head_size + IHP_QUERY_HEADER floats each.
  void (*prepare_queries)(const float *queries, size_t rows, size_t head_size, float *out);
  /// Bytes of an element in a panel of `pack_coarse`.
  size_t coarse_bytes;
  /// Packs keys as `pack_keys` does, for `score_coarse`, in 8 bits where the table has products of
  /// those. The panel takes head_size * IHP_PANEL elements and IHP_PANEL floats.
  void (*pack_coarse)(const ihp_rows *keys, const int32_t *indices, size_t count,
                      size_t head_size, const float *table, size_t half,
                      const int32_t *positions, float *scratch, void *panel);
  /// scores[r][j] = dot(prepared query r, key j) for the 64 keys of a panel of `pack_coarse`.
  void (*score_coarse)(const void *panel, size_t head_size, const float *queries, size_t rows,
                       float *scores, size_t ld);
  /// scores[r][8 * g + i] = dot(query r, key firsts[g] + i) for `count` (at most 8) groups, whose
  /// first keys are multiples of 8 and whose rows are groups. `scores` has room for an even number.
  /// `known` groups stand in `firsts`: those behind `count` are prefetched.
  void (*score_four_bits)(const ihp_rows *groups, const int32_t *firsts, size_t count,
                          size_t known, size_t head_size, const float *queries, size_t rows, float *scores,
                          size_t ld);
  /// scores[r][8 * g + i] = dot(query r, mean firsts[g] + i) for `count` (at most 8) groups, as
  /// `score_four_bits` does.
  void (*score_means)(const ihp_rows *groups, const int32_t *firsts, size_t count, size_t known,
                      size_t head_size, const float *queries, size_t rows, float *scores,
                      size_t ld);
} ihp_kernels;

/// Instruction sets that have a table.
typedef enum ihp_isa {
  IHP_BASELINE = 0,
  IHP_AVX2 = 1,
  IHP_AVX512 = 2,
  IHP_NEON = 3,
  /// AVX-512 with its bfloat16 and 8-bit dot products (BF16, VNNI).
  IHP_AVX512_BF16 = 4,
  /// AVX-512 with its 8-bit dot products (VNNI).
  IHP_AVX512_VNNI = 5,
  /// AVX2 with its 8-bit dot products (AVX-VNNI).
  IHP_AVX2_VNNI = 6,
  /// NEON with its 8-bit dot products.
  IHP_NEON_DOTPROD = 7,
  /// NEON with its 8-bit dot products and products of 8-bit matrices (I8MM).
  IHP_NEON_I8MM = 8,
  /// AVX-512 with BF16, VNNI and matrix units (AMX).
  IHP_AMX = 9,
} ihp_isa;

/// How fast bfloat16 products are against those in float32, where the processor's maker is known by it.
typedef enum ihp_bf16_speed {
  IHP_BF16_UNKNOWN = 0,
  /// Twice as many a cycle (AMD).
  IHP_BF16_FAST = 1,
  /// Half as many a cycle (Intel).
  IHP_BF16_SLOW = 2,
} ihp_bf16_speed;

ihp_bf16_speed ihp_bf16_products(void);

/// Cores that the process may run on; 0 where that is not known.
size_t ihp_affinity_count(void);

/// Tells the core that a loop waits for another one. Inline: a call would cost as much as the wait.
static inline void ihp_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/// The CRC-32C of bytes that follow those whose CRC is `crc` (0: none precede).
uint32_t ihp_crc32c(uint32_t crc, const void *bytes, size_t count);

/// The table of an instruction set; null when this build or this machine lacks it. Asking for IHP_AMX asks the system for
/// the tiles of all threads of the process: alternate signal stacks of less than some 11 KB are refused afterwards, and
/// where there is one already, there is no such table.
const ihp_kernels *ihp_kernels_for(ihp_isa isa);

#endif
