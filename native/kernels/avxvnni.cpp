// 256-bit VNNI encoded as VEX, for processors with AVX-VNNI.
#include <immintrin.h>

#include <cstring>
#include <limits>

#include "kernels.hpp"

namespace minivault {
namespace avxvnni {

static inline __m256i dot_four(__m256i sum, __m256i bytes, __m256i signed_bytes) {
    return _mm256_dpbusd_avx_epi32(sum, bytes, signed_bytes);
}

#include "avxvnni.inl"

}  // namespace avxvnni

const KernelSet* avxvnni_kernels() { return &avxvnni::table; }

}  // namespace minivault
