// NEON of every AArch64. Dot products through widening multiplies, which every ARMv8 has and which never saturate.
#include <arm_neon.h>

#include <cstring>
#include <limits>

#include "kernels.hpp"

namespace minivault {
namespace neon {

static constexpr const char* kName = "neon";

using Weights = int8x16_t;
static constexpr bool kUnsignedWeights = false;

static inline Weights weights(uint8x16_t w) { return vreinterpretq_s8_u8(veorq_u8(w, vdupq_n_u8(0x80))); }
static inline Weights nibbles(uint8x16_t w) { return vsubq_s8(vreinterpretq_s8_u8(w), vdupq_n_s8(8)); }

// Four columns: products of 8 bits are exact in 16 bits, pairwise sums in 32.
template <int kLane>
static inline int32x4_t dot_quad(int32x4_t sum, Weights w, int8x16_t activations) {
    const int8x16_t x = vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(activations), kLane));
    const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
    const int16x8_t high = vmull_high_s8(w, x);
    return vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
}

#include "neon.inl"

}  // namespace neon

const KernelSet* neon_kernels() { return &neon::table; }

}  // namespace minivault
