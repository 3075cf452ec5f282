// One vector for a text from the vectors of its tokens. Knows nothing of models.
#pragma once

#include <vector>

#include "kernels/kernels.hpp"

namespace minivault {

enum class Pooling { mean, cls, last, max, mean_sqrt_len };

// Takes a text's rows in their order, at once or in pieces: the bits are the same.
class Pool {
  public:
    explicit Pool(Pooling kind) : kind_(kind) {}

    void clear() { count_ = 0; }
    void add(const float* row, int width);
    int count() const { return count_; }
    int width() const { return static_cast<int>(values_.size()); }
    // The vector, [width]; of length 1 where `normalized`. Needs a row.
    void finish(const KernelSet& kernels, bool normalized, float* out) const;

  private:
    Pooling kind_;
    int count_ = 0;
    std::vector<float> values_;
};

}  // namespace minivault
