// The frozen vision tower of a Hugging Face checkpoint: images in, target embeddings [K, d] out.
#ifndef ROTOSCOPE_ENCODER_H
#define ROTOSCOPE_ENCODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "geometry.h"
#include "image.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rot_dtype {
    ROT_DTYPE_U8 = 0,
    ROT_DTYPE_BF16 = 1,
    ROT_DTYPE_F32 = 2,
    ROT_DTYPE_I32 = 3
} rot_dtype;

typedef struct rot_encoder_options {
    size_t size;               // sizeof(rot_encoder_options)
    const char *checkpoint;    // folder: config.json, preprocessor_config.json, *.safetensors
    rot_geometry geometry;     // released
    const char *backend;       // "auto", "ref", "onednn", "amx", "cuda"
    rot_dtype dtype;           // ROT_DTYPE_BF16 or ROT_DTYPE_F32: arithmetic and output
    uint8_t background[3];     // pads the native geometry; white
    int threads;               // 0: as many as rot_threads_available()
    bool deepstack;            // the deepstack taps too, behind the embedding of each merged token
    uint32_t device_memory_mb; // of a GPU, for all that lies there; 0: nine tenths of the free
    // A folder, made if it is not there, where the packed weights of backends on processors are
    // kept for later starts and other processes; "" or NULL: nowhere. A file there that is damaged
    // or of another machine is made again. Embeddings do not depend on it.
    const char *pack_cache;
    const char *weights_sha256; // as rot_encoder_inspect tells, for pack_cache; NULL: computed
    // A line of news, such as a file of packed weights that was damaged; may be NULL.
    void (*note)(void *user, const char *message);
    void *note_user;
} rot_encoder_options;

// The values named above; no checkpoint.
rot_encoder_options rot_encoder_options_default(void);

// What a checkpoint is and what determines its embeddings, read without packing weights.
typedef struct rot_encoder_info {
    char model_type[32];
    char weights_sha256[65]; // hex, over the tower's tensors, and what config.json alone decides
    char backend[128];       // resolved: name, instruction set, version of its numerics
    int32_t depth, width, heads, mlp_width, out_width; // out_width: d of the embeddings
    int32_t call_patches; // that one call of rot_encoder_encode should have at least
    int32_t mlp_products; // matrix products of an MLP: 2, or 3 with a gate
    int64_t n_parameters;
    rot_preprocessor preprocessor;
    int32_t n_taps; // deepstack outputs beside the merged one; 0 unless options.deepstack
} rot_encoder_info;

// Reads headers and resolves the backend; hashes the weights only if `with_hash` (reads every
// byte). ROT_ERR_MISSING: no checkpoint folder, no config.json, no safetensors. ROT_ERR_FORMAT: a
// tensor that is missing, misshapen, of a wrong type or truncated, named. ROT_ERR_UNSUPPORTED:
// model_type (says which are supported), backend or dtype that this machine lacks. ROT_ERR_USAGE:
// deepstack of a tower without taps.
int rot_encoder_inspect(const rot_encoder_options *options, bool with_hash, rot_encoder_info *out,
                        rot_err *err);

typedef struct rot_encoder rot_encoder; // one per process; its calls use all its threads

// How many deepstack taps config.json of a checkpoint says; reads nothing else. ROT_ERR_USAGE: its
// tower has none.
int rot_encoder_taps(const char *checkpoint, int32_t *n_taps, rot_err *err);

// Loads and packs the weights.
int rot_encoder_open(const rot_encoder_options *options, rot_encoder **out, rot_err *err);
void rot_encoder_close(rot_encoder **encoder);

// Embeddings of n images, one after another, into out: bf16 (uint16_t) or float32 as options.dtype,
// row-major [sum of K, out_width], or [sum of K, (1 + n_taps) out_width] with options.deepstack:
// of each merged token its embedding, then its taps in the order of their blocks. grids[i] (from
// rot_geometry_grid) gives each K. The bits of an image do not depend on the others, on n, on their
// order or on the number of threads.
int rot_encoder_encode(rot_encoder *encoder, const rot_image *images, const rot_grid *grids,
                       size_t n, void *out, rot_err *err);

// The same in two steps: a GPU computes while the caller reads and writes. `begin` may return
// before `out` is written; it is when `end`, or the next `begin`, has returned 0. `out` lives until
// then; images and grids need not. After an error nothing is under way.
int rot_encoder_begin(rot_encoder *encoder, const rot_image *images, const rot_grid *grids,
                      size_t n, void *out, rot_err *err);
int rot_encoder_end(rot_encoder *encoder, rot_err *err);
// Whether what the last `begin` began may still be computed: never on processors.
bool rot_encoder_is_under_way(const rot_encoder *encoder);

// How products are computed where a library chooses: a line per shape, "" on processors. Bits
// depend on it as they do on rot_encoder_info.backend, of which it is a function.
void rot_encoder_choices(const rot_encoder *encoder, char *out, size_t capacity);

// What a benchmark should say beside its figures: of a GPU, how often a batch was replayed as a
// graph, or why none could be made; "" on processors.
void rot_encoder_note(const rot_encoder *encoder, char *out, size_t capacity);

// `on`: waits for a GPU after each operation, so that the times below are those of its work.
void rot_encoder_profile(rot_encoder *encoder, bool on);

// Where the time went since the encoder was opened: resampling and each kind of operation of the
// tower. `work` counts floating-point operations of matrix products, 0 elsewhere. The table belongs
// to the encoder and is valid until its next call.
typedef struct rot_encoder_stage {
    const char *name;
    double seconds, work;
} rot_encoder_stage;
const rot_encoder_stage *rot_encoder_stages(const rot_encoder *encoder, size_t *n);

// What opening took: all of it, and of that rearranging the weights for the backend.
typedef struct rot_encoder_loading {
    double seconds, packing_seconds;
    size_t weight_bytes; // of the matrices, as the checkpoint has them
} rot_encoder_loading;
rot_encoder_loading rot_encoder_get_loading(const rot_encoder *encoder);

// Writes a checkpoint of the real architecture with seeded random weights. arch: "tiny", "2b",
// "4b", "8b" of Qwen3-VL, "custom" of it with the sizes below; "qwen2.5-tiny", "qwen2.5-3b",
// "qwen2.5-7b"; "qwen2-tiny", "qwen2-2b", "qwen2-7b"; "llava-tiny", "llava-7b". Or a decoder alone,
// initialised as transformers does it: "qwen3-tiny", "qwen3-100m", "llama-tiny", "gpt2-tiny",
// "gpt2"; in any case of letters. Sizes below replace those of any arch. The same seed gives the
// same bytes.
typedef struct rot_init_model_options {
    size_t size;
    const char *dir;           // created; ROT_ERR_USAGE if it holds a config.json already
    const char *arch;          // "tiny"
    const char *tokenizer_dir; // NULL: the small tokenizer that the project ships, for GPT-2 with
                               // its expression and special token
    uint64_t seed;
    bool text;         // the text model's tensors too
    const char *dtype; // "bf16", "f16", "f32"; NULL: bf16, of a decoder alone f32
    // 0: as the arch says; out_width is the tower's alone
    int depth, width, heads, mlp_width, out_width;
} rot_init_model_options;

// "tiny", seed 0, no text model; no folder.
rot_init_model_options rot_init_model_options_default(void);
// ROT_ERR_USAGE: no folder, an unknown arch or sizes that do not fit; ROT_ERR_IO, ROT_ERR_NO_SPACE.
int rot_init_model(const rot_init_model_options *options, rot_err *err);

// Results as a safetensors file: declare every tensor, then give their bytes (little-endian,
// row-major) in the same order, in pieces of any size. Nothing is at `path` until the file is
// finished. One thread.
typedef struct rot_tensor_file rot_tensor_file;
int rot_tensor_file_new(const char *path, rot_tensor_file **out, rot_err *err);
// dtype: "F32", "F16", "BF16", "I64", "I32" or "U8". n_dims: at most 8. ROT_ERR_USAGE: another
// dtype, or data were given already.
int rot_tensor_file_declare(rot_tensor_file *file, const char *name, const char *dtype,
                            const int64_t *shape, int n_dims, rot_err *err);
// The first call creates the temporary file. ROT_ERR_USAGE: a name that is doubled or no UTF-8.
int rot_tensor_file_write(rot_tensor_file *file, const void *bytes, size_t n_bytes, rot_err *err);
// Syncs and renames into place; frees *file in any case.
int rot_tensor_file_finish(rot_tensor_file **file, rot_err *err);
void rot_tensor_file_abort(rot_tensor_file **file); // leaves nothing; NULL is allowed

#ifdef __cplusplus
}
#endif
#endif
