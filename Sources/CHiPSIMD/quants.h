// SPDX-License-Identifier: Apache-2.0
// Weights below 8 bits: rows of blocks whose elements are digits times a scale, less a minimum.

/// Elements that are unpacked at a time: a super-block of the K formats.
#define SUPER_BLOCK 256
/// Elements that share a scale at least.
#define DIGIT_GROUP 16
#define DIGIT_GROUPS (SUPER_BLOCK / DIGIT_GROUP)

/// Up to 256 elements of a row: element i is digit[i] * scale[i / 16] - minimum[i / 16].
typedef struct digits {
  uint8_t digit[SUPER_BLOCK] __attribute__((aligned(64)));
  float scale[DIGIT_GROUPS] __attribute__((aligned(64)));
  float minimum[DIGIT_GROUPS] __attribute__((aligned(64)));
} digits;

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
INLINE size_t quant_bytes(hip_element element) {
  switch (element) {
  case HIP_Q4_0: return 18;
  case HIP_Q4_K: return 144;
  case HIP_Q5_K: return 176;
  default: return 210;
  }
}

INLINE size_t quant_width(hip_element element) { return element == HIP_Q4_0 ? 32 : SUPER_BLOCK; }

/// 8 scales and 8 minima of 6 bits each, in the 12 bytes of Q4_K and Q5_K.
INLINE void unpack_scales(const uint8_t *block, digits *out) {
  uint32_t word[3];
  memcpy(word, block + 4, sizeof word);
  uint32_t packed[4] = {
      word[0] & 0x3f3f3f3fu,
      (word[2] & 0x0f0f0f0fu) | ((word[0] >> 6) & 0x03030303u) << 4,
      word[1] & 0x3f3f3f3fu,
      ((word[2] >> 4) & 0x0f0f0f0fu) | ((word[1] >> 6) & 0x03030303u) << 4,
  };
  uint8_t six[16];
  memcpy(six, packed, sizeof six);
  float scale = half_to_float(block), minimum = half_to_float(block + 2);
  for (int j = 0; j < 8; j++) {
    out->scale[2 * j] = out->scale[2 * j + 1] = scale * six[j];
    out->minimum[2 * j] = out->minimum[2 * j + 1] = minimum * six[8 + j];
  }
}

/// Elements `first` ..< `first + width` of a row, both multiples of the block; the rest is zero.
INLINE void unpack(hip_element element, const uint8_t *row, size_t first, size_t width,
                   digits *out) {
  const uint8_t *block = row + first / quant_width(element) * quant_bytes(element);
  switch (element) {
  case HIP_Q4_0:
    if (width < SUPER_BLOCK) memset(out, 0, sizeof *out);
    for (size_t b = 0; b < width / 32; b++, block += 18) {
      float scale = half_to_float(block);
      for (size_t half = 0; half < 2; half++) {
        out->scale[2 * b + half] = scale;
        out->minimum[2 * b + half] = 8 * scale;
      }
      for (size_t i = 0; i < 16; i++) {
        out->digit[b * 32 + i] = block[2 + i] & 15;
        out->digit[b * 32 + 16 + i] = block[2 + i] >> 4;
      }
    }
    break;
  case HIP_Q4_K:
    unpack_scales(block, out);
    for (size_t j = 0; j < 4; j++) {
      LOAD_BYTES(pairs, block + 16 + 32 * j);
      STORE_BYTES(out->digit + 64 * j, pairs & 15);
      STORE_BYTES(out->digit + 64 * j + 32, pairs >> 4);
    }
    break;
  case HIP_Q5_K: {
    unpack_scales(block, out);
    LOAD_BYTES(fifth, block + 16);
    for (size_t j = 0; j < 4; j++) {
      LOAD_BYTES(pairs, block + 48 + 32 * j);
      STORE_BYTES(out->digit + 64 * j, (pairs & 15) | (fifth & 1) << 4);
      STORE_BYTES(out->digit + 64 * j + 32, (pairs >> 4) | ((fifth >> 1) & 1) << 4);
      fifth >>= 2;
    }
    break;
  }
  default:
    for (size_t j = 0; j < 2; j++) {
      LOAD_BYTES(low, block + 64 * j);
      LOAD_BYTES(next, block + 64 * j + 32);
      LOAD_BYTES(top, block + 128 + 32 * j);
      uint8_t *to = out->digit + 128 * j;
      STORE_BYTES(to, (low & 15) | (top & 3) << 4);
      STORE_BYTES(to + 32, (next & 15) | ((top >> 2) & 3) << 4);
      STORE_BYTES(to + 64, (low >> 4) | ((top >> 4) & 3) << 4);
      STORE_BYTES(to + 96, (next >> 4) | (top >> 6) << 4);
    }
    float scale = half_to_float(block + 208);
    for (int g = 0; g < DIGIT_GROUPS; g++) {
      out->scale[g] = scale * (float)(int8_t)block[192 + g];
      out->minimum[g] = 32 * out->scale[g];
    }
    break;
  }
}

/// Elements of a row as float32.
INLINE void widen_digits(hip_element element, const uint8_t *row, size_t first, size_t n,
                         float *out) {
  digits d;
  for (size_t done = 0; done < n; done += SUPER_BLOCK) {
    size_t width = n - done < SUPER_BLOCK ? n - done : SUPER_BLOCK;
    unpack(element, row, first + done, width, &d);
    for (size_t i = 0; i < width; i += LANES) {
      typedef uint8_t bvec __attribute__((ext_vector_type(LANES)));
      bvec bytes;
      memcpy(&bytes, d.digit + i, sizeof bytes);
      vec digit = __builtin_convertvector(bytes, vec);
      store(out + done + i, digit * d.scale[i / DIGIT_GROUP] - d.minimum[i / DIGIT_GROUP]);
    }
  }
}

#if PRODUCT_ELEMENT_IS_BF16

// A prepared input: per group of 16 its scale and its sum, then the elements in 8 bits.

INLINE size_t padded_width(size_t n) { return (n + SUPER_BLOCK - 1) / SUPER_BLOCK * SUPER_BLOCK; }

static void prepare_input(const float *x, size_t n, float *out) {
  size_t groups = padded_width(n) / DIGIT_GROUP;
  float *scales = out, *sums = out + groups;
  int8_t *elements = (int8_t *)(sums + groups);
  memset(out, 0, groups * 2 * sizeof(float) + padded_width(n));
  for (size_t i = 0; i < n; i += BLOCK) {
    vec low = load(x + i), high = load(x + i + 16);
    float most = max_lanes(__builtin_elementwise_max(__builtin_elementwise_abs(low),
                                                     __builtin_elementwise_abs(high)));
    float inverse = most > 0 ? 127.0f / most : 0.0f;
    vec parts[2] = {low, high};
    for (size_t half = 0; half < 2; half++) {
      scales[i / DIGIT_GROUP + half] = most / 127.0f;
      sums[i / DIGIT_GROUP + half] = sum_lanes(parts[half]);
      __m512i whole = _mm512_cvtps_epi32((__m512)(parts[half] * inverse));
      _mm_storeu_si128((__m128i *)(elements + i + half * 16), _mm512_cvtepi32_epi8(whole));
    }
  }
}

INLINE float dot_digits(hip_element element, const uint8_t *row, const float *x,
                        const float *prepared, size_t n) {
  (void)x;
  size_t groups = padded_width(n) / DIGIT_GROUP;
  const float *scales = prepared, *sums = prepared + groups;
  const int8_t *elements = (const int8_t *)(sums + groups);
  const __m512i four = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
  vec total = 0.0f, minima = 0.0f;
  digits d;
  for (size_t first = 0; first < n; first += SUPER_BLOCK) {
    size_t width = n - first < SUPER_BLOCK ? n - first : SUPER_BLOCK;
    unpack(element, row, first, width, &d);
    vec scale = load(d.scale) * load(scales + first / DIGIT_GROUP);
    minima = fused(load(d.minimum), load(sums + first / DIGIT_GROUP), minima);
#pragma clang loop unroll(full)
    for (int v = 0; v < 4; v++) {
      __m512i sum = _mm512_dpbusd_epi32(
          _mm512_setzero_si512(), _mm512_load_si512(d.digit + v * 64),
          _mm512_loadu_si512(elements + first + (size_t)v * 64));
      vec own = (vec)_mm512_permutexvar_ps(
          _mm512_add_epi32(four, _mm512_set1_epi32(4 * v)), (__m512)scale);
      total = fused((vec)_mm512_cvtepi32_ps(sum), own, total);
    }
  }
  return sum_lanes(total - minima);
}

#else

static void prepare_input(const float *x, size_t n, float *out) {
  (void)x;
  (void)n;
  (void)out;
}

INLINE float dot_digits(hip_element element, const uint8_t *row, const float *x,
                        const float *prepared, size_t n) {
  (void)prepared;
  float wide[SUPER_BLOCK];
  vec total = 0.0f;
  for (size_t first = 0; first < n; first += SUPER_BLOCK) {
    size_t width = n - first < SUPER_BLOCK ? n - first : SUPER_BLOCK;
    widen_digits(element, row, first, width, wide);
    for (size_t i = 0; i < width; i += LANES)
      total = fused(load(wide + i), load(x + first + i), total);
  }
  return sum_lanes(total);
}

#endif
