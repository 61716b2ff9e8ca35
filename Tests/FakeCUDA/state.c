// SPDX-License-Identifier: Apache-2.0
#include "state.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES = 128, KERNELS = 32 };

size_t fake_capacity, fake_used;
int fake_version, fake_major, fake_minor;
int fake_contexts;
_Thread_local bool fake_is_current;
int fake_lost;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static object *objects;
static size_t mistakes;
static char *log_text;
static char hidden[128];

static struct {
  char name[64];
  size_t calls;
} counts[NAMES];

static struct {
  char name[64];
  int result, calls;
} failure;

static struct {
  char name[64];
  size_t sizes[8], count;
} kernels[KERNELS];

void fake_cuda_reset(size_t memory_bytes, int driver_version, int major, int minor) {
  while (objects) {
    object *next = objects->next;
    free(objects->memory);
    free(objects->lines);
    free(objects);
    objects = next;
  }
  fake_capacity = memory_bytes;
  fake_used = 0;
  fake_version = driver_version;
  fake_major = major;
  fake_minor = minor;
  fake_contexts = 0;
  fake_is_current = false;
  fake_lost = 0;
  mistakes = 0;
  hidden[0] = 0;
  memset(counts, 0, sizeof counts);
  memset(&failure, 0, sizeof failure);
  memset(kernels, 0, sizeof kernels);
  fake_cuda_clear_log();
  fake_nvrtc_version(13, 0);
}

void fake_cuda_hide(const char *name) { snprintf(hidden, sizeof hidden, "%s", name ? name : ""); }

void fake_cuda_fail(const char *name, int result, int calls) {
  snprintf(failure.name, sizeof failure.name, "%s", name);
  failure.result = result;
  failure.calls = calls;
}

void fake_cuda_lose(int result) { fake_lost = result; }

const char *fake_cuda_log(void) { return log_text ? log_text : ""; }

void fake_cuda_clear_log(void) {
  free(log_text);
  log_text = NULL;
}

size_t fake_cuda_calls(const char *name) {
  for (size_t i = 0; i < NAMES; i++)
    if (!strcmp(counts[i].name, name)) return counts[i].calls;
  return 0;
}

size_t fake_cuda_live(void) {
  size_t live = (size_t)fake_contexts;
  for (object *thing = objects; thing; thing = thing->next)
    live += thing->kind != FREED && thing->kind != FUNCTION;
  return live;
}

size_t fake_cuda_bytes(void) { return fake_used; }
size_t fake_cuda_mistakes(void) { return mistakes; }

void fake_cuda_declare(const char *kernel, const size_t *sizes, size_t count) {
  for (size_t i = 0; i < KERNELS; i++) {
    if (kernels[i].name[0]) continue;
    snprintf(kernels[i].name, sizeof kernels[i].name, "%s", kernel);
    memcpy(kernels[i].sizes, sizes, count * sizeof *sizes);
    kernels[i].count = count;
    return;
  }
}

const size_t *fake_arguments(const char *kernel, size_t *count) {
  for (size_t i = 0; i < KERNELS; i++) {
    if (strcmp(kernels[i].name, kernel)) continue;
    *count = kernels[i].count;
    return kernels[i].sizes;
  }
  return NULL;
}

int fake_enter(const char *name, bool needs_context) {
  pthread_mutex_lock(&mutex);
  for (size_t i = 0; i < NAMES; i++) {
    if (counts[i].name[0] && strcmp(counts[i].name, name)) continue;
    snprintf(counts[i].name, sizeof counts[i].name, "%s", name);
    counts[i].calls++;
    break;
  }
  int result = 0;
  if (!strcmp(failure.name, name) && failure.calls-- == 0) {
    result = failure.result;
    failure.name[0] = 0;
  }
  pthread_mutex_unlock(&mutex);
  if (result) return result;
  if (fake_lost && needs_context) return fake_lost;
  if (needs_context && !(fake_is_current && fake_contexts > 0)) return fake_mistake(201);
  return 0;
}

int fake_mistake(int result) {
  mistakes++;
  return result;
}

static void extend(char **text, const char *line) {
  size_t old = *text ? strlen(*text) : 0;
  *text = realloc(*text, old + strlen(line) + 2);
  sprintf(*text + old, "%s\n", line);
}

void fake_append(object *target, const char *line) {
  extend(&target->lines, line);
  target->line_count++;
}

void fake_note(object *stream, const char *format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  if (stream && stream->is_capturing) {
    fake_append(stream, line);
  } else {
    extend(&log_text, line);
  }
}

object *fake_make(kind kind) {
  object *thing = calloc(1, sizeof *thing);
  thing->kind = kind;
  thing->next = objects;
  objects = thing;
  return thing;
}

object *fake_find(const void *handle, kind kind) {
  for (object *thing = objects; thing; thing = thing->next)
    if (thing == handle && thing->kind == kind) return thing;
  return NULL;
}

object *fake_memory(ihp_cu_address address, size_t count) {
  for (object *thing = objects; thing; thing = thing->next) {
    uint64_t offset = address - (uint64_t)(uintptr_t)thing->memory;
    if (thing->kind == MEMORY && offset <= thing->bytes && count <= thing->bytes - offset) return thing;
  }
  return NULL;
}

void fake_cuda_write(uint64_t address, const void *bytes, size_t count) {
  if (fake_memory(address, count)) {
    memcpy((void *)(uintptr_t)address, bytes, count);
  } else {
    fake_mistake(1);
  }
}

void fake_free(object *thing) {
  if (thing->kind == MEMORY) fake_used -= thing->bytes;
  thing->kind = FREED;
  free(thing->memory);
  free(thing->lines);
  thing->memory = NULL;
  thing->lines = NULL;
}

void *fake_lookup(const fake_entry *entries, size_t count, const char *name) {
  if (!strcmp(name, hidden)) return NULL;
  for (size_t i = 0; i < count; i++)
    if (!strcmp(entries[i].name, name)) return entries[i].function;
  return NULL;
}
