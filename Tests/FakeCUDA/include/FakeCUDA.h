// SPDX-License-Identifier: Apache-2.0
// A CUDA driver and an NVRTC without a device: they keep books, refuse what the real ones refuse, and fail on demand.
// One machine for the whole process; whoever uses it does so alone.
#ifndef FAKECUDA_H
#define FAKECUDA_H

#include <stddef.h>
#include <stdint.h>

/// A new machine: one device with so much memory and a driver of that version (1000 * major + 10 * minor).
void fake_cuda_reset(size_t memory_bytes, int driver_version, int capability_major, int capability_minor);

/// Finders of functions by name, for the tables' `fill`.
void *fake_cuda_symbol(void *library, const char *name);
void *fake_nvrtc_symbol(void *library, const char *name);

/// Hides a function from both finders; null: none.
void fake_cuda_hide(const char *name);
/// Lets a function of the driver or the compiler fail after `calls` more calls, once.
void fake_cuda_fail(const char *name, int result, int calls);
/// Lets every call fail with this result until the context has been released, as a lost device does.
void fake_cuda_lose(int result);

/// What the device was asked to do, in order, a line each.
const char *fake_cuda_log(void);
void fake_cuda_clear_log(void);

/// How many calls a function has had.
size_t fake_cuda_calls(const char *name);

/// Writes into the device's memory, as a kernel would; a mistake where none was handed out.
void fake_cuda_write(uint64_t address, const void *bytes, size_t count);

/// What has not been given back: memory, pinned memory, streams, events, modules, graphs and their runs, contexts.
size_t fake_cuda_live(void);
/// Bytes of the device's memory in use.
size_t fake_cuda_bytes(void);
/// Things that were given back twice or never were, and calls without a context.
size_t fake_cuda_mistakes(void);

/// What kernels of that name take: bytes of each argument. At most 16 kernels of 8 arguments.
void fake_cuda_declare(const char *kernel, const size_t *sizes, size_t count);

/// Programs that the compiler has made; several threads may count.
size_t fake_nvrtc_compilations(void);
/// The version that the compiler says it has.
void fake_nvrtc_version(int major, int minor);

#endif
