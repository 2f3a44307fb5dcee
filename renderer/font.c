#include "renderer/font.h"

#include <hb-ot.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"

// hb_ft derives its scale so: the size's x_scale times units per em, rounded to 26.6. hb-ot
// functions on that scale give the positions that hb-ft gives without hinting, and need no FT_Face.
static int to_scale(FT_Fixed scale, FT_UShort units_per_em)
{
    return (int)(((int64_t)scale * units_per_em + (1 << 15)) >> 16);
}

static int make_hb_font(rot_font *font, FT_Face face, rot_err *err)
{
    hb_blob_t *blob =
        hb_blob_create(font->bytes, (unsigned)font->n_bytes, HB_MEMORY_MODE_READONLY, NULL, NULL);
    hb_face_t *hb_face = hb_face_create(blob, (unsigned)font->index);
    hb_face_make_immutable(hb_face);
    font->hb = hb_font_create(hb_face);
    hb_face_destroy(hb_face);
    hb_blob_destroy(blob);
    if (font->hb == hb_font_get_empty()) return rot_no_memory(err, sizeof(void *), "an hb_font");
    hb_font_set_scale(font->hb, to_scale(face->size->metrics.x_scale, face->units_per_EM),
                      to_scale(face->size->metrics.y_scale, face->units_per_EM));
    hb_ot_font_set_funcs(font->hb);
    hb_font_make_immutable(font->hb);
    return 0;
}

int rot_font_open(const char *name, double size_px, rot_font *out, rot_err *err)
{
    rot_faces faces = {0};
    int rc;
    memset(out, 0, sizeof *out);
    ROT_GO(rot_font_find(name, &out->path, &out->index, err));
    rc = rot_fs_read(out->path, &out->bytes, &out->n_bytes, err);
    if (rc < 0) {
        if (rc != ROT_ERR_NO_MEMORY) err->code = rc = ROT_ERR_MISSING;
        rot_err_prefix(err, "font '%s': ", name);
        goto done;
    }
    rot_sha256_bytes(out->bytes, out->n_bytes, out->sha256);
    ROT_GO(rot_faces_open(&faces, err));
    ROT_GO(rot_faces_add(&faces, out->path, out->bytes, out->n_bytes, out->index, size_px, err));
    FT_Face face = faces.face[0];
    out->n_glyphs = (uint32_t)face->num_glyphs;
    out->ascender_px = rot_pixel(face->size->metrics.ascender);
    ROT_GO(make_hb_font(out, face, err));
done:
    rot_faces_close(&faces);
    if (rc < 0) rot_font_close(out);
    return rc;
}

void rot_font_close(rot_font *font)
{
    if (font->hb) hb_font_destroy(font->hb);
    rot_free(font->bytes);
    rot_free(font->path);
    memset(font, 0, sizeof *font);
}
