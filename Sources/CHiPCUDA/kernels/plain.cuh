// SPDX-License-Identifier: Apache-2.0
// What the plain kernels share: where keys lie, how they are rotated and rounded, how a warp multiplies.
//
// Macros: ELEMENT of keys and values, QUERY of queries and outputs (float, BFloat16, Half), REAL that sums are in:
// double where keys are floats, so that results can be held against the reference; else float.
#pragma once

#include "elements.cuh"
#include "ihp_plain_parameters.h"

#define PAGE 64
#define WARP 32
#define COLUMNS IHP_PLAIN_COLUMNS
#define EVERY 0xffffffffu

/// 32-bit integers hold all positions; sums of a few may exceed them where a window has no end.
typedef long long Wide;

__device__ __forceinline__ int lower(int a, int b) { return a < b ? a : b; }
__device__ __forceinline__ int higher(int a, int b) { return a > b ? a : b; }
__device__ __forceinline__ Wide lower(Wide a, Wide b) { return a < b ? a : b; }
__device__ __forceinline__ Wide higher(Wide a, Wide b) { return a > b ? a : b; }

/// Where a query or a key of some head is seen, as `PositionScheme.position` has it.
__device__ __forceinline__ Wide seen_position(int scheme, Wide key, Wide first, Wide last, Wide trained) {
  if ((scheme != IHP_PLAIN_SELF_EXTEND && scheme != IHP_PLAIN_DYNAMIC) || last <= trained) return key;
  if (scheme == IHP_PLAIN_SELF_EXTEND) {
    if (key >= last - trained / 16) return key;
    return higher(0LL, first - (first - key + 15) / 16);
  }
  const Wide near = trained / 4, border = first - near;
  if (key >= last - near || border <= 0) return key;
  const Wide squeezed = border - ((border - key) * (trained - near) + border - 1) / border;
  return higher(squeezed, last - trained);
}

#ifdef ELEMENT

__device__ __forceinline__ REAL exponential(REAL x) { return sizeof(REAL) == 8 ? exp((double)x) : expf((float)x); }
__device__ __forceinline__ REAL logarithm(REAL x) { return sizeof(REAL) == 8 ? log((double)x) : logf((float)x); }
__device__ __forceinline__ REAL infinity() { return (REAL)__longlong_as_double(0x7ff0000000000000LL); }

__device__ __forceinline__ REAL larger(REAL a, REAL b) { return a > b ? a : b; }

__device__ __forceinline__ REAL warp_sum(REAL value) {
  for (int step = WARP / 2; step > 0; step /= 2) value += __shfl_xor_sync(EVERY, value, step);
  return value;
}
__device__ __forceinline__ REAL warp_maximum(REAL value) {
  for (int step = WARP / 2; step > 0; step /= 2) {
    const REAL other = __shfl_xor_sync(EVERY, value, step);
    // What is not a number stays, whichever side has it.
    value = other > value || other != other ? other : value;
  }
  return value;
}

/// Elements of keys, or values, up to those of a key of a head.
__device__ __forceinline__ Wide row_offset(const ihp_plain_input &in, int kv_head, int key) {
  return (((Wide)in.pages[key / PAGE] * in.kv_heads + kv_head) * PAGE + key % PAGE) * in.head_size;
}

/// Cosine and sine of a pair's angle, computed in double precision: angles of long texts are large.
__device__ __forceinline__ void turn(const ihp_plain_input &in, int pair, Wide position, REAL &cosine, REAL &sine) {
  double c, s;
  sincos((double)position * in.frequencies[pair], &s, &c);
  cosine = (REAL)c;
  sine = (REAL)s;
}

/// A warp writes a key, rotated to `position`; negative: not at all. A quarter of the rotation is to `quarter` where that
/// is not negative.
__device__ __forceinline__ void stage_key(
    const ihp_plain_input &in, int kv_head, int key, Wide position, Wide quarter, REAL *target) {
  const int lane = threadIdx.x % WARP;
  const ELEMENT *source = (const ELEMENT *)in.keys + row_offset(in, kv_head, key);
  const int pairs = in.frequencies && position >= 0 ? in.pairs : 0;
  for (int pair = lane; pair < pairs; pair += WARP) {
    REAL c, s;
    turn(in, pair, position, c, s);
    if (quarter >= 0) {
      REAL other_c, other_s;
      turn(in, pair, quarter, other_c, other_s);
      c = (REAL)0.75 * c + (REAL)0.25 * other_c;
      s = (REAL)0.75 * s + (REAL)0.25 * other_s;
    }
    const REAL low = widen(source[pair]), high = widen(source[pairs + pair]);
    target[pair] = low * c - high * s;
    target[pairs + pair] = high * c + low * s;
  }
  for (int element = 2 * pairs + lane; element < in.head_size; element += WARP) target[element] = widen(source[element]);
}

/// A warp writes a query, scaled and rotated to `position`, with `amplitude` where it is rotated; added to what is there
/// where `adds`, times `part`.
__device__ __forceinline__ void stage_query(
    const ihp_plain_input &in, int row, int head, Wide position, double amplitude, REAL part, bool adds, REAL *target) {
  const int lane = threadIdx.x % WARP;
  const QUERY *source = (const QUERY *)in.queries + ((Wide)row * in.heads + head) * in.head_size;
  const int pairs = in.frequencies ? in.pairs : 0;
  const REAL scale = (REAL)in.scale * part;
  for (int pair = lane; pair < pairs; pair += WARP) {
    REAL c, s;
    turn(in, pair, position, c, s);
    const REAL low = widen(source[pair]) * scale * (REAL)amplitude, high = widen(source[pairs + pair]) * scale * (REAL)amplitude;
    const REAL first = low * c - high * s, second = high * c + low * s;
    target[pair] = adds ? target[pair] + first : first;
    target[pairs + pair] = adds ? target[pairs + pair] + second : second;
  }
  for (int element = 2 * pairs + lane; element < in.head_size; element += WARP) {
    const REAL value = widen(source[element]) * scale;
    target[element] = adds ? target[element] + value : value;
  }
}

/// The products of `COUNT` rows, the same in all lanes, and the lane's column of a tile.
template <int COUNT>
__device__ __forceinline__ void multiply(const REAL *const (&rows)[COUNT], const REAL *column, int size, REAL (&sums)[COUNT]) {
#pragma unroll
  for (int row = 0; row < COUNT; row++) sums[row] = 0;
#pragma unroll 4
  for (int element = 0; element < size; element++) {
    const REAL key = column[element];
#pragma unroll
    for (int row = 0; row < COUNT; row++) sums[row] += rows[row][element] * key;
  }
}

__device__ __forceinline__ REAL capped(const ihp_plain_input &in, REAL score) {
  if (in.soft_cap <= 0) return score;
  const REAL ratio = score / (REAL)in.soft_cap;
  return (REAL)in.soft_cap * (REAL)(sizeof(REAL) == 8 ? tanh((double)ratio) : tanhf((float)ratio));
}

#endif
