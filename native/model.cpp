#include "model.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

namespace minivault {
namespace {

constexpr int kPhasesPerLayer = 13 + 2 * kSlots;  // two for each matrix that an adapter changes
constexpr int kOtherPhases = 6;
constexpr int kTileQueries = 8;
constexpr int kMaxHeadDim = 1024;

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
        score_stride_ = round_up(2 * length, 2 * kBlock);
        scores_ = Buffer(static_cast<std::size_t>(team_.size()) * kMaxQueries * score_stride_ * 4);
        length_capacity_ = 2 * length;
    }
}

// Lays out the rows of a step and the tiles of attention. Rows of a tile belong to one item.
void Model::plan(const std::vector<StepItem>& items) {
    rows_.clear();
    tiles_.clear();
    runs_.clear();
    inner_ranks_stride_ = 0;
    kept_source_.clear();
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
            if (items[i].keeps_hidden) kept_source_.push_back(first + r);
            if (items[i].all_logits || (items[i].sampler != nullptr && r >= count - 1 - items[i].drafted)) {
                logit_source_.push_back(first + r);
            }
        }
        if (items[i].sampler != nullptr) {
            sample_source_[i] = static_cast<int>(logit_source_.size()) - 1 - items[i].drafted;
        }
        for (int r = 0; r < count; r += tile_rows) tiles_.push_back({first + r, std::min(tile_rows, count - r)});
        const Adapter* adapter = items[i].adapter;
        if (adapter == nullptr) continue;
        if (!runs_.empty() && runs_.back().adapter == adapter && runs_.back().first_row + runs_.back().rows == first) {
            runs_.back().rows += count;
        } else {
            runs_.push_back({first, count, adapter});
            inner_ranks_stride_ = std::max(inner_ranks_stride_, adapter->inner_width());
        }
    }
    // The longest tiles first, so that no member is left with one at the end.
    std::stable_sort(tiles_.begin(), tiles_.end(), [&](const Tile& a, const Tile& b) {
        return rows_[a.first_row].position > rows_[b.first_row].position;
    });
    reserve(static_cast<int>(rows_.size()), static_cast<int>(logit_source_.size()), longest);
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
    for (auto& queue : queues_) queue.reset();
}

void Model::step(const std::vector<StepItem>& items, std::vector<std::vector<Sampled>>& sampled) {
    for (const auto& item : items) {
        const std::int64_t last = item.start + static_cast<std::int64_t>(item.tokens->size());
        if (item.tokens->empty() || item.start < 0 ||
            static_cast<std::int64_t>(item.blocks->size()) * kBlock < last) {
            throw std::invalid_argument("an item has no tokens, or too few blocks for its positions");
        }
        if (item.drafted < 0 || static_cast<std::size_t>(item.drafted) >= item.tokens->size() ||
            (item.drafted > 0 && item.sampler == nullptr)) {
            throw std::invalid_argument("a draft needs a token before it, and a sampler");
        }
        for (const int block : *item.blocks) {
            if (block < 0 || block >= blocks_) throw std::invalid_argument("a block is out of range");
        }
        for (const int token : *item.tokens) {
            if (token < 0 || token >= embedding->rows()) throw std::invalid_argument("a token is out of range");
        }
        if (item.adapter != nullptr && item.adapter->layers() != spec_.layers) {
            throw std::invalid_argument("an adapter is of another model");
        }
        if (item.keeps_hidden && hidden_norm.weight.empty()) throw std::invalid_argument("there is no norm for kept rows");
        if (positions && last > positions->rows()) throw std::invalid_argument("a position is out of range");
    }
    plan(items);
    sampled.assign(items.size(), {});
    team_.run([&](int member) { walk(member, items, sampled); });
}

// Every member walks through all phases; a barrier ends each. Queues are taken in the same order by all.
void Model::walk(int member, const std::vector<StepItem>& items, std::vector<std::vector<Sampled>>& sampled) {
    WorkQueue* queue = queues_.data();
    const auto phase = [&](auto work) {
        work(*queue++);
        team_.barrier();
    };
    const int rows = static_cast<int>(rows_.size());
    float* hidden = hidden_.as<float>();
    float* normed = normed_.as<float>();
    float* branch = spec_.post_norms ? branch_.as<float>() : hidden;
    const bool add = !spec_.post_norms;
    phase([&](WorkQueue& q) {
        for (int r = q.take(1); r < rows; r = q.take(1)) {
            embed(r, (*items[rows_[r].item].tokens)[rows_[r].position - items[rows_[r].item].start]);
        }
    });
    for (int l = 0; l < spec_.layers; ++l) {
        const Layer& layer = layers[l];
        // What adapters add to the outputs of a matrix that has just been multiplied, from the same input in floats.
        const auto adapt = [&](Slot slot, const float* x, std::ptrdiff_t x_stride, float* out, std::ptrdiff_t stride) {
            if (!has_adapter(l, slot)) return;
            phase([&](WorkQueue& q) { shrink(l, slot, x, x_stride, q); });
            phase([&](WorkQueue& q) { expand(l, slot, out, stride, q); });
        };
        const auto mlp_in = [&] {
            if (!spec_.shared_norm) phase([&](WorkQueue& q) { normalize_rows(hidden, rows, layer.mlp_norm, q); });
            phase([&](WorkQueue& q) {
                multiply(*layer.mlp_in, normed, hidden_stride_, rows, mlp_.as<float>(), mlp_stride_, false, q);
            });
            adapt(Slot::mlp_in, normed, hidden_stride_, mlp_.as<float>(), mlp_stride_);
        };
        phase([&](WorkQueue& q) { normalize_rows(hidden, rows, layer.attention_norm, q); });
        phase([&](WorkQueue& q) {
            multiply(*layer.qkv, normed, hidden_stride_, rows, qkv_.as<float>(), qkv_stride_, false, q);
        });
        adapt(Slot::qkv, normed, hidden_stride_, qkv_.as<float>(), qkv_stride_);
        if (spec_.parallel) mlp_in();
        phase([&](WorkQueue& q) { rotate_and_store(l, items, q); });
        phase([&](WorkQueue& q) { attend(member, l, items, q); });
        phase([&](WorkQueue& q) {
            quantize_rows(attention_.as<float>(), attention_stride_, attention_stride_, rows, q);
        });
        phase([&](WorkQueue& q) {
            multiply(*layer.output, attention_.as<float>(), attention_stride_, rows, branch, hidden_stride_, add, q);
        });
        adapt(Slot::output, attention_.as<float>(), attention_stride_, branch, hidden_stride_);
        if (spec_.post_norms) phase([&](WorkQueue& q) { add_normalized(layer.post_attention_norm, q); });
        if (!spec_.parallel) mlp_in();
        phase([&](WorkQueue& q) { activate(q); });
        phase([&](WorkQueue& q) {
            multiply(*layer.mlp_out, inner_.as<float>(), inner_stride_, rows, branch, hidden_stride_, add, q);
        });
        adapt(Slot::mlp_out, inner_.as<float>(), inner_stride_, branch, hidden_stride_);
        if (spec_.post_norms) phase([&](WorkQueue& q) { add_normalized(layer.post_mlp_norm, q); });
    }
    const int kept = static_cast<int>(kept_source_.size());
    if (kept > 0) {
        phase([&](WorkQueue& q) {
            for (int i = q.take(1); i < kept; i = q.take(1)) keep_hidden(kept_source_[i], i);
        });
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
    phase([&](WorkQueue& q) { normalize_rows(hidden, logit_rows, final_norm, q); });
    phase([&](WorkQueue& q) { predict(logit_rows, q); });
    for (int i = queue->take(1); i < static_cast<int>(items.size()); i = queue->take(1)) {
        if (sample_source_[i] >= 0) sample(items[i], sample_source_[i], weights_[member], sampled[i]);
    }
}

// Row after row, for as long as what is sampled is what was drafted: from there on the rows are of another text.
void Model::sample(const StepItem& item, int first_row, std::vector<float>& weights, std::vector<Sampled>& sampled) {
    const int* draft = item.tokens->data() + item.tokens->size() - item.drafted;
    for (int i = 0; i <= item.drafted; ++i) {
        float* logits = logits_.as<float>() + static_cast<std::size_t>(first_row + i) * logit_stride_;
        sampled.push_back(item.sampler->sample(kernels_, logits, spec_.vocab_size, weights));
        if (!sampled.back().finite) return;
        item.sampler->accept(sampled.back().token);
        if (i < item.drafted && sampled.back().token != draft[i]) return;
    }
}

void Model::embed(int row, int token) {
    float* x = hidden_.as<float>() + static_cast<std::size_t>(row) * hidden_stride_;
    embedding->read(token, x);
    if (spec_.embedding_scale != 1.0f) {
        for (int i = 0; i < spec_.hidden_size; ++i) x[i] = x[i] * spec_.embedding_scale;
    }
    if (positions) {
        float* p = normed_.as<float>() + static_cast<std::size_t>(row) * hidden_stride_;
        positions->read(rows_[row].position, p);
        for (int i = 0; i < spec_.hidden_size; ++i) x[i] = x[i] + p[i];
    }
    float* angles = rope_.as<float>() + static_cast<std::size_t>(row) * rope_stride_;
    for (const auto& rope : ropes_) {
        rope.angles(rows_[row].position, angles);
        angles += rope.dim();
    }
}

QuantizedRows Model::quantized(int width) const {
    return {quantized_.as<std::uint8_t>(), scales_.as<float>(), offsets_.as<std::int32_t>(), width / kGroup};
}

// The factor of a row's norm; its mean, which RMS norms take as zero, is left in `mean`.
float Model::normalization(const float* x, float* mean) const {
    const float width = static_cast<float>(spec_.hidden_size);
    *mean = spec_.layer_norm ? kernels_.sum(x, spec_.hidden_size) / width : 0.0f;
    const float variance = kernels_.sum_of_squares(x, *mean, spec_.hidden_size) / width;
    return 1.0f / std::sqrt(variance + spec_.norm_eps);
}

void Model::keep_hidden(int row, int kept) {
    const float* x = hidden_.as<float>() + static_cast<std::size_t>(row) * hidden_stride_;
    float mean;
    const float factor = normalization(x, &mean);
    kernels_.normalize(x, mean, factor, hidden_norm.weight.data(), hidden_norm.bias.empty() ? nullptr : hidden_norm.bias.data(),
                       kept_.as<float>() + static_cast<std::size_t>(kept) * hidden_stride_, spec_.hidden_size);
}

// Norm and quantisation in one phase. With few rows the members share a row: each finds the row's sum itself, which is
// the same sum, and then works on its own groups.
void Model::normalize_rows(const float* in, int rows, const Norm& norm, WorkQueue& queue) {
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
        const int first = begin * kGroup;
        const int count = std::min(end * kGroup, width) - first;
        if (count <= 0) continue;
        float mean;
        const float factor = normalization(x, &mean);
        kernels_.normalize(x + first, mean, factor, norm.weight.data() + first,
                           norm.bias.empty() ? nullptr : norm.bias.data() + first, y + first, count);
        if (spec_.lane != Lane::f32) kernels_.quantize(y, row, begin, end, q);
    }
}

// hidden += norm(branch)
void Model::add_normalized(const Norm& norm, WorkQueue& queue) {
    const int rows = static_cast<int>(rows_.size());
    for (int row = queue.take(1); row < rows; row = queue.take(1)) {
        const float* x = branch_.as<float>() + static_cast<std::size_t>(row) * hidden_stride_;
        float* y = normed_.as<float>() + static_cast<std::size_t>(row) * hidden_stride_;
        float* sum = hidden_.as<float>() + static_cast<std::size_t>(row) * hidden_stride_;
        float mean;
        const float factor = normalization(x, &mean);
        kernels_.normalize(x, mean, factor, norm.weight.data(), norm.bias.empty() ? nullptr : norm.bias.data(), y,
                           spec_.hidden_size);
        for (int i = 0; i < spec_.hidden_size; ++i) sum[i] = sum[i] + y[i];
    }
}

void Model::quantize_rows(const float* in, std::ptrdiff_t stride, int width, int rows, WorkQueue& queue) {
    if (spec_.lane == Lane::f32) return;
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
    const int panels = matrix.panels();
    const int piece = std::max(1, panels / (team_.size() * 12));
    for (int begin = queue.take(piece); begin < panels; begin = queue.take(piece)) {
        for (int panel = begin; panel < std::min(begin + piece, panels); ++panel) {
            matrix.multiply(kernels_, panel, a, a_stride, q, rows, out, stride, accumulate);
        }
    }
}

// Whether any row of the step has something added there: all members find the same.
bool Model::has_adapter(int layer, Slot slot) const {
    return std::any_of(runs_.begin(), runs_.end(),
                       [&](const Run& run) { return run.adapter->at(layer, slot) != nullptr; });
}

// Task: a run, and 32 columns of A x.
void Model::shrink(int layer, Slot slot, const float* x, std::ptrdiff_t x_stride, WorkQueue& queue) {
    const int parts = inner_ranks_stride_ / kColumns;
    const int tasks = static_cast<int>(runs_.size()) * parts;
    for (int task = queue.take(1); task < tasks; task = queue.take(1)) {
        const Run& run = runs_[task / parts];
        const LowRank* matrix = run.adapter->at(layer, slot);
        if (matrix == nullptr || task % parts >= matrix->inner_panels()) continue;
        matrix->shrink(kernels_, task % parts, x + run.first_row * x_stride, x_stride, run.rows,
                       inner_ranks_.as<float>() + static_cast<std::size_t>(run.first_row) * inner_ranks_stride_,
                       inner_ranks_stride_);
    }
}

// Task: a run, and some panels of outputs.
void Model::expand(int layer, Slot slot, float* out, std::ptrdiff_t stride, WorkQueue& queue) {
    const int panels = static_cast<int>(stride / kColumns);
    const int tasks = static_cast<int>(runs_.size()) * panels;
    const int piece = std::max(1, panels / (team_.size() * 4));
    for (int begin = queue.take(piece); begin < tasks; begin = queue.take(piece)) {
        for (int task = begin; task < std::min(begin + piece, tasks); ++task) {
            const Run& run = runs_[task / panels];
            const LowRank* matrix = run.adapter->at(layer, slot);
            if (matrix == nullptr || task % panels >= matrix->panels()) continue;
            matrix->expand(kernels_, task % panels,
                           inner_ranks_.as<float>() + static_cast<std::size_t>(run.first_row) * inner_ranks_stride_,
                           inner_ranks_stride_, run.rows, out + run.first_row * stride, stride);
        }
    }
}

// The last matrix, and the cap on its outputs. Task: some columns of all rows.
void Model::predict(int rows, WorkQueue& queue) {
    float* logits = logits_.as<float>();
    const QuantizedRows q = quantized(lm_head->padded_inputs());
    const int panels = lm_head->panels();
    const int piece = std::max(1, panels / (team_.size() * 12));
    for (int begin = queue.take(piece); begin < panels; begin = queue.take(piece)) {
        for (int panel = begin; panel < std::min(begin + piece, panels); ++panel) {
            lm_head->multiply(kernels_, panel, normed_.as<float>(), hidden_stride_, q, rows, logits, logit_stride_, false);
            if (spec_.logit_softcap == 0.0f) continue;
            for (int r = 0; r < rows; ++r) {
                kernels_.softcap(logits + static_cast<std::size_t>(r) * logit_stride_ + panel * kColumns,
                                 spec_.logit_softcap, kColumns);
            }
        }
    }
}

// Pairs of dimensions half of the rotated ones apart; what is not rotated stays.
void Model::rotate(int layer, int row, float* attention_head) const {
    if (ropes_.empty()) return;
    const int index = spec_.layer_ropes[layer];
    const float* cosine = rope_.as<float>() + static_cast<std::size_t>(row) * rope_stride_;
    for (int i = 0; i < index; ++i) cosine += ropes_[i].dim();
    const int half = ropes_[index].dim() / 2;
    const float* sine = cosine + half;
    for (int i = 0; i < half; ++i) {
        const float a = attention_head[i];
        const float b = attention_head[half + i];
        attention_head[i] = a * cosine[i] - b * sine[i];
        attention_head[half + i] = b * cosine[i] + a * sine[i];
    }
}

// Norms and rotates queries and keys, and writes keys and values to the cache. Task: a row and a KV head.
void Model::rotate_and_store(int layer, const std::vector<StepItem>& items, WorkQueue& queue) {
    const int dim = spec_.head_dim;
    const int group = spec_.attention_heads / spec_.kv_heads;
    const int tasks = static_cast<int>(rows_.size()) * spec_.kv_heads;
    const int piece = std::max(1, std::min(spec_.kv_heads, tasks / team_.size()));
    const auto prepare = [&](int row, float* attention_head, const Norm& norm) {
        if (spec_.qk_norm) {
            const float variance = kernels_.sum_of_squares(attention_head, 0.0f, dim) / static_cast<float>(dim);
            kernels_.normalize(attention_head, 0.0f, 1.0f / std::sqrt(variance + spec_.norm_eps), norm.weight.data(), nullptr, attention_head,
                               dim);
        }
        rotate(layer, row, attention_head);
    };
    for (int begin = queue.take(piece); begin < tasks; begin = queue.take(piece)) {
        for (int task = begin; task < std::min(begin + piece, tasks); ++task) {
            const int row = task / spec_.kv_heads;
            const int kv = task % spec_.kv_heads;
            float* x = qkv_.as<float>() + static_cast<std::size_t>(row) * qkv_stride_;
            float* key = x + (spec_.attention_heads + kv) * dim;
            const float* value = x + (spec_.attention_heads + spec_.kv_heads + kv) * dim;
            for (int h = 0; h < group; ++h) prepare(row, x + (kv * group + h) * dim, layers[layer].query_norm);
            prepare(row, key, layers[layer].key_norm);
            const int block = (*items[rows_[row].item].blocks)[rows_[row].position / kBlock];
            store_kv(layer, rows_[row], block, kv, key, value);
        }
    }
}

void Model::store_kv(int layer, const Row& row, int block, int kv, const float* key, const float* value) {
    const int dim = spec_.head_dim;
    const int slot = row.position % kBlock;
    const std::size_t place = (static_cast<std::size_t>(layer) * blocks_ + block) * spec_.kv_heads + kv;
    alignas(64) float padded[kMaxHeadDim] = {};
    std::memcpy(padded, value, dim * 4);
    if (spec_.lane == Lane::f32) {
        float* k = keys_.as<float>() + place * dim * kBlock + slot;
        for (int i = 0; i < dim; ++i) k[static_cast<std::size_t>(i) * kBlock] = key[i];
        std::memcpy(values_.as<float>() + (place * kBlock + slot) * value_width_, padded, value_width_ * 4);
        return;
    }
    kernels_.store_f16(padded, values_.as<std::uint16_t>() + (place * kBlock + slot) * value_width_, value_width_);
    alignas(64) std::uint16_t halves[kMaxHeadDim];
    std::memcpy(padded, key, dim * 4);
    kernels_.store_f16(padded, halves, value_width_);
    std::uint16_t* k = keys_.as<std::uint16_t>() + place * dim * kBlock + slot;
    for (int i = 0; i < dim; ++i) k[static_cast<std::size_t>(i) * kBlock] = halves[i];
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
                a.first[a.queries] = window(layer) > 0 ? std::max(0, position + 1 - window(layer)) : 0;
                a.last[a.queries] = position + 1;
                ++a.queries;
            }
        }
        const std::size_t base = (static_cast<std::size_t>(layer) * blocks_ * spec_.kv_heads + kv) * kBlock * element;
        a.head_dim = dim;
        a.scale = spec_.attention_scale;
        a.softcap = spec_.attention_softcap;
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
        const float* up = x + spec_.intermediate_size;
        switch (spec_.mlp) {
            case Mlp::gated_silu: kernels_.silu_times(x, up, y + first, count); break;
            case Mlp::gated_gelu_tanh: kernels_.gelu_tanh_times(x, up, y + first, count); break;
            case Mlp::gelu_tanh: kernels_.gelu_tanh(x, y + first, count); break;
            case Mlp::gelu: kernels_.gelu(x, y + first, count); break;
        }
        if (spec_.lane != Lane::f32) kernels_.quantize(y, row, begin, end, q);
    }
}

}  // namespace minivault
