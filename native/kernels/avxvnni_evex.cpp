// 256-bit VNNI encoded as EVEX, for processors with AVX-512-VNNI.
#include <immintrin.h>

#include <cstring>
#include <limits>

#include "kernels.hpp"

namespace minivault {
namespace avxvnni_evex {

static inline __m256i dot_four(__m256i sum, __m256i bytes, __m256i signed_bytes) {
    return _mm256_dpbusd_epi32(sum, bytes, signed_bytes);
}

#include "avxvnni.inl"

}  // namespace avxvnni_evex

const KernelSet* avxvnni_evex_kernels() { return &avxvnni_evex::table; }

}  // namespace minivault
