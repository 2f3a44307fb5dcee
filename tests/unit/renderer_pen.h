// What the tests of the renderer share: a renderer with one worker, and hashes of what it draws.
#ifndef ROT_TESTS_RENDERER_PEN_H
#define ROT_TESTS_RENDERER_PEN_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "renderer/renderer.h"

static rot_err err;

static inline rot_render_options plain(void)
{
    rot_render_options o = rot_render_options_default();
    o.thought_markers = false;
    return o;
}

// A renderer with one worker.
typedef struct pen {
    rot_renderer *renderer;
    rot_render_worker *worker;
} pen;

static inline pen pen_open(const rot_render_options *o)
{
    pen p = {0};
    if (rot_renderer_open(o, &p.renderer, &err) < 0 ||
        rot_render_worker_open(p.renderer, &p.worker, &err) < 0)
        fail_msg("%s", err.message);
    return p;
}

static inline void pen_close(pen *p)
{
    rot_render_worker_close(&p->worker);
    rot_renderer_close(&p->renderer);
}

static inline rot_image draw(pen *p, const char *text)
{
    rot_image image;
    if (rot_render(p->worker, text, strlen(text), &image, NULL, &err) < 0)
        fail_msg("'%s': %s", text, err.message);
    return image;
}

// Size, channels and pixels in 32 hex digits.
static inline void hash_image(const rot_image *image, char hex[33])
{
    uint8_t digest[16];
    int32_t head[3] = {image->width_px, image->height_px, image->channels};
    rot_xxh128_two(head, sizeof head, image->pixels,
                   (size_t)image->width_px * (size_t)image->height_px * (size_t)image->channels,
                   digest);
    rot_hex(digest, 16, hex);
}

static inline void hash_text(const rot_render_options *o, const char *text, char hex[33])
{
    pen p = pen_open(o);
    rot_image image = draw(&p, text);
    hash_image(&image, hex);
    pen_close(&p);
}

static inline int width_of(const rot_render_options *o, const char *text)
{
    pen p = pen_open(o);
    int width = draw(&p, text).width_px;
    pen_close(&p);
    return width;
}

#endif
