// SPDX-License-Identifier: Apache-2.0
// What the package uses of CUDA, as tables of functions that are filled at run time: nothing is linked, and no
// toolkit is needed to build. And the sources of the kernels, embedded.
//
// No function here allocates (but for what opening a library takes), starts a thread or keeps state.
#ifndef CHIPCUDA_H
#define CHIPCUDA_H

#include "ihp_attention_parameters.h"
#include "ihp_driver.h"
#include "ihp_kernel_parameters.h"
#include "ihp_model_parameters.h"
#include "ihp_nvrtc.h"
#include "ihp_plain_parameters.h"

#include <stddef.h>

/// Opens a shared library by its path, or by its name on the loader's path.
/// Null when that fails; `problem` then has the loader's words, as many as fit in `capacity` bytes.
void *ihp_library_open(const char *path, char *problem, size_t capacity);

/// The function of that name in an open library; null where there is none.
void *ihp_library_symbol(void *library, const char *name);

/// The path of the file that holds a function; null where the loader does not know.
const char *ihp_library_path(const void *function);

/// Finds functions by name: `ihp_library_symbol`, or what a test has in its place.
typedef void *(*ihp_symbol_finder)(void *library, const char *name);

/// Fill a table with what a library holds. Null when everything was found, otherwise the name of the first function
/// that is missing.
const char *ihp_driver_fill(ihp_driver *table, ihp_symbol_finder find, void *library);
const char *ihp_nvrtc_fill(ihp_nvrtc *table, ihp_symbol_finder find, void *library);

/// A file of `kernels`, as it was when this was built.
typedef struct {
  /// What `#include` calls it.
  const char *name;
  /// Its text, and a zero behind it.
  const char *text;
  size_t length;
} ihp_kernel_file;

/// All of them; none where the compiler that built this has no `#embed`.
const ihp_kernel_file *ihp_kernel_files(size_t *count);

#endif
