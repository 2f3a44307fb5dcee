// FreeType faces of one owner: an FT_Library of its own, so that no two threads ever share FreeType state.
#ifndef ROT_RENDERER_FACE_H
#define ROT_RENDERER_FACE_H

#include <ft2build.h>
#include FT_FREETYPE_H
#include <stdint.h>

#include "base/err.h"
#include "rotoscope/render.h"

typedef struct rot_faces {
    struct FT_MemoryRec_ memory; // the library's, over base/mem.h
    FT_Library library;
    FT_Face face[ROT_MAX_FONTS];
    int n;
} rot_faces;

// Modules with their built-in properties: FREETYPE_PROPERTIES of the environment moves no pixel.
// The struct must not move while it is open.
int rot_faces_open(rot_faces *faces, rot_err *err);
// `bytes` must outlive the face. ROT_ERR_MISSING: no scalable font.
int rot_faces_add(rot_faces *faces, const char *path, const char *bytes, size_t n_bytes, int index,
                  double size_px, rot_err *err);
void rot_faces_close(rot_faces *faces);

// ROT_ERR_NO_MEMORY if that is what FreeType says, else `code`; names the font.
int rot_face_error(FT_Error error, int code, const char *path, const char *what, rot_err *err);

// 26.6 to whole pixels: to nearest, halves up, for negative values too (Pillow's PIXEL).
static inline int32_t rot_pixel(int64_t value_26_6)
{
    return (int32_t)((value_26_6 + 32) >> 6);
}

#endif
