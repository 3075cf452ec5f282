// One step: what its rows are, and the team's walk through the phases that compute them.
#include "model.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace minivault {
namespace {

constexpr int kTileQueries = 8;

// Rows of a tile of attention whose query heads, `group` a row, come out even in fours, as the kernels take them; or
// nearly so.
int tile_rows(int group) {
    const auto left = [group](int rows) { return (4 - rows * group % 4) % 4; };
    int best = std::max(1, kTileQueries / group);
    for (int rows = best + 1; rows * group <= kMaxQueries; ++rows) {
        if (left(rows) * best < left(best) * rows) best = rows;
    }
    return best;
}

}  // namespace

void Model::check(const StepItem& item) const {
    const std::int64_t last = item.start + static_cast<std::int64_t>(item.tokens->size());
    if (item.tokens->empty() || item.start < 0 || static_cast<std::int64_t>(item.blocks->size()) * kBlock < last) {
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

void Model::step(const std::vector<StepItem>& items, std::vector<std::vector<Sampled>>& sampled) {
    for (const auto& item : items) check(item);
    plan(items);
    sampled.assign(items.size(), {});
    team_.run([&](int member) { walk(member, items, sampled); });
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
    int longest = 1;
    for (std::size_t i = 0; i < items.size(); ++i) {
        longest = std::max(longest, items[i].start + static_cast<int>(items[i].tokens->size()));
        plan_item(static_cast<int>(i), items[i]);
    }
    // The longest tiles first, so that no member is left with one at the end.
    std::stable_sort(tiles_.begin(), tiles_.end(), [&](const Tile& a, const Tile& b) {
        return rows_[a.first_row].position > rows_[b.first_row].position;
    });
    reserve(static_cast<int>(rows_.size()), static_cast<int>(logit_source_.size()), longest);
    for (auto& queue : queues_) queue.reset();
}

void Model::plan_item(int place, const StepItem& item) {
    const int group = std::min(spec_.attention_heads / spec_.kv_heads, kMaxQueries);
    const int height = tile_rows(group);
    const int count = static_cast<int>(item.tokens->size());
    const int first = static_cast<int>(rows_.size());
    for (int r = 0; r < count; ++r) {
        rows_.push_back({place, item.start + r});
        if (item.keeps_hidden) kept_source_.push_back(first + r);
        if (item.all_logits || (item.sampler != nullptr && r >= count - 1 - item.drafted)) {
            logit_source_.push_back(first + r);
        }
    }
    if (item.sampler != nullptr) sample_source_[place] = static_cast<int>(logit_source_.size()) - 1 - item.drafted;
    for (int r = 0; r < count; r += height) tiles_.push_back({first + r, std::min(height, count - r)});
    if (item.adapter == nullptr) return;
    if (!runs_.empty() && runs_.back().adapter == item.adapter && runs_.back().first_row + runs_.back().rows == first) {
        runs_.back().rows += count;
    } else {
        runs_.push_back({first, count, item.adapter});
        inner_ranks_stride_ = std::max(inner_ranks_stride_, item.adapter->inner_width());
    }
}

// Every member walks through all phases, each with a queue of its own, in the same order.
void Model::walk(int member, const std::vector<StepItem>& items, std::vector<std::vector<Sampled>>& sampled) {
    WorkQueue* queue = queues_.data();
    const int rows = static_cast<int>(rows_.size());
    phase(queue, [&](WorkQueue& q) {
        for (int r = q.take(1); r < rows; r = q.take(1)) {
            embed(r, (*items[rows_[r].item].tokens)[rows_[r].position - items[rows_[r].item].start]);
        }
    });
    for (int l = 0; l < spec_.layers; ++l) walk_layer(member, l, items, queue);
    const int kept = static_cast<int>(kept_source_.size());
    if (kept > 0) {
        phase(queue, [&](WorkQueue& q) {
            for (int i = q.take(1); i < kept; i = q.take(1)) keep_hidden(kept_source_[i], i);
        });
    }
    const int logit_rows = static_cast<int>(logit_source_.size());
    if (logit_rows == 0) return;
    phase(queue, [&](WorkQueue& q) {
        if (q.take(1) == 0) gather_logit_rows();
    });
    phase(queue, [&](WorkQueue& q) { normalize_rows(hidden_.as<float>(), logit_rows, final_norm, q); });
    phase(queue, [&](WorkQueue& q) { predict(logit_rows, q); });
    for (int i = queue->take(1); i < static_cast<int>(items.size()); i = queue->take(1)) {
        if (sample_source_[i] >= 0) sample(items[i], sample_source_[i], weights_[member], sampled[i]);
    }
}

void Model::walk_layer(int member, int l, const std::vector<StepItem>& items, WorkQueue*& queue) {
    const Layer& layer = layers[l];
    const int rows = static_cast<int>(rows_.size());
    const bool add = !spec_.post_norms;
    float* hidden = hidden_.as<float>();
    float* normed = normed_.as<float>();
    float* branch = add ? hidden : branch_.as<float>();
    float* qkv = qkv_.as<float>();
    float* attention = attention_.as<float>();
    float* inner = inner_.as<float>();
    phase(queue, [&](WorkQueue& q) { normalize_rows(hidden, rows, layer.attention_norm, q); });
    phase(queue, [&](WorkQueue& q) { multiply(*layer.qkv, normed, hidden_stride_, rows, qkv, qkv_stride_, false, q); });
    adapt(l, Slot::qkv, normed, hidden_stride_, qkv, qkv_stride_, queue);
    if (spec_.parallel) walk_mlp_in(l, queue);
    phase(queue, [&](WorkQueue& q) { rotate_and_store(l, items, q); });
    phase(queue, [&](WorkQueue& q) { attend(member, l, items, q); });
    phase(queue, [&](WorkQueue& q) { quantize_rows(attention, attention_stride_, attention_stride_, rows, q); });
    phase(queue, [&](WorkQueue& q) {
        multiply(*layer.output, attention, attention_stride_, rows, branch, hidden_stride_, add, q);
    });
    adapt(l, Slot::output, attention, attention_stride_, branch, hidden_stride_, queue);
    if (spec_.post_norms) phase(queue, [&](WorkQueue& q) { add_normalized(layer.post_attention_norm, q); });
    if (!spec_.parallel) walk_mlp_in(l, queue);
    phase(queue, [&](WorkQueue& q) { activate(q); });
    phase(queue, [&](WorkQueue& q) {
        multiply(*layer.mlp_out, inner, inner_stride_, rows, branch, hidden_stride_, add, q);
    });
    adapt(l, Slot::mlp_out, inner, inner_stride_, branch, hidden_stride_, queue);
    if (spec_.post_norms) phase(queue, [&](WorkQueue& q) { add_normalized(layer.post_mlp_norm, q); });
}

void Model::walk_mlp_in(int l, WorkQueue*& queue) {
    const Layer& layer = layers[l];
    const int rows = static_cast<int>(rows_.size());
    float* normed = normed_.as<float>();
    float* mlp = mlp_.as<float>();
    if (!spec_.shared_norm) {
        phase(queue, [&](WorkQueue& q) { normalize_rows(hidden_.as<float>(), rows, layer.mlp_norm, q); });
    }
    phase(queue, [&](WorkQueue& q) {
        multiply(*layer.mlp_in, normed, hidden_stride_, rows, mlp, mlp_stride_, false, q);
    });
    adapt(l, Slot::mlp_in, normed, hidden_stride_, mlp, mlp_stride_, queue);
}

// What adapters add to the outputs of a matrix that has just been multiplied, from the same input in floats.
void Model::adapt(int layer, Slot slot, const float* x, std::ptrdiff_t x_stride, float* out, std::ptrdiff_t stride,
                  WorkQueue*& queue) {
    if (!has_adapter(layer, slot)) return;
    phase(queue, [&](WorkQueue& q) { shrink(layer, slot, x, x_stride, q); });
    phase(queue, [&](WorkQueue& q) { expand(layer, slot, out, stride, q); });
}

// Rows that need logits move to the front; sources ascend and never lie before their place.
void Model::gather_logit_rows() {
    float* hidden = hidden_.as<float>();
    for (std::size_t i = 0; i < logit_source_.size(); ++i) {
        const std::size_t source = logit_source_[i];
        if (source == i) continue;
        std::memcpy(hidden + i * hidden_stride_, hidden + source * hidden_stride_, spec_.hidden_size * 4);
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

}  // namespace minivault
