// What export.c (which samples), export_write.c (formats) and import.c share.
#ifndef ROT_PIPELINE_EXPORT_H
#define ROT_PIPELINE_EXPORT_H

#include <stdio.h>

#include "base/mem.h"
#include "rotoscope/export.h"
#include "rotoscope/reader.h"

typedef struct rot_selection {
    uint64_t *samples;
    size_t n, capacity;
} rot_selection;

// The samples that fulfil the conditions, in order. The caller frees samples.
int rot_export_select(rot_reader *reader, const rot_export_options *options, rot_selection *out,
                      rot_err *err);
// ROT_ERR_USAGE: the condition makes no sense. Needs no reader.
int rot_export_check_condition(const char *text, rot_err *err);

// A sample's record with its payload in *buffer, which grows.
typedef struct rot_growing {
    char *bytes;
    size_t capacity;
} rot_growing;
int rot_export_read(rot_reader *reader, const char *stage, uint64_t sample, rot_growing *buffer,
                    rot_record *out, rot_err *err);

typedef int rot_export_writer(rot_reader *reader, const rot_selection *selection,
                              const char *output, rot_err *err);
// NULL: no such format.
rot_export_writer *rot_export_writer_of(const char *format);

#endif
