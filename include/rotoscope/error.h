// Errors: every fallible call returns 0 or a negative rot_error; its last parameter, a rot_err
// owned by the caller, receives the message. Shared objects are immutable, so the message lives
// with the caller and two threads never overwrite each other's.
#ifndef ROTOSCOPE_ERROR_H
#define ROTOSCOPE_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rot_error {
    ROT_OK = 0,
    ROT_ERR_USAGE = -1,         // the call or the command line makes no sense            exit 2
    ROT_ERR_CONFIG = -2,        // config: unknown key, type, range, no effect            exit 2
    ROT_ERR_MISSING = -3,       // a named file is not there, or is no font, tokenizer,
                                // checkpoint                                             exit 2
    ROT_ERR_INPUT = -4,         // a bad row of the input                                 exit 1
    ROT_ERR_FORMAT = -5,        // malformed checkpoint, image, JSON                      exit 1
    ROT_ERR_TOO_LARGE = -6,     // an image that the geometry or the page cannot take     exit 1
    ROT_ERR_MISSING_GLYPH = -7, // no font of the list has a glyph for a code point       exit 1
    ROT_ERR_UNSUPPORTED = -8,   // a pair or a model that we do not do                    exit 2
    ROT_ERR_IO = -9,            // read, write, sync failed                               exit 1
    ROT_ERR_NO_SPACE = -10,     // the disk or quota is full                              exit 1
    ROT_ERR_NO_MEMORY = -11,    //                                                        exit 1
    ROT_ERR_LOCKED = -12,       // another build has the root                             exit 1
    ROT_ERR_NOT_FOUND = -13,    // no such row, id, split, tensor                         exit 1
    ROT_ERR_CORRUPT = -14,      // a hash, a header or a size does not fit                exit 3
    ROT_ERR_STOPPED = -15,      // stopped before the end by a signal: run again          exit 75
    ROT_ERR_INTERNAL = -16      // a bug of ours                                          exit 1
} rot_error;

// What went wrong, in words: file, line or byte offset where there is one, and the cause. One per
// thread; set by the call that failed, left alone by calls that succeed.
typedef struct rot_err {
    int code; // a rot_error
    char message[1024];
} rot_err;

// The exit code of the command line for `code` (design: 0, 1, 2, 3, 75).
int rot_exit_code(int code);

// A short English name of `code`, such as "corrupt". Static storage.
const char *rot_error_name(int code);

#ifdef __cplusplus
}
#endif
#endif
