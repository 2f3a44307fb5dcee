// Claims: small files under ROOT/.rotoscope/claims that say who works on what. A claim is a
// heartbeat (its mtime) and a hint that saves time; nothing is wrong if two hold one or if all are
// removed. No locks, so that they mean the same on every shared file system.
#ifndef ROT_PIPELINE_CLAIM_H
#define ROT_PIPELINE_CLAIM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "rotoscope/error.h"

// What the file says.
typedef struct rot_claim_note {
    char owner[112]; // rot_fs_unique: one process, ever; part of its unfinished shards' names
    char host[72], launcher[32], error[512]; // error: why its owner gave up, else ""
    char dataset[104];                       // that its owner builds
    long pid;
    int rank, ranks;
    uint64_t row, rows; // done, and to do
    double rate;        // rows per second
} rot_claim_note;

// One that this process holds.
typedef struct rot_claim {
    char path[4400];
    int fd; // -1: none
    rot_claim_note note;
} rot_claim;

// 1: ours now; 0: another's. A file whose owner is gone (silent for `stale_seconds`, ended on this
// host, or given up) is replaced, and *before (may be NULL) says whose it was; its owner is "" if
// there was none. `now` is the file system's time.
int rot_claim_take(const char *path, const rot_claim_note *note, double now, double stale_seconds,
                   rot_claim *out, rot_claim_note *before, rot_err *err);
// Writes the note again, which is the heartbeat. The file's new mtime, or a negative number if it
// could not be written (which does no harm).
double rot_claim_beat(rot_claim *claim);
// Removes the file if it is still ours.
void rot_claim_release(rot_claim *claim);
// Removes all claims of a root. For one who has the root to himself.
void rot_claims_clear(const char *root);
// Leaves the file with the reason, for `status` and for those who wait for it.
void rot_claim_give_up(rot_claim *claim, const char *error);

// ROT_ERR_MISSING: no such claim. A file that cannot be understood gives an empty note.
int rot_claim_read(const char *path, rot_claim_note *out, double *mtime, rot_err *err);
// Whether its owner can be taken to be at work no more.
bool rot_claim_is_stale(const rot_claim_note *note, double mtime, double now,
                        double stale_seconds);

// True if the process of that name ran on this host and has ended.
bool rot_owner_is_dead(const char *owner);

#endif
