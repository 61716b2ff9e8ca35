// SPDX-License-Identifier: Apache-2.0
// Rows of logits: scaled and capped, and what each comes to.

#include "ihp_model_parameters.h"

#define WARP 32
#define EVERY 0xffffffffu
#define THREADS 512

__device__ __forceinline__ bool is_finite(float value) { return fabsf(value) <= 3.402823466e38f; }

/// `blockIdx.y` is the row.
extern "C" __global__ void cap_logits(const ihp_logits call) {
  float *logits = call.logits + (long long)blockIdx.y * call.columns;
  for (int column = blockIdx.x * blockDim.x + threadIdx.x; column < call.columns; column += gridDim.x * blockDim.x) {
    float logit = logits[column] * call.scale;
    // A cap would hide what is not finite.
    if (call.soft_cap > 0 && is_finite(logit)) logit = call.soft_cap * tanhf(logit / call.soft_cap);
    logits[column] = logit;
  }
}

/// A block for each row.
extern "C" __global__ __launch_bounds__(THREADS) void summarize_logits(const ihp_logits call) {
  __shared__ float greatest_of[THREADS / WARP];
  __shared__ int best_of[THREADS / WARP];
  __shared__ double sum_of[THREADS / WARP];
  const float *logits = call.logits + (long long)blockIdx.x * call.columns;
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  float greatest = -3.402823466e38f;
  int best = -1;
  bool all_finite = true;
  for (int column = threadIdx.x; column < call.columns; column += THREADS) {
    const float logit = logits[column];
    all_finite = all_finite && is_finite(logit);
    if (best < 0 || logit > greatest) greatest = logit, best = column;
  }
  const auto take = [&](float other, int place) {
    if (place >= 0 && (best < 0 || other > greatest || (other == greatest && place < best))) greatest = other, best = place;
  };
  for (int step = WARP / 2; step > 0; step /= 2) {
    const float other = __shfl_xor_sync(EVERY, greatest, step);
    take(other, __shfl_xor_sync(EVERY, best, step));
  }
  if (lane == 0) greatest_of[warp] = greatest, best_of[warp] = best;
  all_finite = __syncthreads_and(all_finite);
  for (int other = 0; other < THREADS / WARP; other++) take(greatest_of[other], best_of[other]);
  // Single precision holds the sum of a thread's share of a vocabulary.
  float own = 0;
  if (all_finite)
    for (int column = threadIdx.x; column < call.columns; column += THREADS) own += expf(logits[column] - greatest);
  double sum = own;
  for (int step = WARP / 2; step > 0; step /= 2) sum += __shfl_xor_sync(EVERY, sum, step);
  if (lane == 0) sum_of[warp] = sum;
  __syncthreads();
  if (threadIdx.x > 0) return;
  sum = 0;
  for (int part = 0; part < THREADS / WARP; part++) sum += sum_of[part];
  ihp_logit_summary &summary = call.summaries[blockIdx.x];
  summary.log_sum = greatest + log(sum);
  summary.greatest = greatest;
  summary.target = call.targets ? logits[call.targets[blockIdx.x]] : 0;
  summary.best = all_finite ? best : -1;
  summary.padding = 0;
}
