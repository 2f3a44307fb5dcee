// A shard in the making: what writer.c (opening, appending) and publish.c (ending) share.
#ifndef ROT_SHARDS_WRITER_H
#define ROT_SHARDS_WRITER_H

#include <limits.h>

#include "shards/ledger.h"
#include "shards/pack.h"
#include "shards/spec.h"

struct rot_shard_writer {
    rot_stage_spec spec;
    rot_ledger ledger; // its rows are those written; a block that is open comes on top
    rot_codecs *codecs;
    int fd;
    bool failed; // nothing more goes in
    bool spoilt; // a write or sync failed: what the file holds is not known any more
    char dir[PATH_MAX], path[PATH_MAX], tmp[PATH_MAX];
    char near[PATH_MAX]; // the .tmp's name in dir if it lies on scratch, else ""
    rot_packer packer; // the open block
};

// Writes all of it at `offset`. A full disk is ROT_ERR_NO_SPACE whatever the system calls it.
int rot_writer_pwrite(rot_shard_writer *writer, const void *bytes, size_t n_bytes, uint64_t offset,
                      rot_err *err);
int rot_writer_errno(rot_shard_writer *writer, int error_number, const char *what, rot_err *err);
void rot_writer_free(rot_shard_writer **writer);

#endif
