// The gradients of multi-scale deformable attention on a CPU, in one pass over the queries of an image and head.
// deformable_gradient.py fills the structure below and calls the function at the end with disjoint ranges of images and
// heads from several threads: no two of them write to the same place.
//
// A head's channels are padded with zeros to ``vectors`` times LANES. A place that is outside its level by a pixel or
// more, infinite or not a number reads nothing and has no gradient.

#include "native.h"

#include <math.h>

typedef struct {
    const Floats *values;  // (B, heads, S, vectors)
    const Floats *slopes;  // (B, heads, Q, vectors): of the loss by what was read
    const float *offsets;  // (B, Q, heads, levels, points, 2), x before y
    const float *weights;  // (B, Q, heads, levels, points), after the softmax
    Floats *value_slopes;  // (B, heads, S, vectors), zeros at first
    float *offset_slopes;  // as offsets
    float *weight_slopes;  // as weights
    const float *columns;  // (Q, levels)
    const float *rows;
    const int64_t *widths; // (levels,)
    const int64_t *heights;
    const int64_t *starts;
    int64_t tokens, queries, heads, levels, points, vectors;
} Problem;

// Adds ``factor`` times the slope to a row of value slopes; returns the product of slope and value.
INLINE float visit(const Floats *value, const Floats *slope, Floats *value_slope, float factor, int64_t vectors) {
    Floats product = value[0] * slope[0];
    value_slope[0] += slope[0] * factor;
    for (int64_t v = 1; v < vectors; v++) {
        product += value[v] * slope[v];
        value_slope[v] += slope[v] * factor;
    }
    return total(product);
}

// One point of a level: ``values`` and ``value_slopes`` begin at the level.
INLINE void point(const Problem *p, const Floats *values, const Floats *slope, Floats *value_slopes, int64_t width,
                  int64_t height, float x, float y, float weight, float *offset_slope, float *weight_slope) {
    offset_slope[0] = offset_slope[1] = *weight_slope = 0;
    if (!(x > -1 && x < (float)width && y > -1 && y < (float)height)) return;
    const float floor_x = floorf(x), floor_y = floorf(y), across = x - floor_x, down = y - floor_y; // 0 .. 1
    for (int corner = 0; corner < 4; corner++) {
        const int right = corner & 1, lower = corner >> 1;
        const int64_t column = (int64_t)floor_x + right, row = (int64_t)floor_y + lower;
        if (column < 0 || column >= width || row < 0 || row >= height) continue;
        const float part_x = right ? across : 1 - across, part_y = lower ? down : 1 - down;
        const int64_t at = (row * width + column) * p->vectors;
        const float product = visit(values + at, slope, value_slopes + at, weight * part_x * part_y, p->vectors);
        *weight_slope += part_x * part_y * product;
        offset_slope[0] += (right ? weight : -weight) * part_y * product;
        offset_slope[1] += (lower ? weight : -weight) * part_x * product;
    }
}

// For the heads first..last, counted over all images.
void pyramid_gradients(const Problem *p, int64_t first, int64_t last) {
    for (int64_t index = first; index < last; index++) {
        const int64_t image = index / p->heads, head = index % p->heads, table = index * p->tokens * p->vectors;
        for (int64_t query = 0; query < p->queries; query++) {
            const Floats *slope = p->slopes + (index * p->queries + query) * p->vectors;
            int64_t i = ((image * p->queries + query) * p->heads + head) * p->levels * p->points;
            for (int64_t level = 0; level < p->levels; level++) {
                const int64_t start = table + p->starts[level] * p->vectors;
                const float column = p->columns[query * p->levels + level], row = p->rows[query * p->levels + level];
                for (const int64_t end = i + p->points; i < end; i++)
                    point(p, p->values + start, slope, p->value_slopes + start, p->widths[level], p->heights[level],
                          p->offsets[2 * i] + column, p->offsets[2 * i + 1] + row, p->weights[i],
                          p->offset_slopes + 2 * i, p->weight_slopes + i);
            }
        }
    }
}
