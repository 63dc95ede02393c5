# Replaces parts/sizes.sh: sizes that an emulated GPU runs in seconds.

readonly TESTS_SECONDS=60 TEST_SECONDS=60
readonly CHECK_SECONDS=60 ONE_CHECK_SECONDS=60
readonly TRAIN_SECONDS=120 ONE_RUN_SECONDS=60
readonly BENCHMARK_SECONDS=60 ONE_BENCHMARK_SECONDS=60 ONE_PYTORCH_SECONDS=60

readonly CHECKS=("tiny, bf16|--model=$bundle/models/gpt2.json --dtype=bf16 --micro_batch=1 --seq_len=4 --threads=1")

readonly TRAIN_GPT2=$bundle/models/gpt2.json
readonly TRAIN_LLAMA=$bundle/models/llama.json
readonly TRAIN_STEPS=4 TRAIN_BATCH=4 NUM_GENERATED=2
readonly TRAIN_OPTIONS=(--train_data="$bundle/text.txt" --seq_len=8 --micro_batch=2
  --global_batch="$TRAIN_BATCH" --steps="$TRAIN_STEPS" --lr=0.05 --eps=0.1 --warmup_steps=0
  --schedule=constant --threads=1 --eval_every=0 --sample_every=0 --save_every=0)
readonly TRAIN_PRODUCTS=14 TRAIN_TERMS=64

readonly FIRST_SECONDS=200
readonly FIRST_KERNEL_SECONDS=60 FIRST_ATTENTION_SECONDS=60 FIRST_PRODUCTS_SECONDS=60
readonly FIRST_TESTS_SECONDS=60 FIRST_TRAIN_SECONDS=60 FIRST_CHECK_SECONDS=60
readonly FIRST_BENCHMARK_SECONDS=60
readonly FIRST_KERNEL=cuda_runtime_gpu_test FIRST_ATTENTION=cuda_runtime_gpu_test
readonly FIRST_CHECKS=("${CHECKS[@]}")
readonly FIRST_VARIANTS=("|" ", not deterministic|--deterministic=false")

# The first micro-batch exceeds the emulated GPU's memory.
readonly BENCHMARKS=("tiny|1|1000000 1|--model=$bundle/models/gpt2.json --seq_len=4 --steps=1 --threads=1")
