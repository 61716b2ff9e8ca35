// SPDX-License-Identifier: Apache-2.0
// Rows of weights of every element type, 16 elements at a time: what `quants.h` and `grid_quants.h` are to the CPU.
//
// Macros: WEIGHT, the number below of the type that is compiled.
//
// A tensor begins at a multiple of 16 bytes. Its blocks then lie at multiples of the greatest power of two that divides
// their size, up to 16, and are read in words of that; rows of single elements need not, and are looked at.
#pragma once

#include "elements.cuh"

// The numbers that GGUF files have for them, as in `ihp_element`.
#define WEIGHT_F32 0
#define WEIGHT_F16 1
#define WEIGHT_Q4_0 2
#define WEIGHT_Q4_1 3
#define WEIGHT_Q5_0 6
#define WEIGHT_Q5_1 7
#define WEIGHT_Q8_0 8
#define WEIGHT_Q8_1 9
#define WEIGHT_Q2_K 10
#define WEIGHT_Q3_K 11
#define WEIGHT_Q4_K 12
#define WEIGHT_Q5_K 13
#define WEIGHT_Q6_K 14
#define WEIGHT_IQ2_XXS 16
#define WEIGHT_IQ2_XS 17
#define WEIGHT_IQ3_XXS 18
#define WEIGHT_IQ1_S 19
#define WEIGHT_IQ4_NL 20
#define WEIGHT_IQ3_S 21
#define WEIGHT_IQ2_S 22
#define WEIGHT_IQ4_XS 23
#define WEIGHT_F64 28
#define WEIGHT_IQ1_M 29
#define WEIGHT_BF16 30
#define WEIGHT_TQ1_0 34
#define WEIGHT_TQ2_0 35
#define WEIGHT_MXFP4 39

/// Whether elements stand alone, instead of in blocks behind a scale.
#define WEIGHT_IS_PLAIN \
  (WEIGHT == WEIGHT_F32 || WEIGHT == WEIGHT_F16 || WEIGHT == WEIGHT_BF16 || WEIGHT == WEIGHT_F64)

// Elements of a block and its bytes.
#if WEIGHT == WEIGHT_F64
constexpr int kWeightBlock = 1, kWeightBlockBytes = 8;
#elif WEIGHT == WEIGHT_F32
constexpr int kWeightBlock = 1, kWeightBlockBytes = 4;
#elif WEIGHT == WEIGHT_F16 || WEIGHT == WEIGHT_BF16
constexpr int kWeightBlock = 1, kWeightBlockBytes = 2;
#elif WEIGHT == WEIGHT_MXFP4
constexpr int kWeightBlock = 32, kWeightBlockBytes = 17;
#elif WEIGHT == WEIGHT_Q4_0 || WEIGHT == WEIGHT_IQ4_NL
constexpr int kWeightBlock = 32, kWeightBlockBytes = 18;
#elif WEIGHT == WEIGHT_Q4_1
constexpr int kWeightBlock = 32, kWeightBlockBytes = 20;
#elif WEIGHT == WEIGHT_Q5_0
constexpr int kWeightBlock = 32, kWeightBlockBytes = 22;
#elif WEIGHT == WEIGHT_Q5_1
constexpr int kWeightBlock = 32, kWeightBlockBytes = 24;
#elif WEIGHT == WEIGHT_Q8_0
constexpr int kWeightBlock = 32, kWeightBlockBytes = 34;
#elif WEIGHT == WEIGHT_Q8_1
constexpr int kWeightBlock = 32, kWeightBlockBytes = 36;
#elif WEIGHT == WEIGHT_IQ1_S
constexpr int kWeightBlock = 256, kWeightBlockBytes = 50;
#elif WEIGHT == WEIGHT_TQ1_0
constexpr int kWeightBlock = 256, kWeightBlockBytes = 54;
#elif WEIGHT == WEIGHT_IQ1_M
constexpr int kWeightBlock = 256, kWeightBlockBytes = 56;
#elif WEIGHT == WEIGHT_IQ2_XXS || WEIGHT == WEIGHT_TQ2_0
constexpr int kWeightBlock = 256, kWeightBlockBytes = 66;
#elif WEIGHT == WEIGHT_IQ2_XS
constexpr int kWeightBlock = 256, kWeightBlockBytes = 74;
#elif WEIGHT == WEIGHT_IQ2_S
constexpr int kWeightBlock = 256, kWeightBlockBytes = 82;
#elif WEIGHT == WEIGHT_Q2_K
constexpr int kWeightBlock = 256, kWeightBlockBytes = 84;
#elif WEIGHT == WEIGHT_IQ3_XXS
constexpr int kWeightBlock = 256, kWeightBlockBytes = 98;
#elif WEIGHT == WEIGHT_Q3_K || WEIGHT == WEIGHT_IQ3_S
constexpr int kWeightBlock = 256, kWeightBlockBytes = 110;
#elif WEIGHT == WEIGHT_IQ4_XS
constexpr int kWeightBlock = 256, kWeightBlockBytes = 136;
#elif WEIGHT == WEIGHT_Q4_K
constexpr int kWeightBlock = 256, kWeightBlockBytes = 144;
#elif WEIGHT == WEIGHT_Q5_K
constexpr int kWeightBlock = 256, kWeightBlockBytes = 176;
#elif WEIGHT == WEIGHT_Q6_K
constexpr int kWeightBlock = 256, kWeightBlockBytes = 210;
#else
#error "WEIGHT is none of the types above"
#endif

/// Bytes of a row.
__device__ __forceinline__ constexpr long long weight_row_bytes(int columns) {
  return (long long)(columns / kWeightBlock) * kWeightBlockBytes;
}

#if WEIGHT_IS_PLAIN

// MARK: Single elements

#if WEIGHT == WEIGHT_F64
typedef double WeightElement;
#elif WEIGHT == WEIGHT_F32
typedef float WeightElement;
#elif WEIGHT == WEIGHT_BF16
typedef BFloat16 WeightElement;
#else
typedef Half WeightElement;
#endif

__device__ __forceinline__ float widen(double value) { return (float)value; }

/// The 16 elements from `first` (a multiple of 16) on of the row at `row`; zero from `columns` on.
__device__ __forceinline__ void unpack(const unsigned char *row, int first, int columns, float (&out)[16]) {
  const WeightElement *elements = (const WeightElement *)row + first;
  constexpr int loads = (int)sizeof(WeightElement);
  // Single loads where a row of odd length has moved its neighbours off the places of wide ones.
  if (first + 16 <= columns && (unsigned long long)elements % 16 == 0) {
    uint4 wide[loads];
#pragma unroll
    for (int load = 0; load < loads; load++) wide[load] = ((const uint4 *)elements)[load];
#pragma unroll
    for (int load = 0; load < loads; load++) {
      const unsigned words[4] = {wide[load].x, wide[load].y, wide[load].z, wide[load].w};
#pragma unroll
      for (int word = 0; word < 4; word++) {
#if WEIGHT == WEIGHT_F64
        if (word % 2 == 0) {
          const unsigned long long bits = words[word] | (unsigned long long)words[word + 1] << 32;
          out[2 * load + word / 2] = widen(__longlong_as_double((long long)bits));
        }
#elif WEIGHT == WEIGHT_F32
        out[4 * load + word] = __uint_as_float(words[word]);
#else
        out[8 * load + 2 * word] = widen(WeightElement{(unsigned short)words[word]});
        out[8 * load + 2 * word + 1] = widen(WeightElement{(unsigned short)(words[word] >> 16)});
#endif
      }
    }
  } else {
#pragma unroll
    for (int i = 0; i < 16; i++) out[i] = first + i < columns ? widen(elements[i]) : 0.f;
  }
}

#else

// MARK: Quants

/// 16 elements of a row: element i is (byte i - kQuantOffset) * scale - minimum.
struct Quants {
  unsigned bytes[4];
  float scale, minimum;
};

#if WEIGHT == WEIGHT_Q4_0
constexpr int kQuantOffset = 8;
#elif WEIGHT == WEIGHT_Q5_0
constexpr int kQuantOffset = 16;
#elif WEIGHT == WEIGHT_Q8_0 || WEIGHT == WEIGHT_Q8_1
constexpr int kQuantOffset = 128;
#elif WEIGHT == WEIGHT_Q3_K
constexpr int kQuantOffset = 4;
#elif WEIGHT == WEIGHT_Q6_K
constexpr int kQuantOffset = 32;
#elif WEIGHT == WEIGHT_IQ4_NL || WEIGHT == WEIGHT_IQ4_XS
constexpr int kQuantOffset = 127;
#elif WEIGHT == WEIGHT_MXFP4
constexpr int kQuantOffset = 12;
#elif WEIGHT == WEIGHT_IQ2_XXS || WEIGHT == WEIGHT_IQ2_XS || WEIGHT == WEIGHT_IQ2_S
constexpr int kQuantOffset = 43;
#elif WEIGHT == WEIGHT_IQ3_XXS
constexpr int kQuantOffset = 62;
#elif WEIGHT == WEIGHT_IQ3_S
constexpr int kQuantOffset = 15;
#elif WEIGHT == WEIGHT_IQ1_M
constexpr int kQuantOffset = 9;
#elif WEIGHT == WEIGHT_TQ1_0 || WEIGHT == WEIGHT_TQ2_0
constexpr int kQuantOffset = 1;
#else
constexpr int kQuantOffset = 0;
#endif

/// What a block's address is a multiple of.
constexpr int kWeightAlignment = kWeightBlockBytes % 16 == 0 ? 16 : kWeightBlockBytes & -kWeightBlockBytes;

__device__ __forceinline__ unsigned pair_at(const unsigned char *at) {
  if constexpr (kWeightAlignment == 1) return at[0] | (unsigned)at[1] << 8;
  else return *(const unsigned short *)at;
}

__device__ __forceinline__ unsigned word_at(const unsigned char *at) {
  if constexpr (kWeightAlignment >= 4) return *(const unsigned *)at;
  else return pair_at(at) | pair_at(at + 2) << 16;
}

__device__ __forceinline__ float half_at(const unsigned char *at) { return widen(Half{(unsigned short)pair_at(at)}); }

/// 16 bytes whose distance from their block is a multiple of the alignment.
__device__ __forceinline__ void load_bytes(const unsigned char *at, unsigned (&bytes)[4]) {
  if constexpr (kWeightAlignment == 16) {
    const uint4 all = *(const uint4 *)at;
    bytes[0] = all.x, bytes[1] = all.y, bytes[2] = all.z, bytes[3] = all.w;
  } else if constexpr (kWeightAlignment == 8) {
    const uint2 low = *(const uint2 *)at, high = *(const uint2 *)(at + 8);
    bytes[0] = low.x, bytes[1] = low.y, bytes[2] = high.x, bytes[3] = high.y;
  } else if constexpr (kWeightAlignment == 4) {
#pragma unroll
    for (int i = 0; i < 4; i++) bytes[i] = ((const unsigned *)at)[i];
  } else {
    // Four aligned words from the address or up to three bytes before it, which the tensor has since it is aligned
    // itself, and what is left behind them, which is not read in words: the row may end there.
    const unsigned ahead = (unsigned long long)at & 3;
    const unsigned *aligned = (const unsigned *)(at - ahead);
    unsigned words[5];
#pragma unroll
    for (int i = 0; i < 4; i++) words[i] = aligned[i];
    if constexpr (kWeightAlignment == 2) words[4] = *(const unsigned short *)(at + 14);
    else
      words[4] = (at[13] | (unsigned)at[14] << 8 | (unsigned)at[15] << 16) >> (8 * (3 - ahead));
#pragma unroll
    for (int i = 0; i < 4; i++) bytes[i] = __funnelshift_r(words[i], words[i + 1], 8 * ahead);
  }
}

/// Bit i of four in the lowest bit of byte i.
__device__ __forceinline__ unsigned spread(unsigned four) { return (four & 15) * 0x00204081u & 0x01010101u; }

/// Entries 0 ..< 16 of a code book of bytes, in four words, at the digits in four bytes.
__device__ __forceinline__ unsigned looked_up(
    unsigned digits, unsigned first, unsigned second, unsigned third, unsigned fourth) {
  // One digit in four bits each, as permutations of bytes take them; of 8 bytes at a time, so that the two halves of
  // the book are looked up both.
  const unsigned packed = __byte_perm(digits | digits >> 4, 0, 0x4420);
  const unsigned low = __byte_perm(first, second, packed & 0x7777);
  const unsigned high = __byte_perm(third, fourth, packed & 0x7777);
  return __byte_perm(low, high, 0x3210 | (packed & 0x8888) >> 1);
}

#if WEIGHT == WEIGHT_IQ4_NL || WEIGHT == WEIGHT_IQ4_XS
/// The values of the code book, plus 127: 0, 23, 44, 62, 78, 92, 105, 117, 128, 140, 152, 165, 180, 196, 216, 240.
__device__ __forceinline__ unsigned book_entries(unsigned digits) {
  return looked_up(digits, 0x3e2c1700u, 0x75695c4eu, 0xa5988c80u, 0xf0d8c4b4u);
}
#endif

#if WEIGHT == WEIGHT_MXFP4
/// Twice the values of 4-bit floating point, plus 12: 12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0.
__device__ __forceinline__ unsigned book_entries(unsigned digits) {
  return looked_up(digits, 0x0f0e0d0cu, 0x18141210u, 0x090a0b0cu, 0x00040608u);
}

/// Half of 2^(exponent - 127): zero where single precision has no normal number for it, NaN for the greatest exponent.
__device__ __forceinline__ float half_power(unsigned exponent) {
  return __uint_as_float(exponent == 255 ? 0x7fc00000u : exponent < 2 ? 0 : (exponent - 1) << 23);
}
#endif

#if WEIGHT == WEIGHT_Q4_K || WEIGHT == WEIGHT_Q5_K
/// The scale and the minimum of part 0 ..< 8, of 32 elements, from 6 bits each behind two factors.
__device__ __forceinline__ void set_scales(const unsigned char *block, int part, Quants &out) {
  unsigned header[4];
  load_bytes(block, header);
  const int shift = 8 * (part % 4);
  const unsigned a = header[1] >> shift, b = header[2] >> shift, c = header[3] >> shift;
  const unsigned scale = part < 4 ? a & 63 : (c & 15) | (a >> 2 & 0x30);
  const unsigned minimum = part < 4 ? b & 63 : (c >> 4 & 15) | (b >> 2 & 0x30);
  out.scale = widen(Half{(unsigned short)header[0]}) * (float)scale;
  out.minimum = widen(Half{(unsigned short)(header[0] >> 16)}) * (float)minimum;
}
#endif

// MARK: Grids

#if WEIGHT == WEIGHT_IQ2_XXS || WEIGHT == WEIGHT_IQ2_XS || WEIGHT == WEIGHT_IQ2_S || WEIGHT == WEIGHT_IQ3_XXS || \
    WEIGHT == WEIGHT_IQ3_S || WEIGHT == WEIGHT_IQ1_S || WEIGHT == WEIGHT_IQ1_M

typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
// The CPU's table, in global memory: threads of a warp take different points, which constant memory serves in turn.
#include "grids.h"

__device__ __forceinline__ void put_point(uint64_t point, int half, unsigned (&bytes)[4]) {
  bytes[2 * half] = (unsigned)point;
  bytes[2 * half + 1] = (unsigned)(point >> 32);
}

/// The eight signs of which seven are stored: their number is even.
__device__ __forceinline__ unsigned even_eight(unsigned sevens) {
  return (sevens & 127) | (__popc(sevens & 127) & 1) << 7;
}

/// Makes elements negative whose bits in `signs` are set, and adds the offset: no byte borrows from the next one.
__device__ __forceinline__ void put_signs(unsigned signs, unsigned (&bytes)[4]) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const unsigned negative = spread(signs >> (4 * i)) * 255;
    bytes[i] = kQuantOffset * 0x01010101u + (bytes[i] & ~negative) - (bytes[i] & negative);
  }
}

#endif

/// The 16 elements from `first` (a multiple of 16) on of the row at `row`.
__device__ __forceinline__ void load_quants(const unsigned char *row, int first, Quants &out) {
  const unsigned char *block = row + (long long)((unsigned)first / kWeightBlock) * kWeightBlockBytes;
  // Of a block of 32: which half. Of 256: which group of 16; part b is of 32, with halves h.
  const int g = (unsigned)first % kWeightBlock / 16, b = g / 2, h = g % 2;
  unsigned(&bytes)[4] = out.bytes;
  (void)b, (void)h;
  out.minimum = 0;

#define EACH_WORD(value)      \
  _Pragma("unroll")           \
  for (int i = 0; i < 4; i++) \
    bytes[i] = value

#if WEIGHT == WEIGHT_Q4_0
  load_bytes(block + 2, bytes);
  EACH_WORD(bytes[i] >> (4 * g) & 0x0f0f0f0fu);
  out.scale = half_at(block);

#elif WEIGHT == WEIGHT_Q4_1
  load_bytes(block + 4, bytes);
  EACH_WORD(bytes[i] >> (4 * g) & 0x0f0f0f0fu);
  out.scale = half_at(block);
  out.minimum = -half_at(block + 2);

#elif WEIGHT == WEIGHT_Q5_0 || WEIGHT == WEIGHT_Q5_1
  constexpr int header = WEIGHT == WEIGHT_Q5_0 ? 2 : 4;
  const unsigned fifth = pair_at(block + header + 2 * g);
  load_bytes(block + header + 4, bytes);
  EACH_WORD((bytes[i] >> (4 * g) & 0x0f0f0f0fu) | spread(fifth >> (4 * i)) << 4);
  out.scale = half_at(block);
  if (WEIGHT == WEIGHT_Q5_1) out.minimum = -half_at(block + 2);

#elif WEIGHT == WEIGHT_Q8_0 || WEIGHT == WEIGHT_Q8_1
  load_bytes(block + (WEIGHT == WEIGHT_Q8_0 ? 2 : 4) + 16 * g, bytes);
  EACH_WORD(bytes[i] ^ 0x80808080u);
  out.scale = half_at(block);

#elif WEIGHT == WEIGHT_IQ4_NL
  load_bytes(block + 2, bytes);
  EACH_WORD(book_entries(bytes[i] >> (4 * g) & 0x0f0f0f0fu));
  out.scale = half_at(block);

#elif WEIGHT == WEIGHT_MXFP4
  load_bytes(block + 1, bytes);
  EACH_WORD(book_entries(bytes[i] >> (4 * g) & 0x0f0f0f0fu));
  out.scale = half_power(block[0]);

#elif WEIGHT == WEIGHT_Q2_K
  load_bytes(block + 16 + 32 * (g / 8) + 16 * h, bytes);
  EACH_WORD(bytes[i] >> (2 * (b % 4)) & 0x03030303u);
  const unsigned factors = block[g], halves = word_at(block + 80);
  out.scale = widen(Half{(unsigned short)halves}) * (float)(factors & 15);
  out.minimum = widen(Half{(unsigned short)(halves >> 16)}) * (float)(factors >> 4);

#elif WEIGHT == WEIGHT_Q3_K
  unsigned third[4];
  load_bytes(block + 16 * h, third);
  load_bytes(block + 32 + 32 * (g / 8) + 16 * h, bytes);
  EACH_WORD((bytes[i] >> (2 * (b % 4)) & 0x03030303u) | (third[i] >> b & 0x01010101u) << 2);
  const int low = block[96 + g % 8] >> (4 * (g / 8)) & 15, high = block[104 + g % 4] >> (2 * (g / 4)) & 3;
  out.scale = half_at(block + 108) * (float)((low | high << 4) - 32);

#elif WEIGHT == WEIGHT_Q4_K
  load_bytes(block + 16 + 32 * (g / 4) + 16 * h, bytes);
  EACH_WORD(bytes[i] >> (4 * (b % 2)) & 0x0f0f0f0fu);
  set_scales(block, b, out);

#elif WEIGHT == WEIGHT_Q5_K
  unsigned fifth[4];
  load_bytes(block + 16 + 16 * h, fifth);
  load_bytes(block + 48 + 32 * (g / 4) + 16 * h, bytes);
  EACH_WORD((bytes[i] >> (4 * (b % 2)) & 0x0f0f0f0fu) | (fifth[i] >> b & 0x01010101u) << 4);
  set_scales(block, b, out);

#elif WEIGHT == WEIGHT_Q6_K
  unsigned top[4];
  load_bytes(block + 128 + 32 * (g / 8) + 16 * h, top);
  load_bytes(block + 64 * (g / 8) + 32 * (b % 2) + 16 * h, bytes);
  EACH_WORD((bytes[i] >> (4 * (b % 4 / 2)) & 0x0f0f0f0fu) | (top[i] >> (2 * (b % 4)) & 0x03030303u) << 4);
  out.scale = half_at(block + 208) * (float)(signed char)block[192 + g];

#elif WEIGHT == WEIGHT_IQ4_XS
  load_bytes(block + 8 + 16 * b, bytes);
  EACH_WORD(book_entries(bytes[i] >> (4 * h) & 0x0f0f0f0fu));
  const int low = block[4 + b / 2] >> (4 * (b % 2)) & 15, high = (int)(pair_at(block + 2) >> (2 * b) & 3);
  out.scale = half_at(block) * (float)((low | high << 4) - 32);

#elif WEIGHT == WEIGHT_TQ1_0
  // Five digits to base 3 in a byte: 0 ..< 160 and 160 ..< 240 the first to the fifth of 32 and 16 bytes, the rest four
  // of four.
  if (g < 15) load_bytes(block + (g < 10 ? 16 * h : 32), bytes);
  else EACH_WORD(word_at(block + 48));
  const int digit = g < 10 ? b : g - 10;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int n = g < 15 ? digit : i;
    const unsigned power = n == 4 ? 81 : 0x1b090301u >> (8 * n) & 255;
    // The leading digit of a number below 243, of which a byte holds 256 / 243; two bytes at a time.
    const unsigned even = ((bytes[i] & 0x00ff00ffu) * power & 0x00ff00ffu) * 3;
    const unsigned odd = ((bytes[i] >> 8 & 0x00ff00ffu) * power & 0x00ff00ffu) * 3;
    bytes[i] = (even >> 8 & 0x00030003u) | (odd & 0x03000300u);
  }
  out.scale = half_at(block + 52);

#elif WEIGHT == WEIGHT_TQ2_0
  load_bytes(block + 32 * (g / 8) + 16 * h, bytes);
  EACH_WORD(bytes[i] >> (2 * (b % 4)) & 0x03030303u);
  out.scale = half_at(block + 64);

#elif WEIGHT == WEIGHT_IQ2_XXS
  const unsigned points = pair_at(block + 2 + 8 * b + 2 * h), high = word_at(block + 6 + 8 * b);
  put_point(__ldg(grid_iq2_xxs + (points & 255)), 0, bytes);
  put_point(__ldg(grid_iq2_xxs + (points >> 8)), 1, bytes);
  put_signs(even_eight(high >> (14 * h)) | even_eight(high >> (14 * h + 7)) << 8, bytes);
  out.scale = half_at(block) * 0.25f * (0.5f + (float)(high >> 28));

#elif WEIGHT == WEIGHT_IQ2_XS
  const unsigned first_point = pair_at(block + 2 + 4 * g), second_point = pair_at(block + 4 + 4 * g);
  put_point(__ldg(grid_iq2_xs + (first_point & 511)), 0, bytes);
  put_point(__ldg(grid_iq2_xs + (second_point & 511)), 1, bytes);
  put_signs(even_eight(first_point >> 9) | even_eight(second_point >> 9) << 8, bytes);
  out.scale = half_at(block) * 0.25f * (0.5f + (float)(block[66 + b] >> (4 * h) & 15));

#elif WEIGHT == WEIGHT_IQ2_S
  const unsigned points = pair_at(block + 2 + 2 * g), high = (unsigned)block[66 + b] >> (4 * h);
  put_point(__ldg(grid_iq2_s + ((points & 255) | (high & 3) << 8)), 0, bytes);
  put_point(__ldg(grid_iq2_s + (points >> 8 | (high >> 2 & 3) << 8)), 1, bytes);
  put_signs(pair_at(block + 34 + 2 * g), bytes);
  out.scale = half_at(block) * 0.25f * (0.5f + (float)(block[74 + b] >> (4 * h) & 15));

#elif WEIGHT == WEIGHT_IQ3_XXS
  const unsigned points = word_at(block + 2 + 4 * g), high = word_at(block + 66 + 4 * b);
  EACH_WORD(__ldg(grid_iq3_xxs + (points >> (8 * i) & 255)));
  put_signs(even_eight(high >> (14 * h)) | even_eight(high >> (14 * h + 7)) << 8, bytes);
  out.scale = half_at(block) * 0.5f * (0.5f + (float)(high >> 28));

#elif WEIGHT == WEIGHT_IQ3_S
  const unsigned points = word_at(block + 2 + 4 * g), ninth = (unsigned)block[66 + b] >> (4 * h);
  EACH_WORD(__ldg(grid_iq3_s + ((points >> (8 * i) & 255) | (ninth >> i & 1) << 8)));
  put_signs(pair_at(block + 74 + 2 * g), bytes);
  out.scale = half_at(block) * (float)(1 + 2 * (block[106 + b / 2] >> (4 * (b % 2)) & 15));

#elif WEIGHT == WEIGHT_IQ1_S
  const unsigned points = pair_at(block + 2 + 2 * g), high = pair_at(block + 34 + 2 * b);
  put_point(__ldg(grid_iq1 + ((points & 255) | (high >> (6 * h) & 7) << 8)), 0, bytes);
  put_point(__ldg(grid_iq1 + (points >> 8 | (high >> (6 * h + 3) & 7) << 8)), 1, bytes);
  out.scale = half_at(block) * (float)(2 * (high >> 12 & 7) + 1);
  // Grid values are counted from -1.
  out.minimum = out.scale * (high & 0x8000 ? 1.125f : 0.875f);

#elif WEIGHT == WEIGHT_IQ1_M
  const unsigned points = pair_at(block + 2 * g), high = block[32 + g];
  const uint2 scales = *(const uint2 *)(block + 48);
  put_point(__ldg(grid_iq1 + ((points & 255) | (high & 7) << 8)), 0, bytes);
  put_point(__ldg(grid_iq1 + (points >> 8 | (high >> 4 & 7) << 8)), 1, bytes);
  // Eighths: each eight elements are moved up or down by one.
  EACH_WORD(bytes[i] * 8 + (high >> (i / 2 * 4) & 8 ? 0 : 0x02020202u));
  const unsigned bits =
      (scales.x >> 12 & 0xf) | (scales.x >> 24 & 0xf0) | (scales.y >> 4 & 0xf00) | (scales.y >> 16 & 0xf000);
  const unsigned own = (g < 8 ? scales.x : scales.y) >> (16 * (g / 4 % 2)) >> (3 * (g % 4)) & 7;
  out.scale = widen(Half{(unsigned short)bits}) * 0.125f * (float)(2 * own + 1);

#endif
#undef EACH_WORD
}

/// Byte i of four words as a number, less the offset.
__device__ __forceinline__ float quant_of(const unsigned (&bytes)[4], int i) {
  // The byte as the low end of 2^23: numbers are converted at a fraction of the speed of this.
  return __uint_as_float(__byte_perm(bytes[i / 4], 0x4b000000u, 0x7440 + i % 4)) - (float)(0x800000 + kQuantOffset);
}

/// The 16 elements from `first` (a multiple of 16) on of the row at `row`, which has whole blocks.
__device__ __forceinline__ void unpack(const unsigned char *row, int first, int columns, float (&out)[16]) {
  (void)columns;
  Quants quants;
  load_quants(row, first, quants);
#pragma unroll
  for (int i = 0; i < 16; i++) out[i] = quant_of(quants.bytes, i) * quants.scale - quants.minimum;
}

#endif
