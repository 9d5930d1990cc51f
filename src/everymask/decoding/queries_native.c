// The contest of queries for pixels: each pixel of some rows goes to the query with the largest score times mask
// probability. contest_native.py fills the structure below and calls the function at the end, with disjoint ranges of
// rows and a tally of its own in every thread.
//
// A tile of pixels is resized only for the queries that its logits, which bound it, do not rule out. Safe for whatever
// numbers the logits are: what is not a number wins nothing and is in no mask.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define TILE_ROWS 16 // with 32 columns: few enough to be settled together, enough to fill vectors
#define TILE_COLUMNS 32

typedef struct {
    const float *logits; // (queries, h, w); the last dimension is dense
    const float *scores; // (queries,), not below zero
    const int64_t *row_low, *row_high; // (rows,), rising: what every row of pixels lies between
    const float *row_weight;
    const int64_t *column_low, *column_high; // (columns,), rising
    const float *column_weight;
    int32_t *out; // (rows, columns): from 1 on the query that wins the pixel and whose mask holds it, else 0
    int64_t plane, line; // strides of queries and rows, counted in elements
    int64_t queries, columns;
    float mask_logit; // a mask holds the pixels whose logit is at least that
    float rounding; // bounds are compared with this much room
} Problem;

// What a thread knows about the queries in the tile it is at.
typedef struct {
    float *smallest, *largest; // the logits that the tile lies between
    float *weakest, *strongest; // score times the probability of these
    int32_t *low, *high; // (columns,) of the image: the taps, in a width that makes for wider vectors
} Scratch;

typedef struct {
    float best[TILE_ROWS][TILE_COLUMNS];
    int32_t winner[TILE_ROWS][TILE_COLUMNS]; // from 1 on, 0 for nobody
    int32_t id[TILE_ROWS][TILE_COLUMNS]; // the winner's where its mask holds the pixel
} Tile;

typedef struct {
    int64_t top, left, rows, columns;
} Place;

// 1 / (1 + exp(-x)) to about 2e-7 relative; 0 where exp(-x) is infinite, and NaN for NaN. Vectorises, unlike expf.
INLINE float sigmoid(float x) {
    float least = -x < 88.7f ? -x : 88.7f; // a NaN gets finite here: the conversion below is defined
    least = least > -87.0f ? least : -87.0f; // below, the sum is 1 all the same
    const float whole = rintf(least * 1.44269504f);
    const float r = (least - whole * 0.693359375f) + whole * 2.12194440e-4f; // ln 2 in two parts
    const float power = 1 + r * (1 + r * (0.5f + r * (1.66666667e-1f + r * (4.16666667e-2f
                          + r * (8.33333333e-3f + r * 1.38888889e-3f)))));
    const uint32_t bits = (uint32_t)((int32_t)whole + 126) << 23; // half of the power of two, which is up to 2^128
    float half;
    memcpy(&half, &bits, sizeof half);
    const float value = 1 / (1 + power * half * 2);
    return x >= -88.7f ? value : x != x ? x : 0;
}

// The smallest and the largest of the logits that the tile lies between; without bound if one is not a number.
INLINE void bound(const Problem *problem, const Place *at, int64_t query, float *smallest, float *largest) {
    const int64_t left = problem->column_low[at->left], right = problem->column_high[at->left + at->columns - 1];
    const int64_t top = problem->row_low[at->top], bottom = problem->row_high[at->top + at->rows - 1];
    float least = INFINITY, most = -INFINITY;
    int32_t numbers = 1;
    for (int64_t y = top; y <= bottom; y++) {
        const float *line = problem->logits + query * problem->plane + y * problem->line;
        for (int64_t x = left; x <= right; x++) {
            least = line[x] < least ? line[x] : least;
            most = line[x] > most ? line[x] : most;
            numbers &= line[x] == line[x];
        }
    }
    *smallest = numbers ? least : -INFINITY;
    *largest = numbers ? most : INFINITY;
}

INLINE void across(float *restrict out, const float *restrict line, const int32_t *restrict low,
                   const int32_t *restrict high, const float *restrict weight, int64_t columns) {
    for (int64_t x = 0; x < columns; x++) out[x] = line[low[x]] + (line[high[x]] - line[low[x]]) * weight[x];
}

// Resizes a query in a tile and counts the pixels of its mask; where it may win, it takes the pixels where it is the best.
static int64_t enter(const Problem *problem, const Scratch *scratch, const Place *at, int64_t query, int may_win,
                     Tile *restrict tile) {
    const int64_t columns = at->columns;
    const int32_t *low = scratch->low + at->left, *high = scratch->high + at->left, id = (int32_t)query + 1;
    const float *plane = problem->logits + query * problem->plane, *weights = problem->column_weight + at->left;
    const float score = problem->scores[query], mask_logit = problem->mask_logit;
    float lines[2][TILE_COLUMNS];
    int64_t at_above = -1, at_below = -1; // which rows of logits they hold
    int64_t held = 0;
    for (int64_t y = 0; y < at->rows; y++) {
        const int64_t above = problem->row_low[at->top + y], below = problem->row_high[at->top + y];
        if (above != at_above) across(lines[0], plane + above * problem->line, low, high, weights, columns);
        if (below != at_below) across(lines[1], plane + below * problem->line, low, high, weights, columns);
        at_above = above;
        at_below = below;
        const float *restrict upper = lines[0], *restrict lower = lines[1];
        const float down = problem->row_weight[at->top + y];
        int32_t inside = 0;
        if (may_win) {
            float *restrict best = tile->best[y];
            int32_t *restrict winner = tile->winner[y], *restrict ids = tile->id[y];
            for (int64_t x = 0; x < columns; x++) {
                const float logit = upper[x] + (lower[x] - upper[x]) * down;
                const float value = score * sigmoid(logit);
                const int32_t holds = logit >= mask_logit;
                const int better = value > best[x];
                inside += holds;
                best[x] = better ? value : best[x];
                winner[x] = better ? id : winner[x];
                ids[x] = better ? (holds ? id : 0) : ids[x];
            }
        } else {
            for (int64_t x = 0; x < columns; x++) inside += upper[x] + (lower[x] - upper[x]) * down >= mask_logit;
        }
        held += inside;
    }
    return held;
}

// Writes a tile of ``out`` and adds to the tally.
static void contest(const Problem *problem, const Scratch *scratch, const Place *at, int64_t *won, int64_t *claimed) {
    const int64_t queries = problem->queries, pixels = at->rows * at->columns;
    const float mask_logit = problem->mask_logit;
    for (int64_t query = 0; query < queries; query++)
        bound(problem, at, query, scratch->smallest + query, scratch->largest + query);
    for (int64_t query = 0; query < queries; query++) {
        scratch->weakest[query] = problem->scores[query] * sigmoid(scratch->smallest[query]);
        scratch->strongest[query] = problem->scores[query] * sigmoid(scratch->largest[query]);
    }
    float surely = 0; // what some query reaches at every pixel
    for (int64_t query = 0; query < queries; query++)
        surely = scratch->weakest[query] > surely ? scratch->weakest[query] : surely;

    int64_t rivals = 0, last_rival = -1;
    for (int64_t query = 0; query < queries; query++) {
        if (!(scratch->strongest[query] * problem->rounding >= surely)) continue;
        rivals++;
        last_rival = query;
    }
    Tile tile;
    const int32_t only = (int32_t)last_rival + 1, is_whole = rivals && scratch->smallest[last_rival] >= mask_logit;
    const int settled = rivals == 1 && (is_whole || scratch->largest[last_rival] < mask_logit);
    if (settled) {
        won[last_rival] += pixels;
        for (int64_t y = 0; y < at->rows; y++) {
            int32_t *out = problem->out + (at->top + y) * problem->columns + at->left;
            for (int64_t x = 0; x < at->columns; x++) out[x] = is_whole ? only : 0;
        }
    } else {
        for (int64_t y = 0; y < TILE_ROWS; y++)
            for (int64_t x = 0; x < TILE_COLUMNS; x++) {
                tile.best[y][x] = -1;
                tile.winner[y][x] = tile.id[y][x] = 0;
            }
    }
    for (int64_t query = 0; query < queries; query++) {
        const int may_win = !settled && scratch->strongest[query] * problem->rounding >= surely;
        const int outside = scratch->largest[query] < mask_logit, inside = scratch->smallest[query] >= mask_logit;
        if (may_win || !(outside || inside)) claimed[query] += enter(problem, scratch, at, query, may_win, &tile);
        else if (inside) claimed[query] += pixels;
    }
    if (settled) return;
    for (int64_t y = 0; y < at->rows; y++) {
        for (int64_t x = 0; x < at->columns; x++)
            if (tile.winner[y][x]) won[tile.winner[y][x] - 1]++;
        memcpy(problem->out + (at->top + y) * problem->columns + at->left, tile.id[y], at->columns * sizeof tile.id[y][0]);
    }
}

// Rows first..last - 1. Adds to ``tally`` (2, queries): the pixels where a query is the best, and those of its own mask.
// Returns 0, or 1 where there is no memory.
int compete(const Problem *problem, int64_t first, int64_t last, int64_t *tally) {
    const int64_t columns = problem->columns, queries = problem->queries;
    float *bounds = malloc((4 * queries + 1) * sizeof *bounds);
    int32_t *taps = malloc((2 * columns + 1) * sizeof *taps);
    if (!bounds || !taps) {
        free(bounds);
        free(taps);
        return 1;
    }
    const Scratch scratch = {bounds, bounds + queries, bounds + 2 * queries, bounds + 3 * queries, taps, taps + columns};
    for (int64_t x = 0; x < columns; x++) {
        scratch.low[x] = (int32_t)problem->column_low[x];
        scratch.high[x] = (int32_t)problem->column_high[x];
    }
    for (int64_t top = first; top < last; top += TILE_ROWS)
        for (int64_t left = 0; left < columns; left += TILE_COLUMNS) {
            const int64_t rows = last - top < TILE_ROWS ? last - top : TILE_ROWS;
            const int64_t width = columns - left < TILE_COLUMNS ? columns - left : TILE_COLUMNS;
            const Place at = {top, left, rows, width};
            contest(problem, &scratch, &at, tally, tally + queries);
        }
    free(bounds);
    free(taps);
    return 0;
}
