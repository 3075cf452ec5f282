// The table of compute kernels that each instruction set fills in. Knows nothing of models, threads or Python.
//
// Contract: for the same input every KernelSet gives the same bits. `scalar` is the definition; the others are checked
// against it. Integer dot products are exact in any order; every float operation below has one fixed order.
#pragma once

#include <cstddef>
#include <cstdint>

namespace minivault {

// Columns of a panel of packed weights, activations per quantisation group, positions in a block of KV cache.
inline constexpr int kColumns = 32;
inline constexpr int kGroup = 32;
inline constexpr int kBlock = 16;
inline constexpr int kLanes = 16;
// Queries that share one walk over the keys and values of an attention tile.
inline constexpr int kMaxQueries = 16;

// Activations quantised per row and group of 32: value = scale * q, q in [-127, 127].
// `data` is laid out as the kernel set likes it: `activation_bytes` bytes for each element, rows `stride` elements apart.
struct QuantizedRows {
    std::uint8_t* data;
    float* scales;          // [rows, groups]
    std::int32_t* offsets;  // [rows, groups], -128 * sum of q over the group
    int groups;             // groups in a row; stride is 32 * groups
};

// A panel: 32 output columns of an INT8 matrix: [groups * 8][32 columns][4 consecutive k], each w + 128.
struct Int8Panel {
    const std::uint8_t* data;
    const float* scales;      // [32]
    const float* bias;        // [32] or null
    const std::uint8_t* next; // where the next panel starts, for prefetching; may equal `data`
};

// A panel of an INT4 matrix: [groups * 4][32 columns][4 bytes]. A byte's low nibble is the weight
// of k = 8 j + i, its high nibble that of 8 j + 4 + i, each w + 8, w in [-8, 7]; a scale for each group and column.
struct Int4Panel {
    const std::uint8_t* data;
    const std::uint16_t* scales;  // [groups][32], binary16
    const float* bias;            // [32] or null
    const std::uint8_t* next;
};

// A panel of a float matrix: [k][32].
struct FloatPanel {
    const float* data;
    const float* bias;  // [32] or null
};

// Queries of one KV head of one sequence. Query i sees positions first[i] <= t < last[i].
struct AttentionTile {
    int queries;
    const float* q[kMaxQueries];  // [head_dim]
    float* out[kMaxQueries];      // [head_dim]
    int first[kMaxQueries];
    int last[kMaxQueries];
    int head_dim;
    float scale;
    float softcap;                // scores become softcap * tanh(score / softcap); 0: none
    const void* keys;             // of this layer and KV head: block b at b * key_stride elements, [head_dim][16]
    const void* values;           // likewise, [16][padded head_dim]
    std::ptrdiff_t key_stride;
    std::ptrdiff_t value_stride;
    const std::int32_t* block_table;
    float* scores;                // scratch, [queries][score_stride]
    std::ptrdiff_t score_stride;  // a multiple of 16, at least the last position rounded up to 32
};

struct RowMaximum {
    float value;
    int index;    // lowest index that holds the maximum
    bool finite;  // false if any entry is Inf or NaN
};

struct KernelSet {
    const char* name;
    int activation_bytes;

    // Quantises elements [group_begin * 32, group_end * 32) of one row.
    void (*quantize)(const float* x, int row, int group_begin, int group_end, const QuantizedRows& out);
    // out[r][0..32) = a[r] . panel * scale (+ bias) (+ out[r] before, when `accumulate`), r in [0, rows).
    void (*gemm_int8)(const Int8Panel& panel, const QuantizedRows& a, int rows, float* out, std::ptrdiff_t stride,
                      bool accumulate);
    // Likewise with a scale for each group: the sum over groups of dot * (activation scale * weight scale).
    void (*gemm_int4)(const Int4Panel& panel, const QuantizedRows& a, int rows, float* out, std::ptrdiff_t stride,
                      bool accumulate);
    void (*gemm_f32)(const FloatPanel& panel, const float* a, std::ptrdiff_t a_stride, int k, int rows, float* out,
                     std::ptrdiff_t stride, bool accumulate);

    // Sums over n values in 16 lanes and one tree.
    float (*sum)(const float* x, int n);
    float (*sum_of_squares)(const float* x, float shift, int n);  // of x - shift
    // y = (x - shift) * factor * weight (+ bias)
    void (*normalize)(const float* x, float shift, float factor, const float* weight, const float* bias, float* y,
                      int n);
    void (*silu_times)(const float* gate, const float* up, float* y, int n);
    void (*gelu_tanh_times)(const float* gate, const float* up, float* y, int n);
    void (*gelu_tanh)(const float* x, float* y, int n);
    void (*gelu)(const float* x, float* y, int n);
    void (*softcap)(float* x, float cap, int n);  // x = cap * tanh(x / cap)

    void (*attention_f16)(const AttentionTile& tile);
    void (*attention_f32)(const AttentionTile& tile);
    void (*store_f16)(const float* x, std::uint16_t* y, int n);

    // y = exp((x - shift) * factor) for n values (any n); the sum over 16 lanes and one tree is returned.
    float (*exponentials)(const float* x, float shift, float factor, float* y, int n);
    RowMaximum (*row_maximum)(const float* x, int n);
};

const KernelSet* scalar_kernels();
// Each is linked in only where its processor's family is built for.
const KernelSet* avx2_kernels();
const KernelSet* avxvnni_kernels();
const KernelSet* avxvnni_evex_kernels();
const KernelSet* avx512_kernels();
const KernelSet* neon_kernels();
const KernelSet* neondot_kernels();
const KernelSet* neoni8mm_kernels();

}  // namespace minivault
