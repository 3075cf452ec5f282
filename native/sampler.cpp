#include "sampler.hpp"

#include <algorithm>

#include "portable_math.hpp"

namespace minivault {
namespace {

constexpr float kBanned = -3.0e38f;  // finite, so that arithmetic on it stays defined; never a candidate
constexpr float kLeastTemperature = 1e-6f;  // below it, its inverse times a logit is no number any more

// Order of all truncation: higher logit first, lower id first among equals.
template <class C>
bool before(const C& a, const C& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

}  // namespace

double philox_uniform(std::uint64_t seed, std::uint64_t position) {
    std::uint32_t key[2] = {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
    std::uint32_t c[4] = {static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(position >> 32), 0, 0};
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t a = std::uint64_t{0xD2511F53u} * c[0];
        const std::uint64_t b = std::uint64_t{0xCD9E8D57u} * c[2];
        const std::uint32_t next[4] = {static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ key[0], static_cast<std::uint32_t>(b),
                                       static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ key[1], static_cast<std::uint32_t>(a)};
        std::copy(next, next + 4, c);
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    const std::uint64_t bits = (static_cast<std::uint64_t>(c[0]) << 32) | c[1];
    return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

Sampler::Sampler(SamplingParameters parameters, const std::vector<int>& prompt) : parameters_(std::move(parameters)) {
    if (parameters_.repetition_penalty != 1.0f) seen_.insert(prompt.begin(), prompt.end());
}

void Sampler::accept(int token) {
    ++generated_;
    allowed_.clear();
    if (parameters_.repetition_penalty != 1.0f) seen_.insert(token);
    if (parameters_.presence_penalty != 0.0f || parameters_.frequency_penalty != 0.0f) ++counts_[token];
}

void Sampler::adjust(float* logits, int vocab) const {
    const auto& p = parameters_;
    for (const auto& [id, bias] : p.logit_bias) {
        if (id >= 0 && id < vocab) logits[id] = logits[id] + bias;
    }
    for (const int id : seen_) {
        if (id < 0 || id >= vocab) continue;
        logits[id] = logits[id] > 0.0f ? logits[id] / p.repetition_penalty : logits[id] * p.repetition_penalty;
    }
    for (const auto& [id, count] : counts_) {
        const float frequency = p.frequency_penalty * static_cast<float>(count);
        logits[id] = (logits[id] - frequency) - p.presence_penalty;
    }
    if (!allowed_.empty()) {
        const int known = std::min(vocab, static_cast<int>(allowed_.size() * 32));
        for (int id = 0; id < known; ++id) {
            if ((allowed_[id / 32] >> (id % 32) & 1u) == 0) logits[id] = kBanned;
        }
        for (int id = known; id < vocab; ++id) logits[id] = kBanned;
    } else if (generated_ < p.min_tokens) {
        for (const int id : p.end_ids) {
            if (id >= 0 && id < vocab) logits[id] = kBanned;
        }
    }
}

Sampled Sampler::sample(const KernelSet& kernels, float* logits, int vocab, std::vector<float>& weights) const {
    Sampled result;
    RowMaximum best = kernels.row_maximum(logits, vocab);
    if (!best.finite) {
        result.finite = false;
        return result;
    }
    adjust(logits, vocab);
    best = kernels.row_maximum(logits, vocab);
    if (!best.finite || best.value <= kBanned) {
        result.finite = false;  // no number to go by, or no token that may come
        return result;
    }
    result.token =
        parameters_.temperature == 0.0f ? best.index : choose(kernels, logits, best.value, vocab, weights);
    if (parameters_.logprobs < 0) return result;

    weights.resize(vocab);
    const double sum = kernels.exponentials(logits, best.value, 1.0f, weights.data(), vocab);
    const double log_sum = best.value + portable_log(sum);
    result.logprob = static_cast<float>(logits[result.token] - log_sum);
    std::vector<Candidate> order(vocab);
    for (int id = 0; id < vocab; ++id) order[id] = {logits[id], 0.0f, id};
    const int count = std::min(parameters_.logprobs, vocab);
    std::partial_sort(order.begin(), order.begin() + count, order.end(), before<Candidate>);
    for (int i = 0; i < count; ++i) result.top.emplace_back(order[i].id, static_cast<float>(order[i].logit - log_sum));
    return result;
}

// The candidates that top_k and top_p leave, in order. Weights fall with logits, so all at or above a threshold are a
// prefix of the order: only as many as are needed get sorted.
std::vector<Sampler::Candidate> Sampler::best_candidates(const float* logits, const float* weights, double total,
                                                         int vocab) const {
    const auto& p = parameters_;
    const bool by_count = p.top_k > 0 && p.top_k < vocab;
    std::vector<Candidate> candidates;
    for (const float threshold : {0x1.0p-8f, 0x1.0p-16f, 0.0f}) {
        candidates.clear();
        double mass = 0.0;
        for (int id = 0; id < vocab; ++id) {
            if (weights[id] < threshold || logits[id] <= kBanned) continue;
            candidates.push_back({logits[id], weights[id], id});
            mass += weights[id];
        }
        const bool enough = by_count ? static_cast<int>(candidates.size()) >= p.top_k
                                     : p.typical_p >= 1.0f && mass >= static_cast<double>(p.top_p) * total * 1.0001;
        if (enough) break;
    }
    if (by_count && static_cast<int>(candidates.size()) > p.top_k) {
        std::nth_element(candidates.begin(), candidates.begin() + (p.top_k - 1), candidates.end(), before<Candidate>);
        candidates.resize(p.top_k);
    }
    std::sort(candidates.begin(), candidates.end(), before<Candidate>);
    if (by_count) {
        total = 0.0;
        for (const auto& c : candidates) total += c.weight;
    }
    if (p.top_p < 1.0f) {
        double mass = 0.0;
        std::size_t kept = 0;
        while (kept < candidates.size() && (kept == 0 || mass < static_cast<double>(p.top_p) * total)) {
            mass += candidates[kept++].weight;
        }
        candidates.resize(kept);
    }
    return candidates;
}

// Locally typical sampling (Meister et al. 2022): the tokens whose information is closest to the entropy.
void Sampler::keep_typical(std::vector<Candidate>& candidates, float best) const {
    double total = 0.0;
    for (const auto& c : candidates) total += c.weight;
    const double log_total = portable_log(total);
    const float inverse = 1.0f / std::max(parameters_.temperature, kLeastTemperature);
    struct Distance {
        double distance;
        std::size_t index;
    };
    std::vector<Distance> order(candidates.size());
    double entropy = 0.0;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
        const double information = log_total - static_cast<double>((candidates[i].logit - best) * inverse);
        order[i] = {information, i};
        entropy += candidates[i].weight / total * information;
    }
    for (auto& o : order) o.distance = o.distance > entropy ? o.distance - entropy : entropy - o.distance;
    std::sort(order.begin(), order.end(), [](const Distance& a, const Distance& b) {
        return a.distance != b.distance ? a.distance < b.distance : a.index < b.index;
    });
    double mass = 0.0;
    std::vector<Candidate> kept;
    for (const auto& o : order) {
        if (!kept.empty() && mass >= static_cast<double>(parameters_.typical_p) * total) break;
        mass += candidates[o.index].weight;
        kept.push_back(candidates[o.index]);
    }
    std::sort(kept.begin(), kept.end(), before<Candidate>);
    candidates = std::move(kept);
}

int Sampler::choose(const KernelSet& kernels, const float* logits, float best, int vocab,
                    std::vector<float>& weights) const {
    const auto& p = parameters_;
    weights.resize(vocab);
    const float inverse = 1.0f / std::max(p.temperature, kLeastTemperature);
    const double total = kernels.exponentials(logits, best, inverse, weights.data(), vocab);
    const double u = philox_uniform(p.seed, static_cast<std::uint64_t>(generated_));
    const bool truncated = (p.top_k > 0 && p.top_k < vocab) || p.top_p < 1.0f || p.min_p > 0.0f || p.typical_p < 1.0f;
    if (!truncated) {
        double sum = 0.0;
        for (int id = 0; id < vocab; ++id) {
            if (logits[id] > kBanned) sum += weights[id];
        }
        double mass = 0.0;
        int last = 0;
        for (int id = 0; id < vocab; ++id) {
            if (logits[id] <= kBanned) continue;
            mass += weights[id];
            last = id;
            if (mass > u * sum) return id;
        }
        return last;
    }
    std::vector<Candidate> candidates = best_candidates(logits, weights.data(), total, vocab);
    if (p.min_p > 0.0f) {
        const float least = p.min_p * candidates[0].weight;
        while (candidates.size() > 1 && candidates.back().weight < least) candidates.pop_back();
    }
    if (p.typical_p < 1.0f) keep_typical(candidates, best);
    double sum = 0.0;
    for (const auto& c : candidates) sum += c.weight;
    double mass = 0.0;
    for (const auto& c : candidates) {
        mass += c.weight;
        if (mass > u * sum) return c.id;
    }
    return candidates.back().id;
}

}  // namespace minivault
