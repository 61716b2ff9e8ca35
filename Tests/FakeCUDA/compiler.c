// SPDX-License-Identifier: Apache-2.0
// A compiler whose cubins are what it was given: "cubin", the options and the source.
#include "state.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static atomic_size_t compilations;
static int version_major, version_minor;

struct ihp_nvrtc_program_s {
  char *source;
  char *cubin;
  const char *log;
};

size_t fake_nvrtc_compilations(void) { return compilations; }

void fake_nvrtc_version(int major, int minor) {
  version_major = major;
  version_minor = minor;
  compilations = 0;
}

static int version(int *major, int *minor) {
  *major = version_major;
  *minor = version_minor;
  return 0;
}

static const int known[] = {80, 86, 90, 100};

static int architecture_count(int *count) {
  *count = sizeof known / sizeof known[0];
  return 0;
}

static int architectures(int *values) {
  memcpy(values, known, sizeof known);
  return 0;
}

static int create(ihp_nvrtc_program *program, const char *source, const char *name, int header_count,
                  const char *const *headers, const char *const *header_names) {
  (void)name, (void)header_count, (void)headers, (void)header_names;
  int failure = fake_enter("nvrtcCreateProgram", false);
  if (failure) return failure;
  *program = calloc(1, sizeof **program);
  (*program)->source = strdup(source);
  (*program)->log = "";
  return 0;
}

static int destroy(ihp_nvrtc_program *program) {
  free((*program)->source);
  free((*program)->cubin);
  free(*program);
  *program = NULL;
  return 0;
}

static int compile(ihp_nvrtc_program program, int option_count, const char *const *options) {
  int failure = fake_enter("nvrtcCompileProgram", false);
  if (failure) {
    program->log = "rows.cu(1): error: a failure that was asked for";
    return failure;
  }
  size_t size = strlen(program->source) + 8;
  for (int i = 0; i < option_count; i++) size += strlen(options[i]) + 1;
  program->cubin = calloc(1, size);
  strcpy(program->cubin, "cubin ");
  for (int i = 0; i < option_count; i++) {
    strcat(program->cubin, options[i]);
    strcat(program->cubin, " ");
  }
  strcat(program->cubin, program->source);
  compilations++;
  return 0;
}

static int log_size(ihp_nvrtc_program program, size_t *count) {
  *count = strlen(program->log) + 1;
  return 0;
}

static int log_text(ihp_nvrtc_program program, char *text) {
  strcpy(text, program->log);
  return 0;
}

static int cubin_size(ihp_nvrtc_program program, size_t *count) {
  *count = program->cubin ? strlen(program->cubin) + 1 : 0;
  return 0;
}

static int cubin(ihp_nvrtc_program program, char *bytes) {
  strcpy(bytes, program->cubin);
  return 0;
}

// `log` is a function of the standard library.
#define log log_text
#define FAKE_ENTRY(field, symbol, arguments) {#symbol, (void *)field},

static const fake_entry entries[] = {IHP_NVRTC_FUNCTIONS(FAKE_ENTRY)};

void *fake_nvrtc_symbol(void *library, const char *name) {
  (void)library;
  return fake_lookup(entries, sizeof entries / sizeof entries[0], name);
}
