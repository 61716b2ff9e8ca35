// SPDX-License-Identifier: Apache-2.0
// NVRTC's interface (libnvrtc.so.13 or .12), as far as it is used.
#ifndef IHP_NVRTC_H
#define IHP_NVRTC_H

#include <stddef.h>

typedef int ihp_nvrtc_result;
typedef struct ihp_nvrtc_program_s *ihp_nvrtc_program;

enum {
  IHP_NVRTC_SUCCESS = 0,
  IHP_NVRTC_OUT_OF_MEMORY = 1,
  IHP_NVRTC_INVALID_OPTION = 5,
  IHP_NVRTC_COMPILATION = 6,
  IHP_NVRTC_BUILTIN_OPERATION_FAILURE = 7,
};

#define IHP_NVRTC_FUNCTIONS(ROW)                                                                   \
  ROW(version, nvrtcVersion, (int *major, int *minor))                                           \
  ROW(architecture_count, nvrtcGetNumSupportedArchs, (int *count))                               \
  ROW(architectures, nvrtcGetSupportedArchs, (int *values))                                      \
  ROW(create, nvrtcCreateProgram,                                                                \
      (ihp_nvrtc_program *program, const char *source, const char *name, int header_count,         \
       const char *const *headers, const char *const *header_names))                               \
  ROW(destroy, nvrtcDestroyProgram, (ihp_nvrtc_program *program))                                \
  ROW(compile, nvrtcCompileProgram,                                                              \
      (ihp_nvrtc_program program, int option_count, const char *const *options))                   \
  ROW(log_size, nvrtcGetProgramLogSize, (ihp_nvrtc_program program, size_t *count))              \
  ROW(log, nvrtcGetProgramLog, (ihp_nvrtc_program program, char *log))                           \
  ROW(cubin_size, nvrtcGetCUBINSize, (ihp_nvrtc_program program, size_t *count))                 \
  ROW(cubin, nvrtcGetCUBIN, (ihp_nvrtc_program program, char *cubin))

#define IHP_NVRTC_FIELD(field, symbol, arguments) ihp_nvrtc_result(*field) arguments;

/// The compiler.
typedef struct {
  IHP_NVRTC_FUNCTIONS(IHP_NVRTC_FIELD)
} ihp_nvrtc;

#endif
