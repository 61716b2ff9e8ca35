// SPDX-License-Identifier: Apache-2.0
// Cosines and sines of rotary angles, in double precision: angles of long texts are large.

/// `[count][pairs][2]`; a thread for each pair of a distance.
extern "C" __global__ void fill_turns(const double *frequencies, int pairs, int count, float *turns) {
  const long long index = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= (long long)count * pairs) return;
  double cosine, sine;
  sincos((double)(index / pairs) * frequencies[index % pairs], &sine, &cosine);
  turns[2 * index] = (float)cosine;
  turns[2 * index + 1] = (float)sine;
}
