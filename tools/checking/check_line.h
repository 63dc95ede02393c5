// CheckLine: one comparison of //tools:check.
#ifndef STRAKE_TOOLS_CHECKING_CHECK_LINE_H_
#define STRAKE_TOOLS_CHECKING_CHECK_LINE_H_

#include <cstdint>
#include <string>

#include "core/tensor/tensor.h"

namespace strake {

struct CheckLine {
  std::string name;         // of an op, a parameter, or "loss"
  std::string pass = {};    // of an op: "forward", "backward"; else empty
  std::string tensor = {};  // "dweight", "gradient"
  Shape shape = {};
  std::string layers = {};  // of an op: the layers that call it with these shapes
  double error = 0;         // infinite where a number is NaN or, against a truth of zeros, is not 0
  double tolerance = 0;
  Shape index = {};  // of the largest difference
  int rank = -1;     // of the largest difference; -1 where there is one rank

  // error / tolerance; 0 where there is no error.
  double Ratio() const;
  bool ok() const { return Ratio() <= 1; }
  // "gelu forward, y [64, 512]"
  std::string Title() const;
};

}  // namespace strake

#endif  // STRAKE_TOOLS_CHECKING_CHECK_LINE_H_
