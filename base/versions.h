// Which libraries we run on, said by the modules that may include them; for `rotoscope doctor`.
#ifndef ROT_BASE_VERSIONS_H
#define ROT_BASE_VERSIONS_H

typedef struct rot_version {
    const char *library;
    char
        version[48]; // of the library that is loaded, not of the headers that we were compiled with
} rot_version;

// Each writes at most `capacity` entries to `out` and returns how many. Safe in any thread.
int rot_base_versions(rot_version *out, int capacity);
int rot_tokenizer_versions(rot_version *out, int capacity);
int rot_renderer_versions(rot_version *out, int capacity);
int rot_kernels_versions(rot_version *out, int capacity);
int rot_shards_versions(rot_version *out, int capacity);

// Appends one entry if there is room; for the functions above. Returns the new count.
int rot_version_add(rot_version *out, int capacity, int n, const char *library,
                    const char *version);

#endif
