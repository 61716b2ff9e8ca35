// SPDX-License-Identifier: Apache-2.0
// Products of rows with a matrix of weights, which are unpacked on the way.
//
// Macro: WEIGHT, as `weights.cuh` has it.

#include "common.cuh"
#include "ihp_model_parameters.h"
#include "weights.cuh"

constexpr int kWarp = 32;
constexpr int kTile = IHP_PRODUCT_TILE;
constexpr int kDepth = 64;
/// Elements of a row of a tile: neighbours begin in other banks.
constexpr int kStride = kDepth + 8;
constexpr int kTileThreads = 128;

__device__ __forceinline__ int rowCount(const ihp_product &call) {
  return call.row_count ? min(*call.row_count, call.rows) : call.rows;
}

/// What a row's product comes to, and where it goes.
__device__ __forceinline__ void store(const ihp_product &call, int row, int output, float sum) {
  float value = call.scale * sum;
  if (call.bias) value += call.bias[output];
  if (call.factors) value *= call.factors[row];
  float *target = call.output + (long long)(call.output_rows ? call.output_rows[row] : row) * call.outputs + output;
  *target = call.adds ? *target + value : value;
}

/// Four neighbours of a row of the input, zeros behind its end.
__device__ __forceinline__ float4 loadFour(const float *row, int first, int columns, bool isAligned) {
  if (isAligned && first + 4 <= columns) return *(const float4 *)(row + first);
  float4 four = make_float4(0, 0, 0, 0);
  if (first < columns) four.x = row[first];
  if (first + 1 < columns) four.y = row[first + 1];
  if (first + 2 < columns) four.z = row[first + 2];
  if (first + 3 < columns) four.w = row[first + 3];
  return four;
}

/// 64 rows by 64 outputs in a block of four warps, each with 32 by 32: factors in bfloat16, sums in float32.
extern "C" __global__ __launch_bounds__(kTileThreads) void product_tiles(const ihp_product call) {
  __shared__ __align__(16) unsigned short inputs[kTile * kStride];
  __shared__ __align__(16) unsigned short weights[kTile * kStride];
  typedef Element<BFloat16> Pair;
  const int rows = rowCount(call);
  const int firstRow = blockIdx.y * kTile, firstOutput = blockIdx.x * kTile;
  if (firstRow >= rows) return;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  // Each thread brings half a row of either tile: 32 elements.
  const int ownRow = threadIdx.x / 2, ownColumn = threadIdx.x % 2 * (kDepth / 2);
  const bool hasRow = firstRow + ownRow < rows, hasOutput = firstOutput + ownRow < call.outputs;
  const int inputRow = !hasRow ? 0 : call.input_rows ? call.input_rows[firstRow + ownRow] : firstRow + ownRow;
  const float *input = call.input + (long long)inputRow * call.columns;
  const unsigned char *weight = call.weight + (hasOutput ? firstOutput + ownRow : 0) * call.weight_stride;
  const bool isAligned = ((unsigned long long)call.input & 15) == 0 && call.columns % 4 == 0;

  uint32 packedInput[kDepth / 4], packedWeight[kDepth / 4];
  const auto load = [&](int depth) {
    const int first = depth + ownColumn;
#pragma unroll
    for (int four = 0; four < kDepth / 8; four++) {
      const float4 part =
          hasRow ? loadFour(input, first + 4 * four, call.columns, isAligned) : make_float4(0, 0, 0, 0);
      packedInput[2 * four] = Pair::pack(part.x, part.y);
      packedInput[2 * four + 1] = Pair::pack(part.z, part.w);
    }
#pragma unroll
    for (int group = 0; group < 2; group++) {
      float elements[16];
      if (hasOutput && first + 16 * group < call.columns) {
        unpack(weight, first + 16 * group, call.columns, elements);
      } else {
#pragma unroll
        for (int i = 0; i < 16; i++) elements[i] = 0;
      }
#pragma unroll
      for (int i = 0; i < 8; i++) packedWeight[8 * group + i] = Pair::pack(elements[2 * i], elements[2 * i + 1]);
    }
  };

  float sums[2][4][4] = {};
  const int warpRow = warp / 2 * 32, warpOutput = warp % 2 * 32;
  const uint32 inputBase = sharedAddress(inputs), weightBase = sharedAddress(weights);
  load(0);
  for (int depth = 0; depth < call.columns; depth += kDepth) {
    __syncthreads();
    uint4 *inputTarget = (uint4 *)(inputs + ownRow * kStride + ownColumn);
    uint4 *weightTarget = (uint4 *)(weights + ownRow * kStride + ownColumn);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      inputTarget[i] =
          make_uint4(packedInput[4 * i], packedInput[4 * i + 1], packedInput[4 * i + 2], packedInput[4 * i + 3]);
      weightTarget[i] =
          make_uint4(packedWeight[4 * i], packedWeight[4 * i + 1], packedWeight[4 * i + 2], packedWeight[4 * i + 3]);
    }
    __syncthreads();
    // On its way while the tiles are multiplied.
    if (depth + kDepth < call.columns) load(depth + kDepth);
#pragma unroll
    for (int k = 0; k < kDepth; k += 16) {
      uint32 a[2][4], b[2][4];
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int row = warpRow + 16 * half + lane % 16, column = k + lane / 16 * 8;
        loadMatrices(a[half], inputBase + 2 * (row * kStride + column));
        const int output = warpOutput + 16 * half + lane / 16 * 8 + lane % 8, place = k + lane / 8 % 2 * 8;
        loadMatrices(b[half], weightBase + 2 * (output * kStride + place));
      }
#pragma unroll
      for (int half = 0; half < 2; half++)
#pragma unroll
        for (int part = 0; part < 4; part++)
          Mma<BFloat16>::run(sums[half][part], a[half][0], a[half][1], a[half][2], a[half][3],
                             b[part / 2][part % 2 * 2], b[part / 2][part % 2 * 2 + 1]);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; half++)
#pragma unroll
    for (int part = 0; part < 4; part++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int row = firstRow + warpRow + 16 * half + lane / 4 + i / 2 * 8;
        const int output = firstOutput + warpOutput + 8 * part + lane % 4 * 2 + i % 2;
        if (row < rows && output < call.outputs) store(call, row, output, sums[half][part][i]);
      }
}

/// A warp for each output, of a few rows at a time, in float32; whichever rows stand beside it, a row's sum is the same.
extern "C" __global__ __launch_bounds__(256) void product_rows(const ihp_product call) {
  constexpr int kRows = IHP_PRODUCT_ROWS;
  const int rows = rowCount(call);
  const int firstRow = blockIdx.y * kRows;
  const int output = blockIdx.x * (256 / kWarp) + threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (firstRow >= rows || output >= call.outputs) return;
  const unsigned char *weight = call.weight + output * call.weight_stride;
  const bool isAligned = ((unsigned long long)call.input & 15) == 0 && call.columns % 4 == 0;
  const float *input[kRows];
#pragma unroll
  for (int row = 0; row < kRows; row++) {
    // Rows that do not exist are computed as the last one, and not stored.
    const int own = min(firstRow + row, rows - 1);
    input[row] = call.input + (long long)(call.input_rows ? call.input_rows[own] : own) * call.columns;
  }
  float sums[kRows] = {};
  for (int first = 16 * lane; first < call.columns; first += 16 * kWarp) {
    float elements[16];
    unpack(weight, first, call.columns, elements);
#pragma unroll
    for (int row = 0; row < kRows; row++)
#pragma unroll
      for (int four = 0; four < 4; four++) {
        const float4 part = loadFour(input[row], first + 4 * four, call.columns, isAligned);
        sums[row] += elements[4 * four] * part.x;
        sums[row] += elements[4 * four + 1] * part.y;
        sums[row] += elements[4 * four + 2] * part.z;
        sums[row] += elements[4 * four + 3] * part.w;
      }
  }
#pragma unroll
  for (int row = 0; row < kRows; row++) {
    const float sum = laneSum<kWarp>(sums[row]);
    if (lane == 0 && firstRow + row < rows) store(call, firstRow + row, output, sum);
  }
}
