// SPDX-License-Identifier: Apache-2.0
// Rows of an embedding table; a block of threads for each token, 16 elements in each thread.
//
// Macro: WEIGHT, as `weights.cuh` has it.

#include "ihp_model_parameters.h"
#include "weights.cuh"

extern "C" __global__ void embed_rows(const ihp_embed call) {
  const unsigned char *row = call.table + (long long)call.tokens[blockIdx.x] * call.table_stride;
  float *output = call.output + (long long)blockIdx.x * call.columns;
  for (int first = 16 * threadIdx.x; first < call.columns; first += 16 * blockDim.x) {
    float elements[16];
    unpack(row, first, call.columns, elements);
    for (int i = 0; i < 16 && first + i < call.columns; i++) output[first + i] = call.scale * elements[i];
  }
}
