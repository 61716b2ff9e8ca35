// SPDX-License-Identifier: Apache-2.0
// Sums and maxima over the lanes of vectors of sixteen floats.

/// Adds the lanes down to four.
static inline quad fold(vec x) {
  typedef float octet __attribute__((ext_vector_type(8)));
  octet eight = x.lo + x.hi;
  return eight.lo + eight.hi;
}

/// The greatest of lanes four apart.
static inline quad fold_max(vec x) {
  typedef float octet __attribute__((ext_vector_type(8)));
  octet eight = __builtin_elementwise_max(x.lo, x.hi);
  return __builtin_elementwise_max(eight.lo, eight.hi);
}
