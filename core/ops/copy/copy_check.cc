#include "core/ops/copy/copy_check.h"

#include <cstdint>

#include "core/ops/copy/copy.h"

namespace strake {

OpCheck CopyCheck(const OpCall& call) {
  return {.tensors = {In(call, "from"), Out(call, "to", kExact)},
          .run = [](const Context& ctx, const Tensors& t) { return Copy(ctx, t[0], t[1]); }};
}

// Elements between the rows keep their values.
OpCheck CopyRowsCheck(const OpCall& call) {
  return {.tensors = {In(call, "from"), InOut(call, "to", kExact)},
          .run = [rows = call.GetInt("rows"), columns = call.GetInt("columns"),
                  from_stride = call.GetInt("from_stride"),
                  to_stride = call.GetInt("to_stride")](const Context& ctx, const Tensors& t) {
            return CopyRows(ctx, t[0], from_stride, rows, columns, t[1], to_stride);
          }};
}

OpCheck SetZeroCheck(const OpCall& call) {
  return {.tensors = {Out(call, "x", kExact)},
          .run = [](const Context& ctx, const Tensors& t) { return SetZero(ctx, t[0]); }};
}

}  // namespace strake
