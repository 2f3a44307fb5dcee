// One walk of verify over stages and datasets; each stage is looked at once.
#ifndef ROT_SHARDS_VERIFY_H
#define ROT_SHARDS_VERIFY_H

#include <sys/types.h>

#include "rotoscope/store.h"

typedef struct rot_verifier {
    rot_verify_report *report; // may be NULL
    void *user;
    rot_verify_summary summary;
    struct rot_verified {
        dev_t device;
        ino_t inode;
    } *seen; // folders of stages
    size_t n_seen, capacity;
} rot_verifier;

__attribute__((format(printf, 4, 5)))
void rot_verifier_say(rot_verifier *verifier, const char *path, uint64_t row, const char *format,
                      ...);
// Faults are reported, not returned; negative: memory, input or output failed. ROT_ERR_MISSING: no
// stage.json.
int rot_verifier_stage(rot_verifier *verifier, const char *dir, rot_err *err);
int rot_verifier_dataset(rot_verifier *verifier, const char *path, rot_err *err);
// Frees what it holds; ROT_ERR_CORRUPT if anything was reported.
int rot_verifier_end(rot_verifier *verifier, const char *path, rot_err *err);

#endif
