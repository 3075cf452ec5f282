// What the phases of a step do with its rows, attention apart: embedding, norms, products, adapters, logits.
#include "model.hpp"

#include <algorithm>
#include <cmath>

namespace minivault {

void Model::embed(int row, int token) {
    float* x = hidden_.as<float>() + static_cast<std::size_t>(row) * hidden_stride_;
    embedding->read(token, x);
    if (spec_.embedding_scale != 1.0f) {
        for (int i = 0; i < spec_.hidden_size; ++i) x[i] = x[i] * spec_.embedding_scale;
    }
    if (positions) {
        float* p = normed_.as<float>() + static_cast<std::size_t>(row) * hidden_stride_;
        positions->read(rows_[row].position, p);
        for (int i = 0; i < spec_.hidden_size; ++i) x[i] = x[i] + p[i];
    }
    float* angles = rope_.as<float>() + static_cast<std::size_t>(row) * rope_stride_;
    for (const auto& rope : ropes_) {
        rope.angles(rows_[row].position, angles);
        angles += rope.dim();
    }
}

namespace {

// Rows that a piece of a matrix's panels is multiplied with before the next: few enough for the second-level cache to keep
// their activations while the panels pass by, and as many as another number of blocks of nearly equal size allows.
constexpr int kMostRowsAtOnce = 144;

int rows_at_once(int rows) {
    const int blocks = (rows + kMostRowsAtOnce - 1) / kMostRowsAtOnce;
    return (rows + blocks - 1) / blocks;
}

QuantizedRows from_row(QuantizedRows q, int row, int activation_bytes) {
    const std::ptrdiff_t groups = static_cast<std::ptrdiff_t>(row) * q.groups;
    q.data += groups * kGroup * activation_bytes;
    q.scales += groups;
    q.offsets += groups;
    return q;
}

}  // namespace

QuantizedRows Model::quantized(int width) const {
    return {quantized_.as<std::uint8_t>(), scales_.as<float>(), offsets_.as<std::int32_t>(), width / kGroup};
}

// The factor of a row's norm; its mean, which RMS norms take as zero, is left in `mean`.
float Model::normalization(const float* x, float* mean) const {
    const float width = static_cast<float>(spec_.hidden_size);
    *mean = spec_.layer_norm ? kernels_.sum(x, spec_.hidden_size) / width : 0.0f;
    const float variance = kernels_.sum_of_squares(x, *mean, spec_.hidden_size) / width;
    return 1.0f / std::sqrt(variance + spec_.norm_eps);
}

void Model::keep_hidden(int row, int kept) {
    const float* x = hidden_.as<float>() + static_cast<std::size_t>(row) * hidden_stride_;
    float mean;
    const float factor = normalization(x, &mean);
    kernels_.normalize(x, mean, factor, hidden_norm.weight.data(),
                       hidden_norm.bias.empty() ? nullptr : hidden_norm.bias.data(),
                       kept_.as<float>() + static_cast<std::size_t>(kept) * hidden_stride_, spec_.hidden_size);
}

// Norm and quantisation in one phase. With few rows the members share a row: each finds the row's sum itself, which is
// the same sum, and then works on its own groups.
void Model::normalize_rows(const float* in, int rows, const Norm& norm, WorkQueue& queue) {
    const int width = spec_.hidden_size;
    const int groups = hidden_stride_ / kGroup;
    const int split = pieces(rows);
    const QuantizedRows q = quantized(hidden_stride_);
    for (int task = queue.take(1); task < rows * split; task = queue.take(1)) {
        const int row = task / split;
        const int begin = groups * (task % split) / split;
        const int end = groups * (task % split + 1) / split;
        const float* x = in + static_cast<std::size_t>(row) * hidden_stride_;
        float* y = normed_.as<float>() + static_cast<std::size_t>(row) * hidden_stride_;
        const int first = begin * kGroup;
        const int count = std::min(end * kGroup, width) - first;
        if (count <= 0) continue;
        float mean;
        const float factor = normalization(x, &mean);
        kernels_.normalize(x + first, mean, factor, norm.weight.data() + first,
                           norm.bias.empty() ? nullptr : norm.bias.data() + first, y + first, count);
        if (spec_.lane != Lane::f32) kernels_.quantize(y, row, begin, end, q);
    }
}

// hidden += norm(branch)
void Model::add_normalized(const Norm& norm, WorkQueue& queue) {
    const int rows = static_cast<int>(rows_.size());
    for (int row = queue.take(1); row < rows; row = queue.take(1)) {
        const float* x = branch_.as<float>() + static_cast<std::size_t>(row) * hidden_stride_;
        float* y = normed_.as<float>() + static_cast<std::size_t>(row) * hidden_stride_;
        float* sum = hidden_.as<float>() + static_cast<std::size_t>(row) * hidden_stride_;
        float mean;
        const float factor = normalization(x, &mean);
        kernels_.normalize(x, mean, factor, norm.weight.data(), norm.bias.empty() ? nullptr : norm.bias.data(), y,
                           spec_.hidden_size);
        for (int i = 0; i < spec_.hidden_size; ++i) sum[i] = sum[i] + y[i];
    }
}

void Model::quantize_rows(const float* in, std::ptrdiff_t stride, int width, int rows, WorkQueue& queue) {
    if (spec_.lane == Lane::f32) return;
    const int groups = width / kGroup;
    const int split = pieces(rows);
    const QuantizedRows q = quantized(width);
    for (int task = queue.take(1); task < rows * split; task = queue.take(1)) {
        const int row = task / split;
        kernels_.quantize(in + row * stride, row, groups * (task % split) / split, groups * (task % split + 1) / split, q);
    }
}

void Model::multiply(const Matrix& matrix, const float* a, std::ptrdiff_t a_stride, int rows, float* out,
                     std::ptrdiff_t stride, bool accumulate, WorkQueue& queue) {
    const QuantizedRows q = quantized(matrix.padded_inputs());
    const int panels = matrix.panels();
    const int piece = std::max(1, panels / (team_.size() * 12));
    const int height = rows_at_once(rows);
    for (int begin = queue.take(piece); begin < panels; begin = queue.take(piece)) {
        const int end = std::min(begin + piece, panels);
        for (int row = 0; row < rows; row += height) {
            const QuantizedRows some = from_row(q, row, kernels_.activation_bytes);
            for (int panel = begin; panel < end; ++panel) {
                step_aside();
                matrix.multiply(kernels_, panel, a + row * a_stride, a_stride, some, std::min(height, rows - row),
                                out + row * stride, stride, accumulate);
            }
        }
    }
}

// Whether any row of the step has something added there: all members find the same.
bool Model::has_adapter(int layer, Slot slot) const {
    return std::any_of(runs_.begin(), runs_.end(),
                       [&](const Run& run) { return run.adapter->at(layer, slot) != nullptr; });
}

// Task: a run, and 32 columns of A x.
void Model::shrink(int layer, Slot slot, const float* x, std::ptrdiff_t x_stride, WorkQueue& queue) {
    const int parts = inner_ranks_stride_ / kColumns;
    const int tasks = static_cast<int>(runs_.size()) * parts;
    for (int task = queue.take(1); task < tasks; task = queue.take(1)) {
        const Run& run = runs_[task / parts];
        const LowRank* matrix = run.adapter->at(layer, slot);
        if (matrix == nullptr || task % parts >= matrix->inner_panels()) continue;
        matrix->shrink(kernels_, task % parts, x + run.first_row * x_stride, x_stride, run.rows,
                       inner_ranks_.as<float>() + static_cast<std::size_t>(run.first_row) * inner_ranks_stride_,
                       inner_ranks_stride_);
    }
}

// Task: a run, and some panels of outputs.
void Model::expand(int layer, Slot slot, float* out, std::ptrdiff_t stride, WorkQueue& queue) {
    const int panels = static_cast<int>(stride / kColumns);
    const int tasks = static_cast<int>(runs_.size()) * panels;
    const int piece = std::max(1, panels / (team_.size() * 4));
    for (int begin = queue.take(piece); begin < tasks; begin = queue.take(piece)) {
        for (int task = begin; task < std::min(begin + piece, tasks); ++task) {
            const Run& run = runs_[task / panels];
            const LowRank* matrix = run.adapter->at(layer, slot);
            if (matrix == nullptr || task % panels >= matrix->panels()) continue;
            matrix->expand(kernels_, task % panels,
                           inner_ranks_.as<float>() + static_cast<std::size_t>(run.first_row) * inner_ranks_stride_,
                           inner_ranks_stride_, run.rows, out + run.first_row * stride, stride);
        }
    }
}

// The MLP's nonlinearity, and quantisation for what follows. Task: a row, or a range of its groups.
void Model::activate(WorkQueue& queue) {
    const int rows = static_cast<int>(rows_.size());
    const int groups = inner_stride_ / kGroup;
    const int split = pieces(rows);
    const QuantizedRows q = quantized(inner_stride_);
    for (int task = queue.take(1); task < rows * split; task = queue.take(1)) {
        const int row = task / split;
        const int begin = groups * (task % split) / split;
        const int end = groups * (task % split + 1) / split;
        const int first = begin * kGroup;
        const int count = std::min(end * kGroup, spec_.intermediate_size) - first;
        if (count <= 0) continue;
        const float* x = mlp_.as<float>() + static_cast<std::size_t>(row) * mlp_stride_ + first;
        float* y = inner_.as<float>() + static_cast<std::size_t>(row) * inner_stride_;
        const float* up = x + spec_.intermediate_size;
        switch (spec_.mlp) {
            case Mlp::gated_silu: kernels_.silu_times(x, up, y + first, count); break;
            case Mlp::gated_gelu_tanh: kernels_.gelu_tanh_times(x, up, y + first, count); break;
            case Mlp::gelu_tanh: kernels_.gelu_tanh(x, y + first, count); break;
            case Mlp::gelu: kernels_.gelu(x, y + first, count); break;
        }
        if (spec_.lane != Lane::f32) kernels_.quantize(y, row, begin, end, q);
    }
}

// The last matrix, and the cap on its outputs. Task: some columns of all rows.
void Model::predict(int rows, WorkQueue& queue) {
    float* logits = logits_.as<float>();
    const QuantizedRows q = quantized(lm_head->padded_inputs());
    const int panels = lm_head->panels();
    const int piece = std::max(1, panels / (team_.size() * 12));
    for (int begin = queue.take(piece); begin < panels; begin = queue.take(piece)) {
        for (int panel = begin; panel < std::min(begin + piece, panels); ++panel) {
            step_aside();
            lm_head->multiply(kernels_, panel, normed_.as<float>(), hidden_stride_, q, rows, logits, logit_stride_, false);
            if (spec_.logit_softcap == 0.0f) continue;
            for (int r = 0; r < rows; ++r) {
                kernels_.softcap(logits + static_cast<std::size_t>(r) * logit_stride_ + panel * kColumns,
                                 spec_.logit_softcap, kColumns);
            }
        }
    }
}

}  // namespace minivault
