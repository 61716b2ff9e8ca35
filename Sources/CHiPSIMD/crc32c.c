// SPDX-License-Identifier: Apache-2.0
// CRC-32C (Castagnoli), by the processor's instructions where it has them.
#include "CHiPSIMD.h"

#include <string.h>

/// The remainders of all values of half a byte: a table small enough to be read off.
static const uint32_t halves[16] = {
    0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
    0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

static uint32_t table_crc(uint32_t crc, const uint8_t *at, size_t count) {
  while (count--) {
    crc ^= *at++;
    crc = halves[crc & 15] ^ (crc >> 4);
    crc = halves[crc & 15] ^ (crc >> 4);
  }
  return crc;
}

#if defined(__x86_64__)

#include <immintrin.h>

#pragma clang attribute push(__attribute__((target("sse4.2,pclmul"))), apply_to = function)

/// A third of 8 KB, whole words: the instruction takes three cycles and starts every cycle.
#define STREAM 2728

static uint64_t word_at(const uint8_t *at) {
  uint64_t word;
  memcpy(&word, at, 8);
  return word;
}

/// What a remainder becomes behind as many bytes as `power`, x^(8 bytes - 33), stands for.
static uint64_t shifted(uint64_t crc, uint32_t power) {
  __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((int64_t)crc), _mm_cvtsi32_si128((int)power), 0);
  return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

static uint32_t fast_crc(uint32_t start, const uint8_t *at, size_t count) {
  uint64_t crc = start;
  for (; count >= 3 * STREAM; at += 3 * STREAM, count -= 3 * STREAM) {
    uint64_t second = 0, third = 0;
    for (size_t i = 0; i < STREAM; i += 8) {
      crc = _mm_crc32_u64(crc, word_at(at + i));
      second = _mm_crc32_u64(second, word_at(at + STREAM + i));
      third = _mm_crc32_u64(third, word_at(at + 2 * STREAM + i));
    }
    crc = shifted(crc, 0x5d4c91fc) ^ shifted(second, 0x7b454cb3) ^ third;
  }
  for (; count >= 8; at += 8, count -= 8) crc = _mm_crc32_u64(crc, word_at(at));
  while (count--) crc = _mm_crc32_u8((uint32_t)crc, *at++);
  return (uint32_t)crc;
}

#pragma clang attribute pop

static int has_instructions(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}

#elif defined(__aarch64__)

#include <arm_acle.h>

#if defined(__linux__) && !defined(__ARM_FEATURE_CRC32)
#include <sys/auxv.h>
/// The bit of CRC instructions in what the kernel says of the processor.
static int has_instructions(void) { return (getauxval(AT_HWCAP) >> 7 & 1) != 0; }
#elif defined(__ARM_FEATURE_CRC32)
static int has_instructions(void) { return 1; }
#else
static int has_instructions(void) { return 0; }
#endif

__attribute__((target("crc"))) static uint32_t fast_crc(uint32_t crc, const uint8_t *at,
                                                        size_t count) {
  for (; count >= 8; at += 8, count -= 8) {
    uint64_t word;
    memcpy(&word, at, 8);
    crc = __crc32cd(crc, word);
  }
  while (count--) crc = __crc32cb(crc, *at++);
  return crc;
}

#else

static int has_instructions(void) { return 0; }

static uint32_t fast_crc(uint32_t crc, const uint8_t *at, size_t count) {
  return table_crc(crc, at, count);
}

#endif

uint32_t ihp_crc32c(uint32_t crc, const void *bytes, size_t count) {
  return ~(has_instructions() ? fast_crc(~crc, bytes, count) : table_crc(~crc, bytes, count));
}
