// An adapter added to the weights it was trained beside.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/err.h"
#include "base/fs.h"
#include "rotoscope/train.h"
#include "trainer/decoder.h"

enum { PATH_BYTES = 4096 };

// The model, and of a checkpoint of Render-of-Thought what belongs to it, into `dir`.
static int save_all(const rot_merge_options *o, const rot_decoder *decoder, const char *dir,
                    rot_err *err)
{
    static const char *const names[] = {"head.safetensors", "tokens.safetensors", "rot.json"};
    char model[PATH_BYTES];
    if (!o->head) return rot_decoder_save_merged(decoder, dir, err);
    ROT_TRY(rot_fs_join(model, sizeof model, dir, "model", err));
    ROT_TRY(rot_fs_mkdirs(dir, err));
    ROT_TRY(rot_decoder_save_merged(decoder, model, err));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        ROT_TRY(rot_fs_copy(o->head, dir, names[i], err));
    return rot_fs_sync_dir(dir, err);
}

int rot_merge(const rot_merge_options *o, rot_err *err)
{
    char adapter[PATH_BYTES], tmp[PATH_BYTES];
    rot_decoder *decoder = NULL;
    rot_decoder_options d = rot_decoder_options_default();
    int rc = 0;
    if (o->size != sizeof *o)
        ROT_FAIL(err, ROT_ERR_USAGE, "merge options of %zu bytes, not %zu", o->size, sizeof *o);
    if (!o->checkpoint || !o->adapter == !o->head || !o->out)
        ROT_FAIL(err, ROT_ERR_USAGE, "a model, an adapter or a checkpoint with one, and a folder");
    if (rot_fs_is_dir(o->out) || rot_fs_is_file(o->out))
        ROT_FAIL(err, ROT_ERR_USAGE, "%s is there already", o->out);
    if (o->head) ROT_TRY(rot_fs_join(adapter, sizeof adapter, o->head, "adapter", err));
    d.checkpoint = o->checkpoint;
    d.adapter = o->head ? adapter : o->adapter;
    d.threads = o->threads;
    ROT_TRY(rot_decoder_open(&d, &decoder, err));
    rc = rot_fs_tmp_name(o->out, tmp, sizeof tmp, err);
    if (rc == 0) rc = save_all(o, decoder, tmp, err);
    if (rc == 0 && rename(tmp, o->out) < 0) rc = rot_err_errno(err, errno, "rename to", o->out);
    if (rc < 0) rot_fs_remove_tree(AT_FDCWD, tmp);
    rot_decoder_close(&decoder);
    return rc;
}
