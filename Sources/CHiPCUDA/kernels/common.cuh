// SPDX-License-Identifier: Apache-2.0
// What the kernels of attention share: pairs of elements, matrix instructions, copies, barriers.
#pragma once
#include "elements.cuh"
#include "ihp_attention_parameters.h"

typedef unsigned int uint32;
typedef unsigned long long uint64;

constexpr float kLog2E = 1.4426950408889634f;
#define kNegativeInfinity __int_as_float((int)0xff800000)

// --- Pairs of elements ------------------------------------------------------------------------------------------

/// Two elements in a word, the first in the low half.
template <class T> struct Element;

template <> struct Element<BFloat16> {
  /// Two numbers, rounded; the first in the low half.
  static __device__ __forceinline__ uint32 pack(float low, float high) {
    uint32 out;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
    return out;
  }
  static __device__ __forceinline__ float low(uint32 pair) { return __uint_as_float(pair << 16); }
  static __device__ __forceinline__ float high(uint32 pair) { return __uint_as_float(pair & 0xffff0000u); }
};

template <> struct Element<Half> {
  static __device__ __forceinline__ uint32 pack(float low, float high) {
    uint32 out;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
    return out;
  }
  static __device__ __forceinline__ float low(uint32 pair) {
    float out;
    asm("{.reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, l;}" : "=f"(out) : "r"(pair));
    return out;
  }
  static __device__ __forceinline__ float high(uint32 pair) {
    float out;
    asm("{.reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, h;}" : "=f"(out) : "r"(pair));
    return out;
  }
};


// --- Arithmetic ----------------------------------------------------------------------------------------

__device__ __forceinline__ float exp2Fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float log2Fast(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float tanhFast(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
template <int kLanes> __device__ __forceinline__ float laneMax(float x) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, step));
  return x;
}
template <int kLanes> __device__ __forceinline__ float laneSum(float x) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(~0u, x, step);
  return x;
}
__host__ __device__ constexpr int ceilDiv(int a, int b) { return (a + b - 1) / b; }

/// c += a b, a of 16 x 16, b of 16 x 8, by one warp. Lane l holds rows l / 4 and l / 4 + 8 of a and c.
template <class T> struct Mma;
template <> struct Mma<BFloat16> {
  static __device__ __forceinline__ void run(float (&c)[4], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint32 b0,
                                             uint32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
};
template <> struct Mma<Half> {
  static __device__ __forceinline__ void run(float (&c)[4], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint32 b0,
                                             uint32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
};
/// c += a b in integers, a of 16 x 32 bytes, b of 32 x 8.
__device__ __forceinline__ void mmaInt8(int (&c)[4], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint32 b0, uint32 b1) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
/// The same with bytes without a sign in a.
__device__ __forceinline__ void mmaUInt8(int (&c)[4], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint32 b0, uint32 b1) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void loadMatrices(uint32 (&r)[4], uint32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
      : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address));
}
__device__ __forceinline__ void loadMatricesTransposed(uint32 (&r)[4], uint32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
      : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address));
}

// --- Memory --------------------------------------------------------------------------------------------

__device__ __forceinline__ uint32 sharedAddress(const void *p) { return (uint32)__cvta_generic_to_shared(p); }

/// 16 bytes that are read once: past the first-level cache.
__device__ __forceinline__ uint4 loadStreaming(const void *p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];"
      : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
}
__device__ __forceinline__ void copyAsync16(uint32 shared, const void *global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global));
}
__device__ __forceinline__ void copyAsyncCommit() { asm volatile("cp.async.commit_group;"); }
template <int kPending> __device__ __forceinline__ void copyAsyncWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}
/// Asks for bytes (a multiple of 16) to be brought into the second-level cache.
__device__ __forceinline__ void prefetchBytes(const void *p, int bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(p), "r"(bytes) : "memory");
#endif
}
/// Where 16 bytes of column `chunk` of row `row` lie in a tile of rows of 128 bytes, as bulk copies swizzle it.
__device__ __forceinline__ uint32 swizzled(uint32 row, uint32 chunk) { return row * 128 + ((chunk ^ (row & 7)) << 4); }

// --- Launches that overlap with the one before (programmatic dependent launch) -------------------------

__device__ __forceinline__ void waitForPreviousKernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ void letNextKernelStart() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// --- Hopper: bulk tensor copies, barriers with transaction counts, warpgroup products -------------------

struct __align__(64) TensorMap { uint64 words[16]; };

#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ void barrierInit(uint32 barrier, uint32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count));
}
__device__ __forceinline__ void barrierArrive(uint32 barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void barrierExpect(uint32 barrier, uint32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
__device__ __forceinline__ void barrierWait(uint32 barrier, uint32 phase) {
  asm volatile(
      "{.reg .pred done;\n"
      "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra.uni over;\n"
      "bra.uni again;\n"
      "over: }" ::"r"(barrier), "r"(phase) : "memory");
}
__device__ __forceinline__ void barrierFence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ __forceinline__ void fenceForAsyncProxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
/// A box of a two-dimensional tensor into shared memory.
__device__ __forceinline__ void copyBox(uint32 shared, const TensorMap *map, int column, int row, uint32 barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
          shared), "l"(map), "r"(column), "r"(row), "r"(barrier) : "memory");
}
__device__ __forceinline__ void prefetchMap(const TensorMap *map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
#endif

/// Some threads of a block meet; barrier 0 is __syncthreads.
__device__ __forceinline__ void namedSync(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
__device__ __forceinline__ void namedArrive(int barrier, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HAS_WGMMA 1
__device__ __forceinline__ void wgmmaFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmmaCommit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending> __device__ __forceinline__ void wgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
/// Keeps the compiler from moving uses of an accumulator across a wait.
template <int N> __device__ __forceinline__ void pin(float (&registers)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(registers[i])::"memory");
}
/// Descriptor of a tile of rows of 128 bytes, swizzled: groups of 8 rows lie `stride` bytes apart, columns beyond
/// 128 bytes `leading` bytes apart.
__device__ __forceinline__ uint64 tileDescriptor(uint32 address, uint32 leading, uint32 stride) {
  return (uint64)((address & 0x3ffff) >> 4) | ((uint64)(leading >> 4) << 16) | ((uint64)(stride >> 4) << 32) |
         ((uint64)1 << 62);
}
#else
#define HAS_WGMMA 0
#endif
