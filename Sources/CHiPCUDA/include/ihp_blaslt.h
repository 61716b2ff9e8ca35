// SPDX-License-Identifier: Apache-2.0
// The interface of cuBLASLt (libcublasLt.so.13 or .12), as far as matrix products need it.
#ifndef IHP_BLASLT_H
#define IHP_BLASLT_H

#include "ihp_driver.h"

#include <stddef.h>
#include <stdint.h>

typedef int ihp_blaslt_status;
typedef struct ihp_blaslt_handle_s *ihp_blaslt_handle;
typedef struct ihp_blaslt_operation_s *ihp_blaslt_operation;
typedef struct ihp_blaslt_layout_s *ihp_blaslt_layout;
typedef struct ihp_blaslt_preference_s *ihp_blaslt_preference;

enum {
  IHP_BLASLT_COMPUTE_F32 = 68,
  /// Element types, as CUDA numbers them.
  IHP_BLASLT_F32 = 0,
  IHP_BLASLT_F16 = 2,
  IHP_BLASLT_BF16 = 14,
  IHP_BLASLT_OPERATION_TRANSPOSE_A = 3,
  IHP_BLASLT_OPERATION_TRANSPOSE_B = 4,
  IHP_BLASLT_PREFERENCE_WORKSPACE_BYTES = 1,
};

typedef struct {
  uint64_t data[8];
} ihp_blaslt_algorithm;

typedef struct {
  ihp_blaslt_algorithm algorithm;
  size_t workspace_bytes;
  ihp_blaslt_status state;
  float waves;
  int reserved[4];
} ihp_blaslt_candidate;

#define IHP_BLASLT_FUNCTIONS(ROW)                                                                  \
  ROW(create, cublasLtCreate, (ihp_blaslt_handle *handle))                                       \
  ROW(destroy, cublasLtDestroy, (ihp_blaslt_handle handle))                                      \
  ROW(operation_create, cublasLtMatmulDescCreate,                                                \
      (ihp_blaslt_operation *operation, int compute, int scale))                                   \
  ROW(operation_destroy, cublasLtMatmulDescDestroy, (ihp_blaslt_operation operation))            \
  ROW(operation_set, cublasLtMatmulDescSetAttribute,                                             \
      (ihp_blaslt_operation operation, int attribute, const void *value, size_t count))            \
  ROW(layout_create, cublasLtMatrixLayoutCreate,                                                 \
      (ihp_blaslt_layout *layout, int element, uint64_t rows, uint64_t columns, int64_t stride))   \
  ROW(layout_destroy, cublasLtMatrixLayoutDestroy, (ihp_blaslt_layout layout))                   \
  ROW(preference_create, cublasLtMatmulPreferenceCreate, (ihp_blaslt_preference *preference))    \
  ROW(preference_destroy, cublasLtMatmulPreferenceDestroy, (ihp_blaslt_preference preference))   \
  ROW(preference_set, cublasLtMatmulPreferenceSetAttribute,                                      \
      (ihp_blaslt_preference preference, int attribute, const void *value, size_t count))          \
  ROW(candidates, cublasLtMatmulAlgoGetHeuristic,                                                \
      (ihp_blaslt_handle handle, ihp_blaslt_operation operation, ihp_blaslt_layout a,              \
       ihp_blaslt_layout b, ihp_blaslt_layout c, ihp_blaslt_layout d,                              \
       ihp_blaslt_preference preference, int wanted, ihp_blaslt_candidate *candidates,             \
       int *count))                                                                                \
  ROW(multiply, cublasLtMatmul,                                                                  \
      (ihp_blaslt_handle handle, ihp_blaslt_operation operation, const void *alpha, const void *a, \
       ihp_blaslt_layout a_layout, const void *b, ihp_blaslt_layout b_layout, const void *beta,    \
       const void *c, ihp_blaslt_layout c_layout, void *d, ihp_blaslt_layout d_layout,             \
       const ihp_blaslt_algorithm *algorithm, void *workspace, size_t workspace_bytes,             \
       ihp_cu_stream stream))

#define IHP_BLASLT_FIELD(field, symbol, arguments) ihp_blaslt_status(*field) arguments;

/// Matrix products.
typedef struct {
  IHP_BLASLT_FUNCTIONS(IHP_BLASLT_FIELD)
  /// `cublasLtGetVersion`.
  size_t (*version)(void);
} ihp_blaslt;

#endif
