// SPDX-License-Identifier: Apache-2.0
// The CUDA driver's interface (libcuda.so.1), as far as it is used: names, numbers and layouts of its ABI, which
// `Scripts/check` compares with `cuda.h` where a wheel has it.
#ifndef IHP_DRIVER_H
#define IHP_DRIVER_H

#include <stddef.h>
#include <stdint.h>

typedef int ihp_cu_result;
typedef int ihp_cu_device;
/// An address in a device's memory.
typedef uint64_t ihp_cu_address;
typedef struct ihp_cu_context_s *ihp_cu_context;
typedef struct ihp_cu_stream_s *ihp_cu_stream;
typedef struct ihp_cu_event_s *ihp_cu_event;
typedef struct ihp_cu_module_s *ihp_cu_module;
typedef struct ihp_cu_function_s *ihp_cu_function;
typedef struct ihp_cu_graph_s *ihp_cu_graph;
typedef struct ihp_cu_graph_run_s *ihp_cu_graph_run;
typedef struct ihp_cu_graph_node_s *ihp_cu_graph_node;

/// Results that are told apart; all others are failures of the device.
enum {
  IHP_CU_SUCCESS = 0,
  IHP_CU_INVALID_VALUE = 1,
  IHP_CU_OUT_OF_MEMORY = 2,
  IHP_CU_NOT_INITIALIZED = 3,
  IHP_CU_DEINITIALIZED = 4,
  IHP_CU_STUB_LIBRARY = 34,
  IHP_CU_NEWER_DRIVER_NEEDED = 36,
  IHP_CU_DEVICE_UNAVAILABLE = 46,
  IHP_CU_NO_DEVICE = 100,
  IHP_CU_INVALID_DEVICE = 101,
  IHP_CU_INVALID_IMAGE = 200,
  IHP_CU_INVALID_CONTEXT = 201,
  IHP_CU_NO_BINARY_FOR_DEVICE = 209,
  IHP_CU_ECC_UNCORRECTABLE = 214,
  IHP_CU_INVALID_PTX = 218,
  IHP_CU_NVLINK_UNCORRECTABLE = 220,
  IHP_CU_UNSUPPORTED_PTX = 222,
  IHP_CU_CONTAINED = 226,
  IHP_CU_OPERATING_SYSTEM = 304,
  IHP_CU_INVALID_HANDLE = 400,
  IHP_CU_NOT_FOUND = 500,
  IHP_CU_ILLEGAL_ADDRESS = 700,
  IHP_CU_LAUNCH_OUT_OF_RESOURCES = 701,
  IHP_CU_LAUNCH_TIMEOUT = 702,
  IHP_CU_CONTEXT_IS_DESTROYED = 709,
  IHP_CU_ASSERT = 710,
  IHP_CU_HARDWARE_STACK_ERROR = 714,
  IHP_CU_LAUNCH_FAILED = 719,
  IHP_CU_TENSOR_MEMORY_LEAK = 721,
  IHP_CU_NOT_PERMITTED = 800,
  IHP_CU_SYSTEM_NOT_READY = 802,
  IHP_CU_DRIVER_MISMATCH = 803,
  IHP_CU_COMPATIBILITY_UNSUPPORTED = 804,
  IHP_CU_CAPTURE_UNSUPPORTED = 900,
  IHP_CU_CAPTURE_INVALIDATED = 901,
  IHP_CU_EXTERNAL_DEVICE = 911,
  IHP_CU_UNKNOWN = 999,
};

/// Attributes of a device.
enum {
  IHP_CU_CLOCK_KHZ = 13,
  IHP_CU_MULTIPROCESSORS = 16,
  IHP_CU_MEMORY_CLOCK_KHZ = 36,
  IHP_CU_MEMORY_BUS_BITS = 37,
  IHP_CU_L2_BYTES = 38,
  IHP_CU_CAPABILITY_MAJOR = 75,
  IHP_CU_CAPABILITY_MINOR = 76,
  IHP_CU_SHARED_BYTES_PER_BLOCK = 97,
};

/// Attributes of a function.
enum {
  IHP_CU_FUNCTION_MAX_DYNAMIC_SHARED_BYTES = 8,
};

/// Attributes of a launch.
enum {
  IHP_CU_LAUNCH_COOPERATIVE = 2,
  IHP_CU_LAUNCH_CLUSTER = 4,
  IHP_CU_LAUNCH_OVERLAP = 6,
};

enum {
  IHP_CU_STREAM_NON_BLOCKING = 1,
  IHP_CU_EVENT_WITHOUT_TIME = 2,
  IHP_CU_CAPTURE_THREAD_LOCAL = 1,
  IHP_CU_HOST_PORTABLE = 1,
};

/// An attribute of a launch: three dimensions of a cluster, or one flag.
typedef struct {
  int id;
  int padding;
  _Alignas(8) uint32_t value[16];
} ihp_cu_launch_attribute;

/// How a kernel is launched.
typedef struct {
  uint32_t grid_x, grid_y, grid_z;
  uint32_t block_x, block_y, block_z;
  uint32_t shared_bytes;
  ihp_cu_stream stream;
  ihp_cu_launch_attribute *attributes;
  uint32_t attribute_count;
} ihp_cu_launch;

/// Bytes of a tensor map, and of what it must be aligned to.
#define IHP_CU_TENSOR_MAP_BYTES 128

/// How tensor maps number their choices.
enum {
  IHP_CU_MAP_UINT8 = 0,
  IHP_CU_MAP_FLOAT16 = 6,
  IHP_CU_MAP_FLOAT32 = 7,
  IHP_CU_MAP_BFLOAT16 = 9,
  IHP_CU_MAP_PROMOTE_256 = 3,
};

/// Every function: its name in the table, in the library, and its arguments. All of them return a result.
#define IHP_DRIVER_FUNCTIONS(ROW)                                                                  \
  ROW(initialize, cuInit, (uint32_t flags))                                                      \
  ROW(driver_version, cuDriverGetVersion, (int *version))                                        \
  ROW(error_name, cuGetErrorName, (ihp_cu_result result, const char **name))                     \
  ROW(error_text, cuGetErrorString, (ihp_cu_result result, const char **text))                   \
  ROW(device_get, cuDeviceGet, (ihp_cu_device *device, int number))                              \
  ROW(device_name, cuDeviceGetName, (char *name, int capacity, ihp_cu_device device))            \
  ROW(device_attribute, cuDeviceGetAttribute, (int *value, int attribute, ihp_cu_device device)) \
  ROW(device_bytes, cuDeviceTotalMem_v2, (size_t *count, ihp_cu_device device))                  \
  ROW(context_retain, cuDevicePrimaryCtxRetain, (ihp_cu_context *context, ihp_cu_device device)) \
  ROW(context_release, cuDevicePrimaryCtxRelease_v2, (ihp_cu_device device))                     \
  ROW(context_set, cuCtxSetCurrent, (ihp_cu_context context))                                    \
  ROW(memory_info, cuMemGetInfo_v2, (size_t *available, size_t *total))                          \
  ROW(memory_allocate, cuMemAlloc_v2, (ihp_cu_address *address, size_t count))                   \
  ROW(memory_free, cuMemFree_v2, (ihp_cu_address address))                                       \
  ROW(host_allocate, cuMemHostAlloc, (void **address, size_t count, uint32_t flags))             \
  ROW(host_free, cuMemFreeHost, (void *address))                                                 \
  ROW(copy_to_device, cuMemcpyHtoDAsync_v2,                                                      \
      (ihp_cu_address to, const void *from, size_t count, ihp_cu_stream stream))                   \
  ROW(copy_to_host, cuMemcpyDtoHAsync_v2,                                                        \
      (void *to, ihp_cu_address from, size_t count, ihp_cu_stream stream))                         \
  ROW(copy_on_device, cuMemcpyDtoDAsync_v2,                                                      \
      (ihp_cu_address to, ihp_cu_address from, size_t count, ihp_cu_stream stream))                \
  ROW(fill_bytes, cuMemsetD8Async,                                                               \
      (ihp_cu_address to, unsigned char value, size_t count, ihp_cu_stream stream))                \
  ROW(stream_create, cuStreamCreate, (ihp_cu_stream *stream, uint32_t flags))                    \
  ROW(stream_destroy, cuStreamDestroy_v2, (ihp_cu_stream stream))                                \
  ROW(stream_wait, cuStreamSynchronize, (ihp_cu_stream stream))                                  \
  ROW(capture_begin, cuStreamBeginCapture_v2, (ihp_cu_stream stream, int mode))                  \
  ROW(capture_end, cuStreamEndCapture, (ihp_cu_stream stream, ihp_cu_graph *graph))              \
  ROW(event_create, cuEventCreate, (ihp_cu_event *event, uint32_t flags))                        \
  ROW(event_destroy, cuEventDestroy_v2, (ihp_cu_event event))                                    \
  ROW(event_record, cuEventRecord, (ihp_cu_event event, ihp_cu_stream stream))                   \
  ROW(event_wait, cuEventSynchronize, (ihp_cu_event event))                                      \
  ROW(event_elapsed, cuEventElapsedTime,                                                         \
      (float *milliseconds, ihp_cu_event start, ihp_cu_event end))                                 \
  ROW(module_load, cuModuleLoadData, (ihp_cu_module *module, const void *image))                 \
  ROW(module_unload, cuModuleUnload, (ihp_cu_module module))                                     \
  ROW(module_function, cuModuleGetFunction,                                                      \
      (ihp_cu_function *function, ihp_cu_module module, const char *name))                         \
  ROW(function_set, cuFuncSetAttribute, (ihp_cu_function function, int attribute, int value))    \
  ROW(launch, cuLaunchKernelEx,                                                                  \
      (const ihp_cu_launch *launch, ihp_cu_function function, void **arguments, void **extra))     \
  ROW(graph_nodes, cuGraphGetNodes,                                                              \
      (ihp_cu_graph graph, ihp_cu_graph_node *nodes, size_t *count))                               \
  ROW(graph_destroy, cuGraphDestroy, (ihp_cu_graph graph))                                       \
  ROW(graph_instantiate, cuGraphInstantiateWithFlags,                                            \
      (ihp_cu_graph_run *run, ihp_cu_graph graph, unsigned long long flags))                       \
  ROW(graph_upload, cuGraphUpload, (ihp_cu_graph_run run, ihp_cu_stream stream))                 \
  ROW(graph_launch, cuGraphLaunch, (ihp_cu_graph_run run, ihp_cu_stream stream))                 \
  ROW(graph_run_destroy, cuGraphExecDestroy, (ihp_cu_graph_run run))                             \
  ROW(tensor_map_tiled, cuTensorMapEncodeTiled,                                                  \
      (void *map, int element, uint32_t rank, void *address, const uint64_t *sizes,                \
       const uint64_t *strides, const uint32_t *box, const uint32_t *steps, int interleave,        \
       int swizzle, int promotion, int fill))

/// Functions that only newer drivers have; null elsewhere.
#define IHP_DRIVER_OPTIONAL_FUNCTIONS(ROW)                                                         \
  ROW(function_parameter, cuFuncGetParamInfo,                                                    \
      (ihp_cu_function function, size_t index, size_t *offset, size_t *count))

#define IHP_DRIVER_FIELD(field, symbol, arguments) ihp_cu_result(*field) arguments;

/// The driver.
typedef struct {
  IHP_DRIVER_FUNCTIONS(IHP_DRIVER_FIELD)
  IHP_DRIVER_OPTIONAL_FUNCTIONS(IHP_DRIVER_FIELD)
} ihp_driver;

#endif
