// SPDX-License-Identifier: Apache-2.0
#ifndef FAKECUDA_STATE_H
#define FAKECUDA_STATE_H

#include "CHiPCUDA.h"
#include "FakeCUDA.h"

#include <stdbool.h>

typedef enum {
  FREED,
  MEMORY,
  PINNED,
  STREAM,
  EVENT,
  MODULE,
  FUNCTION,
  GRAPH,
  RUN,
} kind;

/// Something that was handed out.
typedef struct object {
  kind kind;
  size_t bytes;
  char *memory;
  char name[128];
  /// Of a graph, its run, and a stream that captures: what was captured.
  char *lines;
  size_t line_count;
  bool is_capturing;
  struct object *module;
  struct object *next;
} object;

typedef struct {
  const char *name;
  void *function;
} fake_entry;

/// Whether a call fails: what it returns then.
int fake_enter(const char *name, bool needs_context);
/// Notes a mistake and returns `result`.
int fake_mistake(int result);
/// Adds a line to the log, or to what a stream captures.
void fake_note(object *stream, const char *format, ...);
void fake_append(object *target, const char *line);
object *fake_make(kind kind);
/// The object, if it is one of that kind.
object *fake_find(const void *handle, kind kind);
/// The memory that these bytes of a device lie in.
object *fake_memory(ihp_cu_address address, size_t count);
void fake_free(object *thing);
void *fake_lookup(const fake_entry *entries, size_t count, const char *name);
/// Bytes of a kernel's arguments; null when it was not declared.
const size_t *fake_arguments(const char *kernel, size_t *count);

extern size_t fake_capacity, fake_used;
extern int fake_version, fake_major, fake_minor;
extern int fake_contexts;
extern _Thread_local bool fake_is_current;
extern int fake_lost;

#define ENTER(name)                                                                                \
  do {                                                                                             \
    int failure = fake_enter(name, true);                                                          \
    if (failure) return failure;                                                                   \
  } while (0)

#endif
