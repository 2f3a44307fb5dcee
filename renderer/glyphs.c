#include "renderer/glyphs.h"

#include <string.h>
#include FT_BITMAP_H
#include FT_GLYPH_H

#include "renderer/renderer.h"

enum { MAX_BYTES = 64 << 20 };

static int open_faces(rot_glyphs *glyphs, rot_err *err)
{
    const rot_renderer *renderer = glyphs->renderer;
    int rc = rot_faces_open(&glyphs->faces, err);
    for (int i = 0; i < renderer->n_fonts && rc == 0; i++) {
        const rot_font *font = &renderer->fonts[i];
        rc = rot_faces_add(&glyphs->faces, font->path, font->bytes, font->n_bytes, font->index,
                           renderer->options.size_px, err);
    }
    if (rc < 0) rot_faces_close(&glyphs->faces);
    return rc;
}

int rot_glyphs_open(rot_glyphs *glyphs, const rot_renderer *renderer, rot_err *err)
{
    memset(glyphs, 0, sizeof *glyphs);
    glyphs->renderer = renderer;
    int rc;
    ROT_GO(open_faces(glyphs, err));
    for (int i = 0; i < renderer->n_fonts; i++) {
        const rot_font *font = &renderer->fonts[i];
        glyphs->table[i] = rot_calloc(font->n_glyphs, sizeof *glyphs->table[i]);
        if (!glyphs->table[i]) {
            rc = rot_no_memory(err, font->n_glyphs * sizeof *glyphs->table[i], "a table of glyphs");
            goto done;
        }
    }
done:
    if (rc < 0) rot_glyphs_close(glyphs);
    return rc;
}

void rot_glyphs_close(rot_glyphs *glyphs)
{
    for (int i = 0; i < ROT_MAX_FONTS; i++) rot_free(glyphs->table[i]);
    rot_arena_free(&glyphs->arena);
    rot_faces_close(&glyphs->faces);
    memset(glyphs, 0, sizeof *glyphs);
}

int rot_glyphs_mend(rot_glyphs *glyphs, rot_err *err)
{
    return glyphs->faces.library ? 0 : open_faces(glyphs, err);
}

bool rot_glyphs_trim(rot_glyphs *glyphs)
{
    if (glyphs->n_bytes <= MAX_BYTES) return false;
    for (int i = 0; i < glyphs->renderer->n_fonts; i++)
        memset(glyphs->table[i], 0, glyphs->renderer->fonts[i].n_glyphs * sizeof *glyphs->table[i]);
    rot_arena_reset(&glyphs->arena);
    glyphs->n_bytes = 0;
    return true;
}

static void *take(rot_glyphs *glyphs, size_t n_bytes)
{
    void *block = rot_arena_alloc(&glyphs->arena, n_bytes);
    if (block) {
        memset(block, 0, n_bytes);
        glyphs->n_bytes += n_bytes;
    }
    return block;
}

// Rows of an 8-bit bitmap to columns.
static int copy_columns(rot_glyphs *glyphs, rot_glyph *glyph, const FT_Bitmap *bitmap, rot_err *err)
{
    glyph->width = (int32_t)bitmap->width;
    glyph->height = (int32_t)bitmap->rows;
    glyph->stride = (glyph->height + ROT_COLUMN - 1) / ROT_COLUMN * ROT_COLUMN;
    if (!glyph->width || !glyph->height) {
        glyph->width = glyph->height = 0;
        return 0;
    }
    size_t n_bytes = (size_t)glyph->width * (size_t)glyph->stride;
    uint8_t *columns = take(glyphs, n_bytes);
    if (!columns) return rot_no_memory(err, n_bytes, "a glyph");
    for (int y = 0; y < glyph->height; y++) {
        const uint8_t *row = bitmap->buffer + (ptrdiff_t)y * bitmap->pitch;
        for (int x = 0; x < glyph->width; x++) columns[x * glyph->stride + y] = row[x];
    }
    glyph->columns = columns;
    int top = glyphs->renderer->baseline_px - glyph->top; // row on the canvas of line mode
    if (glyphs->renderer->options.mode != ROT_MODE_LINE ||
        glyphs->renderer->options.height_px != 32 || top < 0 || top + glyph->height > 32)
        return 0;
    uint8_t *placed = take(glyphs, (size_t)glyph->width * 32);
    if (!placed) return rot_no_memory(err, (size_t)glyph->width * 32, "a glyph");
    for (int x = 0; x < glyph->width; x++)
        memcpy(placed + x * 32 + top, columns + x * glyph->stride, (size_t)glyph->height);
    glyph->placed = placed;
    return 0;
}

// Bitmaps of fewer than 8 bits (embedded ones) are spread to 0..255, as Pillow does: times
// 255/(levels-1).
static int copy_bitmap(rot_glyphs *glyphs, rot_glyph *glyph, const FT_Bitmap *bitmap,
                       const char *path, rot_err *err)
{
    int levels = bitmap->pixel_mode == FT_PIXEL_MODE_MONO    ? 2
                 : bitmap->pixel_mode == FT_PIXEL_MODE_GRAY2 ? 4
                 : bitmap->pixel_mode == FT_PIXEL_MODE_GRAY4 ? 16
                                                             : 256;
    if (!bitmap->buffer || bitmap->pixel_mode == FT_PIXEL_MODE_GRAY)
        return copy_columns(glyphs, glyph, bitmap, err);
    if (levels == 256)
        ROT_FAIL(err, ROT_ERR_FORMAT, "font '%s': a glyph in a pixel format that cannot be drawn",
                 path);
    FT_Bitmap grey;
    FT_Bitmap_Init(&grey);
    FT_Error error = FT_Bitmap_Convert(glyphs->faces.library, bitmap, &grey, 1);
    if (error) return rot_face_error(error, ROT_ERR_FORMAT, path, "a bitmap", err);
    size_t n = (size_t)grey.rows * (size_t)grey.pitch;
    for (size_t i = 0; i < n; i++)
        grey.buffer[i] = (uint8_t)(grey.buffer[i] * (255 / (levels - 1)));
    int rc = copy_columns(glyphs, glyph, &grey, err);
    FT_Bitmap_Done(glyphs->faces.library, &grey);
    return rc;
}

static int draw(rot_glyphs *glyphs, int font, uint32_t glyph_id, rot_glyph *glyph, rot_err *err)
{
    FT_Face face = glyphs->faces.face[font];
    const char *path = glyphs->renderer->fonts[font].path;
    char what[32];
    snprintf(what, sizeof what, "glyph %u", glyph_id);
    FT_Error error = FT_Load_Glyph(face, glyph_id, FT_LOAD_DEFAULT);
    if (error) return rot_face_error(error, ROT_ERR_FORMAT, path, what, err);
    FT_Glyph outline;
    error = FT_Get_Glyph(face->glyph, &outline);
    if (error) return rot_face_error(error, ROT_ERR_FORMAT, path, what, err);
    FT_BBox box;
    FT_Glyph_Get_CBox(outline, FT_GLYPH_BBOX_PIXELS, &box);
    FT_Done_Glyph(outline);
    glyph->x_min = (int32_t)box.xMin;
    glyph->x_max = (int32_t)box.xMax;
    glyph->y_min = (int32_t)box.yMin;
    glyph->y_max = (int32_t)box.yMax;
    // Renders what was just loaded; an embedded bitmap is there already.
    error = FT_Render_Glyph(face->glyph, FT_RENDER_MODE_NORMAL);
    if (error) return rot_face_error(error, ROT_ERR_FORMAT, path, what, err);
    glyph->left = face->glyph->bitmap_left;
    glyph->top = face->glyph->bitmap_top;
    return copy_bitmap(glyphs, glyph, &face->glyph->bitmap, path, err);
}

static int draw_guarded(rot_glyphs *glyphs, int font, uint32_t glyph_id, rot_glyph *glyph,
                        rot_err *err)
{
    if (!rot_faces_guard(&glyphs->faces)) return rot_no_memory(err, sizeof *glyph, "a glyph");
    int rc = draw(glyphs, font, glyph_id, glyph, err);
    rot_faces_unguard(&glyphs->faces);
    return rc;
}

int rot_glyphs_get(rot_glyphs *glyphs, int font, uint32_t glyph_id, const rot_glyph **out,
                   rot_err *err)
{
    const rot_font *of = &glyphs->renderer->fonts[font];
    if (glyph_id >= of->n_glyphs)
        ROT_FAIL(err, ROT_ERR_FORMAT, "font '%s': shaping gives glyph %u of %u", of->path, glyph_id,
                 of->n_glyphs);
    const rot_glyph *known = glyphs->table[font][glyph_id];
    if (!known) {
        rot_glyph *glyph = take(glyphs, sizeof *glyph);
        if (!glyph) return rot_no_memory(err, sizeof *glyph, "a glyph");
        ROT_TRY(draw_guarded(glyphs, font, glyph_id, glyph, err));
        glyphs->table[font][glyph_id] = known = glyph;
    }
    *out = known;
    return 0;
}
