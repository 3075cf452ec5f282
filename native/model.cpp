// What a model is made of and takes; its step is in model_step.cpp.
#include "model.hpp"

#include <algorithm>
#include <stdexcept>

namespace minivault {
namespace {

constexpr int kPhasesPerLayer = 13 + 2 * kSlots;  // two for each matrix that an adapter changes
constexpr int kOtherPhases = 6;

}  // namespace

Model::Model(const ModelSpec& spec, const KernelSet& kernels, int threads)
    : spec_(spec), kernels_(kernels), team_(threads) {
    const int heads = (spec.attention_heads + 2 * spec.kv_heads) * spec.head_dim;
    hidden_stride_ = round_up(spec.hidden_size, kGroup);
    qkv_stride_ = round_up(heads, kColumns);
    attention_stride_ = round_up(spec.attention_heads * spec.head_dim, kGroup);
    mlp_stride_ = round_up(spec.intermediate_size * (spec.gated() ? 2 : 1), kColumns);
    inner_stride_ = round_up(spec.intermediate_size, kGroup);
    logit_stride_ = round_up(spec.vocab_size, kColumns);
    value_width_ = round_up(spec.head_dim, kLanes);
    rope_stride_ = 0;
    for (const auto& rope : spec.ropes) {
        ropes_.emplace_back(rope);
        rope_stride_ += rope.dim;
    }
    layers.resize(spec.layers);
    weights_.resize(team_.size());
}

std::size_t Model::block_bytes(const ModelSpec& spec) {
    const std::size_t element = spec.lane == Lane::f32 ? 4 : 2;
    return element * spec.layers * spec.kv_heads * kBlock * (spec.head_dim + round_up(spec.head_dim, kLanes));
}

std::size_t Model::weight_bytes() const {
    std::size_t bytes = embedding->bytes() + (positions ? positions->bytes() : 0) + lm_head->bytes();
    for (const auto& layer : layers) {
        bytes += layer.qkv->bytes() + layer.output->bytes() + layer.mlp_in->bytes() + layer.mlp_out->bytes();
    }
    return bytes;
}

void Model::finish(int blocks, int max_rows) {
    if (!embedding || !lm_head || final_norm.weight.empty()) throw std::invalid_argument("weights are missing");
    for (const auto& layer : layers) {
        if (!layer.qkv || !layer.output || !layer.mlp_in || !layer.mlp_out || layer.attention_norm.weight.empty() ||
            layer.mlp_norm.weight.empty() != spec_.shared_norm ||
            layer.post_attention_norm.weight.empty() == spec_.post_norms ||
            layer.post_mlp_norm.weight.empty() == spec_.post_norms ||
            layer.query_norm.weight.empty() == spec_.qk_norm || layer.key_norm.weight.empty() == spec_.qk_norm) {
            throw std::invalid_argument("weights of a layer are missing");
        }
    }
    const std::size_t element = spec_.lane == Lane::f32 ? 4 : 2;
    const std::size_t slots = static_cast<std::size_t>(spec_.layers) * blocks * spec_.kv_heads * kBlock;
    keys_ = Buffer(slots * spec_.head_dim * element);
    values_ = Buffer(slots * value_width_ * element);
    blocks_ = blocks;
    max_rows_ = max_rows;
    queues_ = std::vector<WorkQueue>(static_cast<std::size_t>(spec_.layers) * kPhasesPerLayer + kOtherPhases);
}

// Room for what was planned: buffers grow and never shrink.
void Model::reserve(int rows, int logit_rows, int length) {
    if (rows > rows_capacity_) {
        const std::size_t n = std::max(rows, std::min(max_rows_, 2 * rows));
        const auto floats = [n](std::size_t stride) { return Buffer(n * stride * 4); };
        const std::size_t widest = std::max({hidden_stride_, attention_stride_, inner_stride_});
        hidden_ = floats(hidden_stride_);
        normed_ = floats(hidden_stride_);
        branch_ = floats(hidden_stride_);
        qkv_ = floats(qkv_stride_);
        attention_ = floats(attention_stride_);
        mlp_ = floats(mlp_stride_);
        inner_ = floats(inner_stride_);
        rope_ = floats(std::max(rope_stride_, 1));
        quantized_ = Buffer(n * widest * kernels_.activation_bytes);
        scales_ = floats(widest / kGroup);
        offsets_ = floats(widest / kGroup);
        rows_capacity_ = static_cast<int>(n);
    }
    if (logit_rows > logits_capacity_) {
        logits_ = Buffer(static_cast<std::size_t>(logit_rows) * logit_stride_ * 4);
        logits_capacity_ = logit_rows;
    }
    if (length > length_capacity_) {
        const std::ptrdiff_t stride = round_up(2 * length, 2 * kBlock);
        scores_ = Buffer(static_cast<std::size_t>(team_.size()) * kMaxQueries * stride * 4);
        score_stride_ = stride;  // only now: a stride of more than there is would write beyond it
        length_capacity_ = 2 * length;
    }
    const int kept = static_cast<int>(kept_source_.size());
    if (kept > kept_capacity_) {
        kept_ = Buffer(static_cast<std::size_t>(kept) * hidden_stride_ * 4);
        kept_capacity_ = kept;
    }
    const std::size_t ranks = runs_.empty() ? 0 : rows_.size() * inner_ranks_stride_;
    if (ranks > inner_ranks_capacity_) {
        inner_ranks_ = Buffer(ranks * 4);
        inner_ranks_capacity_ = ranks;
    }
}

}  // namespace minivault
