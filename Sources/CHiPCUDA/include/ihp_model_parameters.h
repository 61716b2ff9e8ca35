// SPDX-License-Identifier: Apache-2.0
// What the kernels of whole models are launched with: one text for the compiler of the host, for Swift and for NVRTC.
#ifndef IHP_MODEL_PARAMETERS_H
#define IHP_MODEL_PARAMETERS_H

#include "ihp_kernel_parameters.h"

/// Rows and outputs of a tile of `product_tiles`, and rows that `product_rows` takes at a time.
enum { IHP_PRODUCT_TILE = 64, IHP_PRODUCT_ROWS = 4 };

/// What a gate is passed through, in the order of `GateActivation`.
enum { IHP_GATE_SILU, IHP_GATE_GELU_TANH, IHP_GATE_CLAMPED_SWIGLU };

/// Rows that are not finite: a count, then pairs of a row and a layer (-1: the embedding), as many as there is room for.
typedef struct {
  IHP_DEVICE(int) list;
  int capacity;
  /// The layer that the rows come out of, and what the first of them is called.
  int layer, first_row;
} ihp_row_faults;

/// Looked up rows of an embedding table: `output[row] = scale * table[tokens[row]]`; `embed_rows`.
typedef struct {
  IHP_DEVICE(const int) tokens;
  /// Rows of `table_stride` bytes.
  IHP_DEVICE(const unsigned char) table;
  long long table_stride;
  IHP_DEVICE(float) output;
  int rows, columns;
  float scale;
} ihp_embed;

/// Root-mean-square normalisation; `normalize_rows`.
typedef struct {
  /// `[rows, columns]`; input and output may be the same.
  IHP_DEVICE(const float) input;
  IHP_DEVICE(const float) weight;
  IHP_DEVICE(float) output;
  int rows, columns, rows_per_token;
  float epsilon;
  /// Whether the output keeps what it holds and is added to.
  int adds;
  ihp_row_faults faults;
} ihp_norm;

/// Products with a matrix of weights: `output = factor * (scale * (input . weight^T) + bias)`; `product_tiles`, `product_rows`.
typedef struct {
  /// `[.., columns]`.
  IHP_DEVICE(const float) input;
  /// `[outputs, columns]`, rows of `weight_stride` bytes.
  IHP_DEVICE(const unsigned char) weight;
  long long weight_stride;
  /// `[outputs]`; null: none.
  IHP_DEVICE(const float) bias;
  /// `[.., outputs]`.
  IHP_DEVICE(float) output;
  /// Which rows of input and output they are; null: as they come.
  IHP_DEVICE(const int) input_rows;
  IHP_DEVICE(const int) output_rows;
  /// What each row is multiplied by; null: 1.
  IHP_DEVICE(const float) factors;
  /// How many rows there are, where the host does not know; null: `rows`.
  IHP_DEVICE(const int) row_count;
  int rows, columns, outputs;
  float scale;
  int adds;
} ihp_product;

/// gate = activation(gate) * up, for each element; `gate_rows`.
typedef struct {
  IHP_DEVICE(float) gate;
  IHP_DEVICE(const float) up;
  /// As `ihp_product` has it.
  IHP_DEVICE(const int) row_count;
  int rows, columns, activation;
} ihp_gate;

/// Which experts rows take; `route_rows`.
typedef struct {
  /// `[rows, experts]`.
  IHP_DEVICE(const float) logits;
  /// How many rows each expert has, which they are, and what its products are multiplied by: `[experts]`,
  /// `[experts, rows]`.
  IHP_DEVICE(int) counts;
  IHP_DEVICE(int) takers;
  IHP_DEVICE(float) factors;
  int rows, experts, used;
  /// Whether the probabilities are those among the chosen, and not among all experts.
  int is_renormalised;
  float scale;
} ihp_route;

/// What a row of logits comes to.
typedef struct {
  /// Logarithm of the sum of the exponentials.
  double log_sum;
  /// The greatest logit, and that of the token that was named.
  float greatest, target;
  /// The first token that has the greatest; -1: a logit is not finite.
  int best;
  int padding;
} ihp_logit_summary;

/// Rows of logits; `cap_logits`, `summarize_logits`.
typedef struct {
  /// `[rows, columns]`.
  IHP_DEVICE(float) logits;
  /// `[rows]`; null: no token is named.
  IHP_DEVICE(const int) targets;
  IHP_DEVICE(ihp_logit_summary) summaries;
  int rows, columns;
  float scale;
  /// 0: logits are not capped.
  float soft_cap;
} ihp_logits;

#endif
