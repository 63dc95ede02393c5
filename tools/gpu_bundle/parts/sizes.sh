# The commands' sizes, which take seconds each on an H200, and their time limits in seconds.

readonly TESTS_SECONDS=150 TEST_SECONDS=60
readonly CHECK_SECONDS=120 ONE_CHECK_SECONDS=90
readonly TRAIN_SECONDS=150 ONE_RUN_SECONDS=60
readonly BENCHMARK_SECONDS=150 ONE_BENCHMARK_SECONDS=90
readonly PYTORCH_SECONDS=580 ONE_PYTORCH_SECONDS=300

# Name, options.
readonly CHECKS=(
  "llama-tiny, fp32|--model=llama-tiny --dtype=fp32"
  "llama-tiny, bf16|--model=llama-tiny --dtype=bf16"
  "llama-tiny, fp32, tp 2 x dp 2|--model=llama-tiny --dtype=fp32 --tp=2 --dp=2 --sequence_parallel"
  "llama-tiny, bf16, tp 2 x dp 2|--model=llama-tiny --dtype=bf16 --tp=2 --dp=2"
  "llama-100m, bf16|--model=llama-100m --dtype=bf16 --micro_batch=1 --seq_len=128"
  "gpt2-124m, bf16|--model=gpt2-124m --dtype=bf16 --micro_batch=1 --seq_len=128"
  "gpt2-124m, fp32|--model=gpt2-124m --dtype=fp32 --micro_batch=1 --seq_len=128"
)

readonly TRAIN_GPT2=$bundle/models/gpt2-2-layers.json
readonly TRAIN_LLAMA=$bundle/models/llama-2-layers.json
readonly TRAIN_STEPS=24 TRAIN_BATCH=8 NUM_GENERATED=32
readonly TRAIN_OPTIONS=(--seq_len=128 --micro_batch=4 --global_batch="$TRAIN_BATCH"
  --steps="$TRAIN_STEPS" --lr=0.005 --eps=0.1 --warmup_steps=0 --schedule=constant --log_every=10
  --eval_every=0 --sample_every=0 --save_every=0)
# For these models: the number of products after each other, 12 per layer and 2, and the largest
# number of terms in one.
readonly TRAIN_PRODUCTS=26 TRAIN_TERMS=1024
readonly NCCL_PORT=29617

# Part "first": its sub-parts' limits, and when all of it ends, from the script's start. PyTorch has
# what is left, at least 70 s.
readonly FIRST_SECONDS=585
readonly FIRST_KERNEL_SECONDS=20 FIRST_ATTENTION_SECONDS=45 FIRST_PRODUCTS_SECONDS=60
readonly FIRST_TESTS_SECONDS=110 FIRST_TRAIN_SECONDS=60 FIRST_CHECK_SECONDS=40
readonly FIRST_BENCHMARK_SECONDS=180
readonly FIRST_KERNEL=rms_norm_gpu_test FIRST_ATTENTION=cudnn_attention_gpu_test
readonly FIRST_CHECKS=(
  "gpt2-124m, bf16|--model=gpt2-124m --dtype=bf16 --micro_batch=1 --seq_len=128"
  "llama-100m, bf16|--model=llama-100m --dtype=bf16 --micro_batch=1 --seq_len=128"
)
# Name, options.
readonly FIRST_VARIANTS=("|" ", not deterministic|--deterministic=false")

# Name, target in tokens/s on an H200, micro-batches to try, options.
readonly BENCHMARKS=(
  "GPT-2 124M|650000|64 32 16 8 4 2 1|--model=gpt2-124m --seq_len=1024"
  "GPT-2 1558M|65500|32 16 8 4 2 1|--model=gpt2-1558m --seq_len=1024"
  "Llama-3-8B, 16 layers|23500|2 1|--model=$bundle/models/llama-3-8b-16-layers.json --seq_len=8192"
)
