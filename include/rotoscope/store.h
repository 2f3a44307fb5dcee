// Stages on disk: sharded LMDB files of checked records. The bytes are written down in
// schemas/FORMAT.md.
#ifndef ROTOSCOPE_STORE_H
#define ROTOSCOPE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "encoder.h" // rot_dtype
#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rot_kind {
    ROT_KIND_TOKENS = 1,   // shape {n_question, n_trace, n_answer, n_text_bytes}; see FORMAT.md
    ROT_KIND_IMAGE = 2,    // shape {width, height, channels, 0}; column-major pixels, u8
    ROT_KIND_EMBEDS = 3,   // shape {K, d, grid_h, grid_w}; row-major bf16 or f32
    ROT_KIND_TOMBSTONE = 4 // shape {n_bytes, 0, 0, 0}; payload: the cause, UTF-8
} rot_kind;

typedef enum rot_codec {
    ROT_CODEC_NONE = 0,
    ROT_CODEC_ZSTD = 1,
    ROT_CODEC_ZSTD_BF16 = 2
} rot_codec;

// One record. When reading, payload belongs to the reader (see rot_stage_get).
typedef struct rot_record {
    rot_kind kind;
    rot_dtype dtype;
    uint32_t shape[4];
    const void *payload; // logical content, uncompressed
    size_t n_bytes;
} rot_record;

// XXH3-128 (canonical big-endian bytes) over kind, dtype, shape and payload: the record hash. It
// does not depend on the codec.
void rot_record_hash(const rot_record *record, uint8_t out[16]);

// The layout of a stage; with the content fingerprint it names the stage's folder.
typedef struct rot_stage_layout {
    rot_codec codec;
    uint32_t shard_samples, commit_samples; // 4096, 64; the first a multiple of the second
} rot_stage_layout;

// What a stage is. `fingerprint` is the content fingerprint, `content` the JSON object it was made
// of.
typedef struct rot_stage_spec {
    const char *stage; // "tokens", "images", "embeds"
    uint8_t fingerprint[32];
    const char *content; // JSON
    rot_stage_layout layout;
    uint64_t rows;
} rot_stage_spec;

// "embeds-" and 16 hex digits of SHA-256(fingerprint, layout).
void rot_stage_folder(const rot_stage_spec *spec, char out[64]);

/* ---- writing: one writer per shard, one process per writer ----------------------------------- */

typedef struct rot_shard_writer rot_shard_writer;

// Opens (or, after a kill, re-opens) the .tmp of shard `shard` of the stage in `dir`, made if
// absent. *next_row is the first row still to be appended: what was committed before stays. A .tmp
// that is torn or of another spec is thrown away. ROT_ERR_NOT_FOUND: the shard is published
// already. `owner` (may be NULL) goes into the .tmp's name so that ranks never write the same file.
int rot_shard_writer_open(const char *dir, const rot_stage_spec *spec, uint32_t shard,
                          const char *owner, rot_shard_writer **out, uint64_t *next_row,
                          rot_err *err);
// The same with the .tmp in `scratch` (a folder of this machine, made if absent; NULL: in `dir`):
// publishing syncs it, copies it into `dir`, syncs that, links it.
int rot_shard_writer_open_scratch(const char *dir, const char *scratch, const rot_stage_spec *spec,
                                  uint32_t shard, const char *owner, rot_shard_writer **out,
                                  uint64_t *next_row, rot_err *err);
// Before opening: if `owner` has no .tmp of this shard, takes up the longest that lies in `dir`.
// One without an owner is renamed, that of another owner copied, since he may wake up and write;
// its original goes if is_dead(him) (may be NULL). 1: there was one.
int rot_shard_adopt(const char *dir, const char *scratch, uint32_t shard, const char *owner,
                    bool (*is_dead)(const char *owner), rot_err *err);
// One look at the folder for all shards, since a look for each costs their number squared: marks in
// left (n shards) those of which there is an unfinished file. No such folder: none.
int rot_shard_find_leftovers(const char *dir, uint32_t n, bool *left, rot_err *err);
// Whether one without an owner is there.
bool rot_shard_is_left(const char *dir, uint32_t shard);
// After closing: leaves the .tmp in `dir`, without an owner, to whoever goes on; removes it if the
// shard is published.
void rot_shard_leave(const char *dir, const char *scratch, uint32_t shard, const char *owner);
// Row must be the next one. Commits by itself after every layout.commit_samples rows; the payload
// is copied before the call returns.
int rot_shard_writer_append(rot_shard_writer *writer, uint64_t row, const rot_record *record,
                            rot_err *err);

// A commit unit made ready by any thread, so that hashing and compression need not wait for the
// writer. The shard's bytes are those that rot_shard_writer_append gives. One thread at a time; use
// it again for as many units as there are.
typedef struct rot_unit rot_unit;
int rot_unit_open(const rot_stage_spec *spec, rot_unit **out, rot_err *err);
void rot_unit_close(rot_unit **unit);
// Empties it. ROT_ERR_USAGE: `row` is not the first of a commit unit.
int rot_unit_begin(rot_unit *unit, uint64_t row, rot_err *err);
// The next row; the payload is copied before the call returns.
int rot_unit_add(rot_unit *unit, const rot_record *record, rot_err *err);
// What the values packed so far take in a shard's file.
uint64_t rot_unit_file_bytes(const rot_unit *unit);
// Appends it and commits. ROT_ERR_USAGE: its rows are not all there, or not the writer's next.
int rot_shard_writer_append_unit(rot_shard_writer *writer, const rot_unit *unit, rot_err *err);

// All rows are there: syncs, links under the final name (the first wins), syncs the folder, removes
// the .tmp. Ends and nulls the writer on success and on failure.
int rot_shard_writer_publish(rot_shard_writer **writer, rot_err *err);
// Commits what forms a whole commit unit and leaves the .tmp for the next run.
void rot_shard_writer_close(rot_shard_writer **writer);

// Rows [first, first + n) of shard `shard`.
void rot_shard_range(const rot_stage_spec *spec, uint32_t shard, uint64_t *first, uint64_t *n);
uint32_t rot_shard_count(const rot_stage_spec *spec);
// True if the shard's final file is there (nothing is checked).
bool rot_shard_is_published(const char *dir, uint32_t shard);

// All shards are published: reads the record hashes, writes stage.json (atomically). Returns the
// root.
int rot_stage_finish(const char *dir, const rot_stage_spec *spec, uint8_t root[32], rot_err *err);

/* ---- reading --------------------------------------------------------------------------------- */

// Lazily opened shards; not to be shared by threads: open one each.
typedef struct rot_stage rot_stage;

typedef struct rot_stage_info {
    char stage[16];
    char fingerprint[65], root[65]; // hex; root is "" for a stage without stage.json (being built)
    rot_stage_layout layout;
    uint64_t rows, samples, skipped; // samples + skipped == rows
    uint64_t file_bytes, payload_bytes;
    const char *content; // JSON, owned by the stage
} rot_stage_info;

// `dir` is a stage's folder. ROT_ERR_MISSING: no stage.json.
int rot_stage_open(const char *dir, rot_stage **out, rot_err *err);
void rot_stage_close(rot_stage **stage);
const rot_stage_info *rot_stage_get_info(const rot_stage *stage);

// One record, checked against its hash. The payload lives until the next call on this stage (a lone
// uncompressed record points into the map and lives as long as the stage).
// ROT_ERR_NOT_FOUND: row >= rows; ROT_ERR_CORRUPT: named by shard and row, never a signal.
int rot_stage_get(rot_stage *stage, uint64_t row, rot_record *out, rot_err *err);

// The same for those who go through the rows in order: opening a shard unmaps the others, so that
// memory does not grow with the rows. Payloads live until the next call.
int rot_stage_walk(rot_stage *stage, uint64_t row, rot_record *out, rot_err *err);

// For readers of much (rotoscope/reader.h): the same record without its payload. out->payload
// points into the map, where it lives as long as the stage, if the payload is stored as it is; else
// it is NULL. Lengths are checked, and that the trailer names this record; the payload is not
// against its hash.
int rot_stage_peek(rot_stage *stage, uint64_t row, rot_record *out, rot_err *err);
// The payload decoded or copied into buffer[capacity], checked against its hash if `check`.
// ROT_ERR_TOO_LARGE: out->n_bytes are needed.
int rot_stage_read(rot_stage *stage, uint64_t row, bool check, void *buffer, size_t capacity,
                   rot_record *out, rot_err *err);
// What the kernel is told about the pages of rows[0..n): that they will be wanted soon, the same
// unless they seem to be in memory already, or that they are done with. Advice that it does not
// take is no error.
typedef enum rot_advice { ROT_ADVICE_WILL_NEED, ROT_ADVICE_IF_COLD, ROT_ADVICE_DONE } rot_advice;
int rot_stage_advise(rot_stage *stage, const uint64_t *rows, size_t n, rot_advice advice,
                     rot_err *err);

// Checks every header, hash, shard trailer and the root. `report` (may be NULL) is called per bad
// record or shard; row is UINT64_MAX for a fault that has no row. Returns ROT_ERR_CORRUPT if there
// was any.
typedef void rot_verify_report(void *user, const char *path, uint64_t row, const char *cause);
int rot_stage_verify(const char *dir, rot_verify_report *report, void *user, rot_err *err);

// Writes the records of `from` under another layout (same content, same root) into `dir`.
int rot_stage_transcode(rot_stage *from, const char *dir, const rot_stage_spec *spec,
                        const char *owner, rot_err *err);

/* ---- repair ---------------------------------------------------------------------------------- */

// A published shard as it lies in `dir`, whatever is left of it: all of its records are bad if it
// is not there. `known` (may be NULL) is the stage opened by its stage.json, which says what the
// shard must be; without it a record is believed by its own hash and its place.
typedef struct rot_salvage rot_salvage; // one thread at a time
int rot_salvage_open(const char *dir, const rot_stage_spec *spec, uint32_t shard,
                     const rot_stage *known, rot_salvage **out, rot_err *err);
void rot_salvage_close(rot_salvage **salvage);
// Every byte of the file is the one that its records call for.
bool rot_salvage_is_whole(const rot_salvage *salvage);
// ROT_ERR_CORRUPT: the record is bad. The payload lives until the next call.
int rot_salvage_get(rot_salvage *salvage, uint64_t row, rot_record *out, rot_err *err);

/* ---- datasets -------------------------------------------------------------------------------- */

typedef struct rot_dataset rot_dataset;

typedef struct rot_split_info {
    const char *name;
    uint64_t rows, samples, skipped;
} rot_split_info;

// A dataset's JSON file (ROT_ERR_MISSING, ROT_ERR_FORMAT, ROT_ERR_CORRUPT if its root does not
// fit).
int rot_dataset_open(const char *path, rot_dataset **out, rot_err *err);
void rot_dataset_close(rot_dataset **dataset);
const char *rot_dataset_name(const rot_dataset *dataset);
const char *rot_dataset_root(const rot_dataset *dataset); // hex
int rot_dataset_splits(const rot_dataset *dataset);
// Split i in the order of the file.
int rot_dataset_split(const rot_dataset *dataset, int i, rot_split_info *out);
// Folder of a stage of a split, or NULL: not built. Owned by the dataset.
const char *rot_dataset_stage_dir(const rot_dataset *dataset, const char *split, const char *stage);
// rot_stage_open of such a folder: if it is gone, ROT_ERR_CORRUPT, as for a shard that stage.json
// names.
int rot_stage_open_named(const char *dir, rot_stage **out, rot_err *err);
// The 32-byte root of that stage as the dataset names it, or NULL. Owned by the dataset.
const uint8_t *rot_dataset_stage_root(const rot_dataset *dataset, const char *split,
                                      const char *stage);
// Checks the dataset file, every stage it names (rot_stage_verify) and that their roots are the
// named.
int rot_dataset_verify(const char *path, rot_verify_report *report, void *user, rot_err *err);

// A store root (every dataset file in it, every complete stage under stages/, each once), a dataset
// file, or a stage's folder. ROT_ERR_MISSING: there is nothing at `path`.
typedef struct rot_verify_summary {
    uint64_t datasets, stages, records; // looked at
    uint64_t unfinished;                // stages without stage.json: being built, or left by a kill
    uint64_t bad;                       // calls of `report`
} rot_verify_summary;
int rot_store_verify(const char *path, rot_verify_report *report, void *user,
                     rot_verify_summary *summary, rot_err *err);

// Dataset root: SHA-256 over, for every split in byte order of names and every stage in the order
// tokens, images, embeds: the split's name, 0, the stage's name, 0, the stage's 32-byte root.
// All zero if there is no memory.
typedef struct rot_stage_root {
    const char *split, *stage;
    uint8_t root[32];
} rot_stage_root;
void rot_dataset_root_hash(const rot_stage_root *roots, size_t n, uint8_t out[32]);
// Adds a last member "sha256" over all bytes before it to a JSON object's text, as stage.json has
// it, or to the "provenance" that ends it, as a dataset file has it: then verify finds a flipped
// byte anywhere in it. The caller frees *sealed.
int rot_dataset_seal(const char *json, char **sealed, rot_err *err);
// The same for YAML text: a last line "# sha256: HEX".
int rot_config_seal(const char *yaml, char **sealed, rot_err *err);
// ROT_ERR_MISSING; ROT_ERR_CORRUPT: the file does not end with the seal of what is before it.
int rot_config_check_seal(const char *path, rot_err *err);

#ifdef __cplusplus
}
#endif
#endif
