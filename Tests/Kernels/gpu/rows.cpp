// SPDX-License-Identifier: Apache-2.0
// Operations on rows of activations and of logits (`model_rows.cu`, `logits.cu`) against double precision.
#include "ihp_model_parameters.h"
#include "test.h"

extern "C" void normalize_rows(ihp_norm);
extern "C" void gate_rows(ihp_gate);
extern "C" void route_rows(ihp_route);
extern "C" void cap_logits(ihp_logits);
extern "C" void summarize_logits(ihp_logits);

using namespace test;

/// Measured with 16 seeds: 8e-7 at most.
constexpr double kTolerance = 2e-6;
constexpr int kCases = 40;

/// Sometimes one of a row's numbers is none, or is infinite: whether it is so.
static bool spoil(std::vector<float> &numbers, size_t first, int count) {
  if (!one_in(6)) return false;
  numbers[first + between(0, count - 1)] = one_in(2) ? NAN : INFINITY;
  return true;
}

static void normalize() {
  Comparison outputs("normalize_rows", kTolerance), faults("normalize_rows, faults", 0);
  for (int repeat = 0; repeat < kCases; repeat++) {
    const int rows = any({1, between(2, 20)}), columns = any({between(1, 40), 128, between(129, 256), 257, 700});
    ihp_norm call = {};
    call.rows = rows;
    call.columns = columns;
    call.rows_per_token = any({1, 3});
    call.epsilon = 1e-5f;
    call.adds = one_in(2);
    std::vector<float> input = normals<float>((size_t)rows * columns), weight = normals<float>(columns);
    const bool in_place = one_in(3);
    std::vector<float> output = in_place ? input : normals<float>(input.size());
    std::vector<std::pair<int, int>> broken;
    call.faults.layer = 7;
    call.faults.first_row = 100;
    for (int row = 0; row < rows; row++)
      if (spoil(input, (size_t)row * columns, columns)) broken.push_back({100 + row / call.rows_per_token, 7});
    call.faults.capacity = between(0, 3);
    if (in_place) output = input;
    std::vector<double> want(output.begin(), output.end());
    for (int row = 0; row < rows; row++) {
      const float *own = &input[(size_t)row * columns];
      double sum = 0;
      for (int i = 0; i < columns; i++) sum += (double)own[i] * own[i];
      for (int i = 0; i < columns; i++) {
        const double value = own[i] / sqrt(sum / columns + call.epsilon) * weight[i];
        double &target = want[(size_t)row * columns + i];
        target = call.adds ? target + value : value;
      }
    }
    std::vector<int> list(1 + 2 * call.faults.capacity, 0);
    call.faults.list = list.data();
    call.input = in_place ? output.data() : input.data();
    call.weight = weight.data();
    call.output = output.data();
    const unsigned together = columns > 256 ? 1 : 8;
    device::launch({(unsigned)parts(rows, together)}, {together == 1 ? 256u : 32u, together}, 0,
                   [&] { normalize_rows(call); });
    const std::string description =
        described({{"rows", rows}, {"columns", columns}, {"adds", call.adds}, {"in place", in_place}});
    outputs.begin(description);
    for (size_t i = 0; i < want.size(); i++)
      outputs.expect(output[i], want[i], std::max(1.0, std::isfinite(want[i]) ? fabs(want[i]) : 1));
    faults.begin(description);
    faults.expect(list[0], (double)broken.size());
    for (int fault = 0; fault < std::min(list[0], call.faults.capacity); fault++) {
      // In any order, each once.
      const auto fault_found = std::make_pair(list[1 + 2 * fault], list[2 + 2 * fault]);
      const auto found = std::find(broken.begin(), broken.end(), fault_found);
      faults.expect(found != broken.end(), 1);
      if (found != broken.end()) broken.erase(found);
    }
  }
  outputs.report();
  faults.report();
}

static double gated(int activation, double gate, double up) {
  switch (activation) {
  case IHP_GATE_SILU: return gate / (1 + exp(-gate)) * up;
  case IHP_GATE_GELU_TANH: return 0.5 * gate * (1 + tanh(sqrt(2 / M_PI) * (gate + 0.044715 * gate * gate * gate))) * up;
  default: {
    const double low = std::min(gate, 7.0);
    return low / (1 + exp(-1.702 * low)) * (1 + std::min(std::max(up, -7.0), 7.0));
  }
  }
}

static void gate() {
  Comparison outputs("gate_rows", kTolerance);
  for (int repeat = 0; repeat < kCases; repeat++) {
    ihp_gate call = {};
    call.rows = between(1, 20);
    call.columns = between(1, 100);
    call.activation = any({IHP_GATE_SILU, IHP_GATE_GELU_TANH, IHP_GATE_CLAMPED_SWIGLU});
    std::vector<int> row_count;
    if (one_in(2)) row_count = {between(0, call.rows)};
    std::vector<float> gates = normals<float>((size_t)call.rows * call.columns, 4);
    std::vector<float> ups = normals<float>(gates.size(), 4);
    std::vector<double> want(gates.begin(), gates.end());
    const int rows = row_count.empty() ? call.rows : row_count[0];
    for (int i = 0; i < rows * call.columns; i++) want[i] = gated(call.activation, gates[i], ups[i]);
    call.gate = gates.data();
    call.up = ups.data();
    call.row_count = pointer(row_count);
    device::launch({(unsigned)between(1, 3)}, {256}, 0, [&] { gate_rows(call); });
    outputs.begin(described({{"rows", call.rows}, {"columns", call.columns}, {"activation", call.activation}}));
    for (size_t i = 0; i < want.size(); i++) outputs.expect(gates[i], want[i], std::max(1.0, fabs(want[i])));
  }
  outputs.report();
}

static void route() {
  Comparison outputs("route_rows", kTolerance);
  for (int repeat = 0; repeat < kCases; repeat++) {
    ihp_route call = {};
    call.rows = between(1, 40);
    call.experts = any({1, 4, between(5, 31), 32, between(33, 130)});
    call.used = std::min(call.experts, any({1, 2, 4, 8}));
    call.is_renormalised = one_in(2);
    call.scale = 1.5f;
    std::vector<float> logits = normals<float>((size_t)call.rows * call.experts);
    // Of equal ones the first is taken.
    if (one_in(2))
      for (float &logit : logits) logit = roundf(logit);
    std::vector<bool> is_spoilt(call.rows);
    const bool spoils = one_in(3);
    for (int row = 0; row < call.rows; row++)
      is_spoilt[row] = spoils && spoil(logits, (size_t)row * call.experts, call.experts);
    std::vector<int> counts(call.experts, 0), takers = nothing<int>((size_t)call.experts * call.rows);
    std::vector<float> factors = nothing<float>(takers.size());
    call.logits = logits.data();
    call.counts = counts.data();
    call.takers = takers.data();
    call.factors = factors.data();
    device::launch({(unsigned)parts(call.rows, 8)}, {256}, 0, [&] { route_rows(call); });

    std::vector<double> want((size_t)call.rows * call.experts, 0), got = want;
    int taken = 0;
    for (int row = 0; row < call.rows; row++) {
      // Then it takes whichever, of factors that are no numbers.
      if (is_spoilt[row]) continue;
      const float *own = &logits[(size_t)row * call.experts];
      std::vector<int> order(call.experts);
      for (int i = 0; i < call.experts; i++) order[i] = i;
      std::sort(order.begin(), order.end(),
                [&](int a, int b) { return own[a] > own[b] || (own[a] == own[b] && a < b); });
      double sum = 0;
      for (int i = 0; i < (call.is_renormalised ? call.used : call.experts); i++) sum += exp(own[order[i]]);
      for (int i = 0; i < call.used; i++)
        want[(size_t)row * call.experts + order[i]] = call.scale * exp(own[order[i]]) / sum;
    }
    outputs.begin(described({{"rows", call.rows}, {"experts", call.experts}, {"used", call.used}}));
    for (int expert = 0; expert < call.experts; expert++)
      for (int i = 0; i < counts[expert]; i++, taken++) {
        const size_t place = (size_t)takers.at(expert * call.rows + i) * call.experts + expert;
        // None takes an expert twice.
        outputs.expect(got.at(place), 0);
        got[place] = factors[expert * call.rows + i];
        if (is_spoilt[place / call.experts]) want[place] = NAN;
      }
    outputs.expect(taken, call.rows * call.used);
    for (size_t i = 0; i < want.size(); i++) outputs.expect(got[i], want[i]);
  }
  outputs.report();
}

static void logits() {
  Comparison capped("cap_logits", kTolerance), summaries("summarize_logits", kTolerance);
  for (int repeat = 0; repeat < kCases; repeat++) {
    ihp_logits call = {};
    call.rows = between(1, 5);
    call.columns = any({1, between(2, 511), 512, between(513, 3000)});
    call.scale = one_in(2) ? 1 : 0.25f;
    call.soft_cap = one_in(2) ? 0 : 5;
    std::vector<float> values = normals<float>((size_t)call.rows * call.columns, 6);
    if (one_in(2))
      for (float &value : values) value = roundf(value);
    std::vector<bool> is_spoilt;
    for (int row = 0; row < call.rows; row++)
      is_spoilt.push_back(spoil(values, (size_t)row * call.columns, call.columns));
    std::vector<double> want;
    for (float value : values) {
      const double scaled = (double)value * call.scale;
      const bool is_capped = call.soft_cap > 0 && std::isfinite(scaled);
      want.push_back(is_capped ? call.soft_cap * tanh(scaled / call.soft_cap) : scaled);
    }
    call.logits = values.data();
    device::launch({(unsigned)between(1, 3), (unsigned)call.rows}, {256}, 0, [&] { cap_logits(call); });
    const std::string description = described({{"rows", call.rows}, {"columns", call.columns}, {"cap", call.soft_cap}});
    capped.begin(description);
    for (size_t i = 0; i < want.size(); i++)
      capped.expect(values[i], want[i], std::isfinite(want[i]) ? std::max(1.0, fabs(want[i])) : 1);

    std::vector<int> targets;
    if (one_in(2))
      for (int row = 0; row < call.rows; row++) targets.push_back(between(0, call.columns - 1));
    std::vector<ihp_logit_summary> found = nothing<ihp_logit_summary>(call.rows);
    call.targets = pointer(targets);
    call.summaries = found.data();
    device::launch({(unsigned)call.rows}, {512}, 0, [&] { summarize_logits(call); });
    summaries.begin(description);
    for (int row = 0; row < call.rows; row++) {
      const float *own = &values[(size_t)row * call.columns];
      summaries.expect(found[row].target, targets.empty() ? 0 : own[targets[row]]);
      if (is_spoilt[row]) {
        summaries.expect(found[row].best, -1);
        continue;
      }
      const float *best = std::max_element(own, own + call.columns);
      double sum = 0;
      for (int i = 0; i < call.columns; i++) sum += exp((double)own[i] - *best);
      summaries.expect(found[row].best, (double)(best - own));
      summaries.expect(found[row].greatest, *best);
      summaries.expect(found[row].log_sum, *best + log(sum), std::max(1.0, fabs(*best + log(sum))));
    }
  }
  capped.report();
  summaries.report();
}

int main() {
  normalize();
  gate();
  route();
  logits();
}
