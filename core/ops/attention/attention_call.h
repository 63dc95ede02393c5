// The sizes of an attention as attributes of its calls.
#ifndef STRAKE_CORE_OPS_ATTENTION_ATTENTION_CALL_H_
#define STRAKE_CORE_OPS_ATTENTION_ATTENTION_CALL_H_

#include "core/device/op_call.h"
#include "core/ops/attention/attention_shape.h"

namespace strake {

inline void SetAttentionShape(const AttentionShape& shape, OpCall* call) {
  call->Set("batch", shape.batch).Set("seq_len", shape.seq_len).Set("num_heads", shape.num_heads);
  call->Set("num_kv_heads", shape.num_kv_heads).Set("head_dim", shape.head_dim);
}

inline AttentionShape GetAttentionShape(const OpCall& call) {
  return {call.GetInt("batch"), call.GetInt("seq_len"), call.GetInt("num_heads"),
          call.GetInt("num_kv_heads"), call.GetInt("head_dim")};
}

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ATTENTION_ATTENTION_CALL_H_
