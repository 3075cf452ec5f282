// A weight matrix as the kernels want it: quantised, packed in panels of 32 output columns. Knows nothing of layers.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "half.hpp"
#include "kernels/kernels.hpp"
#include "packed_file.hpp"
#include "threads.hpp"

namespace minivault {

inline int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

// Zeroed memory straight from the system, in huge pages where it gives them; or a section of a packed file, read-only.
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(std::size_t bytes);
    Buffer(std::shared_ptr<const PackedFile> file, const Section& section);
    ~Buffer();
    Buffer(Buffer&& other) noexcept;
    Buffer& operator=(Buffer&& other) noexcept;
    Buffer(const Buffer&) = delete;

    template <class T>
    T* as() const {
        return reinterpret_cast<T*>(data_);
    }
    std::size_t bytes() const { return bytes_; }

  private:
    std::uint8_t* data_ = nullptr;
    std::size_t bytes_ = 0;
    std::shared_ptr<const PackedFile> file_;  // set: the memory is the file's
};

// Hands out the sections of a packed file in the order in which they were written, and checks their sizes.
class SectionReader {
  public:
    explicit SectionReader(std::shared_ptr<const PackedFile> file) : file_(std::move(file)) {}
    // Throws std::length_error if the next section is missing or has another size.
    Buffer next(std::size_t bytes);
    // The next section, whatever its size, as floats.
    std::vector<float> floats();
    bool done() const { return at_ == file_->sections().size(); }

  private:
    std::shared_ptr<const PackedFile> file_;
    std::size_t at_ = 0;
};

// Some output columns of a matrix [out, in] in the form that a checkpoint stores: rows [row_start, row_start + rows) of
// [out, in], or, `transposed`, columns of [in, out]. `stored_out` is the whole stored extent along out.
struct Source {
    const std::uint8_t* data;
    DType type;
    bool transposed;
    std::int64_t stored_out;
    std::int64_t row_start;
    int rows;
    std::vector<float> bias;  // empty, or [rows]
};

enum class Lane { int8, int4, f32 };

class Matrix {
  public:
    // Packs `sources`, one after the other along the output, each with `inputs` columns; column k is multiplied by
    // input_scales[k] (none: by 1). Throws std::domain_error if a weight is Inf or NaN.
    Matrix(Lane lane, const std::vector<Source>& sources, int inputs, const std::vector<float>& input_scales, Team& team);

    // From sections that `sections` gave; throws std::length_error if they do not fit.
    Matrix(Lane lane, int outputs, int inputs, bool bias, SectionReader& reader);

    // What a packed file must hold of it.
    void add_sections(std::vector<Section>& out) const;
    Lane lane() const { return lane_; }
    bool has_bias() const { return bias_.bytes() > 0; }
    int outputs() const { return outputs_; }
    int panels() const { return panels_; }
    int padded_inputs() const { return padded_inputs_; }
    std::size_t bytes() const { return data_.bytes() + scales_.bytes() + bias_.bytes(); }

    // Columns [32 * panel, 32 * panel + 32) of the product for all rows. `a` is the float form of `q`; one of them is read.
    void multiply(const KernelSet& kernels, int panel, const float* a, std::ptrdiff_t a_stride, const QuantizedRows& q,
                  int rows, float* out, std::ptrdiff_t stride, bool accumulate) const;

  private:
    std::vector<float> gather(int panel, const std::vector<Source>& sources, const std::vector<float>& input_scales) const;
    void pack_f32(int panel, const std::vector<float>& columns);
    void pack_int8(int panel, const std::vector<float>& columns);
    void pack_int4(int panel, const std::vector<float>& columns);

    void measure();

    Lane lane_;
    int outputs_ = 0;
    int inputs_;
    int padded_inputs_ = 0;
    int panels_ = 0;
    std::size_t panel_bytes_ = 0;
    std::size_t scale_bytes_ = 0;  // of all panels
    Buffer data_;
    Buffer scales_;  // INT8: floats [panels * 32]; INT4: binary16 [panels][groups][32]
    Buffer bias_;    // empty, or floats [panels * 32]
};

// Largest magnitude of each input column over all outputs of `sources`, [inputs].
std::vector<float> column_maxima(const std::vector<Source>& sources, int inputs, Team& team);

// A table of vectors in its own number format: token and position embeddings.
class Table {
  public:
    Table(const std::uint8_t* data, DType type, int rows, int columns);
    Table(DType type, int rows, int columns, SectionReader& reader);
    DType type() const { return type_; }
    void add_sections(std::vector<Section>& out) const;
    int rows() const { return rows_; }
    int columns() const { return columns_; }
    std::size_t bytes() const { return data_.bytes(); }
    void read(int row, float* out) const;

  private:
    DType type_;
    int rows_, columns_;
    Buffer data_;
};

}  // namespace minivault
