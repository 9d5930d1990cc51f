// Multi-scale deformable attention on a CPU, in one pass over the queries: places, softmax, bilinear reading, sum.
// deformable_attention.py (read_pyramid) says what is computed; deformable_native.py fills the structure below and
// calls the function at the end with disjoint ranges of queries from several threads.
//
// Safe for whatever numbers the tensors hold: a place that is infinite or not a number is moved outside its level
// before it becomes an integer, and the index of a place outside is moved inside, with weight zero.

#include "native.h"

#include <math.h>

typedef struct {
    const void *values;  // (B, S, heads * channels); float32, or bfloat16 as are offsets, logits and out then
    const void *offsets; // (B, Q, heads * levels * points * 2), x before y
    const void *logits;  // (B, Q, heads * levels * points)
    void *out;           // (B, Q, heads * channels), contiguous
    const float *columns; // (Q, levels), contiguous, as are the rest
    const float *rows;
    const int64_t *widths; // (levels,)
    const int64_t *heights;
    const int64_t *starts;
    int64_t value_image, value_token;   // strides, counted in elements
    int64_t offset_image, offset_query;
    int64_t logit_image, logit_query;
    int64_t queries, heads, levels, points, channels;
} Problem;

// Adds ``factor`` times 2 x LANES channels. Two bfloat16 share a word: the sums of even channels are kept apart from
// those of odd ones, so that a shift and a mask make floats of them; with float32 the first half of the channels is.
INLINE void add_lanes(Floats *sums, const void *base, int64_t index, float factor, int half) {
    Floats first, second;
    if (half) {
        Words words;
        memcpy(&words, (const uint16_t *)base + index, sizeof words);
        const Words even = words << 16, odd = words & 0xffff0000;
        memcpy(&first, &even, sizeof first);
        memcpy(&second, &odd, sizeof second);
    } else {
        memcpy(&first, (const float *)base + index, sizeof first);
        memcpy(&second, (const float *)base + index + LANES, sizeof second);
    }
    sums[0] += first * factor;
    sums[1] += second * factor;
}

// The bits of bfloat16 numbers, in the upper halves of words; as in store_one.
INLINE Words rounded(Floats values) {
    Words words;
    memcpy(&words, &values, sizeof words);
    const Words odd = (Words)(values != values);
    return (((words + 0x7fff + (words >> 16 & 1)) & ~odd) | (0x7fc00000 & odd)) & 0xffff0000;
}

// What add_lanes has kept apart is put together again.
INLINE void store_lanes(void *base, int64_t index, const Floats *sums, int half) {
    if (half) {
        const Words words = rounded(sums[0]) >> 16 | rounded(sums[1]);
        memcpy((uint16_t *)base + index, &words, sizeof words);
    } else {
        memcpy((float *)base + index, sums, 2 * sizeof *sums);
    }
}

// exp(x) for x <= 0 to about 1e-7 relative; 0 where that is below the smallest normal number. Vectorises, unlike expf.
INLINE float exp_falling(float x) {
    const float least = x >= -87.0f ? x : -87.0f; // a NaN gets finite here: the conversion below is defined
    const float whole = rintf(least * 1.44269504f);
    const float r = (least - whole * 0.693359375f) + whole * 2.12194440e-4f; // ln 2 in two parts
    const float power = 1 + r * (1 + r * (0.5f + r * (1.66666667e-1f + r * (4.16666667e-2f
                          + r * (8.33333333e-3f + r * 1.38888889e-3f)))));
    const uint32_t bits = (uint32_t)((int32_t)whole + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return x >= -87.0f ? power * scale : x != x ? x : 0;
}

// What a thread keeps of a query's n = heads * levels * points points. ``width``, ``height`` and ``start`` are those of
// a point's level, the same for all queries; a row of ``tokens`` and ``factors`` is one of the four corners.
typedef struct {
    int64_t n;
    int32_t *width, *height, *start, *tokens[4];
    float *x, *y, *weight, *factors[4];
} Points;

// Where to read, before the softmax: the columns, rows and logits of all points.
INLINE void load_points(const Problem *p, Points *at, int64_t image, int64_t query, int half) {
    const int64_t offset = image * p->offset_image + query * p->offset_query;
    const int64_t logit = image * p->logit_image + query * p->logit_query;
    float *restrict x = at->x, *restrict y = at->y, *restrict weight = at->weight;
    for (int64_t i = 0; i < at->n; i++) {
        x[i] = load_one(p->offsets, offset + 2 * i, half);
        y[i] = load_one(p->offsets, offset + 2 * i + 1, half);
    }
    for (int64_t i = 0; i < at->n; i++) weight[i] = load_one(p->logits, logit + i, half);
    const float *column = p->columns + query * p->levels, *row = p->rows + query * p->levels;
    for (int64_t i = 0; i < at->n; column -= p->levels, row -= p->levels)
        for (int64_t level = 0; level < p->levels; level++, column++, row++)
            for (const int64_t end = i + p->points; i < end; i++) x[i] += *column, y[i] += *row;
}

INLINE void softmax(float *restrict weight, int64_t n, int64_t each) {
    for (float *mine = weight; mine < weight + n; mine += each) {
        float largest = mine[0];
        for (int64_t i = 1; i < each; i++) largest = mine[i] > largest ? mine[i] : largest;
        for (int64_t i = 0; i < each; i++) mine[i] -= largest;
    }
    for (int64_t i = 0; i < n; i++) weight[i] = exp_falling(weight[i]);
    for (float *mine = weight; mine < weight + n; mine += each) {
        float total = 0;
        for (int64_t i = 0; i < each; i++) total += mine[i];
        const float scale = 1 / total;
        for (int64_t i = 0; i < each; i++) mine[i] *= scale;
    }
}

// The tokens of the four corners around every point and their weights; in one form for all points, so that it is vectorised.
INLINE void find_corners(const Points *at) {
    const int32_t *restrict width = at->width, *restrict height = at->height, *restrict start = at->start;
    const float *restrict xs = at->x, *restrict ys = at->y, *restrict weight = at->weight;
    int32_t *restrict token0 = at->tokens[0], *restrict token1 = at->tokens[1];
    int32_t *restrict token2 = at->tokens[2], *restrict token3 = at->tokens[3];
    float *restrict factor0 = at->factors[0], *restrict factor1 = at->factors[1];
    float *restrict factor2 = at->factors[2], *restrict factor3 = at->factors[3];
    const int64_t n = at->n;
#pragma GCC ivdep // no two of these arrays overlap
    for (int64_t i = 0; i < n; i++) {
        const int32_t columns = width[i], lines = height[i], first = start[i], last_x = columns - 1, last_y = lines - 1;
        const float far_x = (float)columns, far_y = (float)lines, scale = weight[i];
        float x = xs[i], y = ys[i];
        x = x < far_x ? x : far_x; // a NaN goes outside
        y = y < far_y ? y : far_y;
        x = x > -1 ? x : -1;
        y = y > -1 ? y : -1;
        const float floor_x = floorf(x), floor_y = floorf(y), across = x - floor_x, down = y - floor_y; // 0 .. 1
        const int32_t left = (int32_t)floor_x, top = (int32_t)floor_y; // -1 .. width, -1 .. height
        const int32_t right = left + 1, bottom = top + 1;
        const int32_t x0 = (left > 0 ? left : 0) < last_x ? (left > 0 ? left : 0) : last_x;
        const int32_t y0 = (top > 0 ? top : 0) < last_y ? (top > 0 ? top : 0) : last_y;
        const int32_t x1 = right < last_x ? right : last_x, y1 = bottom < last_y ? bottom : last_y;
        const float left_part = x0 == left ? 1 - across : 0, right_part = x1 == right ? across : 0;
        const float top_part = y0 == top ? (1 - down) * scale : 0, bottom_part = y1 == bottom ? down * scale : 0;
        const int32_t upper = first + y0 * columns, lower = first + y1 * columns;
        token0[i] = upper + x0;
        token1[i] = upper + x1;
        token2[i] = lower + x0;
        token3[i] = lower + x1;
        factor0[i] = top_part * left_part;
        factor1[i] = top_part * right_part;
        factor2[i] = bottom_part * left_part;
        factor3[i] = bottom_part * right_part;
    }
}

// The weighted sum of the rows of the points i..end, ``pairs`` x 2 x LANES channels of them: these stay in registers.
INLINE void sum_lanes(const Problem *p, const Points *at, int64_t i, int64_t end, int64_t values, int64_t out,
                      const int pairs, const int half) {
    Floats sums[4][2 * pairs]; // of the four corners apart: one sum would have to wait for itself
    memset(sums, 0, sizeof sums);
    for (; i < end; i++)
        for (int corner = 0; corner < 4; corner++) {
            const int64_t row = values + at->tokens[corner][i] * p->value_token;
            for (int pair = 0; pair < pairs; pair++)
                add_lanes(sums[corner] + 2 * pair, p->values, row + pair * 2 * LANES, at->factors[corner][i], half);
        }
    for (int vector = 0; vector < 2 * pairs; vector++)
        sums[0][vector] = (sums[0][vector] + sums[1][vector]) + (sums[2][vector] + sums[3][vector]);
    for (int pair = 0; pair < pairs; pair++) store_lanes(p->out, out + pair * 2 * LANES, sums[0] + 2 * pair, half);
}

typedef float Eight __attribute__((vector_size(32)));

INLINE Eight load_eight(const void *base, int64_t index, int half) {
    Eight values;
    if (half) {
        uint16_t bits __attribute__((vector_size(16)));
        memcpy(&bits, (const uint16_t *)base + index, sizeof bits);
        typedef uint32_t EightWords __attribute__((vector_size(32)));
        const EightWords words = __builtin_convertvector(bits, EightWords) << 16;
        memcpy(&values, &words, sizeof values);
    } else {
        memcpy(&values, (const float *)base + index, sizeof values);
    }
    return values;
}

// As sum_lanes, of ``vectors`` x 8 channels: what is left of a small network's heads.
INLINE void sum_eights(const Problem *p, const Points *at, int64_t i, int64_t end, int64_t values, int64_t out,
                       const int vectors, const int half) {
    Eight sums[4][vectors];
    memset(sums, 0, sizeof sums);
    for (; i < end; i++)
        for (int corner = 0; corner < 4; corner++) {
            const int64_t row = values + at->tokens[corner][i] * p->value_token;
            for (int vector = 0; vector < vectors; vector++)
                sums[corner][vector] += load_eight(p->values, row + 8 * vector, half) * at->factors[corner][i];
        }
    for (int vector = 0; vector < vectors; vector++) {
        const Eight sum = (sums[0][vector] + sums[1][vector]) + (sums[2][vector] + sums[3][vector]);
        for (int lane = 0; lane < 8; lane++) store_one(p->out, out + 8 * vector + lane, sum[lane], half);
    }
}

INLINE void sum_head(const Problem *p, const Points *at, int64_t i, int64_t end, int64_t values, int64_t out, int half) {
    int64_t left = p->channels;
    for (; left >= 4 * LANES; left -= 4 * LANES, values += 4 * LANES, out += 4 * LANES)
        sum_lanes(p, at, i, end, values, out, 2, half);
    for (; left >= 2 * LANES; left -= 2 * LANES, values += 2 * LANES, out += 2 * LANES)
        sum_lanes(p, at, i, end, values, out, 1, half);
    for (; left >= 24; left -= 24, values += 24, out += 24) sum_eights(p, at, i, end, values, out, 3, half);
    for (; left >= 8; left -= 8, values += 8, out += 8) sum_eights(p, at, i, end, values, out, 1, half);
    for (; left > 0; left--, values++, out++) {
        float sum = 0;
        for (int64_t point = i; point < end; point++)
            for (int corner = 0; corner < 4; corner++)
                sum += load_one(p->values, values + at->tokens[corner][point] * p->value_token, half)
                       * at->factors[corner][point];
        store_one(p->out, out, sum, half);
    }
}

INLINE void read_queries(const Problem *p, int64_t first, int64_t last, const int half) {
    const int64_t each = p->levels * p->points, n = p->heads * each;
    int32_t whole[7][n];
    float real[7][n];
    Points at = {n, whole[0], whole[1], whole[2], {whole[3], whole[4], whole[5], whole[6]},
                 real[0], real[1], real[2], {real[3], real[4], real[5], real[6]}};
    for (int64_t i = 0; i < n; i++) {
        const int64_t level = i / p->points % p->levels;
        at.width[i] = (int32_t)p->widths[level];
        at.height[i] = (int32_t)p->heights[level];
        at.start[i] = (int32_t)p->starts[level];
    }
    for (int64_t index = first; index < last; index++) {
        const int64_t image = index / p->queries, query = index % p->queries;
        load_points(p, &at, image, query, half);
        softmax(at.weight, n, each);
        find_corners(&at);
        for (int64_t head = 0; head < p->heads; head++)
            sum_head(p, &at, head * each, (head + 1) * each, image * p->value_image + head * p->channels,
                     (index * p->heads + head) * p->channels, half);
    }
}

// Reads for the queries first..last, counted over all images.
void read_pyramid(const Problem *p, int64_t first, int64_t last, int64_t half) {
    if (half) read_queries(p, first, last, 1);
    else read_queries(p, first, last, 0);
}
