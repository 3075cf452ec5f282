// Prints a digest of every bit that the core computes for some small models: logits and sampled tokens, in each lane.
// Built for another processor and run under emulation, it must print the same lines as here.
//
//     digest KERNELS THREADS        (scalar; neon, neondot and neoni8mm too on AArch64)
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "../../native/encoder.hpp"
#include "../../native/model.hpp"

using namespace minivault;

namespace {

// Reproducible numbers of a wide spread, some of them subnormal as half floats.
class Numbers {
  public:
    float next(float size) {
        state_ = state_ * 6364136223846793005u + 1442695040888963407u;
        const float unit = static_cast<float>(static_cast<std::int32_t>(state_ >> 33)) * 0x1.0p-30f - 1.0f;
        return unit * unit * unit * size;
    }
    std::vector<float> many(std::size_t count, float size, float middle = 0.0f) {
        std::vector<float> values(count);
        for (auto& value : values) value = middle + next(size);
        return values;
    }

  private:
    std::uint64_t state_ = 42;
};

std::unique_ptr<Matrix> matrix(Model& model, Numbers& numbers, int outputs, int inputs, bool bias) {
    const std::vector<float> values = numbers.many(static_cast<std::size_t>(outputs) * inputs, 0.6f);
    const Source source{reinterpret_cast<const std::uint8_t*>(values.data()), DType::f32, false, outputs, 0, outputs,
                        bias ? numbers.many(outputs, 0.3f) : std::vector<float>{}};
    return std::make_unique<Matrix>(model.spec().lane, std::vector<Source>{source}, inputs, std::vector<float>{}, model.team());
}

Norm norm(Numbers& numbers, int size, bool bias) {
    return {numbers.many(size, 0.5f, 1.0f), bias ? numbers.many(size, 0.2f) : std::vector<float>{}, {}};
}

void fill(Model& model, bool bias) {
    Numbers numbers;
    const ModelSpec& s = model.spec();
    const auto table = numbers.many(static_cast<std::size_t>(s.vocab_size) * s.hidden_size, 2.0f);
    model.embedding = std::make_unique<Table>(reinterpret_cast<const std::uint8_t*>(table.data()), DType::f32,
                                              s.vocab_size, s.hidden_size);
    model.lm_head = matrix(model, numbers, s.vocab_size, s.hidden_size, false);
    model.final_norm = norm(numbers, s.hidden_size, s.layer_norm);
    const int queries = s.attention_heads * s.head_dim;
    for (auto& layer : model.layers) {
        layer.attention_norm = norm(numbers, s.hidden_size, s.layer_norm);
        if (!s.shared_norm) layer.mlp_norm = norm(numbers, s.hidden_size, s.layer_norm);
        if (s.post_norms) layer.post_attention_norm = norm(numbers, s.hidden_size, s.layer_norm);
        if (s.post_norms) layer.post_mlp_norm = norm(numbers, s.hidden_size, s.layer_norm);
        if (s.qk_norm) layer.query_norm = norm(numbers, s.head_dim, false);
        if (s.qk_norm) layer.key_norm = norm(numbers, s.head_dim, false);
        layer.qkv = matrix(model, numbers, queries + 2 * s.kv_heads * s.head_dim, s.hidden_size, bias);
        layer.output = matrix(model, numbers, s.hidden_size, queries, bias);
        layer.mlp_in = matrix(model, numbers, s.intermediate_size * (s.gated() ? 2 : 1), s.hidden_size, bias);
        layer.mlp_out = matrix(model, numbers, s.hidden_size, s.intermediate_size, bias);
    }
    model.finish(32, 256);
}

void hash(std::uint64_t& h, const void* data, std::size_t bytes) {
    const auto* p = static_cast<const std::uint8_t*>(data);
    for (std::size_t i = 0; i < bytes; ++i) h = (h ^ p[i]) * 1099511628211u;
}

// Something for two of each layer's matrices.
std::unique_ptr<Adapter> random_adapter(const ModelSpec& s) {
    auto adapter = std::make_unique<Adapter>(s.layers);
    Numbers numbers;
    const int rank = 5;
    for (int layer = 0; layer < s.layers; ++layer) {
        for (const Slot slot : {Slot::qkv, Slot::mlp_out}) {
            const int inputs = slot == Slot::qkv ? s.hidden_size : s.intermediate_size;
            const int outputs = slot == Slot::qkv ? (s.attention_heads + 2 * s.kv_heads) * s.head_dim : s.hidden_size;
            const auto a = numbers.many(static_cast<std::size_t>(rank) * inputs, 0.5f);
            const auto b = numbers.many(static_cast<std::size_t>(outputs) * rank, 0.5f);
            adapter->set(layer, slot,
                         std::make_unique<LowRank>(a.data(), b.data(), rank, inputs, outputs, std::vector<float>{}));
        }
    }
    return adapter;
}

// A prompt in two pieces beside another sequence, alone and with an adapter on that, then some sampled tokens.
std::uint64_t digest(Model& model) {
    std::uint64_t h = 14695981039346656037u;
    std::vector<int> prompt, other;
    for (int i = 0; i < 70; ++i) prompt.push_back(i * 37 % model.spec().vocab_size);
    for (int i = 0; i < 5; ++i) other.push_back(i * 11 + 3);
    const std::vector<std::int32_t> blocks{7, 3, 9, 1, 12, 5, 6}, other_blocks{20, 21};
    std::vector<std::vector<Sampled>> sampled;
    const std::vector<int> first(prompt.begin(), prompt.begin() + 33), tail(prompt.begin() + 33, prompt.end());
    const auto run = [&](std::vector<StepItem> items) {
        model.step(items, sampled);
        for (int r = 0; r < model.logit_rows(); ++r) hash(h, model.logits(r), model.spec().vocab_size * 4);
    };
    const auto item = [](const std::vector<int>& tokens, int start, const std::vector<std::int32_t>& where) {
        StepItem made{};
        made.tokens = &tokens;
        made.start = start;
        made.blocks = &where;
        made.all_logits = true;
        return made;
    };
    run({item(first, 0, blocks)});
    run({item(tail, 33, blocks), item(other, 0, other_blocks)});
    const auto adapter = random_adapter(model.spec());
    auto adapted = item(other, 0, other_blocks);
    adapted.adapter = adapter.get();
    run({item(tail, 33, blocks), adapted});
    Numbers numbers;
    SamplingParameters parameters;
    parameters.temperature = 0.8f;
    parameters.top_k = 20;
    parameters.top_p = 0.95f;
    parameters.typical_p = 0.9f;
    parameters.repetition_penalty = 1.2f;
    parameters.logprobs = 2;
    parameters.seed = 99;
    Sampler sampler(parameters, prompt);
    std::vector<float> weights;
    for (int i = 0; i < 20; ++i) {
        std::vector<float> logits = numbers.many(model.spec().vocab_size, 9.0f);
        const Sampled one = sampler.sample(model.kernels(), logits.data(), model.spec().vocab_size, weights);
        hash(h, &one.token, sizeof one.token);
        hash(h, &one.logprob, sizeof one.logprob);
        sampler.accept(one.token);
    }
    return h;
}

ModelSpec plain() {
    ModelSpec s;
    s.vocab_size = 150;
    s.hidden_size = 72;
    s.layers = 2;
    s.attention_heads = 6;
    s.kv_heads = 2;
    s.head_dim = 20;
    s.intermediate_size = 100;
    s.attention_scale = 0.2236f;
    RopeSpec rope;
    rope.dim = 20;
    s.ropes = {rope};
    s.layer_ropes = {0, 0};
    return s;
}

ModelSpec with_layer_norm() {
    ModelSpec s = plain();
    s.layer_norm = true;
    s.mlp = Mlp::gelu_tanh;
    s.kv_heads = 6;
    s.ropes.clear();
    s.layer_ropes.clear();
    return s;
}

ModelSpec parallel() {
    ModelSpec s = with_layer_norm();
    s.kv_heads = 1;
    s.parallel = s.shared_norm = true;
    s.mlp = Mlp::gelu;
    return s;
}

ModelSpec capped() {
    ModelSpec s = plain();
    s.mlp = Mlp::gated_gelu_tanh;
    s.post_norms = s.qk_norm = true;
    s.attention_softcap = 20.0f;
    s.logit_softcap = 10.0f;
    s.embedding_scale = 8.5f;
    s.windows = {24, 0};
    RopeSpec stretched = s.ropes[0];
    stretched.scaling = RopeScaling::yarn;
    stretched.theta = 1e6;
    stretched.factor = 4.0;
    stretched.original_context = 32.0;
    stretched.attention_factor = 1.1;
    s.ropes.push_back(stretched);
    s.layer_ropes = {0, 1};
    return s;
}

EncoderLinear encoder_linear(Encoder& encoder, Numbers& numbers, int outputs, int inputs) {
    const auto packed = [&](Lane lane, int columns, bool bias) {
        const std::vector<float> values = numbers.many(static_cast<std::size_t>(outputs) * columns, 0.6f);
        const Source source{reinterpret_cast<const std::uint8_t*>(values.data()), DType::f32, false, outputs, 0, outputs,
                            bias ? numbers.many(outputs, 0.3f) : std::vector<float>{}};
        return std::make_unique<Matrix>(lane, std::vector<Source>{source}, columns, std::vector<float>{}, encoder.team());
    };
    EncoderLinear made{packed(encoder.spec().lane, inputs, true), {}, nullptr};
    if (encoder.spec().lane == Lane::f32) return made;
    for (int k = 0; k < 9; ++k) made.outliers.push_back(k * 7 + 2);
    made.outlier_matrix = packed(Lane::f32, kGroup, false);
    return made;
}

// Some texts together, pooled in each way.
std::uint64_t encoder_digest(EncoderSpec spec, const KernelSet& kernels, int threads) {
    std::uint64_t h = 14695981039346656037u;
    for (const Pooling pooling : {Pooling::mean, Pooling::cls, Pooling::last, Pooling::max, Pooling::mean_sqrt_len}) {
        spec.pooling = pooling;
        Encoder encoder(spec, kernels, threads);
        Numbers numbers;
        const auto table = [&](int rows) {
            const auto values = numbers.many(static_cast<std::size_t>(rows) * spec.hidden_size, 2.0f);
            return std::make_unique<Table>(reinterpret_cast<const std::uint8_t*>(values.data()), DType::f32, rows, spec.hidden_size);
        };
        const auto encoder_norm = [&] {
            return EncoderNorm{norm(numbers, spec.hidden_size, true), norm(numbers, spec.hidden_size, true)};
        };
        encoder.embedding = table(spec.vocab_size);
        encoder.positions = table(spec.position_offset + spec.max_tokens);
        encoder.token_type = numbers.many(spec.hidden_size, 0.5f);
        encoder.embedding_norm = encoder_norm();
        for (auto& layer : encoder.layers) {
            layer.qkv = encoder_linear(encoder, numbers, 3 * spec.hidden_size, spec.hidden_size);
            layer.output = encoder_linear(encoder, numbers, spec.hidden_size, spec.hidden_size);
            layer.attention_norm = encoder_norm();
            layer.mlp_in = encoder_linear(encoder, numbers, spec.intermediate_size, spec.hidden_size);
            layer.mlp_out = encoder_linear(encoder, numbers, spec.hidden_size, spec.intermediate_size);
            layer.mlp_norm = encoder_norm();
        }
        encoder.finish();
        std::vector<std::vector<int>> texts(3);
        for (int i = 0; i < 50; ++i) texts[0].push_back(i * 37 % spec.vocab_size);
        for (int i = 0; i < 17; ++i) texts[1].push_back(i * 11 % spec.vocab_size);
        texts[2] = {5};
        std::vector<float> vectors(texts.size() * spec.hidden_size);
        encoder.encode(texts, vectors.data());
        hash(h, vectors.data(), vectors.size() * 4);
    }
    return h;
}

EncoderSpec encoder_spec(bool tanh_gelu) {
    EncoderSpec s;
    s.vocab_size = 150;
    s.hidden_size = 72;
    s.layers = 2;
    s.attention_heads = 6;
    s.intermediate_size = 100;
    s.max_tokens = 50;
    s.position_offset = tanh_gelu ? 2 : 0;
    s.tanh_gelu = tanh_gelu;
    s.normalized = !tanh_gelu;
    return s;
}

const KernelSet* kernels_named(const std::string& name) {
#if defined(__aarch64__)
    if (name == "neon") return neon_kernels();
    if (name == "neondot") return neondot_kernels();
    if (name == "neoni8mm") return neoni8mm_kernels();
#endif
    return name == "scalar" ? scalar_kernels() : nullptr;
}

}  // namespace

int main(int count, char** words) {
    const KernelSet* kernels = count == 3 ? kernels_named(words[1]) : nullptr;
    if (kernels == nullptr) return 2;
    const std::pair<const char*, ModelSpec> specs[] = {
        {"plain", plain()}, {"layer_norm", with_layer_norm()}, {"parallel", parallel()}, {"capped", capped()}};
    const std::pair<const char*, Lane> lanes[] = {{"int8", Lane::int8}, {"int4", Lane::int4}, {"f32", Lane::f32}};
    for (auto [name, spec] : specs) {
        for (const auto& [lane_name, lane] : lanes) {
            spec.lane = lane;
            Model model(spec, *kernels, std::atoi(words[2]));
            fill(model, spec.layer_norm);
            std::printf("%s %s %016llx\n", name, lane_name, static_cast<unsigned long long>(digest(model)));
        }
    }
    for (const bool tanh_gelu : {false, true}) {
        EncoderSpec spec = encoder_spec(tanh_gelu);
        for (const auto& [lane_name, lane] : {lanes[0], lanes[2]}) {
            spec.lane = lane;
            std::printf("encoder %d %s %016llx\n", tanh_gelu, lane_name,
                        static_cast<unsigned long long>(encoder_digest(spec, *kernels, std::atoi(words[2]))));
        }
    }
    return 0;
}
