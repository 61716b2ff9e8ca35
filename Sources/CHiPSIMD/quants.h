// SPDX-License-Identifier: Apache-2.0
// Weights below 8 bits: rows of blocks whose elements are quants times a scale, less a minimum.

/// Elements that are unpacked at a time: a super-block of the K formats.
#define SUPER_BLOCK 256
/// Elements that share a scale at least.
#define QUANT_GROUP 16
#define QUANT_GROUPS (SUPER_BLOCK / QUANT_GROUP)

/// Up to 256 elements of a row: element i is quant[i] * scale[i / 16] - minimum[i / 16].
typedef struct quants {
  uint8_t quant[SUPER_BLOCK] __attribute__((aligned(64)));
  float scale[QUANT_GROUPS] __attribute__((aligned(64)));
  float minimum[QUANT_GROUPS] __attribute__((aligned(64)));
} quants;

typedef uint8_t bytes8 __attribute__((ext_vector_type(8)));
typedef uint8_t bytes32 __attribute__((ext_vector_type(32)));

// Macros: a 32-byte vector as an argument would depend on the instruction set.
#define LOAD_BYTES(name, p)                                                                        \
  bytes32 name;                                                                                    \
  memcpy(&name, p, sizeof name)
#define STORE_BYTES(p, x)                                                                          \
  do {                                                                                             \
    bytes32 stored = x;                                                                            \
    memcpy(p, &stored, sizeof stored);                                                             \
  } while (0)

/// Bytes of a block, elements of a block.
INLINE size_t quant_bytes(ihp_element element) {
  switch (element) {
#define BYTES_ROW(name, number, width, bytes) case IHP_##name: return bytes;
    IHP_QUANT_FORMATS(BYTES_ROW)
#undef BYTES_ROW
  case IHP_F32: case IHP_F16: case IHP_BF16: case IHP_F64: case IHP_Q8_0: break;
  }
  return 0;
}

INLINE size_t quant_width(ihp_element element) {
  switch (element) {
#define WIDTH_ROW(name, number, width, bytes) case IHP_##name: return width;
    IHP_QUANT_FORMATS(WIDTH_ROW)
#undef WIDTH_ROW
  case IHP_F32: case IHP_F16: case IHP_BF16: case IHP_F64: case IHP_Q8_0: break;
  }
  return 1;
}

INLINE uint32_t word_at(const void *p) {
  uint32_t word;
  memcpy(&word, p, sizeof word);
  return word;
}

/// The scale and the minimum of `count` groups from `group` on.
INLINE void set_groups(quants *out, size_t group, size_t count, float scale, float minimum) {
  for (size_t g = group; g < group + count; g++) {
    out->scale[g] = scale;
    out->minimum[g] = minimum;
  }
}

/// Elements 0 ..< 16 and the other 16 of a block of 32. In one piece: a wide load would wait for two stores.
INLINE void store_halves(bytes16 low, bytes16 high, uint8_t *out) {
  STORE_BYTES(out, __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
                                           16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31));
}

INLINE bytes16 load_pairs(const uint8_t *pairs) {
  bytes16 both;
  memcpy(&both, pairs, sizeof both);
  return both;
}

/// 16 bytes of pairs: the low halves are elements 0 ..< 16 of a block of 32, the high ones the rest.
INLINE void unpack_pairs(const uint8_t *pairs, uint8_t *out) {
  bytes16 both = load_pairs(pairs);
  store_halves(both & 15, both >> 4, out);
}

/// 16 where a bit is set.
INLINE bytes16 fifth_bits(const uint8_t bits[2]) {
  const bytes16 places = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  uint16_t both;
  memcpy(&both, bits, sizeof both);
  typedef uint16_t words8 __attribute__((ext_vector_type(8)));
  bytes16 pairs = (bytes16)(words8)both;
  bytes16 each = __builtin_shufflevector(pairs, pairs, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
  return (bytes16)((each & places) != 0) & 16;
}

/// Pairs with bit i of a word as the fifth bit of element i.
INLINE void unpack_fives(const uint8_t *pairs, const uint8_t *bits, uint8_t *out) {
  bytes16 both = load_pairs(pairs);
  store_halves((both & 15) | fifth_bits(bits), (both >> 4) | fifth_bits(bits + 2), out);
}

/// What a code book has for pairs.
INLINE void look_up(const uint8_t book[16], const uint8_t *pairs, uint8_t *out) {
  bytes16 both = load_pairs(pairs), entries = load_pairs(book);
  store_halves(looked_up(entries, both & 15), looked_up(entries, both >> 4), out);
}

/// The values of IQ4_NL and IQ4_XS, plus 127.
#define BOOK_OFFSET_NL 127
static const uint8_t book_nl[16] = {0, 23, 44, 62, 78, 92, 105, 117, 128, 140, 152, 165, 180, 196, 216, 240};
/// Twice the values of MXFP4, plus 12.
#define BOOK_OFFSET_MXFP4 12
static const uint8_t book_mxfp4[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

/// Half of 2^(exponent - 127): zero where single precision has no normal number for it, NaN for the greatest exponent.
INLINE float half_power(uint8_t exponent) {
  uint32_t bits = exponent == 255 ? 0x7fc00000u : exponent < 2 ? 0 : (uint32_t)(exponent - 1) << 23;
  float power;
  memcpy(&power, &bits, sizeof power);
  return power;
}

// MARK: Blocks of 32

static inline void unpack_Q4_0(const uint8_t *block, size_t count, quants *out) {
  for (size_t b = 0; b < count; b++, block += 18) {
    float scale = half_to_float(block);
    set_groups(out, 2 * b, 2, scale, 8 * scale);
    unpack_pairs(block + 2, out->quant + 32 * b);
  }
}

static inline void unpack_Q4_1(const uint8_t *block, size_t count, quants *out) {
  for (size_t b = 0; b < count; b++, block += 20) {
    set_groups(out, 2 * b, 2, half_to_float(block), -half_to_float(block + 2));
    unpack_pairs(block + 4, out->quant + 32 * b);
  }
}

static inline void unpack_Q5_0(const uint8_t *block, size_t count, quants *out) {
  for (size_t b = 0; b < count; b++, block += 22) {
    float scale = half_to_float(block);
    set_groups(out, 2 * b, 2, scale, 16 * scale);
    unpack_fives(block + 6, block + 2, out->quant + 32 * b);
  }
}

static inline void unpack_Q5_1(const uint8_t *block, size_t count, quants *out) {
  for (size_t b = 0; b < count; b++, block += 24) {
    set_groups(out, 2 * b, 2, half_to_float(block), -half_to_float(block + 2));
    unpack_fives(block + 8, block + 4, out->quant + 32 * b);
  }
}

static inline void unpack_Q8_1(const uint8_t *block, size_t count, quants *out) {
  for (size_t b = 0; b < count; b++, block += 36) {
    float scale = half_to_float(block);
    set_groups(out, 2 * b, 2, scale, 128 * scale);
    LOAD_BYTES(quant, block + 4);
    STORE_BYTES(out->quant + 32 * b, quant ^ 128);
  }
}

static inline void unpack_IQ4_NL(const uint8_t *block, size_t count, quants *out) {
  for (size_t b = 0; b < count; b++, block += 18) {
    float scale = half_to_float(block);
    set_groups(out, 2 * b, 2, scale, BOOK_OFFSET_NL * scale);
    look_up(book_nl, block + 2, out->quant + 32 * b);
  }
}

static inline void unpack_MXFP4(const uint8_t *block, size_t count, quants *out) {
  for (size_t b = 0; b < count; b++, block += 17) {
    float scale = half_power(block[0]);
    set_groups(out, 2 * b, 2, scale, BOOK_OFFSET_MXFP4 * scale);
    look_up(book_mxfp4, block + 1, out->quant + 32 * b);
  }
}

// MARK: Super-blocks of 256

/// 8 scales and 8 minima of 6 bits each, in the 12 bytes of Q4_K and Q5_K.
INLINE void unpack_scales(const uint8_t *block, quants *out) {
  uint32_t word[3];
  memcpy(word, block + 4, sizeof word);
  uint32_t packed[4] = {
      word[0] & 0x3f3f3f3fu,
      (word[2] & 0x0f0f0f0fu) | ((word[0] >> 6) & 0x03030303u) << 4,
      word[1] & 0x3f3f3f3fu,
      ((word[2] >> 4) & 0x0f0f0f0fu) | ((word[1] >> 6) & 0x03030303u) << 4,
  };
  typedef float floats16 __attribute__((ext_vector_type(16)));
  bytes16 six;
  memcpy(&six, packed, sizeof six);
  floats16 both = __builtin_convertvector(six, floats16);
  floats16 scale = __builtin_shufflevector(both, both, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6,
                                           7, 7) *
                   half_to_float(block);
  floats16 minimum = __builtin_shufflevector(both, both, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13,
                                             14, 14, 15, 15) *
                     half_to_float(block + 2);
  memcpy(out->scale, &scale, sizeof scale);
  memcpy(out->minimum, &minimum, sizeof minimum);
}

static inline void unpack_Q2_K(const uint8_t *block, size_t count, quants *out) {
  (void)count;
  float scale = half_to_float(block + 80), minimum = half_to_float(block + 82);
  for (size_t g = 0; g < 16; g++)
    set_groups(out, g, 1, scale * (float)(block[g] & 15), minimum * (float)(block[g] >> 4));
  for (size_t half = 0; half < 2; half++) {
    LOAD_BYTES(pairs, block + 16 + 32 * half);
    for (size_t j = 0; j < 4; j++, pairs >>= 2)
      STORE_BYTES(out->quant + 128 * half + 32 * j, pairs & 3);
  }
}

static inline void unpack_Q3_K(const uint8_t *block, size_t count, quants *out) {
  (void)count;
  float scale = half_to_float(block + 108);
  uint32_t word[3] = {word_at(block + 96), word_at(block + 100), word_at(block + 104)};
  uint32_t packed[4] = {
      (word[0] & 0x0f0f0f0fu) | (word[2] & 0x03030303u) << 4,
      (word[1] & 0x0f0f0f0fu) | ((word[2] >> 2) & 0x03030303u) << 4,
      ((word[0] >> 4) & 0x0f0f0f0fu) | ((word[2] >> 4) & 0x03030303u) << 4,
      ((word[1] >> 4) & 0x0f0f0f0fu) | ((word[2] >> 6) & 0x03030303u) << 4,
  };
  uint8_t six[16];
  memcpy(six, packed, sizeof six);
  for (size_t g = 0; g < 16; g++) {
    float own = scale * ((float)six[g] - 32);
    set_groups(out, g, 1, own, 4 * own);
  }
  LOAD_BYTES(third, block);
  for (size_t half = 0; half < 2; half++) {
    LOAD_BYTES(pairs, block + 32 + 32 * half);
    for (size_t j = 0; j < 4; j++, pairs >>= 2, third >>= 1)
      STORE_BYTES(out->quant + 128 * half + 32 * j, (pairs & 3) | (third & 1) << 2);
  }
}

static inline void unpack_Q4_K(const uint8_t *block, size_t count, quants *out) {
  (void)count;
  unpack_scales(block, out);
  for (size_t j = 0; j < 4; j++) {
    LOAD_BYTES(pairs, block + 16 + 32 * j);
    STORE_BYTES(out->quant + 64 * j, pairs & 15);
    STORE_BYTES(out->quant + 64 * j + 32, pairs >> 4);
  }
}

static inline void unpack_Q5_K(const uint8_t *block, size_t count, quants *out) {
  (void)count;
  unpack_scales(block, out);
  LOAD_BYTES(fifth, block + 16);
  for (size_t j = 0; j < 4; j++) {
    LOAD_BYTES(pairs, block + 48 + 32 * j);
    STORE_BYTES(out->quant + 64 * j, (pairs & 15) | (fifth & 1) << 4);
    STORE_BYTES(out->quant + 64 * j + 32, (pairs >> 4) | ((fifth >> 1) & 1) << 4);
    fifth >>= 2;
  }
}

static inline void unpack_Q6_K(const uint8_t *block, size_t count, quants *out) {
  (void)count;
  for (size_t j = 0; j < 2; j++) {
    LOAD_BYTES(low, block + 64 * j);
    LOAD_BYTES(next, block + 64 * j + 32);
    LOAD_BYTES(top, block + 128 + 32 * j);
    uint8_t *to = out->quant + 128 * j;
    STORE_BYTES(to, (low & 15) | (top & 3) << 4);
    STORE_BYTES(to + 32, (next & 15) | ((top >> 2) & 3) << 4);
    STORE_BYTES(to + 64, (low >> 4) | ((top >> 4) & 3) << 4);
    STORE_BYTES(to + 96, (next >> 4) | (top >> 6) << 4);
  }
  float scale = half_to_float(block + 208);
  for (int g = 0; g < QUANT_GROUPS; g += LANES) {
    vec own = widen_bytes((const int8_t *)block + 192 + g) * scale;
    store(out->scale + g, own);
    store(out->minimum + g, own * 32.0f);
  }
}

static inline void unpack_IQ4_XS(const uint8_t *block, size_t count, quants *out) {
  (void)count;
  float scale = half_to_float(block);
  uint16_t high;
  memcpy(&high, block + 2, sizeof high);
  for (size_t b = 0; b < 8; b++) {
    int six = (block[4 + b / 2] >> (b % 2 * 4) & 15) | (high >> (2 * b) & 3) << 4;
    float own = scale * (float)(six - 32);
    set_groups(out, 2 * b, 2, own, BOOK_OFFSET_NL * own);
    look_up(book_nl, block + 8 + 16 * b, out->quant + 32 * b);
  }
}

static inline void unpack_TQ2_0(const uint8_t *block, size_t count, quants *out) {
  (void)count;
  float scale = half_to_float(block + 64);
  set_groups(out, 0, 16, scale, scale);
  for (size_t half = 0; half < 2; half++) {
    LOAD_BYTES(pairs, block + 32 * half);
    for (size_t j = 0; j < 4; j++, pairs >>= 2)
      STORE_BYTES(out->quant + 128 * half + 32 * j, pairs & 3);
  }
}

static inline void unpack_TQ1_0(const uint8_t *block, size_t count, quants *out) {
  (void)count;
  float scale = half_to_float(block + 52);
  set_groups(out, 0, 16, scale, scale);
  static const uint8_t powers[5] = {1, 3, 9, 27, 81};
  // The leading digit to base 3 of a number below 243, of which a byte holds 256 / 243.
#define TRITS(from, size, digits)                                                                  \
  for (size_t n = 0; n < digits; n++)                                                              \
    for (size_t i = 0; i < size; i++)                                                              \
      *to++ = (uint8_t)((uint16_t)(uint8_t)(block[from + i] * powers[n]) * 3 >> 8)
  uint8_t *to = out->quant;
  TRITS(0, 32, 5);
  TRITS(32, 16, 5);
  TRITS(48, 4, 4);
#undef TRITS
}

#include "grids.h"
#include "grid_quants.h"

/// Elements `first` ..< `first + width` of a row, both multiples of the block; the rest is zero.
INLINE void unpack(ihp_element element, const uint8_t *row, size_t first, size_t width,
                   quants *out) {
  const uint8_t *block = row + first / quant_width(element) * quant_bytes(element);
  if (quant_width(element) < SUPER_BLOCK && width < SUPER_BLOCK) memset(out, 0, sizeof *out);
  switch (element) {
#define UNPACK_ROW(name, number, elements, bytes)                                                  \
  case IHP_##name: unpack_##name(block, width / elements, out); break;
    IHP_QUANT_FORMATS(UNPACK_ROW)
#undef UNPACK_ROW
  case IHP_F32: case IHP_F16: case IHP_BF16: case IHP_F64: case IHP_Q8_0: break;
  }
}

/// Elements of a row as float32.
INLINE void widen_quants(ihp_element element, const uint8_t *row, size_t first, size_t n,
                         float *out) {
  quants d;
  for (size_t done = 0; done < n; done += SUPER_BLOCK) {
    size_t width = n - done < SUPER_BLOCK ? n - done : SUPER_BLOCK;
    unpack(element, row, first + done, width, &d);
    for (size_t i = 0; i < width; i += LANES) {
      typedef uint8_t bvec __attribute__((ext_vector_type(LANES)));
      bvec bytes;
      memcpy(&bytes, d.quant + i, sizeof bytes);
      vec quant = __builtin_convertvector(bytes, vec);
      store(out + done + i, quant * d.scale[i / QUANT_GROUP] - d.minimum[i / QUANT_GROUP]);
    }
  }
}
