#include "renderer/face.h"

#include <string.h>
#include FT_MODULE_H
#include FT_SIZES_H

#include "base/mem.h"

static void *ft_alloc(FT_Memory memory, long size)
{
    (void)memory;
    return rot_malloc((size_t)size);
}

static void ft_free(FT_Memory memory, void *block)
{
    (void)memory;
    rot_free(block);
}

static void *ft_realloc(FT_Memory memory, long current, long wanted, void *block)
{
    (void)memory;
    (void)current;
    return rot_realloc(block, (size_t)wanted);
}

int rot_face_error(FT_Error error, int code, const char *path, const char *what, rot_err *err)
{
    if (FT_ERROR_BASE(error) == FT_Err_Out_Of_Memory)
        return rot_err_set(err, ROT_ERR_NO_MEMORY, "out of memory (font '%s', %s)", path, what);
    return rot_err_set(err, code, "font '%s': %s (FreeType error %d)", path, what, error);
}

int rot_faces_open(rot_faces *faces, rot_err *err)
{
    memset(faces, 0, sizeof *faces);
    faces->memory.alloc = ft_alloc;
    faces->memory.free = ft_free;
    faces->memory.realloc = ft_realloc;
    FT_Error error = FT_New_Library(&faces->memory, &faces->library);
    if (error) {
        faces->library = NULL;
        return rot_no_memory(err, sizeof(void *), "FreeType");
    }
    FT_Add_Default_Modules(faces->library);
    // A module that found no memory is left out without a word, and another would draw other pixels.
    static const char *const needed[] = {"truetype", "cff", "sfnt", "autofitter", "smooth", "raster1", "psnames"};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!FT_Get_Module(faces->library, needed[i])) {
            rot_faces_close(faces);
            return rot_no_memory(err, sizeof(void *), "a module of FreeType");
        }
    return 0;
}

int rot_faces_add(rot_faces *faces, const char *path, const char *bytes, size_t n_bytes, int index,
                  double size_px, rot_err *err)
{
    FT_Face face;
    FT_Error error = FT_New_Memory_Face(faces->library, (const FT_Byte *)bytes, (FT_Long)n_bytes, index,
                                        &face);
    if (error) return rot_face_error(error, ROT_ERR_MISSING, path, "is no font", err);
    faces->face[faces->n++] = face;
    if (!FT_IS_SCALABLE(face) || face->units_per_EM == 0 || face->num_glyphs <= 0)
        ROT_FAIL(err, ROT_ERR_MISSING, "font '%s': is no scalable font", path);
    // Nominal size in pixels per em, 26.6, as ImageFont.truetype asks for it.
    FT_Size_RequestRec request = {.type = FT_SIZE_REQUEST_TYPE_NOMINAL,
                                  .width = (FT_Long)(size_px * 64),
                                  .height = (FT_Long)(size_px * 64)};
    error = FT_Request_Size(face, &request);
    if (error) return rot_face_error(error, ROT_ERR_MISSING, path, "does not scale", err);
    return 0;
}

void rot_faces_close(rot_faces *faces)
{
    for (int i = 0; i < faces->n; i++) FT_Done_Face(faces->face[i]);
    if (faces->library) FT_Done_Library(faces->library);
    memset(faces, 0, sizeof *faces);
}
