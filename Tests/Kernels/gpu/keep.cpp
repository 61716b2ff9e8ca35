// SPDX-License-Identifier: Apache-2.0
// The largest of many numbers (`plain_cut.cuh`), alone and as `plain_keep` takes chunks, against a sort.
#include "plain_cut.cuh"
#include "test.h"

extern "C" void plain_keep(ihp_plain_input, ihp_plain_stage);

using namespace test;

constexpr double kInactive = -32000;

/// Many equal ones, of either sign, or hardly any.
static std::vector<double> numbers(int count) {
  const int kind = between(0, 3);
  std::vector<double> all(count);
  for (double &value : all) {
    value = kind == 0 ? 0.25 : normal();
    // Without zeros of a sign, which stand below those of none: no score is one.
    if (kind == 1) value = round(value) + 0.0;
    if (kind == 2) value = 1e-3 * round(100 * exp(4 * value));
  }
  return all;
}

/// Places of the largest, ascending.
static std::vector<int> largest(const std::vector<double> &all, int kept, bool prefers_last) {
  std::vector<int> order(all.size());
  for (size_t i = 0; i < order.size(); i++) order[i] = (int)i;
  std::sort(order.begin(), order.end(), [&](int a, int b) {
    return all[a] != all[b] ? all[a] > all[b] : prefers_last ? a > b : a < b;
  });
  order.resize(std::max(0, std::min(kept, (int)all.size())));
  std::sort(order.begin(), order.end());
  return order;
}

static void keep_alone() {
  Comparison places("keep_largest", 0);
  for (int repeat = 0; repeat < 25; repeat++) {
    const int count = any({1, between(2, 100), between(1000, 1030), between(1030, 4000)});
    const int kept = any({0, 1, between(1, count), between(1, count), count, count + 3});
    const bool prefers_last = one_in(2);
    const unsigned threads = any({32, 256, CUT_THREADS});
    const std::vector<double> all = numbers(count);
    const std::vector<int> want = largest(all, kept, prefers_last);
    std::vector<int> got = nothing<int>(want.size());
    device::launch({1}, {threads}, 0, [&] {
      keep_largest(kept, count, prefers_last, [&](int index) { return all[index]; },
                   [&](int place, int index) { got.at(place) = index; });
    });
    places.begin(described({{"numbers", count}, {"kept", kept}, {"last", prefers_last}, {"threads", threads}}));
    for (size_t i = 0; i < want.size(); i++) places.expect(got[i], want[i]);
  }
  places.report();
}

/// A stage of a grid, and what it keeps.
static void keep_chunks() {
  Comparison chunks("plain_keep", 0), shares("plain_keep, shares", 1e-6);
  for (int repeat = 0; repeat < 12; repeat++) {
    ihp_plain_input in = {};
    ihp_plain_stage stage = {};
    in.heads = 4;
    in.rows = between(1, 100);
    in.start = between(200, 3000);
    stage.range_rows = 64;
    stage.ranges = parts(in.rows, stage.range_rows);
    stage.sink = 16;
    stage.window = 64;
    stage.candidate_distance = between(0, 128);
    stage.chunk_size = any({1, 4, 16});
    stage.query_stride = 1;
    stage.estimate = IHP_PLAIN_EXACT;
    stage.list.ranges = stage.list.parts = 1;
    stage.owners = any({1, 2});
    stage.sets = stage.owners * any({1, 2});
    stage.ranks_shares = one_in(2);
    stage.chooses = !one_in(6);
    const int grid = parts(in.start + in.rows - stage.sink - stage.window, stage.chunk_size);
    stage.chunk_capacity = grid;
    stage.keep = between(1, grid + 2);
    stage.keep_share = one_in(3) ? 0.3 : 0;
    stage.keep_least = between(1, 8);
    stage.kept_capacity = stage.chooses ? std::min(grid, stage.keep) : grid;
    std::vector<double> scores = numbers(stage.ranges * stage.sets * grid);
    const std::vector<double> given = scores;
    const int lists = stage.ranges * stage.owners;
    std::vector<int> kept = nothing<int>((size_t)lists * stage.kept_capacity), indices = kept;
    std::vector<int> counts = nothing<int>(lists);
    std::vector<float> held = nothing<float>(lists), parts_of_mass = nothing<float>(kept.size());
    stage.scores = scores.data();
    stage.kept = kept.data();
    stage.kept_indices = indices.data();
    stage.kept_counts = counts.data();
    stage.kept_held = held.data();
    stage.kept_shares = parts_of_mass.data();
    device::launch({(unsigned)stage.owners, (unsigned)stage.ranges}, {CUT_THREADS}, 0, [&] { plain_keep(in, stage); });

    const std::string description =
        described({{"chunks", grid}, {"keep", stage.keep}, {"share", stage.keep_share}, {"sets", stage.sets},
                   {"owners", stage.owners}, {"ranges", stage.ranges}, {"chooses", stage.chooses}});
    chunks.begin(description);
    shares.begin(description);
    for (int list = 0; list < lists; list++) {
      const int range = list / stage.owners, owner = list % stage.owners, sets = stage.sets / stage.owners;
      const int first = range * stage.range_rows, rows = std::min(stage.range_rows, in.rows - first);
      const int start = in.start + first, end = start + rows;
      const int count = parts(std::max(0, end - stage.sink - stage.window), stage.chunk_size);
      const int last = std::min(std::max(start - stage.candidate_distance, 0), end - stage.chunk_size);
      int active = 0;
      while (active < count && stage.sink + active * stage.chunk_size <= last) active++;
      std::vector<double> totals(count, kInactive);
      for (int chunk = 0; chunk < active; chunk++)
        for (int set = 0; set < sets; set++) {
          const double score = given[((size_t)range * stage.sets + owner * sets + set) * grid + chunk];
          double &total = totals[chunk];
          total = set == 0 ? score : stage.ranks_shares ? total + score : std::max(total, score);
        }
      int most = stage.keep;
      if (stage.keep_share > 0)
        most = std::min({active, most, std::max((int)ceil(active * stage.keep_share), stage.keep_least)});
      const std::vector<int> want = largest(totals, stage.chooses ? most : count, false);
      chunks.expect(counts[list], (double)want.size());
      double sum = 0;
      for (size_t i = 0; i < want.size(); i++) {
        const size_t at = (size_t)list * stage.kept_capacity + i;
        const bool has_share = stage.chooses && want[i] < active;
        const double share = has_share ? totals[want[i]] / ((double)rows * in.heads / stage.owners) : 0;
        sum += share;
        chunks.expect(indices[at], want[i]);
        chunks.expect(kept[at], stage.sink + want[i] * stage.chunk_size);
        shares.expect(parts_of_mass[at], share, std::max(1.0, fabs(share)));
      }
      const double part = !stage.chooses || active == 0 ? 1 : std::min(sum, 1.0);
      shares.expect(held[list], part, std::max(1.0, fabs(part)));
    }
  }
  chunks.report();
  shares.report();
}

int main() {
  keep_alone();
  keep_chunks();
}
