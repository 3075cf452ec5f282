// What all bindings read from Python: kernels, number formats, arrays and the parts of matrices, every size checked.
// Knows nothing of models.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "matrix.hpp"
#include "pooling.hpp"

namespace minivault {

using Bytes = nanobind::ndarray<const std::uint8_t, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>;
using Floats = nanobind::ndarray<const float, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>;

// (data, dtype, transposed, stored_out, row_start, rows, bias)
using PySource = std::tuple<Bytes, std::string, bool, std::int64_t, std::int64_t, int, std::optional<Floats>>;

inline void require(bool holds, const char* message) {
    if (!holds) throw std::invalid_argument(message);
}

template <class T>
T parse_word(const std::string& word, std::initializer_list<std::pair<const char*, T>> words) {
    for (const auto& [name, value] : words) {
        if (word == name) return value;
    }
    throw std::invalid_argument("an option of the model is unknown");
}

// Kernel sets that this build and this machine have, best first.
std::vector<std::string> available_kernels();
// Throws std::invalid_argument if this machine does not have them.
const KernelSet& kernels_named(const std::string& name);

DType parse_dtype(const std::string& name);
Lane parse_lane(const std::string& name);
Pooling parse_pooling(const std::string& name);
std::vector<float> to_vector(const Floats& values);
std::vector<Source> parse_sources(const std::vector<PySource>& sources, int inputs);
// A table [rows, columns] of the given number format.
std::unique_ptr<Table> parse_table(const Bytes& data, const std::string& dtype, int rows, int columns);
// Arrays [rows, columns] and [size] for Python, which frees them.
nanobind::ndarray<nanobind::numpy, float> new_array(std::size_t rows, std::size_t columns);
nanobind::ndarray<nanobind::numpy, float> new_vector(std::size_t size);

void bind_encoder(nanobind::module_& m);

}  // namespace minivault
