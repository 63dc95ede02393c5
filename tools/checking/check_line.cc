#include "tools/checking/check_line.h"

#include <limits>

#include "absl/strings/str_cat.h"

namespace strake {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

double CheckLine::Ratio() const {
  if (error == 0) return 0;
  return tolerance > 0 ? error / tolerance : kInfinity;
}

std::string CheckLine::Title() const {
  return absl::StrCat(name, pass.empty() ? "" : " ", pass, ", ", tensor,
                      shape.empty() ? "" : " " + ShapeString(shape));
}

}  // namespace strake
