#include "rope.hpp"

#include <algorithm>

#include "portable_math.hpp"

namespace minivault {
namespace {

constexpr double kTwoPi = 6.283185307179586477;

// theta ^ (-2 i / dim), rounded to float as Transformers does.
std::vector<float> plain_frequencies(int dim, double theta) {
    std::vector<float> result(dim / 2);
    const double log_theta = portable_log(theta);
    for (int i = 0; i < dim / 2; ++i) result[i] = static_cast<float>(portable_exp(-2.0 * i / dim * log_theta));
    return result;
}

double llama3(double f, const RopeSpec& s) {
    const double turns = f * s.original_context / kTwoPi;
    if (turns < s.low_freq_factor) return f / s.factor;
    if (turns > s.high_freq_factor) return f;
    const double smooth = (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
    return (1.0 - smooth) * f / s.factor + smooth * f;
}

// The dimension that turns `rotations` times over the original context (Peng et al. 2023).
double yarn_dimension(double rotations, const RopeSpec& s) {
    return s.dim * portable_log(s.original_context / (rotations * kTwoPi)) / (2.0 * portable_log(s.theta));
}

double floor_of(double x) {
    const double n = nearest(x);
    return n > x ? n - 1.0 : n;
}

std::vector<float> frequencies_of(const RopeSpec& s) {
    std::vector<float> result = plain_frequencies(s.dim, s.theta);
    double low = 0.0;
    double high = 0.0;
    if (s.scaling == RopeScaling::yarn) {
        low = yarn_dimension(s.beta_fast, s);
        high = yarn_dimension(s.beta_slow, s);
        if (s.truncate) {
            low = floor_of(low);
            high = -floor_of(-high);
        }
        low = std::max(low, 0.0);
        high = std::min(high, s.dim - 1.0);
        if (low == high) high = high + 0.001;
    }
    for (int i = 0; i < s.dim / 2; ++i) {
        const double f = result[i];
        if (s.scaling == RopeScaling::linear) result[i] = static_cast<float>(f / s.factor);
        if (s.scaling == RopeScaling::llama3) result[i] = static_cast<float>(llama3(f, s));
        if (s.scaling == RopeScaling::yarn) {
            const double ramp = std::min(std::max((i - low) / (high - low), 0.0), 1.0);
            result[i] = static_cast<float>(f / s.factor * ramp + f * (1.0 - ramp));
        }
    }
    return result;
}

}  // namespace

Rope::Rope(const RopeSpec& spec) : spec_(spec), frequencies_(frequencies_of(spec)) {}

void Rope::angles(int position, float* out) const {
    const int half = spec_.dim / 2;
    const std::vector<float>* frequencies = &frequencies_;
    std::vector<float> stretched;
    if (spec_.scaling == RopeScaling::dynamic && position + 1 > spec_.original_context) {
        const double growth = spec_.factor * (position + 1) / spec_.original_context - (spec_.factor - 1.0);
        const double exponent = static_cast<double>(spec_.dim) / (spec_.dim - 2);
        const double theta = spec_.theta * portable_exp(exponent * portable_log(growth));
        stretched = plain_frequencies(spec_.dim, theta);
        frequencies = &stretched;
    }
    const float factor = static_cast<float>(spec_.attention_factor);
    for (int i = 0; i < half; ++i) {
        const float angle = static_cast<float>(position) * (*frequencies)[i];
        double sine, cosine;
        portable_sincos(angle, &sine, &cosine);
        out[i] = static_cast<float>(cosine) * factor;
        out[half + i] = static_cast<float>(sine) * factor;
    }
}

}  // namespace minivault
