// SPDX-License-Identifier: Apache-2.0
// The loader: here and not in Swift because `dladdr` and its structure hide behind feature macros.
#define _GNU_SOURCE
#include "CHiPCUDA.h"

#include <dlfcn.h>
#include <stdio.h>

void *ihp_library_open(const char *path, char *problem, size_t capacity) {
  // Never closed: drivers keep threads and handlers of their own.
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *words = dlerror();
    snprintf(problem, capacity, "%s", words ? words : "unknown problem");
  }
  return library;
}

void *ihp_library_symbol(void *library, const char *name) { return dlsym(library, name); }

const char *ihp_library_path(const void *function) {
  Dl_info info;
  return dladdr(function, &info) ? info.dli_fname : NULL;
}
