// Queries, keys and values: rotated, kept in the cache, and attended to.
#include "model.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kv_blocks.hpp"

namespace minivault {

// Norms and rotates queries and keys, and writes keys and values to the cache. Task: a row and a KV head.
void Model::rotate_and_store(int layer, const std::vector<StepItem>& items, WorkQueue& queue) {
    const int dim = spec_.head_dim;
    const int group = spec_.attention_heads / spec_.kv_heads;
    const int tasks = static_cast<int>(rows_.size()) * spec_.kv_heads;
    const int piece = std::max(1, std::min(spec_.kv_heads, tasks / team_.size()));
    const auto prepare = [&](int row, float* attention_head, const Norm& norm) {
        if (spec_.qk_norm) {
            const float variance = kernels_.sum_of_squares(attention_head, 0.0f, dim) / static_cast<float>(dim);
            const float factor = 1.0f / std::sqrt(variance + spec_.norm_eps);
            kernels_.normalize(attention_head, 0.0f, factor, norm.weight.data(), nullptr, attention_head, dim);
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

void Model::store_kv(int layer, const Row& row, int block, int kv, const float* key, const float* value) {
    const std::size_t place = (static_cast<std::size_t>(layer) * blocks_ + block) * spec_.kv_heads + kv;
    const KvBlocks blocks{keys_.as<std::uint8_t>(), values_.as<std::uint8_t>(), spec_.head_dim, value_width_};
    blocks.store(kernels_, spec_.lane, place, row.position % kBlock, key, value);
}

// Task: a tile of rows, a KV head, and at most 16 of the query heads that share it. One KV head after the other, so that
// its keys and values stay in the cache from one tile to the next.
void Model::attend(int member, int layer, const std::vector<StepItem>& items, WorkQueue& queue) {
    const int dim = spec_.head_dim;
    const int group = spec_.attention_heads / spec_.kv_heads;
    const int parts = (group + kMaxQueries - 1) / kMaxQueries;
    const std::size_t element = spec_.lane == Lane::f32 ? 4 : 2;
    const int tiles = static_cast<int>(tiles_.size());
    const int tasks = tiles * spec_.kv_heads * parts;
    for (int task = queue.take(1); task < tasks; task = queue.take(1)) {
        const Tile& tile = tiles_[task % tiles];
        const int kv = task / tiles / parts;
        const int first_head = kv * group + task / tiles % parts * kMaxQueries;
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

}  // namespace minivault
