#include "packed_weights.hpp"

#include <algorithm>
#include <stdexcept>

namespace minivault {
namespace {

// What the sections' sizes alone do not tell. Fixed-width fields, so that the bytes are the same everywhere.
struct Outline {
    std::int32_t embedding_type;
    std::int32_t position_type;
    std::int32_t position_rows;  // 0: no learned positions
    std::int32_t lm_head_lane;
    std::int32_t lm_head_bias;
};

struct LayerOutline {
    std::int32_t qkv_bias;
    std::int32_t output_bias;
    std::int32_t mlp_in_bias;
    std::int32_t mlp_out_bias;
};

// All norms in a fixed order; those that a model does not have are empty.
template <class N, class Layers>
std::vector<N*> norms_of(N& final_norm, Layers& layers) {
    std::vector<N*> norms{&final_norm};
    for (auto& l : layers) {
        norms.insert(norms.end(), {&l.attention_norm, &l.mlp_norm, &l.post_attention_norm, &l.post_mlp_norm,
                                   &l.query_norm, &l.key_norm});
    }
    return norms;
}

Section section_of(const void* data, std::size_t bytes) { return {static_cast<const std::uint8_t*>(data), bytes}; }

}  // namespace

bool save_weights(Model& model, const std::string& path, const PackedKey& key) {
    const Outline outline{static_cast<std::int32_t>(model.embedding->type()),
                          model.positions ? static_cast<std::int32_t>(model.positions->type()) : 0,
                          model.positions ? model.positions->rows() : 0, static_cast<std::int32_t>(model.lm_head->lane()),
                          model.lm_head->has_bias()};
    std::vector<LayerOutline> outlines;
    for (const auto& l : model.layers) {
        outlines.push_back({l.qkv->has_bias(), l.output->has_bias(), l.mlp_in->has_bias(), l.mlp_out->has_bias()});
    }
    std::vector<Section> sections{section_of(&outline, sizeof outline),
                                  section_of(outlines.data(), outlines.size() * sizeof(LayerOutline))};
    for (const Norm* norm : norms_of(model.final_norm, model.layers)) {
        sections.push_back(section_of(norm->weight.data(), norm->weight.size() * 4));
        sections.push_back(section_of(norm->bias.data(), norm->bias.size() * 4));
        sections.push_back(section_of(norm->balance.data(), norm->balance.size() * 4));
    }
    model.embedding->add_sections(sections);
    if (model.positions) model.positions->add_sections(sections);
    model.lm_head->add_sections(sections);
    for (const auto& l : model.layers) {
        for (const auto* matrix : {&l.qkv, &l.output, &l.mlp_in, &l.mlp_out}) (*matrix)->add_sections(sections);
    }
    return PackedFile::write(path, key, sections, model.team());
}

bool load_weights(Model& model, const std::string& path, const PackedKey& key) {
    const auto file = PackedFile::open(path, key, model.team());
    if (!file) return false;
    const ModelSpec& s = model.spec();
    const int queries = s.attention_heads * s.head_dim;
    const int inner = s.intermediate_size;
    try {
        SectionReader reader(file);
        Outline outline;
        std::memcpy(&outline, reader.next(sizeof outline).as<std::uint8_t>(), sizeof outline);
        const std::size_t count = model.layers.size();
        std::vector<LayerOutline> outlines(count);
        std::memcpy(outlines.data(), reader.next(count * sizeof(LayerOutline)).as<std::uint8_t>(),
                    count * sizeof(LayerOutline));
        Norm final_norm;
        std::vector<Layer> layers(count);
        std::vector<const Norm*> of_heads;
        for (const Layer& l : layers) of_heads.insert(of_heads.end(), {&l.query_norm, &l.key_norm});
        for (Norm* norm : norms_of(final_norm, layers)) {
            norm->weight = reader.floats();
            norm->bias = reader.floats();
            norm->balance = reader.floats();
            const bool of_head = std::find(of_heads.begin(), of_heads.end(), norm) != of_heads.end();
            const auto width = static_cast<std::size_t>(of_head ? s.head_dim : s.hidden_size);
            for (const auto* values : {&norm->weight, &norm->bias, &norm->balance}) {
                if (!values->empty() && values->size() != width) return false;
            }
        }
        auto embedding = std::make_unique<Table>(static_cast<DType>(outline.embedding_type), s.vocab_size, s.hidden_size, reader);
        std::unique_ptr<Table> positions;
        if (outline.position_rows > 0) {
            positions = std::make_unique<Table>(static_cast<DType>(outline.position_type), outline.position_rows,
                                                s.hidden_size, reader);
        }
        const auto matrix = [&](Lane lane, int outputs, int inputs, bool bias) {
            return std::make_unique<Matrix>(lane, outputs, inputs, bias, reader);
        };
        auto lm_head = matrix(static_cast<Lane>(outline.lm_head_lane), s.vocab_size, s.hidden_size, outline.lm_head_bias != 0);
        for (std::size_t i = 0; i < count; ++i) {
            const LayerOutline& o = outlines[i];
            layers[i].qkv = matrix(s.lane, queries + 2 * s.kv_heads * s.head_dim, s.hidden_size, o.qkv_bias != 0);
            layers[i].output = matrix(s.lane, s.hidden_size, queries, o.output_bias != 0);
            layers[i].mlp_in = matrix(s.lane, inner * (s.gated() ? 2 : 1), s.hidden_size, o.mlp_in_bias != 0);
            layers[i].mlp_out = matrix(s.lane, s.hidden_size, inner, o.mlp_out_bias != 0);
        }
        if (!reader.done()) return false;
        model.embedding = std::move(embedding);
        model.positions = std::move(positions);
        model.lm_head = std::move(lm_head);
        model.final_norm = std::move(final_norm);
        model.layers = std::move(layers);
    } catch (const std::length_error&) {
        return false;
    }
    return true;
}

}  // namespace minivault
