#include "binding_values.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace nb = nanobind;

namespace minivault {
namespace {

#if defined(__x86_64__)

#if defined(_WIN32)

// What zig links for `__builtin_cpu_supports` sees nothing. Bits of CPUID leaves 1 and 7, and of what the system saves.
bool has_bits(unsigned leaf7, unsigned leaf7_more, unsigned saved) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    constexpr unsigned kFma = 1u << 12, kSaves = 1u << 27, kF16c = 1u << 29;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & (kFma | kSaves | kF16c)) != (kFma | kSaves | kF16c)) return false;
    unsigned low = 0, high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & saved) == saved && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & leaf7) == leaf7 &&
           (c & leaf7_more) == leaf7_more;
}

constexpr unsigned kAvx2 = 1u << 5, kAvx512f = 1u << 16, kAvx512dq = 1u << 17, kAvx512bw = 1u << 30, kAvx512vl = 1u << 31;
constexpr unsigned kAvx512vnni = 1u << 11, kSaved256 = 0x6, kSaved512 = 0xe6;

bool has_avx2() { return has_bits(kAvx2, 0, kSaved256); }
bool has_avx512_vnni() { return has_bits(kAvx2 | kAvx512f | kAvx512vl, kAvx512vnni, kSaved512); }
bool has_avx512_words() { return has_bits(kAvx512bw | kAvx512dq, 0, kSaved512); }

#else

bool has_avx2() {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

// Whether 256-bit products of bytes come encoded as EVEX; 512-bit ones need more.
bool has_avx512_vnni() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

bool has_avx512_words() { return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"); }

#endif

// CPUID leaf 7, subleaf 1: bit 4 of EAX.
bool has_avx_vnni() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
}

const KernelSet* find_kernels(const std::string& name) {
    if (name == "avx512" && has_avx512_vnni() && has_avx512_words()) return avx512_kernels();
    if (name == "avxvnni" && has_avx_vnni()) return avxvnni_kernels();
    if (name == "avxvnni" && has_avx512_vnni()) return avxvnni_evex_kernels();
    if (name == "avx2" && has_avx2()) return avx2_kernels();
    return name == "scalar" ? scalar_kernels() : nullptr;
}

#elif defined(__aarch64__)

#if defined(__linux__)
bool has_dotprod() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
bool has_i8mm() { return (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0; }
#elif defined(__APPLE__)
bool has_feature(const char* name) {
    int value = 0;
    std::size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool has_dotprod() { return has_feature("hw.optional.arm.FEAT_DotProd"); }
bool has_i8mm() { return has_feature("hw.optional.arm.FEAT_I8MM"); }
#else
bool has_dotprod() { return false; }
bool has_i8mm() { return false; }
#endif

const KernelSet* find_kernels(const std::string& name) {
    if (name == "neoni8mm" && has_i8mm()) return neoni8mm_kernels();
    if (name == "neondot" && has_dotprod()) return neondot_kernels();
    if (name == "neon") return neon_kernels();
    return name == "scalar" ? scalar_kernels() : nullptr;
}

#else

const KernelSet* find_kernels(const std::string& name) { return name == "scalar" ? scalar_kernels() : nullptr; }

#endif

}  // namespace

std::vector<std::string> available_kernels() {
    std::vector<std::string> names;
    for (const char* name : {"avx512", "avxvnni", "avx2", "neoni8mm", "neondot", "neon", "scalar"}) {
        if (find_kernels(name) != nullptr) names.emplace_back(name);
    }
    return names;
}

const KernelSet& kernels_named(const std::string& name) {
    const KernelSet* set = find_kernels(name);
    require(set != nullptr, "this machine has no such kernels");
    return *set;
}

DType parse_dtype(const std::string& name) {
    if (name == "F32") return DType::f32;
    if (name == "F16") return DType::f16;
    if (name == "BF16") return DType::bf16;
    throw std::invalid_argument("dtype must be F32, F16 or BF16");
}

Lane parse_lane(const std::string& name) {
    return parse_word<Lane>(name, {{"int8", Lane::int8}, {"int4", Lane::int4}, {"f32", Lane::f32}});
}

Pooling parse_pooling(const std::string& name) {
    return parse_word<Pooling>(name, {{"mean", Pooling::mean},
                                      {"cls", Pooling::cls},
                                      {"last", Pooling::last},
                                      {"max", Pooling::max},
                                      {"mean_sqrt_len", Pooling::mean_sqrt_len}});
}

std::vector<float> to_vector(const Floats& values) {
    return std::vector<float>(values.data(), values.data() + values.size());
}

std::vector<Source> parse_sources(const std::vector<PySource>& sources, int inputs) {
    std::vector<Source> list;
    for (const auto& [data, dtype, transposed, stored_out, row_start, rows, bias] : sources) {
        const DType type = parse_dtype(dtype);
        require(rows > 0 && row_start >= 0 && row_start + rows <= stored_out && inputs > 0 &&
                data.size() == item_size(type) * stored_out * inputs, "a matrix's shape and bytes do not agree");
        require(!bias || bias->size() == static_cast<std::size_t>(rows), "a bias must have an entry for each output");
        list.push_back({data.data(), type, transposed, stored_out, row_start, rows,
                        bias ? to_vector(*bias) : std::vector<float>{}});
    }
    return list;
}

std::unique_ptr<Table> parse_table(const Bytes& data, const std::string& dtype, int rows, int columns) {
    const DType type = parse_dtype(dtype);
    require(rows > 0 && columns > 0 && data.size() == item_size(type) * rows * columns,
            "a table's shape and bytes do not agree");
    return std::make_unique<Table>(data.data(), type, rows, columns);
}

static nb::ndarray<nb::numpy, float> owned(std::initializer_list<std::size_t> shape, std::size_t size) {
    auto* values = new float[size];
    const nb::capsule owner(values, [](void* p) noexcept { delete[] static_cast<float*>(p); });
    return nb::ndarray<nb::numpy, float>(values, shape, owner);
}

nb::ndarray<nb::numpy, float> new_array(std::size_t rows, std::size_t columns) {
    return owned({rows, columns}, rows * columns);
}

nb::ndarray<nb::numpy, float> new_vector(std::size_t size) { return owned({size}, size); }

}  // namespace minivault
