// Low-rank adapters (LoRA): what is added to a matrix's outputs for the rows of some sequences, B (A x). Knows nothing
// of files, of sequences or of who asked for one.
//
// The law: what is added to a row is a function of the adapter and of that row's input in floats. Every sum is one chain
// over its own inputs; rows are independent, and work is split by column.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/kernels.hpp"

namespace minivault {

enum class Slot { qkv, output, mlp_in, mlp_out };
constexpr int kSlots = 4;

// The adapter of one matrix [outputs, inputs].
class LowRank {
  public:
    // `a` is [rank, inputs], `b` [outputs, rank] with the scaling in it; column k of `a` is multiplied by input_scales[k]
    // (none: by 1). Throws std::domain_error if a weight is Inf or NaN.
    LowRank(const float* a, const float* b, int rank, int inputs, int outputs, const std::vector<float>& input_scales);

    int inner_panels() const { return inner_panels_; }
    int panels() const { return static_cast<int>(panels_.size()); }
    std::size_t bytes() const { return (a_.size() + b_.size()) * 4; }

    // Columns [32 * panel, 32 * panel + 32) of A x for some rows, into `inner`.
    void shrink(const KernelSet& kernels, int panel, const float* x, std::ptrdiff_t x_stride, int rows, float* inner,
                std::ptrdiff_t inner_stride) const;
    // Adds columns [32 * panel, 32 * panel + 32) of B times `inner` to `out`.
    void expand(const KernelSet& kernels, int panel, const float* inner, std::ptrdiff_t inner_stride, int rows, float* out,
                std::ptrdiff_t stride) const;

  private:
    // Of B's 32 columns, the ranks [begin, begin + count) that are not all zero: parts of a fused matrix have their own.
    struct Panel {
        int begin;
        int count;
        std::size_t offset;  // into b_
    };

    int inputs_;
    int inner_panels_;
    std::vector<float> a_;  // [inner panel][inputs][32]
    std::vector<float> b_;  // of each panel, [count][32]
    std::vector<Panel> panels_;
};

// One adapter of a whole model. Immutable once built, so any number of steps and threads may read it.
class Adapter {
  public:
    explicit Adapter(int layers) : layers_(layers) {}
    Adapter(const Adapter&) = delete;
    Adapter& operator=(const Adapter&) = delete;

    void set(int layer, Slot slot, std::unique_ptr<LowRank> matrix) { slot_at(layer, slot) = std::move(matrix); }
    // Null where it leaves the matrix as it is.
    const LowRank* at(int layer, Slot slot) const { return layers_[layer][static_cast<int>(slot)].get(); }
    int layers() const { return static_cast<int>(layers_.size()); }
    // Floats that a row of A x takes at most.
    int inner_width() const;
    std::size_t bytes() const;

  private:
    std::unique_ptr<LowRank>& slot_at(int layer, Slot slot) { return layers_[layer][static_cast<int>(slot)]; }

    std::vector<std::array<std::unique_ptr<LowRank>, kSlots>> layers_;
};

}  // namespace minivault
