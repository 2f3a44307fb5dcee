// Rows of every format, good and bad, plain and compressed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "pipeline/input_text.h"
#include "rotoscope/config.h"

static char top[] = "/tmp/rot input XXXXXX";
static char first_file[64], second_file[64];
static const char *files[] = {first_file, second_file};

static int make_top(void **state)
{
    (void)state;
    if (!mkdtemp(top)) return -1;
    snprintf(first_file, sizeof first_file, "%s/first", top);
    snprintf(second_file, sizeof second_file, "%s/second", top);
    return 0;
}

static int remove_top(void **state)
{
    (void)state;
    char command[80];
    snprintf(command, sizeof command, "rm -rf '%s'", top);
    return system(command);
}

static void put(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

// Every row as "id|question|trace|answer\n", a bad one as "!cause\n", the file's error as "ERROR".
static char *rows_of(const rot_split_config *split, rot_err *err)
{
    rot_input *input = NULL;
    rot_row row;
    rot_str out = {0};
    char *text = NULL;
    uint64_t index = 0;
    int rc = rot_input_open(split, &input, err);
    while (rc == 0 && (rc = rot_input_next(input, &row, err)) > 0) {
        rc = 0;
        assert_int_equal(row.index, index++);
        if (row.bad) {
            assert_non_null(strstr(row.bad, row.file));
            rot_str_printf(&out, "!%s\n", row.bad_cause);
            continue;
        }
        assert_int_equal(strlen(row.id), row.n_id);
        assert_int_equal(strlen(row.question), row.n_question);
        assert_int_equal(strlen(row.trace), row.n_trace);
        assert_int_equal(strlen(row.answer), row.n_answer);
        rot_str_printf(&out, "%s|%s|%s|%s\n", row.id, row.question, row.trace, row.answer);
    }
    if (rc < 0) {
        assert_true(err->message[0]);
        rot_str_puts(&out, "ERROR");
    }
    rot_input_close(&input);
    assert_int_equal(rot_str_take(&out, &text, NULL), 0);
    return text;
}

static rot_err last;

static void expect_n(rot_split_config split, const void *bytes, size_t n, const char *wanted)
{
    split.files = files;
    split.n_files = 1;
    put(first_file, bytes, n);
    last = (rot_err){0};
    char *rows = rows_of(&split, &last);
    if (strcmp(rows, wanted)) fail_msg("rows:\n%s\nwanted:\n%s\n%s", rows, wanted, last.message);
    free(rows);
}

static void expect(rot_input_format format, const char *text, const char *wanted)
{
    expect_n((rot_split_config){.format = format}, text, strlen(text), wanted);
}

static void expect_bad(rot_input_format format, const char *text, const char *words)
{
    rot_split_config split = {.format = format, .files = files, .n_files = 1};
    rot_input *input = NULL;
    rot_row row;
    rot_err err = {0};
    put(first_file, text, strlen(text));
    assert_int_equal(rot_input_open(&split, &input, &err), 0);
    assert_int_equal(rot_input_next(input, &row, &err), 1);
    if (!row.bad || !strstr(row.bad, words))
        fail_msg("%s: no '%s' in: %s", text, words, row.bad ? row.bad : "(good)");
    rot_input_close(&input);
}

#define ROW(id, q, c, a)                                                                           \
    "{\"id\": \"" id "\", \"question\": \"" q "\", \"cot\": \"" c "\", \"answer\": \"" a "\"}"

static void jsonl_rows(void **state)
{
    (void)state;
    expect(ROT_INPUT_JSONL, "", "");
    expect(ROT_INPUT_JSONL, "\n", "");
    expect(ROT_INPUT_JSONL, ROW("a", "q", "c", "1") "\n", "a|q|c|1\n");
    expect(ROT_INPUT_JSONL, ROW("a", "q", "", "1"), "a|q||1\n"); // no LF at the end
    expect(ROT_INPUT_JSONL, "\xef\xbb\xbf" ROW("a", "q", "c", "1") "\r\n", "a|q|c|1\n");
    expect(ROT_INPUT_JSONL, ROW("a", "q", "c", "1") "\n\n", "a|q|c|1\n");
    expect(ROT_INPUT_JSONL, ROW("a", "q", "c", "1") "\n\n" ROW("b", "q", "c", "2"),
           "a|q|c|1\n!json\nb|q|c|2\n");
    expect(ROT_INPUT_JSONL, ROW("a", "x\xe2\x80\xa8y\xc2\x85z", "c\\ud83d\\ude00", "1") "\n",
           "a|x\xe2\x80\xa8y\xc2\x85z|c\xf0\x9f\x98\x80|1\n");
    expect(ROT_INPUT_JSONL, "{\"cot\":\"c\",\"x\":[1],\"answer\":\"1\",\"question\":\"q\"}",
           "0|q|c|1\n");
    rot_split_config renamed = {.format = ROT_INPUT_JSONL,
                                .key_id = "n",
                                .key_question = "q",
                                .key_cot = "steps",
                                .key_answer = "a",
                                .strip_calculator = true};
    const char *text = "{\"n\":\"i\",\"q\":\"q\",\"steps\":\"4<<2+2=4>> << x\",\"a\":\"4\"}";
    expect_n(renamed, text, strlen(text), "i|q|4 << x|4\n");
}

static void bad_rows_say_why(void **state)
{
    (void)state;
    expect(ROT_INPUT_JSONL,
           "{\"id\n" ROW(
               "a", "q", "c",
               "1") "\n"
                    "{\"question\":\"q\",\"cot\":\"c\"}\n" ROW("b", "q\\u0000", "c", "1") "\n" ROW(
                        "c", "\\ud800", "c",
                        "1") "\n" ROW("d", "\xff", "c",
                                      "1") "\n"
                                           "{\"question\":1,\"cot\":\"c\",\"answer\":\"1\"}\n[]\n"
                                           "{\"id\":3,\"question\":\"q\",\"cot\":\"c\",\"answer\":"
                                           "\"1\"}\n"
                                           "{\"question\":\"q\",\"question\":\"q\",\"cot\":\"c\","
                                           "\"answer\":\"1\"}\n" ROW("a", "q", "c", "1") "\n" ROW(
                                               "z", "q", "c", "1") " x\n",
           "!json\na|q|c|1\n!key\n!nul\n!utf8\n!utf8\n!key\n!json\n!key\n!json\n!duplicate-id\n"
           "!json\n");
    expect_bad(ROT_INPUT_JSONL, "{\"question\":\"q\",\"cot\":\"c\"}", ":1: byte 0: ");
    expect_bad(ROT_INPUT_JSONL, "{\"question\":\"q\",\"cot\":\"c\"}", "'answer'");
    expect_bad(ROT_INPUT_JSONL, "{\"a\": \xc3}", "byte 6: invalid UTF-8");
    expect_bad(ROT_INPUT_JSONL, "{\"a\\u0000\": 1}", "U+0000");
    expect_n((rot_split_config){.format = ROT_INPUT_JSONL}, "{\0}", 3, "!json\n");
}

// An ordinal that a later row brings as its own id, and the other way round.
static void ids_are_unique_over_the_files_of_a_split(void **state)
{
    (void)state;
    rot_split_config split = {.format = ROT_INPUT_JSONL, .files = files, .n_files = 2};
    const char *a = "{\"question\":\"q\",\"cot\":\"c\",\"answer\":\"1\"}\n" ROW(
        "x", "q", "c", "1") "\n" ROW("3", "q", "c", "1") "\n";
    const char *b = "{\"question\":\"q\",\"cot\":\"c\",\"answer\":\"1\"}\n" ROW(
        "0", "q", "c", "1") "\n" ROW("x", "q", "c", "1") "\n" ROW("y", "q", "c", "1");
    put(first_file, a, strlen(a));
    put(second_file, b, strlen(b));
    char *rows = rows_of(&split, &last);
    assert_string_equal(rows, "0|q|c|1\nx|q|c|1\n3|q|c|1\n!duplicate-id\n!duplicate-id\n"
                              "!duplicate-id\ny|q|c|1\n");
    free(rows);
}

static void many_ids_are_told_apart(void **state)
{
    (void)state;
    rot_str text = {0};
    rot_split_config split = {.format = ROT_INPUT_JSONL, .files = files, .n_files = 1};
    for (int i = 0; i < 5000; i++)
        rot_str_printf(&text, "{\"id\":\"r%d\",\"question\":\"q\",\"cot\":\"c\",\"answer\":\"\"}\n",
                       i % 4999);
    put(first_file, text.text, text.n_bytes);
    rot_str_free(&text);
    rot_input *input = NULL;
    rot_row row;
    rot_err err = {0};
    int bad = 0, n = 0;
    assert_int_equal(rot_input_open(&split, &input, &err), 0);
    for (; rot_input_next(input, &row, &err) > 0; n++) bad += row.bad != NULL;
    assert_int_equal(n, 5000);
    assert_int_equal(bad, 1);
    rot_input_close(&input);
}

static void gsm8k_rows(void **state)
{
    (void)state;
    const char *row = "{\"question\":\"q\",\"answer\":\"a #### b <<1+1=2>>2\\n#### 2\\n\"}\n";
    expect(ROT_INPUT_GSM8K, row, "0|q|a #### b <<1+1=2>>2|2\n");
    expect_n((rot_split_config){.format = ROT_INPUT_GSM8K, .strip_calculator = true}, row,
             strlen(row), "0|q|a #### b 2|2\n");
    expect(ROT_INPUT_GSM8K, "{\"question\":\"q\",\"answer\":\"a\"}\n", "!format\n");
    expect(ROT_INPUT_GSM8K, "{\"question\":\"q\",\"answer\":\"####\"}\n", "0|q||\n");
    expect(ROT_INPUT_GSM8K, "{\"answer\":\"#### 1\"}\n", "!key\n");
}

static void gsm8k_aug_rows(void **state)
{
    (void)state;
    expect(ROT_INPUT_GSM8K_AUG,
           "q?||<<1+1=2>> <<2*2=4>> #### 4\n"
           "empty|| #### 7\nbars||a||b #### 1\nlast||a #### 1 #### 2\r\nnone #### 1\nx||y\n"
           "x\xe2\x80\xa8y\rz||t #### 1",
           "0|q?|<<1+1=2>> <<2*2=4>>|4\n1|empty||7\n2|bars|a||b|1\n3|last|a #### 1|2\n!format\n"
           "!format\n6|x\xe2\x80\xa8y\rz|t|1\n");
    expect(ROT_INPUT_GSM8K_AUG, "q||\xff #### 1\n", "!utf8\n");
    expect(ROT_INPUT_GSM8K_AUG, "a||b #### 1\n\nc||d #### 2\n\n", "0|a|b|1\n!format\n2|c|d|2\n");
    expect_n((rot_split_config){.format = ROT_INPUT_GSM8K_AUG}, "q||\0 #### 1\n", 12, "!nul\n");
}

static void math_answers(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"so \\\\boxed{\\\\frac{1}{2}}.", "\\frac{1}{2}"},
                                           {"\\\\boxed{1} then \\\\boxed{2}", "2"},
                                           {"\\\\fbox{3}", "3"},
                                           {"$\\\\boxed 5$ end", "5"},
                                           {"\\\\boxed{a\\\\}b}", "a\\}b"},
                                           {"\\\\boxed{1} \\\\boxed{2", "1"},
                                           {"\\\\boxed{}", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[200], wanted[200], trace[100];
        size_t n = 0;
        for (const char *c = cases[i][0]; *c; c++) { // what JSON's escapes stand for
            if (c[0] == '\\' && c[1] == '\\') c++;
            trace[n++] = *c;
        }
        trace[n] = 0;
        snprintf(text, sizeof text, "{\"problem\":\"p\",\"solution\":\"%s\"}\n", cases[i][0]);
        snprintf(wanted, sizeof wanted, "0|p|%s|%s\n", trace, cases[i][1]);
        expect(ROT_INPUT_MATH, text, wanted);
    }
    expect(ROT_INPUT_MATH, "{\"problem\":\"p\",\"solution\":\"no \\\\boxedx{1}\"}\n", "!format\n");
    rot_split_config own = {.format = ROT_INPUT_MATH, .key_answer = "answer"};
    const char *row = "{\"problem\":\"p\",\"solution\":\"s\",\"answer\":\"9\"}";
    expect_n(own, row, strlen(row), "0|p|s|9\n");
}

static void coconut_rows(void **state)
{
    (void)state;
    expect(ROT_INPUT_COCONUT,
           " [\n {\"question\": \"q]},\\\"\", \"steps\": [\"<<1+1=2>>\", \"b\"], \"answer\": \"2\","
           " \"edges\": [[0, 1]]},\n{\"question\":\"q\",\"steps\":[],\"answer\":\"3\"} ]\n",
           "0|q]},\"|<<1+1=2>> b|2\n1|q||3\n");
    expect(ROT_INPUT_COCONUT, "[]", "");
    expect(ROT_INPUT_COCONUT,
           "[{\"question\":\"q\",\"steps\":\"s\",\"answer\":\"1\"},"
           "{\"question\":\"q\",\"steps\":[1],\"answer\":\"1\"}, nonsense,"
           "{\"question\":\"q\",\"steps\":[\"s\"],\"answer\":\"1\"}]",
           "!key\n!key\n!json\n3|q|s|1\n");
    expect(ROT_INPUT_COCONUT, "{}", "ERROR");
    expect(ROT_INPUT_COCONUT, "", "ERROR");
    expect(ROT_INPUT_COCONUT, "[] x", "ERROR");
    expect(ROT_INPUT_COCONUT,
           "[{\"question\":\"q\",\"steps\":[],\"answer\":\"1\"}, {\"a\": ", "0|q||1\nERROR");
    assert_int_equal(last.code, ROT_ERR_INPUT);
    assert_non_null(strstr(last.message, first_file));
}

static void evaluation_sets(void **state)
{
    (void)state;
    expect(ROT_INPUT_GSM8K_AUG_NL,
           "{\"id\": 7, \"question\": \"q\", \"cot\": \"c\", \"answer\": \"1\"}", "0|q|c|1\n");
    expect(ROT_INPUT_MATH_500,
           "{\"unique_id\": \"u\", \"problem\": \"p\", \"solution\": \"s\", \"answer\": \"a\"}\n"
           "{\"problem\": \"p\", \"solution\": \"\\\\boxed{1}\"}",
           "u|p|s|a\n!key\n");
#define SVAMP(body, answer)                                                                        \
    "{\"Body\": \"" body                                                                           \
    "\", \"Question\": \"q? \", \"Equation\": \" ( 1.0 - 2.0 )\", \"Answer\": " answer             \
    ", \"ID\": \"i\"}"
    expect(ROT_INPUT_SVAMP, "[" SVAMP("b", "-1.0") "]", "i|b. q?|( 1.0 - 2.0 )|-1\n");
    expect(ROT_INPUT_SVAMP, "[" SVAMP(" b! ", "\"x\"") "]", "i|b! q?|( 1.0 - 2.0 )|x\n");
    expect(ROT_INPUT_SVAMP, "[" SVAMP("b", "[1]") "]", "!key\n");
    expect(ROT_INPUT_SVAMP, "[" SVAMP("b", "\"\\u0000\"") "]", "!nul\n");
    expect(ROT_INPUT_GSM_HARD, "{\"input\": \"q\", \"code\": \"\\n c\\n\", \"target\": 2.5}\n",
           "0|q|c|2.5\n");
    expect(ROT_INPUT_GSM_HARD, "{\"input\": \"q\", \"code\": \"c\"}\n", "!key\n");
    expect(ROT_INPUT_MULTIARITH,
           "[{\"sQuestion\": \" q \", \"lEquations\": [\"X=1\"], \"lSolutions\": [1.0]},"
           "{\"sQuestion\": \"q\", \"lEquations\": [\"X=1\"], \"lSolutions\": [1, 2]},"
           "{\"sQuestion\": \"q\", \"lEquations\": {}, \"lSolutions\": [1]}]",
           "0|q|X=1|1\n!key\n!key\n");
    expect(ROT_INPUT_PROSQA, "[{\"question\": \"q\", \"steps\": [\"a\"], \"answer\": \"b\"}]",
           "0|q|a|b\n");
}

static void numbers_are_short_and_exact(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {{-9867630.0, "-9867630"},
                 {0.1, "0.1"},
                 {-0.0, "0"},
                 {3.509e-07, "0.0000003509"},
                 {1e21, "1e+21"},
                 {1.5e-9, "1.5e-09"},
                 {14053029.666666666, "14053029.666666666"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[40];
        rot_number_text(cases[i].value, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void long_traces_and_lines(void **state)
{
    (void)state;
    size_t n = (size_t)65 << 20;
    char *text = malloc(n + 100);
    memset(text, 'x', n);
    memcpy(text, "q||", 3);
    memcpy(text + n, " #### 1\nq||short #### 2\n", 24);
    expect_n((rot_split_config){.format = ROT_INPUT_GSM8K_AUG}, text, n + 23,
             "!format\n1|q|short|2\n");
    rot_split_config split = {.format = ROT_INPUT_GSM8K_AUG, .files = files, .n_files = 1};
    memcpy(text + 12003, " #### 1\n", 8);
    put(first_file, text, 12011);
    free(text);
    rot_input *input = NULL;
    rot_row row;
    rot_err err = {0};
    assert_int_equal(rot_input_open(&split, &input, &err), 0);
    assert_int_equal(rot_input_next(input, &row, &err), 1);
    assert_null(row.bad);
    assert_int_equal(row.n_trace, 12000);
    rot_input_close(&input);
}

static size_t gzip(const char *text, size_t n, unsigned char *out, size_t capacity)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (unsigned char *)text;
    z.avail_in = (uInt)n;
    z.next_out = out;
    z.avail_out = (uInt)capacity;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return z.total_out;
}

// 2000 rows that hardly compress, as text.
static char *many_rows(size_t *n)
{
    rot_str text = {0};
    char *out = NULL;
    uint32_t x = 1;
    for (int i = 0; i < 2000; i++) {
        rot_str_printf(&text, "q%d||", i);
        for (int k = 0; k < 20; k++) {
            x = x * 1664525u + 1013904223u;
            rot_str_printf(&text, "%u ", x >> 3);
        }
        rot_str_printf(&text, "#### %d\n", i);
    }
    *n = text.n_bytes;
    assert_int_equal(rot_str_take(&text, &out, NULL), 0);
    return out;
}

static void compressed_files_give_the_same_rows(void **state)
{
    (void)state;
    size_t n;
    char *text = many_rows(&n);
    size_t half = n / 2, capacity = 2 * n + 1000;
    unsigned char *packed = malloc(capacity);
    rot_split_config split = {.format = ROT_INPUT_GSM8K_AUG, .files = files, .n_files = 1};
    put(first_file, text, n);
    char *wanted = rows_of(&split, &last);
    size_t m = gzip(text, half, packed, capacity);
    m += gzip(text + half, n - half, packed + m, capacity - m); // two members, cut within a line
    expect_n(split, packed, m, wanted);
    m = ZSTD_compress(packed, capacity, text, half, 3);
    m += ZSTD_compress(packed + m, capacity - m, text + half, n - half, 3);
    expect_n(split, packed, m, wanted);
    free(wanted);
    free(packed);
    free(text);
}

// Cut or flipped: the rows before come out, then an error with file and offset; never a quiet end.
static void broken_compression_is_an_error_after_the_rows_before(void **state)
{
    (void)state;
    size_t n;
    char *text = many_rows(&n);
    size_t capacity = 2 * n + 1000;
    unsigned char *packed = malloc(capacity);
    rot_split_config split = {.format = ROT_INPUT_GSM8K_AUG, .files = files, .n_files = 1};
    for (int zstd = 0; zstd < 2; zstd++) {
        size_t m =
            zstd ? ZSTD_compress(packed, capacity, text, n, 3) : gzip(text, n, packed, capacity);
        for (size_t cut = 20; cut < m; cut += zstd ? m / 5 : m / 7) {
            put(first_file, packed, cut);
            last = (rot_err){0};
            char *rows = rows_of(&split, &last);
            assert_non_null(strstr(rows, "ERROR"));
            if (cut > m / 2 && !zstd) assert_non_null(strstr(rows, "100|q100|"));
            assert_int_equal(last.code, ROT_ERR_INPUT);
            assert_non_null(strstr(last.message, first_file));
            assert_non_null(strstr(last.message, "byte "));
            free(rows);
        }
        put(first_file, packed, m - 1); // all content is there, the end is not
        char *rows = rows_of(&split, &last);
        assert_non_null(strstr(rows, "ERROR"));
        free(rows);
    }
    free(packed);
    free(text);
}

static void a_gzip_cut_after_line_7_gives_7_rows(void **state)
{
    (void)state;
    unsigned char packed[2000];
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_out = packed;
    z.avail_out = sizeof packed;
    for (int i = 0; i < 7; i++) {
        char line[32];
        z.avail_in = (uInt)snprintf(line, sizeof line, "q%d||c #### %d\n", i, i);
        z.next_in = (unsigned char *)line;
        assert_int_equal(deflate(&z, Z_SYNC_FLUSH), Z_OK);
    }
    size_t n = sizeof packed - z.avail_out;
    deflateEnd(&z);
    expect_n((rot_split_config){.format = ROT_INPUT_GSM8K_AUG}, packed, n,
             "0|q0|c|0\n1|q1|c|1\n2|q2|c|2\n3|q3|c|3\n4|q4|c|4\n5|q5|c|5\n6|q6|c|6\nERROR");
    assert_non_null(strstr(last.message, "truncated"));
}

static void a_missing_file_is_said_before_the_first_row(void **state)
{
    (void)state;
    const char *names[] = {first_file, "/no/such file"};
    rot_split_config split = {.format = ROT_INPUT_JSONL, .files = names, .n_files = 2};
    rot_input *input = NULL;
    rot_err err = {0};
    put(first_file, "", 0);
    assert_int_equal(rot_input_open(&split, &input, &err), ROT_ERR_MISSING);
    assert_non_null(strstr(err.message, "/no/such file"));
    names[1] = top;
    assert_true(rot_input_open(&split, &input, &err) < 0); // a folder
}

static void lack_of_memory_is_an_error(void **state)
{
    (void)state;
    static const rot_input_format formats[] = {ROT_INPUT_JSONL, ROT_INPUT_COCONUT};
    static const char *const texts[] = {
        ROW("a", "q", "c", "1"), "[{\"question\":\"q\",\"steps\":[\"a\",\"b\"],\"answer\":\"1\"}]"};
    for (int f = 0; f < 2; f++) {
        rot_split_config split = {.format = formats[f], .files = files, .n_files = 1};
        bool succeeded = false;
        put(first_file, texts[f], strlen(texts[f]));
        for (long n = 1; n < 30; n++) {
            rot_input *input = NULL;
            rot_row row = {0};
            rot_err err = {0};
            rot_mem_fail_at(n);
            int rc = rot_input_open(&split, &input, &err);
            if (rc == 0) rc = rot_input_next(input, &row, &err);
            rot_mem_fail_at(0);
            assert_true((rc == 1 && !row.bad) || rc == ROT_ERR_NO_MEMORY);
            succeeded |= rc == 1;
            rot_input_close(&input);
        }
        assert_true(succeeded);
    }
}

// Bytes at random, and good files with bytes changed, in every format: rows or an error, no crash.
static void random_bytes_never_crash(void **state)
{
    (void)state;
    static const char *const good[] = {
        ROW("a", "q", "c", "1") "\n" ROW("b", "q", "c", "1"),
        "{\"question\":\"q\",\"answer\":\"<<1>>a #### b\"}\n", "q||<<1+1=2>> #### 4\nx|| #### 1",
        "{\"problem\":\"p\",\"solution\":\"\\\\boxed{\\\\frac{1}{2}} \\\\fbox 5\"}\n",
        "[{\"question\":\"q\",\"steps\":[\"a\"],\"answer\":\"1\"}, {}]"};
    srand(2);
    for (int round = 0; round < 1500; round++) {
        char bytes[400];
        unsigned char packed[1000];
        rot_split_config split = {.format = (rot_input_format)(round % 5),
                                  .files = files,
                                  .n_files = 1,
                                  .strip_calculator = round % 2};
        size_t n = strlen(good[round % 5]);
        memcpy(bytes, good[round % 5], n);
        for (int k = 0; k < round % 7; k++) bytes[(size_t)rand() % n] = (char)rand();
        if (round % 11 == 0)
            for (size_t i = 0; i < n; i++) bytes[i] = (char)rand();
        put(first_file, bytes, n);
        if (round % 3 == 0) { // a broken gzip or zstd
            size_t m = round % 2 ? gzip(bytes, n, packed, sizeof packed)
                                 : ZSTD_compress(packed, sizeof packed, bytes, n, 1);
            for (int k = 0; k < round % 4; k++) packed[4 + (size_t)rand() % (m - 4)] ^= 0x55;
            put(first_file, packed, m);
        }
        last = (rot_err){0};
        free(rows_of(&split, &last));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jsonl_rows),
        cmocka_unit_test(bad_rows_say_why),
        cmocka_unit_test(ids_are_unique_over_the_files_of_a_split),
        cmocka_unit_test(many_ids_are_told_apart),
        cmocka_unit_test(gsm8k_rows),
        cmocka_unit_test(gsm8k_aug_rows),
        cmocka_unit_test(math_answers),
        cmocka_unit_test(coconut_rows),
        cmocka_unit_test(evaluation_sets),
        cmocka_unit_test(numbers_are_short_and_exact),
        cmocka_unit_test(long_traces_and_lines),
        cmocka_unit_test(compressed_files_give_the_same_rows),
        cmocka_unit_test(broken_compression_is_an_error_after_the_rows_before),
        cmocka_unit_test(a_gzip_cut_after_line_7_gives_7_rows),
        cmocka_unit_test(a_missing_file_is_said_before_the_first_row),
        cmocka_unit_test(lack_of_memory_is_an_error),
        cmocka_unit_test(random_bytes_never_crash),
    };
    return cmocka_run_group_tests(tests, make_top, remove_top);
}
