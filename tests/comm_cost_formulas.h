// The collectives of a training step by formula, to compare with the record of a step and with the
// communicators' counts. From the model it only uses a rank's parameters.
//
//   T tensor-parallel, X context-parallel and D data-parallel ranks; P stages; M micro-batches per
//   step and rank, of N of its tokens, n = N, or N / T with sequence parallelism (SP); S of the
//   stage's parts of the model have one before them, and R one behind them; L layers of the stage,
//   hidden size C, KV key/value heads; E elements of the rank's parameters, gaps included, in B
//   buckets of gradients; K chunks of a micro-batch's logits (models/head_loss.h); P of those that
//   the rank updates have partial gradients: Pr of replicated parameters, Pk of replicated
//   key/value heads. Elements are of the parameters' dtype, of gradients where marked g, f64 where
//   marked d.
//
//   phase              axis  collective              calls          elements per call
//   embedding          tp    sum                     M              N C
//   forward            tp    sum                     2 L M          N C
//   backward           tp    sum                     2 L M          N C
//   head               tp    sum                     M              N C
//   each of the above  tp    SP: all-gather          as the sum     N C
//   again, backward    tp    SP: all-gather          2 L M          N C, with recomputation
//   forward, backward  tp    all-reduce              L M            2 N g, with q and k norms of
//                                                                   whole projections
//   again, backward    tp    all-reduce              L M            2 N g, if all is recomputed
//   loss               tp    all-reduce max          M K            N g in all, per micro-batch
//                      tp    all-reduce              M K            2 N g in all, per micro-batch
//   context            cp    ring: send, receive     L M (2 Z + Z')  N K / 2 for each chunk moved
//   again              cp    ring: send, receive     L M Z          if all is recomputed
//                      cp    all-gather              2 L M          N X K; 3 L M if recomputed
//                      cp    reduce-scatter          L M            N X K g
//   pipeline           pp    send, receive           M (S + R)      n C: activations, gradients
//   tied_table         pp    send, receive           1 for a bucket its elements that the rank
//                            on the first, last stage               updates, g
//   gradients          dp    zero 0: all-reduce      B              E g in all
//                            zero 1: reduce-scatter  B              E g in all
//                            zero 2: reduce-scatter  B M            E g in all, per micro-batch
//   partial_gradients  tp    all-reduce              1 if any       Pr g (SP; and Pk g if KV = 1)
//                      kv    all-reduce              1 if any       Pk g, T/KV ranks (1 < KV < T)
//   sharded_optimizer  dp    zero 1, 2: all-gather   1              E
//   norm               tp    all-reduce              1              20 of i64
//                      pp    all-reduce              1              20 of i64
//                      dp    zero 1, 2: all-reduce   1              20 of i64
//   control            tp    all-reduce              1              1 d: stop
//                      pp    all-reduce              1              2 d: stop, loss
//                      dp    all-reduce              1              2 d: stop, loss
//
// A token has K elements of keys and values on a rank, and a rank N / 2 tokens in each of its two
// chunks. Of the others' queries Z ranks see some of its keys, and its own see those of Z' ranks.
// Chunks of keys go to the ranks that see them, gradients in g back. The group of gradients,
// optimizer, norm and control is dp, with context parallelism dp times cp.
//
// The first stage has the embedding's rows, the last one those of head and loss. "sum" is an
// all-reduce, or with SP a reduce-scatter, whose all-gather is
// in the other pass of the same layer. A block has four sums: after the row-parallel layers of its
// two halves in the forward pass, before their column-parallel layers in the backward pass. The
// head has only the latter, the embedding only the former. Recomputation
// (models/activation_recompute.h) gathers the norms' outputs once more, in rows of the backward
// pass. A group of one rank has no collectives. Validation and the comparisons of Communicator's
// check mode are not included.
#ifndef STRAKE_TESTS_COMM_COST_FORMULAS_H_
#define STRAKE_TESTS_COMM_COST_FORMULAS_H_

#include <vector>

#include "train/plan/comm_cost.h"

namespace strake::testing {

// As CommCost(), for options that it takes.
std::vector<CommCostRow> CommCostByFormula(const CommCostOptions& options);

}  // namespace strake::testing

#endif  // STRAKE_TESTS_COMM_COST_FORMULAS_H_
