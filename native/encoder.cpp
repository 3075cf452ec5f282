#include "encoder.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "kv_blocks.hpp"

namespace minivault {
namespace {

constexpr int kPhasesPerLayer = 10;
constexpr int kOtherPhases = 2;

}  // namespace

Encoder::Encoder(const EncoderSpec& spec, const KernelSet& kernels, int threads)
    : spec_(spec), kernels_(kernels), team_(threads) {
    hidden_stride_ = round_up(spec.hidden_size, kGroup);
    qkv_stride_ = round_up(3 * spec.hidden_size, kColumns);
    inner_stride_ = round_up(spec.intermediate_size, kGroup);
    value_width_ = round_up(spec.head_dim(), kLanes);
    layers.resize(spec.layers);
    queues_ = std::vector<WorkQueue>(static_cast<std::size_t>(spec.layers) * kPhasesPerLayer + kOtherPhases);
}

void Encoder::finish() {
    if (!embedding || !positions || embedding_norm.exact.weight.empty()) throw std::invalid_argument("weights are missing");
    if (positions->rows() < spec_.position_offset + spec_.max_tokens) {
        throw std::invalid_argument("the table of positions is too short");
    }
    for (const auto& layer : layers) {
        if (layer.attention_norm.exact.weight.empty() || layer.mlp_norm.exact.weight.empty()) {
            throw std::invalid_argument("weights of a layer are missing");
        }
        for (const auto* linear : {&layer.qkv, &layer.output, &layer.mlp_in, &layer.mlp_out}) {
            if (!linear->matrix || linear->outliers.empty() != !linear->outlier_matrix) {
                throw std::invalid_argument("weights of a layer are missing");
            }
        }
    }
    if (spec_.lane == Lane::f32) return;
    for (std::size_t i = 0; i < layers.size(); ++i) {
        const EncoderNorm& before = i == 0 ? embedding_norm : layers[i - 1].mlp_norm;
        if (before.rounded.weight.empty() || layers[i].attention_norm.rounded.weight.empty()) {
            throw std::invalid_argument("a norm has no twin for the quantised input");
        }
    }
}

std::size_t Encoder::weight_bytes() const {
    std::size_t bytes = embedding->bytes() + positions->bytes();
    for (const auto& layer : layers) {
        for (const auto* linear : {&layer.qkv, &layer.output, &layer.mlp_in, &layer.mlp_out}) {
            bytes += linear->matrix->bytes() + (linear->outlier_matrix ? linear->outlier_matrix->bytes() : 0);
        }
    }
    return bytes;
}

void Encoder::check(const std::vector<int>& tokens) const {
    if (tokens.empty() || tokens.size() > static_cast<std::size_t>(spec_.max_tokens)) {
        throw std::invalid_argument("a text has no tokens, or too many");
    }
    for (const int token : tokens) {
        if (token < 0 || token >= spec_.vocab_size) throw std::invalid_argument("a token is out of range");
    }
}

void Encoder::reserve(int rows, int blocks, int length) {
    if (rows > rows_capacity_) {
        const std::size_t n = rows;
        const auto floats = [n](std::size_t stride) { return Buffer(n * stride * 4); };
        const std::size_t widest = std::max(hidden_stride_, inner_stride_);
        hidden_ = floats(hidden_stride_);
        qkv_ = floats(qkv_stride_);
        attention_ = floats(hidden_stride_);
        inner_ = floats(inner_stride_);
        outliers_ = floats(kGroup);
        quantized_ = Buffer(n * widest * kernels_.activation_bytes);
        scales_ = floats(widest / kGroup);
        offsets_ = floats(widest / kGroup);
        rows_capacity_ = rows;
    }
    if (blocks > blocks_capacity_) {
        const std::size_t slots = static_cast<std::size_t>(blocks) * spec_.attention_heads * kBlock;
        const std::size_t element = spec_.lane == Lane::f32 ? 4 : 2;
        keys_ = Buffer(slots * spec_.head_dim() * element);
        values_ = Buffer(slots * value_width_ * element);
        blocks_capacity_ = blocks;
    }
    if (length > length_capacity_) {
        const std::ptrdiff_t stride = round_up(length, 2 * kBlock);
        scores_ = Buffer(static_cast<std::size_t>(team_.size()) * kMaxQueries * stride * 4);
        block_table_.resize(stride / kBlock);
        for (std::size_t i = 0; i < block_table_.size(); ++i) block_table_[i] = static_cast<std::int32_t>(i);
        score_stride_ = stride;  // only now: a stride of more than there is would write beyond it
        length_capacity_ = length;
    }
}

void Encoder::plan(const std::vector<std::vector<int>>& texts) {
    texts_.clear();
    text_of_row_.clear();
    blocks_.clear();
    tiles_.clear();
    int longest = 1;
    for (std::size_t i = 0; i < texts.size(); ++i) {
        check(texts[i]);
        const int text = static_cast<int>(i);
        const int count = static_cast<int>(texts[i].size());
        texts_.push_back({&texts[i], static_cast<int>(text_of_row_.size()), static_cast<int>(blocks_.size())});
        text_of_row_.insert(text_of_row_.end(), count, text);
        for (int block = 0; block * kBlock < count; ++block) blocks_.push_back({text, block});
        for (int r = 0; r < count; r += kMaxQueries) tiles_.push_back({text, r, std::min(kMaxQueries, count - r)});
        longest = std::max(longest, count);
    }
    rows_ = static_cast<int>(text_of_row_.size());
    // The longest texts first, so that no member is left with one at the end.
    std::stable_sort(tiles_.begin(), tiles_.end(), [&](const Tile& a, const Tile& b) {
        return texts_[a.text].tokens->size() > texts_[b.text].tokens->size();
    });
    reserve(rows_, static_cast<int>(blocks_.size()), longest);
    for (auto& queue : queues_) queue.reset();
}

void Encoder::encode(const std::vector<std::vector<int>>& texts, float* out) {
    if (texts.empty()) return;
    plan(texts);
    team_.run([&](int member) { walk(member, out); });
}

// Every member walks through all phases, each with a queue of its own, in the same order.
void Encoder::walk(int member, float* out) {
    WorkQueue* queue = queues_.data();
    const auto each = [&](int count, auto work) {
        team_.phase(*queue++, [&](WorkQueue& q) {
            for (int i = q.take(1); i < count; i = q.take(1)) work(i);
        });
    };
    const auto product = [&](const EncoderLinear& linear, const Buffer& a, std::ptrdiff_t a_stride, const Buffer& to,
                             std::ptrdiff_t stride, bool add) {
        team_.phase(*queue++, [&](WorkQueue& q) {
            multiply(linear, a.as<float>(), a_stride, to.as<float>(), stride, add, q);
        });
    };
    const int heads = spec_.attention_heads;
    each(rows_, [&](int row) {
        const Text& text = texts_[text_of_row_[row]];
        embed(text, row - text.first_row);
        normalize(row, embedding_norm, &layers[0].qkv);
    });
    for (std::size_t l = 0; l < layers.size(); ++l) {
        const EncoderLayer& layer = layers[l];
        const EncoderLinear* next = l + 1 < layers.size() ? &layers[l + 1].qkv : nullptr;
        product(layer.qkv, hidden_, hidden_stride_, qkv_, qkv_stride_, false);
        each(static_cast<int>(blocks_.size()) * heads,
             [&](int i) { store(blocks_[i / heads].first, blocks_[i / heads].second, i % heads); });
        each(static_cast<int>(tiles_.size()) * heads, [&](int i) { attend(member, tiles_[i / heads], i % heads); });
        each(rows_, [&](int row) {
            float* x = attention_.as<float>() + static_cast<std::size_t>(row) * hidden_stride_;
            set_outliers_aside(row, x, layer.output);
            quantize(x, row, hidden_stride_);
        });
        product(layer.output, attention_, hidden_stride_, hidden_, hidden_stride_, true);
        each(rows_, [&](int row) { normalize(row, layer.attention_norm, &layer.mlp_in); });
        product(layer.mlp_in, hidden_, hidden_stride_, inner_, inner_stride_, false);
        each(rows_, [&](int row) { activate(row, layer.mlp_out); });
        product(layer.mlp_out, inner_, inner_stride_, hidden_, hidden_stride_, true);
        each(rows_, [&](int row) { normalize(row, layer.mlp_norm, next); });
    }
    each(static_cast<int>(texts_.size()), [&](int i) {
        const float* first = hidden_.as<float>() + static_cast<std::size_t>(texts_[i].first_row) * hidden_stride_;
        Pool pool(spec_.pooling);
        for (std::size_t r = 0; r < texts_[i].tokens->size(); ++r) pool.add(first + r * hidden_stride_, spec_.hidden_size);
        pool.finish(kernels_, spec_.normalized, out + static_cast<std::size_t>(i) * spec_.hidden_size);
    });
}

void Encoder::embed(const Text& text, int place) {
    float* x = hidden_.as<float>() + static_cast<std::size_t>(text.first_row + place) * hidden_stride_;
    float* p = attention_.as<float>() + static_cast<std::size_t>(text.first_row + place) * hidden_stride_;
    embedding->read((*text.tokens)[place], x);
    for (std::size_t i = 0; i < token_type.size(); ++i) x[i] = x[i] + token_type[i];
    positions->read(spec_.position_offset + place, p);
    for (int i = 0; i < spec_.hidden_size; ++i) x[i] = x[i] + p[i];
    // Padding up to whole groups counts as zero, in whatever order buffers were used before.
    for (int i = spec_.hidden_size; i < hidden_stride_; ++i) x[i] = p[i] = 0.0f;
}

// A row of hidden states in place, and for the matrix that reads it (if any) its quantised form and the outliers.
void Encoder::normalize(int row, const EncoderNorm& norm, const EncoderLinear* reader) {
    const int width = spec_.hidden_size;
    float* x = hidden_.as<float>() + static_cast<std::size_t>(row) * hidden_stride_;
    const float mean = kernels_.sum(x, width) / static_cast<float>(width);
    const float variance = kernels_.sum_of_squares(x, mean, width) / static_cast<float>(width);
    const float factor = 1.0f / std::sqrt(variance + spec_.norm_eps);
    const bool quantizes = spec_.lane != Lane::f32 && reader != nullptr;
    if (quantizes) {
        // What attention gave this row has been read by now, so its place serves as scratch; its padding stays zero.
        float* y = attention_.as<float>() + static_cast<std::size_t>(row) * hidden_stride_;
        kernels_.normalize(x, mean, factor, norm.rounded.weight.data(), norm.rounded.bias.data(), y, width);
        quantize(y, row, hidden_stride_);
    }
    kernels_.normalize(x, mean, factor, norm.exact.weight.data(), norm.exact.bias.data(), x, width);
    for (int i = width; i < hidden_stride_; ++i) x[i] = 0.0f;
    if (!quantizes) return;
    float* aside = outliers_.as<float>() + static_cast<std::size_t>(row) * kGroup;
    for (std::size_t i = 0; i < reader->outliers.size(); ++i) aside[i] = x[reader->outliers[i]];
}

// Moves the outliers of a row out of it, where they would cost the others their precision.
void Encoder::set_outliers_aside(int row, float* x, const EncoderLinear& reader) {
    float* aside = outliers_.as<float>() + static_cast<std::size_t>(row) * kGroup;
    for (std::size_t i = 0; i < reader.outliers.size(); ++i) {
        aside[i] = x[reader.outliers[i]];
        x[reader.outliers[i]] = 0.0f;
    }
}

QuantizedRows Encoder::quantized(int width) const {
    return {quantized_.as<std::uint8_t>(), scales_.as<float>(), offsets_.as<std::int32_t>(), width / kGroup};
}

void Encoder::quantize(const float* row, int place, int width) const {
    if (spec_.lane != Lane::f32) kernels_.quantize(row, place, 0, width / kGroup, quantized(width));
}

// Task: some columns of all rows.
void Encoder::multiply(const EncoderLinear& linear, const float* a, std::ptrdiff_t a_stride, float* out,
                       std::ptrdiff_t stride, bool accumulate, WorkQueue& queue) {
    const Matrix& matrix = *linear.matrix;
    const QuantizedRows q = quantized(matrix.padded_inputs());
    const int panels = matrix.panels();
    const int piece = std::max(1, panels / (team_.size() * 12));
    for (int begin = queue.take(piece); begin < panels; begin = queue.take(piece)) {
        for (int panel = begin; panel < std::min(begin + piece, panels); ++panel) {
            matrix.multiply(kernels_, panel, a, a_stride, q, rows_, out, stride, accumulate);
            if (!linear.outlier_matrix) continue;
            linear.outlier_matrix->multiply(kernels_, panel, outliers_.as<float>(), kGroup, q, rows_, out, stride, true);
        }
    }
}

// Keys and values of up to 16 positions of a text, as the attention kernels want them.
void Encoder::store(int text, int block, int attention_head) {
    const int dim = spec_.head_dim();
    const Text& t = texts_[text];
    const std::size_t place = static_cast<std::size_t>(t.first_block + block) * spec_.attention_heads + attention_head;
    const int end = std::min(kBlock, static_cast<int>(t.tokens->size()) - block * kBlock);
    const KvBlocks blocks{keys_.as<std::uint8_t>(), values_.as<std::uint8_t>(), dim, value_width_};
    for (int slot = 0; slot < end; ++slot) {
        const float* row = qkv_.as<float>() + static_cast<std::size_t>(t.first_row + block * kBlock + slot) * qkv_stride_;
        const float* key = row + spec_.hidden_size + attention_head * dim;
        const float* value = row + 2 * spec_.hidden_size + attention_head * dim;
        blocks.store(kernels_, spec_.lane, place, slot, key, value);
    }
}

// Every row of a text sees all of it.
void Encoder::attend(int member, const Tile& tile, int attention_head) {
    const int dim = spec_.head_dim();
    const Text& text = texts_[tile.text];
    AttentionTile a{};
    for (; a.queries < tile.rows; ++a.queries) {
        const std::size_t row = text.first_row + tile.first + a.queries;
        a.q[a.queries] = qkv_.as<float>() + row * qkv_stride_ + attention_head * dim;
        a.out[a.queries] = attention_.as<float>() + row * hidden_stride_ + attention_head * dim;
        a.first[a.queries] = 0;
        a.last[a.queries] = static_cast<int>(text.tokens->size());
    }
    const std::size_t element = spec_.lane == Lane::f32 ? 4 : 2;
    const std::size_t place = static_cast<std::size_t>(text.first_block) * spec_.attention_heads + attention_head;
    a.head_dim = dim;
    a.scale = 1.0f / std::sqrt(static_cast<float>(dim));
    a.keys = keys_.as<std::uint8_t>() + place * dim * kBlock * element;
    a.values = values_.as<std::uint8_t>() + place * value_width_ * kBlock * element;
    a.key_stride = static_cast<std::ptrdiff_t>(spec_.attention_heads) * kBlock * dim;
    a.value_stride = static_cast<std::ptrdiff_t>(spec_.attention_heads) * kBlock * value_width_;
    a.block_table = block_table_.data();
    a.scores = scores_.as<float>() + static_cast<std::size_t>(member) * kMaxQueries * score_stride_;
    a.score_stride = score_stride_;
    (spec_.lane == Lane::f32 ? kernels_.attention_f32 : kernels_.attention_f16)(a);
}

void Encoder::activate(int row, const EncoderLinear& reader) {
    float* x = inner_.as<float>() + static_cast<std::size_t>(row) * inner_stride_;
    (spec_.tanh_gelu ? kernels_.gelu_tanh : kernels_.gelu)(x, x, spec_.intermediate_size);
    for (int i = spec_.intermediate_size; i < inner_stride_; ++i) x[i] = 0.0f;
    set_outliers_aside(row, x, reader);
    quantize(x, row, inner_stride_);
}

}  // namespace minivault
