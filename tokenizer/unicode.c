#include "tokenizer/internal.h"

static const uint32_t runs[] = {
#include "tokenizer/unicode_runs.inc"
};
enum { N_RUNS = sizeof runs / sizeof *runs, N_PAGES = (TOK_MAX_CODE_POINT + 1) / TOK_CLASS_PAGE };

bool tok_unicode_run(size_t i, uint32_t *first, uint32_t *classes)
{
    if (i >= N_RUNS) return false;
    *first = runs[i] >> 8;
    *classes = runs[i] & 0xff;
    return true;
}

// Writes the classes of one page, walking on from run *i, which holds its first code point.
static void fill_page(uint8_t *block, uint32_t page, size_t *i)
{
    for (uint32_t k = 0; k < TOK_CLASS_PAGE; k++) {
        uint32_t c = page * TOK_CLASS_PAGE + k;
        while (*i + 1 < N_RUNS && runs[*i + 1] >> 8 <= c) ++*i;
        block[k] = (uint8_t)runs[*i];
    }
}

int tok_unicode_open(tok_unicode *unicode, rot_err *err)
{
    size_t n_blocks = 0, capacity = 0;
    unicode->pages = rot_malloc(N_PAGES * sizeof *unicode->pages);
    if (!unicode->pages)
        return rot_no_memory(err, N_PAGES * sizeof *unicode->pages, "character classes");
    size_t run = 0;
    for (uint32_t page = 0; page < N_PAGES; page++) {
        ROT_TRY(rot_grow(&unicode->blocks, &capacity, (n_blocks + 1) * TOK_CLASS_PAGE, 1, err));
        uint8_t *block = unicode->blocks + n_blocks * TOK_CLASS_PAGE;
        fill_page(block, page, &run);
        size_t same = 0;
        while (same < n_blocks &&
               memcmp(unicode->blocks + same * TOK_CLASS_PAGE, block, TOK_CLASS_PAGE))
            same++;
        unicode->pages[page] = (uint16_t)same;
        n_blocks += same == n_blocks;
    }
    for (unsigned byte = 0; byte < 256; byte++)
        unicode->ascii[byte] = byte < 0x80 ? tok_class(unicode, byte) : 0x80;
    return 0;
}

void tok_unicode_close(tok_unicode *unicode)
{
    rot_free(unicode->pages);
    rot_free(unicode->blocks);
    *unicode = (tok_unicode){0};
}
