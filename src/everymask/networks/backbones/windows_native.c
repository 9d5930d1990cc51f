// Attention inside windows on a CPU, one window and head after the other, so that its scores never leave the cache.
// windows.py (attention_of_windows) says what is computed; windows_native.py fills the structure below and calls the
// function at the end with disjoint ranges of windows from several threads.

#include "native.h"

#include <math.h>
#include <stdlib.h>

#define ROWS 4 // queries that are worked on together: a key that is loaded serves all of them

typedef struct {
    const void *query, *key, *value; // (windows, heads, tokens, channels) float32 or bfloat16, the last dimension dense
    void *out;                       // (windows, tokens, heads * channels), contiguous, of the same type
    const float *bias;               // (heads, tokens, columns) contiguous; minus infinity from column ``tokens`` on
    const float *regions;            // (windows of an image, columns), or null
    int64_t query_window, query_head, query_token; // strides, counted in elements
    int64_t key_window, key_head, key_token;
    int64_t value_window, value_head, value_token;
    int64_t windows_of_image, heads, tokens, channels;
    int64_t columns; // tokens, rounded up to whole vectors
    float scale, apart;
} Problem;

INLINE Floats read_lanes(const float *from) {
    Floats lanes;
    memcpy(&lanes, from, sizeof lanes);
    return lanes;
}

INLINE Floats select_lanes(Integers mask, Floats yes, Floats no) {
    const Integers chosen = (mask & (Integers)yes) | (~mask & (Integers)no);
    return (Floats)chosen;
}

// exp(x) for x <= 0 to about 1e-7 relative; 0 where that is below the smallest normal number; a NaN stays one.
INLINE Floats exp_falling(Floats x) {
    const Integers too_low = x < -87.0f, number = x == x;
    const Floats least = select_lanes(number & ~too_low, x, (Floats){0}); // what is converted below is in range
    const Floats whole = (least * 1.44269504f + 12582912.0f) - 12582912.0f; // 1.5 * 2^23: rounds to whole numbers
    const Floats r = (least - whole * 0.693359375f) + whole * 2.12194440e-4f; // ln 2 in two parts
    const Floats power = 1 + r * (1 + r * (0.5f + r * (1.66666667e-1f + r * (4.16666667e-2f
                           + r * (8.33333333e-3f + r * 1.38888889e-3f)))));
    const Integers scale = (__builtin_convertvector(whole, Integers) + 127) << 23;
    return select_lanes(too_low, (Floats){0}, select_lanes(number, power * (Floats)scale, x));
}

// out[row] (ROWS rows ``out_row`` apart) = left[row] (``terms`` numbers, rows ``left_row`` apart) times the matrix
// ``right`` (terms rows ``right_row`` apart), ``vectors`` x LANES columns of it: these sums stay in registers.
#define PRODUCT(NAME, VECTORS)                                                                                          \
    INLINE void NAME(float *out, int64_t out_row, const float *left, int64_t left_row, const float *right,              \
                     int64_t right_row, int64_t terms) {                                                                \
        Floats sums[ROWS][VECTORS] = {0};                                                                               \
        for (int64_t term = 0; term < terms; term++)                                                                    \
            _Pragma("GCC unroll 4") for (int vector = 0; vector < VECTORS; vector++) {                                  \
                const Floats of_right = read_lanes(right + term * right_row + vector * LANES);                          \
                _Pragma("GCC unroll 4") for (int row = 0; row < ROWS; row++)                                            \
                    sums[row][vector] += of_right * left[row * left_row + term];                                        \
            }                                                                                                           \
        _Pragma("GCC unroll 4") for (int row = 0; row < ROWS; row++)                                                    \
            _Pragma("GCC unroll 4") for (int vector = 0; vector < VECTORS; vector++)                                    \
                memcpy(out + row * out_row + vector * LANES, &sums[row][vector], sizeof(Floats));                       \
    }
PRODUCT(product_of_4, 4)
PRODUCT(product_of_2, 2)
PRODUCT(product_of_1, 1)

INLINE void wide_product(float *out, int64_t out_row, const float *left, int64_t left_row, const float *right,
                         int64_t columns, int64_t terms) {
    int64_t column = 0;
    for (; column + 4 * LANES <= columns; column += 4 * LANES)
        product_of_4(out + column, out_row, left, left_row, right + column, columns, terms);
    for (; column + 2 * LANES <= columns; column += 2 * LANES)
        product_of_2(out + column, out_row, left, left_row, right + column, columns, terms);
    for (; column < columns; column += LANES)
        product_of_1(out + column, out_row, left, left_row, right + column, columns, terms);
}

// The largest of all lanes, by halves as in ``total``.
INLINE float largest_of(Floats values) {
    float lanes[LANES];
    memcpy(lanes, &values, sizeof lanes);
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int lane = 0; lane < width; lane++)
            lanes[lane] = lanes[lane] > lanes[lane + width] ? lanes[lane] : lanes[lane + width];
    return lanes[0];
}

// Makes exponentials of a row of scores and returns what they have to be divided by.
INLINE float soften(float *scores, const float *bias, const float *regions, float own, int64_t columns, float apart) {
    Floats most = {0};
    most -= INFINITY;
    for (int64_t i = 0; i < columns; i += LANES) {
        Floats some = read_lanes(scores + i) + read_lanes(bias + i);
        if (regions) some += (Floats)((read_lanes(regions + i) != own) & (Integers)((Floats){0} + apart));
        most = select_lanes(some > most, some, most);
        memcpy(scores + i, &some, sizeof some);
    }
    const float largest = largest_of(most);
    Floats totals = {0};
    for (int64_t i = 0; i < columns; i += LANES) {
        const Floats some = exp_falling(read_lanes(scores + i) - largest);
        totals += some;
        memcpy(scores + i, &some, sizeof some);
    }
    return total(totals);
}

// A thread's memory for one window and head; rows beyond ``tokens`` are zero, so that ROWS rows may always be read.
typedef struct {
    float *query;  // (rows, channels), times the scale
    float *key;    // (channels, columns): transposed
    float *value;  // (tokens, width)
    float *scores; // (ROWS, columns)
    float *sums;   // (ROWS, width)
    int64_t rows, width;
} Memory;

INLINE void load(const Problem *p, const Memory *at, int64_t window, int64_t head, const int half) {
    const int64_t tokens = p->tokens, channels = p->channels, columns = p->columns, width = at->width;
    int64_t query = window * p->query_window + head * p->query_head;
    int64_t key = window * p->key_window + head * p->key_head;
    int64_t value = window * p->value_window + head * p->value_head;
    const float scale = p->scale;
    float *restrict to_query = at->query, *restrict to_key = at->key, *restrict to_value = at->value;
    for (int64_t token = 0; token < tokens; token++) {
        for (int64_t i = 0; i < channels; i++) to_query[i] = scale * load_one(p->query, query + i, half);
        for (int64_t i = 0; i < channels; i++) to_key[i * columns] = load_one(p->key, key + i, half);
        for (int64_t i = 0; i < channels; i++) to_value[i] = load_one(p->value, value + i, half);
        query += p->query_token, key += p->key_token, value += p->value_token;
        to_query += channels, to_key++, to_value += width;
    }
}

INLINE void attend_to_window(const Problem *p, const Memory *at, int64_t window, int64_t head, const int half) {
    const float *regions = p->regions ? p->regions + window % p->windows_of_image * p->columns : NULL;
    load(p, at, window, head, half);
    for (int64_t row = 0; row < p->tokens; row += ROWS) {
        wide_product(at->scores, p->columns, at->query + row * p->channels, p->channels, at->key, p->columns,
                     p->channels);
        const int64_t rows = p->tokens - row < ROWS ? p->tokens - row : ROWS;
        float scale[ROWS];
        for (int64_t i = 0; i < rows; i++) {
            const float *bias = p->bias + (head * p->tokens + row + i) * p->columns;
            const float own = regions ? regions[row + i] : 0;
            scale[i] = 1 / soften(at->scores + i * p->columns, bias, regions, own, p->columns, p->apart);
        }
        wide_product(at->sums, at->width, at->scores, p->columns, at->value, at->width, p->tokens);
        for (int64_t i = 0; i < rows; i++) {
            const int64_t out = ((window * p->tokens + row + i) * p->heads + head) * p->channels;
            for (int64_t channel = 0; channel < p->channels; channel++)
                store_one(p->out, out + channel, at->sums[i * at->width + channel] * scale[i], half);
        }
    }
}

// Windows first..last - 1; ``half``: the numbers are bfloat16. Returns 0, or 1 where there is no memory.
int attend(const Problem *p, int64_t first, int64_t last, int64_t half) {
    Memory at = {.rows = (p->tokens + ROWS - 1) / ROWS * ROWS, .width = (p->channels + LANES - 1) / LANES * LANES};
    const int64_t query = at.rows * p->channels, key = p->channels * p->columns, value = p->tokens * at.width;
    float *memory = calloc(query + key + value + ROWS * (p->columns + at.width), sizeof *memory);
    if (!memory) return 1;
    at.query = memory;
    at.key = at.query + query;
    at.value = at.key + key;
    at.scores = at.value + value;
    at.sums = at.scores + ROWS * p->columns;
    for (int64_t window = first; window < last; window++)
        for (int64_t head = 0; head < p->heads; head++) {
            if (half)
                attend_to_window(p, &at, window, head, 1);
            else
                attend_to_window(p, &at, window, head, 0);
        }
    free(memory);
    return 0;
}
