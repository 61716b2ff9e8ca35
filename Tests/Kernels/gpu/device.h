// SPDX-License-Identifier: Apache-2.0
// A GPU's words, for kernels that are compiled for this processor. Each thread of a block is a fiber: it runs until it
// has to wait for others, and who goes on is a matter of chance. Blocks come in any order, one after the other.
//
// What a program does wrong ends it: threads that wait for others that do not come, or that meet at different places,
// and, by the address sanitizer, whatever lies outside of a buffer of global or shared memory.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arithmetic.h"

/// Pointers of parameters are pointers.
#define __CUDACC_RTC__
#define __device__
#define __host__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(size) __attribute__((aligned(size)))
/// Storage whose addresses `device.cpp` gives out: new ones for each block, with nothing in them.
#define __shared__ thread_local

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

struct Extent {
  unsigned x = 1, y = 1, z = 1;
};
extern Extent threadIdx, blockIdx, blockDim, gridDim;

namespace device {

/// Runs `kernel(arguments)` in every thread, with so many bytes of the shared memory whose size a launch decides.
void launch(Extent grid, Extent shape, size_t shared_bytes, void (*kernel)(const void *), const void *arguments);
template <class Kernel> void launch(Extent grid, Extent shape, size_t shared_bytes, const Kernel &kernel) {
  launch(grid, shape, shared_bytes, [](const void *called) { (*(const Kernel *)called)(); }, &kernel);
}

[[noreturn]] void fail(const char *what);

/// The largest of what a lane shows to the others of its warp.
constexpr size_t kShownBytes = 64;

/// Shows bytes to the lanes of the warp, all of which must come. The result: what lane 0 has shown, `kShownBytes`
/// further on what lane 1 has, and so on; it lasts until the lane shows something else.
const char *show(const char *place, const void *bytes, size_t count);

/// The sum of what all threads of the block come with.
int meet_block(const char *place, int count);

template <class T> struct Shown {
  const char *first;
  const T &operator[](int lane) const { return *(const T *)(first + kShownBytes * lane); }
};
template <class T> Shown<T> show(const char *place, T value) {
  static_assert(sizeof value <= kShownBytes, "");
  return {show(place, &value, sizeof value)};
}

inline int lane() { return (threadIdx.x + threadIdx.y * blockDim.x) % 32; }

/// Kernels here have all lanes of a warp meet.
inline void expect_all(unsigned lanes) {
  if (lanes != 0xffffffffu) fail("a part of a warp meets");
}

/// Shared memory has addresses of 32 bits.
unsigned shared_address(const void *at);
char *shared_pointer(unsigned address);

/// A copy of 16 bytes into shared memory that comes to pass when it is waited for; until then nothing is there.
void copy_later(unsigned to, const void *from);
void commit_copies();
void wait_for_copies(size_t pending);

}  // namespace device

// --- Threads that meet ----------------------------------------------------------------------------------

inline void __syncwarp() { device::show("__syncwarp", 0); }
inline void __syncthreads() { device::meet_block("__syncthreads", 0); }
inline int __syncthreads_count(int counts) { return device::meet_block("__syncthreads_count", counts != 0); }
inline int __syncthreads_or(int counts) { return device::meet_block("__syncthreads_or", counts != 0) > 0; }
inline int __syncthreads_and(int counts) { return device::meet_block("__syncthreads_and", counts == 0) == 0; }

template <class T> T __shfl_sync(unsigned lanes, T value, int from) {
  device::expect_all(lanes);
  return device::show("__shfl_sync", value)[from];
}
template <class T> T __shfl_xor_sync(unsigned lanes, T value, int step) {
  device::expect_all(lanes);
  return device::show("__shfl_xor_sync", value)[device::lane() ^ step];
}
template <class T> T __shfl_up_sync(unsigned lanes, T value, int step) {
  device::expect_all(lanes);
  const auto shown = device::show("__shfl_up_sync", value);
  return device::lane() < step ? value : shown[device::lane() - step];
}
inline unsigned __ballot_sync(unsigned lanes, int has) {
  device::expect_all(lanes);
  const auto shown = device::show("__ballot_sync", has != 0);
  unsigned all = 0;
  for (int lane = 0; lane < 32; lane++) all |= (unsigned)shown[lane] << lane;
  return all;
}
template <class T> unsigned __match_any_sync(unsigned lanes, T value) {
  device::expect_all(lanes);
  const auto shown = device::show("__match_any_sync", value);
  unsigned same = 0;
  for (int lane = 0; lane < 32; lane++) same |= (unsigned)(shown[lane] == value) << lane;
  return same;
}
/// Fibers stop nowhere in between.
inline int atomicAdd(int *at, int more) {
  const int before = *at;
  *at += more;
  return before;
}
