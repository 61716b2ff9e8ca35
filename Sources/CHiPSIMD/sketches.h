// SPDX-License-Identifier: Apache-2.0
// Sketches of keys: how their groups are written and found.

/// Keys of a group, which lie side by side so that one load brings four elements of each.
#define GROUP IHP_GROUP
#define GROUP_HEADER (GROUP * 4)

INLINE float bfloat_to_float(const uint8_t *p) {
  uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

INLINE float rounded_to_bfloat(float x, uint8_t *p) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x7fffu + ((bits >> 16) & 1)) >> 16;
  p[0] = (uint8_t)bits;
  p[1] = (uint8_t)(bits >> 8);
  return bfloat_to_float(p);
}

static void quantize_key(const float *key, size_t n, uint8_t *group, size_t place) {
  float low = key[0], high = key[0];
  for (size_t i = 1; i < n; i++) {
    low = key[i] < low ? key[i] : low;
    high = key[i] > high ? key[i] : high;
  }
  float scale = rounded_to_bfloat((high - low) / 15.0f, group + place * 2);
  low = rounded_to_bfloat(low, group + (GROUP + place) * 2);
  for (size_t i = 0; i < n; i += 8) {
    uint8_t *out = group + GROUP_HEADER + i / 8 * GROUP * 4 + place * 4;
    uint8_t quants[8];
    for (size_t j = 0; j < 8; j++) {
      float x = scale > 0 ? (key[i + j] - low) / scale + 0.5f : 0.0f;
      quants[j] = (uint8_t)(!(x > 0) ? 0 : x > 15 ? 15 : x);
    }
    for (size_t j = 0; j < 4; j++) out[j] = (uint8_t)(quants[j] | quants[4 + j] << 4);
  }
}

/// What comes before the elements of a group of means.
#define MEAN_HEADER (GROUP * 2)

static void quantize_mean(const float *mean, size_t n, uint8_t *group, size_t place) {
  float most = 0;
  for (size_t i = 0; i < n; i++) most = fabsf(mean[i]) > most ? fabsf(mean[i]) : most;
  float scale = rounded_to_bfloat(most / 127.0f, group + place * 2);
  uint8_t *out = group + MEAN_HEADER + place * 4;
  for (size_t i = 0; i < n; i += 4)
    for (size_t j = 0; j < 4; j++) {
      float whole = scale > 0 ? floorf(mean[i + j] / scale + 0.5f) + 128.0f : 128.0f;
      out[i / 4 * GROUP * 4 + j] = (uint8_t)(!(whole > 0) ? 0 : whole > 255 ? 255 : whole);
    }
}

/// A query that is prepared for scoring: what its elements are multiplied by, their sum, 128 times
/// the sum of what they are stored as, then the elements.
#define QUERY_HEADER IHP_QUERY_HEADER

typedef float gvec __attribute__((ext_vector_type(GROUP)));

INLINE void load_group(const uint8_t *p, gvec *out) {
  typedef uint16_t bits16 __attribute__((ext_vector_type(GROUP)));
  typedef uint32_t bits32 __attribute__((ext_vector_type(GROUP)));
  bits16 bits;
  memcpy(&bits, p, sizeof bits);
  *out = (gvec)(__builtin_convertvector(bits, bits32) << 16);
}

INLINE const uint8_t *group_address(const ihp_rows *groups, const int32_t *firsts, size_t i) {
  return row_address(groups, (size_t)firsts[i] / GROUP);
}

/// Bytes between what is scored and what is prefetched.
#define BYTES_AHEAD 8192

/// The two groups that come BYTES_AHEAD after group `g`, or right after it and the next; at the end
/// group `g` again.
INLINE void groups_ahead(const ihp_rows *groups, const int32_t *firsts, size_t g, size_t known,
                         size_t row_bytes, const uint8_t *ahead[2]) {
  size_t distance = BYTES_AHEAD / (GROUP_HEADER + row_bytes * GROUP);
  size_t next = g + (distance < 2 ? 2 : distance);
  for (size_t i = 0; i < 2; i++)
    ahead[i] = group_address(groups, firsts, next + i < known ? next + i : g);
}

#if IN_INTEGERS
#include "scores_bytes.h"
#else
#include "scores_f32.h"
#endif

#define PANEL_GROUPS (IHP_PANEL / GROUP)

/// Tiles of means between the one that is packed and what is prefetched.
#define PANELS_AHEAD 2

/// Bytes of a panel of `pack_coarse`.
INLINE size_t coarse_panel_bytes(size_t head_size) {
  return COARSE_BYTES * head_size * IHP_PANEL + IHP_PANEL * sizeof(float);
}

/// The means of PANEL_GROUPS groups from `first` on as a panel of `pack_coarse`; behind the last group stands that group.
INLINE void pack_means(const ihp_rows *groups, const int32_t *firsts, size_t first, size_t known, size_t head_size,
                       void *panel) {
  for (size_t i = 0; i < PANEL_GROUPS; i++) {
    const size_t g = first + i, last = known - 1, next = g + PANELS_AHEAD * PANEL_GROUPS;
    const uint8_t *ahead = group_address(groups, firsts, next < last ? next : last);
    for (size_t line = 0; line < MEAN_HEADER + GROUP * head_size; line += CACHE_LINE) __builtin_prefetch(ahead + line);
    pack_group(group_address(groups, firsts, g < last ? g : last), head_size, panel, i * GROUP);
  }
}
