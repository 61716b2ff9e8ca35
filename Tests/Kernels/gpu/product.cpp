// SPDX-License-Identifier: Apache-2.0
// `product_tiles` and `product_rows` against sums in double precision, of any rows that a call may name.
//
// Macro: WEIGHT, as `weights.cuh` has it.
#include "ihp_model_parameters.h"
#include "test.h"

// The CPU has rows of its own.
#define ihp_rows ihp_rows_of_cpu
extern "C" {
#include "tables.h"
}
#undef ihp_rows

extern "C" void product_tiles(ihp_product);
extern "C" void product_rows(ihp_product);

using namespace test;

struct Format {
  const char *name;
  ihp_element element;
  int width, bytes;
  /// Halves at the start of a block that its elements are multiplied by.
  int scales;
};
static const Format format =
    WEIGHT == IHP_F32 ? Format{"F32", IHP_F32, 1, 4, 0}
    : WEIGHT == IHP_Q8_0 ? Format{"Q8_0", IHP_Q8_0, 32, 34, 1}
                         : Format{"Q4_K", IHP_Q4_K, 256, 144, 2};

static float rounded(float value) {
  BFloat16 narrowed;
  narrow(value, narrowed);
  return widen(narrowed);
}

/// A call, and the memory that it names.
struct Case {
  ihp_product call = {};
  std::vector<float> input, bias, factors, output;
  std::vector<unsigned char> weight;
  std::vector<int> input_rows, output_rows, row_count;

  Case() {
    call.columns = format.width == 1 ? any({1, between(2, 63), 64, 65, 130, 200}) : format.width * between(1, 3);
    call.outputs = any({1, between(2, 63), 64, between(65, 150)});
    const int rows = any({1, between(2, 63), 64, between(65, 150)});
    call.rows = rows;
    if (one_in(3)) {
      // The host knows the most that it may be.
      call.rows += between(0, 70);
      row_count = {rows};
      if (one_in(6)) row_count = {0};
    }
    call.row_count = pointer(row_count);
    call.scale = one_in(2) ? 1 : 0.5f;
    call.adds = one_in(2);
    call.weight_stride = (long long)call.columns / format.width * format.bytes;
    int inputs = call.rows, targets = call.rows;
    if (one_in(2)) input_rows = some_rows(inputs);
    if (one_in(2)) output_rows = some_rows(targets);
    call.input_rows = pointer(input_rows);
    call.output_rows = pointer(output_rows);
    input = normals<float>((size_t)inputs * call.columns);
    call.input = input.data();
    fill_weight();
    if (one_in(2)) bias = normals<float>(call.outputs);
    if (one_in(2)) factors = normals<float>(call.rows);
    call.bias = pointer(bias);
    call.factors = pointer(factors);
    output = normals<float>((size_t)targets * call.outputs);
  }

  /// Others in any order, of more than there are.
  std::vector<int> some_rows(int &count) {
    count += between(0, 10);
    std::vector<int> all(count);
    for (int row = 0; row < count; row++) all[row] = row;
    std::shuffle(all.begin(), all.end(), chance);
    return std::vector<int>(all.begin(), all.begin() + call.rows);
  }

  void fill_weight() {
    weight.resize((size_t)call.outputs * call.weight_stride);
    call.weight = weight.data();
    if (format.width == 1) {
      const std::vector<float> values = normals<float>(weight.size() / 4);
      memcpy(weight.data(), values.data(), weight.size());
      return;
    }
    for (unsigned char &byte : weight) byte = (unsigned char)between(0, 255);
    for (size_t at = 0; at < weight.size(); at += format.bytes)
      for (int i = 0; i < format.scales; i++) {
        Half scale;
        narrow(0.01f * normal(), scale);
        memcpy(&weight[at + 2 * i], &scale, sizeof scale);
      }
  }

  std::string description() const {
    return described({{"rows", call.rows}, {"of them", row_count.empty() ? call.rows : row_count[0]},
                      {"columns", call.columns}, {"outputs", call.outputs}, {"chosen", !input_rows.empty()},
                      {"scattered", !output_rows.empty()}, {"factors", !factors.empty()}, {"adds", call.adds}});
  }

  /// The kernel's output beside the right one. Errors are measured in the length of the sum's terms.
  void compare(Comparison &comparison, bool rounds, const std::vector<float> &got) const {
    // Rows of weights may be read 16 elements at a time.
    const int padded = parts(call.columns, 16) * 16;
    std::vector<float> elements(padded);
    std::vector<double> want(output.begin(), output.end()), scale(output.size(), 1);
    const int rows = row_count.empty() ? call.rows : row_count[0];
    for (int to = 0; to < call.outputs; to++) {
      std::vector<unsigned char> row(weight.begin() + to * call.weight_stride,
                                     weight.begin() + (to + 1) * call.weight_stride);
      row.resize(row.size() + 64);
      ihp_baseline_kernels.widen(format.element, row.data(), 0, padded, elements.data());
      for (int from = 0; from < rows; from++) {
        const float *values = &input[(size_t)(input_rows.empty() ? from : input_rows[from]) * call.columns];
        double sum = 0, squares = 0;
        for (int i = 0; i < call.columns; i++) {
          const float value = rounds ? rounded(values[i]) : values[i];
          const double term = (double)value * (rounds ? rounded(elements[i]) : elements[i]);
          sum += term;
          squares += term * term;
        }
        double value = call.scale * sum;
        if (!bias.empty()) value += bias[to];
        if (!factors.empty()) value *= factors[from];
        const size_t place = (size_t)(output_rows.empty() ? from : output_rows[from]) * call.outputs + to;
        want[place] = call.adds ? want[place] + value : value;
        scale[place] = (1 + sqrt(squares)) * (factors.empty() ? 1 : 1 + fabs(factors[from]));
      }
    }
    for (size_t i = 0; i < want.size(); i++) comparison.expect(got[i], want[i], scale[i]);
  }

  template <class Kernel> std::vector<float> run(Extent grid, unsigned threads, Kernel kernel) const {
    std::vector<float> written = output;
    ihp_product running = call;
    running.output = written.data();
    device::launch(grid, {threads}, 0, [&] { kernel(running); });
    return written;
  }
};

int main() {
  const std::string name = format.name;
  // Measured with 16 seeds: 4e-6 and 8e-7, of sums of 768 terms.
  Comparison tiles("product_tiles, " + name, 1e-5), rows("product_rows, " + name, 2e-6);
  for (int repeat = 0; repeat < 24; repeat++) {
    Case one;
    tiles.begin(one.description());
    const unsigned outputs = one.call.outputs, count = one.call.rows;
    one.compare(tiles, true,
                one.run({(outputs + IHP_PRODUCT_TILE - 1) / IHP_PRODUCT_TILE,
                         (count + IHP_PRODUCT_TILE - 1) / IHP_PRODUCT_TILE}, 128, product_tiles));
    rows.begin(one.description());
    one.compare(rows, false,
                one.run({(outputs + 7) / 8, (count + IHP_PRODUCT_ROWS - 1) / IHP_PRODUCT_ROWS}, 256, product_rows));
  }
  tiles.report();
  rows.report();
}
