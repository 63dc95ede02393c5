// Curve: the values of a quantity over the steps of a run, in memory that the steps do not fill.
//
// Steps fall into parts of equal width, a power of two. A part keeps the lowest and the highest of
// its values, with their steps, and the mean of all. The width doubles where there are more than
// kMaxParts parts; as long as it is 1, nothing is lost.
#ifndef STRAKE_TRAIN_REPORT_CURVE_H_
#define STRAKE_TRAIN_REPORT_CURVE_H_

#include <cstdint>
#include <map>
#include <string>

namespace strake {

class Curve {
 public:
  static constexpr int kMaxParts = 4096;

  // Takes steps from 0, in any order, each once. A value that is not finite is a gap.
  void Add(int64_t step, double value);

  bool empty() const { return parts_.empty(); }
  int num_parts() const { return static_cast<int>(parts_.size()); }

  // The members of a JSON object, without braces, of at most `max_parts` >= 1 parts:
  //
  //   "steps":[1,2,..],"values":[2.5,null,..]
  //   ...,"mean_steps":[1.5,2,..],"means":[2.4,..],"counts":[2,..]   of parts wider than a step
  //
  // Each list of steps has the first one, and then differences. A value reads back exactly; null
  // is a gap. A mean stands at the middle of its part, and has 7 digits.
  std::string JsonMembers(int max_parts) const;

 private:
  struct Point {
    int64_t step = 0;
    double value = 0;
  };
  struct Part {
    Point low, high;
    int64_t first = 0, last = 0;  // steps, gaps included
    int64_t count = 0;            // of values that are finite
    double sum = 0;
  };

  static void Merge(const Part& from, Part* part);
  void Widen();

  int64_t width_ = 1;
  std::map<int64_t, Part> parts_;  // by step / width_
};

}  // namespace strake

#endif  // STRAKE_TRAIN_REPORT_CURVE_H_
