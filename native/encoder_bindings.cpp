// The encoder's part of the door between Python and the core.
#include <algorithm>
#include <memory>

#include "binding_values.hpp"
#include "encoder.hpp"
#include "plain_floats.hpp"

namespace nb = nanobind;

namespace minivault {
namespace {

EncoderSpec parse_encoder_spec(const nb::dict& d) {
    EncoderSpec s;
    const auto get = [&](const char* key, auto& field) { field = nb::cast<std::decay_t<decltype(field)>>(d[key]); };
    get("vocab_size", s.vocab_size);
    get("hidden_size", s.hidden_size);
    get("layers", s.layers);
    get("attention_heads", s.attention_heads);
    get("intermediate_size", s.intermediate_size);
    get("max_tokens", s.max_tokens);
    get("position_offset", s.position_offset);
    get("norm_eps", s.norm_eps);
    get("tanh_gelu", s.tanh_gelu);
    get("normalized", s.normalized);
    s.pooling = parse_pooling(nb::cast<std::string>(d["pooling"]));
    s.lane = parse_lane(nb::cast<std::string>(d["precision"]));
    for (const int size : {s.vocab_size, s.hidden_size, s.layers, s.attention_heads, s.intermediate_size, s.max_tokens}) {
        require(size >= 1 && size <= (1 << 20), "a size of the model is out of range");
    }
    require(s.attention_heads <= (1 << 14) && s.hidden_size % s.attention_heads == 0 && s.head_dim() <= 1024,
            "attention_heads must divide hidden_size into at most 1024");
    require(s.position_offset >= 0 && s.position_offset <= (1 << 10), "position_offset is out of range");
    return s;
}

class EncoderCore {
  public:
    EncoderCore(const nb::dict& spec, const std::string& kernels, int threads) {
        require(threads >= 1 && threads <= 1024, "threads must be 1..1024");
        [[maybe_unused]] const PlainFloats plain;  // for numbers that are made floats
        encoder_ = std::make_unique<Encoder>(parse_encoder_spec(spec), kernels_named(kernels), threads);
    }

    void set_table(const std::string& name, const Bytes& data, const std::string& dtype, int rows, int columns) {
        require(columns == spec().hidden_size, "a table's shape and bytes do not agree");
        auto table = parse_table(data, dtype, rows, columns);
        if (name == "embed") {
            require(rows == spec().vocab_size, "the embedding must have a row for each token");
            encoder_->embedding = std::move(table);
        } else {
            require(name == "pos_embed", "no such table");
            encoder_->positions = std::move(table);
        }
    }

    void set_token_type(const Floats& row) {
        require(row.size() == static_cast<std::size_t>(spec().hidden_size), "a row must have the model's size");
        encoder_->token_type = to_vector(row);
    }

    // The exact norm, or its twin for the quantised input of the matrix that reads it.
    void set_norm(int layer, const std::string& name, bool rounded, const Floats& weight, const Floats& bias) {
        const std::size_t size = spec().hidden_size;
        require(weight.size() == size && bias.size() == size, "a norm does not have the model's size");
        EncoderNorm& norm = norm_slot(layer, name);
        (rounded ? norm.rounded : norm.exact) = Norm{to_vector(weight), to_vector(bias), {}};
    }

    // Column k counts input_scales[k] times; those of `outliers` come once more in floats, [outputs][kGroup], zero
    // behind their number.
    void set_linear(int layer, const std::string& name, const std::vector<PySource>& sources, int inputs, int outputs,
                    const std::optional<Floats>& input_scales, const std::vector<int>& outliers,
                    const std::optional<Floats>& outlier_weights) {
        const std::vector<Source> list = parse_sources(sources, inputs);
        std::int64_t total = 0;
        for (const auto& source : list) total += source.rows;
        require(total == outputs, "the sources of a matrix must make up its outputs");
        require(!input_scales || input_scales->size() == static_cast<std::size_t>(inputs), "a scale is due for each input");
        require(outliers.size() <= static_cast<std::size_t>(kGroup) && outliers.empty() == !outlier_weights &&
                (!outlier_weights || outlier_weights->size() == static_cast<std::size_t>(outputs) * kGroup),
                "outliers and their weights do not agree");
        for (const int k : outliers) require(k >= 0 && k < inputs, "an outlier is out of range");
        const std::vector<float> scales = input_scales ? to_vector(*input_scales) : std::vector<float>{};
        EncoderLinear& slot = linear_slot(layer, name, inputs, outputs);
        const auto* columns = outlier_weights ? reinterpret_cast<const std::uint8_t*>(outlier_weights->data()) : nullptr;
        nb::gil_scoped_release release;
        slot.matrix = std::make_unique<Matrix>(spec().lane, list, inputs, scales, encoder_->team());
        slot.outliers = outliers;
        slot.outlier_matrix.reset();
        if (columns == nullptr) return;
        const Source source{columns, DType::f32, false, outputs, 0, outputs, {}};
        slot.outlier_matrix = std::make_unique<Matrix>(Lane::f32, std::vector<Source>{source}, kGroup, std::vector<float>{},
                                                       encoder_->team());
    }

    nb::ndarray<nb::numpy, float> maxima(const std::vector<PySource>& sources, int inputs) {
        const std::vector<Source> list = parse_sources(sources, inputs);
        std::vector<float> most;
        {
            nb::gil_scoped_release release;
            most = column_maxima(list, inputs, encoder_->team());
        }
        auto copy = new_vector(most.size());
        std::copy(most.begin(), most.end(), copy.data());
        return copy;
    }

    void finish() {
        encoder_->finish();
        ready_ = true;
    }

    nb::ndarray<nb::numpy, float> encode(const std::vector<std::vector<int>>& texts) {
        require(ready_, "the model is not finished");
        require(!texts.empty(), "there must be a text");
        auto vectors = new_array(texts.size(), spec().hidden_size);
        nb::gil_scoped_release release;
        encoder_->encode(texts, vectors.data());
        return vectors;
    }

    std::size_t weight_bytes() const { return encoder_->weight_bytes(); }
    std::string kernels() const { return encoder_->kernels().name; }
    int threads() const { return encoder_->team().size(); }

  private:
    const EncoderSpec& spec() const { return encoder_->spec(); }

    EncoderLayer& layer_at(int layer) {
        require(layer >= 0 && layer < spec().layers, "a layer is out of range");
        return encoder_->layers[layer];
    }

    EncoderNorm& norm_slot(int layer, const std::string& name) {
        if (name == "embed_norm") return encoder_->embedding_norm;
        EncoderLayer& l = layer_at(layer);
        return *parse_word<EncoderNorm*>(name, {{"attn_norm", &l.attention_norm}, {"mlp_norm", &l.mlp_norm}});
    }

    EncoderLinear& linear_slot(int layer, const std::string& name, int inputs, int outputs) {
        EncoderLayer& l = layer_at(layer);
        const int hidden = spec().hidden_size;
        const int inner = spec().intermediate_size;
        const auto fits = [&](int in, int out) {
            require(inputs == in && outputs == out, "a matrix does not have the model's shape");
        };
        if (name == "qkv") {
            fits(hidden, 3 * hidden);
            return l.qkv;
        }
        if (name == "output") {
            fits(hidden, hidden);
            return l.output;
        }
        if (name == "mlp_in") {
            fits(hidden, inner);
            return l.mlp_in;
        }
        require(name == "mlp_out", "no such matrix");
        fits(inner, hidden);
        return l.mlp_out;
    }

    std::unique_ptr<Encoder> encoder_;
    bool ready_ = false;
};

}  // namespace

void bind_encoder(nb::module_& m) {
    nb::class_<EncoderCore>(m, "EncoderCore")
        .def(nb::init<const nb::dict&, const std::string&, int>(), nb::arg("spec"), nb::arg("kernels"), nb::arg("threads"))
        .def("set_table", &EncoderCore::set_table, nb::arg("name"), nb::arg("data"), nb::arg("dtype"), nb::arg("rows"),
             nb::arg("columns"))
        .def("set_token_type", &EncoderCore::set_token_type, nb::arg("row"))
        .def("set_norm", &EncoderCore::set_norm, nb::arg("layer"), nb::arg("name"), nb::arg("rounded"),
             nb::arg("weight"), nb::arg("bias"))
        .def("set_linear", &EncoderCore::set_linear, nb::arg("layer"), nb::arg("name"), nb::arg("sources"),
             nb::arg("inputs"), nb::arg("outputs"), nb::arg("input_scales").none(), nb::arg("outliers"),
             nb::arg("outlier_weights").none())
        .def("column_maxima", &EncoderCore::maxima, nb::arg("sources"), nb::arg("inputs"))
        .def("finish", &EncoderCore::finish)
        .def("encode", &EncoderCore::encode, nb::arg("texts"))
        .def_prop_ro("weight_bytes", &EncoderCore::weight_bytes)
        .def_prop_ro("kernels", &EncoderCore::kernels)
        .def_prop_ro("threads", &EncoderCore::threads);
}

}  // namespace minivault
