// NEON of AArch64. Dot products through widening multiplies, which every ARMv8 has and which never saturate.
#include <arm_neon.h>

#include <cstring>
#include <limits>

#include "kernels.hpp"

namespace minivault {
namespace neon {

static constexpr const char* kName = "neon";
static constexpr int kActivationBytes = 1;

struct V {
    float32x4_t part[4];
};

template <class F>
static inline V each(F f) {
    return {{f(0), f(1), f(2), f(3)}};
}

static inline V load(const float* p) { return each([p](int i) { return vld1q_f32(p + 4 * i); }); }
static inline V load_f16(const std::uint16_t* p) {
    return each([p](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))); });
}
static inline void store(float* p, V v) {
    for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, v.part[i]);
}
static inline void store_f16(std::uint16_t* p, V v) {
    for (int i = 0; i < 4; ++i) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(v.part[i])));
}
static inline V set1(float x) { return each([x](int) { return vdupq_n_f32(x); }); }
static inline V add(V a, V b) { return each([&](int i) { return vaddq_f32(a.part[i], b.part[i]); }); }
static inline V sub(V a, V b) { return each([&](int i) { return vsubq_f32(a.part[i], b.part[i]); }); }
static inline V mul(V a, V b) { return each([&](int i) { return vmulq_f32(a.part[i], b.part[i]); }); }
static inline V div(V a, V b) { return each([&](int i) { return vdivq_f32(a.part[i], b.part[i]); }); }
static inline V fma(V a, V b, V c) { return each([&](int i) { return vfmaq_f32(c.part[i], a.part[i], b.part[i]); }); }
// Comparisons and selects, since `fmax` treats NaN otherwise than `a > b ? a : b` does.
static inline V maximum(V a, V b) {
    return each([&](int i) { return vbslq_f32(vcgtq_f32(a.part[i], b.part[i]), a.part[i], b.part[i]); });
}
static inline V minimum(V a, V b) {
    return each([&](int i) { return vbslq_f32(vcltq_f32(a.part[i], b.part[i]), a.part[i], b.part[i]); });
}
static inline V absolute(V a) { return each([&](int i) { return vabsq_f32(a.part[i]); }); }
static inline V maximum_bits(V a, V b) {
    return each([&](int i) {
        return vreinterpretq_f32_s32(vmaxq_s32(vreinterpretq_s32_f32(a.part[i]), vreinterpretq_s32_f32(b.part[i])));
    });
}
static inline V add_exponent(V p, V t) {
    return each([&](int i) {
        return vreinterpretq_f32_s32(
            vaddq_s32(vreinterpretq_s32_f32(p.part[i]), vshlq_n_s32(vreinterpretq_s32_f32(t.part[i]), 23)));
    });
}

#include "kernels.inl"

static void quantize(const float* x, int row, int group_begin, int group_end, const QuantizedRows& out) {
    auto* q = reinterpret_cast<std::int8_t*>(out.data) + static_cast<std::ptrdiff_t>(row) * out.groups * kGroup;
    for (int g = group_begin; g < group_end; ++g) {
        const GroupScale s = group_scale(group_bits(x + g * kGroup));
        std::int32_t total = 0;
        for (int i = g * kGroup; i < (g + 1) * kGroup; i += 8) {
            int16x8_t narrow = vdupq_n_s16(0);
            if (s.inverse != 0.0f) {
                const int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i), s.inverse));
                const int32x4_t b = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + 4), s.inverse));
                narrow = vcombine_s16(vmovn_s32(a), vmovn_s32(b));
            }
            total += vaddlvq_s16(narrow);
            vst1_s8(q + i, vmovn_s16(narrow));
        }
        out.scales[static_cast<std::ptrdiff_t>(row) * out.groups + g] = s.scale;
        out.offsets[static_cast<std::ptrdiff_t>(row) * out.groups + g] = -128 * total;
    }
}

// Four columns: 16 bytes are their quads of k; products of 8 bits are exact in 16 bits, pairwise sums in 32.
static inline int32x4_t dot_quad(int32x4_t sum, int8x16_t w, const std::int8_t* q) {
    std::int32_t quad;
    std::memcpy(&quad, q, 4);
    const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(quad));
    const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
    const int16x8_t high = vmull_high_s8(w, x);
    return vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
}

static void gemm_int8(const Int8Panel& panel, const QuantizedRows& a, int rows, float* out, std::ptrdiff_t stride,
                      bool accumulate) {
    const uint8x16_t flip = vdupq_n_u8(0x80);
    for (int r = 0; r < rows; ++r) {
        const auto* q = reinterpret_cast<const std::int8_t*>(a.data) + static_cast<std::ptrdiff_t>(r) * a.groups * kGroup;
        V total[2] = {set1(0.0f), set1(0.0f)};
        for (int g = 0; g < a.groups; ++g) {
            int32x4_t dot[8];
            for (int c = 0; c < 8; ++c) dot[c] = vdupq_n_s32(0);
            for (int k = 0; k < kGroup; k += 4) {
                const std::uint8_t* w = panel.data + (static_cast<std::ptrdiff_t>(g) * kGroup + k) * kColumns;
                for (int c = 0; c < 8; ++c) {
                    const int8x16_t signed_w = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(w + 16 * c), flip));
                    dot[c] = dot_quad(dot[c], signed_w, q + g * kGroup + k);
                }
            }
            const V scale = set1(a.scales[static_cast<std::ptrdiff_t>(r) * a.groups + g]);
            for (int h = 0; h < 2; ++h) {
                total[h] = fma(each([&](int i) { return vcvtq_f32_s32(dot[4 * h + i]); }), scale, total[h]);
            }
        }
        for (int h = 0; h < 2; ++h) finish_columns(total[h], panel.scales, panel.bias, h * kLanes, out + r * stride + h * kLanes, accumulate);
    }
}

static void gemm_int4(const Int4Panel& panel, const QuantizedRows& a, int rows, float* out, std::ptrdiff_t stride,
                      bool accumulate) {
    const uint8x16_t mask = vdupq_n_u8(15);
    const int8x16_t eight = vdupq_n_s8(8);
    for (int r = 0; r < rows; ++r) {
        const auto* q = reinterpret_cast<const std::int8_t*>(a.data) + static_cast<std::ptrdiff_t>(r) * a.groups * kGroup;
        V total[2] = {set1(0.0f), set1(0.0f)};
        for (int g = 0; g < a.groups; ++g) {
            int32x4_t dot[8];
            for (int c = 0; c < 8; ++c) dot[c] = vdupq_n_s32(0);
            for (int k = 0; k < kGroup; k += 8) {
                const std::uint8_t* w = panel.data + (static_cast<std::ptrdiff_t>(g) * kGroup + k) * kColumns / 2;
                for (int c = 0; c < 8; ++c) {
                    const uint8x16_t p = vld1q_u8(w + 16 * c);
                    const int8x16_t low = vsubq_s8(vreinterpretq_s8_u8(vandq_u8(p, mask)), eight);
                    const int8x16_t high = vsubq_s8(vreinterpretq_s8_u8(vshrq_n_u8(p, 4)), eight);
                    dot[c] = dot_quad(dot_quad(dot[c], low, q + g * kGroup + k), high, q + g * kGroup + k + 4);
                }
            }
            const V scale = set1(a.scales[static_cast<std::ptrdiff_t>(r) * a.groups + g]);
            for (int h = 0; h < 2; ++h) {
                const V factor = mul(scale, load_f16(panel.scales + static_cast<std::ptrdiff_t>(g) * kColumns + h * kLanes));
                total[h] = fma(each([&](int i) { return vcvtq_f32_s32(dot[4 * h + i]); }), factor, total[h]);
            }
        }
        for (int h = 0; h < 2; ++h) {
            finish_columns(total[h], nullptr, panel.bias, h * kLanes, out + r * stride + h * kLanes, accumulate);
        }
    }
}

#include "table.inl"

}  // namespace neon

const KernelSet* neon_kernels() { return &neon::table; }

}  // namespace minivault
