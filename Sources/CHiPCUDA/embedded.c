// SPDX-License-Identifier: Apache-2.0
// The files of `kernels`, one by one; what is not named here is not shipped.
#include "CHiPCUDA.h"

#ifdef __has_embed

#pragma clang diagnostic ignored "-Wc23-extensions"

static const char parameters[] = {
#embed "include/ihp_kernel_parameters.h" suffix(, 0)
};
static const char elements[] = {
#embed "kernels/elements.cuh" suffix(, 0)
};
static const char rows[] = {
#embed "kernels/rows.cu" suffix(, 0)
};

#define FILE_OF(name, text) {name, text, sizeof text - 1}
static const ihp_kernel_file files[] = {
    FILE_OF("ihp_kernel_parameters.h", parameters),
    FILE_OF("elements.cuh", elements),
    FILE_OF("rows.cu", rows),
};

const ihp_kernel_file *ihp_kernel_files(size_t *count) {
  *count = sizeof files / sizeof files[0];
  return files;
}

#else

const ihp_kernel_file *ihp_kernel_files(size_t *count) {
  *count = 0;
  return NULL;
}

#endif
