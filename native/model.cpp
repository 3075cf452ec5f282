#include "model.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "portable_math.hpp"

namespace minivault {
namespace {

constexpr int kPhasesPerLayer = 10;
constexpr int kOtherPhases = 5;
constexpr int kTileQueries = 8;

// Inverse frequencies as Transformers has them: rounded to float, then scaled.
std::vector<float> rotary_frequencies(const ModelSpec& spec) {
    std::vector<float> result;
    if (spec.rope_theta == 0.0) return result;
    const double log_theta = portable_log(spec.rope_theta);
    for (int i = 0; i < spec.head_dim / 2; ++i) {
        double f = static_cast<float>(portable_exp(-2.0 * i / spec.head_dim * log_theta));
        if (spec.rope_scaling == 1) f = f / spec.rope_factor;
        if (spec.rope_scaling == 2) {
            const double turns = f * spec.rope_original_context / 6.283185307179586477;
            if (turns < spec.rope_low_freq_factor) {
                f = f / spec.rope_factor;
            } else if (turns <= spec.rope_high_freq_factor) {
                const double smooth = (turns - spec.rope_low_freq_factor) /
                                      (spec.rope_high_freq_factor - spec.rope_low_freq_factor);
                f = (1.0 - smooth) * f / spec.rope_factor + smooth * f;
            }
        }
        result.push_back(static_cast<float>(f));
    }
    return result;
}

}  // namespace

Model::Model(const ModelSpec& spec, const KernelSet& kernels, int threads)
    : spec_(spec), kernels_(kernels), team_(threads), frequencies_(rotary_frequencies(spec)) {
    const int heads = (spec.attention_heads + 2 * spec.kv_heads) * spec.head_dim;
    hidden_stride_ = round_up(spec.hidden_size, kGroup);
    qkv_stride_ = round_up(heads, kColumns);
    attention_stride_ = round_up(spec.attention_heads * spec.head_dim, kGroup);
    mlp_stride_ = round_up(spec.intermediate_size * (spec.gated_mlp ? 2 : 1), kColumns);
    inner_stride_ = round_up(spec.intermediate_size, kGroup);
    logit_stride_ = round_up(spec.vocab_size, kColumns);
    value_width_ = round_up(spec.head_dim, kLanes);
    layers.resize(spec.layers);
    weights_.resize(team_.size());
}

std::size_t Model::block_bytes(const ModelSpec& spec) {
    const std::size_t element = spec.lane == Lane::f32 ? 4 : 2;
    return element * spec.layers * spec.kv_heads * kBlock * (spec.head_dim + round_up(spec.head_dim, kLanes));
}

std::size_t Model::weight_bytes() const {
    std::size_t bytes = embedding->bytes() + (positions ? positions->bytes() : 0) + head->bytes();
    for (const auto& layer : layers) {
        bytes += layer.qkv->bytes() + layer.output->bytes() + layer.mlp_in->bytes() + layer.mlp_out->bytes();
    }
    return bytes;
}

void Model::finish(int blocks, int max_rows) {
    if (!embedding || !head || final_norm.weight.empty()) throw std::invalid_argument("weights are missing");
    for (const auto& layer : layers) {
        if (!layer.qkv || !layer.output || !layer.mlp_in || !layer.mlp_out || layer.attention_norm.weight.empty() ||
            layer.mlp_norm.weight.empty()) {
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

void Model::reserve(int rows, int logit_rows, int length) {
    if (rows > rows_capacity_) {
        const std::size_t n = std::max(rows, std::min(max_rows_, 2 * rows));
        const auto floats = [n](std::size_t stride) { return Buffer(n * stride * 4); };
        const std::size_t widest = std::max({hidden_stride_, attention_stride_, inner_stride_});
        hidden_ = floats(hidden_stride_);
        normed_ = floats(hidden_stride_);
        qkv_ = floats(qkv_stride_);
        attention_ = floats(attention_stride_);
        mlp_ = floats(mlp_stride_);
        inner_ = floats(inner_stride_);
        rope_ = floats(spec_.head_dim);
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
        score_stride_ = round_up(2 * length, 2 * kBlock);
        scores_ = Buffer(static_cast<std::size_t>(team_.size()) * kMaxQueries * score_stride_ * 4);
        length_capacity_ = 2 * length;
    }
}

// Lays out the rows of a step and the tiles of attention. Rows of a tile belong to one item.
void Model::plan(const std::vector<StepItem>& items) {
    rows_.clear();
    tiles_.clear();
    logit_source_.clear();
    sample_source_.assign(items.size(), -1);
    const int group = std::min(spec_.attention_heads / spec_.kv_heads, kMaxQueries);
    const int tile_rows = std::max(1, kTileQueries / group);
    int longest = 1;
    for (std::size_t i = 0; i < items.size(); ++i) {
        const int count = static_cast<int>(items[i].tokens->size());
        const int first = static_cast<int>(rows_.size());
        longest = std::max(longest, items[i].start + count);
        for (int r = 0; r < count; ++r) {
            rows_.push_back({static_cast<int>(i), items[i].start + r});
            if (items[i].all_logits || (items[i].sampler != nullptr && r == count - 1)) {
                logit_source_.push_back(first + r);
            }
        }
        if (items[i].sampler != nullptr) sample_source_[i] = static_cast<int>(logit_source_.size()) - 1;
        for (int r = 0; r < count; r += tile_rows) tiles_.push_back({first + r, std::min(tile_rows, count - r)});
    }
    // The longest tiles first, so that no member is left with one at the end.
    std::stable_sort(tiles_.begin(), tiles_.end(), [&](const Tile& a, const Tile& b) {
        return rows_[a.first_row].position > rows_[b.first_row].position;
    });
    reserve(static_cast<int>(rows_.size()), static_cast<int>(logit_source_.size()), longest);
    for (auto& queue : queues_) queue.reset();
}

void Model::step(const std::vector<StepItem>& items, std::vector<Sampled>& sampled) {
    for (const auto& item : items) {
        const std::int64_t last = item.start + static_cast<std::int64_t>(item.tokens->size());
        if (item.tokens->empty() || item.start < 0 ||
            static_cast<std::int64_t>(item.blocks->size()) * kBlock < last) {
            throw std::invalid_argument("an item has no tokens, or too few blocks for its positions");
        }
        for (const int block : *item.blocks) {
            if (block < 0 || block >= blocks_) throw std::invalid_argument("a block is out of range");
        }
        for (const int token : *item.tokens) {
            if (token < 0 || token >= embedding->rows()) throw std::invalid_argument("a token is out of range");
        }
        if (positions && last > positions->rows()) throw std::invalid_argument("a position is out of range");
    }
    plan(items);
    sampled.assign(items.size(), Sampled{});
    team_.run([&](int member) { walk(member, items, sampled); });
}

// Every member walks through all phases; a barrier ends each. Queues are taken in the same order by all.
void Model::walk(int member, const std::vector<StepItem>& items, std::vector<Sampled>& sampled) {
    WorkQueue* queue = queues_.data();
    const int rows = static_cast<int>(rows_.size());
    float* hidden = hidden_.as<float>();
    for (int r = queue->take(1); r < rows; r = queue->take(1)) {
        const Row& row = rows_[r];
        embed(r, (*items[row.item].tokens)[row.position - items[row.item].start]);
    }
    ++queue;
    team_.barrier();
    for (int l = 0; l < spec_.layers; ++l) {
        const Layer& layer = layers[l];
        normalize_rows(member, hidden, rows, layer.attention_norm, *queue++);
        team_.barrier();
        multiply(*layer.qkv, normed_.as<float>(), hidden_stride_, rows, qkv_.as<float>(), qkv_stride_, false, *queue++);
        team_.barrier();
        rotate_and_store(l, items, *queue++);
        team_.barrier();
        attend(member, l, items, *queue++);
        team_.barrier();
        quantize_rows(attention_.as<float>(), attention_stride_, attention_stride_, rows, *queue++);
        team_.barrier();
        multiply(*layer.output, attention_.as<float>(), attention_stride_, rows, hidden, hidden_stride_, true, *queue++);
        team_.barrier();
        normalize_rows(member, hidden, rows, layer.mlp_norm, *queue++);
        team_.barrier();
        multiply(*layer.mlp_in, normed_.as<float>(), hidden_stride_, rows, mlp_.as<float>(), mlp_stride_, false, *queue++);
        team_.barrier();
        activate(*queue++);
        team_.barrier();
        multiply(*layer.mlp_out, inner_.as<float>(), inner_stride_, rows, hidden, hidden_stride_, true, *queue++);
        team_.barrier();
    }
    const int logit_rows = static_cast<int>(logit_source_.size());
    if (logit_rows == 0) return;
    // Rows that need logits move to the front; sources ascend and never lie before their place.
    if (member == 0) {
        for (int i = 0; i < logit_rows; ++i) {
            if (logit_source_[i] != i) {
                std::memcpy(hidden + static_cast<std::size_t>(i) * hidden_stride_,
                            hidden + static_cast<std::size_t>(logit_source_[i]) * hidden_stride_, spec_.hidden_size * 4);
            }
        }
    }
    team_.barrier();
    normalize_rows(member, hidden, logit_rows, final_norm, *queue++);
    team_.barrier();
    multiply(*head, normed_.as<float>(), hidden_stride_, logit_rows, logits_.as<float>(), logit_stride_, false, *queue++);
    team_.barrier();
    for (int i = queue->take(1); i < static_cast<int>(items.size()); i = queue->take(1)) {
        if (sample_source_[i] < 0) continue;
        float* logits = logits_.as<float>() + static_cast<std::size_t>(sample_source_[i]) * logit_stride_;
        sampled[i] = items[i].sampler->sample(kernels_, logits, spec_.vocab_size, weights_[member]);
    }
}

void Model::embed(int row, int token) {
    float* x = hidden_.as<float>() + static_cast<std::size_t>(row) * hidden_stride_;
    embedding->read(token, x);
    if (positions) {
        float* p = normed_.as<float>() + static_cast<std::size_t>(row) * hidden_stride_;
        positions->read(rows_[row].position, p);
        for (int i = 0; i < spec_.hidden_size; ++i) x[i] = x[i] + p[i];
    }
    if (frequencies_.empty()) return;
    float* rope = rope_.as<float>() + static_cast<std::size_t>(row) * spec_.head_dim;
    const int half = spec_.head_dim / 2;
    for (int i = 0; i < half; ++i) {
        const float angle = static_cast<float>(rows_[row].position) * frequencies_[i];
        double sine, cosine;
        portable_sincos(angle, &sine, &cosine);
        rope[i] = static_cast<float>(cosine);
        rope[half + i] = static_cast<float>(sine);
    }
}

QuantizedRows Model::quantized(int width) const {
    return {quantized_.as<std::uint8_t>(), scales_.as<float>(), offsets_.as<std::int32_t>(), width / kGroup};
}

// Norm and quantisation in one phase. With few rows the members share a row: each finds the row's sum itself, which is
// the same sum, and then works on its own groups.
void Model::normalize_rows(int, const float* in, int rows, const Norm& norm, WorkQueue& queue) {
    const int width = spec_.hidden_size;
    const int groups = hidden_stride_ / kGroup;
    const int split = pieces(rows);
    const QuantizedRows q = quantized(hidden_stride_);
    for (int task = queue.take(1); task < rows * split; task = queue.take(1)) {
        const int row = task / split;
        const int begin = groups * (task % split) / split;
        const int end = groups * (task % split + 1) / split;
        const float* x = in + static_cast<std::size_t>(row) * hidden_stride_;
        float* y = normed_.as<float>() + static_cast<std::size_t>(row) * hidden_stride_;
        const float mean = spec_.layer_norm ? kernels_.sum(x, width) / static_cast<float>(width) : 0.0f;
        const float variance = kernels_.sum_of_squares(x, mean, width) / static_cast<float>(width);
        const float factor = 1.0f / std::sqrt(variance + spec_.norm_eps);
        const int first = begin * kGroup;
        const int count = std::min(end * kGroup, width) - first;
        if (count <= 0) continue;
        kernels_.normalize(x + first, mean, factor, norm.weight.data() + first,
                           norm.bias.empty() ? nullptr : norm.bias.data() + first, y + first, count);
        if (spec_.lane == Lane::int8) kernels_.quantize(y, row, begin, end, q);
    }
}

void Model::quantize_rows(const float* in, std::ptrdiff_t stride, int width, int rows, WorkQueue& queue) {
    if (spec_.lane != Lane::int8) return;
    const int groups = width / kGroup;
    const int split = pieces(rows);
    const QuantizedRows q = quantized(width);
    for (int task = queue.take(1); task < rows * split; task = queue.take(1)) {
        const int row = task / split;
        kernels_.quantize(in + row * stride, row, groups * (task % split) / split, groups * (task % split + 1) / split, q);
    }
}

void Model::multiply(const Matrix& matrix, const float* a, std::ptrdiff_t a_stride, int rows, float* out,
                     std::ptrdiff_t stride, bool accumulate, WorkQueue& queue) {
    const QuantizedRows q = quantized(matrix.padded_inputs());
    const int blocks = matrix.blocks();
    const int piece = std::max(1, blocks / (team_.size() * 12));
    for (int begin = queue.take(piece); begin < blocks; begin = queue.take(piece)) {
        for (int block = begin; block < std::min(begin + piece, blocks); ++block) {
            matrix.multiply(kernels_, block, a, a_stride, q, rows, out, stride, accumulate);
        }
    }
}

// Rotates queries and keys by their positions and writes keys and values to the cache. Task: a row and a KV head.
void Model::rotate_and_store(int layer, const std::vector<StepItem>& items, WorkQueue& queue) {
    const int dim = spec_.head_dim;
    const int half = dim / 2;
    const int group = spec_.attention_heads / spec_.kv_heads;
    const bool wide = spec_.lane == Lane::f32;
    const int tasks = static_cast<int>(rows_.size()) * spec_.kv_heads;
    const int piece = std::max(1, std::min(spec_.kv_heads, tasks / team_.size()));
    for (int begin = queue.take(piece); begin < tasks; begin = queue.take(piece)) {
        for (int task = begin; task < std::min(begin + piece, tasks); ++task) {
            const int r = task / spec_.kv_heads;
            const int kv = task % spec_.kv_heads;
            const Row& row = rows_[r];
            float* x = qkv_.as<float>() + static_cast<std::size_t>(r) * qkv_stride_;
            float* key = x + (spec_.attention_heads + kv) * dim;
            const float* value = x + (spec_.attention_heads + spec_.kv_heads + kv) * dim;
            if (!frequencies_.empty()) {
                const float* cosine = rope_.as<float>() + static_cast<std::size_t>(r) * dim;
                const float* sine = cosine + half;
                const auto rotate = [&](float* v) {
                    for (int i = 0; i < half; ++i) {
                        const float a = v[i];
                        const float b = v[half + i];
                        v[i] = a * cosine[i] - b * sine[i];
                        v[half + i] = b * cosine[i] + a * sine[i];
                    }
                };
                for (int h = 0; h < group; ++h) rotate(x + (kv * group + h) * dim);
                rotate(key);
            }
            const int slot = row.position % kBlock;
            const std::size_t block =
                (static_cast<std::size_t>(layer) * blocks_ + (*items[row.item].blocks)[row.position / kBlock]) *
                    spec_.kv_heads + kv;
            alignas(64) float padded[kLanes * 64];
            std::memcpy(padded, value, dim * 4);
            for (int i = dim; i < value_width_; ++i) padded[i] = 0.0f;
            if (wide) {
                float* k = keys_.as<float>() + block * dim * kBlock + slot;
                for (int i = 0; i < dim; ++i) k[static_cast<std::size_t>(i) * kBlock] = key[i];
                std::memcpy(values_.as<float>() + (block * kBlock + slot) * value_width_, padded, value_width_ * 4);
            } else {
                kernels_.store_f16(padded, values_.as<std::uint16_t>() + (block * kBlock + slot) * value_width_, value_width_);
                alignas(64) std::uint16_t halves[kLanes * 64];
                std::memcpy(padded, key, dim * 4);
                kernels_.store_f16(padded, halves, value_width_);
                std::uint16_t* k = keys_.as<std::uint16_t>() + block * dim * kBlock + slot;
                for (int i = 0; i < dim; ++i) k[static_cast<std::size_t>(i) * kBlock] = halves[i];
            }
        }
    }
}

// Task: a tile of rows, a KV head, and at most 16 of the query heads that share it.
void Model::attend(int member, int layer, const std::vector<StepItem>& items, WorkQueue& queue) {
    const int dim = spec_.head_dim;
    const int group = spec_.attention_heads / spec_.kv_heads;
    const int parts = (group + kMaxQueries - 1) / kMaxQueries;
    const std::size_t element = spec_.lane == Lane::f32 ? 4 : 2;
    const int tasks = static_cast<int>(tiles_.size()) * spec_.kv_heads * parts;
    for (int task = queue.take(1); task < tasks; task = queue.take(1)) {
        const Tile& tile = tiles_[task / (spec_.kv_heads * parts)];
        const int kv = task / parts % spec_.kv_heads;
        const int first_head = kv * group + task % parts * kMaxQueries;
        const int last_head = std::min(first_head + kMaxQueries, (kv + 1) * group);
        AttentionTile a{};
        for (int r = tile.first_row; r < tile.first_row + tile.rows; ++r) {
            const int position = rows_[r].position;
            for (int h = first_head; h < last_head; ++h) {
                a.q[a.queries] = qkv_.as<float>() + static_cast<std::size_t>(r) * qkv_stride_ + h * dim;
                a.out[a.queries] = attention_.as<float>() + static_cast<std::size_t>(r) * attention_stride_ + h * dim;
                a.first[a.queries] =
                    spec_.sliding_window > 0 ? std::max(0, position + 1 - spec_.sliding_window) : 0;
                a.last[a.queries] = position + 1;
                ++a.queries;
            }
        }
        const std::size_t base = (static_cast<std::size_t>(layer) * blocks_ * spec_.kv_heads + kv) * kBlock * element;
        a.head_dim = dim;
        a.scale = spec_.attention_scale;
        a.keys = keys_.as<std::uint8_t>() + base * dim;
        a.values = values_.as<std::uint8_t>() + base * value_width_;
        a.key_stride = static_cast<std::ptrdiff_t>(spec_.kv_heads) * kBlock * dim;
        a.value_stride = static_cast<std::ptrdiff_t>(spec_.kv_heads) * kBlock * value_width_;
        a.block_table = items[rows_[tile.first_row].item].blocks->data();
        a.scores = scores_.as<float>() + static_cast<std::size_t>(member) * kMaxQueries * score_stride_;
        a.score_stride = score_stride_;
        (spec_.lane == Lane::f32 ? kernels_.attention_f32 : kernels_.attention_f16)(a);
    }
}

// The MLP's nonlinearity, and quantisation for what follows. Task: a row, or a range of its groups.
void Model::activate(WorkQueue& queue) {
    const int rows = static_cast<int>(rows_.size());
    const int groups = inner_stride_ / kGroup;
    const int split = pieces(rows);
    const QuantizedRows q = quantized(inner_stride_);
    for (int task = queue.take(1); task < rows * split; task = queue.take(1)) {
        const int row = task / split;
        const int begin = groups * (task % split) / split;
        const int end = groups * (task % split + 1) / split;
        const int first = begin * kGroup;
        const int count = std::min(end * kGroup, spec_.intermediate_size) - first;
        if (count <= 0) continue;
        const float* x = mlp_.as<float>() + static_cast<std::size_t>(row) * mlp_stride_ + first;
        float* y = inner_.as<float>() + static_cast<std::size_t>(row) * inner_stride_;
        if (spec_.gated_mlp) {
            kernels_.silu_times(x, x + spec_.intermediate_size, y + first, count);
        } else {
            kernels_.gelu_tanh(x, y + first, count);
        }
        if (spec_.lane == Lane::int8) kernels_.quantize(y, row, begin, end, q);
    }
}

}  // namespace minivault
