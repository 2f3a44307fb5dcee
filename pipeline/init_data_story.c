// Word problems whose numbers are right: a stock of something that grows and shrinks step by step.
// Values are whole hundredths, and only what comes out exact in them is asked.
#include <stdio.h>
#include <string.h>

#include "pipeline/init_data.h"

enum { MAX_STEPS = 8, WHOLE = 100, LARGEST = 2000000 * WHOLE };

typedef enum operation { ADD, SUB, MUL, DIV, PERCENT, SUM, BAGS, N_OPERATIONS } operation;

// One change: the stock before and after, its numbers, in hundredths.
typedef struct change {
    operation what;
    int64_t before, a, b, after;
} change;

typedef struct story {
    change changes[MAX_STEPS];
    int n_changes;
    int64_t start, now;
    bool cents;
    const char *name, *other, *things, *place;
} story;

// Equations of a trace, 0 to 8, counted in GSM8k-Aug's validation and test sets; lines of a
// solution, 2 to 8, counted in GSM8K's training set.
static const uint16_t equation_weights[] = {24, 91, 512, 503, 381, 191, 75, 29, 12};
static const uint16_t line_weights[] = {1960, 2149, 1660, 954, 419, 228, 90};
static const uint16_t operation_weights[] = {20, 22, 22, 26, 7, 5, 26};
// Sentences that change nothing, and digits of numbers: so that lengths come out as there.
static const uint16_t filler_weights[] = {62, 15, 9, 6, 4, 4};
static const uint16_t digit_weights[] = {42, 44, 11, 2, 1};

static const char *const names[] = {"Maya",  "Omar", "Lena",   "Victor", "Priya", "Tomas", "Aiko",
                                    "Nora",  "Sven", "Fatima", "Hugo",   "Clara", "Mateo", "Ruth",
                                    "Kwame", "Iris", "Pavel",  "Zoe",    "Amir",  "Greta"};
static const char *const things[] = {"pencils", "marbles", "apples",    "stamps",   "cards",
                                     "books",   "cookies", "seashells", "stickers", "tickets",
                                     "bricks",  "coins",   "flowers",   "bottles",  "beads"};
static const char *const places[] = {"at the market",   "in the garage",   "at school",
                                     "on the way home", "in the old shed", "at a yard sale",
                                     "by the river",    "in the library"};
// {N} the person, {O} another, {T} the things, {P} a place, {A} and {B} the numbers.
static const char *const intros[] = {"{N} has {S} {T}.", "{N} starts the week with {S} {T}.",
                                     "There are {S} {T} on {N}'s shelf.",
                                     "{N} collects {T} and owns {S} of them."};
static const char *const told[N_OPERATIONS][3] = {
    [ADD] = {"{N} finds {A} more {T} {P}.", "{O} gives {N} another {A} {T}.",
             "Later {A} {T} arrive in the mail."},
    [SUB] = {"{N} gives {A} {T} to {O}.", "Then {A} of the {T} get lost {P}.",
             "{O} borrows {A} {T} and does not return them."},
    [MUL] = {"After a good month there are {A} times as many {T}.",
             "{O} promises to make it {A} times that number, and does.",
             "The number of {T} then grows to {A} times what it was."},
    [DIV] = {"All {T} are divided equally among {A} boxes, and {N} keeps one box.",
             "{N} shares the {T} evenly with a group, so that each of {A} people gets the same.",
             "Only one of every {A} {T} is kept."},
    [PERCENT] = {"Only {A}% of the {T} turn out to be good enough to keep.",
                 "When {O} looks again, {A}% of the {T} are left."},
    [SUM] = {"On Monday {N} gets {A} {T}, and on Tuesday {B} more.",
             "{O} adds {A} {T}, and a neighbor adds {B}."},
    [BAGS] = {"{N} buys {A} bags with {B} {T} in each.", "{O} brings {A} boxes of {B} {T} {P}.",
              "For {A} days in a row, {N} gets {B} {T} a day."},
};
static const char *const solved[N_OPERATIONS] = {
    [ADD] = "With the {A} that came on top, {N} has ",
    [SUB] = "Without the {A} that are gone, {N} is left with ",
    [MUL] = "{A} times as many are ",
    [DIV] = "One part out of {A} equal parts is ",
    [PERCENT] = "{A} percent of what {N} had before are ",
    [SUM] = "Adding what came on both days, {N} has ",
    [BAGS] = "Together with those from before, {N} now has ",
};
static const char *const fillers[] = {
    "The weather is fine all week.",
    "{O} watches with interest.",
    "Nobody else is allowed to touch them.",
    "It takes most of the afternoon.",
    "{N} writes everything down in a small notebook.",
    "{O} has been a friend of {N} since they were in first grade."};
static const char *const finals[] = {"How many {T} does {N} have in the end?",
                                     "How many {T} are there now?",
                                     "What is the number of {T} that {N} ends up with?"};

#define ONE_OF(draws, table) (table)[rot_draw(draws, sizeof(table) / sizeof *(table))]

/* ---- numbers -----------------------------------------------------------------------------------
 */

// As an equation has it: "4.5".
static const char *number(int64_t hundredths, char out[24])
{
    int64_t whole = hundredths / WHOLE, rest = hundredths % WHOLE;
    if (!rest)
        snprintf(out, 24, "%lld", (long long)whole);
    else if (rest % 10)
        snprintf(out, 24, "%lld.%02lld", (long long)whole, (long long)rest);
    else
        snprintf(out, 24, "%lld.%lld", (long long)whole, (long long)rest / 10);
    return out;
}

static int64_t draw_size(rot_draws *draws, bool cents)
{
    static const int32_t low[] = {2, 10, 100, 1000, 10000}, step[] = {1, 1, 5, 50, 500};
    uint32_t digits = rot_draw_weighted(draws, digit_weights, 5);
    int64_t n =
        low[digits] + step[digits] * rot_draw_between(draws, 0, low[digits] * 9 / step[digits] / 2);
    if (digits == 0) n = rot_draw_between(draws, 2, 9);
    return n * WHOLE + (cents ? 25 * rot_draw_between(draws, 0, 3) : 0);
}

/* ---- changes -----------------------------------------------------------------------------------
 */

// Things are not cut; dollars have cents.
static bool fits(int64_t stock, bool cents)
{
    return cents || stock % WHOLE == 0;
}

// A divisor of the stock from 2 to 12 that leaves more than one whole; 0: there is none.
static int64_t draw_divisor(rot_draws *draws, int64_t stock, bool cents)
{
    int64_t found[11];
    uint32_t n = 0;
    for (int64_t d = 2; d <= 12; d++)
        if (stock % d == 0 && stock / d > WHOLE && fits(stock / d, cents)) found[n++] = d;
    return n ? found[rot_draw(draws, n)] : 0;
}

static bool try_change(rot_draws *draws, const story *s, operation what, change *out)
{
    static const uint8_t percents[] = {10, 20, 25, 40, 50, 60, 75, 80};
    int64_t v = s->now, a = 0, b = 0, after = v;
    switch (what) {
    case ADD:
        a = draw_size(draws, s->cents);
        after = v + a;
        break;
    case SUB:
        if (v < 3 * WHOLE) return false;
        a = WHOLE * (1 + rot_draw(draws, (uint32_t)(v / WHOLE - 1)));
        after = v - a;
        break;
    case MUL:
        a = WHOLE * rot_draw_between(draws, 2, 9);
        after = v * (a / WHOLE);
        break;
    case DIV:
        a = WHOLE * draw_divisor(draws, v, s->cents);
        if (!a) return false;
        after = v / (a / WHOLE);
        break;
    case PERCENT:
        a = WHOLE * ONE_OF(draws, percents);
        if (v * (a / WHOLE) % 100 || !fits(v * (a / WHOLE) / 100, s->cents)) return false;
        after = v * (a / WHOLE) / 100;
        break;
    case SUM:
        a = draw_size(draws, false);
        b = draw_size(draws, false);
        after = v + a + b;
        break;
    default: // BAGS
        a = WHOLE * rot_draw_between(draws, 2, 12);
        b = draw_size(draws, s->cents);
        after = v + a / WHOLE * b;
    }
    if (after <= 0 || after > LARGEST) return false;
    *out = (change){what, v, a, b, after};
    return true;
}

static void draw_story(rot_draws *draws, int n_equations, story *s)
{
    uint32_t person = rot_draw(draws, 20), other = rot_draw(draws, 19);
    *s = (story){.cents = rot_draw(draws, 100) < 12};
    s->name = names[person];
    s->other = names[other + (other >= person)];
    s->things = s->cents ? "dollars" : ONE_OF(draws, things);
    s->place = ONE_OF(draws, places);
    s->start = s->now = draw_size(draws, s->cents);
    for (int left = n_equations; left > 0;) {
        operation what = (operation)rot_draw_weighted(draws, operation_weights, N_OPERATIONS);
        int takes = what == BAGS ? 2 : 1;
        change *next = &s->changes[s->n_changes];
        if (takes > left || !try_change(draws, s, what, next)) continue;
        s->n_changes++;
        s->now = next->after;
        left -= takes;
    }
}

/* ---- words -------------------------------------------------------------------------------------
 */

static void say(const story *s, const char *text, const change *c, rot_str *out)
{
    char digits[24];
    for (; *text; text++) {
        if (*text != '{') {
            rot_str_add(out, text, 1);
            continue;
        }
        switch (text[1]) {
        case 'N': rot_str_puts(out, s->name); break;
        case 'O': rot_str_puts(out, s->other); break;
        case 'T': rot_str_puts(out, s->things); break;
        case 'P': rot_str_puts(out, s->place); break;
        case 'S': rot_str_puts(out, number(s->start, digits)); break;
        case 'A': rot_str_puts(out, number(c->a, digits)); break;
        default: rot_str_puts(out, number(c->b, digits));
        }
        text += 2; // the letter and the brace
    }
}

static const char *draw_told(rot_draws *draws, operation what)
{
    uint32_t n = told[what][2] ? 3 : 2;
    return told[what][rot_draw(draws, n)];
}

static void tell(rot_draws *draws, const story *s, rot_str *out)
{
    uint32_t n_fillers = rot_draw_weighted(draws, filler_weights, 6);
    say(s, ONE_OF(draws, intros), NULL, out);
    for (int i = 0; i < s->n_changes; i++) {
        rot_str_puts(out, " ");
        say(s, draw_told(draws, s->changes[i].what), &s->changes[i], out);
    }
    for (uint32_t i = 0, at = rot_draw(draws, 6); i < n_fillers; i++, at++) {
        rot_str_puts(out, " ");
        say(s, fillers[at % 6], NULL, out);
    }
    rot_str_puts(out, " ");
    say(s, ONE_OF(draws, finals), NULL, out);
}

/* ---- equations ---------------------------------------------------------------------------------
 */

// The left side of the change's last equation.
static void left_side(const change *c, char out[80])
{
    char v[24], a[24], b[24];
    static const char signs[] = {[ADD] = '+', [SUB] = '-', [MUL] = '*', [DIV] = '/'};
    number(c->before, v);
    number(c->a, a);
    number(c->b, b);
    if (c->what <= DIV)
        snprintf(out, 80, "%s%c%s", v, signs[c->what], a);
    else if (c->what == PERCENT)
        snprintf(out, 80, "%s/100*%s", a, v);
    else if (c->what == SUM)
        snprintf(out, 80, "%s+%s+%s", v, a, b);
    else
        snprintf(out, 80, "%s+%s", v, number(c->a / WHOLE * c->b, b));
}

static void equations(const story *s, rot_str *out)
{
    char left[80], a[24], b[24], result[24];
    for (int i = 0; i < s->n_changes; i++) {
        const change *c = &s->changes[i];
        if (c->what == BAGS)
            rot_str_printf(out, "<<%s*%s=%s>> ", number(c->a, a), number(c->b, b),
                           number(c->a / WHOLE * c->b, result));
        left_side(c, left);
        rot_str_printf(out, "<<%s=%s>> ", left, number(c->after, result));
    }
}

void rot_story_equations(rot_draws *draws, rot_str *out)
{
    story s;
    char result[24];
    draw_story(draws, (int)rot_draw_weighted(draws, equation_weights, 9), &s);
    tell(draws, &s, out);
    rot_str_puts(out, "||");
    if (!s.n_changes) rot_str_puts(out, " ");
    equations(&s, out);
    rot_str_printf(out, "#### %s", number(s.now, result));
}

static void solution_line(const story *s, const char *before, const char *left, int64_t result,
                          const change *c, rot_str *out)
{
    char digits[24];
    say(s, before, c, out);
    for (const char *at = left; *at; at++) {
        bool sign = strchr("+-*/", *at);
        rot_str_printf(out, sign ? " %c " : "%c", *at);
    }
    number(result, digits);
    rot_str_printf(out, " = <<%s=%s>>%s %s.\\n", left, digits, digits, s->things);
}

// Texts are plain ASCII without quotes: nothing in them needs an escape in JSON.
void rot_story_words(rot_draws *draws, rot_str *out)
{
    story s;
    char left[80], a[24], b[24];
    draw_story(draws, 2 + (int)rot_draw_weighted(draws, line_weights, 7), &s);
    rot_str_puts(out, "{\"question\": \"");
    tell(draws, &s, out);
    rot_str_puts(out, "\", \"answer\": \"");
    for (int i = 0; i < s.n_changes; i++) {
        const change *c = &s.changes[i];
        if (c->what == BAGS) {
            snprintf(left, sizeof left, "%s*%s", number(c->a, a), number(c->b, b));
            solution_line(&s, "{A} times {B} make ", left, c->a / WHOLE * c->b, c, out);
        }
        left_side(c, left);
        solution_line(&s, solved[c->what], left, c->after, c, out);
    }
    rot_str_printf(out, "#### %s\"}", number(s.now, a));
}

// "Start with 7, add 5, multiply by 3. What is the result?", results from 0 to `largest`.
void rot_chain_equations(rot_draws *draws, const rot_init_data_options *options, rot_str *out)
{
    static const char *const words[] = {"add", "subtract", "multiply by", "divide by"};
    const int most = options->largest < 99 ? options->largest : 99;
    int n = rot_draw_between(draws, options->min_steps, options->max_steps),
        v = rot_draw_between(draws, 1, most), done = 0;
    rot_str trace = {0};
    rot_str_printf(out, "Start with %d", v);
    while (done < n) {
        uint32_t what = rot_draw(draws, 4);
        int b = what < 2 ? rot_draw_between(draws, 1, most) : rot_draw_between(draws, 2, 9);
        int after = what == 0 ? v + b : what == 1 ? v - b : what == 2 ? v * b : v / b;
        if (after < 0 || after > options->largest || (what == 3 && v % b)) continue;
        rot_str_printf(out, ", %s %d", words[what], b);
        rot_str_printf(&trace, "<<%d%c%d=%d>> ", v, "+-*/"[what], b, after);
        v = after;
        done++;
    }
    rot_str_puts(out, ". What is the result?||");
    rot_str_puts(out, trace.text ? trace.text : "");
    rot_str_printf(out, "#### %d", v);
    out->failed = out->failed || trace.failed;
    rot_str_free(&trace);
}
