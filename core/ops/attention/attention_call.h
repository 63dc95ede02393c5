// The shape of an attention as attributes of its calls.
#ifndef STRAKE_CORE_OPS_ATTENTION_ATTENTION_CALL_H_
#define STRAKE_CORE_OPS_ATTENTION_ATTENTION_CALL_H_

#include "core/device/op_call.h"
#include "core/ops/attention/attention_shape.h"

namespace strake {

inline void SetAttentionShape(const AttentionShape& shape, OpCall* call) {
  call->Set("batch", shape.batch).Set("seq_len", shape.seq_len).Set("num_heads", shape.num_heads);
  call->Set("num_kv_heads", shape.num_kv_heads).Set("head_dim", shape.head_dim);
  call->Set("window", shape.window).Set("score_scale", shape.score_scale);
  call->Set("score_softcap", shape.score_softcap);
}

inline AttentionShape GetAttentionShape(const OpCall& call) {
  return {.batch = call.GetInt("batch"),
          .seq_len = call.GetInt("seq_len"),
          .num_heads = call.GetInt("num_heads"),
          .num_kv_heads = call.GetInt("num_kv_heads"),
          .head_dim = call.GetInt("head_dim"),
          .window = call.GetInt("window"),
          .score_scale = call.Get("score_scale"),
          .score_softcap = call.Get("score_softcap")};
}

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ATTENTION_ATTENTION_CALL_H_
