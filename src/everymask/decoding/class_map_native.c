// The class with the largest score at every pixel of some rows, resized bilinearly; of equal scores the first class.
// class_map_native.py fills the structure below and calls one of the two functions that are not static, with disjoint
// ranges of rows from several threads.

#include <stdint.h>
#include <stdlib.h>

#define BAND_PIXELS 16384 // their best scores and classes stay in a core's cache
#define LANES 16 // classes that are looked at together

typedef struct {
    const float *scores; // (classes, h, w); the last dimension is dense, or the first one
    const int64_t *row_low, *row_high; // (rows,) what every row of pixels lies between
    const float *row_weight;
    const int64_t *column_low, *column_high; // (columns,)
    const float *column_weight;
    int32_t *out; // (rows, columns)
    int64_t plane, line, place; // strides of classes, rows and columns, counted in elements
    int64_t classes, columns;
} Problem;

static void across(float *restrict out, const float *restrict line, const Problem *problem, const int32_t *low,
                   const int32_t *high) {
    for (int64_t x = 0; x < problem->columns; x++) {
        const float start = line[low[x]];
        out[x] = start + (line[high[x]] - start) * problem->column_weight[x];
    }
}

// Rows first..last - 1 where columns are dense: class by class in bands of rows, the best so far is kept.
// Returns 0, or 1 where there is no memory.
int best_of_planes(const Problem *problem, int64_t first, int64_t last) {
    const int64_t columns = problem->columns;
    int64_t band = BAND_PIXELS / columns;
    if (band < 1) band = 1;
    float *best = malloc((band + 2) * columns * sizeof *best);
    int32_t *ends = malloc(2 * columns * sizeof *ends);
    if (!best || !ends) {
        free(best);
        free(ends);
        return 1;
    }
    int32_t *low = ends, *high = ends + columns;
    for (int64_t x = 0; x < columns; x++) {
        low[x] = (int32_t)problem->column_low[x];
        high[x] = (int32_t)problem->column_high[x];
    }
    float *above = best + band * columns, *below = above + columns;
    for (int64_t start = first; start < last; start += band) {
        const int64_t end = start + band < last ? start + band : last;
        for (int32_t class = 0; class < problem->classes; class++) {
            const float *plane = problem->scores + class * problem->plane;
            int64_t at_above = -1, at_below = -1; // which rows of scores they hold
            for (int64_t y = start; y < end; y++) {
                const int64_t top = problem->row_low[y], bottom = problem->row_high[y];
                if (top != at_above && top == at_below) {
                    float *other = above;
                    above = below;
                    below = other;
                    at_below = at_above;
                    at_above = top;
                }
                if (top != at_above) across(above, plane + top * problem->line, problem, low, high);
                at_above = top;
                if (bottom != at_below) across(below, plane + bottom * problem->line, problem, low, high);
                at_below = bottom;
                const float weight = problem->row_weight[y];
                float *restrict champion = best + (y - start) * columns;
                int32_t *restrict winner = problem->out + y * columns;
                const float *restrict upper = above, *restrict lower = below;
                if (class == 0) {
                    for (int64_t x = 0; x < columns; x++) {
                        champion[x] = upper[x] + (lower[x] - upper[x]) * weight;
                        winner[x] = 0;
                    }
                } else {
                    for (int64_t x = 0; x < columns; x++) {
                        const float value = upper[x] + (lower[x] - upper[x]) * weight;
                        const int better = value > champion[x];
                        champion[x] = better ? value : champion[x];
                        winner[x] = better ? class : winner[x];
                    }
                }
            }
        }
    }
    free(best);
    free(ends);
    return 0;
}

static inline float between(const float *const corners[4], int lane, float over, float down) {
    const float above = corners[0][lane] + (corners[1][lane] - corners[0][lane]) * over;
    const float below = corners[2][lane] + (corners[3][lane] - corners[2][lane]) * over;
    return above + (below - above) * down;
}

// Rows first..last - 1 where classes are dense: pixel by pixel.
int best_of_channels(const Problem *problem, int64_t first, int64_t last) {
    const int64_t classes = problem->classes;
    for (int64_t y = first; y < last; y++) {
        const float *top = problem->scores + problem->row_low[y] * problem->line;
        const float *bottom = problem->scores + problem->row_high[y] * problem->line;
        const float down = problem->row_weight[y];
        for (int64_t x = 0; x < problem->columns; x++) {
            const int64_t left = problem->column_low[x] * problem->place, right = problem->column_high[x] * problem->place;
            const float over = problem->column_weight[x];
            float best[LANES]; // in each lane, of every 16th class
            int32_t winner[LANES];
            for (int64_t class = 0; class < classes; class += LANES) {
                const float *corners[4] = {top + left + class, top + right + class, bottom + left + class,
                                           bottom + right + class};
                const int lanes = classes - class < LANES ? (int)(classes - class) : LANES;
                float value[LANES];
                if (lanes == LANES) { // a known number, which a compiler makes one register of
                    for (int lane = 0; lane < LANES; lane++) value[lane] = between(corners, lane, over, down);
                } else {
                    for (int lane = 0; lane < lanes; lane++) value[lane] = between(corners, lane, over, down);
                    for (int lane = lanes; lane < LANES; lane++) value[lane] = value[0]; // a later class never wins
                }
                for (int lane = 0; lane < LANES; lane++) {
                    const int better = class == 0 || value[lane] > best[lane];
                    best[lane] = better ? value[lane] : best[lane];
                    winner[lane] = better ? (int32_t)class + lane : winner[lane];
                }
            }
            float most = best[0];
            int32_t found = winner[0];
            for (int lane = 1; lane < LANES; lane++) {
                if (best[lane] > most || (best[lane] == most && winner[lane] < found)) {
                    most = best[lane];
                    found = winner[lane];
                }
            }
            problem->out[y * problem->columns + x] = found;
        }
    }
    return 0;
}
