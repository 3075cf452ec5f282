#include "pooling.hpp"

#include <cmath>

namespace minivault {

void Pool::add(const float* row, int width) {
    if (count_ == 0 || kind_ == Pooling::last) {
        values_.assign(row, row + width);
    } else if (kind_ == Pooling::max) {
        for (int i = 0; i < width; ++i) values_[i] = row[i] > values_[i] ? row[i] : values_[i];
    } else if (kind_ != Pooling::cls) {
        for (int i = 0; i < width; ++i) values_[i] = values_[i] + row[i];
    }
    ++count_;
}

void Pool::finish(const KernelSet& kernels, bool normalized, float* out) const {
    const int n = width();
    const float rows = static_cast<float>(count_);
    const float divisor = kind_ == Pooling::mean ? rows : kind_ == Pooling::mean_sqrt_len ? std::sqrt(rows) : 1.0f;
    for (int i = 0; i < n; ++i) out[i] = values_[i] / divisor;
    if (!normalized) return;
    const float length = std::sqrt(kernels.sum_of_squares(out, 0.0f, n));
    const float shortest = length > 1e-12f ? length : 1e-12f;
    for (int i = 0; i < n; ++i) out[i] = out[i] / shortest;
}

}  // namespace minivault
