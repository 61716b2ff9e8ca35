// SPDX-License-Identifier: Apache-2.0
// What tests of kernels share: numbers by chance, the same in every run, and comparisons.
#pragma once

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "device.h"
#include "elements.cuh"

namespace test {

/// Others where SEED is set.
inline std::mt19937 chance(getenv("SEED") ? (unsigned)atoi(getenv("SEED")) : 1);

/// Both included.
inline int between(int least, int most) { return least + (int)(chance() % (unsigned)(most - least + 1)); }
inline bool one_in(int count) { return between(1, count) == 1; }
inline int any(std::initializer_list<int> choices) { return choices.begin()[between(0, (int)choices.size() - 1)]; }
inline float normal() {
  static std::normal_distribution<float> numbers;
  return numbers(chance);
}

template <class T> std::vector<T> normals(size_t count, float scale = 1) {
  std::vector<T> all(count);
  for (T &value : all) narrow(scale * normal(), value);
  return all;
}

/// Memory that nothing has been written to: not a number, whatever type it is read as. Of exactly that size: the
/// address sanitizer sees what is touched beside it.
template <class T> std::vector<T> nothing(size_t count) {
  std::vector<T> all(count);
  if (count) memset((void *)all.data(), 0xff, count * sizeof(T));
  return all;
}

/// Null where there is nothing, as calls have it.
template <class T> T *pointer(std::vector<T> &all) { return all.empty() ? nullptr : all.data(); }

/// Numbers of one kernel beside those that it should have. The first case beyond the tolerance ends the program.
class Comparison {
 public:
  Comparison(std::string name, double tolerance) : name_(std::move(name)), tolerance_(tolerance) {}

  void begin(std::string description) {
    cases_++;
    numbers_ += in_case_;
    in_case_ = 0;
    case_ = std::move(description);
  }

  /// `scale`: what errors are measured in.
  void expect(double got, double want, double scale = 1) {
    in_case_++;
    if (got == want || (got != got && want != want)) return;
    const double error = fabs(got - want) / scale;
    if (!(error <= tolerance_)) {
      printf("%s, case %d, %s: number %zu is %.9g, not %.9g\n", name_.c_str(), cases_, case_.c_str(), in_case_, got,
             want);
      exit(1);
    }
    worst_ = std::max(worst_, error);
  }

  void report() const {
    printf("%s: %d cases, %zu numbers, worst error %.1e of %.1e\n", name_.c_str(), cases_, numbers_ + in_case_,
           worst_, tolerance_);
  }

 private:
  std::string name_, case_;
  double tolerance_, worst_ = 0;
  int cases_ = 0;
  size_t numbers_ = 0, in_case_ = 0;
};

inline std::string described(std::initializer_list<std::pair<const char *, double>> facts) {
  std::string all;
  for (const auto &fact : facts) {
    char one[64];
    snprintf(one, sizeof one, "%s%s %g", all.empty() ? "" : ", ", fact.first, fact.second);
    all += one;
  }
  return all;
}

inline int parts(int count, int size) { return (count + size - 1) / size; }

}  // namespace test
