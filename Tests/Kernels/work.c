// SPDX-License-Identifier: Apache-2.0
// One kernel again and again, for `run --count` to count its instructions.
//
//   work SET WORK CALLS INPUTS    WORK: the number of a format (a row of 2,048 weights a call), 4bit, means or exact
//                                 (64 keys of 128 elements a call)
#include <stdlib.h>
#include <string.h>

#include "CHiPSIMD.h"

#define WIDTH 2048
#define HEAD 128
#define INPUTS 16

static float inputs[INPUTS * WIDTH], prepared[INPUTS * (2 * WIDTH + IHP_PREPARED_EXTRA)], out[INPUTS * 4096];
static uint8_t stored[1 << 20];

int main(int argc, char **argv) {
  const ihp_kernels *table = NULL;
  for (int isa = 0; isa <= IHP_NEON_I8MM && argc == 5; isa++) {
    const ihp_kernels *found = ihp_kernels_for((ihp_isa)isa);
    if (found && strcmp(found->name, argv[1]) == 0) table = found;
  }
  if (!table) return 2;
  const char *work = argv[2];
  const size_t calls = (size_t)atol(argv[3]), count = (size_t)atol(argv[4]);
  if (calls > 400 || count > INPUTS) return 2;
  for (size_t i = 0; i < sizeof inputs / 4; i++) inputs[i] = (float)(i % 17) - 8;

  size_t bytes = 0;
  switch (atoi(work)) {
  case IHP_Q8_0: bytes = WIDTH / 32 * 34; break;
#define FORMAT_BYTES(name, number, width, size) case IHP_##name: bytes = WIDTH / width * size; break;
    IHP_QUANT_FORMATS(FORMAT_BYTES)
  }
  if (bytes > 0) {
    const size_t ld = 2 * WIDTH + IHP_PREPARED_EXTRA;
    for (size_t i = 0; i < count; i++) table->prepare_input(inputs + i * WIDTH, WIDTH, prepared + i * ld);
    table->matvec((ihp_element)atoi(work), stored, bytes, calls, inputs, prepared, ld, count, WIDTH, out, 4096);
    return 0;
  }
  const int means = strcmp(work, "means") == 0;
  const uint8_t *blocks[1] = {stored};
  const ihp_rows groups = {blocks, 10, IHP_F32, 0, means ? 8 * (2 + HEAD) : 8 * (4 + HEAD / 2)};
  const int32_t firsts[8] = {0, 8, 16, 24, 32, 40, 48, 56};
  table->prepare_queries(inputs, count, HEAD, prepared);
  for (size_t i = 0; i < calls; i++)
    if (strcmp(work, "exact") == 0) table->score_coarse(stored, HEAD, prepared, count, out, 64);
    else (means ? table->score_means : table->score_four_bits)(&groups, firsts, 8, 8, HEAD, prepared, count, out, 64);
  return 0;
}
