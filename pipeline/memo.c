#include "pipeline/memo.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/mem.h"

int rot_memo_open(rot_memo *memo, const char *root, bool forget, rot_err *err)
{
    *memo = (rot_memo){0};
    ROT_TRY(rot_fs_join(memo->path, sizeof memo->path, root, ".rotoscope/memo.json", err));
    if (!forget) memo->entries = json_load_file(memo->path, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(memo->entries)) {
        json_decref(memo->entries);
        memo->entries = json_object();
    }
    if (!memo->entries) return rot_no_memory(err, 0, "memo");
    return 0;
}

json_t *rot_memo_get(const rot_memo *memo, const char *key)
{
    return json_object_get(memo->entries, key);
}

int rot_memo_set(rot_memo *memo, const char *key, json_t *value, rot_err *err)
{
    if (json_object_set_new(memo->entries, key, value) < 0) return rot_no_memory(err, 0, "memo");
    memo->dirty = true;
    return 0;
}

void rot_memo_save(rot_memo *memo)
{
    if (!memo->dirty) return;
    char dir[4096];
    rot_fs_dirname(memo->path, dir, sizeof dir);
    if (rot_fs_mkdirs(dir, NULL) < 0) return;
    char *text = json_dumps(memo->entries, JSON_INDENT(1) | JSON_SORT_KEYS);
    if (text && rot_fs_write_atomic(memo->path, text, strlen(text), NULL) == 0) memo->dirty = false;
    free(text);
}

void rot_memo_close(rot_memo *memo)
{
    json_decref(memo->entries);
    *memo = (rot_memo){0};
}

int rot_memo_add_file(rot_str *key, const char *path, rot_err *err)
{
    struct stat st;
    if (stat(path, &st) < 0) ROT_FAIL(err, ROT_ERR_MISSING, "%s: no such file", path);
    char *real = realpath(path, NULL);
    rot_str_printf(key, "%s|%lld|%lld.%09ld|%llu;", real ? real : path, (long long)st.st_size,
                   (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (unsigned long long)st.st_ino);
    free(real);
    return 0;
}
