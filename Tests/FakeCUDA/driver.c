// SPDX-License-Identifier: Apache-2.0
// The driver: as `ihp_driver.h` declares it, over objects of the heap. An address of the device's memory is one of
// the process's, so that copies can be looked at.
#include "state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int initialize(uint32_t flags) {
  (void)flags;
  return fake_enter("cuInit", false);
}

static int driver_version(int *version) {
  *version = fake_version;
  return fake_enter("cuDriverGetVersion", false);
}

static int error_name(int result, const char **name) {
  *name = result == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_OF_THE_FAKE";
  return 0;
}

static int error_text(int result, const char **text) {
  *text = result == 2 ? "out of memory" : "a failure that was asked for";
  return 0;
}

static int device_get(int *device, int number) {
  *device = 0;
  if (number != 0) return 101;
  return fake_enter("cuDeviceGet", false);
}

static int device_name(char *name, int capacity, int device) {
  (void)device;
  snprintf(name, (size_t)capacity, "Fake device");
  return fake_enter("cuDeviceGetName", false);
}

/// The most shared memory that a block may ask for.
static int shared_bytes(void) {
  switch (10 * fake_major + fake_minor) {
  case 80: return 163 << 10;
  case 86:
  case 89:
  case 120: return 99 << 10;
  default: return 227 << 10;
  }
}

static int device_attribute(int *value, int attribute, int device) {
  (void)device;
  switch (attribute) {
  case IHP_CU_CLOCK_KHZ: *value = 1980000; break;
  case IHP_CU_MULTIPROCESSORS: *value = 132; break;
  case IHP_CU_MEMORY_CLOCK_KHZ: *value = 2619000; break;
  case IHP_CU_MEMORY_BUS_BITS: *value = 5120; break;
  case IHP_CU_L2_BYTES: *value = 50 << 20; break;
  case IHP_CU_CAPABILITY_MAJOR: *value = fake_major; break;
  case IHP_CU_CAPABILITY_MINOR: *value = fake_minor; break;
  case IHP_CU_SHARED_BYTES_PER_BLOCK: *value = shared_bytes(); break;
  default: return fake_mistake(1);
  }
  return fake_enter("cuDeviceGetAttribute", false);
}

static int device_bytes(size_t *count, int device) {
  (void)device;
  *count = fake_capacity;
  return fake_enter("cuDeviceTotalMem_v2", false);
}

static int context_retain(ihp_cu_context *context, int device) {
  (void)device;
  int result = fake_enter("cuDevicePrimaryCtxRetain", false);
  if (result) return result;
  fake_contexts++;
  *context = (ihp_cu_context)&fake_contexts;
  return 0;
}

static int context_release(int device) {
  (void)device;
  if (fake_contexts == 0) return fake_mistake(201);
  if (--fake_contexts == 0) fake_lost = 0;
  return fake_enter("cuDevicePrimaryCtxRelease_v2", false);
}

static int context_set(ihp_cu_context context) {
  fake_is_current = (void *)context == (void *)&fake_contexts;
  return fake_enter("cuCtxSetCurrent", false);
}

static int memory_info(size_t *available, size_t *total) {
  ENTER("cuMemGetInfo_v2");
  *available = fake_capacity - fake_used;
  *total = fake_capacity;
  return 0;
}

static int is_capturing(void);

static int memory_allocate(ihp_cu_address *address, size_t count) {
  ENTER("cuMemAlloc_v2");
  if (is_capturing()) return fake_mistake(900);
  if (count == 0) return fake_mistake(1);
  if (count > fake_capacity - fake_used) return 2;
  object *thing = fake_make(MEMORY);
  thing->bytes = count;
  thing->memory = aligned_alloc(512, (count + 511) / 512 * 512);
  fake_used += count;
  *address = (uint64_t)(uintptr_t)thing->memory;
  return 0;
}

static int memory_free(ihp_cu_address address) {
  ENTER("cuMemFree_v2");
  if (is_capturing()) return fake_mistake(900);
  object *thing = fake_memory(address, 0);
  if (!thing || address != (uint64_t)(uintptr_t)thing->memory) return fake_mistake(1);
  fake_free(thing);
  return 0;
}

static int host_allocate(void **address, size_t count, uint32_t flags) {
  ENTER("cuMemHostAlloc");
  (void)flags;
  if (count > fake_capacity) return 2;
  object *thing = fake_make(PINNED);
  thing->bytes = count;
  thing->memory = calloc(1, count + 16);
  *(object **)thing->memory = thing;
  *address = thing->memory + 16;
  return 0;
}

static int host_free(void *address) {
  ENTER("cuMemFreeHost");
  object *thing = *(object **)((char *)address - 16);
  if (!fake_find(thing, PINNED)) return fake_mistake(1);
  fake_free(thing);
  return 0;
}

#define STREAM_OF(handle)                                                                          \
  object *stream = fake_find(handle, STREAM);                                                      \
  if (!stream) return fake_mistake(400)

static int copy_to_device(ihp_cu_address to, const void *from, size_t count, ihp_cu_stream handle) {
  ENTER("cuMemcpyHtoDAsync_v2");
  STREAM_OF(handle);
  if (!fake_memory(to, count)) return fake_mistake(1);
  fake_note(stream, "to device %zu", count);
  if (!stream->is_capturing) memcpy((void *)(uintptr_t)to, from, count);
  return 0;
}

static int copy_to_host(void *to, ihp_cu_address from, size_t count, ihp_cu_stream handle) {
  ENTER("cuMemcpyDtoHAsync_v2");
  STREAM_OF(handle);
  if (!fake_memory(from, count)) return fake_mistake(1);
  fake_note(stream, "to host %zu", count);
  if (!stream->is_capturing) memcpy(to, (void *)(uintptr_t)from, count);
  return 0;
}

static int copy_on_device(ihp_cu_address to, ihp_cu_address from, size_t count, ihp_cu_stream handle) {
  ENTER("cuMemcpyDtoDAsync_v2");
  STREAM_OF(handle);
  if (!fake_memory(from, count) || !fake_memory(to, count)) return fake_mistake(1);
  fake_note(stream, "on device %zu", count);
  if (!stream->is_capturing) memmove((void *)(uintptr_t)to, (void *)(uintptr_t)from, count);
  return 0;
}

static int fill_bytes(ihp_cu_address to, unsigned char value, size_t count, ihp_cu_stream handle) {
  ENTER("cuMemsetD8Async");
  STREAM_OF(handle);
  if (!fake_memory(to, count)) return fake_mistake(1);
  fake_note(stream, "fill %zu with %d", count, value);
  if (!stream->is_capturing) memset((void *)(uintptr_t)to, value, count);
  return 0;
}

static object *capturing;

static int is_capturing(void) {
  return capturing && fake_find(capturing, STREAM) && capturing->is_capturing;
}

static int stream_create(ihp_cu_stream *handle, uint32_t flags) {
  ENTER("cuStreamCreate");
  (void)flags;
  *handle = (ihp_cu_stream)fake_make(STREAM);
  return 0;
}

static int destroy(const void *handle, kind kind) {
  object *thing = fake_find(handle, kind);
  if (!thing) return fake_mistake(400);
  fake_free(thing);
  return 0;
}

static int stream_destroy(ihp_cu_stream handle) {
  ENTER("cuStreamDestroy_v2");
  return destroy(handle, STREAM);
}

static int stream_wait(ihp_cu_stream handle) {
  ENTER("cuStreamSynchronize");
  STREAM_OF(handle);
  if (stream->is_capturing) return 900;
  fake_note(stream, "wait");
  return 0;
}

static int capture_begin(ihp_cu_stream handle, int mode) {
  ENTER("cuStreamBeginCapture_v2");
  (void)mode;
  STREAM_OF(handle);
  if (stream->is_capturing) return fake_mistake(900);
  stream->is_capturing = true;
  capturing = stream;
  return 0;
}

static int capture_end(ihp_cu_stream handle, ihp_cu_graph *graph) {
  ENTER("cuStreamEndCapture");
  STREAM_OF(handle);
  if (!stream->is_capturing) return fake_mistake(900);
  stream->is_capturing = false;
  object *made = fake_make(GRAPH);
  made->lines = stream->lines;
  made->line_count = stream->line_count;
  stream->lines = NULL;
  stream->line_count = 0;
  *graph = (ihp_cu_graph)made;
  return 0;
}

static int event_create(ihp_cu_event *event, uint32_t flags) {
  ENTER("cuEventCreate");
  (void)flags;
  *event = (ihp_cu_event)fake_make(EVENT);
  return 0;
}

static int event_destroy(ihp_cu_event event) {
  ENTER("cuEventDestroy_v2");
  return destroy(event, EVENT);
}

static int event_record(ihp_cu_event event, ihp_cu_stream handle) {
  ENTER("cuEventRecord");
  STREAM_OF(handle);
  if (!fake_find(event, EVENT)) return fake_mistake(400);
  fake_note(stream, "event");
  return 0;
}

static int event_wait(ihp_cu_event event) {
  ENTER("cuEventSynchronize");
  return fake_find(event, EVENT) ? 0 : fake_mistake(400);
}

static int event_elapsed(float *milliseconds, ihp_cu_event start, ihp_cu_event end) {
  ENTER("cuEventElapsedTime");
  if (!fake_find(start, EVENT) || !fake_find(end, EVENT)) return fake_mistake(400);
  *milliseconds = 1.5f;
  return 0;
}

static int module_load(ihp_cu_module *module, const void *image) {
  ENTER("cuModuleLoadData");
  if (strncmp(image, "cubin ", 6)) return 200;
  object *thing = fake_make(MODULE);
  thing->lines = strdup(image);
  *module = (ihp_cu_module)thing;
  return 0;
}

static int module_unload(ihp_cu_module module) {
  ENTER("cuModuleUnload");
  return destroy(module, MODULE);
}

static int module_function(ihp_cu_function *function, ihp_cu_module module, const char *name) {
  ENTER("cuModuleGetFunction");
  object *found = fake_find(module, MODULE);
  if (!found) return fake_mistake(400);
  char call[160];
  snprintf(call, sizeof call, " %s(", name);
  if (!strstr(found->lines, call)) return 500;
  object *thing = fake_make(FUNCTION);
  thing->module = found;
  snprintf(thing->name, sizeof thing->name, "%s", name);
  *function = (ihp_cu_function)thing;
  return 0;
}

#define FUNCTION_OF(handle)                                                                        \
  object *function = fake_find(handle, FUNCTION);                                                  \
  if (!function || function->module->kind != MODULE) return fake_mistake(400)

static int function_set(ihp_cu_function handle, int attribute, int value) {
  ENTER("cuFuncSetAttribute");
  FUNCTION_OF(handle);
  if (attribute != IHP_CU_FUNCTION_MAX_DYNAMIC_SHARED_BYTES || value > shared_bytes()) return 1;
  function->bytes = (size_t)value;
  return 0;
}

static int function_parameter(ihp_cu_function handle, size_t index, size_t *offset, size_t *count) {
  ENTER("cuFuncGetParamInfo");
  FUNCTION_OF(handle);
  size_t known = 0;
  const size_t *sizes = fake_arguments(function->name, &known);
  if (index >= known) return 1;
  *offset = 0;
  for (size_t i = 0; i < index; i++) *offset += sizes[i];
  *count = sizes[index];
  return 0;
}

static int launch(const ihp_cu_launch *shape, ihp_cu_function handle, void **arguments, void **extra) {
  ENTER("cuLaunchKernelEx");
  STREAM_OF(shape->stream);
  FUNCTION_OF(handle);
  if (extra || shape->grid_x == 0 || shape->block_x * shape->block_y * shape->block_z > 1024) return 1;
  if (shape->shared_bytes > 49152 && shape->shared_bytes > function->bytes) return 1;
  char line[400];
  int length = snprintf(line, sizeof line, "%s <%u %u %u, %u %u %u, %u>", function->name, shape->grid_x,
                        shape->grid_y, shape->grid_z, shape->block_x, shape->block_y, shape->block_z,
                        shape->shared_bytes);
  for (uint32_t i = 0; i < shape->attribute_count; i++)
    length += snprintf(line + length, sizeof line - (size_t)length, " attribute %d: %u", shape->attributes[i].id,
                       shape->attributes[i].value[0]);
  size_t count = 0;
  const size_t *sizes = fake_arguments(function->name, &count);
  for (size_t i = 0; i < count && length < 300; i++) {
    uint64_t value = 0;
    memcpy(&value, arguments[i], sizes[i] < 8 ? sizes[i] : 8);
    if (sizes[i] <= 8) length += snprintf(line + length, sizeof line - (size_t)length, " %llu", (unsigned long long)value);
  }
  fake_note(stream, "%s", line);
  return 0;
}

static int graph_nodes(ihp_cu_graph handle, ihp_cu_graph_node *nodes, size_t *count) {
  ENTER("cuGraphGetNodes");
  (void)nodes;
  object *graph = fake_find(handle, GRAPH);
  if (!graph) return fake_mistake(400);
  *count = graph->line_count;
  return 0;
}

static int graph_destroy(ihp_cu_graph graph) {
  ENTER("cuGraphDestroy");
  return destroy(graph, GRAPH);
}

static int graph_instantiate(ihp_cu_graph_run *run, ihp_cu_graph handle, unsigned long long flags) {
  ENTER("cuGraphInstantiateWithFlags");
  (void)flags;
  object *graph = fake_find(handle, GRAPH);
  if (!graph) return fake_mistake(400);
  object *made = fake_make(RUN);
  made->lines = strdup(graph->lines ? graph->lines : "");
  *run = (ihp_cu_graph_run)made;
  return 0;
}

static int graph_upload(ihp_cu_graph_run run, ihp_cu_stream stream) {
  ENTER("cuGraphUpload");
  (void)stream;
  return fake_find(run, RUN) ? 0 : fake_mistake(400);
}

static int graph_launch(ihp_cu_graph_run handle, ihp_cu_stream on) {
  ENTER("cuGraphLaunch");
  STREAM_OF(on);
  object *run = fake_find(handle, RUN);
  if (!run) return fake_mistake(400);
  char *lines = strdup(run->lines), *rest = NULL;
  for (char *line = strtok_r(lines, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
    fake_note(stream, "%s", line);
  free(lines);
  return 0;
}

static int graph_run_destroy(ihp_cu_graph_run run) {
  ENTER("cuGraphExecDestroy");
  return destroy(run, RUN);
}

static int tensor_map_tiled(void *map, int element, uint32_t rank, void *address, const uint64_t *sizes,
                            const uint64_t *strides, const uint32_t *box, const uint32_t *steps,
                            int interleave, int swizzle, int promotion, int fill) {
  ENTER("cuTensorMapEncodeTiled");
  (void)element, (void)strides, (void)steps, (void)interleave, (void)promotion, (void)fill;
  if ((uintptr_t)map % IHP_CU_TENSOR_MAP_BYTES || rank < 1 || rank > 5) return fake_mistake(1);
  uint64_t words[16] = {(uint64_t)(uintptr_t)address, rank, sizes[0], box[0], (uint64_t)swizzle};
  memcpy(map, words, sizeof words);
  return 0;
}

#define FAKE_ENTRY(field, symbol, arguments) {#symbol, (void *)field},

static const fake_entry entries[] = {
    IHP_DRIVER_FUNCTIONS(FAKE_ENTRY) IHP_DRIVER_OPTIONAL_FUNCTIONS(FAKE_ENTRY)};

void *fake_cuda_symbol(void *library, const char *name) {
  (void)library;
  return fake_lookup(entries, sizeof entries / sizeof entries[0], name);
}
