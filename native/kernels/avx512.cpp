// AVX-512 with VNNI: one register is the vector of 16 lanes, `vpdpbusd` sums four products at once.
#include <immintrin.h>

#include <cstring>
#include <limits>

#include "kernels.hpp"

namespace minivault {
namespace avx512 {

static constexpr const char* kName = "avx512";
static constexpr int kActivationBytes = 1;

using V = __m512;

static inline V load(const float* p) { return _mm512_loadu_ps(p); }
static inline V load_f16(const std::uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
static inline void store(float* p, V v) { _mm512_storeu_ps(p, v); }
static inline void store_f16(std::uint16_t* p, V v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline V set1(float x) { return _mm512_set1_ps(x); }
static inline V add(V a, V b) { return _mm512_add_ps(a, b); }
static inline V sub(V a, V b) { return _mm512_sub_ps(a, b); }
static inline V mul(V a, V b) { return _mm512_mul_ps(a, b); }
static inline V div(V a, V b) { return _mm512_div_ps(a, b); }
static inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
static inline V maximum(V a, V b) { return _mm512_max_ps(a, b); }
static inline V minimum(V a, V b) { return _mm512_min_ps(a, b); }
static inline V absolute(V a) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7fffffff)));
}
static inline V maximum_bits(V a, V b) {
    return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
static inline V add_exponent(V p, V t) {
    return _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(t), 23)));
}

#include "kernels.inl"

static void quantize(const float* x, int row, int group_begin, int group_end, const QuantizedRows& out) {
    auto* q = reinterpret_cast<std::int8_t*>(out.data) + static_cast<std::ptrdiff_t>(row) * out.groups * kGroup;
    for (int g = group_begin; g < group_end; ++g) {
        const V lo = load(x + g * kGroup);
        const V hi = load(x + g * kGroup + kLanes);
        const V most = maximum_bits(absolute(lo), absolute(hi));
        const GroupScale s = group_scale(_mm512_reduce_max_epi32(_mm512_castps_si512(most)));
        __m512i a = _mm512_setzero_si512();
        __m512i b = _mm512_setzero_si512();
        if (s.inverse != 0.0f) {
            a = _mm512_cvtps_epi32(mul(lo, set1(s.inverse)));
            b = _mm512_cvtps_epi32(mul(hi, set1(s.inverse)));
        }
        _mm_storeu_si128(reinterpret_cast<__m128i*>(q + g * kGroup), _mm512_cvtepi32_epi8(a));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(q + g * kGroup + kLanes), _mm512_cvtepi32_epi8(b));
        out.scales[static_cast<std::ptrdiff_t>(row) * out.groups + g] = s.scale;
        out.offsets[static_cast<std::ptrdiff_t>(row) * out.groups + g] = -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(a, b));
    }
}

// What the rows of a tile need: where their activations, scales and offsets are.
template <int R>
struct Rows {
    const std::int8_t* q[R];
    const float* scale[R];
    const std::int32_t* offset[R];

    Rows(const QuantizedRows& a, int row) {
        for (int r = 0; r < R; ++r) {
            q[r] = reinterpret_cast<const std::int8_t*>(a.data) + static_cast<std::ptrdiff_t>(row + r) * a.groups * kGroup;
            scale[r] = a.scales + static_cast<std::ptrdiff_t>(row + r) * a.groups;
            offset[r] = a.offsets + static_cast<std::ptrdiff_t>(row + r) * a.groups;
        }
    }
    __m512i quad(int r, int k) const {
        std::int32_t four;
        std::memcpy(&four, q[r] + k, 4);
        return _mm512_set1_epi32(four);
    }
};

// Memory that lies ahead: `lines` cache lines of it are asked for with each group. Into the second-level cache: a panel
// is larger than the first, and would drive out what is being read.
struct Ahead {
    const std::uint8_t* data;
    int lines;

    void fetch() {
        for (int line = 0; line < lines; ++line) {
            _mm_prefetch(reinterpret_cast<const char*>(data + line * 64), _MM_HINT_T1);
        }
        data += lines * 64;
    }
};

struct Int8 {
    using Panel = Int8Panel;
    static constexpr int kMostRows = 6;
    static constexpr int kGroupLines = 16;

    template <int R>
    static inline void run(const Panel& panel, const QuantizedRows& a, int row, float* out, std::ptrdiff_t stride,
                           bool accumulate, Ahead ahead) {
        const Rows<R> rows(a, row);
        V total[R][2];
        for (int r = 0; r < R; ++r) total[r][0] = total[r][1] = _mm512_setzero_ps();
        const std::uint8_t* w = panel.data;
        for (int g = 0; g < a.groups; ++g) {
            ahead.fetch();
            __m512i dot[R][2];
            for (int r = 0; r < R; ++r) dot[r][0] = dot[r][1] = _mm512_set1_epi32(rows.offset[r][g]);
#pragma GCC unroll 8
            for (int k = 0; k < kGroup; k += 4) {
                const __m512i w0 = _mm512_loadu_si512(w);
                const __m512i w1 = _mm512_loadu_si512(w + 64);
                w += 128;
#pragma GCC unroll 8
                for (int r = 0; r < R; ++r) {
                    const __m512i x = rows.quad(r, g * kGroup + k);
                    dot[r][0] = _mm512_dpbusd_epi32(dot[r][0], w0, x);
                    dot[r][1] = _mm512_dpbusd_epi32(dot[r][1], w1, x);
                }
            }
            for (int r = 0; r < R; ++r) {
                const V s = set1(rows.scale[r][g]);
                total[r][0] = fma(_mm512_cvtepi32_ps(dot[r][0]), s, total[r][0]);
                total[r][1] = fma(_mm512_cvtepi32_ps(dot[r][1]), s, total[r][1]);
            }
        }
        for (int r = 0; r < R; ++r) {
            for (int h = 0; h < 2; ++h) {
                finish_columns(total[r][h], panel.scales, panel.bias, h * kLanes, out + (row + r) * stride + h * kLanes,
                               accumulate);
            }
        }
    }
};

struct Int4 {
    using Panel = Int4Panel;
    static constexpr int kMostRows = 5;
    static constexpr int kGroupLines = 8;

    template <int R>
    static inline void run(const Panel& panel, const QuantizedRows& a, int row, float* out, std::ptrdiff_t stride,
                           bool accumulate, Ahead ahead) {
        const Rows<R> rows(a, row);
        const __m512i mask = _mm512_set1_epi8(15);
        V total[R][2];
        for (int r = 0; r < R; ++r) total[r][0] = total[r][1] = _mm512_setzero_ps();
        const std::uint8_t* w = panel.data;
        for (int g = 0; g < a.groups; ++g) {
            ahead.fetch();
            // With few rows, each nibble has sums of its own: shorter chains, and the high one is left 16 times too large
            // until the end of the group, which spares a shift for each quad.
            constexpr bool kApart = R <= 2;
            __m512i dot[R][2];
            __m512i top[R][2];
            for (int r = 0; r < R; ++r) {
                dot[r][0] = dot[r][1] = _mm512_set1_epi32(rows.offset[r][g] / 16);
                top[r][0] = top[r][1] = _mm512_setzero_si512();
            }
#pragma GCC unroll 4
            for (int k = 0; k < kGroup; k += 8) {
                const __m512i p0 = _mm512_loadu_si512(w);
                const __m512i p1 = _mm512_loadu_si512(w + 64);
                w += 128;
                const __m512i low0 = _mm512_and_si512(p0, mask);
                const __m512i low1 = _mm512_and_si512(p1, mask);
                const __m512i high0 = kApart ? _mm512_andnot_si512(mask, p0) : _mm512_and_si512(_mm512_srli_epi16(p0, 4), mask);
                const __m512i high1 = kApart ? _mm512_andnot_si512(mask, p1) : _mm512_and_si512(_mm512_srli_epi16(p1, 4), mask);
#pragma GCC unroll 8
                for (int r = 0; r < R; ++r) {
                    const __m512i x = rows.quad(r, g * kGroup + k);
                    dot[r][0] = _mm512_dpbusd_epi32(dot[r][0], low0, x);
                    dot[r][1] = _mm512_dpbusd_epi32(dot[r][1], low1, x);
                    const __m512i y = rows.quad(r, g * kGroup + k + 4);
                    __m512i* high = kApart ? top[r] : dot[r];
                    high[0] = _mm512_dpbusd_epi32(high[0], high0, y);
                    high[1] = _mm512_dpbusd_epi32(high[1], high1, y);
                }
            }
            if constexpr (kApart) {
                for (int r = 0; r < R; ++r) {
                    for (int h = 0; h < 2; ++h) dot[r][h] = _mm512_add_epi32(dot[r][h], _mm512_srai_epi32(top[r][h], 4));
                }
            }
            const V s0 = load_f16(panel.scales + static_cast<std::ptrdiff_t>(g) * kColumns);
            const V s1 = load_f16(panel.scales + static_cast<std::ptrdiff_t>(g) * kColumns + kLanes);
            for (int r = 0; r < R; ++r) {
                const V s = set1(rows.scale[r][g]);
                total[r][0] = fma(_mm512_cvtepi32_ps(dot[r][0]), mul(s, s0), total[r][0]);
                total[r][1] = fma(_mm512_cvtepi32_ps(dot[r][1]), mul(s, s1), total[r][1]);
            }
        }
        for (int r = 0; r < R; ++r) {
            for (int h = 0; h < 2; ++h) {
                finish_columns(total[r][h], nullptr, panel.bias, h * kLanes, out + (row + r) * stride + h * kLanes,
                               accumulate);
            }
        }
    }
};

// Bytes by which a single tile reads ahead: measured; farther, the hardware's own streams are disturbed.
constexpr int kDistance = 1024;
// With more rows than these a tile is bound by its products, and reading a little ahead only gets into their way.
constexpr int kFewRows = 5;

// Walks over the rows in tiles of nearly equal size. With one tile of few rows, memory is fetched a little ahead; else each
// fetches its share of the next panel, so that memory stays busy while we compute.
template <class Lane>
static void gemm(const typename Lane::Panel& panel, const QuantizedRows& a, int rows, float* out, std::ptrdiff_t stride,
                 bool accumulate) {
    const int passes = (rows + Lane::kMostRows - 1) / Lane::kMostRows;
    const int share = (Lane::kGroupLines + passes - 1) / passes;
    Ahead ahead{passes == 1 && rows <= kFewRows ? panel.data + kDistance : panel.next, share};
    int row = 0;
    for (int pass = 0; pass < passes; ++pass) {
        const int count = (rows - row + (passes - pass) - 1) / (passes - pass);
        if (pass * share >= Lane::kGroupLines) ahead.lines = 0;
        switch (count) {
            case 1: Lane::template run<1>(panel, a, row, out, stride, accumulate, ahead); break;
            case 2: Lane::template run<2>(panel, a, row, out, stride, accumulate, ahead); break;
            case 3: Lane::template run<3>(panel, a, row, out, stride, accumulate, ahead); break;
            case 4: Lane::template run<4>(panel, a, row, out, stride, accumulate, ahead); break;
            case 5: Lane::template run<5>(panel, a, row, out, stride, accumulate, ahead); break;
            default: Lane::template run<6>(panel, a, row, out, stride, accumulate, ahead); break;
        }
        ahead.data += static_cast<std::ptrdiff_t>(share) * 64 * a.groups;
        row += count;
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

}  // namespace avx512

const KernelSet* avx512_kernels() { return &avx512::table; }

}  // namespace minivault
