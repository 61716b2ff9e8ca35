// SPDX-License-Identifier: Apache-2.0
// In place of the kernels' `common.cuh`: what is the GPU's own instruction there, lane by lane.
#pragma once

#include <float.h>

#include "elements.cuh"

typedef unsigned int uint32;
typedef unsigned long long uint64;

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kNegativeInfinity = -INFINITY;

template <class T> struct Element {
  static uint32 pack(float low, float high) {
    T first, second;
    narrow(low, first);
    narrow(high, second);
    return first.bits | (uint32)second.bits << 16;
  }
  static float low(uint32 pair) { return widen(T{(unsigned short)pair}); }
  static float high(uint32 pair) { return widen(T{(unsigned short)(pair >> 16)}); }
};

inline float flushed(float value) { return fabsf(value) < FLT_MIN ? 0 : value; }
inline float exp2Fast(float x) { return flushed(exp2f(flushed(x))); }
inline float log2Fast(float x) { return log2f(flushed(x)); }

template <int kLanes> float laneMax(float x) {
  for (int step = kLanes / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, step));
  return x;
}
template <int kLanes> float laneSum(float x) {
  for (int step = kLanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(~0u, x, step);
  return x;
}
constexpr int ceilDiv(int a, int b) { return (a + b - 1) / b; }

/// c += a b, a of 16 x 16, b of 16 x 8. Lane l has in each register two neighbours of a row of a, or of a column of b:
/// those of row, or column, l / 4 that begin at 2 (l % 4); in a1 of 8 rows further on, in a2 of 8 columns, in a3 of
/// both, in b1 of 8 rows.
template <class T> struct Mma {
  static void run(float (&c)[4], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint32 b0, uint32 b1) {
    struct Factors {
      float a[4][2], b[2][2];
    };
    typedef Element<T> Pair;
    const auto shown = device::show(
        "Mma", Factors{{{Pair::low(a0), Pair::high(a0)},
                        {Pair::low(a1), Pair::high(a1)},
                        {Pair::low(a2), Pair::high(a2)},
                        {Pair::low(a3), Pair::high(a3)}},
                       {{Pair::low(b0), Pair::high(b0)}, {Pair::low(b1), Pair::high(b1)}}});
    const int lane = device::lane();
    for (int pair = 0; pair < 4; pair++) {
      const Factors &rows = shown[lane / 4 * 4 + pair];
      const Factors *const columns[2] = {&shown[lane % 4 * 8 + pair], &shown[lane % 4 * 8 + 4 + pair]};
      for (int i = 0; i < 4; i++)
        for (int half = 0; half < 2; half++)
          for (int k = 0; k < 2; k++) c[i] += rows.a[i / 2 + 2 * half][k] * columns[i % 2]->b[half][k];
    }
  }
};

/// A row of a matrix of 8 x 8. It is read when its lane comes: what other lanes have written may be missing until the
/// warp has met.
struct MatrixRow {
  unsigned short elements[8];

  explicit MatrixRow(uint32 address) {
    if (address % 16) device::fail("a row of a matrix does not begin at a multiple of 16 bytes");
    memcpy(elements, device::shared_pointer(address), sizeof elements);
  }
};

/// Four matrices: lane l names row l % 8 of matrix l / 8, and has of each what begins at 2 (l % 4) in row l / 4.
inline void loadMatrices(uint32 (&r)[4], uint32 address) {
  const auto rows = device::show("loadMatrices", MatrixRow(address));
  const int lane = device::lane(), first = lane % 4 * 2;
  for (int i = 0; i < 4; i++) {
    const MatrixRow &row = rows[8 * i + lane / 4];
    r[i] = row.elements[first] | (uint32)row.elements[first + 1] << 16;
  }
}
/// The same of their columns.
inline void loadMatricesTransposed(uint32 (&r)[4], uint32 address) {
  const auto rows = device::show("loadMatricesTransposed", MatrixRow(address));
  const int lane = device::lane(), first = lane % 4 * 2;
  for (int i = 0; i < 4; i++) {
    const MatrixRow &row = rows[8 * i + first], &next = rows[8 * i + first + 1];
    r[i] = row.elements[lane / 4] | (uint32)next.elements[lane / 4] << 16;
  }
}

inline uint32 sharedAddress(const void *p) { return device::shared_address(p); }
inline void copyAsync16(uint32 shared, const void *global) { device::copy_later(shared, global); }
inline void copyAsyncCommit() { device::commit_copies(); }
template <int kPending> void copyAsyncWait() { device::wait_for_copies(kPending); }
