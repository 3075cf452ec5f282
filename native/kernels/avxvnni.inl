// 256-bit VNNI. Written once and compiled twice, as VEX for AVX-VNNI and as EVEX for processors with AVX-512 that would
// rather keep to 256 bits. Whoever includes this defines the namespace's `dot_four(sum, unsigned, signed)`.

static constexpr const char* kName = "avxvnni";
static constexpr int kActivationBytes = 1;

#include "avx2_floats.inl"
#include "kernels.inl"

static void quantize(const float* x, int row, int group_begin, int group_end, const QuantizedRows& out) {
    auto* q = reinterpret_cast<std::int8_t*>(out.data) + static_cast<std::ptrdiff_t>(row) * out.groups * kGroup;
    const __m256i ones = _mm256_set1_epi8(1);
    // Undoes the order in which packing interleaves the halves of its operands.
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (int g = group_begin; g < group_end; ++g) {
        const GroupScale s = group_scale(group_bits(x + g * kGroup));
        __m256i packed = _mm256_setzero_si256();
        if (s.inverse != 0.0f) {
            const __m256 inverse = _mm256_set1_ps(s.inverse);
            __m256i part[4];
            for (int i = 0; i < 4; ++i) {
                part[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + g * kGroup + 8 * i), inverse));
            }
            packed = _mm256_packs_epi16(_mm256_packs_epi32(part[0], part[1]), _mm256_packs_epi32(part[2], part[3]));
            packed = _mm256_permutevar8x32_epi32(packed, order);
        }
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + g * kGroup), packed);
        alignas(32) std::int32_t lane[8];
        _mm256_store_si256(reinterpret_cast<__m256i*>(lane), dot_four(_mm256_setzero_si256(), ones, packed));
        std::int32_t total = 0;
        for (const std::int32_t value : lane) total += value;
        out.scales[static_cast<std::ptrdiff_t>(row) * out.groups + g] = s.scale;
        out.offsets[static_cast<std::ptrdiff_t>(row) * out.groups + g] = -128 * total;
    }
}

static inline __m256i quad(const QuantizedRows& a, int row, int k) {
    std::int32_t four;
    std::memcpy(&four, a.data + static_cast<std::ptrdiff_t>(row) * a.groups * kGroup + k, 4);
    return _mm256_set1_epi32(four);
}

static inline __m256i load_weights(const std::uint8_t* w) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
}

// The two registers of integer sums that stand beside a V.
struct Sums {
    __m256i lo, hi;
};

static inline V to_float(Sums s) { return {_mm256_cvtepi32_ps(s.lo), _mm256_cvtepi32_ps(s.hi)}; }

struct Int8 {
    using Panel = Int8Panel;

    // Adds one group's products of R rows and H times 16 columns, from `w` on.
    template <int R, int H>
    static inline void group(const std::uint8_t* w, const QuantizedRows& a, int row, int g, Sums (&dot)[R][H]) {
        for (int r = 0; r < R; ++r) {
            const __m256i start = _mm256_set1_epi32(a.offsets[static_cast<std::ptrdiff_t>(row + r) * a.groups + g]);
            for (int h = 0; h < H; ++h) dot[r][h] = {start, start};
        }
#pragma GCC unroll 8
        for (int k = 0; k < kGroup; k += 4, w += 128) {
            for (int h = 0; h < H; ++h) {
                const __m256i lo = load_weights(w + 64 * h);
                const __m256i hi = load_weights(w + 64 * h + 32);
                for (int r = 0; r < R; ++r) {
                    const __m256i x = quad(a, row + r, g * kGroup + k);
                    dot[r][h].lo = dot_four(dot[r][h].lo, lo, x);
                    dot[r][h].hi = dot_four(dot[r][h].hi, hi, x);
                }
            }
        }
    }
    static V factor(const Panel&, V scale, int, int) { return scale; }
    static const float* scales(const Panel& panel) { return panel.scales; }
    static constexpr int kGroupBytes = 1024;
};

struct Int4 {
    using Panel = Int4Panel;

    template <int R, int H>
    static inline void group(const std::uint8_t* w, const QuantizedRows& a, int row, int g, Sums (&dot)[R][H]) {
        const __m256i mask = _mm256_set1_epi8(15);
        for (int r = 0; r < R; ++r) {
            const __m256i start =
                _mm256_set1_epi32(a.offsets[static_cast<std::ptrdiff_t>(row + r) * a.groups + g] / 16);
            for (int h = 0; h < H; ++h) dot[r][h] = {start, start};
        }
#pragma GCC unroll 4
        for (int k = 0; k < kGroup; k += 8, w += 128) {
            for (int h = 0; h < H; ++h) {
                const __m256i lo = load_weights(w + 64 * h);
                const __m256i hi = load_weights(w + 64 * h + 32);
                for (int r = 0; r < R; ++r) {
                    const __m256i x = quad(a, row + r, g * kGroup + k);
                    dot[r][h].lo = dot_four(dot[r][h].lo, _mm256_and_si256(lo, mask), x);
                    dot[r][h].hi = dot_four(dot[r][h].hi, _mm256_and_si256(hi, mask), x);
                    const __m256i y = quad(a, row + r, g * kGroup + k + 4);
                    dot[r][h].lo = dot_four(dot[r][h].lo, _mm256_and_si256(_mm256_srli_epi16(lo, 4), mask), y);
                    dot[r][h].hi = dot_four(dot[r][h].hi, _mm256_and_si256(_mm256_srli_epi16(hi, 4), mask), y);
                }
            }
        }
    }
    static V factor(const Panel& panel, V scale, int g, int column) {
        return mul(scale, load_f16(panel.scales + static_cast<std::ptrdiff_t>(g) * kColumns + column));
    }
    static const float* scales(const Panel&) { return nullptr; }
    static constexpr int kGroupBytes = 512;
};

// R rows against 16 * H of a panel's columns, from `column` on.
template <class Lane, int R, int H>
static inline void run(const typename Lane::Panel& panel, const QuantizedRows& a, int row, int column, float* out,
                       std::ptrdiff_t stride, bool accumulate) {
    V total[R][H];
    for (int r = 0; r < R; ++r) {
        for (int h = 0; h < H; ++h) total[r][h] = set1(0.0f);
    }
    for (int g = 0; g < a.groups; ++g) {
        const std::uint8_t* w = panel.data + static_cast<std::ptrdiff_t>(g) * Lane::kGroupBytes + column * 4;
        if (H == 2) {
            for (int line = 0; line < Lane::kGroupBytes; line += 64) {
                _mm_prefetch(reinterpret_cast<const char*>(w + 4096 + line), _MM_HINT_T1);
            }
        }
        Sums dot[R][H];
        Lane::template group<R, H>(w, a, row, g, dot);
        for (int r = 0; r < R; ++r) {
            const V s = set1(a.scales[static_cast<std::ptrdiff_t>(row + r) * a.groups + g]);
            for (int h = 0; h < H; ++h) {
                total[r][h] = fma(to_float(dot[r][h]), Lane::factor(panel, s, g, column + h * kLanes), total[r][h]);
            }
        }
    }
    for (int r = 0; r < R; ++r) {
        for (int h = 0; h < H; ++h) {
            const int at = column + h * kLanes;
            finish_columns(total[r][h], Lane::scales(panel), panel.bias, at, out + (row + r) * stride + at, accumulate);
        }
    }
}

// One row takes the whole panel in the order of memory; several take half of its columns, three rows at a time: so many
// sums fill the 16 registers.
template <class Lane>
static void gemm(const typename Lane::Panel& panel, const QuantizedRows& a, int rows, float* out, std::ptrdiff_t stride,
                 bool accumulate) {
    if (rows == 1) {
        run<Lane, 1, 2>(panel, a, 0, 0, out, stride, accumulate);
        return;
    }
    for (int column = 0; column < kColumns; column += kLanes) {
        int row = 0;
        for (; row + 3 <= rows; row += 3) run<Lane, 3, 1>(panel, a, row, column, out, stride, accumulate);
        switch (rows - row) {
            case 2: run<Lane, 2, 1>(panel, a, row, column, out, stride, accumulate); break;
            case 1: run<Lane, 1, 1>(panel, a, row, column, out, stride, accumulate); break;
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
