// A transformer of the BERT family, from the token ids of texts to a vector for each. Knows nothing of characters,
// requests or Python.
//
// The law: a text's vector is a function of the weights and of its own tokens. Texts share matrix products, which are
// split by output column, and nothing else; attention is split by text, attention head and rows.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/kernels.hpp"
#include "matrix.hpp"
#include "model.hpp"
#include "pooling.hpp"
#include "threads.hpp"

namespace minivault {

struct EncoderSpec {
    int vocab_size = 0;
    int hidden_size = 0;
    int layers = 0;
    int attention_heads = 0;  // divides hidden_size
    int intermediate_size = 0;
    int max_tokens = 0;       // of a text
    int position_offset = 0;  // row of the table of positions that the first token gets
    float norm_eps = 1e-12f;
    bool tanh_gelu = false;   // else GELU by erf
    Pooling pooling = Pooling::mean;
    bool normalized = true;
    Lane lane = Lane::int8;

    int head_dim() const { return hidden_size / attention_heads; }
};

// A matrix whose few weightiest inputs are multiplied in floats, beside the quantised product of the others: small
// models feel every rounding, and a few columns make most of it.
struct EncoderLinear {
    std::unique_ptr<Matrix> matrix;
    std::vector<int> outliers;                // those inputs, at most kGroup; none in the f32 lane
    std::unique_ptr<Matrix> outlier_matrix;   // f32, [outputs, kGroup]; null without outliers
};

// A norm, and its twin for the reader's quantised input: scaled as the reader's columns want it, zero at its outliers.
struct EncoderNorm {
    Norm exact;
    Norm rounded;  // empty in the f32 lane, and for the last norm, which no matrix reads
};

struct EncoderLayer {
    EncoderLinear qkv;
    EncoderLinear output;
    EncoderNorm attention_norm;  // of the sum of the layer's input and what attention gives
    EncoderLinear mlp_in;
    EncoderLinear mlp_out;
    EncoderNorm mlp_norm;        // of that norm's output and what the MLP gives
};

class Encoder {
  public:
    Encoder(const EncoderSpec& spec, const KernelSet& kernels, int threads);

    Team& team() { return team_; }
    const KernelSet& kernels() const { return kernels_; }
    const EncoderSpec& spec() const { return spec_; }

    // The weights, in any order; `finish` checks that all are there.
    std::unique_ptr<Table> embedding;
    std::unique_ptr<Table> positions;
    std::vector<float> token_type;  // what every token gets, [hidden_size], or empty
    EncoderNorm embedding_norm;
    std::vector<EncoderLayer> layers;
    void finish();
    std::size_t weight_bytes() const;

    // The vectors of `texts`, one after the other, [texts][hidden_size]. One caller at a time.
    // Throws std::invalid_argument if a text has no tokens, too many, or one that the model does not have.
    void encode(const std::vector<std::vector<int>>& texts, float* out);

  private:
    struct Text {
        const std::vector<int>* tokens;
        int first_row;
        int first_block;
    };
    struct Tile {  // rows of one text that attend together
        int text;
        int first;
        int rows;
    };

    void check(const std::vector<int>& tokens) const;
    void plan(const std::vector<std::vector<int>>& texts);
    void reserve(int rows, int blocks, int length);
    void walk(int member, float* out);
    void embed(const Text& text, int place);
    void normalize(int row, const EncoderNorm& norm, const EncoderLinear* reader);
    void set_outliers_aside(int row, float* x, const EncoderLinear& reader);
    void multiply(const EncoderLinear& linear, const float* a, std::ptrdiff_t a_stride, float* out, std::ptrdiff_t stride,
                  bool accumulate, WorkQueue& queue);
    void store(int text, int block, int attention_head);
    void attend(int member, const Tile& tile, int attention_head);
    void activate(int row, const EncoderLinear& reader);
    QuantizedRows quantized(int width) const;
    void quantize(const float* row, int place, int width) const;

    EncoderSpec spec_;
    const KernelSet& kernels_;
    Team team_;

    // Strides, in floats.
    int hidden_stride_, qkv_stride_, inner_stride_;
    int value_width_;  // head_dim rounded up to whole vectors

    // Scratch of one batch; the walking team owns it, split as the phases say.
    Buffer hidden_, qkv_, attention_, inner_, outliers_, quantized_, scales_, offsets_, scores_;
    Buffer keys_, values_;  // of one layer: [blocks][attention heads][head_dim][16] and [...][16][value_width]
    int rows_ = 0, rows_capacity_ = 0, blocks_capacity_ = 0, length_capacity_ = 0;
    std::ptrdiff_t score_stride_ = 0;
    std::vector<Text> texts_;
    std::vector<int> text_of_row_;
    std::vector<std::pair<int, int>> blocks_;  // text, block of the text
    std::vector<Tile> tiles_;
    std::vector<std::int32_t> block_table_;  // 0, 1, 2, ...: the blocks of a text lie side by side
    std::vector<WorkQueue> queues_;
};

}  // namespace minivault
