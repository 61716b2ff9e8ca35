// SPDX-License-Identifier: Apache-2.0
// Between and behind the scorings of a selection: which chunks stay, what the tree search looks at next, the blocks that
// are attended to, and where they appear to stand.

#include "plain_cut.cuh"
#include "plain_stages.cuh"

#define INACTIVE -32000.0

/// Keeps the best chunks of each list, ascending; a block of threads for each range of queries and owner.
extern "C" __global__ __launch_bounds__(CUT_THREADS) void plain_keep(const ihp_plain_input in, const ihp_plain_stage stage) {
  __shared__ double sums[CUT_THREADS];
  const int owner = blockIdx.x, index = blockIdx.y;
  const Range range = range_of(in, stage, index);
  const Chunks chunks = chunks_of(in, stage, index, owner);
  const int place = index * stage.owners + owner;
  const int count = chunks.count, active = chunks.active(range.last_start);
  const Wide first = (Wide)place * stage.kept_capacity;
  if (!stage.chooses) {
    for (int chunk = threadIdx.x; chunk < count; chunk += blockDim.x) {
      stage.kept[first + chunk] = chunks.start(chunk);
      stage.kept_shares[first + chunk] = 0;
      if (stage.kept_indices) stage.kept_indices[first + chunk] = chunk;
    }
    if (threadIdx.x == 0) {
      stage.kept_counts[place] = count;
      stage.kept_held[place] = chunks.held;
    }
    return;
  }
  // Sets of heads that share a selection were scored apart.
  const int sets = stage.sets / stage.owners;
  double *scores = stage.scores + ((Wide)index * stage.sets + owner * sets) * stage.chunk_capacity;
  for (int chunk = threadIdx.x; chunk < active; chunk += blockDim.x) {
    double total = scores[chunk];
    for (int set = 1; set < sets; set++) {
      const double other = scores[(Wide)set * stage.chunk_capacity + chunk];
      if (stage.ranks_shares)
        total += other;
      else if (other > total)
        total = other;
    }
    scores[chunk] = total;
  }
  __syncthreads();
  int kept = stage.keep;
  if (stage.keep_share > 0) {
    kept = lower(active, kept);
    const double part = ceil((double)active * stage.keep_share);
    kept = lower(kept, higher((int)part, stage.keep_least));
  }
  kept = lower(lower(kept, count), stage.kept_capacity);
  // Each row's shares add up to 1. Of raw scores the sum says nothing, and nothing needs it.
  const int per_head = (range.rows + stage.query_stride - 1) / stage.query_stride;
  const double rows = (double)per_head * (in.heads / stage.owners);
  double sum = 0;
  keep_largest(kept, count, false, [=](int chunk) { return chunk < active ? scores[chunk] : INACTIVE; },
               [&](int to, int chunk) {
                 const double share = chunk < active ? scores[chunk] / rows : 0;
                 sum += share;
                 stage.kept[first + to] = chunks.start(chunk);
                 stage.kept_shares[first + to] = (float)(share * chunks.held);
                 if (stage.kept_indices) stage.kept_indices[first + to] = chunk;
               });
  sums[threadIdx.x] = sum;
  for (int step = blockDim.x / 2; step > 0; step /= 2) {
    __syncthreads();
    if (threadIdx.x < step) sums[threadIdx.x] += sums[threadIdx.x + step];
  }
  if (threadIdx.x > 0) return;
  stage.kept_counts[place] = kept;
  stage.kept_held[place] = active == 0 ? 1 : (float)(chunks.held * (sums[0] < 1 ? sums[0] : 1));
}

/// The next halves of the tree search; a block of threads for each range of queries and owner.
extern "C" __global__ __launch_bounds__(CUT_THREADS) void plain_split(const ihp_plain_split call) {
  const int owner = blockIdx.x, place = blockIdx.y * call.owners + owner;
  const int capacity = 2 * call.kept, size = call.chunk_size;
  const int end = call.start + call.first_row + (int)blockIdx.y * call.range_rows - call.pruning_window;
  const Wide count = higher(0, end - call.sink) / size, kept = call.kept;
  int *starts = call.starts + (Wide)place * capacity;
  const int *before = call.before + (Wide)place * capacity * 2;
  int *after = call.after + (Wide)place * capacity * 2;
  const int branches = call.indices ? call.index_counts[place] : (int)lower(count, kept);
  int halves = 0;
  for (int base = 0; base < branches; base += blockDim.x) {
    const int branch = base + threadIdx.x;
    int low = 0, width = 0;
    if (branch < branches && call.indices) {
      const int half = call.indices[(Wide)place * call.kept + branch];
      low = before[2 * half];
      width = before[2 * half + 1];
    } else if (branch < branches && count <= kept) {
      low = branch;
      width = 1;
    } else if (branch < branches) {
      low = (int)((2 * branch * count + kept) / (2 * kept));
      width = (int)((2 * (branch + 1) * count + kept) / (2 * kept)) - low;
    }
    if (call.is_last) {
      if (branch < branches) starts[branch] = call.sink + low * size;
      continue;
    }
    int all, all_second;
    const int there = count_before(width > 0, all), second = count_before(width > 1, all_second);
    int to = halves + there + second;
    if (width > 1) {
      starts[to] = call.sink + (low + low + width / 2) / 2 * size;
      after[2 * to] = low;
      after[2 * to + 1] = width / 2;
      low += width / 2;
      width -= width / 2;
      to++;
    }
    if (width > 0) {
      starts[to] = call.sink + (low + low + width) / 2 * size;
      after[2 * to] = low;
      after[2 * to + 1] = width;
    }
    halves += all + all_second;
  }
  if (threadIdx.x == 0) call.counts[place] = call.is_last ? branches : halves;
}

/// The selected blocks of each block of queries and owner, a block of threads each.
extern "C" __global__ void plain_finish(const ihp_plain_finish call) {
  const int owner = blockIdx.x, block = blockIdx.y;
  const int from = block / call.blocks_per_range * call.owners + owner;
  const int to = (call.first_block + block) * call.owners + owner;
  const int *kept = call.kept + (Wide)from * call.kept_capacity;
  const Wide end = call.start + (Wide)(call.first_block + block + 1) * call.query_block;
  int low = 0, high = call.kept_counts[from];
  while (low < high) {
    const int middle = (low + high) / 2;
    if (kept[middle] / call.block_size * call.block_size < end)
      low = middle + 1;
    else
      high = middle;
  }
  for (int index = threadIdx.x; index < low; index += blockDim.x) {
    call.lists[(Wide)to * call.max_blocks + index] = kept[index] / call.block_size;
    if (call.shares)
      call.shares[(Wide)to * call.max_blocks + index] = call.kept_shares[(Wide)from * call.kept_capacity + index];
  }
  if (threadIdx.x == 0) call.counts[to] = low;
}

/// Positions of sinks and blocks under `spread`, as `PositionScheme.spread` has them: one after the other, so by a thread
/// for each block of queries and owner.
extern "C" __global__ void plain_spread(const ihp_plain_spread call) {
  const int list = blockIdx.x * blockDim.x + threadIdx.x;
  if (list >= call.blocks * call.owners) return;
  const int blocks = call.counts ? call.counts[list] : 0;
  const int *numbers = call.lists + (Wide)list * call.max_blocks;
  int *places = call.places + (Wide)list * (call.max_blocks + 1);
  const Wide first = call.start + (Wide)(list / call.owners) * call.query_block, border = first - call.window;
  const Wide count = call.sink + (Wide)blocks * call.block_size;
  // The last query of a block is that much further from the first key than its first query.
  const Wide known = call.trained_length == 0x7fffffffffffffffLL ? 0 : call.trained_length - call.window - call.query_block;
  const Wide room = higher(0LL, lower(higher(count, known), border));
  Wide free = border - room;
  for (int index = 0; index <= blocks; index++) {
    const Wide start = index == 0 ? 0 : (Wide)numbers[index - 1] * call.block_size;
    const Wide place = start < border ? border - room + start * room / border : start;
    places[index] = (int)higher(free, place);
    free = places[index] + (index == 0 ? call.sink : call.block_size);
  }
  // What was pushed over the border, or over what lies beyond it, moves back.
  Wide limit = 0x7fffffffffffffffLL;
  for (int index = blocks; index >= 0; index--) {
    const Wide start = index == 0 ? 0 : (Wide)numbers[index - 1] * call.block_size;
    const Wide size = index == 0 ? call.sink : call.block_size;
    limit = lower((Wide)places[index], lower(limit, higher(border, start + size)) - size);
    places[index] = (int)higher(0LL, limit);
  }
}
