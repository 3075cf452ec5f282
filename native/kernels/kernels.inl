// The float kernels, written once over a vector of 16 lanes, `V`, that each instruction set defines before it includes
// this file, in a namespace of its own. Each V operation is one IEEE operation per lane, so all sets give equal bits.
//
// V operations used: load, load_f16, store, store_f16, set1, add, sub, mul, div, fma (a * b + c, one rounding),
// maximum (a > b ? a : b), minimum (a < b ? a : b), add_exponent (adds the low bits of t to the exponents of p),
// absolute, maximum_bits (as signed integers). All take and give values.

// Fixed tree over the 16 lanes.
static inline float tree_sum(V v) {
    alignas(64) float s[kLanes];
    store(s, v);
    for (int width = kLanes / 2; width > 0; width /= 2) {
        for (int i = 0; i < width; ++i) s[i] = s[i] + s[i + width];
    }
    return s[0];
}

// exp(x) for x clamped to [-86, 88]; Cody-Waite reduction and the classical degree 5 polynomial, about 1 ulp.
static inline V exponential(V x) {
    x = maximum(minimum(x, set1(88.0f)), set1(-86.0f));
    const V magic = set1(12582912.0f);
    const V t = fma(x, set1(1.44269504088896341f), magic);
    const V n = sub(t, magic);
    V r = fma(n, set1(-0.693359375f), x);
    r = fma(n, set1(2.12194440e-4f), r);
    V p = set1(1.9875691500e-4f);
    p = fma(p, r, set1(1.3981999507e-3f));
    p = fma(p, r, set1(8.3334519073e-3f));
    p = fma(p, r, set1(4.1665795894e-2f));
    p = fma(p, r, set1(1.6666665459e-1f));
    p = fma(p, r, set1(5.0000001201e-1f));
    p = fma(p, mul(r, r), add(r, set1(1.0f)));
    return add_exponent(p, t);
}

// The last n < 16 values of a row, `fill` behind them.
static inline V load_tail(const float* p, int n, float fill) {
    alignas(64) float lane[kLanes];
    for (int i = 0; i < kLanes; ++i) lane[i] = i < n ? p[i] : fill;
    return load(lane);
}

static inline void store_tail(float* p, V v, int n) {
    alignas(64) float lane[kLanes];
    store(lane, v);
    for (int i = 0; i < n; ++i) p[i] = lane[i];
}

static float sum(const float* x, int n) {
    V s = set1(0.0f);
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) s = add(s, load(x + i));
    if (i < n) s = add(s, load_tail(x + i, n - i, 0.0f));
    return tree_sum(s);
}

static float sum_of_squares(const float* x, float shift, int n) {
    V s = set1(0.0f);
    const V c = set1(shift);
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        const V d = sub(load(x + i), c);
        s = fma(d, d, s);
    }
    if (i < n) {
        const V d = sub(load_tail(x + i, n - i, shift), c);
        s = fma(d, d, s);
    }
    return tree_sum(s);
}

static void normalize(const float* x, float shift, float factor, const float* weight, const float* bias, float* y,
                      int n) {
    const V c = set1(shift);
    const V f = set1(factor);
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        V v = mul(mul(sub(load(x + i), c), f), load(weight + i));
        if (bias != nullptr) v = add(v, load(bias + i));
        store(y + i, v);
    }
    if (i < n) {
        V v = mul(mul(sub(load_tail(x + i, n - i, 0.0f), c), f), load_tail(weight + i, n - i, 0.0f));
        if (bias != nullptr) v = add(v, load_tail(bias + i, n - i, 0.0f));
        store_tail(y + i, v, n - i);
    }
}

static inline V silu(V g) {
    return div(g, add(set1(1.0f), exponential(sub(set1(0.0f), g))));
}

static void silu_times(const float* gate, const float* up, float* y, int n) {
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) store(y + i, mul(silu(load(gate + i)), load(up + i)));
    if (i < n) {
        store_tail(y + i, mul(silu(load_tail(gate + i, n - i, 0.0f)), load_tail(up + i, n - i, 0.0f)), n - i);
    }
}

// For x that is not NaN; `exponential` would take NaN for a large number.
static inline V hyperbolic_tangent(V x) {
    return sub(set1(1.0f), div(set1(2.0f), add(exponential(add(x, x)), set1(1.0f))));
}

static inline V gelu_by_tanh(V v) {
    const V cube = mul(mul(v, v), v);
    const V u = mul(set1(0.797884560802865f), fma(set1(0.044715f), cube, v));
    return mul(mul(set1(0.5f), v), add(set1(1.0f), hyperbolic_tangent(u)));
}

// x * Phi(x) = max(x, 0) - |x| erfc(|x| / sqrt 2) / 2, with erfc by Abramowitz and Stegun 7.1.26 (error below 1.5e-7).
static inline V gelu_by_erf(V v) {
    const V size = absolute(v);
    const V z = mul(size, set1(0.707106781186547524f));
    const V t = div(set1(1.0f), fma(set1(0.3275911f), z, set1(1.0f)));
    V p = set1(1.061405429f);
    p = fma(p, t, set1(-1.453152027f));
    p = fma(p, t, set1(1.421413741f));
    p = fma(p, t, set1(-0.284496736f));
    p = fma(p, t, set1(0.254829592f));
    const V erfc = mul(mul(p, t), exponential(sub(set1(0.0f), mul(z, z))));
    return sub(maximum(v, set1(0.0f)), mul(mul(set1(0.5f), size), erfc));
}

static void gelu_tanh_times(const float* gate, const float* up, float* y, int n) {
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) store(y + i, mul(gelu_by_tanh(load(gate + i)), load(up + i)));
    if (i < n) {
        store_tail(y + i, mul(gelu_by_tanh(load_tail(gate + i, n - i, 0.0f)), load_tail(up + i, n - i, 0.0f)), n - i);
    }
}

static void gelu_tanh(const float* x, float* y, int n) {
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) store(y + i, gelu_by_tanh(load(x + i)));
    if (i < n) store_tail(y + i, gelu_by_tanh(load_tail(x + i, n - i, 0.0f)), n - i);
}

static void gelu(const float* x, float* y, int n) {
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) store(y + i, gelu_by_erf(load(x + i)));
    if (i < n) store_tail(y + i, gelu_by_erf(load_tail(x + i, n - i, 0.0f)), n - i);
}

// x * 0 is NaN for NaN and infinity, and adds nothing else: what is not a number stays so.
static inline V capped(V x, V cap) { return add(mul(cap, hyperbolic_tangent(div(x, cap))), mul(x, set1(0.0f))); }

static void softcap(float* x, float cap, int n) {
    const V c = set1(cap);
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) store(x + i, capped(load(x + i), c));
    if (i < n) store_tail(x + i, capped(load_tail(x + i, n - i, 0.0f), c), n - i);
}

static void store_half(const float* x, std::uint16_t* y, int n) {
    // Saturates, but keeps NaN: in that order, `maximum` and `minimum` give their second argument for NaN.
    for (int i = 0; i < n; i += kLanes) {
        const V v = load(x + i);
        store_f16(y + i, minimum(set1(65504.0f), maximum(set1(-65504.0f), v)));
    }
}

static float exponentials(const float* x, float shift, float factor, float* y, int n) {
    const V c = set1(shift);
    const V f = set1(factor);
    V s = set1(0.0f);
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        const V e = exponential(mul(sub(load(x + i), c), f));
        store(y + i, e);
        s = add(s, e);
    }
    if (i < n) {
        alignas(64) float tail[kLanes];
        store(tail, exponential(mul(sub(load_tail(x + i, n - i, shift), c), f)));
        for (int j = n - i; j < kLanes; ++j) tail[j] = 0.0f;
        for (int j = 0; i + j < n; ++j) y[i + j] = tail[j];
        s = add(s, load(tail));
    }
    return tree_sum(s);
}

static RowMaximum row_maximum(const float* x, int n) {
    V best = set1(x[0]);
    V bits = absolute(best);
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        const V v = load(x + i);
        best = maximum(v, best);
        bits = maximum_bits(bits, absolute(v));
    }
    alignas(64) float lane[kLanes];
    alignas(64) std::int32_t lane_bits[kLanes];
    store(lane, best);
    store(reinterpret_cast<float*>(lane_bits), bits);
    float value = lane[0];
    std::int32_t most = lane_bits[0];
    for (int j = 1; j < kLanes; ++j) {
        if (lane[j] > value) value = lane[j];
        if (lane_bits[j] > most) most = lane_bits[j];
    }
    for (; i < n; ++i) {
        if (x[i] > value) value = x[i];
        std::int32_t b;
        std::memcpy(&b, x + i, 4);
        b &= 0x7fffffff;
        if (b > most) most = b;
    }
    const bool finite = most < 0x7f800000;
    int index = 0;
    if (finite) {
        while (x[index] != value) ++index;
    }
    return {value, index, finite};
}

struct Half {
    using Element = std::uint16_t;
    static inline V read(const Element* p) { return load_f16(p); }
};
struct Single {
    using Element = float;
    static inline V read(const Element* p) { return load(p); }
};

// Scores of Q queries against B blocks of 16 positions: one chain over head_dim for each (query, position).
template <class Kv, int Q, int B>
static inline void score_blocks(const AttentionTile& tile, const typename Kv::Element* const* keys, const int* query,
                                int position) {
    V acc[Q][B];
    for (int q = 0; q < Q; ++q) {
        for (int b = 0; b < B; ++b) acc[q][b] = set1(0.0f);
    }
    for (int d = 0; d < tile.head_dim; ++d) {
        V k[B];
        for (int b = 0; b < B; ++b) k[b] = Kv::read(keys[b] + d * kBlock);
        for (int q = 0; q < Q; ++q) {
            const V x = set1(tile.q[query[q]][d]);
            for (int b = 0; b < B; ++b) acc[q][b] = fma(x, k[b], acc[q][b]);
        }
    }
    const V scale = set1(tile.scale);
    for (int q = 0; q < Q; ++q) {
        float* row = tile.scores + query[q] * tile.score_stride + position;
        for (int b = 0; b < B; ++b) store(row + b * kBlock, mul(acc[q][b], scale));
    }
}

template <class Kv, int Q>
static void score_queries(const AttentionTile& tile, const int* query, int begin, int end) {
    const auto* base = static_cast<const typename Kv::Element*>(tile.keys);
    int b = begin;
    for (; b + 2 <= end; b += 2) {
        const typename Kv::Element* keys[2] = {base + tile.block_table[b] * tile.key_stride,
                                               base + tile.block_table[b + 1] * tile.key_stride};
        score_blocks<Kv, Q, 2>(tile, keys, query, b * kBlock);
    }
    if (b < end) {
        const typename Kv::Element* keys[1] = {base + tile.block_table[b] * tile.key_stride};
        score_blocks<Kv, Q, 1>(tile, keys, query, b * kBlock);
    }
}

// Turns scores into weights that sum to one, in place; zero outside [first, last). Lanes go by absolute position.
static inline void softmax_scores(float* s, int first, int last, float cap) {
    const int begin = first / kBlock * kBlock;
    const int end = (last + kBlock - 1) / kBlock * kBlock;
    if (cap != 0.0f) softcap(s + begin, cap, end - begin);
    for (int t = begin; t < first; ++t) s[t] = -3.4e38f;
    for (int t = last; t < end; ++t) s[t] = -3.4e38f;
    V best = load(s + begin);
    for (int t = begin + kLanes; t < end; t += kLanes) best = maximum(load(s + t), best);
    alignas(64) float lane[kLanes];
    store(lane, best);
    float top = lane[0];
    for (int j = 1; j < kLanes; ++j) top = lane[j] > top ? lane[j] : top;
    const V shift = set1(top);
    for (int t = begin; t < end; t += kLanes) store(s + t, exponential(sub(load(s + t), shift)));
    for (int t = begin; t < first; ++t) s[t] = 0.0f;
    for (int t = last; t < end; ++t) s[t] = 0.0f;
    V total = set1(0.0f);
    for (int t = begin; t < end; t += kLanes) total = add(total, load(s + t));
    const V inverse = set1(1.0f / tree_sum(total));
    for (int t = begin; t < end; t += kLanes) store(s + t, mul(load(s + t), inverse));
}

// out = sum over t of weight[t] * value[t], one chain over t for each (query, dimension), all queries over [begin, end).
template <class Kv, int Q, int D>
static inline void mix_values(const AttentionTile& tile, const int* query, int begin, int end, int dim, V (&acc)[Q][D]) {
    const auto* base = static_cast<const typename Kv::Element*>(tile.values);
    const int width = (tile.head_dim + kLanes - 1) / kLanes * kLanes;
    for (int t = begin; t < end;) {
        const int stop = (t / kBlock + 1) * kBlock < end ? (t / kBlock + 1) * kBlock : end;
        const auto* block = base + tile.block_table[t / kBlock] * tile.value_stride + dim;
        for (; t < stop; ++t) {
            V v[D];
            for (int d = 0; d < D; ++d) v[d] = Kv::read(block + (t % kBlock) * width + d * kLanes);
            for (int q = 0; q < Q; ++q) {
                const V w = set1(tile.scores[query[q] * tile.score_stride + t]);
                for (int d = 0; d < D; ++d) acc[q][d] = fma(w, v[d], acc[q][d]);
            }
        }
    }
}

// Queries of a tile see ranges that may differ at both ends; each walks exactly its own, so that no bit depends on its
// neighbours: first what lies before the common part, then the common part together, then the rest.
template <class Kv, int Q, int D>
static void mix_columns(const AttentionTile& tile, const int* query, int dim) {
    int begin = tile.first[query[0]];
    int end = tile.last[query[0]];
    for (int q = 1; q < Q; ++q) {
        begin = tile.first[query[q]] > begin ? tile.first[query[q]] : begin;
        end = tile.last[query[q]] < end ? tile.last[query[q]] : end;
    }
    if (end < begin) end = begin;
    V acc[Q][D];
    for (int q = 0; q < Q; ++q) {
        V own[1][D];
        for (int d = 0; d < D; ++d) own[0][d] = set1(0.0f);
        const int until = tile.last[query[q]] < begin ? tile.last[query[q]] : begin;
        mix_values<Kv, 1, D>(tile, query + q, tile.first[query[q]], until, dim, own);
        for (int d = 0; d < D; ++d) acc[q][d] = own[0][d];
    }
    mix_values<Kv, Q, D>(tile, query, begin, end, dim, acc);
    for (int q = 0; q < Q; ++q) {
        V own[1][D];
        for (int d = 0; d < D; ++d) own[0][d] = acc[q][d];
        mix_values<Kv, 1, D>(tile, query + q, end, tile.last[query[q]], dim, own);
        for (int d = 0; d < D; ++d) {
            alignas(64) float lane[kLanes];
            store(lane, own[0][d]);
            for (int j = 0; j < kLanes && dim + d * kLanes + j < tile.head_dim; ++j) {
                tile.out[query[q]][dim + d * kLanes + j] = lane[j];
            }
        }
    }
}

template <class Kv, int Q>
static void attend_queries(const AttentionTile& tile, const int* query) {
    int begin = tile.first[query[0]];
    int end = tile.last[query[0]];
    for (int q = 1; q < Q; ++q) {
        begin = tile.first[query[q]] < begin ? tile.first[query[q]] : begin;
        end = tile.last[query[q]] > end ? tile.last[query[q]] : end;
    }
    score_queries<Kv, Q>(tile, query, begin / kBlock, (end + kBlock - 1) / kBlock);
    for (int q = 0; q < Q; ++q) {
        softmax_scores(tile.scores + query[q] * tile.score_stride, tile.first[query[q]], tile.last[query[q]],
                       tile.softcap);
    }
    int dim = 0;
    for (; dim + 4 * kLanes <= tile.head_dim; dim += 4 * kLanes) mix_columns<Kv, Q, 4>(tile, query, dim);
    for (; dim + 2 * kLanes <= tile.head_dim; dim += 2 * kLanes) mix_columns<Kv, Q, 2>(tile, query, dim);
    for (; dim < tile.head_dim; dim += kLanes) mix_columns<Kv, Q, 1>(tile, query, dim);
}

template <class Kv>
static void attention(const AttentionTile& tile) {
    int query[kMaxQueries];
    for (int q = 0; q < tile.queries; ++q) query[q] = q;
    int q = 0;
    for (; q + 4 <= tile.queries; q += 4) attend_queries<Kv, 4>(tile, query + q);
    switch (tile.queries - q) {
        case 3: attend_queries<Kv, 3>(tile, query + q); break;
        case 2: attend_queries<Kv, 2>(tile, query + q); break;
        case 1: attend_queries<Kv, 1>(tile, query + q); break;
        default: break;
    }
}

// Float matrix: one chain over k for each (row, column), from zero; bias, then what was there before, are added last.
template <int R>
static inline void gemm_f32_rows(const FloatPanel& panel, const float* a, std::ptrdiff_t a_stride, int k, float* out,
                                 std::ptrdiff_t stride, bool accumulate) {
    V acc[R][2];
    for (int r = 0; r < R; ++r) acc[r][0] = acc[r][1] = set1(0.0f);
    for (int i = 0; i < k; ++i) {
        const V w0 = load(panel.data + static_cast<std::ptrdiff_t>(i) * kColumns);
        const V w1 = load(panel.data + static_cast<std::ptrdiff_t>(i) * kColumns + kLanes);
        for (int r = 0; r < R; ++r) {
            const V x = set1(a[r * a_stride + i]);
            acc[r][0] = fma(x, w0, acc[r][0]);
            acc[r][1] = fma(x, w1, acc[r][1]);
        }
    }
    for (int r = 0; r < R; ++r) {
        for (int h = 0; h < 2; ++h) {
            float* y = out + r * stride + h * kLanes;
            V v = acc[r][h];
            if (panel.bias != nullptr) v = add(v, load(panel.bias + h * kLanes));
            if (accumulate) v = add(load(y), v);
            store(y, v);
        }
    }
}

static void gemm_f32(const FloatPanel& panel, const float* a, std::ptrdiff_t a_stride, int k, int rows, float* out,
                     std::ptrdiff_t stride, bool accumulate) {
    int r = 0;
    for (; r + 4 <= rows; r += 4) gemm_f32_rows<4>(panel, a + r * a_stride, a_stride, k, out + r * stride, stride, accumulate);
    for (; r < rows; ++r) gemm_f32_rows<1>(panel, a + r * a_stride, a_stride, k, out + r * stride, stride, accumulate);
}

// Scale, bias and accumulation after a dot product: the same three operations, in this order, everywhere.
static inline void finish_columns(V acc, const float* scales, const float* bias, int column, float* y, bool accumulate) {
    V v = scales != nullptr ? mul(acc, load(scales + column)) : acc;
    if (bias != nullptr) v = add(v, load(bias + column));
    if (accumulate) v = add(load(y), v);
    store(y, v);
}

// Largest magnitude of a group as bits, so that NaN and Inf are seen and no order matters.
static inline std::int32_t group_bits(const float* x) {
    const V m = maximum_bits(absolute(load(x)), absolute(load(x + kLanes)));
    alignas(64) std::int32_t lane[kLanes];
    store(reinterpret_cast<float*>(lane), m);
    std::int32_t most = lane[0];
    for (int j = 1; j < kLanes; ++j) most = lane[j] > most ? lane[j] : most;
    return most;
}

struct GroupScale {
    float scale;    // value of one step
    float inverse;  // steps per unit; 0 gives q = 0
};

// A group without magnitude has scale 0; one with Inf or NaN has scale NaN and q = 0, so that the result is NaN.
static inline GroupScale group_scale(std::int32_t bits) {
    if (bits >= 0x7f800000) return {std::numeric_limits<float>::quiet_NaN(), 0.0f};
    float most;
    std::memcpy(&most, &bits, 4);
    if (most < 1e-30f) return {0.0f, 0.0f};
    return {most / 127.0f, 127.0f / most};
}
