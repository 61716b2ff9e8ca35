// SPDX-License-Identifier: Apache-2.0
// Operations on rows of activations beside products: norms, gates, the choice of experts.

#include "ihp_model_parameters.h"

#define WARP 32
#define EVERY 0xffffffffu

__device__ __forceinline__ float warp_sum(float value) {
  for (int step = WARP / 2; step > 0; step /= 2) value += __shfl_xor_sync(EVERY, value, step);
  return value;
}

/// The threads of one row are `blockDim.x`, a multiple of a warp; rows of a block are `blockDim.y`.
extern "C" __global__ void normalize_rows(const ihp_norm call) {
  __shared__ float parts[32];
  const int row = blockIdx.x * blockDim.y + threadIdx.y;
  const bool exists = row < call.rows;
  const float *input = call.input + (long long)row * call.columns;
  float *output = call.output + (long long)row * call.columns;
  float sum = 0;
  if (exists)
    for (int column = threadIdx.x; column < call.columns; column += blockDim.x) sum += input[column] * input[column];
  sum = warp_sum(sum);
  if (blockDim.x > WARP) {
    // Then the block has one row.
    if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = sum;
    __syncthreads();
    sum = warp_sum(threadIdx.x % WARP < blockDim.x / WARP ? parts[threadIdx.x % WARP] : 0);
  }
  if (!exists) return;
  const float square = sum / call.columns;
  const float scale = 1 / sqrtf(square + call.epsilon);
  for (int column = threadIdx.x; column < call.columns; column += blockDim.x) {
    const float value = input[column] * scale * call.weight[column];
    output[column] = call.adds ? output[column] + value : value;
  }
  // False for what is not a number, too.
  if (threadIdx.x == 0 && !(square <= 3.402823466e38f)) {
    const int index = atomicAdd(call.faults.list, 1);
    if (index < call.faults.capacity) {
      call.faults.list[1 + 2 * index] = call.faults.first_row + row / call.rows_per_token;
      call.faults.list[2 + 2 * index] = call.faults.layer;
    }
  }
}

extern "C" __global__ void gate_rows(const ihp_gate call) {
  const int rows = call.row_count ? min(*call.row_count, call.rows) : call.rows;
  const long long count = (long long)rows * call.columns;
  const long long step = (long long)gridDim.x * blockDim.x;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
    const float gate = call.gate[i], up = call.up[i];
    float product;
    switch (call.activation) {
    case IHP_GATE_SILU: product = gate / (1 + expf(-gate)) * up; break;
    case IHP_GATE_GELU_TANH:
      product = 0.5f * gate * (1 + tanhf(0.7978845608f * (gate + 0.044715f * gate * gate * gate))) * up;
      break;
    default: {
      // Comparisons that leave what is not a number as it is.
      const float low = gate > 7 ? 7 : gate, bounded = up > 7 ? 7 : up < -7 ? -7 : up;
      product = low / (1 + expf(-1.702f * low)) * (1 + bounded);
    }
    }
    call.gate[i] = product;
  }
}

/// A warp for each row.
extern "C" __global__ void route_rows(const ihp_route call) {
  const int row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (row >= call.rows) return;
  const float *logits = call.logits + (long long)row * call.experts;
  /// What is not a number stands among the greatest: lanes would not agree on an order without it, and take an expert
  /// twice.
  const auto rank = [&](int expert) {
    const float logit = logits[expert];
    return logit == logit ? logit : __int_as_float(0x7f800000);
  };
  /// Whether an expert stands before another one: of equal ones the first.
  const auto precedes = [&](int expert, int other) {
    const float one = rank(expert), two = rank(other);
    return one > two || (one == two && expert < other);
  };
  int last = -1, best = -1;
  float sum = 0;
  for (int pass = 0; pass < 2; pass++) {
    // First what probabilities are divided by, then the choice itself.
    last = -1;
    for (int place = 0; place < call.used; place++) {
      int next = -1;
      for (int expert = lane; expert < call.experts; expert += WARP)
        if ((last < 0 || precedes(last, expert)) && (next < 0 || precedes(expert, next))) next = expert;
      for (int step = WARP / 2; step > 0; step /= 2) {
        const int other = __shfl_xor_sync(EVERY, next, step);
        if (other >= 0 && (next < 0 || precedes(other, next))) next = other;
      }
      if (next < 0) break;
      if (place == 0) best = next;
      last = next;
      if (pass == 0) {
        if (call.is_renormalised) sum += expf(logits[next] - logits[best]);
      } else if (lane == 0) {
        const int index = atomicAdd(call.counts + next, 1);
        call.takers[(long long)next * call.rows + index] = row;
        call.factors[(long long)next * call.rows + index] = call.scale * expf(logits[next] - logits[best]) / sum;
      }
    }
    if (pass == 0 && !call.is_renormalised) {
      if (best < 0) return;
      for (int expert = lane; expert < call.experts; expert += WARP) sum += expf(logits[expert] - logits[best]);
      sum = warp_sum(sum);
    }
  }
}
