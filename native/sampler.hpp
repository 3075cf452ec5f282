// From logits to a token: a function of logits, parameters, history, seed and position, and of nothing else.
// Knows nothing of batches, threads or text.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "kernels/kernels.hpp"

namespace minivault {

struct SamplingParameters {
    float temperature = 1.0f;  // 0: argmax
    int top_k = 0;             // 0: off
    float top_p = 1.0f;
    float min_p = 0.0f;
    float typical_p = 1.0f;
    float repetition_penalty = 1.0f;
    float presence_penalty = 0.0f;
    float frequency_penalty = 0.0f;
    std::uint64_t seed = 0;
    int min_tokens = 0;
    int logprobs = -1;  // -1: none; n: the chosen token's and the n best
    std::vector<std::pair<int, float>> logit_bias;
    std::vector<int> end_ids;  // not chosen before `min_tokens`
};

struct Sampled {
    int token = -1;
    bool finite = true;  // false: the logits held Inf or NaN and no token was chosen
    float logprob = 0.0f;
    std::vector<std::pair<int, float>> top;
};

class Sampler {
  public:
    Sampler(SamplingParameters parameters, const std::vector<int>& prompt);

    int generated() const { return generated_; }
    // Chooses the token that follows; `logits` [vocab] is scratch afterwards. Does not remember its choice.
    Sampled sample(const KernelSet& kernels, float* logits, int vocab, std::vector<float>& weights) const;
    // Remembers a token as generated.
    void accept(int token);
    // Bit i of the mask says whether token i may be chosen next; holds until the next `accept`.
    void allow(std::vector<std::uint32_t> mask) { allowed_ = std::move(mask); }

  private:
    struct Candidate {
        float logit;
        float weight;
        int id;
    };

    void adjust(float* logits, int vocab) const;
    int choose(const KernelSet& kernels, const float* logits, float best, int vocab, std::vector<float>& weights) const;
    std::vector<Candidate> best_candidates(const float* logits, const float* weights, double total, int vocab) const;
    void keep_typical(std::vector<Candidate>& candidates, float best) const;

    SamplingParameters parameters_;
    std::unordered_set<int> seen_;           // prompt and answer, for the repetition penalty
    std::unordered_map<int, int> counts_;    // answer alone
    std::vector<std::uint32_t> allowed_;     // empty: everything
    int generated_ = 0;
};

// Uniform in [0, 1) from Philox 4x32-10, keyed by seed, counted by position.
double philox_uniform(std::uint64_t seed, std::uint64_t position);

}  // namespace minivault
