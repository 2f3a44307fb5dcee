// The decoder of Huffman-coded literals against libzstd: equal on what our writer's parameters make
// of any distribution, never right where libzstd is wrong, never outside of its buffers.
#include <math.h>
#define ZSTD_STATIC_LINKING_ONLY // literal compression mode
#include <zstd.h>

#include "shards/literals.h"
#include "test_shards.h"

enum { MOST = 300000 };

static ZSTD_CCtx *context;
static rot_literals literals;
static uint8_t *plain, *frame, *out, *expected;

static int make_buffers(void **state)
{
    (void)state;
    context = ZSTD_createCCtx();
    plain = malloc(MOST), frame = malloc(ZSTD_compressBound(MOST));
    out = malloc(MOST), expected = malloc(MOST);
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, ZSTD_minCLevel());
    ZSTD_CCtx_setParameter(context, ZSTD_c_literalCompressionMode, ZSTD_ps_enable);
    return plain && frame && out && expected ? 0 : -1;
}

static int free_buffers(void **state)
{
    (void)state;
    ZSTD_freeCCtx(context);
    free(plain), free(frame), free(out), free(expected);
    return 0;
}

// Bytes around 120 whose spread is `spread`: about 1.8 bits of entropy more than log2(spread).
static void fill_plain(size_t n, double spread, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        double u = (double)(mix(2 * i + seed) >> 11) * 0x1p-53 + 0x1p-54;
        double v = (double)(mix(2 * i + 1 + seed) >> 11) * 0x1p-53;
        double x = 120 + spread * sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
        plain[i] = (uint8_t)(x < 0 ? 0 : x > 255 ? 255 : x);
    }
}

static size_t packed(size_t n)
{
    size_t size = ZSTD_compress2(context, frame, ZSTD_compressBound(n), plain, n);
    assert_false(ZSTD_isError(size));
    return size;
}

static void frames_of_our_writer_are_read_without_libzstd(void **state)
{
    (void)state;
    static const size_t sizes[] = {300, 5120, 65536, 81920, 131072, 133120, 262144, 299999};
    int ours = 0, all = 0;
    for (double spread = 1.2; spread < 30; spread *= 1.5)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            size_t n = sizes[i];
            fill_plain(n, spread, mix((uint64_t)(spread * 100) + i));
            size_t size = packed(n);
            memset(out, 0xaa, MOST);
            bool read = rot_literals_decode(&literals, frame, size, out, n);
            ours += read, all++;
            if (read) assert_memory_equal(out, plain, n);
            for (size_t j = n; j < MOST; j++)
                if (out[j] != 0xaa) fail_msg("byte %zu behind %zu was written", j, n);
        }
    print_message("%d of %d frames\n", ours, all);
    assert_true(ours >= all * 3 / 4); // the others hold a match that came by chance
}

static void small_and_odd_contents_are_equal_or_left_to_libzstd(void **state)
{
    (void)state;
    int ours = 0;
    for (uint64_t seed = 0; seed < 4000; seed++) {
        size_t n = mix(seed) % 3000 + 1;
        fill_plain(n, 0.2 + (double)(mix(seed ^ 77) % 1000) * 0.03, seed << 20);
        size_t size = packed(n);
        bool read = rot_literals_decode(&literals, frame, size, out, n);
        ours += read;
        if (read) assert_memory_equal(out, plain, n);
    }
    assert_true(ours > 1000);
}

// What passes here and not there would be a record that only this reader can read.
static void damaged_frames_are_never_read_otherwise_than_by_libzstd(void **state)
{
    (void)state;
    int same = 0;
    for (uint64_t seed = 0; seed < 20000; seed++) {
        uint64_t r = mix(seed ^ 0xdead);
        size_t n = 256 + r % 6000;
        if (seed % 50 == 0) fill_plain(n, 1 + (double)(r >> 20 & 15), seed << 20);
        size_t size = packed(n), to = seed % 2 ? size : size < 80 ? size : 80;
        for (uint64_t i = 0; i <= (r >> 40) % 3; i++)
            frame[mix(r + i) % to] ^= (uint8_t)(1u << (mix(r + i) >> 60 & 7));
        if (seed % 7 == 0) size -= mix(r) % size;
        uint8_t *exact = malloc(size); // so that a sanitizer sees reads behind it
        if (!exact) fail();
        memcpy(exact, frame, size);
        if (rot_literals_decode(&literals, exact, size, out, n)) {
            size_t got = ZSTD_decompress(expected, n, exact, size);
            assert_int_equal(got, n);
            assert_memory_equal(out, expected, n);
            same++;
        }
        free(exact);
    }
    assert_true(same > 100); // a flipped bit of a long code makes another symbol of the same length
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_of_our_writer_are_read_without_libzstd),
        cmocka_unit_test(small_and_odd_contents_are_equal_or_left_to_libzstd),
        cmocka_unit_test(damaged_frames_are_never_read_otherwise_than_by_libzstd),
    };
    return cmocka_run_group_tests(tests, make_buffers, free_buffers);
}
