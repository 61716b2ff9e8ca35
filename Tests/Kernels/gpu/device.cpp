// SPDX-License-Identifier: Apache-2.0
// Blocks of fibers. Each runs on a stack of its own and gives way where it has to wait for others.
#include "device.h"

#include <algorithm>
#include <random>
#include <vector>

#ifndef __x86_64__
#error fibers are switched by instructions of x86-64
#endif

Extent threadIdx, blockIdx, blockDim, gridDim;

namespace device {

void fail(const char *what) {
  printf("block (%u, %u, %u), thread (%u, %u): %s\n", blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y,
         what);
  fflush(stdout);
  abort();
}

// --- Fibers -------------------------------------------------------------------------------------------

/// Keeps what a function must, and goes on where another stack was left.
extern "C" void switch_stacks(void **left, void *next);
asm(".text\n"
    "switch_stacks:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n");

/// Threads that wait for each other.
struct Meeting {
  int size = 0, arrived = 0;
  unsigned round = 0;
  const char *place = nullptr;
};

struct Copy {
  char *to;
  const void *from;
};

struct Fiber {
  void *stack_pointer;
  bool is_done;
  const Meeting *awaited;
  unsigned round;
  /// Copies, by groups; the last one is open.
  std::vector<std::vector<Copy>> copies;

  bool can_go_on() const { return !is_done && !(awaited && awaited->round == round); }
};

struct Warp {
  Meeting meeting;
  /// Of this round and the one before: a lane may be late in reading what others have shown.
  alignas(16) char shown[2][32 * kShownBytes];
};

constexpr size_t kStackBytes = 1 << 17, kMostThreads = 1024;

static std::vector<Fiber> fibers(kMostThreads);
static std::vector<Warp> warps(kMostThreads / 32);
static Meeting block;
static int counts[2];
static Fiber *current;
static void *launcher;
static void (*running)(const void *);
static const void *running_on;
/// Others where SEED is set.
static std::mt19937 chance(getenv("SEED") ? (unsigned)atoi(getenv("SEED")) : 1);

static void begin() {
  running(running_on);
  current->is_done = true;
  switch_stacks(&current->stack_pointer, launcher);
}

static void prepare(size_t index) {
  static char *const stacks = (char *)malloc(kMostThreads * kStackBytes);
  Fiber &fiber = fibers[index];
  void **top = (void **)((uintptr_t)(stacks + (index + 1) * kStackBytes) & ~(uintptr_t)15);
  // A function begins where a call has left an address behind a multiple of 16 bytes.
  *--top = nullptr;
  *--top = (void *)begin;
  for (int kept = 0; kept < 6; kept++) *--top = nullptr;
  fiber.stack_pointer = top;
  fiber.is_done = false;
  fiber.awaited = nullptr;
  fiber.copies.assign(1, {});
}

/// The number of the round in which all have come.
static unsigned meet(Meeting &meeting, const char *place) {
  if (meeting.arrived > 0 && meeting.place != place) fail("threads that should meet are at different places");
  meeting.place = place;
  const unsigned round = meeting.round;
  if (++meeting.arrived == meeting.size) {
    meeting.arrived = 0;
    meeting.round++;
  } else {
    current->awaited = &meeting;
    current->round = round;
    switch_stacks(&current->stack_pointer, launcher);
  }
  return round;
}

const char *show(const char *place, const void *bytes, size_t count) {
  Warp &warp = warps[(current - fibers.data()) / 32];
  memcpy(warp.shown[warp.meeting.round % 2] + kShownBytes * lane(), bytes, count);
  return warp.shown[meet(warp.meeting, place) % 2];
}

int meet_block(const char *place, int count) {
  int &sum = counts[block.round % 2];
  if (block.arrived == 0) sum = 0;
  sum += count;
  meet(block, place);
  return sum;
}

// --- Shared memory ------------------------------------------------------------------------------------

/// What compilers know a variable of emulated thread storage by.
struct Variable {
  size_t size, alignment;
  char *storage;
  void *initial;
};
/// The one whose size launches decide. Kernels call it `memory`.
extern Variable launched asm("__emutls_v.memory");
Variable launched = {0, 16, nullptr, nullptr};

/// Those that the block has touched.
static std::vector<Variable *> variables;
constexpr unsigned kAddressBits = 20;

extern "C" void *__emutls_get_address(Variable *variable) {
  if (!variable->storage) {
    void *storage;
    if (posix_memalign(&storage, std::max(variable->alignment, (size_t)16), variable->size)) abort();
    // Not a number, whatever type it is read as.
    memset(storage, 0xff, variable->size);
    variable->storage = (char *)storage;
    variables.push_back(variable);
  }
  return variable->storage;
}

unsigned shared_address(const void *at) {
  for (size_t i = 0; i < variables.size(); i++) {
    const Variable &variable = *variables[i];
    if (at >= variable.storage && at < variable.storage + variable.size)
      return (unsigned)(i << kAddressBits | (size_t)((const char *)at - variable.storage));
  }
  fail("an address that is not of shared memory");
}

char *shared_pointer(unsigned address) {
  return variables.at(address >> kAddressBits)->storage + (address & ((1u << kAddressBits) - 1));
}

void copy_later(unsigned to, const void *from) {
  if (to % 16 || (uintptr_t)from % 16) fail("a copy of 16 bytes does not begin at a multiple of them");
  memset(shared_pointer(to), 0xff, 16);
  current->copies.back().push_back({shared_pointer(to), from});
}

void commit_copies() { current->copies.push_back({}); }

void wait_for_copies(size_t pending) {
  auto &groups = current->copies;
  while (groups.size() - 1 > pending) {
    for (const Copy &copy : groups.front()) memcpy(copy.to, copy.from, 16);
    groups.erase(groups.begin());
  }
}

// --- Launches -----------------------------------------------------------------------------------------

static void run_block(size_t threads) {
  std::vector<size_t> order(threads);
  for (size_t i = 0; i < threads; i++) {
    prepare(i);
    order[i] = i;
  }
  block = Meeting{(int)threads};
  for (size_t i = 0; i < threads / 32; i++) warps[i].meeting = Meeting{32};
  for (size_t left = threads; left > 0;) {
    if (chance() % 16 == 0) std::shuffle(order.begin(), order.end(), chance);
    // Now and then a single warp goes ahead, as far as it can.
    const size_t ahead = chance() % 4 == 0 ? chance() % (threads / 32) : threads;
    bool has_moved;
    do {
      has_moved = false;
      for (size_t i : order) {
        if (!fibers[i].can_go_on() || (ahead < threads && i / 32 != ahead)) continue;
        current = &fibers[i];
        threadIdx = {(unsigned)i % blockDim.x, (unsigned)i / blockDim.x, 0};
        switch_stacks(&launcher, current->stack_pointer);
        has_moved = true;
        if (!current->is_done) continue;
        for (const auto &group : current->copies)
          if (!group.empty()) fail("a copy is not waited for");
        left--;
      }
    } while (has_moved && ahead < threads);
    if (!has_moved && ahead == threads) fail("all threads wait for others");
  }
  for (Variable *variable : variables) {
    free(variable->storage);
    variable->storage = nullptr;
  }
  variables.clear();
}

void launch(Extent grid, Extent shape, size_t shared_bytes, void (*kernel)(const void *), const void *arguments) {
  const size_t threads = shape.x * shape.y;
  if (threads % 32 || threads > kMostThreads || shape.z > 1) fail("a block of no whole warps");
  running = kernel;
  running_on = arguments;
  gridDim = grid;
  blockDim = shape;
  launched.size = shared_bytes;
  std::vector<Extent> blocks;
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x++) blocks.push_back({x, y, z});
  std::shuffle(blocks.begin(), blocks.end(), chance);
  for (const Extent &next : blocks) {
    blockIdx = next;
    run_block(threads);
  }
}

}  // namespace device
