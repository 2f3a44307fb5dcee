// The driver table on CUDA and cuBLASLt: librotoscope_cuda.so. Nothing is decided here; kernels are
// in the headers, the order of calls is the backend's (cuda.c).
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/driver.h"
#include "kernels/cuda/pixels.h"
#include "kernels/cuda/rows.h"

// ---- kernels

static __device__ rot_block this_block()
{
    rot_block b = {(int)blockIdx.x, (int)blockIdx.y, (int)blockDim.x / ROT_WARP};
    return b;
}

__global__ void __launch_bounds__(128) norm_kernel(const rot_cuda_norm_args a)
{
    rot_cuda_norm(this_block(), &a);
}

__global__ void __launch_bounds__(256) epilogue_kernel(const rot_cuda_epilogue_args a)
{
    rot_cuda_epilogue(this_block(), &a);
}

__global__ void __launch_bounds__(256) swiglu_kernel(const rot_cuda_swiglu_args a)
{
    rot_cuda_swiglu(this_block(), &a);
}

__global__ void __launch_bounds__(128) rope_kernel(const rot_cuda_rope_args a)
{
    rot_cuda_rope(this_block(), &a);
}

__global__ void __launch_bounds__(256) resample_kernel(const rot_cuda_pixels_args a)
{
    rot_cuda_resample(this_block(), &a);
}

__global__ void __launch_bounds__(128) patches_kernel(const rot_cuda_pixels_args a)
{
    rot_cuda_patches(this_block(), &a);
}

__global__ void __launch_bounds__(128) interpolate_kernel(const rot_cuda_interpolate_args a)
{
    rot_cuda_interpolate(this_block(), &a);
}

template <int PADDED>
__global__ void __launch_bounds__(ROT_ATTENTION_WARPS *ROT_WARP, PADDED <= 64 ? 4 : 1)
    attention_kernel(const rot_cuda_attention_args a)
{
    __shared__ __align__(16) rot_shared shared[ROT_ATTENTION_SHARED(PADDED)];
    rot_cuda_attention(this_block(), &a, PADDED, shared);
}

static const void *kernel_of(rot_cuda_kernel kernel)
{
    switch (kernel) {
    case ROT_CUDA_NORM: return (const void *)norm_kernel;
    case ROT_CUDA_EPILOGUE: return (const void *)epilogue_kernel;
    case ROT_CUDA_SWIGLU: return (const void *)swiglu_kernel;
    case ROT_CUDA_ROPE: return (const void *)rope_kernel;
    case ROT_CUDA_ATTENTION_64: return (const void *)attention_kernel<64>;
    case ROT_CUDA_ATTENTION_80: return (const void *)attention_kernel<80>;
    case ROT_CUDA_ATTENTION_128: return (const void *)attention_kernel<128>;
    case ROT_CUDA_RESAMPLE: return (const void *)resample_kernel;
    case ROT_CUDA_PATCHES: return (const void *)patches_kernel;
    case ROT_CUDA_INTERPOLATE: return (const void *)interpolate_kernel;
    default: return NULL;
    }
}

// ---- errors

static int fail(rot_err *err, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (err) {
        err->code = code;
        vsnprintf(err->message, sizeof err->message, format, args);
    }
    va_end(args);
    return code;
}

static int check(cudaError_t status, const char *what, rot_err *err)
{
    if (status == cudaSuccess) return 0;
    const int code = status == cudaErrorMemoryAllocation ? ROT_ERR_NO_MEMORY : ROT_ERR_IO;
    return fail(err, code, "CUDA: %s: %s", what, cudaGetErrorString(status));
}

static int check_blas(cublasStatus_t status, const char *what, rot_err *err)
{
    if (status == CUBLAS_STATUS_SUCCESS) return 0;
    const int code = status == CUBLAS_STATUS_ALLOC_FAILED    ? ROT_ERR_NO_MEMORY
                     : status == CUBLAS_STATUS_NOT_SUPPORTED ? ROT_ERR_UNSUPPORTED
                                                             : ROT_ERR_IO;
    return fail(err, code, "cuBLASLt: %s: status %d", what, (int)status);
}

// ---- devices

enum { WORKSPACE = 32 << 20 }; // bytes that cuBLASLt may use, NVIDIA's advice for Hopper

struct rot_cuda_device {
    int index;
    cublasLtHandle_t blas;
    void *workspace;
    cudaStream_t streams[ROT_CUDA_STREAMS];
    cudaEvent_t events[ROT_CUDA_EVENTS];
    bool marked[ROT_CUDA_EVENTS];
};

static int count_devices(int *n, rot_err *err)
{
    int version = 0;
    *n = 0;
    cudaError_t status = cudaGetDeviceCount(n);
    if (status == cudaSuccess && *n > 0) return 0;
    if (status == cudaSuccess || status == cudaErrorNoDevice)
        return fail(err, ROT_ERR_UNSUPPORTED, "no CUDA device is visible%s%s",
                    getenv("CUDA_VISIBLE_DEVICES") ? " under CUDA_VISIBLE_DEVICES=" : "",
                    getenv("CUDA_VISIBLE_DEVICES") ? getenv("CUDA_VISIBLE_DEVICES") : "");
    if (status == cudaErrorInsufficientDriver && cudaDriverGetVersion(&version) == cudaSuccess) {
        if (version == 0) return fail(err, ROT_ERR_UNSUPPORTED, "no NVIDIA driver is here");
        return fail(err, ROT_ERR_UNSUPPORTED,
                    "the NVIDIA driver is too old: it has CUDA %d.%d, and this program needs %d.%d",
                    version / 1000, version % 1000 / 10, CUDART_VERSION / 1000,
                    CUDART_VERSION % 1000 / 10);
    }
    return fail(err, ROT_ERR_UNSUPPORTED, "CUDA: %s", cudaGetErrorString(status));
}

static int describe(int index, rot_cuda_info *out, rot_err *err)
{
    struct cudaDeviceProp p;
    size_t free_bytes = 0, total_bytes = 0;
    int rc;
    memset(out, 0, sizeof *out);
    if ((rc = check(cudaGetDeviceProperties(&p, index), "a device's properties", err)) < 0)
        return rc;
    if ((rc = check(cudaSetDevice(index), "a device", err)) < 0) return rc;
    if ((rc = check(cudaMemGetInfo(&free_bytes, &total_bytes), "memory", err)) < 0) return rc;
    snprintf(out->name, sizeof out->name, "%.63s", p.name);
    out->major = p.major, out->minor = p.minor;
    out->multiprocessors = p.multiProcessorCount;
    out->free_bytes = free_bytes, out->total_bytes = total_bytes;
    cudaDriverGetVersion(&out->driver_version);
    cudaRuntimeGetVersion(&out->runtime_version);
    out->blas_version = (int)cublasLtGetVersion();
    out->place_bytes = 4 << 20;
    out->chunk_rows = 4096; // with 1024 columns a wave of 128 x 256 tiles on 132 processors
    return 0;
}

static void close_device(rot_cuda_device *d)
{
    if (!d) return;
    cudaSetDevice(d->index);
    for (int i = 0; i < ROT_CUDA_EVENTS; i++)
        if (d->events[i]) cudaEventDestroy(d->events[i]);
    for (int i = 0; i < ROT_CUDA_STREAMS; i++)
        if (d->streams[i]) cudaStreamDestroy(d->streams[i]);
    if (d->blas) cublasLtDestroy(d->blas);
    if (d->workspace) cudaFree(d->workspace);
    free(d);
}

static int open_device(int index, rot_cuda_device **out, rot_err *err)
{
    *out = NULL;
    rot_cuda_device *d = (rot_cuda_device *)calloc(1, sizeof *d);
    if (!d) return fail(err, ROT_ERR_NO_MEMORY, "out of memory for a device");
    d->index = index;
    int rc = check(cudaSetDevice(index), "a device", err);
    for (int i = 0; i < ROT_CUDA_STREAMS && rc == 0; i++)
        rc = check(cudaStreamCreateWithFlags(&d->streams[i], cudaStreamNonBlocking), "a stream",
                   err);
    for (int i = 0; i < ROT_CUDA_EVENTS && rc == 0; i++)
        rc = check(
            cudaEventCreateWithFlags(&d->events[i], cudaEventDisableTiming | cudaEventBlockingSync),
            "an event", err);
    if (rc == 0) rc = check_blas(cublasLtCreate(&d->blas), "a handle", err);
    if (rc == 0) rc = check(cudaMalloc(&d->workspace, WORKSPACE), "a work space", err);
    if (rc < 0) {
        close_device(d);
        return rc;
    }
    *out = d;
    return 0;
}

// ---- memory, order

// CUDA's current device is a thread's; callers may come from another thread than the one that
// opened.
static void use(const rot_cuda_device *d)
{
    cudaSetDevice(d->index);
}

static int alloc_memory(rot_cuda_device *d, size_t n_bytes, void **out, rot_err *err)
{
    use(d);
    return check(cudaMalloc(out, n_bytes), "memory of the device", err);
}

static void free_memory(rot_cuda_device *d, void *memory)
{
    use(d);
    cudaDeviceSynchronize(); // cudaFree may do so, and does not promise it
    cudaFree(memory);
}

static int pin(rot_cuda_device *d, size_t n_bytes, void **out, rot_err *err)
{
    use(d);
    return check(cudaMallocHost(out, n_bytes), "pinned memory", err);
}

static void unpin(rot_cuda_device *d, void *memory)
{
    use(d);
    cudaDeviceSynchronize();
    cudaFreeHost(memory);
}

static int copy(rot_cuda_device *d, rot_cuda_stream stream, rot_cuda_way way, void *to,
                const void *from, size_t n_bytes, rot_err *err)
{
    use(d);
    static const cudaMemcpyKind kinds[] = {cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost,
                                           cudaMemcpyDeviceToDevice};
    return check(cudaMemcpyAsync(to, from, n_bytes, kinds[way], d->streams[stream]), "a copy", err);
}

static int clear(rot_cuda_device *d, void *memory, size_t n_bytes, rot_err *err)
{
    use(d);
    return check(cudaMemsetAsync(memory, 0, n_bytes, d->streams[ROT_CUDA_COMPUTE]), "clearing",
                 err);
}

static int mark(rot_cuda_device *d, rot_cuda_stream stream, int event, rot_err *err)
{
    use(d);
    d->marked[event] = true;
    return check(cudaEventRecord(d->events[event], d->streams[stream]), "an event", err);
}

static int order(rot_cuda_device *d, rot_cuda_stream stream, int event, rot_err *err)
{
    if (!d->marked[event]) return 0;
    use(d);
    return check(cudaStreamWaitEvent(d->streams[stream], d->events[event], 0), "an order", err);
}

static int wait_event(rot_cuda_device *d, int event, rot_err *err)
{
    if (!d->marked[event]) return 0;
    use(d);
    return check(cudaEventSynchronize(d->events[event]), "the work of the device", err);
}

static int synchronise(rot_cuda_device *d, rot_err *err)
{
    use(d);
    for (int i = 0; i < ROT_CUDA_STREAMS; i++) {
        int rc = check(cudaStreamSynchronize(d->streams[i]), "the work of the device", err);
        if (rc < 0) return rc;
    }
    return 0;
}

static int launch(rot_cuda_device *d, const rot_cuda_launch *l, rot_err *err)
{
    rot_cuda_args a = l->args;
    void *args[] = {&a};
    use(d);
    return check(cudaLaunchKernel(kernel_of(l->kernel), dim3(l->grid_x, l->grid_y),
                                  dim3(l->warps * ROT_WARP), args, 0, d->streams[ROT_CUDA_COMPUTE]),
                 "a kernel", err);
}

// ---- graphs

static int record(rot_cuda_device *d, rot_err *err)
{
    use(d);
    return check(cudaStreamBeginCapture(d->streams[ROT_CUDA_COMPUTE],
                                        cudaStreamCaptureModeThreadLocal),
                 "recording", err);
}

static int recorded(rot_cuda_device *d, void **graph, rot_err *err)
{
    cudaGraph_t written = NULL;
    cudaGraphExec_t made = NULL;
    use(d);
    cudaError_t status = cudaStreamEndCapture(d->streams[ROT_CUDA_COMPUTE], &written);
    if (status == cudaSuccess) status = cudaGraphInstantiate(&made, written, 0);
    if (written) cudaGraphDestroy(written);
    if (status != cudaSuccess) (void)cudaGetLastError(); // not of the calls that follow
    *graph = made;
    return check(status, "a graph", err);
}

static int replay(rot_cuda_device *d, void *graph, rot_err *err)
{
    use(d);
    return check(cudaGraphLaunch((cudaGraphExec_t)graph, d->streams[ROT_CUDA_COMPUTE]), "a graph",
                 err);
}

static void forget(rot_cuda_device *d, void *graph)
{
    use(d);
    cudaGraphExecDestroy((cudaGraphExec_t)graph);
}

// ---- products

// cuBLASLt has column-major matrices: out^T (n_out, rows) = weight^T's transpose (n_out, n_in)
// times in^T (n_in, rows); the bias runs down a column of out^T.
typedef struct matmul {
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t weight, in, out;
} matmul;

static void matmul_free(matmul *m)
{
    if (m->operation) cublasLtMatmulDescDestroy(m->operation);
    if (m->weight) cublasLtMatrixLayoutDestroy(m->weight);
    if (m->in) cublasLtMatrixLayoutDestroy(m->in);
    if (m->out) cublasLtMatrixLayoutDestroy(m->out);
}

static int matmul_make(const rot_cuda_product *p, const void *bias, matmul *m, rot_err *err)
{
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const cublasLtEpilogue_t epilogue = p->gelu_tanh ? CUBLASLT_EPILOGUE_GELU_BIAS
                                        : p->bias    ? CUBLASLT_EPILOGUE_BIAS
                                                     : CUBLASLT_EPILOGUE_DEFAULT;
    memset(m, 0, sizeof *m);
    cublasStatus_t s = cublasLtMatmulDescCreate(&m->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (!s)
        s = cublasLtMatmulDescSetAttribute(m->operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                           sizeof transposed);
    if (!s)
        s = cublasLtMatmulDescSetAttribute(m->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                           sizeof epilogue);
    if (!s && p->bias)
        s = cublasLtMatmulDescSetAttribute(m->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                           sizeof bias);
    if (!s) s = cublasLtMatrixLayoutCreate(&m->weight, CUDA_R_16BF, p->n_in, p->n_out, p->n_in);
    if (!s) s = cublasLtMatrixLayoutCreate(&m->in, CUDA_R_16BF, p->n_in, p->rows, p->n_in);
    if (!s)
        s = cublasLtMatrixLayoutCreate(&m->out, p->f32 ? CUDA_R_32F : CUDA_R_16BF, p->n_out,
                                       p->rows, p->n_out);
    const int rc = check_blas(s, "a product", err);
    if (rc < 0) matmul_free(m);
    return rc;
}

static int32_t config(const cublasLtMatmulAlgo_t *algo, cublasLtMatmulAlgoConfigAttributes_t which,
                      size_t n_bytes)
{
    int32_t value = 0;
    size_t written;
    if (cublasLtMatmulAlgoConfigGetAttribute(algo, which, &value, n_bytes, &written)) return -1;
    return value;
}

static void name_choice(const cublasLtMatmulAlgo_t *algo, rot_cuda_choice *out)
{
    snprintf(out->name, sizeof out->name,
             "algorithm %d tile %d stages %d inner %d cluster %d split %d swizzle %d custom %d",
             config(algo, CUBLASLT_ALGO_CONFIG_ID, 4),
             config(algo, CUBLASLT_ALGO_CONFIG_TILE_ID, 4),
             config(algo, CUBLASLT_ALGO_CONFIG_STAGES_ID, 4),
             config(algo, CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID, 2),
             config(algo, CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, 2),
             config(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, 4),
             config(algo, CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING, 4),
             config(algo, CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, 4));
}

enum { MOST_WAYS = 16 };

static cublasStatus_t ask(rot_cuda_device *d, const matmul *m, int n,
                          cublasLtMatmulHeuristicResult_t found[MOST_WAYS], int *n_found)
{
    const size_t workspace = WORKSPACE;
    const uint32_t no_reduction = CUBLASLT_REDUCTION_SCHEME_NONE; // k is summed in one order
    const uint32_t at = 32;                                       // a chunk's first row
    const struct {
        cublasLtMatmulPreferenceAttributes_t which;
        const void *value;
        size_t n_bytes;
    } wanted[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &no_reduction, sizeof no_reduction},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &at, sizeof at},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &at, sizeof at},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &at, sizeof at},
    };
    cublasLtMatmulPreference_t preference = NULL;
    cublasStatus_t s = cublasLtMatmulPreferenceCreate(&preference);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted && !s; i++)
        s = cublasLtMatmulPreferenceSetAttribute(preference, wanted[i].which, wanted[i].value,
                                                 wanted[i].n_bytes);
    if (!s)
        s = cublasLtMatmulAlgoGetHeuristic(d->blas, m->operation, m->weight, m->in, m->out, m->out,
                                           preference, n, found, n_found);
    if (preference) cublasLtMatmulPreferenceDestroy(preference);
    return s;
}

static int choose(rot_cuda_device *d, const rot_cuda_product *p, int n, rot_cuda_choice *out,
                  rot_err *err)
{
    matmul m;
    cublasLtMatmulHeuristicResult_t found[MOST_WAYS];
    int n_found = 0;
    static_assert(sizeof(cublasLtMatmulAlgo_t) == sizeof out->data, "room for an algorithm");
    use(d);
    if (n >= MOST_WAYS) return fail(err, ROT_ERR_NOT_FOUND, "no further algorithm");
    int rc = matmul_make(p, d->workspace, &m, err); // any address is right for the choice
    if (rc < 0) return rc;
    cublasStatus_t s = ask(d, &m, n + 1, found, &n_found);
    matmul_free(&m);
    if (s == CUBLAS_STATUS_NOT_SUPPORTED || (!s && n_found <= n))
        return fail(err, ROT_ERR_NOT_FOUND, "no further algorithm");
    if ((rc = check_blas(s, "choosing an algorithm", err)) < 0) return rc;
    if (found[n].state)
        return fail(err, ROT_ERR_UNSUPPORTED, "cuBLASLt: algorithm %d: status %d", n,
                    (int)found[n].state);
    memcpy(out->data, &found[n].algo, sizeof out->data);
    name_choice(&found[n].algo, out);
    return 0;
}

static bool accepts(rot_cuda_device *d, const rot_cuda_product *p, const rot_cuda_choice *choice)
{
    matmul m;
    rot_err ignored;
    cublasLtMatmulHeuristicResult_t result;
    use(d);
    if (matmul_make(p, d->workspace, &m, &ignored) < 0) return false;
    const cublasStatus_t s =
        cublasLtMatmulAlgoCheck(d->blas, m.operation, m.weight, m.in, m.out, m.out,
                                (const cublasLtMatmulAlgo_t *)choice->data, &result);
    matmul_free(&m);
    return s == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= WORKSPACE;
}

static int multiply(rot_cuda_device *d, const rot_cuda_product *p, const rot_cuda_choice *choice,
                    const uint16_t *in, const uint16_t *weight, const void *bias, void *out,
                    rot_err *err)
{
    matmul m;
    const float one = 1.0f, before = p->add ? 1.0f : 0.0f;
    use(d);
    int rc = matmul_make(p, bias, &m, err);
    if (rc < 0) return rc;
    const cublasStatus_t s =
        cublasLtMatmul(d->blas, m.operation, &one, weight, m.weight, in, m.in, &before, out, m.out,
                       out, m.out, (const cublasLtMatmulAlgo_t *)choice->data, d->workspace,
                       WORKSPACE, d->streams[ROT_CUDA_COMPUTE]);
    matmul_free(&m);
    return check_blas(s, "a product", err);
}

static const rot_cuda_driver table = {
    ROT_CUDA_ABI, count_devices, describe, open_device, close_device, alloc_memory, free_memory,
    pin,          unpin,         copy,     clear,       mark,         order,        wait_event,
    synchronise,  launch,        record,   recorded,    replay,       forget,       choose,
    accepts,      multiply,
};

extern "C" __attribute__((visibility("default"))) const rot_cuda_driver *rot_cuda_driver_table(void)
{
    return &table;
}
