// SPDX-License-Identifier: Apache-2.0
// The matrix units (AMX): eight tiles of 16 rows of 64 bytes. Products take two by two tiles of results in 0 to 3, left
// factors in 4 and 5, right ones in 6 and 7.

/// Rows of a tile, and columns of 4 bytes.
#define TILE_SIDE 16

typedef struct tile_config {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} tile_config;

static const tile_config whole_tiles = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {16, 16, 16, 16, 16, 16, 16, 16},
};

/// A configuration takes as long as a small product: it stays until the thread's loop ends.
static _Thread_local int has_tiles;

INLINE void use_tiles(void) {
  if (has_tiles) return;
  _tile_loadconfig(&whole_tiles);
  has_tiles = 1;
}

/// What tiles hold is saved at every switch of threads.
static void release_tiles(void) {
  if (!has_tiles) return;
  _tile_release();
  has_tiles = 0;
}

/// Tiles of results become zero, or what stands at `c`, in rows `ld` bytes apart; `height` tiles one below the other.
INLINE void begin_tiles(const int height, const void *c, size_t ld, int keep) {
  const uint8_t *below = (const uint8_t *)c + TILE_SIDE * ld;
  if (!keep) {
    _tile_zero(0);
    _tile_zero(1);
    if (height == 2) {
      _tile_zero(2);
      _tile_zero(3);
    }
    return;
  }
  _tile_loadd(0, c, ld);
  _tile_loadd(1, (const uint8_t *)c + 64, ld);
  if (height == 2) {
    _tile_loadd(2, below, ld);
    _tile_loadd(3, below + 64, ld);
  }
}

INLINE void end_tiles(const int height, void *c, size_t ld) {
  uint8_t *below = (uint8_t *)c + TILE_SIDE * ld;
  _tile_stored(0, c, ld);
  _tile_stored(1, (uint8_t *)c + 64, ld);
  if (height == 2) {
    _tile_stored(2, below, ld);
    _tile_stored(3, below + 64, ld);
  }
}

/// Products of tiles in registers, as many as `rounds` of the vectors' would be.
INLINE double tile_peak(ihp_element element, size_t rounds) {
  const size_t products = rounds / 8 + 1;
  use_tiles();
  begin_tiles(2, NULL, 0, 0);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  if (element == IHP_BF16) {
    for (size_t i = 0; i < products; i++) {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  } else {
    for (size_t i = 0; i < products; i++) {
      _tile_dpbssd(0, 4, 6);
      _tile_dpbssd(1, 4, 7);
      _tile_dpbssd(2, 5, 6);
      _tile_dpbssd(3, 5, 7);
    }
  }
  release_tiles();
  return 4.0 * (double)products * 2 * TILE_SIDE * TILE_SIDE * (element == IHP_BF16 ? 32 : 64);
}
