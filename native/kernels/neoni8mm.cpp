// NEON with I8MM: `usdot` takes the weights unsigned, as they are stored.
#include <arm_neon.h>

#include <cstring>
#include <limits>

#include "kernels.hpp"

namespace minivault {
namespace neoni8mm {

static constexpr const char* kName = "neoni8mm";

using Weights = uint8x16_t;
static constexpr bool kUnsignedWeights = true;

static inline Weights weights(uint8x16_t w) { return w; }
static inline Weights nibbles(uint8x16_t w) { return w; }

template <int kLane>
static inline int32x4_t dot_quad(int32x4_t sum, Weights w, int8x16_t activations) {
    // The by-element form takes its bytes the other way round (`sudot`), so the quad is spread first.
    const int8x16_t x = vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(activations), kLane));
    return vusdotq_s32(sum, w, x);
}

#include "neon.inl"

}  // namespace neoni8mm

const KernelSet* neoni8mm_kernels() { return &neoni8mm::table; }

}  // namespace minivault
