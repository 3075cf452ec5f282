// The kernels of AArch64, written once for its three ways of multiplying bytes. Whoever includes this defines the
// namespace's kName, the type Weights, what becomes of loaded bytes (`weights` of INT8, `nibbles` of INT4),
// kUnsignedWeights (the sums then start at the rows' offsets), and `dot_quad<lane>(sum, Weights, activations)`.

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

// Four activations' worth of products for the 16 columns of half a panel: `w` are their weights, four columns to a
// register, as `weights` made them; `kLane` says which quad of the 16 activations in `x`.
template <int kLane>
static inline void add_quad(int32x4_t (&dot)[4], const Weights (&w)[4], int8x16_t x) {
    for (int c = 0; c < 4; ++c) dot[c] = dot_quad<kLane>(dot[c], w[c], x);
}

static inline const std::int8_t* row_of(const QuantizedRows& a, int row) {
    return reinterpret_cast<const std::int8_t*>(a.data) + static_cast<std::ptrdiff_t>(row) * a.groups * kGroup;
}

struct Int8 {
    using Panel = Int8Panel;
    static constexpr int kGroupBytes = kGroup * kColumns;
    static constexpr int kOffsetShare = 1;

    template <int R, int kLane>
    static inline void quad(const std::uint8_t* w, const int8x16_t (&x)[R], int32x4_t (&dot)[R][4]) {
        Weights four[4];
        for (int c = 0; c < 4; ++c) four[c] = weights(vld1q_u8(w + kLane * kColumns * 4 + 16 * c));
        for (int r = 0; r < R; ++r) add_quad<kLane>(dot[r], four, x[r]);
    }
    // 16 of a group's 32 activations.
    template <int R>
    static inline void half(const std::uint8_t* w, const int8x16_t (&x)[R], int32x4_t (&dot)[R][4]) {
        quad<R, 0>(w, x, dot);
        quad<R, 1>(w, x, dot);
        quad<R, 2>(w, x, dot);
        quad<R, 3>(w, x, dot);
    }
    static V factor(const Panel&, V scale, int, int) { return scale; }
    static const float* scales(const Panel& panel) { return panel.scales; }
};

struct Int4 {
    using Panel = Int4Panel;
    static constexpr int kGroupBytes = kGroup * kColumns / 2;
    static constexpr int kOffsetShare = 16;

    template <int R, int kLane>
    static inline void quads(const std::uint8_t* w, const int8x16_t (&x)[R], int32x4_t (&dot)[R][4]) {
        const uint8x16_t mask = vdupq_n_u8(15);
        Weights low[4];
        Weights high[4];
        for (int c = 0; c < 4; ++c) {
            const uint8x16_t p = vld1q_u8(w + kLane / 2 * kColumns * 4 + 16 * c);
            low[c] = nibbles(vandq_u8(p, mask));
            high[c] = nibbles(vshrq_n_u8(p, 4));
        }
        for (int r = 0; r < R; ++r) {
            add_quad<kLane>(dot[r], low, x[r]);
            add_quad<kLane + 1>(dot[r], high, x[r]);
        }
    }
    template <int R>
    static inline void half(const std::uint8_t* w, const int8x16_t (&x)[R], int32x4_t (&dot)[R][4]) {
        quads<R, 0>(w, x, dot);
        quads<R, 2>(w, x, dot);
    }
    static V factor(const Panel& panel, V scale, int g, int column) {
        return mul(scale, load_f16(panel.scales + static_cast<std::ptrdiff_t>(g) * kColumns + column));
    }
    static const float* scales(const Panel&) { return nullptr; }
};

// R rows against 16 of a panel's columns, from `column` on.
template <class Lane, int R>
static inline void run(const typename Lane::Panel& panel, const QuantizedRows& a, int row, int column, float* out,
                       std::ptrdiff_t stride, bool accumulate) {
    V total[R];
    for (int r = 0; r < R; ++r) total[r] = set1(0.0f);
    for (int g = 0; g < a.groups; ++g) {
        int32x4_t dot[R][4];
        for (int r = 0; r < R; ++r) {
            const std::int32_t offset = a.offsets[static_cast<std::ptrdiff_t>(row + r) * a.groups + g];
            const int32x4_t start = vdupq_n_s32(kUnsignedWeights ? offset / Lane::kOffsetShare : 0);
            for (int c = 0; c < 4; ++c) dot[r][c] = start;
        }
        const std::uint8_t* w = panel.data + static_cast<std::ptrdiff_t>(g) * Lane::kGroupBytes + column * 4;
        for (int h = 0; h < 2; ++h) {
            int8x16_t x[R];
            for (int r = 0; r < R; ++r) x[r] = vld1q_s8(row_of(a, row + r) + g * kGroup + 16 * h);
            Lane::template half<R>(w + h * Lane::kGroupBytes / 2, x, dot);
        }
        for (int r = 0; r < R; ++r) {
            const V s = Lane::factor(panel, set1(a.scales[static_cast<std::ptrdiff_t>(row + r) * a.groups + g]), g, column);
            total[r] = fma(each([&](int i) { return vcvtq_f32_s32(dot[r][i]); }), s, total[r]);
        }
    }
    for (int r = 0; r < R; ++r) {
        finish_columns(total[r], Lane::scales(panel), panel.bias, column, out + (row + r) * stride + column, accumulate);
    }
}

// Three rows at a time: their sums, the weights and the activations fill the 32 registers.
template <class Lane>
static void gemm(const typename Lane::Panel& panel, const QuantizedRows& a, int rows, float* out, std::ptrdiff_t stride,
                 bool accumulate) {
    for (int column = 0; column < kColumns; column += kLanes) {
        int row = 0;
        for (; row + 3 <= rows; row += 3) run<Lane, 3>(panel, a, row, column, out, stride, accumulate);
        switch (rows - row) {
            case 2: run<Lane, 2>(panel, a, row, column, out, stride, accumulate); break;
            case 1: run<Lane, 1>(panel, a, row, column, out, stride, accumulate); break;
            default: break;
        }
    }
}

static void gemm_int8(const Int8Panel& panel, const QuantizedRows& a, int rows, float* out, std::ptrdiff_t stride,
                      bool accumulate) {
    gemm<Int8>(panel, a, rows, out, stride, accumulate);
}

static void gemm_int4(const Int4Panel& panel, const QuantizedRows& a, int rows, float* out, std::ptrdiff_t stride,
                      bool accumulate) {
    gemm<Int4>(panel, a, rows, out, stride, accumulate);
}

#include "table.inl"
