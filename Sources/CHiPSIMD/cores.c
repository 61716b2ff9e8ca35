// SPDX-License-Identifier: Apache-2.0
// Swift's overlay of the C library lacks the calls behind this: they are GNU extensions.
#define _GNU_SOURCE
#include "CHiPSIMD.h"

#if defined(__linux__)

#include <sched.h>

size_t ihp_affinity_count(void) {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? (size_t)CPU_COUNT(&set) : 0;
}

#else

size_t ihp_affinity_count(void) { return 0; }

#endif
