// SPDX-License-Identifier: Apache-2.0
#include "CHiPCUDA.h"

#define REQUIRED(field, symbol, arguments)                                                         \
  *(void **)&table->field = find(library, #symbol);                                                 \
  if (!table->field) return #symbol;
#define OPTIONAL(field, symbol, arguments) *(void **)&table->field = find(library, #symbol);

const char *ihp_driver_fill(ihp_driver *table, ihp_symbol_finder find, void *library) {
  IHP_DRIVER_FUNCTIONS(REQUIRED)
  IHP_DRIVER_OPTIONAL_FUNCTIONS(OPTIONAL)
  return NULL;
}

const char *ihp_nvrtc_fill(ihp_nvrtc *table, ihp_symbol_finder find, void *library) {
  IHP_NVRTC_FUNCTIONS(REQUIRED)
  return NULL;
}
