// The number formats that checkpoints come in, one value at a time. Knows nothing of files.
#pragma once

#include <cstdint>
#include <cstring>

namespace minivault {

enum class DType { f32, f16, bf16 };

inline std::size_t item_size(DType type) { return type == DType::f32 ? 4 : 2; }

inline float float_from_bits(std::uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

inline float bf16_to_float(std::uint16_t b) { return float_from_bits(static_cast<std::uint32_t>(b) << 16); }

// IEEE binary16; exact.
inline float f16_to_float(std::uint16_t h) {
    const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
    const std::uint32_t magnitude = h & 0x7fffu;
    if (magnitude >= 0x7c00u) return float_from_bits(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
    if (magnitude < 0x400u) {
        const float value = static_cast<float>(magnitude) * 5.9604644775390625e-8f;
        return sign != 0 ? -value : value;
    }
    return float_from_bits(sign | ((magnitude << 13) + 0x38000000u));
}

// Nearest binary16, ties to even; for magnitudes up to 65504.
inline std::uint16_t float_to_f16(float x) {
    std::uint32_t b;
    std::memcpy(&b, &x, 4);
    const std::uint32_t sign = (b >> 16) & 0x8000u;
    const std::uint32_t magnitude = b & 0x7fffffffu;
    if (magnitude < 0x38800000u) {
        // Below the smallest normal: float addition rounds at the right bit.
        const float shifted = float_from_bits(magnitude) + 0.5f;
        std::uint32_t low;
        std::memcpy(&low, &shifted, 4);
        return static_cast<std::uint16_t>(sign | (low - 0x3f000000u));
    }
    const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

// Reads `count` values of `type` that start at value `index` of `data` and lie `step` values apart. Unaligned is fine.
inline void read_values(const std::uint8_t* data, DType type, std::size_t index, std::size_t step, int count,
                        float* out) {
    if (type == DType::f32) {
        for (int i = 0; i < count; ++i) std::memcpy(out + i, data + (index + i * step) * 4, 4);
        return;
    }
    for (int i = 0; i < count; ++i) {
        std::uint16_t raw;
        std::memcpy(&raw, data + (index + i * step) * 2, 2);
        out[i] = type == DType::bf16 ? bf16_to_float(raw) : f16_to_float(raw);
    }
}

}  // namespace minivault
