// Queries read pixel by pixel, in tiles: each pixel of some rows goes to the query with the largest score times mask
// probability (compete), or to the class with the largest sum of class times mask probability (classify).
// queries_native.py fills the structure below and calls these two, with disjoint ranges of rows from several threads.
//
// The logits that a tile of pixels lies between bound it: only what they do not rule out is resized. Safe for whatever
// numbers the logits are: what is not a number wins nothing and is in no mask.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define TILE_ROWS 16 // with 16 columns: few enough to be settled together, enough to fill vectors
#define TILE_COLUMNS 16
#define LANES 16
#define VECTORS 4
#define GROUP 4 // classes whose sums are made together, and stay in registers
#define BLOCK (VECTORS * LANES) // pixels whose sums are made together: some rows of a tile
#define BLOCK_ROWS (BLOCK / TILE_COLUMNS)

typedef float Floats __attribute__((vector_size(4 * LANES)));

typedef struct {
    const float *logits; // (queries, h, w); the last dimension is dense
    const float *weights; // (queries,) scores, or class probabilities (classes, queries); not below zero
    const int64_t *row_low, *row_high; // (rows,), rising: what every row of pixels lies between
    const float *row_weight;
    const int64_t *column_low, *column_high; // (columns,), rising
    const float *column_weight;
    int32_t *out; // (rows, columns): the class; or from 1 on the query that wins the pixel and holds it, else 0
    int64_t plane, line; // strides of queries and rows, counted in elements
    int64_t queries, classes, columns;
    float mask_logit; // a mask holds the pixels whose logit is at least that
    float rounding; // bounds are compared with this much room
} Problem;

typedef struct {
    int32_t *low, *high; // (columns,) of the image, in a width that makes for wider vectors
} Taps;

// The contest of queries in a tile.
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
static int64_t enter(const Problem *problem, const Taps *taps, const Place *at, int64_t query, int may_win,
                     Tile *restrict tile) {
    const int64_t columns = at->columns;
    const int32_t *low = taps->low + at->left, *high = taps->high + at->left, id = (int32_t)query + 1;
    const float *plane = problem->logits + query * problem->plane, *weights = problem->column_weight + at->left;
    const float score = problem->weights[query], mask_logit = problem->mask_logit;
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

// What a thread knows about the queries in the tile it is at.
typedef struct {
    float *smallest, *largest; // the logits that the tile lies between
    float *weakest, *strongest; // score times the probability of these
} Bounds;

// Writes a tile of ``out`` and adds to the tally.
static void contest(const Problem *problem, const Taps *taps, const Bounds *bounds, const Place *at, int64_t *won, int64_t *claimed) {
    const int64_t queries = problem->queries, pixels = at->rows * at->columns;
    const float mask_logit = problem->mask_logit;
    for (int64_t query = 0; query < queries; query++)
        bound(problem, at, query, bounds->smallest + query, bounds->largest + query);
    for (int64_t query = 0; query < queries; query++) {
        bounds->weakest[query] = problem->weights[query] * sigmoid(bounds->smallest[query]);
        bounds->strongest[query] = problem->weights[query] * sigmoid(bounds->largest[query]);
    }
    float surely = 0; // what some query reaches at every pixel
    for (int64_t query = 0; query < queries; query++)
        surely = bounds->weakest[query] > surely ? bounds->weakest[query] : surely;

    int64_t rivals = 0, last_rival = -1;
    for (int64_t query = 0; query < queries; query++) {
        if (!(bounds->strongest[query] * problem->rounding >= surely)) continue;
        rivals++;
        last_rival = query;
    }
    Tile tile;
    const int32_t only = (int32_t)last_rival + 1, is_whole = rivals && bounds->smallest[last_rival] >= mask_logit;
    const int settled = rivals == 1 && (is_whole || bounds->largest[last_rival] < mask_logit);
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
        const int may_win = !settled && bounds->strongest[query] * problem->rounding >= surely;
        const int outside = bounds->largest[query] < mask_logit, inside = bounds->smallest[query] >= mask_logit;
        if (may_win || !(outside || inside)) claimed[query] += enter(problem, taps, at, query, may_win, &tile);
        else if (inside) claimed[query] += pixels;
    }
    if (settled) return;
    for (int64_t y = 0; y < at->rows; y++) {
        for (int64_t x = 0; x < at->columns; x++)
            if (tile.winner[y][x]) won[tile.winner[y][x] - 1]++;
        memcpy(problem->out + (at->top + y) * problem->columns + at->left, tile.id[y], at->columns * sizeof tile.id[y][0]);
    }
}

// The same taps in 32 bits. Without memory there are none.
static Taps narrow(const Problem *problem) {
    const int64_t columns = problem->columns;
    int32_t *low = malloc((2 * columns + 1) * sizeof *low);
    const Taps taps = {low, low + columns};
    if (!low) return taps;
    for (int64_t x = 0; x < columns; x++) {
        taps.low[x] = (int32_t)problem->column_low[x];
        taps.high[x] = (int32_t)problem->column_high[x];
    }
    return taps;
}

INLINE Place tile_at(const Problem *problem, int64_t top, int64_t left, int64_t last) {
    const int64_t rows = last - top < TILE_ROWS ? last - top : TILE_ROWS;
    const int64_t columns = problem->columns - left < TILE_COLUMNS ? problem->columns - left : TILE_COLUMNS;
    return (Place){top, left, rows, columns};
}

// Rows first..last - 1. Adds to ``tally`` (2, queries): the pixels where a query is the best, and those of its own mask.
// Returns 0, or 1 where there is no memory.
int compete(const Problem *problem, int64_t first, int64_t last, int64_t *tally) {
    const int64_t queries = problem->queries;
    float *memory = malloc((4 * queries + 1) * sizeof *memory);
    const Taps taps = narrow(problem);
    if (memory && taps.low) {
        const Bounds bounds = {memory, memory + queries, memory + 2 * queries, memory + 3 * queries};
        for (int64_t top = first; top < last; top += TILE_ROWS)
            for (int64_t left = 0; left < problem->columns; left += TILE_COLUMNS) {
                const Place at = tile_at(problem, top, left, last);
                contest(problem, &taps, &bounds, &at, tally, tally + queries);
            }
    }
    const int failed = !memory || !taps.low;
    free(memory);
    free(taps.low);
    return failed;
}

// Sums over the queries: weights of GROUP classes, (queries,) each, times a BLOCK of ``panel`` (queries, width).
INLINE void multiply(float sums[GROUP][BLOCK], const float *const weights[GROUP], const float *panel, int64_t width,
                     int64_t queries) {
    Floats kept[GROUP][VECTORS]; // in registers only if no loop over them is left
    memset(kept, 0, sizeof kept);
    for (int64_t query = 0; query < queries; query++) {
        Floats values[VECTORS];
#pragma GCC unroll 16
        for (int vector = 0; vector < VECTORS; vector++)
            memcpy(values + vector, panel + query * width + vector * LANES, sizeof values[0]);
#pragma GCC unroll 16
        for (int class = 0; class < GROUP; class++)
#pragma GCC unroll 16
            for (int vector = 0; vector < VECTORS; vector++) kept[class][vector] += values[vector] * weights[class][query];
    }
#pragma GCC unroll 16
    for (int class = 0; class < GROUP; class++)
#pragma GCC unroll 16
        for (int vector = 0; vector < VECTORS; vector++)
            memcpy(sums[class] + vector * LANES, &kept[class][vector], sizeof kept[0][0]);
}

// What a thread knows about a row of tiles, and about the tile it is at.
typedef struct {
    int64_t tiles; // a multiple of BLOCK
    float *smallest, *largest; // (queries, tiles) logits that a tile lies between, then their probabilities
    float *highest; // (classes, tiles): what no pixel's sum exceeds
    float *surely; // (tiles,): what some class reaches at every pixel
    float *masks; // (blocks of a tile, queries, BLOCK) probabilities: those of a block stay in the first cache
    int32_t *rivals; // (classes,) that are not ruled out
} Strip;

INLINE int64_t group(const float *weights[GROUP], int32_t names[GROUP], const Problem *problem, const int32_t *rivals,
                     int64_t start, int64_t count) {
    const int64_t many = count - start < GROUP ? count - start : GROUP;
    for (int64_t i = 0; i < GROUP; i++) {
        const int64_t at = start + (i < many ? i : many - 1); // the last one again does no harm
        names[i] = rivals ? rivals[at] : (int32_t)at;
        weights[i] = problem->weights + names[i] * problem->queries;
    }
    return many;
}

// Bounds every class in every tile of a row.
static void bound_classes(const Problem *problem, const Strip *strip, int64_t top, int64_t last) {
    const int64_t tiles = strip->tiles;
    for (int64_t left = 0; left < problem->columns; left += TILE_COLUMNS) {
        const Place at = tile_at(problem, top, left, last);
        const int64_t tile = left / TILE_COLUMNS;
        for (int64_t query = 0; query < problem->queries; query++)
            bound(problem, &at, query, strip->smallest + query * tiles + tile, strip->largest + query * tiles + tile);
    }
    for (int64_t i = 0; i < problem->queries * tiles; i++) strip->smallest[i] = sigmoid(strip->smallest[i]);
    for (int64_t i = 0; i < problem->queries * tiles; i++) strip->largest[i] = sigmoid(strip->largest[i]);
    memset(strip->surely, 0, tiles * sizeof *strip->surely);
    for (int64_t tile = 0; tile < tiles; tile += BLOCK)
        for (int64_t start = 0; start < problem->classes; start += GROUP) {
            const float *weights[GROUP];
            int32_t names[GROUP];
            float lowest[GROUP][BLOCK], highest[GROUP][BLOCK];
            const int64_t many = group(weights, names, problem, NULL, start, problem->classes);
            multiply(lowest, weights, strip->smallest + tile, tiles, problem->queries);
            multiply(highest, weights, strip->largest + tile, tiles, problem->queries);
            for (int64_t i = 0; i < many; i++) {
                float *surely = strip->surely + tile;
                for (int64_t lane = 0; lane < BLOCK; lane++)
                    surely[lane] = lowest[i][lane] > surely[lane] ? lowest[i][lane] : surely[lane];
                memcpy(strip->highest + names[i] * tiles + tile, highest[i], sizeof highest[i]);
            }
        }
}

// The probabilities of a query at the pixels of a tile, to its place in the first block of ``masks``.
static void resize(const Problem *problem, const Taps *taps, const Place *at, int64_t query, float *restrict out) {
    const int32_t *low = taps->low + at->left, *high = taps->high + at->left;
    const float *plane = problem->logits + query * problem->plane, *weights = problem->column_weight + at->left;
    float lines[2][TILE_COLUMNS];
    int64_t at_above = -1, at_below = -1; // which rows of logits they hold
    for (int64_t y = 0; y < at->rows; y++) {
        const int64_t above = problem->row_low[at->top + y], below = problem->row_high[at->top + y];
        if (above != at_above) across(lines[0], plane + above * problem->line, low, high, weights, at->columns);
        if (below != at_below) across(lines[1], plane + below * problem->line, low, high, weights, at->columns);
        at_above = above;
        at_below = below;
        const float down = problem->row_weight[at->top + y];
        float *restrict line = out + y / BLOCK_ROWS * problem->queries * BLOCK + y % BLOCK_ROWS * TILE_COLUMNS;
        for (int64_t x = 0; x < at->columns; x++) line[x] = sigmoid(lines[0][x] + (lines[1][x] - lines[0][x]) * down);
    }
}

// The best of several classes at every pixel of a tile; of equal ones the first.
static void choose(const Problem *problem, const Taps *taps, const Strip *strip, const Place *at, int64_t rivals) {
    for (int64_t query = 0; query < problem->queries; query++)
        resize(problem, taps, at, query, strip->masks + query * BLOCK);
    for (int64_t row = 0; row < at->rows; row += BLOCK_ROWS) {
        const float *masks = strip->masks + row / BLOCK_ROWS * problem->queries * BLOCK;
        float best[BLOCK];
        int32_t winner[BLOCK];
        for (int64_t lane = 0; lane < BLOCK; lane++) best[lane] = -1;
        for (int64_t lane = 0; lane < BLOCK; lane++) winner[lane] = strip->rivals[0];
        for (int64_t start = 0; start < rivals; start += GROUP) {
            const float *weights[GROUP];
            int32_t names[GROUP];
            float sums[GROUP][BLOCK];
            const int64_t many = group(weights, names, problem, strip->rivals, start, rivals);
            multiply(sums, weights, masks, BLOCK, problem->queries);
            for (int64_t i = 0; i < many; i++)
                for (int64_t lane = 0; lane < BLOCK; lane++) {
                    const int better = sums[i][lane] > best[lane];
                    best[lane] = better ? sums[i][lane] : best[lane];
                    winner[lane] = better ? names[i] : winner[lane];
                }
        }
        for (int64_t y = row; y < row + BLOCK_ROWS && y < at->rows; y++)
            memcpy(problem->out + (at->top + y) * problem->columns + at->left, winner + (y - row) * TILE_COLUMNS,
                   at->columns * sizeof winner[0]);
    }
}

// Rows first..last - 1. Returns 0, or 1 where there is no memory.
int classify(const Problem *problem, int64_t first, int64_t last) {
    const int64_t queries = problem->queries, classes = problem->classes;
    const int64_t tiles = (problem->columns + TILE_COLUMNS * BLOCK - 1) / (TILE_COLUMNS * BLOCK) * BLOCK;
    const int64_t masks = queries * TILE_ROWS * TILE_COLUMNS;
    float *memory = calloc((2 * queries + classes + 1) * tiles + masks + 1, sizeof *memory);
    int32_t *rivals = malloc((classes + 1) * sizeof *rivals);
    const Taps taps = narrow(problem);
    const int failed = !memory || !rivals || !taps.low;
    for (int64_t top = first; !failed && top < last; top += TILE_ROWS) {
        float *smallest = memory + masks, *largest = smallest + queries * tiles, *highest = largest + queries * tiles;
        const Strip strip = {tiles, smallest, largest, highest, highest + classes * tiles, memory, rivals};
        bound_classes(problem, &strip, top, last);
        for (int64_t left = 0; left < problem->columns; left += TILE_COLUMNS) {
            const Place at = tile_at(problem, top, left, last);
            const int64_t tile = left / TILE_COLUMNS;
            int64_t count = 0;
            rivals[0] = 0;
            for (int64_t class = 0; class < classes; class++)
                if (highest[class * tiles + tile] * problem->rounding >= strip.surely[tile]) rivals[count++] = (int32_t)class;
            if (count > 1) {
                choose(problem, &taps, &strip, &at, count);
                continue;
            }
            for (int64_t y = 0; y < at.rows; y++) {
                int32_t *out = problem->out + (top + y) * problem->columns + left;
                for (int64_t x = 0; x < at.columns; x++) out[x] = rivals[0];
            }
        }
    }
    free(memory);
    free(rivals);
    free(taps.low);
    return failed;
}
