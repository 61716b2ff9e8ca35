// SPDX-License-Identifier: Apache-2.0
// What CUDA kernels make of rows of weights (`weights.cuh`), compiled for this processor, against the baseline's
// `widen`: random blocks of every format, element by element.
//
// Compiled with WEIGHT this is the variant of that format, without it the program that they are linked to.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef WEIGHT

#define __device__
#define __forceinline__ inline

#include "gpu/arithmetic.h"

// The GPU's instructions mean nothing here. What they compute is given to a type of the same name.
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wuninitialized"
#pragma clang diagnostic ignored "-Wunused-parameter"
#define asm(...) (void)0
#include "../../Sources/CHiPCUDA/kernels/elements.cuh"
#undef asm
#pragma clang diagnostic pop
struct HostHalf {
  unsigned short bits;
};
inline float widen(HostHalf value) { return (float)device::same_bits<_Float16>(value.bits); }
#define Half HostHalf

// Not shared: functions of the same name are others in each variant, and types others than those of C.
namespace {
namespace variant {
#include "../../Sources/CHiPCUDA/kernels/weights.cuh"
}
}  // namespace

#define JOIN_NAMES(a, b) a##b
#define JOIN(a, b) JOIN_NAMES(a, b)

extern "C" void JOIN(unpack_, WEIGHT)(const unsigned char *row, int first, int columns, float *out) {
  float sixteen[16];
  variant::unpack(row, first, columns, sixteen);
  memcpy(out, sixteen, sizeof sixteen);
}
extern "C" long long JOIN(row_bytes_, WEIGHT)(int columns) { return variant::weight_row_bytes(columns); }

#else

extern "C" {
#include "tables.h"
}

static size_t failures;
static uint64_t state = 1;

static uint32_t bits(void) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(state >> 32);
}

struct format {
  const char *name;
  ihp_element element;
  size_t width, bytes;
  void (*unpack)(const unsigned char *row, int first, int columns, float *out);
  long long (*row_bytes)(int columns);
};

#define ALL_FORMATS(ROW)                                                                                               \
  ROW(F32, 0, 1, 4)                                                                                                    \
  ROW(F16, 1, 1, 2)                                                                                                    \
  ROW(BF16, 30, 1, 2)                                                                                                  \
  ROW(F64, 28, 1, 8)                                                                                                   \
  ROW(Q8_0, 8, 32, 34)                                                                                                 \
  IHP_QUANT_FORMATS(ROW)

#define DECLARATION(name, number, width, bytes)                                                                        \
  extern "C" void unpack_##number(const unsigned char *row, int first, int columns, float *out);                       \
  extern "C" long long row_bytes_##number(int columns);
ALL_FORMATS(DECLARATION)

static const format formats[] = {
#define FORMAT(name, number, width, bytes) {#name, IHP_##name, width, bytes, unpack_##number, row_bytes_##number},
    ALL_FORMATS(FORMAT)};

/// Random blocks that stand for finite numbers.
static void fill(const format &f, uint8_t *blocks, size_t count) {
  for (size_t b = 0; b < count; b++, blocks += f.bytes) {
    float values[256];
    bool finite;
    do {
      for (size_t i = 0; i < f.bytes; i++) blocks[i] = (uint8_t)bits();
      // Half precision is widened four elements at a time.
      uint8_t padded[256] = {0};
      memcpy(padded, blocks, f.bytes);
      const size_t n = f.width < 16 ? 16 : f.width;
      ihp_baseline_kernels.widen(f.element, padded, 0, n, values);
      finite = true;
      for (size_t i = 0; i < n; i++) finite = finite && isfinite(values[i]);
    } while (!finite);
  }
}

/// Rows one behind the other, which places those of an odd number of elements at all addresses.
static void compare(const format &f, size_t columns) {
  const size_t rows = 5, row_bytes = columns / f.width * f.bytes, padded = (columns + 15) / 16 * 16;
  if (f.row_bytes((int)columns) != (long long)row_bytes) {
    printf("%s: %lld bytes for %zu elements, not %zu\n", f.name, f.row_bytes((int)columns), columns, row_bytes);
    failures++;
    return;
  }
  // Exactly so many bytes: a sanitizer sees what is touched behind them.
  uint8_t *stored = (uint8_t *)malloc(rows * row_bytes);
  uint8_t *row = (uint8_t *)calloc(1, padded * 8 + row_bytes);
  float *want = (float *)malloc(padded * sizeof *want), *got = (float *)malloc(padded * sizeof *got);
  if (!stored || !row || !want || !got) exit(2);
  fill(f, stored, rows * columns / f.width);
  for (size_t r = 0; r < rows; r++) {
    memcpy(row, stored + r * row_bytes, row_bytes);
    ihp_baseline_kernels.widen(f.element, row, 0, padded, want);
    for (size_t i = 0; i < padded; i++) got[i] = NAN;
    for (size_t first = 0; first < padded; first += 16)
      f.unpack(stored + r * row_bytes, (int)first, (int)columns, got + first);
    for (size_t i = 0; i < padded; i++) {
      const float exact = i < columns ? want[i] : 0;
      // Products with scales are exact in single precision, and one rounding is that of a difference. Zeros may differ
      // in their signs.
      if (got[i] == exact) continue;
      if (failures++ < 20)
        printf("%s, %zu columns: row %zu [%zu]: %.9g, not %.9g\n", f.name, columns, r, i, got[i], exact);
      break;
    }
  }
  free(stored);
  free(row);
  free(want);
  free(got);
}

int main(void) {
  size_t count = 0;
  for (const format &f : formats) {
    count++;
    if (f.width == 1) {
      static const size_t widths[] = {1, 2, 7, 15, 16, 17, 31, 32, 40, 63, 64, 333, 1024};
      for (size_t columns : widths) compare(f, columns);
    } else {
      for (size_t blocks = 1; blocks <= 16; blocks++) compare(f, blocks * f.width);
      // Enough for each point of a grid.
      compare(f, 64 * 256);
    }
  }
  printf("weights of CUDA: %zu formats, %zu failures\n", count, failures);
  return failures > 0;
}

#endif
