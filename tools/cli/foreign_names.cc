#include "tools/cli/foreign_names.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace strake {
namespace {

struct Row {
  const char* names;  // separated by blanks
  const char* answer;
};

// Of the answers to a name the first counts whose flags the program has.
constexpr Row kRows[] = {
    // Batches and lengths.
    {"batch_size per_device_batch_size device_batch_size per_gpu_batch_size train_batch_size -b",
     "the sequences of a pass are --micro_batch here, per data-parallel rank, and those of a whole "
     "step --global_batch"},
    {"batch_size", "it is --batch here"},
    {"per_device_train_batch_size per_gpu_train_batch_size train_micro_batch_size_per_gpu "
     "micro_batch_size",
     "--micro_batch"},
    {"per_device_eval_batch_size per_gpu_eval_batch_size eval_batch_size val_batch_size",
     "validation takes --micro_batch, as training does"},
    {"global_batch_size", "--global_batch"},
    {"total_batch_size -d",
     "the batch of a step is --global_batch here, in sequences: divide the tokens by --seq_len"},
    {"gradient_accumulation_steps gradient_accumulation grad_accum_steps grad_accumulation_steps "
     "accumulate_grad_batches",
     "give the sequences of a step as --global_batch: --micro_batch times --dp times these steps"},
    {"max_seq_length max_seq_len max_sequence_length seq_length sequence_length block_size "
     "context_length max_length model_max_length cutoff_len n_ctx -t",
     "--seq_len"},
    {"max_length",
     "--max_tokens counts the tokens that are generated: take those of the prompt off"},
    {"lora_r lora_dim", "--lora_rank"},
    {"lora_target_modules target_modules lora_target", "--lora_targets"},
    {"packing",
     "--documents says it: mask puts several documents into a sequence, pad one, and concat makes "
     "a stream of them"},
    // Lengths of a run.
    {"max_steps num_steps train_steps total_steps num_train_steps num_training_steps max_iters "
     "train_iters iters num_iterations max_train_steps lr_decay_iters -x",
     "--steps"},
    {"train_samples", "give --steps, the samples divided by --global_batch"},
    {"num_train_epochs num_epochs n_epochs max_train_epochs", "--epochs"},
    // Optimizer and schedule.
    {"learning_rate max_lr peak_lr -l", "--lr"},
    {"lr_min min_learning_rate learning_rate_min", "--min_lr"},
    {"learning_rate_decay_frac final_lr_frac -q",
     "give the last learning rate as --min_lr, which is this share of --lr"},
    {"decay_lr", "--schedule=constant keeps the learning rate, and others lower it"},
    {"lr_scheduler_type lr_scheduler lr_decay_style lr_schedule",
     "the shape of the learning rate is --schedule here: constant, linear, cosine or wsd"},
    {"warmup_iters num_warmup_steps lr_warmup_iters lr_warmup_steps -u", "--warmup_steps"},
    {"warmup_ratio warmup_fraction warmup_proportion lr_warmup_fraction",
     "give the warm-up in steps as --warmup_steps: this share times --steps"},
    {"lr_warmup_samples", "give --warmup_steps, the samples divided by --global_batch"},
    {"wd -c", "--weight_decay"},
    {"max_grad_norm grad_clip clip_grad gradient_clip_val gradient_clipping max_norm",
     "--clip_norm"},
    {"adam_beta1", "--beta1"},
    {"adam_beta2", "--beta2"},
    {"adam_epsilon adam_eps epsilon", "--eps"},
    {"optim optimizer optimizer_type",
     "the optimizer is AdamW, and its settings are --beta1, --beta2, --eps and --weight_decay"},
    {"data_seed random_seed", "--seed"},
    // Numbers and the machine.
    {"bf16 bfloat16 pure_bf16", "it is --dtype=bf16 here"},
    {"fp16 amp half float16",
     "16 bits are --dtype=bf16 here, which has the range of fp32 and needs no loss scale"},
    {"fp32 float32", "it is --dtype=fp32 here"},
    {"precision mixed_precision torch_dtype", "it is --dtype here: fp32, or bf16 for 16 bits"},
    {"no_cuda use_cpu cpu", "it is --device=cpu here, the default"},
    {"gpu cuda gpus use_cuda", "it is --device=cuda here"},
    {"gradient_checkpointing activation_checkpointing",
     "it is --activation_recompute=full here, or selective, which costs less time"},
    {"recompute_activations", "it is --activation_recompute=selective here"},
    {"recompute_granularity", "--activation_recompute"},
    {"recompute -r", "it is --activation_recompute here: none, selective or full"},
    {"deterministic_mode full_determinism use_deterministic_algorithms",
     "--deterministic is the default here"},
    {"num_workers dataloader_num_workers preprocessing_num_workers workers num_proc",
     "threads are --threads here"},
    // Ranks.
    {"tensor_model_parallel_size tensor_parallel_size tensor_parallel tp_size", "--tp"},
    {"data_parallel_size data_parallel dp_size", "--dp"},
    {"pipeline_model_parallel_size pipeline_parallel_size pipeline_parallel pp_size", "--pp"},
    {"num_layers_per_virtual_pipeline_stage virtual_pipeline_model_parallel_size "
     "num_virtual_stages_per_pipeline_rank",
     "the parts of the model per stage are --pp_chunks here"},
    {"context_parallel_size context_parallel cp_size", "--cp"},
    {"cp_comm_type ring_attention", "it is --cp_comm here: ring or all_gather"},
    {"num_gpus nproc nproc_per_node num_processes world_size",
     "the ranks are --tp times --cp times --pp times --dp here"},
    {"zero_stage zero_optimization_stage -z", "--zero"},
    {"use_distributed_optimizer distributed_optimizer",
     "it is --zero=1 here, or --zero=2 to shard the gradients too"},
    {"deepspeed fsdp", "--zero shards the optimizer's state, and with 2 the gradients, over --dp"},
    {"backend distributed_backend ddp_backend",
     "ranks communicate by --comm here: threads, mpi or nccl"},
    {"local_rank",
     "give --comm alone: a process learns its rank from mpirun's, srun's or torchrun's variables"},
    {"ddp_timeout", "--comm_timeout"},
    {"distributed_timeout_minutes", "it is --comm_timeout here, in seconds"},
    {"accumulate_allreduce_grads_in_fp32", "it is --grad_reduce_dtype=fp32 here, the default"},
    // Files.
    {"output_dir out_dir save save_dir checkpoint_dir save_path output_path output_prefix "
     "output_folder -o",
     "--out"},
    {"overwrite_output_dir",
     "--out goes on with the run that it holds; choose another one to begin anew"},
    {"resume_from_checkpoint load load_checkpoint resume_from",
     "a run goes on from the last checkpoint in --out by itself, and --resume=PATH goes on from "
     "another"},
    {"model_name_or_path pretrained_model_name_or_path pretrained_checkpoint base_model finetune",
     "--init_from trains on from a folder's weights, and --model=config.json from random ones"},
    {"model_name_or_path pretrained_model_name_or_path pretrained_checkpoint base_model load "
     "model_path model_dir ckpt ckpt_path model_args pretrained -m",
     "--checkpoint"},
    {"model_name_or_path model_name model_type config_name -e",
     "it is --model here, a preset or the path of a config.json"},
    {"n_layer n_layers num_layers num_hidden_layers n_head n_heads num_attention_heads n_embd "
     "hidden_size d_model ffn_hidden_size intermediate_size max_position_embeddings depth",
     "the model's shape is that of --model, a preset or the path of a config.json"},
    {"dataset dataset_name dataset_path data_path data_dir data train_file train_files "
     "train_dataset train_data_path input_bin -i",
     "--train_data"},
    {"dataset dataset_name dataset_path data_path data_dir train_data train_file input input_file",
     "--data"},
    {"validation_file validation_files val_file val_files eval_dataset valid_data_path "
     "validation_data input_val_bin -j",
     "--val_data"},
    {"validation_split_percentage val_split split test_size",
     "without --val_data a tenth of --train_data is held back, and it names other files"},
    {"tokenizer_name tokenizer_name_or_path tokenizer_path tokenizer_model tokenizer_type "
     "vocab_file merge_file",
     "it is --tokenizer here, a folder or file of any kind"},
    {"json_keys json_key text_column dataset_text_field", "--text_field"},
    {"append_eod", "it is --end_of_text here, which every document has unless that is none"},
    {"report_to wandb_log wandb_project use_wandb",
     "the numbers of each step are in metrics.jsonl in --out"},
    // What happens every so many steps.
    {"logging_steps log_interval", "--log_every"},
    {"save_steps save_interval checkpoint_interval -n", "--save_every"},
    {"eval_steps eval_interval val_loss_every -v", "--eval_every"},
    {"eval_iters max_eval_batches val_max_steps -m",
     "it is --eval_batches here, in batches of --micro_batch"},
    {"sample_interval", "--sample_every"},
    {"save_total_limit max_checkpoints", "--keep_last"},
    // Texts.
    {"max_new_tokens n_predict num_tokens_to_generate -n", "--max_tokens"},
    {"do_sample", "--temperature=0 takes the likeliest token, and above 0 tokens are drawn"},
    {"greedy", "it is --temperature=0 here"},
    {"repeat_penalty", "--repetition_penalty"},
    {"start -p", "--prompt"},
    {"tasks", "it is --eval_tasks here, which takes files of questions"},
};

// "it is --lr here" where the answer is a flag alone.
std::string Sentence(const std::string& answer) {
  const bool is_flag = answer.find_first_of(" =") == std::string::npos;
  return is_flag ? absl::StrCat("it is ", answer, " here") : answer;
}

}  // namespace

const std::vector<ForeignName>& ForeignNames() {
  static const auto* const names = [] {
    auto* all = new std::vector<ForeignName>;
    for (const Row& row : kRows) {
      for (const absl::string_view name : absl::StrSplit(row.names, ' ')) {
        all->push_back({std::string(name), row.answer});
      }
    }
    return all;
  }();
  return *names;
}

std::vector<std::string> FlagsInAnswer(absl::string_view answer) {
  std::vector<std::string> flags;
  for (size_t at = answer.find("--"); at != answer.npos; at = answer.find("--")) {
    answer.remove_prefix(at + 2);
    const auto end = std::find_if(answer.begin(), answer.end(),
                                  [](char c) { return !absl::ascii_isalnum(c) && c != '_'; });
    flags.emplace_back(answer.begin(), end);
  }
  return flags;
}

std::string AnswerToForeignName(absl::string_view name,
                                absl::FunctionRef<bool(absl::string_view)> is_option) {
  std::string known = absl::AsciiStrToLower(name);
  // A single letter keeps its -.
  if (known.size() > 2) known = absl::StrReplaceAll(known, {{"-", "_"}});
  for (const ForeignName& foreign : ForeignNames()) {
    if (foreign.name != known) continue;
    const std::vector<std::string> flags = FlagsInAnswer(foreign.answer);
    if (std::all_of(flags.begin(), flags.end(), is_option)) return Sentence(foreign.answer);
  }
  return "";
}

}  // namespace strake
