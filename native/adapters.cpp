#include "adapters.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace minivault {

static void check_finite(const std::vector<float>& values) {
    for (const float value : values) {
        if (!std::isfinite(value)) throw std::domain_error("a weight is infinite or not a number");
    }
}

LowRank::LowRank(const float* a, const float* b, int rank, int inputs, int outputs, const std::vector<float>& input_scales)
    : inputs_(inputs), inner_panels_((rank + kColumns - 1) / kColumns) {
    a_.assign(static_cast<std::size_t>(inner_panels_) * inputs * kColumns, 0.0f);
    for (int r = 0; r < rank; ++r) {
        float* column = &a_[static_cast<std::size_t>(r / kColumns) * inputs * kColumns + r % kColumns];
        for (int k = 0; k < inputs; ++k) {
            const float weight = a[static_cast<std::size_t>(r) * inputs + k];
            column[static_cast<std::size_t>(k) * kColumns] = input_scales.empty() ? weight : weight * input_scales[k];
        }
    }
    for (int first = 0; first < outputs; first += kColumns) {
        const int last = std::min(first + kColumns, outputs);
        int begin = rank, end = 0;
        for (int n = first; n < last; ++n) {
            for (int r = 0; r < rank; ++r) {
                if (b[static_cast<std::size_t>(n) * rank + r] == 0.0f) continue;
                begin = std::min(begin, r);
                end = std::max(end, r + 1);
            }
        }
        const int count = std::max(0, end - begin);
        panels_.push_back({count > 0 ? begin : 0, count, b_.size()});
        b_.resize(b_.size() + static_cast<std::size_t>(count) * kColumns, 0.0f);
        float* panel = b_.data() + panels_.back().offset;
        for (int n = first; n < last; ++n) {
            for (int r = 0; r < count; ++r) panel[r * kColumns + n - first] = b[static_cast<std::size_t>(n) * rank + begin + r];
        }
    }
    check_finite(a_);
    check_finite(b_);
}

void LowRank::shrink(const KernelSet& kernels, int panel, const float* x, std::ptrdiff_t x_stride, int rows, float* inner,
                     std::ptrdiff_t inner_stride) const {
    const FloatPanel weights{a_.data() + static_cast<std::size_t>(panel) * inputs_ * kColumns, nullptr};
    kernels.gemm_f32(weights, x, x_stride, inputs_, rows, inner + panel * kColumns, inner_stride, false);
}

void LowRank::expand(const KernelSet& kernels, int panel, const float* inner, std::ptrdiff_t inner_stride, int rows,
                     float* out, std::ptrdiff_t stride) const {
    const Panel& p = panels_[panel];
    if (p.count == 0) return;
    const FloatPanel weights{b_.data() + p.offset, nullptr};
    kernels.gemm_f32(weights, inner + p.begin, inner_stride, p.count, rows, out + panel * kColumns, stride, true);
}

int Adapter::inner_width() const {
    int most = 0;
    for (const auto& layer : layers_) {
        for (const auto& matrix : layer) most = std::max(most, matrix ? matrix->inner_panels() * kColumns : 0);
    }
    return most;
}

std::size_t Adapter::bytes() const {
    std::size_t total = 0;
    for (const auto& layer : layers_) {
        for (const auto& matrix : layer) total += matrix ? matrix->bytes() : 0;
    }
    return total;
}

}  // namespace minivault
