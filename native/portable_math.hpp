// exp, log, sin and cos in double precision by our own few lines, so that no libm decides a bit. Accurate to a few 1e-16,
// far below the float they are rounded to. Knows nothing of vectors; only tables and single values come from here.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace minivault {

inline double nearest(double x) {
    constexpr double kMagic = 6755399441055744.0;  // 1.5 * 2^52: rounds to nearest even for |x| < 2^51
    return (x + kMagic) - kMagic;
}

inline double scale_by_power_of_two(double x, int n) {
    const std::uint64_t bits = static_cast<std::uint64_t>(n + 1023) << 52;
    double factor;
    std::memcpy(&factor, &bits, 8);
    return x * factor;
}

// For |x| < 700.
inline double portable_exp(double x) {
    const double n = nearest(x * 1.44269504088896340736);
    const double r = std::fma(n, -1.90821492927058770002e-10, std::fma(n, -6.93147180369123816490e-01, x));
    double p = 1.0;
    for (int i = 18; i >= 1; --i) p = 1.0 + p * r / i;
    return scale_by_power_of_two(p, static_cast<int>(n));
}

// For normal x > 0.
inline double portable_log(double x) {
    std::uint64_t bits;
    std::memcpy(&bits, &x, 8);
    int exponent = static_cast<int>(bits >> 52) - 1023;
    bits = (bits & 0x000fffffffffffffu) | 0x3ff0000000000000u;
    double m;
    std::memcpy(&m, &bits, 8);
    if (m > 1.41421356237309504880) {
        m = m * 0.5;
        ++exponent;
    }
    const double s = (m - 1.0) / (m + 1.0);
    const double s2 = s * s;
    double p = 0.0;
    for (int i = 23; i >= 1; i -= 2) p = p * s2 + 1.0 / i;
    return exponent * 0.69314718055994530942 + 2.0 * s * p;
}

// For |x| < 2^30.
inline void portable_sincos(double x, double* sine, double* cosine) {
    const double n = nearest(x * 0.63661977236758134308);
    double r = std::fma(n, -1.5707963267341256, x);
    r = std::fma(n, -6.0771005065061922e-11, r);
    const double r2 = r * r;
    double s = 0.0;
    for (int i = 19; i >= 3; i -= 2) s = (1.0 + s) * (-r2 / (i * (i - 1)));
    const double sin_r = r + r * s;
    double c = 0.0;
    for (int i = 20; i >= 2; i -= 2) c = (1.0 + c) * (-r2 / (i * (i - 1)));
    const double cos_r = 1.0 + c;
    switch (static_cast<std::int64_t>(n) & 3) {
        case 0: *sine = sin_r; *cosine = cos_r; break;
        case 1: *sine = cos_r; *cosine = -sin_r; break;
        case 2: *sine = -sin_r; *cosine = -cos_r; break;
        default: *sine = -cos_r; *cosine = sin_r; break;
    }
}

}  // namespace minivault
