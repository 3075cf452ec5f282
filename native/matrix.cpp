#include "matrix.hpp"

#include <sys/mman.h>

#include <cmath>
#include <new>
#include <utility>

namespace minivault {

Buffer::Buffer(std::size_t bytes) : bytes_(bytes) {
    if (bytes == 0) return;
    void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    if (bytes >= (std::size_t{4} << 20)) madvise(p, bytes, MADV_HUGEPAGE);  // advice: failing costs speed only
#endif
    data_ = static_cast<std::uint8_t*>(p);
}

Buffer::~Buffer() {
    if (data_ != nullptr) munmap(data_, bytes_);
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

Matrix::Matrix(Lane lane, const std::vector<Source>& sources, int inputs, Team& team)
    : lane_(lane), inputs_(inputs), padded_inputs_(round_up(inputs, kGroup)) {
    bool any_bias = false;
    for (const auto& source : sources) {
        outputs_ += source.rows;
        any_bias = any_bias || !source.bias.empty();
    }
    blocks_ = round_up(outputs_, kColumns) / kColumns;
    const std::size_t padded = static_cast<std::size_t>(blocks_) * kColumns;
    block_bytes_ = static_cast<std::size_t>(padded_inputs_) * kColumns * (lane == Lane::f32 ? 4 : 1);
    data_ = Buffer(block_bytes_ * blocks_);
    if (lane == Lane::int8) scales_.assign(padded, 0.0f);
    if (any_bias) {
        bias_.assign(padded, 0.0f);
        std::size_t column = 0;
        for (const auto& source : sources) {
            for (std::size_t i = 0; i < source.bias.size(); ++i) bias_[column + i] = source.bias[i];
            column += source.rows;
        }
    }
    WorkQueue queue;
    team.run([&](int) {
        for (int block = queue.take(1); block < blocks_; block = queue.take(1)) pack_block(block, sources);
    });
}

void Matrix::pack_block(int block, const std::vector<Source>& sources) {
    std::vector<float> columns(static_cast<std::size_t>(kColumns) * padded_inputs_, 0.0f);
    int start = 0;
    for (const auto& source : sources) {
        const int begin = std::max(block * kColumns, start);
        const int end = std::min((block + 1) * kColumns, start + source.rows);
        const std::int64_t row = source.row_start - start;
        if (source.transposed && begin < end) {
            float run[kColumns];
            for (int k = 0; k < inputs_; ++k) {
                read_values(source.data, source.type, static_cast<std::size_t>(k * source.stored_out + row + begin), 1,
                            end - begin, run);
                for (int n = begin; n < end; ++n) {
                    columns[static_cast<std::size_t>(n - block * kColumns) * padded_inputs_ + k] = run[n - begin];
                }
            }
        } else {
            for (int n = begin; n < end; ++n) {
                read_values(source.data, source.type, static_cast<std::size_t>((row + n) * inputs_), 1, inputs_,
                            &columns[static_cast<std::size_t>(n - block * kColumns) * padded_inputs_]);
            }
        }
        start += source.rows;
    }
    if (lane_ == Lane::f32) {
        float* out = data_.as<float>() + static_cast<std::size_t>(block) * padded_inputs_ * kColumns;
        for (int k = 0; k < padded_inputs_; ++k) {
            for (int n = 0; n < kColumns; ++n) out[k * kColumns + n] = columns[static_cast<std::size_t>(n) * padded_inputs_ + k];
        }
        return;
    }
    std::uint8_t* out = data_.as<std::uint8_t>() + block_bytes_ * block;
    for (int n = 0; n < kColumns; ++n) {
        const float* column = &columns[static_cast<std::size_t>(n) * padded_inputs_];
        float most = 0.0f;
        for (int k = 0; k < inputs_; ++k) most = std::max(most, std::fabs(column[k]));
        const float inverse = most < 1e-30f ? 0.0f : 127.0f / most;
        scales_[static_cast<std::size_t>(block) * kColumns + n] = most < 1e-30f ? 0.0f : most / 127.0f;
        for (int k = 0; k < padded_inputs_; ++k) {
            const float rounded = (column[k] * inverse + 12582912.0f) - 12582912.0f;
            out[static_cast<std::size_t>(k / 4) * kColumns * 4 + n * 4 + k % 4] =
                static_cast<std::uint8_t>(static_cast<int>(rounded) + 128);
        }
    }
}

void Matrix::multiply(const KernelSet& kernels, int block, const float* a, std::ptrdiff_t a_stride,
                      const QuantizedRows& q, int rows, float* out, std::ptrdiff_t stride, bool accumulate) const {
    const float* bias = bias_.empty() ? nullptr : bias_.data() + static_cast<std::size_t>(block) * kColumns;
    out += static_cast<std::ptrdiff_t>(block) * kColumns;
    if (lane_ == Lane::f32) {
        const FloatBlock w{data_.as<float>() + static_cast<std::size_t>(block) * padded_inputs_ * kColumns, bias};
        kernels.gemm_f32(w, a, a_stride, padded_inputs_, rows, out, stride, accumulate);
        return;
    }
    const std::uint8_t* data = data_.as<std::uint8_t>() + block_bytes_ * block;
    const Int8Block w{data, scales_.data() + static_cast<std::size_t>(block) * kColumns, bias,
                      block + 1 < blocks_ ? data + block_bytes_ : data};
    kernels.gemm_int8(w, q, rows, out, stride, accumulate);
}

Table::Table(const std::uint8_t* data, DType type, int rows, int columns)
    : type_(type), rows_(rows), columns_(columns), data_(item_size(type) * rows * columns) {
    std::memcpy(data_.as<std::uint8_t>(), data, data_.bytes());
}

void Table::read(int row, float* out) const {
    read_values(data_.as<std::uint8_t>(), type_, static_cast<std::size_t>(row) * columns_, 1, columns_, out);
}

}  // namespace minivault
