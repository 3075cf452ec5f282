#include "matrix.hpp"

#include <algorithm>
#include <cmath>
#include <atomic>
#include <stdexcept>
#include <utility>

namespace minivault {

// Adding and taking away 1.5 * 2^23 rounds to nearest even.
static constexpr float kRound = 12582912.0f;

Buffer::Buffer(std::size_t bytes) : bytes_(bytes) {
    if (bytes > 0) data_ = take_pages(bytes);
}

Buffer::Buffer(std::shared_ptr<const PackedFile> file, const Section& section)
    : data_(const_cast<std::uint8_t*>(section.data)), bytes_(section.bytes), file_(std::move(file)) {}

Buffer::~Buffer() {
    if (data_ != nullptr && !file_) free_pages(data_, bytes_);
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)), file_(std::move(other.file_)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(file_, other.file_);
    return *this;
}

Buffer SectionReader::next(std::size_t bytes) {
    if (at_ == file_->sections().size() || file_->sections()[at_].bytes != bytes) {
        throw std::length_error("a packed file does not fit the model");
    }
    const Section& section = file_->sections()[at_++];
    return bytes == 0 ? Buffer() : Buffer(file_, section);
}

static bool all_finite(const std::vector<float>& values) {
    // The largest exponent is that of Inf and NaN alone.
    std::uint32_t most = 0;
    for (const float value : values) {
        std::uint32_t bits;
        std::memcpy(&bits, &value, 4);
        most = std::max(most, bits & 0x7fffffffu);
    }
    return most < 0x7f800000u;
}

std::vector<float> SectionReader::floats() {
    if (at_ == file_->sections().size()) throw std::length_error("a packed file does not fit the model");
    const Section& section = file_->sections()[at_++];
    std::vector<float> values(section.bytes / 4);
    std::memcpy(values.data(), section.data, values.size() * 4);
    return values;
}

// A checkpoint's pages are read once.
static void let_go(const Source& source, int inputs) {
    let_go_of(source.data, item_size(source.type) * source.stored_out * inputs);
}

void Matrix::measure() {
    padded_inputs_ = round_up(inputs_, kGroup);
    panels_ = round_up(outputs_, kColumns) / kColumns;
    const std::size_t weights = static_cast<std::size_t>(padded_inputs_) * kColumns;
    const std::size_t columns = static_cast<std::size_t>(panels_) * kColumns;
    panel_bytes_ = lane_ == Lane::f32 ? weights * 4 : lane_ == Lane::int8 ? weights : weights / 2;
    scale_bytes_ = lane_ == Lane::f32 ? 0 : lane_ == Lane::int8 ? columns * 4 : columns * (padded_inputs_ / kGroup) * 2;
}

Matrix::Matrix(Lane lane, int outputs, int inputs, bool bias, SectionReader& reader)
    : lane_(lane), outputs_(outputs), inputs_(inputs) {
    measure();
    data_ = reader.next(panel_bytes_ * panels_);
    scales_ = reader.next(scale_bytes_);
    bias_ = reader.next(bias ? static_cast<std::size_t>(panels_) * kColumns * 4 : 0);
}

void Matrix::add_sections(std::vector<Section>& out) const {
    for (const Buffer* buffer : {&data_, &scales_, &bias_}) out.push_back({buffer->as<std::uint8_t>(), buffer->bytes()});
}

Matrix::Matrix(Lane lane, const std::vector<Source>& sources, int inputs, const std::vector<float>& input_scales,
               Team& team)
    : lane_(lane), inputs_(inputs) {
    bool any_bias = false;
    for (const auto& source : sources) {
        outputs_ += source.rows;
        any_bias = any_bias || !source.bias.empty();
    }
    measure();
    data_ = Buffer(panel_bytes_ * panels_);
    scales_ = Buffer(scale_bytes_);
    if (any_bias) {
        bias_ = Buffer(static_cast<std::size_t>(panels_) * kColumns * 4);
        float* bias = bias_.as<float>();
        for (const auto& source : sources) {
            std::copy(source.bias.begin(), source.bias.end(), bias);
            bias += source.rows;
        }
    }
    WorkQueue queue;
    std::atomic<bool> finite{true};
    team.run([&](int) {
        for (int panel = queue.take(1); panel < panels_; panel = queue.take(1)) {
            const std::vector<float> columns = gather(panel, sources, input_scales);
            if (!all_finite(columns)) {
                finite.store(false);
                continue;
            }
            switch (lane_) {
                case Lane::f32: pack_f32(panel, columns); break;
                case Lane::int8: pack_int8(panel, columns); break;
                case Lane::int4: pack_int4(panel, columns); break;
            }
        }
    });
    for (const auto& source : sources) let_go(source, inputs);
    if (!finite.load()) throw std::domain_error("a weight is infinite or not a number");
}

// The panel's 32 output columns as floats, [32][padded inputs], zero where there is nothing.
std::vector<float> Matrix::gather(int panel, const std::vector<Source>& sources,
                                  const std::vector<float>& input_scales) const {
    std::vector<float> columns(static_cast<std::size_t>(kColumns) * padded_inputs_, 0.0f);
    int start = 0;
    for (const auto& source : sources) {
        const int begin = std::max(panel * kColumns, start);
        const int end = std::min((panel + 1) * kColumns, start + source.rows);
        const std::int64_t row = source.row_start - start;
        if (source.transposed && begin < end) {
            float run[kColumns];
            for (int k = 0; k < inputs_; ++k) {
                read_values(source.data, source.type, static_cast<std::size_t>(k * source.stored_out + row + begin), 1,
                            end - begin, run);
                for (int n = begin; n < end; ++n) {
                    columns[static_cast<std::size_t>(n - panel * kColumns) * padded_inputs_ + k] = run[n - begin];
                }
            }
        } else {
            for (int n = begin; n < end; ++n) {
                read_values(source.data, source.type, static_cast<std::size_t>((row + n) * inputs_), 1, inputs_,
                            &columns[static_cast<std::size_t>(n - panel * kColumns) * padded_inputs_]);
            }
        }
        start += source.rows;
    }
    if (!input_scales.empty()) {
        for (int n = 0; n < kColumns; ++n) {
            float* column = &columns[static_cast<std::size_t>(n) * padded_inputs_];
            for (int k = 0; k < inputs_; ++k) column[k] = column[k] * input_scales[k];
        }
    }
    return columns;
}

std::vector<float> column_maxima(const std::vector<Source>& sources, int inputs, Team& team) {
    // Each member keeps maxima of its own, which are then joined: a maximum has no order.
    std::vector<std::vector<float>> most(team.size(), std::vector<float>(inputs, 0.0f));
    for (const auto& source : sources) {
        WorkQueue queue;
        const int lines = source.transposed ? inputs : source.rows;
        const int width = source.transposed ? source.rows : inputs;
        team.run([&](int member) {
            std::vector<float> line(width);
            std::vector<float>& mine = most[member];
            for (int i = queue.take(16); i < lines; i = queue.take(16)) {
                for (int j = i; j < std::min(i + 16, lines); ++j) {
                    const std::int64_t at = source.transposed ? j * source.stored_out + source.row_start
                                                              : (source.row_start + j) * inputs;
                    read_values(source.data, source.type, static_cast<std::size_t>(at), 1, width, line.data());
                    for (int k = 0; k < width; ++k) {
                        float& m = mine[source.transposed ? j : k];
                        const float size = std::fabs(line[k]);
                        m = size > m ? size : m;
                    }
                }
            }
        });
    }
    for (std::size_t member = 1; member < most.size(); ++member) {
        for (int k = 0; k < inputs; ++k) most[0][k] = std::max(most[0][k], most[member][k]);
    }
    return most[0];
}

void Matrix::pack_f32(int panel, const std::vector<float>& columns) {
    float* out = data_.as<float>() + static_cast<std::size_t>(panel) * padded_inputs_ * kColumns;
    for (int k = 0; k < padded_inputs_; ++k) {
        for (int n = 0; n < kColumns; ++n) out[k * kColumns + n] = columns[static_cast<std::size_t>(n) * padded_inputs_ + k];
    }
}

void Matrix::pack_int8(int panel, const std::vector<float>& columns) {
    std::uint8_t* out = data_.as<std::uint8_t>() + panel_bytes_ * panel;
    for (int n = 0; n < kColumns; ++n) {
        const float* column = &columns[static_cast<std::size_t>(n) * padded_inputs_];
        float most = 0.0f;
        for (int k = 0; k < inputs_; ++k) most = std::max(most, std::fabs(column[k]));
        const float inverse = most < 1e-30f ? 0.0f : 127.0f / most;
        scales_.as<float>()[static_cast<std::size_t>(panel) * kColumns + n] = most < 1e-30f ? 0.0f : most / 127.0f;
        for (int k = 0; k < padded_inputs_; ++k) {
            const float rounded = (column[k] * inverse + kRound) - kRound;
            out[static_cast<std::size_t>(k / 4) * kColumns * 4 + n * 4 + k % 4] =
                static_cast<std::uint8_t>(static_cast<int>(rounded) + 128);
        }
    }
}

// The scale of each column's group of 32 weights `w` [32][32 columns] that leaves the least squared error: of the steps
// that put the largest weight on or near an end of [-8, 7], the best after a least-squares fit.
static void fit_int4(const float* w, float* scale) {
    float extreme[kColumns] = {};
    float gain[kColumns] = {};
    for (int k = 0; k < kGroup; ++k) {
        for (int n = 0; n < kColumns; ++n) {
            const float x = w[k * kColumns + n];
            extreme[n] = std::fabs(x) > std::fabs(extreme[n]) ? x : extreme[n];
        }
    }
    for (int n = 0; n < kColumns; ++n) scale[n] = 0.0f;
    for (const float end : {-8.0f, -8.5f, -7.5f, -7.0f, -6.5f, 7.0f, 7.5f}) {
        float inverse[kColumns];
        float product[kColumns] = {};
        float square[kColumns] = {};
        for (int n = 0; n < kColumns; ++n) inverse[n] = std::fabs(extreme[n]) < 1e-30f ? 0.0f : end / extreme[n];
        for (int k = 0; k < kGroup; ++k) {
            for (int n = 0; n < kColumns; ++n) {
                const float x = w[k * kColumns + n];
                float q = (x * inverse[n] + kRound) - kRound;
                q = q < -8.0f ? -8.0f : q;
                q = q > 7.0f ? 7.0f : q;
                product[n] = product[n] + x * q;
                square[n] = square[n] + q * q;
            }
        }
        for (int n = 0; n < kColumns; ++n) {
            const float fit = square[n] > 0.0f ? product[n] / square[n] : 0.0f;
            const float explained = fit * product[n];
            scale[n] = explained > gain[n] ? fit : scale[n];
            gain[n] = explained > gain[n] ? explained : gain[n];
        }
    }
}

void Matrix::pack_int4(int panel, const std::vector<float>& columns) {
    const int groups = padded_inputs_ / kGroup;
    for (int g = 0; g < groups; ++g) {
        float w[kGroup * kColumns];
        for (int k = 0; k < kGroup; ++k) {
            for (int n = 0; n < kColumns; ++n) {
                w[k * kColumns + n] = columns[static_cast<std::size_t>(n) * padded_inputs_ + g * kGroup + k];
            }
        }
        float scale[kColumns];
        fit_int4(w, scale);
        std::uint16_t* halves = scales_.as<std::uint16_t>() + (static_cast<std::size_t>(panel) * groups + g) * kColumns;
        std::uint8_t* out = data_.as<std::uint8_t>() + panel_bytes_ * panel + static_cast<std::size_t>(g) * kGroup * kColumns / 2;
        for (int n = 0; n < kColumns; ++n) {
            halves[n] = float_to_f16(std::min(std::max(scale[n], -65504.0f), 65504.0f));
            const float stored = f16_to_float(halves[n]);
            const float inverse = stored == 0.0f ? 0.0f : 1.0f / stored;
            for (int k = 0; k < kGroup; ++k) {
                const float rounded = (w[k * kColumns + n] * inverse + kRound) - kRound;
                const int q = static_cast<int>(std::min(std::max(rounded, -8.0f), 7.0f)) + 8;
                std::uint8_t& byte = out[(k / 8) * kColumns * 4 + n * 4 + k % 4];
                byte = static_cast<std::uint8_t>(k % 8 < 4 ? q : byte | q << 4);
            }
        }
    }
}

void Matrix::multiply(const KernelSet& kernels, int panel, const float* a, std::ptrdiff_t a_stride,
                      const QuantizedRows& q, int rows, float* out, std::ptrdiff_t stride, bool accumulate) const {
    const float* bias = has_bias() ? bias_.as<float>() + static_cast<std::size_t>(panel) * kColumns : nullptr;
    out += static_cast<std::ptrdiff_t>(panel) * kColumns;
    if (lane_ == Lane::f32) {
        const FloatPanel w{data_.as<float>() + static_cast<std::size_t>(panel) * padded_inputs_ * kColumns, bias};
        kernels.gemm_f32(w, a, a_stride, padded_inputs_, rows, out, stride, accumulate);
        return;
    }
    const std::uint8_t* data = data_.as<std::uint8_t>() + panel_bytes_ * panel;
    if (lane_ == Lane::int4) {
        const Int4Panel w{data, scales_.as<std::uint16_t>() + static_cast<std::size_t>(panel) * padded_inputs_, bias,
                          panel + 1 < panels_ ? data + panel_bytes_ : data};
        kernels.gemm_int4(w, q, rows, out, stride, accumulate);
        return;
    }
    const Int8Panel w{data, scales_.as<float>() + static_cast<std::size_t>(panel) * kColumns, bias,
                      panel + 1 < panels_ ? data + panel_bytes_ : data};
    kernels.gemm_int8(w, q, rows, out, stride, accumulate);
}

Table::Table(const std::uint8_t* data, DType type, int rows, int columns)
    : type_(type), rows_(rows), columns_(columns), data_(item_size(type) * rows * columns) {
    std::memcpy(data_.as<std::uint8_t>(), data, data_.bytes());
    std::vector<float> line(columns);
    for (int row = 0; row < rows; ++row) {
        read(row, line.data());
        if (!all_finite(line)) throw std::domain_error("a weight is infinite or not a number");
    }
}

Table::Table(DType type, int rows, int columns, SectionReader& reader)
    : type_(type), rows_(rows), columns_(columns), data_(reader.next(item_size(type) * rows * columns)) {}

void Table::add_sections(std::vector<Section>& out) const { out.push_back({data_.as<std::uint8_t>(), data_.bytes()}); }

void Table::read(int row, float* out) const {
    read_values(data_.as<std::uint8_t>(), type_, static_cast<std::size_t>(row) * columns_, 1, columns_, out);
}

}  // namespace minivault
