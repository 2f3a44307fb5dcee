// Whether there is a device, and which one is ours.
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "kernels/cuda/cuda.h"

#define LIBRARY "librotoscope_cuda.so"

// Opened for good: unloading cuBLASLt and its threads is nobody's friend.
static void *open_library(const char *path)
{
    return dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
}

static bool is_there(const char *folder, size_t n, const char *below, char *out, size_t capacity)
{
    int length = snprintf(out, capacity, "%.*s/%s%s", (int)n, folder, below, LIBRARY);
    return length > 0 && (size_t)length < capacity && access(out, R_OK) == 0;
}

// Beside the file that this code was loaded from, or in lib/ beside its folder.
static bool find_library(char *out, size_t capacity)
{
    char self[4096];
    Dl_info info;
    if (!dladdr((const void *)&rot_backend_cuda, &info) || !info.dli_fname) return false;
    if (!strchr(info.dli_fname, '/')) { // a program found in PATH
        ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
        if (n <= 0) return false;
        self[n] = 0;
    } else
        snprintf(self, sizeof self, "%s", info.dli_fname);
    const char *slash = strrchr(self, '/');
    const size_t n = slash ? (size_t)(slash - self) : 0;
    return slash &&
           (is_there(self, n, "", out, capacity) || is_there(self, n, "../lib/", out, capacity));
}

static int load_from(const char *path, const rot_cuda_driver **out, rot_err *err)
{
    void *library = open_library(path);
    if (!library) ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "the cuda backend: %s", dlerror());
    rot_cuda_driver_function function;
    *(void **)&function = dlsym(library, ROT_CUDA_SYMBOL); // as POSIX has it
    const rot_cuda_driver *driver = function ? function() : NULL;
    if (!driver || driver->abi != ROT_CUDA_ABI)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "the cuda backend: %s is of another version", path);
    *out = driver;
    return 0;
}

int rot_cuda_load(const rot_cuda_driver **out, rot_err *err)
{
    char path[4200];
    const char *named = getenv("ROT_CUDA_LIB");
    *out = NULL;
    if (named && *named) return load_from(named, out, err);
    // before the library: without a driver nothing of it can run, and it is large
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (!driver)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED,
                 "the cuda backend: no NVIDIA driver is here (libcuda.so.1)");
    dlclose(driver);
    if (!find_library(path, sizeof path))
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED,
                 "the cuda backend: no " LIBRARY " beside the program (make CUDA=1 builds it)");
    return load_from(path, out, err);
}

// The rank on this node. 1: it is known; 0: alone.
static int local_rank(int *rank, const char **from, rot_err *err)
{
    static const char *const names[] = {"LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK",
                                        "SLURM_LOCALID"};
    for (int i = 0; i < 3; i++) {
        const char *text = getenv(names[i]);
        char *end;
        if (!text || !*text) continue;
        errno = 0;
        const long value = strtol(text, &end, 10);
        if (errno || *end || value < 0 || value > 1 << 20)
            ROT_FAIL(err, ROT_ERR_USAGE, "%s=%s: not a number from 0 on", names[i], text);
        *rank = (int)value;
        *from = names[i];
        return 1;
    }
    return 0;
}

int rot_cuda_device_of_rank(const rot_cuda_driver *driver, int *device, rot_err *err)
{
    int n = 0, rank = 0;
    const char *from = NULL;
    *device = 0;
    ROT_TRY(driver->count(&n, err));
    const int known = local_rank(&rank, &from, err);
    ROT_TRY(known);
    // one visible device per rank is what launchers that bind give: it is ours, whatever our number
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (!known || (n == 1 && visible && *visible)) return 0;
    if (rank >= n)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED,
                 "the cuda backend: rank %d of this node (%s) has no device, %d %s visible", rank,
                 from, n, n == 1 ? "is" : "are");
    *device = rank;
    return 0;
}

// The numerics are ours (version), the device's, and cuBLASLt's.
void rot_cuda_identity(const rot_cuda_info *info, char identity[128])
{
    snprintf(identity, 128, "cuda sm_%d%d %s cublasLt %d.%d.%d v1", info->major, info->minor,
             info->name, info->blas_version / 10000, info->blas_version % 10000 / 100,
             info->blas_version % 100);
}

static int find(int *device, rot_cuda_info *info, const rot_cuda_driver **driver,
                rot_precision precision, rot_err *err)
{
    if (precision != ROT_PRECISION_BF16)
        ROT_FAIL(err, ROT_ERR_UNSUPPORTED, "backend cuda computes in bf16 only");
    ROT_TRY(rot_cuda_load(driver, err));
    ROT_TRY(rot_cuda_device_of_rank(*driver, device, err));
    return (*driver)->describe(*device, info, err);
}

static int identify(const rot_cpu *cpu, rot_precision precision, char identity[128], rot_err *err)
{
    (void)cpu;
    int device;
    rot_cuda_info info;
    const rot_cuda_driver *driver;
    ROT_TRY(find(&device, &info, &driver, precision, err));
    rot_cuda_identity(&info, identity);
    return 0;
}

static int open_cuda(const rot_cpu *cpu, rot_precision precision, int threads, rot_backend **out,
                     rot_err *err)
{
    (void)cpu;
    int device;
    rot_cuda_info info;
    const rot_cuda_driver *driver;
    ROT_TRY(find(&device, &info, &driver, precision, err));
    return rot_cuda_open(driver, device, threads, out, err);
}

const rot_backend_entry rot_backend_cuda = {"cuda", identify, open_cuda};
