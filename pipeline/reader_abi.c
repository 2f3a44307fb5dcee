// Sizes of public structs, for those who mirror them.
#include "rotoscope/order.h"
#include "rotoscope/reader.h"
#include "rotoscope/render.h"

typedef struct size_row {
    const char *name;
    size_t size;
} size_row;

static const size_row table[] = {
    {"rot_err", sizeof(rot_err)},
    {"rot_image", sizeof(rot_image)},
    {"rot_record", sizeof(rot_record)},
    {"rot_reader_options", sizeof(rot_reader_options)},
    {"rot_reader_info", sizeof(rot_reader_info)},
    {"rot_sample_texts", sizeof(rot_sample_texts)},
    {"rot_order", sizeof(rot_order)},
    {"rot_batches_options", sizeof(rot_batches_options)},
    {"rot_batches_state", sizeof(rot_batches_state)},
    {"rot_render_options", sizeof(rot_render_options)},
    {"rot_render_info", sizeof(rot_render_info)},
};

size_t rot_abi_size(int i, const char **name)
{
    if (i < 0 || (size_t)i >= sizeof table / sizeof *table) return 0;
    *name = table[i].name;
    return table[i].size;
}
