// How the keys and values of one position lie in a block: keys with the 16 positions innermost, values a row each.
// Knows nothing of who owns the blocks.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/kernels.hpp"
#include "matrix.hpp"

namespace minivault {

inline constexpr int kMaxHeadDim = 1024;  // what the loaders allow

struct KvBlocks {
    std::uint8_t* keys;
    std::uint8_t* values;
    int head_dim;
    int value_width;  // padded to whole vectors, with zeros

    // `place` counts the blocks of single KV heads; `slot` is the position in the block. 16-bit but in lane f32.
    void store(const KernelSet& kernels, Lane lane, std::size_t place, int slot, const float* key,
               const float* value) const {
        const std::size_t column = place * head_dim * kBlock + slot;
        const std::size_t row = (place * kBlock + slot) * value_width;
        alignas(64) float padded[kMaxHeadDim] = {};
        std::memcpy(padded, value, head_dim * 4);
        if (lane == Lane::f32) {
            float* k = reinterpret_cast<float*>(keys) + column;
            for (int i = 0; i < head_dim; ++i) k[static_cast<std::size_t>(i) * kBlock] = key[i];
            std::memcpy(reinterpret_cast<float*>(values) + row, padded, value_width * 4);
            return;
        }
        kernels.store_f16(padded, reinterpret_cast<std::uint16_t*>(values) + row, value_width);
        alignas(64) std::uint16_t halves[kMaxHeadDim];
        std::memcpy(padded, key, head_dim * 4);
        kernels.store_f16(padded, halves, value_width);
        std::uint16_t* k = reinterpret_cast<std::uint16_t*>(keys) + column;
        for (int i = 0; i < head_dim; ++i) k[static_cast<std::size_t>(i) * kBlock] = halves[i];
    }
};

}  // namespace minivault
