// SPDX-License-Identifier: Apache-2.0
// Scores of chunks, 32 of them in a block of 8 warps, one in each lane: key after key of each chunk, or step after step
// of the search in it, by 64 rows of queries at a time.
//
// Macros: ELEMENT, QUERY, REAL as in `plain.cuh`.

#include "plain_work.cuh"

#define ROWS IHP_PLAIN_SCORE_ROWS
#define WARPS 8
#define OWN (ROWS / WARPS)

/// Queries as a stage sees them: rotated, then averaged, or one of several. A warp each; `[row of the set of all heads,
/// range, branch]`.
extern "C" __global__ __launch_bounds__(WARP) void plain_pool(const ihp_plain_input in, const ihp_plain_stage stage) {
  const int head = blockIdx.x / stage.row_capacity, row = blockIdx.x % stage.row_capacity;
  const int branch = gridDim.z == 1 ? 1 : blockIdx.z;
  const Range range = range_of(in, stage, blockIdx.y);
  if (row >= rows_per_head(stage, range)) return;
  const int owner = head * stage.owners / in.heads;
  const int last = range.first + lower((row + 1) * stage.query_stride, range.rows) - 1;
  const int first = stage.averages ? range.first + row * stage.query_stride : last;
  // Of both, query and key.
  const double amplitude = in.amplitude * in.amplitude;
  REAL *target =
      (REAL *)stage.rows + ((((Wide)blockIdx.z * gridDim.y + blockIdx.y) * in.heads + head) * stage.row_capacity + row) * in.head_size;
  const REAL part = (REAL)1 / (REAL)(last - first + 1);
  for (int query = first; query <= last; query++) {
    const Wide position = in.start + query;
    Wide place = position;
    switch (stage.scheme) {
    // Rotating the query back by the branch equals rotating the key forward.
    case IHP_PLAIN_RELATIVE: place = stage.pruning_window + 1 - branch; break;
    case IHP_PLAIN_INFLLM: place = stage.pruning_window; break;
    case IHP_PLAIN_CHUNK_INDEXED:
    case IHP_PLAIN_STREAMING:
    case IHP_PLAIN_SPREAD:
      place = lower(position, (Wide)chunks_of(in, stage, blockIdx.y, owner).count + stage.pruning_window);
      break;
    }
    stage_query(in, query, head, place, amplitude, part, query > first, target);
  }
}

/// Where a key stands while scored; negative: it is not rotated.
__device__ __forceinline__ Wide key_position(const ihp_plain_input &in, const ihp_plain_stage &stage, const Range &range,
                                             int chunk, int key) {
  switch (stage.scheme) {
  case IHP_PLAIN_RELATIVE:
  case IHP_PLAIN_INFLLM: return -1;
  case IHP_PLAIN_CHUNK_INDEXED:
  case IHP_PLAIN_STREAMING:
  case IHP_PLAIN_SPREAD: return chunk;
  default: return seen_position(stage.scheme, key, range.start, range.end - 1, in.trained_length);
  }
}

__device__ __forceinline__ float bfloat(float value) {
  const unsigned bits = __float_as_uint(value);
  return __uint_as_float((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u);
}

/// A warp writes the mean of some keys as `EightBitMean` rounds it.
__device__ __forceinline__ void stage_mean(const ihp_plain_input &in, int kv_head, int first, int count, REAL *target) {
  const int lane = threadIdx.x % WARP;
  float most = 0;
  for (int element = lane; element < in.head_size; element += WARP) {
    double sum = 0;
    for (int key = first; key < first + count; key++)
      sum += widen(((const ELEMENT *)in.keys)[row_offset(in, kv_head, lower(key, in.start + in.rows - 1)) + element]);
    const float mean = (float)(sum / count);
    target[element] = mean;
    most = fmaxf(most, fabsf(mean));
  }
  for (int step = WARP / 2; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(EVERY, most, step));
  const float scale = bfloat(__fdiv_rn(most, 127.0f));
  for (int element = lane; element < in.head_size; element += WARP) {
    const float steps = scale > 0 ? floorf(__fadd_rn(__fdiv_rn((float)target[element], scale), 0.5f)) : 0;
    target[element] = __fmul_rn(fminf(fmaxf(steps, -128.0f), 127.0f), scale);
  }
}

/// A warp writes a key as `FourBitKey` rounds it.
__device__ __forceinline__ void stage_four_bit(const ihp_plain_input &in, int kv_head, int key, REAL *target) {
  const int lane = threadIdx.x % WARP;
  const ELEMENT *source = (const ELEMENT *)in.keys + row_offset(in, kv_head, key);
  float least = __uint_as_float(0x7f800000u), most = -least;
  for (int element = lane; element < in.head_size; element += WARP) {
    least = fminf(least, widen(source[element]));
    most = fmaxf(most, widen(source[element]));
  }
  for (int step = WARP / 2; step > 0; step /= 2) {
    least = fminf(least, __shfl_xor_sync(EVERY, least, step));
    most = fmaxf(most, __shfl_xor_sync(EVERY, most, step));
  }
  const float low = bfloat(least), scale = bfloat(__fdiv_rn(__fsub_rn(most, least), 15.0f));
  for (int element = lane; element < in.head_size; element += WARP) {
    float value = low;
    if (scale > 0) {
      const float steps = __fadd_rn(__fdiv_rn(__fsub_rn(widen(source[element]), low), scale), 0.5f);
      value = __fadd_rn(low, __fmul_rn(floorf(fminf(fmaxf(steps, 0.0f), 15.0f)), scale));
    }
    target[element] = value;
  }
}

/// Scores of exact keys and of sketches; `IHP_PLAIN_MASSES`, `_SHARES` or `_MAXIMA`.
extern "C" __global__ __launch_bounds__(WARPS * WARP) void plain_score(const ihp_plain_input in, const ihp_plain_stage stage,
                                                                       const int wanted) {
  extern __shared__ double memory[];
  __shared__ double totals[WARPS][COLUMNS];
  REAL *tile = (REAL *)memory;
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const int size = in.head_size, stride = size + 1;
  const Work work(in, stage);
  const int first = blockIdx.x * COLUMNS, chunk = first + lane;
  const int active = work.active();
  const bool is_active = chunk < active;
  const int columns = stage.estimate == IHP_PLAIN_MEANS ? stage.chunk_size / stage.keys_per_mean : stage.chunk_size;
  const int last_key = in.start + in.rows - 1;
  const Wide first_row = work.first_row(stage);
  REAL total = wanted == IHP_PLAIN_MAXIMA ? -infinity() : 0;
  for (int base = 0; base < work.rows; base += ROWS) {
    const REAL *rows[OWN];
    REAL maximum[OWN], sum[OWN];
#pragma unroll
    for (int own = 0; own < OWN; own++) {
      rows[own] = work.row(in, stage, base + warp * OWN + own, 0);
      maximum[own] = -infinity();
      sum[own] = 0;
    }
    for (int inside = 0; first < active && inside < columns; inside++) {
      __syncthreads();
      for (int column = warp; column < COLUMNS; column += WARPS) {
        if (first + column >= active) continue;
        const int start = work.chunks.start(first + column);
        const int key = lower(start + inside, last_key);
        REAL *target = tile + column * stride;
        if (stage.estimate == IHP_PLAIN_MEANS)
          stage_mean(in, work.kv_head, start + inside * stage.keys_per_mean, stage.keys_per_mean, target);
        else if (stage.estimate == IHP_PLAIN_FOUR_BIT)
          stage_four_bit(in, work.kv_head, key, target);
        else
          // The tree search has no list whose chunks could be counted.
          stage_key(in, work.kv_head, key,
                    key_position(in, stage, work.range, stage.estimate == IHP_PLAIN_TREE ? 0 : first + column, start + inside), -1,
                    target);
      }
      __syncthreads();
      if (base + warp * OWN >= work.rows) continue;
      REAL scores[OWN];
      multiply<OWN>(rows, tile + lane * stride, size, scores);
#pragma unroll
      for (int own = 0; own < OWN; own++) {
        if (wanted == IHP_PLAIN_MAXIMA) {
          maximum[own] = larger(maximum[own], scores[own]);
        } else if (scores[own] > maximum[own]) {
          sum[own] = sum[own] * exponential(maximum[own] - scores[own]) + 1;
          maximum[own] = scores[own];
        } else {
          sum[own] += exponential(scores[own] - maximum[own]);
        }
      }
    }
#pragma unroll
    for (int own = 0; own < OWN; own++) {
      const int row = base + warp * OWN + own;
      if (row >= work.rows) continue;
      if (wanted == IHP_PLAIN_MASSES) {
        const REAL best = warp_maximum(is_active ? maximum[own] : -infinity());
        const REAL all = warp_sum(is_active ? sum[own] * exponential(maximum[own] - best) : 0);
        if (lane == 0) {
          double *partial = stage.partials + 2 * ((first_row + row) * gridDim.x + blockIdx.x);
          partial[0] = best;
          partial[1] = all;
        }
      } else if (wanted == IHP_PLAIN_MAXIMA) {
        total = larger(total, maximum[own]);
      } else {
        total += exponential((REAL)(maximum[own] - stage.log_masses[first_row + row])) * sum[own];
      }
    }
  }
  if (wanted == IHP_PLAIN_MASSES) return;
  totals[warp][lane] = total;
  __syncthreads();
  if (warp > 0 || chunk >= work.chunks.count) return;
  double all = totals[0][lane];
  for (int other = 1; other < WARPS; other++) {
    const double more = totals[other][lane];
    if (wanted == IHP_PLAIN_SHARES)
      all += more;
    else if (more > all)
      all = more;
  }
  stage.scores[((Wide)blockIdx.z * stage.sets + blockIdx.y) * stage.chunk_capacity + chunk] = is_active ? all : INACTIVE;
}

/// Puts the masses that `plain_score` has found of `tiles` tiles together; a warp for each row of a set.
extern "C" __global__ __launch_bounds__(WARP) void plain_sum(const ihp_plain_input in, const ihp_plain_stage stage,
                                                             const int tiles) {
  const Work work(in, stage);
  const int row = blockIdx.x, lane = threadIdx.x;
  if (row >= work.rows) return;
  const Wide place = work.first_row(stage) + row;
  double maximum = -infinity(), sum = 0;
  for (int tile = lane; tile < tiles; tile += WARP) {
    const double *partial = stage.partials + 2 * (place * tiles + tile);
    if (partial[1] == 0) continue;
    const double best = partial[0] > maximum ? partial[0] : maximum;
    sum = sum * exp(maximum - best) + partial[1] * exp(partial[0] - best);
    maximum = best;
  }
  for (int step = WARP / 2; step > 0; step /= 2) {
    const double other = __shfl_xor_sync(EVERY, maximum, step), more = __shfl_xor_sync(EVERY, sum, step);
    const double best = other > maximum ? other : maximum;
    if (best == -infinity()) continue;
    // The same numbers in the same order in all lanes.
    const double own = sum * exp(maximum - best), theirs = more * exp(other - best);
    sum = lane & step ? theirs + own : own + theirs;
    maximum = best;
  }
  if (lane == 0) stage.log_masses[place] = maximum + log(sum);
}

/// The halving search for the best key of a chunk.
extern "C" __global__ __launch_bounds__(WARPS * WARP) void plain_halve(const ihp_plain_input in, const ihp_plain_stage stage) {
  extern __shared__ double memory[];
  __shared__ REAL bests[WARPS][COLUMNS];
  __shared__ int lefts[COLUMNS], rights[COLUMNS];
  REAL *tile = (REAL *)memory;
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const int size = in.head_size, stride = size + 1;
  const Work work(in, stage);
  const int first = blockIdx.x * COLUMNS, chunk = first + lane;
  const int active = work.active();
  const bool is_active = chunk < active;
  const int last_key = in.start + in.rows - 1;
  if (warp == 0) {
    const int start = is_active ? work.chunks.start(chunk) : 0;
    lefts[lane] = start;
    rights[lane] = is_active ? lower(start + stage.chunk_size, work.range.limit) : start;
  }
  double found = -infinity();
  bool is_searching = is_active;
  while (__syncthreads_or(is_searching)) {
    const int left = lefts[lane], right = rights[lane], center = (left + right) / 2;
    REAL best[2];
    for (int branch = 0; branch < 2; branch++) {
      __syncthreads();
      for (int column = warp; column < COLUMNS; column += WARPS) {
        if (first + column >= active) continue;
        const int from = lefts[column], to = rights[column], middle = (from + to) / 2;
        const int low = branch == 0 ? from : middle, high = branch == 0 ? middle : to;
        const int probe = stage.takes_first ? low : (low + high) / 2;
        stage_key(in, work.kv_head, lower(probe, last_key), key_position(in, stage, work.range, first + column, probe), -1,
                  tile + column * stride);
      }
      __syncthreads();
      REAL most = -infinity();
      for (int base = 0; base < work.rows; base += ROWS) {
        const REAL *rows[OWN];
        REAL scores[OWN];
#pragma unroll
        for (int own = 0; own < OWN; own++) rows[own] = work.row(in, stage, base + warp * OWN + own, branch);
        multiply<OWN>(rows, tile + lane * stride, size, scores);
#pragma unroll
        for (int own = 0; own < OWN; own++)
          if (base + warp * OWN + own < work.rows) most = larger(most, scores[own]);
      }
      bests[warp][lane] = most;
      __syncthreads();
      for (int other = 0; other < WARPS; other++) most = larger(most, bests[other][lane]);
      best[branch] = most;
    }
    __syncthreads();
    if (is_searching) {
      const int next_left = best[0] > best[1] ? left : center, next_right = best[0] > best[1] ? center : right;
      if (stage.takes_final)
        found = best[1];
      else if (larger(best[0], best[1]) > found)
        found = larger(best[0], best[1]);
      // A search that has moved into the window ends there.
      is_searching = right - left > 1 && next_left <= work.range.last_start;
      if (warp == 0) {
        lefts[lane] = next_left;
        rights[lane] = next_right;
      }
    }
  }
  if (warp == 0 && chunk < work.chunks.count)
    stage.scores[((Wide)blockIdx.z * stage.sets + blockIdx.y) * stage.chunk_capacity + chunk] = is_active ? found : INACTIVE;
}
