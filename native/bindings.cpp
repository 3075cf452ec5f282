// The door between Python and the engine's core: converts, checks every size, and lets go of the GIL around work.
// Knows nothing of scheduling.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include <nanobind/stl/shared_ptr.h>

#include "adapters.hpp"
#include "binding_values.hpp"
#include "model.hpp"
#include "packed_weights.hpp"
#include "plain_floats.hpp"
#include "pooling.hpp"

namespace nb = nanobind;
using namespace minivault;

namespace {

RopeSpec parse_rope(const nb::dict& d) {
    RopeSpec r;
    const auto get = [&](const char* key, auto& field) { field = nb::cast<std::decay_t<decltype(field)>>(d[key]); };
    get("dim", r.dim);
    get("theta", r.theta);
    get("factor", r.factor);
    get("original_context", r.original_context);
    get("low_freq_factor", r.low_freq_factor);
    get("high_freq_factor", r.high_freq_factor);
    get("beta_fast", r.beta_fast);
    get("beta_slow", r.beta_slow);
    get("truncate", r.truncate);
    get("attention_factor", r.attention_factor);
    r.scaling = parse_word<RopeScaling>(nb::cast<std::string>(d["scaling"]), {{"none", RopeScaling::none},
                                                                              {"linear", RopeScaling::linear},
                                                                              {"llama3", RopeScaling::llama3},
                                                                              {"dynamic", RopeScaling::dynamic},
                                                                              {"yarn", RopeScaling::yarn}});
    return r;
}

ModelSpec parse_spec(const nb::dict& d) {
    ModelSpec s;
    const auto get = [&](const char* key, auto& field) { field = nb::cast<std::decay_t<decltype(field)>>(d[key]); };
    get("vocab_size", s.vocab_size);
    get("hidden_size", s.hidden_size);
    get("layers", s.layers);
    get("attention_heads", s.attention_heads);
    get("kv_heads", s.kv_heads);
    get("head_dim", s.head_dim);
    get("intermediate_size", s.intermediate_size);
    get("layer_norm", s.layer_norm);
    get("norm_eps", s.norm_eps);
    get("parallel", s.parallel);
    get("shared_norm", s.shared_norm);
    get("post_norms", s.post_norms);
    get("qk_norm", s.qk_norm);
    get("attention_scale", s.attention_scale);
    get("attention_softcap", s.attention_softcap);
    get("logit_softcap", s.logit_softcap);
    get("embedding_scale", s.embedding_scale);
    get("windows", s.windows);
    get("layer_ropes", s.layer_ropes);
    s.mlp = parse_word<Mlp>(nb::cast<std::string>(d["mlp"]), {{"gated_silu", Mlp::gated_silu},
                                                              {"gated_gelu_tanh", Mlp::gated_gelu_tanh},
                                                              {"gelu_tanh", Mlp::gelu_tanh},
                                                              {"gelu", Mlp::gelu}});
    s.lane = parse_lane(nb::cast<std::string>(d["precision"]));
    for (const auto& rope : nb::cast<std::vector<nb::dict>>(d["ropes"])) s.ropes.push_back(parse_rope(rope));
    for (const int size : {s.vocab_size, s.hidden_size, s.layers, s.attention_heads, s.kv_heads, s.head_dim,
                           s.intermediate_size}) {
        if (size < 1 || size > (1 << 20)) throw std::invalid_argument("a size of the model is out of range");
    }
    if (s.head_dim > 1024 || s.attention_heads > (1 << 14) || s.attention_heads % s.kv_heads != 0) {
        throw std::invalid_argument("head_dim must be at most 1024, and kv_heads must divide attention_heads");
    }
    const std::size_t layers = s.layers;
    if ((!s.windows.empty() && s.windows.size() != layers) || (!s.ropes.empty() && s.layer_ropes.size() != layers)) {
        throw std::invalid_argument("windows and ropes must be given for each layer");
    }
    for (const int index : s.layer_ropes) {
        if (!s.ropes.empty() && (index < 0 || static_cast<std::size_t>(index) >= s.ropes.size())) {
            throw std::invalid_argument("a layer names a rope that is not there");
        }
    }
    for (const auto& rope : s.ropes) {
        const int least = rope.scaling == RopeScaling::dynamic ? 4 : 2;
        if (rope.dim < least || rope.dim % 2 != 0 || rope.dim > s.head_dim || !(rope.theta > 1.0) || !(rope.factor > 0.0)) {
            throw std::invalid_argument("a rope is out of range");
        }
    }
    return s;
}

using FloatTable = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

constexpr int kMaxRank = 1 << 14;  // of all parts of a fused matrix together

// What the core keeps of one sequence: where its keys and values lie, and how its tokens are chosen.
struct SequenceState {
    Sampler sampler;
    std::vector<std::int32_t> blocks;
    std::optional<Pool> pool;  // of a text that is embedded: takes its rows as they come
    bool normalized = false;
    std::shared_ptr<const Adapter> adapter;  // null: the weights as they are
};

class Core {
  public:
    Core(const nb::dict& spec, const std::string& kernels, int threads) {
        const KernelSet& set = kernels_named(kernels);
        if (threads < 1 || threads > 1024) throw std::invalid_argument("threads must be 1..1024");
        [[maybe_unused]] const PlainFloats plain;  // for numbers that are made floats, and the frequencies of ropes
        model_ = std::make_unique<Model>(parse_spec(spec), set, threads);
    }

    void set_table(const std::string& name, const Bytes& data, const std::string& dtype, int rows, int columns) {
        require(columns == model_->spec().hidden_size, "a table's shape and bytes do not agree");
        auto table = parse_table(data, dtype, rows, columns);
        if (name == "embed") {
            require(rows == model_->spec().vocab_size, "the embedding must have a row for each token");
            model_->embedding = std::move(table);
        } else {
            require(name == "pos_embed", "no such table");
            model_->positions = std::move(table);
        }
    }

    void set_norm(int layer, const std::string& name, const Floats& weight, const std::optional<Floats>& bias) {
        const ModelSpec& spec = model_->spec();
        const bool of_attention_head = name == "q_norm" || name == "k_norm";
        const std::size_t size = of_attention_head ? spec.head_dim : spec.hidden_size;
        require(weight.size() == size && (!bias || bias->size() == size), "a norm does not have the model's size");
        Norm& norm = norm_slot(layer, name);
        norm.weight = to_vector(weight);
        norm.bias = bias ? to_vector(*bias) : std::vector<float>{};
    }

    // Sources are (data, dtype, transposed, stored_out, row_start, rows, bias). Column k counts input_scales[k] times.
    void set_linear(int layer, const std::string& name, const std::vector<PySource>& sources, int inputs, int outputs,
                    const std::optional<Floats>& input_scales) {
        const std::vector<Source> list = parse_sources(sources, inputs);
        std::int64_t total = 0;
        for (const auto& source : list) total += source.rows;
        require(total == outputs, "the sources of a matrix must make up its outputs");
        require(!input_scales || input_scales->size() == static_cast<std::size_t>(inputs), "a scale is due for each input");
        const std::vector<float> scales = input_scales ? to_vector(*input_scales) : std::vector<float>{};
        std::unique_ptr<Matrix>& slot = matrix_slot(layer, name, inputs, outputs);
        // The last matrix decides among all tokens: in the INT4 lane it keeps 8 bits.
        const Lane lane = name == "lm_head" && model_->spec().lane == Lane::int4 ? Lane::int8 : model_->spec().lane;
        nb::gil_scoped_release release;
        slot = std::make_unique<Matrix>(lane, list, inputs, scales, model_->team());
        if (name == "qkv") model_->layers[layer].attention_norm.balance = scales;
        if (name == "mlp_in" && !model_->spec().shared_norm) model_->layers[layer].mlp_norm.balance = scales;
    }

    // An adapter of (layer, matrix, A [rank, inputs], B [outputs, rank]), B with the scaling in it. May be called while
    // a step runs.
    std::shared_ptr<Adapter> make_adapter(const std::vector<std::tuple<int, std::string, FloatTable, FloatTable>>& parts) const {
        require(ready_, "the model is not finished");
        auto adapter = std::make_shared<Adapter>(model_->spec().layers);
        nb::gil_scoped_release release;
        [[maybe_unused]] const PlainFloats plain;
        for (const auto& [layer, name, a, b] : parts) {
            require(layer >= 0 && layer < model_->spec().layers, "a layer is out of range");
            const Slot slot = parse_word<Slot>(name, {{"qkv", Slot::qkv},
                                                      {"output", Slot::output},
                                                      {"mlp_in", Slot::mlp_in},
                                                      {"mlp_out", Slot::mlp_out}});
            const auto [inputs, outputs] = shape_of(slot);
            const int rank = static_cast<int>(a.shape(0));
            require(rank > 0 && rank <= kMaxRank && static_cast<int>(a.shape(1)) == inputs &&
                    static_cast<int>(b.shape(0)) == outputs && static_cast<int>(b.shape(1)) == rank &&
                    adapter->at(layer, slot) == nullptr, "a part of an adapter does not have the model's shape");
            const Layer& l = model_->layers[layer];
            const bool shared = slot == Slot::qkv || model_->spec().shared_norm;
            const bool balanced = slot == Slot::qkv || slot == Slot::mlp_in;
            const std::vector<float> none;
            adapter->set(layer, slot, std::make_unique<LowRank>(
                a.data(), b.data(), rank, inputs, outputs,
                !balanced ? none : shared ? l.attention_norm.balance : l.mlp_norm.balance));
        }
        return adapter;
    }

    nb::ndarray<nb::numpy, float> maxima(const std::vector<PySource>& sources, int inputs) {
        const std::vector<Source> list = parse_sources(sources, inputs);
        std::vector<float> most;
        {
            nb::gil_scoped_release release;
            most = column_maxima(list, inputs, model_->team());
        }
        auto copy = new_vector(most.size());
        std::copy(most.begin(), most.end(), copy.data());
        return copy;
    }

    bool save_packed(const std::string& path, const nb::bytes& key) {
        const PackedKey bytes = packed_key(key);
        require(ready_, "the model is not finished");
        nb::gil_scoped_release release;
        return save_weights(*model_, path, bytes);
    }

    bool load_packed(const std::string& path, const nb::bytes& key) {
        const PackedKey bytes = packed_key(key);
        nb::gil_scoped_release release;
        return load_weights(*model_, path, bytes);
    }

    void finish(int blocks, int max_rows) {
        require(blocks > 0 && max_rows > 0, "blocks and max_rows must be positive");
        nb::gil_scoped_release release;
        model_->finish(blocks, max_rows);
        ready_ = true;
    }

    // Runs tokens[i] of sequence i from position starts[i] on, the last drafted[i] of them being guesses; where sample[i],
    // returns its next token, and one more for each guess that came true. The state remembers them.
    std::vector<std::vector<Sampled>> step(const std::vector<SequenceState*>& states,
                                           const std::vector<std::vector<int>>& tokens, const std::vector<int>& starts,
                                           const std::vector<bool>& sample, const std::vector<int>& drafted) {
        return run(states, tokens, starts, &sample, &drafted);
    }

    // Runs likewise without sampling; returns the logits of every row, [rows, vocab_size].
    nb::ndarray<nb::numpy, float> forward(const std::vector<SequenceState*>& states,
                                          const std::vector<std::vector<int>>& tokens, const std::vector<int>& starts) {
        run(states, tokens, starts, nullptr, nullptr);
        const std::size_t rows = model_->logit_rows();
        const std::size_t vocab = model_->spec().vocab_size;
        auto copy = new_array(rows, vocab);
        for (std::size_t r = 0; r < rows; ++r) {
            std::memcpy(copy.data() + r * vocab, model_->logits(static_cast<int>(r)), vocab * 4);
        }
        return copy;
    }

    // The vector of an embedded text, [hidden_size], of the rows that came so far.
    nb::ndarray<nb::numpy, float> pooled(const SequenceState& state) const {
        require(state.pool && state.pool->count() > 0, "there are no rows to pool");
        auto vector = new_vector(state.pool->width());
        [[maybe_unused]] const PlainFloats plain;
        state.pool->finish(model_->kernels(), state.normalized, vector.data());
        return vector;
    }

    std::size_t weight_bytes() const { return model_->weight_bytes(); }
    std::size_t cache_bytes() const { return model_->cache_bytes(); }
    std::string kernels() const { return model_->kernels().name; }
    int threads() const { return model_->team().size(); }

  private:
    static PackedKey packed_key(const nb::bytes& key) {
        PackedKey bytes;
        require(key.size() == bytes.size(), "a key has 32 bytes");
        std::memcpy(bytes.data(), key.c_str(), bytes.size());
        return bytes;
    }

    Layer& layer_at(int layer) {
        require(layer >= 0 && layer < model_->spec().layers, "a layer is out of range");
        return model_->layers[layer];
    }

    Norm& norm_slot(int layer, const std::string& name) {
        if (name == "final_norm") return model_->final_norm;
        if (name == "hidden_norm") return model_->hidden_norm;
        Layer& l = layer_at(layer);
        return *parse_word<Norm*>(name, {{"attn_norm", &l.attention_norm},
                                         {"mlp_norm", &l.mlp_norm},
                                         {"post_attn_norm", &l.post_attention_norm},
                                         {"post_mlp_norm", &l.post_mlp_norm},
                                         {"q_norm", &l.query_norm},
                                         {"k_norm", &l.key_norm}});
    }

    std::pair<int, int> shape_of(Slot slot) const {
        const ModelSpec& s = model_->spec();
        const int queries = s.attention_heads * s.head_dim;
        switch (slot) {
            case Slot::qkv: return {s.hidden_size, queries + 2 * s.kv_heads * s.head_dim};
            case Slot::output: return {queries, s.hidden_size};
            case Slot::mlp_in: return {s.hidden_size, s.intermediate_size * (s.gated() ? 2 : 1)};
            default: return {s.intermediate_size, s.hidden_size};
        }
    }

    std::unique_ptr<Matrix>& matrix_slot(int layer, const std::string& name, int inputs, int outputs) {
        const ModelSpec& s = model_->spec();
        const int queries = s.attention_heads * s.head_dim;
        const auto fits = [&](int in, int out) {
            require(inputs == in && outputs == out, "a matrix does not have the model's shape");
        };
        if (name == "lm_head") {
            fits(s.hidden_size, s.vocab_size);
            return model_->lm_head;
        }
        Layer& l = layer_at(layer);
        if (name == "qkv") {
            fits(s.hidden_size, queries + 2 * s.kv_heads * s.head_dim);
            return l.qkv;
        }
        if (name == "output") {
            fits(queries, s.hidden_size);
            return l.output;
        }
        if (name == "mlp_in") {
            fits(s.hidden_size, s.intermediate_size * (s.gated() ? 2 : 1));
            return l.mlp_in;
        }
        require(name == "mlp_out", "no such matrix");
        fits(s.intermediate_size, s.hidden_size);
        return l.mlp_out;
    }

    std::vector<std::vector<Sampled>> run(const std::vector<SequenceState*>& states,
                                          const std::vector<std::vector<int>>& tokens, const std::vector<int>& starts,
                                          const std::vector<bool>* sample, const std::vector<int>* drafted) {
        require(ready_, "the model is not finished");
        require(!states.empty() && states.size() == tokens.size() && states.size() == starts.size() &&
                (sample == nullptr || sample->size() == states.size()) &&
                (drafted == nullptr || drafted->size() == states.size()), "a step's lists must be of one length");
        std::vector<StepItem> items;
        for (std::size_t i = 0; i < states.size(); ++i) {
            Sampler* sampler = sample != nullptr && (*sample)[i] ? &states[i]->sampler : nullptr;
            items.push_back({&tokens[i], starts[i], &states[i]->blocks, drafted != nullptr ? (*drafted)[i] : 0, sampler,
                             sample == nullptr, states[i]->pool.has_value(), states[i]->adapter.get()});
        }
        std::vector<std::vector<Sampled>> sampled;
        nb::gil_scoped_release release;
        model_->step(items, sampled);
        [[maybe_unused]] const PlainFloats plain;  // for the sums of pools
        int row = 0;
        for (std::size_t i = 0; i < states.size(); ++i) {
            if (!states[i]->pool) continue;
            // A text begins anew after a preemption.
            if (starts[i] == 0) states[i]->pool->clear();
            for (std::size_t r = 0; r < tokens[i].size(); ++r) states[i]->pool->add(model_->hidden(row++), model_->spec().hidden_size);
        }
        return sampled;
    }

    std::unique_ptr<Model> model_;
    bool ready_ = false;
};

SequenceState* make_state(const std::vector<int>& prompt, float temperature, int top_k, float top_p, float min_p,
                          float typical_p, float repetition_penalty, float presence_penalty, float frequency_penalty,
                          std::uint64_t seed, int min_tokens, int logprobs,
                          const std::vector<std::pair<int, float>>& logit_bias, const std::vector<int>& end_ids) {
    return new SequenceState{Sampler({temperature, top_k, top_p, min_p, typical_p, repetition_penalty, presence_penalty,
                                      frequency_penalty, seed, min_tokens, logprobs, logit_bias, end_ids}, prompt), {}, {}, false, nullptr};
}


// One choice from given logits, for tests of the sampler by itself.
Sampled sample_once(const SequenceState& state, const Floats& logits, const std::string& kernels) {
    const KernelSet& set = kernels_named(kernels);
    std::vector<float> scratch = to_vector(logits);
    std::vector<float> weights;
    [[maybe_unused]] const PlainFloats plain;
    return state.sampler.sample(set, scratch.data(), static_cast<int>(scratch.size()), weights);
}

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "The exact CPU core of MiniVault's native engine.";
    nb::register_exception_translator([](const std::exception_ptr& thrown, void*) {
        try {
            std::rethrow_exception(thrown);
        } catch (const std::domain_error& error) {  // a weight that is no number; ValueError is for a wrong call
            PyErr_SetString(PyExc_ArithmeticError, error.what());
        }
    });
    m.def("available_kernels", &available_kernels, "Kernel sets that this build and this machine have, best first.");
    m.def("give_way", &give_way, nb::arg("waits"),
          "Say that something else in this process waits for a core, or no longer does.");
    m.def("ways_left", [] { return ways_to_give.load(); }, "How often teams may still give way, for this wait.");
    m.def("block_bytes", [](const nb::dict& spec) { return Model::block_bytes(parse_spec(spec)); },
          "Bytes of one KV cache block of 16 positions over all layers.");
    m.def("philox_uniform", &philox_uniform, nb::arg("seed"), nb::arg("position"));
    m.def("sample_once", &sample_once, nb::arg("state"), nb::arg("logits"), nb::arg("kernels"));
    m.attr("BLOCK_SIZE") = kBlock;

    nb::class_<Sampled>(m, "Sampled")
        .def_ro("token", &Sampled::token)
        .def_ro("finite", &Sampled::finite)
        .def_ro("logprob", &Sampled::logprob)
        .def_ro("top", &Sampled::top);

    nb::class_<Adapter>(m, "Adapter")
        .def_prop_ro("bytes", &Adapter::bytes, "Memory that it takes.");

    nb::class_<SequenceState>(m, "SequenceState")
        .def_static("make", &make_state, nb::rv_policy::take_ownership, nb::kw_only(), nb::arg("prompt"),
                    nb::arg("temperature") = 1.0f, nb::arg("top_k") = 0, nb::arg("top_p") = 1.0f, nb::arg("min_p") = 0.0f,
                    nb::arg("typical_p") = 1.0f, nb::arg("repetition_penalty") = 1.0f, nb::arg("presence_penalty") = 0.0f,
                    nb::arg("frequency_penalty") = 0.0f, nb::arg("seed") = 0, nb::arg("min_tokens") = 0,
                    nb::arg("logprobs") = -1, nb::arg("logit_bias") = std::vector<std::pair<int, float>>{},
                    nb::arg("end_ids") = std::vector<int>{})
        .def_prop_ro("generated", [](const SequenceState& s) { return s.sampler.generated(); })
        .def("accept", [](SequenceState& s, int token) { s.sampler.accept(token); }, nb::arg("token"))
        .def("allow", [](SequenceState& s, const nb::bytes& mask) {
            std::vector<std::uint32_t> words(mask.size() / 4);
            std::memcpy(words.data(), mask.c_str(), words.size() * 4);
            s.sampler.allow(std::move(words));
        }, nb::arg("mask"))
        .def("keep_pooled", [](SequenceState& s, const std::string& kind, bool normalized) {
            s.pool.emplace(parse_pooling(kind));
            s.normalized = normalized;
        }, nb::arg("kind"), nb::arg("normalized"))
        .def("adapt", [](SequenceState& s, std::shared_ptr<Adapter> adapter) { s.adapter = std::move(adapter); },
             nb::arg("adapter"))
        .def("sync_blocks", [](SequenceState& s, const nb::list& table) {
            // Every step, for every sequence: straight from the list's own integers.
            const std::size_t count = nb::len(table);
            s.blocks.resize(count);
            for (std::size_t i = 0; i < count; ++i) {
                const long block = PyLong_AsLong(PyList_GET_ITEM(table.ptr(), static_cast<Py_ssize_t>(i)));
                if (block < 0 || block > 0x7fffffff) throw nb::value_error("a block is out of range");
                s.blocks[i] = static_cast<std::int32_t>(block);
            }
        }, nb::arg("table"))
        .def_prop_rw("blocks", [](const SequenceState& s) { return s.blocks; },
                     [](SequenceState& s, const std::vector<std::int32_t>& blocks) { s.blocks = blocks; })
        .def_prop_ro("num_blocks", [](const SequenceState& s) { return s.blocks.size(); });

    nb::class_<Core>(m, "Core")
        .def(nb::init<const nb::dict&, const std::string&, int>(), nb::arg("spec"), nb::arg("kernels"), nb::arg("threads"))
        .def("set_table", &Core::set_table, nb::arg("name"), nb::arg("data"), nb::arg("dtype"), nb::arg("rows"),
             nb::arg("columns"))
        .def("set_norm", &Core::set_norm, nb::arg("layer"), nb::arg("name"), nb::arg("weight"), nb::arg("bias").none())
        .def("set_linear", &Core::set_linear, nb::arg("layer"), nb::arg("name"), nb::arg("sources"), nb::arg("inputs"),
             nb::arg("outputs"), nb::arg("input_scales").none())
        .def("make_adapter", &Core::make_adapter, nb::arg("parts"))
        .def("column_maxima", &Core::maxima, nb::arg("sources"), nb::arg("inputs"))
        .def("save_packed", &Core::save_packed, nb::arg("path"), nb::arg("key"))
        .def("load_packed", &Core::load_packed, nb::arg("path"), nb::arg("key"))
        .def("finish", &Core::finish, nb::arg("blocks"), nb::arg("max_rows"))
        .def("step", &Core::step, nb::arg("states"), nb::arg("tokens"), nb::arg("starts"), nb::arg("sample"),
             nb::arg("drafted"))
        .def("forward", &Core::forward, nb::arg("states"), nb::arg("tokens"), nb::arg("starts"))
        .def("pooled", &Core::pooled, nb::arg("state"))
        .def_prop_ro("weight_bytes", &Core::weight_bytes)
        .def_prop_ro("cache_bytes", &Core::cache_bytes)
        .def_prop_ro("kernels", &Core::kernels)
        .def_prop_ro("threads", &Core::threads);
    bind_encoder(m);
}
