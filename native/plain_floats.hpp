// The mode of floating point that the law counts on. Knows nothing of what is computed in it.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace minivault {

// Round to nearest, no flushing of subnormals: a library that was loaded may have set it otherwise for its thread.
// While one lives, this thread computes so; whatever computes floats that can reach a logit or a vector holds one.
class PlainFloats {
  public:
    PlainFloats(const PlainFloats&) = delete;
    PlainFloats& operator=(const PlainFloats&) = delete;
#if defined(__x86_64__)
    PlainFloats() : saved_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
    ~PlainFloats() { _mm_setcsr(saved_); }

  private:
    unsigned saved_;
#elif defined(__aarch64__)
    PlainFloats() {
        asm volatile("mrs %0, fpcr" : "=r"(saved_));
        asm volatile("msr fpcr, %0" : : "r"(std::uint64_t{0}));
    }
    ~PlainFloats() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }

  private:
    std::uint64_t saved_ = 0;
#else
    PlainFloats() = default;
#endif
};

}  // namespace minivault
