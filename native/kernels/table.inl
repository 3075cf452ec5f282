// Fills the table from the functions of the namespace that includes this file.
static const KernelSet table = {
    kName,        kActivationBytes, quantize,        gemm_int8,          gemm_int4,          gemm_f32,   sum,
    sum_of_squares, normalize,      silu_times,      gelu_tanh_times,    gelu_tanh,          gelu,       softcap,
    attention<Half>, attention<Single>, store_half,  exponentials,       row_maximum,
};
