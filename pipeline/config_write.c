// The effective config: every key that has an effect, with its value, as YAML.
#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "pipeline/config_value.h"
#include "pipeline/config_write.h"
#include "rotoscope/config.h"

static bool has_effect(const rot_key *key, const rot_config *config)
{
    bool page = config->render.mode == ROT_MODE_PAGE;
    if (key->type == ROT_KEY_PRESET) return false; // its values are written out
    if (!strncmp(key->name, "render.", 7) && !config->has_render) return false;
    switch (key->when) {
    case ROT_WHEN_ALWAYS: return true;
    case ROT_WHEN_LINE_MODE: return !page;
    case ROT_WHEN_PAGE_MODE: return page;
    case ROT_WHEN_RENDER: return config->has_render;
    case ROT_WHEN_ENCODE: return config->has_encode;
    }
    return false;
}

static void write_split(const rot_split_config *split, rot_str *out)
{
    bool in_keys = false;
    rot_str_puts(out, "  ");
    rot_value_quote(out, split->name);
    rot_str_puts(out, ":\n");
    for (size_t i = 0; i < rot_n_split_keys; i++) {
        const rot_key *key = &rot_split_keys[i];
        bool named = !strncmp(key->name, "keys.", 5);
        if (!rot_split_key_applies(key, (int)split->format)) continue;
        if (named && !*(const char *const *)((const char *)split + key->offset)) continue;
        if (named && !in_keys) rot_str_puts(out, "    keys:\n");
        in_keys |= named;
        rot_str_printf(out, named ? "      %s: " : "    %s: ", key->name + (named ? 5 : 0));
        rot_value_write(key, split, out);
        rot_str_puts(out, "\n");
    }
}

static void write_splits(const rot_config *config, rot_str *out)
{
    rot_str_puts(out, "splits:\n");
    for (int i = 0; i < config->n_splits; i++) write_split(&config->splits[i], out);
}

int rot_config_write(const rot_config *config, char **text, rot_err *err)
{
    return rot_config_write_at(config, NULL, text, err);
}

int rot_config_write_at(const rot_config *config, const char *root, char **text, rot_err *err)
{
    rot_str out = {0};
    const char *section = "";
    size_t n_section = 0;
    bool splits_written = false;
    for (size_t i = 0; i < rot_n_config_keys; i++) {
        const rot_key *key = &rot_config_keys[i];
        const char *dot = strchr(key->name, '.');
        if (!has_effect(key, config)) continue;
        if (dot && !splits_written) write_splits(config, &out);
        splits_written |= dot != NULL;
        if (dot &&
            ((size_t)(dot - key->name) != n_section || strncmp(key->name, section, n_section))) {
            section = key->name;
            n_section = (size_t)(dot - key->name);
            rot_str_printf(&out, "%.*s:\n", (int)n_section, section);
        }
        rot_str_printf(&out, dot ? "  %s: " : "%s: ", dot ? dot + 1 : key->name);
        if (root && key->type == ROT_KEY_ROOT)
            rot_value_quote(&out, root);
        else
            rot_value_write(key, config, &out);
        rot_str_puts(&out, "\n");
    }
    return rot_str_take(&out, text, err);
}
