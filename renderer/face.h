// FreeType faces of one owner: an FT_Library of its own, so that no two threads ever share FreeType
// state.
#ifndef ROT_RENDERER_FACE_H
#define ROT_RENDERER_FACE_H

#include <ft2build.h>
#include FT_FREETYPE_H
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "rotoscope/render.h"

// FreeType copes badly with a failed allocation: it goes on without a hint here and crashes there.
// So it never sees one: its allocations are on a list of ours, a failed one jumps out of FreeType
// to `guard`, and everything on the list is dropped with the library.
typedef struct rot_faces {
    struct FT_MemoryRec_ memory; // the library's, over base/mem.h
    FT_Library library;
    FT_Face face[ROT_MAX_FONTS];
    int n;
    struct rot_face_block *blocks;
    jmp_buf guard; // valid while `guarded`
    bool guarded;
} rot_faces;

// Calls into FreeType from here to rot_faces_unguard, in one function. False, the second time, if
// memory ran out on the way: then the faces are closed (library is NULL) and must be opened again.
#define rot_faces_guard(faces) ((faces)->guarded = true, setjmp((faces)->guard) == 0)
static inline void rot_faces_unguard(rot_faces *faces)
{
    faces->guarded = false;
}

// Modules with their built-in properties: FREETYPE_PROPERTIES of the environment moves no pixel.
// The struct must not move while it is open.
int rot_faces_open(rot_faces *faces, rot_err *err);
// `bytes` must outlive the face. ROT_ERR_MISSING: no scalable font.
int rot_faces_add(rot_faces *faces, const char *path, const char *bytes, size_t n_bytes, int index,
                  double size_px, rot_err *err);
void rot_faces_close(rot_faces *faces);

// Names the font and what FreeType says.
int rot_face_error(FT_Error error, int code, const char *path, const char *what, rot_err *err);

// 26.6 to whole pixels: to nearest, halves up, for negative values too (Pillow's PIXEL).
static inline int32_t rot_pixel(int64_t value_26_6)
{
    return (int32_t)((value_26_6 + 32) >> 6);
}

#endif
