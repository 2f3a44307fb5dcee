// Font names to files. fontconfig substitutes freely; here a name that it does not have is an
// error.
#include <fontconfig/fontconfig.h>
#include <string.h>
#include <strings.h>

#include "base/fs.h"
#include "base/mem.h"
#include "renderer/font.h"

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

// The file called `name` in fontconfig's folders; of several the first in byte order.
static const char *find_file(FcConfig *config, const char *name)
{
    const char *found = NULL;
    FcFontSet *set = FcConfigGetFonts(config, FcSetSystem);
    for (int i = 0; set && i < set->nfont; i++) {
        FcChar8 *file;
        if (FcPatternGetString(set->fonts[i], FC_FILE, 0, &file) != FcResultMatch) continue;
        const char *path = (const char *)file;
        if (!strcmp(base_name(path), name) && (!found || strcmp(path, found) < 0)) found = path;
    }
    return found;
}

static bool has_family(FcPattern *pattern, const char *name)
{
    FcChar8 *family;
    for (int i = 0; FcPatternGetString(pattern, FC_FAMILY, i, &family) == FcResultMatch; i++)
        if (!strcasecmp((const char *)family, name)) return true;
    return false;
}

// The regular face of a family, as a pattern that the caller destroys; NULL: no such family.
static FcPattern *find_family(FcConfig *config, const char *name)
{
    FcPattern *wanted = FcPatternCreate();
    if (!wanted) return NULL;
    FcPatternAddString(wanted, FC_FAMILY, (const FcChar8 *)name);
    FcPatternAddBool(wanted, FC_SCALABLE, FcTrue);
    FcConfigSubstitute(config, wanted, FcMatchPattern);
    FcDefaultSubstitute(wanted);
    FcResult result;
    FcPattern *match = FcFontMatch(config, wanted, &result);
    FcPatternDestroy(wanted);
    if (match && !has_family(match, name)) {
        FcPatternDestroy(match);
        match = NULL;
    }
    return match;
}

static int find_in_fontconfig(const char *name, char **path, int *index, rot_err *err)
{
    FcConfig *config = FcInitLoadConfigAndFonts();
    if (!config) ROT_FAIL(err, ROT_ERR_MISSING, "font '%s': fontconfig does not start", name);
    int rc = 0;
    FcPattern *match = NULL;
    const char *found = find_file(config, name);
    if (!found && (match = find_family(config, name))) {
        FcChar8 *file;
        if (FcPatternGetString(match, FC_FILE, 0, &file) == FcResultMatch)
            found = (const char *)file;
        if (FcPatternGetInteger(match, FC_INDEX, 0, index) != FcResultMatch) *index = 0;
        *index &= 0xffff; // the upper half names an instance of a variable font
    }
    if (!found)
        rc =
            rot_err_set(err, ROT_ERR_MISSING,
                        "font '%s': no such file, and fontconfig has no such file or family", name);
    else if (!(*path = rot_strdup(found)))
        rc = rot_no_memory(err, strlen(found) + 1, "a font's path");
    if (match) FcPatternDestroy(match);
    FcConfigDestroy(config);
    return rc;
}

int rot_font_find(const char *name, char **path, int *index, rot_err *err)
{
    *path = NULL;
    *index = 0;
    if (!name || !*name) ROT_FAIL(err, ROT_ERR_CONFIG, "fonts: an empty name");
    if (!rot_fs_is_file(name)) {
        if (strchr(name, '/')) ROT_FAIL(err, ROT_ERR_MISSING, "font '%s': no such file", name);
        return find_in_fontconfig(name, path, index, err);
    }
    *path = rot_strdup(name);
    return *path ? 0 : rot_no_memory(err, strlen(name) + 1, "a font's path");
}
