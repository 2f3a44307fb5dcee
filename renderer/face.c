#include "renderer/face.h"

#include <stddef.h>
#include <string.h>
#include FT_MODULE_H

#include "base/mem.h"

typedef struct rot_face_block {
    struct rot_face_block *next, **link; // link: what points to this one
    _Alignas(16) unsigned char bytes[];
} rot_face_block;

static void chain(rot_faces *faces, rot_face_block *block)
{
    block->next = faces->blocks;
    block->link = &faces->blocks;
    if (block->next) block->next->link = &block->next;
    faces->blocks = block;
}

static void unchain(rot_face_block *block)
{
    *block->link = block->next;
    if (block->next) block->next->link = block->link;
}

static rot_face_block *block_of(void *bytes)
{
    return (rot_face_block *)((unsigned char *)bytes - offsetof(rot_face_block, bytes));
}

static void *give_up(rot_faces *faces)
{
    if (!faces->guarded) return NULL;
    rot_faces_close(faces);
    longjmp(faces->guard, 1);
}

static void *ft_alloc(FT_Memory memory, long size)
{
    rot_faces *faces = memory->user;
    rot_face_block *block = rot_malloc(sizeof *block + (size_t)size);
    if (!block) return give_up(faces);
    chain(faces, block);
    return block->bytes;
}

static void ft_free(FT_Memory memory, void *bytes)
{
    (void)memory;
    unchain(block_of(bytes));
    rot_free(block_of(bytes));
}

static void *ft_realloc(FT_Memory memory, long current, long wanted, void *bytes)
{
    (void)current;
    rot_faces *faces = memory->user;
    rot_face_block *old = block_of(bytes);
    unchain(old);
    rot_face_block *block = rot_realloc(old, sizeof *block + (size_t)wanted);
    chain(faces, block ? block : old);
    return block ? block->bytes : give_up(faces);
}

int rot_face_error(FT_Error error, int code, const char *path, const char *what, rot_err *err)
{
    return rot_err_set(err, code, "font '%s': %s (FreeType error %d)", path, what, error);
}

int rot_faces_open(rot_faces *faces, rot_err *err)
{
    memset(faces, 0, sizeof *faces);
    faces->memory = (struct FT_MemoryRec_){
        .user = faces, .alloc = ft_alloc, .free = ft_free, .realloc = ft_realloc};
    if (!rot_faces_guard(faces)) return rot_no_memory(err, sizeof(void *), "FreeType");
    FT_Error error = FT_New_Library(&faces->memory, &faces->library);
    if (!error) FT_Add_Default_Modules(faces->library);
    rot_faces_unguard(faces);
    if (!error) return 0;
    rot_faces_close(faces);
    ROT_FAIL(err, ROT_ERR_INTERNAL, "FreeType does not start (error %d)", error);
}

int rot_faces_add(rot_faces *faces, const char *path, const char *bytes, size_t n_bytes, int index,
                  double size_px, rot_err *err)
{
    FT_Face face;
    if (!rot_faces_guard(faces)) return rot_no_memory(err, sizeof(void *), "a face");
    FT_Error error =
        FT_New_Memory_Face(faces->library, (const FT_Byte *)bytes, (FT_Long)n_bytes, index, &face);
    if (error) {
        rot_faces_unguard(faces);
        return rot_face_error(error, ROT_ERR_MISSING, path, "is no font", err);
    }
    faces->face[faces->n++] = face;
    bool scalable = FT_IS_SCALABLE(face) && face->units_per_EM > 0 && face->num_glyphs > 0;
    // Nominal size in pixels per em, 26.6, as ImageFont.truetype asks for it.
    FT_Size_RequestRec request = {.type = FT_SIZE_REQUEST_TYPE_NOMINAL,
                                  .width = (FT_Long)(size_px * 64),
                                  .height = (FT_Long)(size_px * 64)};
    if (scalable) error = FT_Request_Size(face, &request);
    rot_faces_unguard(faces);
    if (!scalable) ROT_FAIL(err, ROT_ERR_MISSING, "font '%s': is no scalable font", path);
    if (error) return rot_face_error(error, ROT_ERR_MISSING, path, "does not scale", err);
    return 0;
}

void rot_faces_close(rot_faces *faces)
{
    for (rot_face_block *block = faces->blocks, *next; block; block = next) {
        next = block->next;
        rot_free(block);
    }
    faces->blocks = NULL;
    faces->library = NULL;
    faces->n = 0;
    faces->guarded = false;
}
