// A decoder-only transformer, from token ids to logits and sampled tokens. Knows nothing of text, requests or Python.
//
// The law: the logits of a row are a function of the weights and of the tokens of its own sequence up to it. Work is
// split by output column and by attention head, never along a sum, so neither the other rows of a step nor the number of
// threads nor the kernel set can change a bit.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "adapters.hpp"
#include "kernels/kernels.hpp"
#include "matrix.hpp"
#include "rope.hpp"
#include "sampler.hpp"
#include "threads.hpp"

namespace minivault {

enum class Mlp { gated_silu, gated_gelu_tanh, gelu_tanh, gelu };

struct ModelSpec {
    int vocab_size = 0;
    int hidden_size = 0;
    int layers = 0;
    int attention_heads = 0;
    int kv_heads = 0;
    int head_dim = 0;
    int intermediate_size = 0;
    bool layer_norm = false;   // else RMS
    float norm_eps = 1e-5f;
    Mlp mlp = Mlp::gated_silu;
    bool parallel = false;     // attention and MLP both read the layer's input
    bool shared_norm = false;  // parallel, and through the same norm
    bool post_norms = false;   // the outputs of attention and MLP are normed before they are added
    bool qk_norm = false;      // queries and keys are RMS-normed, each attention head by itself, before they are rotated
    float attention_scale = 1.0f;
    float attention_softcap = 0.0f;
    float logit_softcap = 0.0f;
    float embedding_scale = 1.0f;
    std::vector<int> windows;      // of each layer; 0: none
    std::vector<RopeSpec> ropes;   // none: no rotation
    std::vector<int> layer_ropes;  // of each layer, an index into `ropes`
    Lane lane = Lane::int8;

    bool gated() const { return mlp == Mlp::gated_silu || mlp == Mlp::gated_gelu_tanh; }
};

struct Norm {
    std::vector<float> weight;
    std::vector<float> bias;  // empty for RMS
    // What the columns of the matrices that read it were multiplied by, and it divided: powers of two. Empty: by 1.
    std::vector<float> balance;
};

struct Layer {
    Norm attention_norm;
    Norm post_attention_norm;  // with post_norms
    Norm post_mlp_norm;        // with post_norms
    Norm query_norm;           // with qk_norm, [head_dim]
    Norm key_norm;             // with qk_norm, [head_dim]
    std::unique_ptr<Matrix> qkv;
    std::unique_ptr<Matrix> output;
    Norm mlp_norm;             // unless shared_norm
    std::unique_ptr<Matrix> mlp_in;  // gate and up, or fc_in
    std::unique_ptr<Matrix> mlp_out;
};

// One sequence's part of a step: `tokens` at positions `start` and on, keys and values in the blocks of `blocks`.
struct StepItem {
    const std::vector<int>* tokens;
    int start;
    const std::vector<std::int32_t>* blocks;
    int drafted;       // so many of the tokens, the last ones, are guesses; only with a sampler
    Sampler* sampler;  // null: no token is due
    bool all_logits;   // keep the logits of every row, not only of those that are sampled
    bool keeps_hidden; // keep every row as the final norm gives it; only with `hidden_norm`
    const Adapter* adapter;  // null: the weights as they are
};

class Model {
  public:
    Model(const ModelSpec& spec, const KernelSet& kernels, int threads);

    Team& team() { return team_; }
    const KernelSet& kernels() const { return kernels_; }
    const ModelSpec& spec() const { return spec_; }

    // The weights, in any order; `finish` checks that all are there and makes room for `blocks` blocks of KV cache.
    std::unique_ptr<Table> embedding;
    std::unique_ptr<Table> positions;  // learned positions or null
    std::unique_ptr<Matrix> lm_head;
    Norm final_norm;
    Norm hidden_norm;  // the final norm as it is stored, for rows that are kept: `final_norm` is balanced with lm_head
    std::vector<Layer> layers;
    void finish(int blocks, int max_rows);

    int blocks() const { return blocks_; }
    std::size_t weight_bytes() const;
    std::size_t cache_bytes() const { return keys_.bytes() + values_.bytes(); }
    static std::size_t block_bytes(const ModelSpec& spec);

    // Runs every item; `sampled` gets a list for each: empty where no token was due; else the token that follows the last
    // one known, and, as long as a token is the one drafted in its place, the next. The samplers remember them. Logits
    // stay readable until the next step: `logit_rows` rows of `vocab_size`, in the order of the items.
    void step(const std::vector<StepItem>& items, std::vector<std::vector<Sampled>>& sampled);
    int logit_rows() const { return static_cast<int>(logit_source_.size()); }
    // Rows that were kept, [hidden_size] each, in the order of the items; readable until the next step.
    const float* hidden(int row) const { return kept_.as<float>() + static_cast<std::size_t>(row) * hidden_stride_; }
    const float* logits(int row) const { return logits_.as<float>() + static_cast<std::size_t>(row) * logit_stride_; }

  private:
    struct Row {
        int item;
        int position;
    };
    struct Run {  // rows next to each other that have the same adapter
        int first_row;
        int rows;
        const Adapter* adapter;
    };
    struct Tile {  // rows of one item that attend together
        int first_row;
        int rows;
    };

    void check(const StepItem& item) const;
    void plan(const std::vector<StepItem>& items);
    void plan_item(int place, const StepItem& item);
    void reserve(int rows, int logit_rows, int length);
    void walk(int member, const std::vector<StepItem>& items, std::vector<std::vector<Sampled>>& sampled);
    void walk_layer(int member, int layer, const std::vector<StepItem>& items, WorkQueue*& queue);
    void walk_mlp_in(int layer, WorkQueue*& queue);
    template <typename Work>
    void phase(WorkQueue*& queue, Work work) {
        team_.phase(*queue++, work);
    }
    void gather_logit_rows();
    void sample(const StepItem& item, int first_row, std::vector<float>& weights, std::vector<Sampled>& sampled);
    void embed(int row, int token);
    void keep_hidden(int row, int kept);
    void normalize_rows(const float* in, int rows, const Norm& norm, WorkQueue& queue);
    void add_normalized(const Norm& norm, WorkQueue& queue);
    void quantize_rows(const float* in, std::ptrdiff_t stride, int width, int rows, WorkQueue& queue);
    void multiply(const Matrix& matrix, const float* a, std::ptrdiff_t a_stride, int rows, float* out,
                  std::ptrdiff_t stride, bool accumulate, WorkQueue& queue);
    void adapt(int layer, Slot slot, const float* x, std::ptrdiff_t x_stride, float* out, std::ptrdiff_t stride,
               WorkQueue*& queue);
    bool has_adapter(int layer, Slot slot) const;
    void shrink(int layer, Slot slot, const float* x, std::ptrdiff_t x_stride, WorkQueue& queue);
    void expand(int layer, Slot slot, float* out, std::ptrdiff_t stride, WorkQueue& queue);
    void rotate_and_store(int layer, const std::vector<StepItem>& items, WorkQueue& queue);
    void rotate(int layer, int row, float* attention_head) const;
    void store_kv(int layer, const Row& row, int block, int kv, const float* key, const float* value);
    void attend(int member, int layer, const std::vector<StepItem>& items, WorkQueue& queue);
    void activate(WorkQueue& queue);
    void predict(int rows, WorkQueue& queue);
    QuantizedRows quantized(int width) const;
    float normalization(const float* x, float* mean) const;
    int pieces(int rows) const { return rows >= 2 * team_.size() ? 1 : team_.size(); }
    int window(int layer) const { return spec_.windows.empty() ? 0 : spec_.windows[layer]; }

    ModelSpec spec_;
    const KernelSet& kernels_;
    Team team_;
    int blocks_ = 0;
    int max_rows_ = 0;

    // Strides, in floats.
    int hidden_stride_, qkv_stride_, attention_stride_, mlp_stride_, inner_stride_, logit_stride_;
    int value_width_;  // head_dim rounded up to whole vectors
    int rope_stride_;  // floats of one row's angles, over all ropes
    std::vector<Rope> ropes_;

    Buffer keys_, values_;  // [layers][blocks][kv_heads][head_dim][16] and [...][16][value_width], 16-bit or float

    // Scratch of one step; the walking team owns it, split as the phases say.
    Buffer hidden_, normed_, branch_, qkv_, attention_, mlp_, inner_, rope_, quantized_, scales_, offsets_, logits_, scores_;
    Buffer kept_;
    Buffer inner_ranks_;  // of rows with an adapter, what its A gives
    std::size_t inner_ranks_capacity_ = 0;
    int inner_ranks_stride_ = 0;
    int rows_capacity_ = 0, logits_capacity_ = 0, kept_capacity_ = 0, length_capacity_ = 0;
    std::ptrdiff_t score_stride_ = 0;
    std::vector<Row> rows_;
    std::vector<Tile> tiles_;
    std::vector<Run> runs_;
    std::vector<int> kept_source_;    // row of each row that is kept
    std::vector<int> logit_source_;   // row of each row of logits
    std::vector<int> sample_source_;  // first row of logits that is sampled of each item, or -1
    std::vector<WorkQueue> queues_;
    std::vector<std::vector<float>> weights_;  // sampling scratch of each member
};

}  // namespace minivault
