#include "trainer/head.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/random.h"

enum { NORM_WEIGHT, NORM_BIAS, IN_WEIGHT, IN_BIAS, GATE, UP, DOWN, OUT_WEIGHT, OUT_BIAS };

static const char *const names[ROT_HEAD_TENSORS] = {
    "head.0.weight",    "head.0.bias",      "head.1.weight", "head.1.bias", "head.2.w1.weight",
    "head.2.w2.weight", "head.2.w3.weight", "head.3.weight", "head.3.bias"};
static const size_t n_prefix = sizeof "head." - 1;
static const float eps = 1e-6f;

typedef struct tensor {
    int n_dims;
    int64_t shape[2];
    size_t n, at; // elements; where it begins in values and grads
} tensor;

struct rot_head {
    rot_train *train;
    size_t d, width, n; // n floats in all
    tensor tensors[ROT_HEAD_TENSORS];
    float *values, *grads;                    // (n)
    rot_train_weight *in, *gate, *down, *out; // gate: [V1; V2] (2 width, width)
    // Of the forward: normed (rows, d), x (rows, width), gate_up (rows, 2 width), u (rows, width),
    // down (rows, width); and as much for the backward.
    float *space;
    size_t capacity, rows; // rows that fit; that were saved
    const float *h;        // of the saved forward
};

static float *value_of(const rot_head *head, int i)
{
    return head->values + head->tensors[i].at;
}

static float *grad_of(const rot_head *head, int i)
{
    return head->grads + head->tensors[i].at;
}

static int open_empty(rot_train *train, size_t d, size_t width, rot_head **out, rot_err *err)
{
    const int64_t D = (int64_t)d, W = (int64_t)width;
    const int64_t shapes[ROT_HEAD_TENSORS][2] = {{D, 0}, {D, 0}, {W, D}, {W, 0}, {W, W},
                                                 {W, W}, {W, W}, {D, W}, {D, 0}};
    *out = NULL;
    rot_head *head = rot_calloc(1, sizeof *head);
    if (!head) return rot_no_memory(err, sizeof *head, "a head");
    int rc = 0;
    head->train = train;
    head->d = d;
    head->width = width;
    for (int i = 0; i < ROT_HEAD_TENSORS; i++) {
        tensor *t = &head->tensors[i];
        *t = (tensor){shapes[i][1] ? 2 : 1, {shapes[i][0], shapes[i][1]}, 0, head->n};
        t->n = (size_t)shapes[i][0] * (size_t)(shapes[i][1] ? shapes[i][1] : 1);
        head->n += t->n;
    }
    head->values = train->ops->alloc(train, head->n, "a head", err);
    head->grads = head->values ? train->ops->alloc(train, head->n, "a head's gradient", err) : NULL;
    if (!head->grads) ROT_GO(ROT_ERR_NO_MEMORY);
    ROT_GO(train->ops->weight_new(train, width, d, &head->in, err));
    ROT_GO(train->ops->weight_new(train, 2 * width, width, &head->gate, err));
    ROT_GO(train->ops->weight_new(train, width, width, &head->down, err));
    ROT_GO(train->ops->weight_new(train, d, width, &head->out, err));
    *out = head;
    return 0;
done:
    rot_head_close(&head);
    return rc;
}

int rot_head_update(rot_head *head, rot_err *err)
{
    rot_train *t = head->train;
    size_t d = head->d, w = head->width;
    ROT_TRY(t->ops->weight_set(t, head->in, 0, w, value_of(head, IN_WEIGHT), d, false, err));
    ROT_TRY(t->ops->weight_set(t, head->gate, 0, w, value_of(head, GATE), w, false, err));
    ROT_TRY(t->ops->weight_set(t, head->gate, w, w, value_of(head, UP), w, false, err));
    ROT_TRY(t->ops->weight_set(t, head->down, 0, w, value_of(head, DOWN), w, false, err));
    return t->ops->weight_set(t, head->out, 0, d, value_of(head, OUT_WEIGHT), w, false, err);
}

int rot_head_open(rot_train *train, size_t d, size_t width, uint64_t seed, rot_head **out,
                  rot_err *err)
{
    ROT_TRY(open_empty(train, d, width, out, err));
    rot_head *head = *out;
    for (int i = 0; i < ROT_HEAD_TENSORS; i++) {
        uint64_t key = rot_random_key(seed, (uint64_t)i);
        double limit = 1 / sqrt(i == IN_WEIGHT || i == IN_BIAS ? (double)d : (double)width);
        for (size_t k = 0; k < head->tensors[i].n; k++)
            value_of(head, i)[k] = i == NORM_WEIGHT ? 1
                                   : i == NORM_BIAS
                                       ? 0
                                       : (float)((2 * rot_random_unit(key, k) - 1) * limit);
    }
    int rc = rot_head_update(head, err);
    if (rc < 0) rot_head_close(out);
    return rc;
}

/* ---- files ----------------------------------------------------------------------------------- */

// d and width, from the shape of 1.weight.
static int read_size(const rot_safetensors *file, const char *path, size_t d, size_t *width,
                     rot_err *err)
{
    const rot_tensor *t = rot_safetensors_find(file, names[IN_WEIGHT] + n_prefix);
    if (!t) ROT_FAIL(err, ROT_ERR_FORMAT, "%s: no tensor 1.weight: it holds no head", path);
    if (t->n_dims != 2 || t->shape[0] < 1 || t->shape[0] > 1 << 20 || t->shape[1] < 1)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: 1.weight is no matrix of a head", path);
    if ((uint64_t)t->shape[1] != d)
        ROT_FAIL(err, ROT_ERR_USAGE, "%s: a head for a hidden size of %lld; the model's is %zu",
                 path, (long long)t->shape[1], d);
    *width = (size_t)t->shape[0];
    return 0;
}

static int read_tensor(rot_head *head, int i, const rot_safetensors *file, const char *path,
                       rot_err *err)
{
    const tensor *want = &head->tensors[i];
    const char *name = names[i] + n_prefix;
    const rot_tensor *t = rot_safetensors_find(file, name);
    if (!t) ROT_FAIL(err, ROT_ERR_FORMAT, "%s: no tensor %s", path, name);
    bool real = t->type == ROT_T_F32 || t->type == ROT_T_F16 || t->type == ROT_T_BF16;
    bool fits = real && t->n_dims == want->n_dims && t->shape[0] == want->shape[0] &&
                (want->n_dims == 1 || t->shape[1] == want->shape[1]);
    if (!fits)
        ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s is %s of %lld numbers, not of %zu in %d dimensions",
                 path, name, rot_tensor_type_name(t->type), (long long)t->n_elements, want->n,
                 want->n_dims);
    rot_tensor_to_f32(t, 0, want->n, value_of(head, i));
    for (size_t k = 0; k < want->n; k++)
        if (!isfinite(value_of(head, i)[k]))
            ROT_FAIL(err, ROT_ERR_FORMAT, "%s: %s: element %zu is not finite", path, name, k);
    return 0;
}

int rot_head_load(rot_train *train, const char *path, size_t d, rot_head **out, rot_err *err)
{
    rot_safetensors *file = NULL;
    size_t width = 0;
    int rc = 0;
    *out = NULL;
    ROT_GO(rot_safetensors_open(path, &file, err));
    ROT_GO(read_size(file, path, d, &width, err));
    ROT_GO(open_empty(train, d, width, out, err));
    for (int i = 0; i < ROT_HEAD_TENSORS; i++) ROT_GO(read_tensor(*out, i, file, path, err));
    ROT_GO(rot_head_update(*out, err));
done:
    if (rc < 0) rot_head_close(out);
    rot_safetensors_close(&file);
    return rc;
}

int rot_head_save(const rot_head *head, const char *path, rot_err *err)
{
    rot_tensor_decl declared[ROT_HEAD_TENSORS];
    rot_safetensors_writer *writer = NULL;
    int rc = 0;
    for (int i = 0; i < ROT_HEAD_TENSORS; i++) {
        const tensor *t = &head->tensors[i];
        declared[i] = (rot_tensor_decl){
            names[i] + n_prefix, ROT_T_F32, t->n_dims, {t->shape[0], t->shape[1]}};
    }
    ROT_GO(rot_safetensors_create(path, declared, ROT_HEAD_TENSORS, &writer, err));
    ROT_GO(rot_safetensors_write(writer, head->values, head->n * sizeof *head->values, err));
    ROT_GO(rot_safetensors_finish(&writer, err));
done:
    rot_safetensors_abort(&writer);
    return rc;
}

void rot_head_close(rot_head **handle)
{
    rot_head *head = *handle;
    if (!head) return;
    rot_train *t = head->train;
    t->ops->weight_free(t, head->in);
    t->ops->weight_free(t, head->gate);
    t->ops->weight_free(t, head->down);
    t->ops->weight_free(t, head->out);
    t->ops->release(t, head->values);
    t->ops->release(t, head->grads);
    t->ops->release(t, head->space);
    rot_free(head);
    *handle = NULL;
}

size_t rot_head_width(const rot_head *head)
{
    return head->width;
}

void rot_head_params(rot_head *head, rot_method_param out[ROT_HEAD_TENSORS])
{
    for (int i = 0; i < ROT_HEAD_TENSORS; i++) {
        const tensor *t = &head->tensors[i];
        out[i] = (rot_method_param){.name = names[i],
                                    .n_dims = t->n_dims,
                                    .shape = {t->shape[0], t->shape[1]},
                                    .n = t->n,
                                    .value = value_of(head, i),
                                    .grad = grad_of(head, i),
                                    .decay = true};
    }
}

void rot_head_zero_grad(rot_head *head)
{
    memset(head->grads, 0, head->n * sizeof *head->grads);
}

/* ---- forward and backward -------------------------------------------------------------------- */

// Where the activations of `rows` rows lie in the space; the second half is their gradients'.
typedef struct views {
    float *normed, *x, *gates, *u, *down; // (rows, d | width | 2 width | width | width)
    float *d_normed, *d_x, *d_gates, *d_u, *d_down;
} views;

static views view(const rot_head *head, size_t rows)
{
    size_t d = rows * head->d, w = rows * head->width;
    float *at = head->space;
    views v = {.normed = at};
    v.x = v.normed + d;
    v.gates = v.x + w;
    v.u = v.gates + 2 * w;
    v.down = v.u + w;
    v.d_normed = v.down + w;
    v.d_x = v.d_normed + d;
    v.d_gates = v.d_x + w;
    v.d_u = v.d_gates + 2 * w;
    v.d_down = v.d_u + w;
    return v;
}

static int reserve(rot_head *head, size_t rows, rot_err *err)
{
    rot_train *t = head->train;
    if (rows <= head->capacity) return 0;
    float *space = t->ops->alloc(t, rows * 2 * (head->d + 5 * head->width), "a head's rows", err);
    if (!space) return ROT_ERR_NO_MEMORY;
    t->ops->release(t, head->space);
    head->space = space;
    head->capacity = rows;
    return 0;
}

int rot_head_forward(rot_head *head, size_t rows, const float *h, bool save, float *y, rot_err *err)
{
    rot_train *t = head->train;
    size_t d = head->d, w = head->width;
    ROT_TRY(reserve(head, rows, err));
    head->rows = save ? rows : 0;
    head->h = h;
    views v = view(head, rows);
    t->ops->layer_norm(t, (rot_train_vectors){rows, 1, d, d, d}, eps, h,
                       value_of(head, NORM_WEIGHT), value_of(head, NORM_BIAS), v.normed);
    ROT_TRY(t->ops->linear(t, head->in, rows, v.normed, d, value_of(head, IN_BIAS), false, v.x, w,
                           err));
    ROT_TRY(t->ops->linear(t, head->gate, rows, v.x, w, NULL, false, v.gates, 2 * w, err));
    t->ops->swiglu(t, rows, w, v.gates, v.u);
    ROT_TRY(t->ops->linear(t, head->down, rows, v.u, w, NULL, false, v.down, w, err));
    return t->ops->linear(t, head->out, rows, v.down, w, value_of(head, OUT_BIAS), false, y, d,
                          err);
}

int rot_head_backward(rot_head *head, const float *dy, bool train, float *dh, rot_err *err)
{
    rot_train *t = head->train;
    size_t d = head->d, w = head->width, rows = head->rows;
    views v = view(head, rows);
    rot_train_vectors shape = {rows, 1, d, d, d};
    ROT_TRY(t->ops->linear_back(t, head->out, rows, dy, d, false, v.d_down, w, err));
    ROT_TRY(t->ops->linear_back(t, head->down, rows, v.d_down, w, false, v.d_u, w, err));
    t->ops->swiglu_back(t, rows, w, v.gates, v.d_u, v.d_gates);
    ROT_TRY(t->ops->linear_back(t, head->gate, rows, v.d_gates, 2 * w, false, v.d_x, w, err));
    ROT_TRY(t->ops->linear_back(t, head->in, rows, v.d_x, w, false, v.d_normed, d, err));
    float *d_gamma = train ? grad_of(head, NORM_WEIGHT) : NULL;
    float *d_beta = train ? grad_of(head, NORM_BIAS) : NULL;
    // The gradient of h goes over that of `normed`, row by row, where nobody asks for it.
    ROT_TRY(t->ops->layer_norm_back(t, shape, eps, head->h, value_of(head, NORM_WEIGHT), v.d_normed,
                                    false, dh ? dh : v.d_normed, d_gamma, d_beta, err));
    if (!train) return 0;
    ROT_TRY(t->ops->outer(t, rows, d, w, dy, d, v.down, w, grad_of(head, OUT_WEIGHT), w, err));
    t->ops->column_sums(t, rows, d, dy, d, grad_of(head, OUT_BIAS));
    ROT_TRY(t->ops->outer(t, rows, w, w, v.d_down, w, v.u, w, grad_of(head, DOWN), w, err));
    ROT_TRY(t->ops->outer(t, rows, w, w, v.d_gates, 2 * w, v.x, w, grad_of(head, GATE), w, err));
    ROT_TRY(t->ops->outer(t, rows, w, w, v.d_gates + w, 2 * w, v.x, w, grad_of(head, UP), w, err));
    ROT_TRY(t->ops->outer(t, rows, w, d, v.d_x, w, v.normed, d, grad_of(head, IN_WEIGHT), d, err));
    t->ops->column_sums(t, rows, w, v.d_x, w, grad_of(head, IN_BIAS));
    return 0;
}
