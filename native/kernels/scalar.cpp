// The definition of the arithmetic: plain C++, one lane after the other. Every other kernel set must equal it bit for bit.
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels.hpp"

namespace minivault {
namespace scalar {

static constexpr const char* kName = "scalar";
static constexpr int kActivationBytes = 1;

struct V {
    float lane[kLanes];
};

template <class F>
static inline V each(F f) {
    V v;
    for (int i = 0; i < kLanes; ++i) v.lane[i] = f(i);
    return v;
}

static inline std::int32_t bits_of(float x) {
    std::int32_t b;
    std::memcpy(&b, &x, 4);
    return b;
}
static inline float float_of(std::int32_t b) {
    float x;
    std::memcpy(&x, &b, 4);
    return x;
}

// IEEE binary16 to binary32; exact.
static inline float half_to_float(std::uint16_t h) {
    const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
    const std::uint32_t magnitude = h & 0x7fffu;
    if (magnitude >= 0x7c00u) {
        const std::uint32_t quiet = (magnitude & 0x3ffu) != 0 ? 0x00400000u : 0u;
        return float_of(static_cast<std::int32_t>(sign | 0x7f800000u | quiet | ((magnitude & 0x3ffu) << 13)));
    }
    if (magnitude < 0x400u) {
        const float value = static_cast<float>(magnitude) * 5.9604644775390625e-8f;
        return sign != 0 ? -value : value;
    }
    return float_of(static_cast<std::int32_t>(sign | ((magnitude << 13) + 0x38000000u)));
}

// IEEE binary32 to binary16, round to nearest even; the argument is finite and at most 65504 in magnitude, or NaN.
static inline std::uint16_t float_to_half(float x) {
    const std::uint32_t b = static_cast<std::uint32_t>(bits_of(x));
    const std::uint32_t sign = (b >> 16) & 0x8000u;
    const std::uint32_t magnitude = b & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
    if (magnitude < 0x38800000u) {
        // Below the smallest normal: let float addition round at the right bit.
        const float shifted = float_of(static_cast<std::int32_t>(magnitude)) + 0.5f;
        return static_cast<std::uint16_t>(sign | (static_cast<std::uint32_t>(bits_of(shifted)) - 0x3f000000u));
    }
    const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

static inline V load(const float* p) { return each([p](int i) { return p[i]; }); }
static inline V load_f16(const std::uint16_t* p) { return each([p](int i) { return half_to_float(p[i]); }); }
static inline void store(float* p, V v) { std::memcpy(p, v.lane, sizeof v.lane); }
static inline void store_f16(std::uint16_t* p, V v) {
    for (int i = 0; i < kLanes; ++i) p[i] = float_to_half(v.lane[i]);
}
static inline V set1(float x) { return each([x](int) { return x; }); }
static inline V add(V a, V b) { return each([&](int i) { return a.lane[i] + b.lane[i]; }); }
static inline V sub(V a, V b) { return each([&](int i) { return a.lane[i] - b.lane[i]; }); }
static inline V mul(V a, V b) { return each([&](int i) { return a.lane[i] * b.lane[i]; }); }
static inline V div(V a, V b) { return each([&](int i) { return a.lane[i] / b.lane[i]; }); }
static inline V fma(V a, V b, V c) { return each([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); }); }
static inline V maximum(V a, V b) { return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; }); }
static inline V minimum(V a, V b) { return each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; }); }
static inline V absolute(V a) { return each([&](int i) { return float_of(bits_of(a.lane[i]) & 0x7fffffff); }); }
static inline V maximum_bits(V a, V b) {
    return each([&](int i) { return bits_of(a.lane[i]) > bits_of(b.lane[i]) ? a.lane[i] : b.lane[i]; });
}
static inline V add_exponent(V p, V t) {
    return each([&](int i) {
        const std::uint32_t low = static_cast<std::uint32_t>(bits_of(t.lane[i])) << 23;
        return float_of(static_cast<std::int32_t>(static_cast<std::uint32_t>(bits_of(p.lane[i])) + low));
    });
}

#include "kernels.inl"

static void quantize(const float* x, int row, int group_begin, int group_end, const QuantizedRows& out) {
    auto* q = reinterpret_cast<std::int8_t*>(out.data) + static_cast<std::ptrdiff_t>(row) * out.groups * kGroup;
    for (int g = group_begin; g < group_end; ++g) {
        const GroupScale s = group_scale(group_bits(x + g * kGroup));
        std::int32_t total = 0;
        for (int i = g * kGroup; i < (g + 1) * kGroup; ++i) {
            // Adding and taking away 1.5 * 2^23 rounds to nearest even.
            const float rounded = s.inverse == 0.0f ? 0.0f : (x[i] * s.inverse + 12582912.0f) - 12582912.0f;
            q[i] = static_cast<std::int8_t>(rounded);
            total += q[i];
        }
        out.scales[static_cast<std::ptrdiff_t>(row) * out.groups + g] = s.scale;
        out.offsets[static_cast<std::ptrdiff_t>(row) * out.groups + g] = -128 * total;
    }
}

static void gemm_int8(const Int8Panel& panel, const QuantizedRows& a, int rows, float* out, std::ptrdiff_t stride,
                      bool accumulate) {
    for (int r = 0; r < rows; ++r) {
        const auto* q = reinterpret_cast<const std::int8_t*>(a.data) + static_cast<std::ptrdiff_t>(r) * a.groups * kGroup;
        V total[2] = {set1(0.0f), set1(0.0f)};
        for (int g = 0; g < a.groups; ++g) {
            std::int32_t dot[kColumns];
            for (int c = 0; c < kColumns; ++c) dot[c] = a.offsets[static_cast<std::ptrdiff_t>(r) * a.groups + g];
            for (int k = 0; k < kGroup; k += 4) {
                const std::uint8_t* w = panel.data + (static_cast<std::ptrdiff_t>(g) * kGroup + k) * kColumns;
                const std::int8_t* x = q + g * kGroup + k;
                for (int c = 0; c < kColumns; ++c) {
                    dot[c] += w[4 * c] * x[0] + w[4 * c + 1] * x[1] + w[4 * c + 2] * x[2] + w[4 * c + 3] * x[3];
                }
            }
            const V scale = set1(a.scales[static_cast<std::ptrdiff_t>(r) * a.groups + g]);
            for (int h = 0; h < 2; ++h) {
                total[h] = fma(each([&](int i) { return static_cast<float>(dot[h * kLanes + i]); }), scale, total[h]);
            }
        }
        for (int h = 0; h < 2; ++h) finish_columns(total[h], panel.scales, panel.bias, h * kLanes, out + r * stride + h * kLanes, accumulate);
    }
}

static void gemm_int4(const Int4Panel& panel, const QuantizedRows& a, int rows, float* out, std::ptrdiff_t stride,
                      bool accumulate) {
    for (int r = 0; r < rows; ++r) {
        const auto* q = reinterpret_cast<const std::int8_t*>(a.data) + static_cast<std::ptrdiff_t>(r) * a.groups * kGroup;
        V total[2] = {set1(0.0f), set1(0.0f)};
        for (int g = 0; g < a.groups; ++g) {
            std::int32_t dot[kColumns];
            // -128 * sum is kept for INT8; here the offset is 8.
            for (int c = 0; c < kColumns; ++c) dot[c] = a.offsets[static_cast<std::ptrdiff_t>(r) * a.groups + g] / 16;
            for (int k = 0; k < kGroup; k += 8) {
                const std::uint8_t* w = panel.data + (static_cast<std::ptrdiff_t>(g) * kGroup + k) * kColumns / 2;
                const std::int8_t* x = q + g * kGroup + k;
                for (int c = 0; c < kColumns; ++c) {
                    for (int i = 0; i < 4; ++i) dot[c] += (w[4 * c + i] & 15) * x[i] + (w[4 * c + i] >> 4) * x[4 + i];
                }
            }
            const V scale = set1(a.scales[static_cast<std::ptrdiff_t>(r) * a.groups + g]);
            for (int h = 0; h < 2; ++h) {
                const V factor = mul(scale, load_f16(panel.scales + static_cast<std::ptrdiff_t>(g) * kColumns + h * kLanes));
                total[h] = fma(each([&](int i) { return static_cast<float>(dot[h * kLanes + i]); }), factor, total[h]);
            }
        }
        for (int h = 0; h < 2; ++h) {
            finish_columns(total[h], nullptr, panel.bias, h * kLanes, out + r * stride + h * kLanes, accumulate);
        }
    }
}

#include "table.inl"

}  // namespace scalar

const KernelSet* scalar_kernels() { return &scalar::table; }

}  // namespace minivault
