// AVX2 with FMA and F16C. Products go through 16-bit pairs: `vpmaddubsw` saturates, `vpmaddwd` of widened bytes does not.
#include <immintrin.h>

#include <cstring>
#include <limits>

#include "kernels.hpp"

namespace minivault {
namespace avx2 {

static constexpr const char* kName = "avx2";
// Activations are kept as 16-bit pairs (k0, k2), (k1, k3) of each quad, the way the masked weights come.
static constexpr int kActivationBytes = 2;

#include "avx2_floats.inl"
#include "kernels.inl"

static inline std::int32_t sum_lanes(__m256i v) {
    alignas(32) std::int32_t lane[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lane), v);
    return lane[0] + lane[1] + lane[2] + lane[3] + lane[4] + lane[5] + lane[6] + lane[7];
}

static void quantize(const float* x, int row, int group_begin, int group_end, const QuantizedRows& out) {
    auto* q = reinterpret_cast<std::int16_t*>(out.data) + static_cast<std::ptrdiff_t>(row) * out.groups * kGroup;
    // Within each quad of 16-bit values: k0, k2, k1, k3.
    const __m256i pairs = _mm256_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15,
                                           0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
    for (int g = group_begin; g < group_end; ++g) {
        const GroupScale s = group_scale(group_bits(x + g * kGroup));
        const __m256 inverse = _mm256_set1_ps(s.inverse);
        __m256i total = _mm256_setzero_si256();
        for (int i = 0; i < kGroup; i += 16) {
            __m256i a = _mm256_setzero_si256();
            __m256i b = _mm256_setzero_si256();
            if (s.inverse != 0.0f) {
                a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + g * kGroup + i), inverse));
                b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + g * kGroup + i + 8), inverse));
            }
            total = _mm256_add_epi32(total, _mm256_add_epi32(a, b));
            const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + g * kGroup + i), _mm256_shuffle_epi8(packed, pairs));
        }
        out.scales[static_cast<std::ptrdiff_t>(row) * out.groups + g] = s.scale;
        out.offsets[static_cast<std::ptrdiff_t>(row) * out.groups + g] = -128 * sum_lanes(total);
    }
}

// Sums of four products for 8 columns: `even` and `odd` are weights (k0, k2) and (k1, k3) of a quad, widened to 16 bits.
static inline __m256i dot_quad(__m256i sum, __m256i even, __m256i odd, const std::int16_t* q) {
    std::int32_t pair[2];
    std::memcpy(pair, q, 8);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(even, _mm256_set1_epi32(pair[0])));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(odd, _mm256_set1_epi32(pair[1])));
}

static inline const std::int16_t* row_of(const QuantizedRows& a, int row) {
    return reinterpret_cast<const std::int16_t*>(a.data) + static_cast<std::ptrdiff_t>(row) * a.groups * kGroup;
}

struct Int8 {
    using Panel = Int8Panel;

    // R rows against 16 of a panel's columns, starting at `column`.
    template <int R>
    static inline void run(const Panel& panel, const QuantizedRows& a, int row, int column, float* out,
                           std::ptrdiff_t stride, bool accumulate) {
        const __m256i mask = _mm256_set1_epi32(0x00ff00ff);
        V total[R];
        for (int r = 0; r < R; ++r) total[r] = set1(0.0f);
        const std::uint8_t* w = panel.data + column * 4;
        for (int g = 0; g < a.groups; ++g) {
            __m256i dot[R][2];
            for (int r = 0; r < R; ++r) {
                dot[r][0] = dot[r][1] = _mm256_set1_epi32(a.offsets[static_cast<std::ptrdiff_t>(row + r) * a.groups + g]);
            }
            for (int k = 0; k < kGroup; k += 4) {
                if (column == 0) {
                    _mm_prefetch(reinterpret_cast<const char*>(w + 4096), _MM_HINT_T0);
                    _mm_prefetch(reinterpret_cast<const char*>(w + 4160), _MM_HINT_T0);
                }
                const __m256i w0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
                const __m256i w1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + 32));
                w += 128;
                for (int r = 0; r < R; ++r) {
                    const std::int16_t* q = row_of(a, row + r) + g * kGroup + k;
                    dot[r][0] = dot_quad(dot[r][0], _mm256_and_si256(w0, mask), _mm256_srli_epi16(w0, 8), q);
                    dot[r][1] = dot_quad(dot[r][1], _mm256_and_si256(w1, mask), _mm256_srli_epi16(w1, 8), q);
                }
            }
            for (int r = 0; r < R; ++r) {
                const V s = set1(a.scales[static_cast<std::ptrdiff_t>(row + r) * a.groups + g]);
                total[r] = fma(V{_mm256_cvtepi32_ps(dot[r][0]), _mm256_cvtepi32_ps(dot[r][1])}, s, total[r]);
            }
        }
        for (int r = 0; r < R; ++r) {
            finish_columns(total[r], panel.scales, panel.bias, column, out + (row + r) * stride + column, accumulate);
        }
    }
};

struct Int4 {
    using Panel = Int4Panel;

    template <int R>
    static inline void run(const Panel& panel, const QuantizedRows& a, int row, int column, float* out,
                           std::ptrdiff_t stride, bool accumulate) {
        const __m256i mask = _mm256_set1_epi32(0x000f000f);
        V total[R];
        for (int r = 0; r < R; ++r) total[r] = set1(0.0f);
        const std::uint8_t* w = panel.data + column * 4;
        for (int g = 0; g < a.groups; ++g) {
            __m256i dot[R][2];
            for (int r = 0; r < R; ++r) {
                dot[r][0] = dot[r][1] =
                    _mm256_set1_epi32(a.offsets[static_cast<std::ptrdiff_t>(row + r) * a.groups + g] / 16);
            }
            for (int k = 0; k < kGroup; k += 8) {
                if (column == 0) {
                    _mm_prefetch(reinterpret_cast<const char*>(w + 4096), _MM_HINT_T0);
                    _mm_prefetch(reinterpret_cast<const char*>(w + 4160), _MM_HINT_T0);
                }
                for (int h = 0; h < 2; ++h) {
                    const __m256i p = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + 32 * h));
                    const __m256i even0 = _mm256_and_si256(p, mask);
                    const __m256i odd0 = _mm256_and_si256(_mm256_srli_epi16(p, 8), mask);
                    const __m256i even1 = _mm256_and_si256(_mm256_srli_epi16(p, 4), mask);
                    const __m256i odd1 = _mm256_srli_epi16(p, 12);
                    for (int r = 0; r < R; ++r) {
                        const std::int16_t* q = row_of(a, row + r) + g * kGroup + k;
                        dot[r][h] = dot_quad(dot_quad(dot[r][h], even0, odd0, q), even1, odd1, q + 4);
                    }
                }
                w += 128;
            }
            const V weight = load_f16(panel.scales + static_cast<std::ptrdiff_t>(g) * kColumns + column);
            for (int r = 0; r < R; ++r) {
                const V s = mul(set1(a.scales[static_cast<std::ptrdiff_t>(row + r) * a.groups + g]), weight);
                total[r] = fma(V{_mm256_cvtepi32_ps(dot[r][0]), _mm256_cvtepi32_ps(dot[r][1])}, s, total[r]);
            }
        }
        for (int r = 0; r < R; ++r) {
            finish_columns(total[r], nullptr, panel.bias, column, out + (row + r) * stride + column, accumulate);
        }
    }
};

template <class Lane>
static void gemm(const typename Lane::Panel& panel, const QuantizedRows& a, int rows, float* out, std::ptrdiff_t stride,
                 bool accumulate) {
    for (int column = 0; column < kColumns; column += kLanes) {
        int row = 0;
        for (; row + 2 <= rows; row += 2) Lane::template run<2>(panel, a, row, column, out, stride, accumulate);
        if (row < rows) Lane::template run<1>(panel, a, row, column, out, stride, accumulate);
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

}  // namespace avx2

const KernelSet* avx2_kernels() { return &avx2::table; }

}  // namespace minivault
