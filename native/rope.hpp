// Rotary position embeddings: the angle of each pair of dimensions at each position, in all the scalings that
// checkpoints use. Knows nothing of attention.
#pragma once

#include <vector>

namespace minivault {

enum class RopeScaling { none, linear, llama3, dynamic, yarn };

struct RopeSpec {
    int dim = 0;  // dimensions that are rotated, even
    double theta = 10000.0;
    RopeScaling scaling = RopeScaling::none;
    double factor = 1.0;
    double original_context = 0.0;
    double low_freq_factor = 1.0;   // llama3
    double high_freq_factor = 4.0;  // llama3
    double beta_fast = 32.0;        // yarn
    double beta_slow = 1.0;         // yarn
    bool truncate = true;           // yarn: whole dimensions as the ramp's ends
    double attention_factor = 1.0;  // on sines and cosines
};

class Rope {
  public:
    explicit Rope(const RopeSpec& spec);
    int dim() const { return spec_.dim; }
    // Writes dim / 2 cosines, then dim / 2 sines: a function of the position alone. `dynamic` scaling takes the length
    // up to this position as the length that it depends on, as step-by-step decoding does.
    void angles(int position, float* out) const;

  private:
    RopeSpec spec_;
    std::vector<float> frequencies_;
};

}  // namespace minivault
