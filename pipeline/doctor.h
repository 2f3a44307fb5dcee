// What the two halves of doctor share: the machine (doctor.c) and the file system of a root
// (doctor_root.c).
#ifndef ROT_PIPELINE_DOCTOR_H
#define ROT_PIPELINE_DOCTOR_H

#include <jansson.h>

// Appends {"about", "ok", "text"} to `verdicts`.
__attribute__((format(printf, 4, 5))) void rot_doctor_say(json_t *verdicts, const char *about,
                                                          int ok, const char *format, ...);

// A JSON string of `text`; bytes that are no UTF-8, as paths may have, become '?'.
json_t *rot_doctor_text(const char *text);

// Looks at the folder `root` (or, where it is not made yet, at the nearest one above it): type,
// space, and what publishing a shard needs of it. It writes two small files there and removes them.
json_t *rot_doctor_root(const char *root, json_t *verdicts);

#endif
