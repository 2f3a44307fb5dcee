// Our shards as liblmdb sees them: what we write it reads, value by value, and finds by key.
#include <lmdb.h>

#include "tests/unit/test_shards.h"

#define LMDB(expr)                                                                                 \
    do {                                                                                           \
        int lmdb_ = (expr);                                                                        \
        if (lmdb_) fail_msg("%s: %s", #expr, mdb_strerror(lmdb_));                                 \
    } while (0)

typedef struct opened {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
} opened;

static opened open_lmdb(const char *path)
{
    opened o;
    LMDB(mdb_env_create(&o.env));
    LMDB(mdb_env_open(o.env, path, MDB_RDONLY | MDB_NOLOCK | MDB_NOSUBDIR, 0));
    LMDB(mdb_txn_begin(o.env, NULL, MDB_RDONLY, &o.txn));
    LMDB(mdb_dbi_open(o.txn, NULL, 0, &o.dbi));
    return o;
}

static void close_lmdb(opened *o)
{
    mdb_txn_abort(o->txn);
    mdb_env_close(o->env);
}

static uint32_t u32(const MDB_val *v, size_t at)
{
    uint32_t x;
    assert_true(at + 4 <= v->mv_size);
    memcpy(&x, (char *)v->mv_data + at, 4);
    return x;
}

// Walks the shard and returns the number of rows in it, from the headers alone.
static uint64_t walk(opened *o, size_t file_bytes)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    MDB_stat stat;
    MDB_envinfo info;
    uint64_t rows = 0, n = 0, k, before = 0;
    bool trailer = false;
    LMDB(mdb_cursor_open(o->txn, o->dbi, &cursor));
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
        assert_false(trailer);
        assert_int_equal(key.mv_size, 8);
        memcpy(&k, key.mv_data, 8);
        assert_true(n == 0 || k > before);
        assert_int_equal(u32(&value, 0), 0x31544f52);
        assert_int_equal(value.mv_size, 48 + u32(&value, 28));
        trailer = k == UINT64_MAX;
        if (!trailer) assert_int_equal(k, rows);
        int kind = ((uint8_t *)value.mv_data)[5];
        rows += trailer ? 0 : kind == 5 ? u32(&value, 8) : 1;
        assert_int_equal(kind == 6, trailer);
        MDB_val found;
        LMDB(mdb_get(o->txn, o->dbi, &key, &found));
        assert_ptr_equal(found.mv_data, value.mv_data);
        before = k;
        n++;
    }
    assert_true(trailer);
    mdb_cursor_close(cursor);
    LMDB(mdb_stat(o->txn, o->dbi, &stat));
    LMDB(mdb_env_info(o->env, &info));
    assert_int_equal(stat.ms_entries, n);
    assert_int_equal((info.me_last_pgno + 1) * 4096, file_bytes);
    assert_int_equal(stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages + 2,
                     info.me_last_pgno + 1);
    return rows;
}

static uint64_t check_shard(const char *path)
{
    char *bytes;
    size_t n;
    OK(rot_fs_read(path, &bytes, &n, &err));
    rot_free(bytes);
    opened o = open_lmdb(path);
    uint64_t rows = walk(&o, n);
    close_lmdb(&o);
    return rows;
}

static void liblmdb_reads_what_we_write(void **state)
{
    (void)state;
    static const char *const stages[] = {"tokens", "images", "embeds"};
    for (int s = 0; s < 3; s++) {
        char path[64];
        rot_stage_spec spec = spec_of(stages[s], ROT_CODEC_NONE, 500, 20, 300);
        write_stage(in_scratch(stages[s]), &spec, NULL);
        snprintf(path, sizeof path, "%s/shard-00000.mdb", stages[s]);
        assert_int_equal(check_shard(in_scratch(path)), 300);
    }
}

static void trees_of_every_shape_are_lmdbs(void **state)
{
    (void)state;
    // A value per row, and around the fanouts of leaf and branch pages: 156, 156 * 226 = 35256.
    static const uint32_t rows[] = {1,   2,   154,   155,   156,   157,   311,
                                    312, 313, 35100, 35255, 35256, 35257, 35412};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rot_stage_spec spec = spec_of("tokens", ROT_CODEC_NONE, 1 << 16, 1, rows[i]);
        rot_record record = {
            .kind = ROT_KIND_TOMBSTONE, .payload = "no", .n_bytes = 2, .shape = {2}};
        rot_shard_writer *writer;
        uint64_t row;
        char name[32], path[64];
        snprintf(name, sizeof name, "tree %u", rows[i]);
        OK(rot_shard_writer_open(in_scratch(name), &spec, 0, NULL, &writer, &row, &err));
        for (; row < rows[i]; row++) OK(rot_shard_writer_append(writer, row, &record, &err));
        OK(rot_shard_writer_publish(&writer, &err));
        snprintf(path, sizeof path, "%s/shard-00000.mdb", name);
        assert_int_equal(check_shard(in_scratch(path)), rows[i]);
        unlink(in_scratch(path));
    }
}

static void an_unfinished_shard_is_no_lmdb_file(void **state)
{
    (void)state;
    rot_stage_spec spec = spec_of("tokens", ROT_CODEC_ZSTD, 32, 4, 32);
    MDB_env *env;
    write_some(in_scratch("torn"), &spec, 0, 20);
    LMDB(mdb_env_create(&env));
    assert_int_equal(mdb_env_open(env, in_scratch("torn/shard-00000.mdb.tmp"),
                                  MDB_RDONLY | MDB_NOLOCK | MDB_NOSUBDIR, 0),
                     MDB_INVALID);
    mdb_env_close(env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(liblmdb_reads_what_we_write),
        cmocka_unit_test(trees_of_every_shape_are_lmdbs),
        cmocka_unit_test(an_unfinished_shard_is_no_lmdb_file),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
