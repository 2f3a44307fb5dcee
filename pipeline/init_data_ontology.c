// Questions on chains of kinds, of ProntoQA's form: a person is a kind, the kind is another, and so
// on, the fifth has a property or lacks it; beside the chain are kinds and properties that lead
// nowhere. "True or false: Polly is bright."
#include <ctype.h>
#include <string.h>

#include "pipeline/init_data.h"

enum {
    CHAIN = 5,
    ASIDE = 9,
    OWN = CHAIN + 5,
    KINDS = CHAIN + ASIDE,
    MAX_RULES = 48,
    RULE_BYTES = 64
};

static const char *const names[] = {"Alex",  "Fae", "Max",    "Polly", "Rex",
                                    "Sally", "Sam", "Stella", "Wren"};
static const char *const onsets[] = {"d", "g",  "gr", "h", "j", "l", "n", "r",
                                     "s", "sh", "st", "t", "v", "w", "y", "z"};
static const char *const endings[] = {"umpus", "impus", "ompus", "erpus"};
// Properties of one sort exclude each other.
static const char *const properties[][4] = {
    {"blue", "red", "brown", "orange"},    {"small", "large"},
    {"sour", "sweet", "bitter", "spicy"},  {"bright", "dull"},
    {"happy", "angry", "feisty", "sad"},   {"opaque", "transparent", "translucent"},
    {"kind", "mean", "shy", "amenable"},   {"wooden", "metallic", "liquid", "earthy"},
    {"hot", "cold", "temperate", "snowy"}, {"floral", "fruity"}};
enum { N_SORTS = sizeof properties / sizeof *properties };

typedef struct ontology {
    char kinds[KINDS][16];
    char rules[MAX_RULES][RULE_BYTES];
    int n_rules;
    char chain[CHAIN][RULE_BYTES]; // the rules that lead to the answer
    const char *name;
} ontology;

static const char *draw_property(rot_draws *draws, int sort)
{
    int n = 0;
    while (n < 4 && properties[sort][n]) n++;
    return properties[sort][rot_draw(draws, (uint32_t)n)];
}

// "Every wumpus is", "Each wumpus is" or "Wumpuses are", and what it is.
static void say_rule(rot_draws *draws, const char *kind, const char *what, bool is_kind,
                     bool negated, rot_str *out)
{
    uint32_t form = rot_draw(draws, 3);
    const char *not = negated ? "not " : "";
    if (form < 2) {
        const char *article = !is_kind ? "" : strchr("aeiou", what[0]) ? "an " : "a ";
        rot_str_printf(out, "%s %s is %s%s%s.", form ? "Each" : "Every", kind, not, article, what);
    } else {
        rot_str_printf(out, "%c%ses are %s%s%s.", toupper(kind[0]), kind + 1, not, what,
                       is_kind ? "es" : "");
    }
}

// The text of a rule of at most RULE_BYTES - 1 bytes; returns where it stands.
static const char *add_rule(rot_draws *draws, ontology *o, const char *kind, const char *what,
                            bool is_kind, bool negated, rot_str *scratch)
{
    char *rule = o->rules[o->n_rules++];
    scratch->n_bytes = 0;
    say_rule(draws, kind, what, is_kind, negated, scratch);
    size_t n = scratch->n_bytes < RULE_BYTES - 1 ? scratch->n_bytes : RULE_BYTES - 1;
    if (!scratch->failed) memcpy(rule, scratch->text, n);
    rule[scratch->failed ? 0 : n] = 0;
    return rule;
}

static void draw_kinds(rot_draws *draws, ontology *o)
{
    enum { N_WORDS = 16 * 4 };
    int words[N_WORDS];
    for (int i = 0; i < N_WORDS; i++) words[i] = i;
    for (int i = 0; i < KINDS; i++) {
        int j = i + (int)rot_draw(draws, (uint32_t)(N_WORDS - i)), word = words[j];
        words[j] = words[i];
        strcpy(o->kinds[i], onsets[word / 4]);
        strcat(o->kinds[i], endings[word % 4]);
    }
}

// Kinds CHAIN to OWN - 1 stand above those of the chain. OWN and the next two are a chain of their
// own, which the person is in as well; the last is one that nobody is.
static void draw_rules(rot_draws *draws, ontology *o, int sort, const char *property, bool negated,
                       rot_str *scratch)
{
    for (int i = 0; i + 1 < CHAIN; i++)
        strcpy(o->chain[i], add_rule(draws, o, o->kinds[i], o->kinds[i + 1], true, false, scratch));
    strcpy(o->chain[CHAIN - 1],
           add_rule(draws, o, o->kinds[CHAIN - 1], property, false, negated, scratch));
    for (int i = 0; i < CHAIN; i++)
        add_rule(draws, o, o->kinds[i], o->kinds[CHAIN + i], true, false, scratch);
    for (int i = OWN; i < OWN + 2; i++)
        add_rule(draws, o, o->kinds[i], o->kinds[i + 1], true, false, scratch);
    for (int i = 0; i < KINDS; i++) {
        int other = (sort + 1 + (int)rot_draw(draws, N_SORTS - 1)) % N_SORTS;
        if (i == CHAIN - 1 || rot_draw(draws, 10) < 3) continue;
        bool not = rot_draw(draws, 2); // one draw a statement: arguments have no order
        const char *aside = draw_property(draws, other);
        add_rule(draws, o, o->kinds[i], aside, false, not, scratch);
    }
    // The opposite of the answer, of a kind that has nothing to do with it.
    add_rule(draws, o, o->kinds[KINDS - 1], property, false, !negated, scratch);
}

static void say_fact(const ontology *o, const char *kind, rot_str *out)
{
    rot_str_printf(out, "%s is %s %s.", o->name, strchr("aeiou", kind[0]) ? "an" : "a", kind);
}

static void say_question(rot_draws *draws, ontology *o, const char *property, bool asks_not,
                         rot_str *out)
{
    int order[MAX_RULES], first = (int)rot_draw(draws, 2);
    for (int i = 0; i < o->n_rules; i++) order[i] = i;
    rot_str_puts(out, "{\"question\": \"");
    for (int i = 0; i < o->n_rules; i++) {
        int j = i + (int)rot_draw(draws, (uint32_t)(o->n_rules - i)), rule = order[j];
        order[j] = order[i];
        rot_str_printf(out, "%s ", o->rules[rule]);
    }
    for (int i = 0; i < 2; i++) {
        say_fact(o, o->kinds[i == first ? 0 : OWN], out);
        rot_str_puts(out, " ");
    }
    rot_str_printf(out, "True or false: %s is %s%s.", o->name, asks_not ? "not " : "", property);
}

void rot_ontology_json(rot_draws *draws, rot_str *out)
{
    ontology o = {.name = names[rot_draw(draws, sizeof names / sizeof *names)]};
    rot_str scratch = {0};
    int sort = (int)rot_draw(draws, N_SORTS);
    const char *property = draw_property(draws, sort);
    bool negated = rot_draw(draws, 2), asks_not = rot_draw(draws, 2);
    draw_kinds(draws, &o);
    draw_rules(draws, &o, sort, property, negated, &scratch);
    say_question(draws, &o, property, asks_not, out);
    rot_str_printf(out, "\", \"answer\": \"%s\", \"steps\": [",
                   asks_not == negated ? "True" : "False");
    for (int i = 0; i < CHAIN; i++) {
        rot_str_puts(out, "\"");
        say_fact(&o, o.kinds[i], out);
        rot_str_printf(out, " %s\", ", o.chain[i]);
    }
    rot_str_printf(out, "\"%s is %s%s.\"]}", o.name, negated ? "not " : "", property);
    out->failed = out->failed || scratch.failed;
    rot_str_free(&scratch);
}
