// NEON with the dot product extension (ARMv8.2 DotProd): `sdot` sums four products of signed bytes.
#include <arm_neon.h>

#include <cstring>
#include <limits>

#include "kernels.hpp"

namespace minivault {
namespace neondot {

static constexpr const char* kName = "neondot";

using Weights = int8x16_t;
static constexpr bool kUnsignedWeights = false;

static inline Weights weights(uint8x16_t w) { return vreinterpretq_s8_u8(veorq_u8(w, vdupq_n_u8(0x80))); }
static inline Weights nibbles(uint8x16_t w) { return vsubq_s8(vreinterpretq_s8_u8(w), vdupq_n_s8(8)); }

template <int kLane>
static inline int32x4_t dot_quad(int32x4_t sum, Weights w, int8x16_t activations) {
    return vdotq_laneq_s32(sum, w, activations, kLane);
}

#include "neon.inl"

}  // namespace neondot

const KernelSet* neondot_kernels() { return &neondot::table; }

}  // namespace minivault
