// SPDX-License-Identifier: Apache-2.0
// `score_tiles` against `plain_score` in double precision, from rows that are rounded as the tiles' are.
//
// Macros: ELEMENT, HEAD_SIZE, as the kernels have them.
#include "ihp_plain_parameters.h"
#include "test.h"

extern "C" void score_tiles(ihp_plain_input, ihp_plain_stage, int);
extern "C" void plain_score(ihp_plain_input, ihp_plain_stage, int);
extern "C" void plain_sum(ihp_plain_input, ihp_plain_stage, int);

using namespace test;

#define TEXT_OF(macro) #macro
#define TEXT(macro) TEXT_OF(macro)

constexpr int kPage = 64;

/// What both sorts of kernels make of a stage.
struct Scores {
  std::vector<double> maxima, log_masses, shares;
};

/// A stage, and the memory that it names.
struct Case {
  ihp_plain_input in = {};
  ihp_plain_stage stage = {};
  std::vector<ELEMENT> keys;
  std::vector<int> pages, starts, counts;
  std::vector<float> rows;

  Case() {
    in.kv_heads = between(1, 2);
    in.heads = in.kv_heads * between(1, 3);
    in.head_size = HEAD_SIZE;
    in.amplitude = 1;
    stage.first_row = any({0, 0, 32});
    stage.range_rows = 32 * between(1, 3);
    in.rows = stage.first_row + any({1, between(1, 2 * stage.range_rows), 2 * stage.range_rows});
    const int length = between(400, 900);
    in.start = length - in.rows;
    fill_keys(length);

    stage.ranges = parts(in.rows - stage.first_row, stage.range_rows);
    stage.query_block = 16;
    stage.sink = between(0, 40);
    stage.window = between(0, 200);
    stage.pruning_window = between(0, stage.window);
    stage.candidate_distance = between(0, stage.window);
    stage.chunk_size = 1 << between(0, 6);
    stage.estimate = IHP_PLAIN_EXACT;
    stage.scheme = any({IHP_PLAIN_RELATIVE, IHP_PLAIN_INFLLM});
    stage.is_first = 1;
    stage.query_stride = any({1, 2, 4});
    stage.row_capacity = parts(std::min(in.rows - stage.first_row, stage.range_rows), stage.query_stride);
    stage.sets = one_in(4) ? in.heads : in.kv_heads;
    stage.owners = any({1, stage.sets});
    stage.list.ranges = stage.list.parts = 1;
    const bool is_grid = one_in(2);
    if (is_grid)
      stage.chunk_capacity = parts(std::max(0, length - stage.sink - stage.window), stage.chunk_size);
    else
      fill_lists(length);

    // Rounding them once more changes nothing.
    for (const ELEMENT &value : normals<ELEMENT>(rows_of_all() * HEAD_SIZE, 3 / sqrtf(HEAD_SIZE)))
      rows.push_back(widen(value));
    rows.shrink_to_fit();
  }

  /// Pages that the sequence has not, and keys that are not there yet, are no numbers.
  void fill_keys(int length) {
    const int count = parts(length, kPage) + 2;
    for (int page = 0; page < count; page++) pages.push_back(page);
    std::shuffle(pages.begin(), pages.end(), chance);
    pages = std::vector<int>(pages.begin(), pages.end() - 2);
    keys = nothing<ELEMENT>((size_t)count * in.kv_heads * kPage * HEAD_SIZE);
    for (int key = 0; key < length; key++)
      for (int head = 0; head < in.kv_heads; head++)
        for (int i = 0; i < HEAD_SIZE; i++) {
          const size_t row = ((size_t)pages[key / kPage] * in.kv_heads + head) * kPage + key % kPage;
          narrow(normal(), keys[row * HEAD_SIZE + i]);
        }
    in.keys = keys.data();
    in.pages = pages.data();
  }

  /// Chunks of an earlier stage, each of which is some of this one's.
  void fill_lists(int length) {
    ihp_plain_list &list = stage.list;
    list.parts = 1 << between(0, 2);
    list.ranges = between(1, 2);
    const int size = stage.chunk_size * list.parts, all = std::max(1, (length - stage.sink) / size);
    list.capacity = list.count = between(1, std::min(all, 300));
    const int lists = parts(stage.ranges, list.ranges) * stage.owners;
    starts = nothing<int>((size_t)lists * list.capacity);
    counts = nothing<int>(lists);
    for (int number = 0; number < lists; number++) {
      std::vector<int> chunks;
      for (int chunk = 0; chunk < all; chunk++) chunks.push_back(stage.sink + chunk * size);
      std::shuffle(chunks.begin(), chunks.end(), chance);
      counts[number] = one_in(5) ? 0 : between(1, list.capacity);
      std::sort(chunks.begin(), chunks.begin() + counts[number]);
      std::copy(chunks.begin(), chunks.begin() + counts[number], starts.begin() + (size_t)number * list.capacity);
    }
    list.starts = starts.data();
    list.counts = counts.data();
    stage.chunk_capacity = list.capacity * list.parts;
  }

  size_t rows_of_all() const { return (size_t)stage.ranges * in.heads * stage.row_capacity; }

  std::string description() const {
    return described({{"heads", in.heads}, {"of keys", in.kv_heads}, {"sets", stage.sets}, {"owners", stage.owners},
                      {"first row", stage.first_row}, {"rows", in.rows}, {"start", in.start},
                      {"rows of a range", stage.range_rows}, {"sink", stage.sink}, {"window", stage.window},
                      {"chunk", stage.chunk_size}, {"stride", stage.query_stride}, {"lists", (double)counts.size()},
                      {"parts", stage.list.parts}, {"chunks", stage.chunk_capacity}});
  }

  /// `score(stage, wanted)` launches a kernel, each block of which has so many chunks.
  template <class Score> Scores scores(int chunks_of_block, Score score) const {
    Scores all;
    const int blocks = parts(stage.chunk_capacity, chunks_of_block);
    std::vector<double> partials = nothing<double>(rows_of_all() * blocks * 2);
    all.log_masses = nothing<double>(rows_of_all());
    all.maxima = nothing<double>((size_t)stage.ranges * stage.sets * stage.chunk_capacity);
    all.shares = all.maxima;
    ihp_plain_stage run = stage;
    run.partials = partials.data();
    run.log_masses = all.log_masses.data();
    const Extent grid = {(unsigned)blocks, (unsigned)stage.sets, (unsigned)stage.ranges};
    run.scores = all.maxima.data();
    score(grid, run, IHP_PLAIN_MAXIMA);
    run.scores = all.shares.data();
    score(grid, run, IHP_PLAIN_MASSES);
    device::launch({(unsigned)(stage.row_capacity * in.heads / stage.sets), grid.y, grid.z}, {32}, 0,
                   [&] { plain_sum(in, run, blocks); });
    score(grid, run, IHP_PLAIN_SHARES);
    return all;
  }

  Scores plainly() {
    std::vector<double> wide(rows.begin(), rows.end());
    stage.rows = wide.data();
    return scores(IHP_PLAIN_COLUMNS, [this](Extent grid, const ihp_plain_stage &run, int wanted) {
      device::launch(grid, {256}, sizeof(double) * IHP_PLAIN_COLUMNS * (HEAD_SIZE + 1),
                     [&] { plain_score(in, run, wanted); });
    });
  }

  Scores in_tiles() {
    stage.rows = rows.data();
    const int rows_at_once = HEAD_SIZE > 128 ? 32 : 64, keys_of_warp = HEAD_SIZE > 128 ? 16 : 32;
    const size_t bytes = (rows_at_once + 4 * 2 * keys_of_warp) * (2 * HEAD_SIZE + 16);
    return scores(IHP_PLAIN_RUN_KEYS / stage.chunk_size, [&](Extent grid, const ihp_plain_stage &run, int wanted) {
      device::launch(grid, {128}, bytes, [&] { score_tiles(in, run, wanted); });
    });
  }
};

int main() {
  const std::string name = "score_tiles, " TEXT(ELEMENT) ", heads of " TEXT(HEAD_SIZE);
  // Measured with 16 seeds: 1.4e-6, 7e-7 and 4.3e-6.
  Comparison maxima(name + ", maxima", 3e-6), log_masses(name + ", masses", 1.5e-6), shares(name + ", shares", 1e-5);
  for (int repeat = 0; repeat < 14; repeat++) {
    Case one;
    if (one.stage.chunk_capacity == 0) continue;
    for (Comparison *each : {&maxima, &log_masses, &shares}) each->begin(one.description());
    const Scores want = one.plainly(), got = one.in_tiles();
    // In parts of themselves, but for those that hardly count.
    for (size_t i = 0; i < want.maxima.size(); i++)
      maxima.expect(got.maxima[i], want.maxima[i], std::max(fabs(want.maxima[i]), 1.0));
    for (size_t i = 0; i < want.log_masses.size(); i++)
      log_masses.expect(got.log_masses[i], want.log_masses[i], std::max(fabs(want.log_masses[i]), 1.0));
    for (size_t i = 0; i < want.shares.size(); i++)
      shares.expect(got.shares[i], want.shares[i], std::max(fabs(want.shares[i]), 1e-6));
  }
  for (const Comparison *each : {&maxima, &log_masses, &shares}) each->report();
}
