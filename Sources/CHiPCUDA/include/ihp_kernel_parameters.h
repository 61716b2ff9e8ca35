// SPDX-License-Identifier: Apache-2.0
// What kernels are launched with: one text for the compiler of the host, for Swift and for NVRTC.
#ifndef IHP_KERNEL_PARAMETERS_H
#define IHP_KERNEL_PARAMETERS_H

#ifdef __CUDACC_RTC__
/// An address in the device's memory: a pointer there, a number on the host.
#define IHP_DEVICE(type) type *
#else
#include <stdint.h>
#define IHP_DEVICE(type) uint64_t
#endif

/// Rows that are copied, gathered or converted: `target[row] = source[indices ? indices[row] : row]`.
typedef struct {
  IHP_DEVICE(const void) source;
  IHP_DEVICE(void) target;
  /// Null: rows as they come.
  IHP_DEVICE(const int) indices;
  /// Elements from one row to the next.
  long long source_stride, target_stride;
  int rows, columns;
} ihp_rows;

#endif
