// SPDX-License-Identifier: Apache-2.0
// Rows that are copied, gathered or converted; a block of threads for each row that `blockIdx.x` strides over.
//
// Macros: SOURCE, TARGET (float, BFloat16, Half).

#include "elements.cuh"
#include "ihp_kernel_parameters.h"

extern "C" __global__ void move_rows(const ihp_rows rows) {
  for (int row = blockIdx.x; row < rows.rows; row += gridDim.x) {
    const long long from = rows.indices ? rows.indices[row] : row;
    const SOURCE *source = (const SOURCE *)rows.source + from * rows.source_stride;
    TARGET *target = (TARGET *)rows.target + row * rows.target_stride;
    for (int column = threadIdx.x; column < rows.columns; column += blockDim.x)
      narrow(widen(source[column]), target[column]);
  }
}

extern "C" __global__ void fill_rows(const ihp_rows rows, const float value) {
  for (int row = blockIdx.x; row < rows.rows; row += gridDim.x) {
    TARGET *target = (TARGET *)rows.target + row * rows.target_stride;
    for (int column = threadIdx.x; column < rows.columns; column += blockDim.x) narrow(value, target[column]);
  }
}
