// Layer norms of tokens and group norms of maps on a CPU, together with the sums beside them: norms.py says what is
// computed, norms_native.py calls the functions that are not static.
//
// Everything is contiguous, channels last, and either float32 or bfloat16; all arithmetic is in float32. What is
// written may lie where something of the same shape is read. Numbers that are not finite go where they go in torch.

#include "native.h"

#include <math.h>
#include <stddef.h>

#define MOST_CHANNELS 4096 // as in norms_native.py: a thread's stack holds some rows of so many floats
#define ROWS 4             // that are normed side by side
#define LEAST_SHARED 32768 // numbers: fewer are done before another thread has heard of them
#define BLOCK 128          // as in norms_native.py: places of a map whose statistics are taken together

typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

INLINE Floats all(float value) { return value - (Floats){}; }

INLINE Floats load(const void *base, int64_t index, int half) {
    Floats values;
    if (half) {
        Halves halves;
        memcpy(&halves, (const uint16_t *)base + index, sizeof halves);
        const Words words = __builtin_convertvector(halves, Words) << 16;
        memcpy(&values, &words, sizeof values);
    } else {
        memcpy(&values, (const float *)base + index, sizeof values);
    }
    return values;
}

INLINE void store(void *base, int64_t index, Floats values, int half) {
    if (half) {
        Words words;
        memcpy(&words, &values, sizeof words);
        const Words odd = (Words)(values != values);
        words = ((words + 0x7fff + (words >> 16 & 1)) & ~odd) | (0x7fc00000 & odd); // as in store_one
        const Halves halves = __builtin_convertvector(words >> 16, Halves);
        memcpy((uint16_t *)base + index, &halves, sizeof halves);
    } else {
        memcpy((float *)base + index, &values, sizeof values);
    }
}

// ``count`` numbers of a parameter as floats; ``other`` where there is none.
INLINE void load_parameter(float *restrict to, const void *from, int64_t count, int half, float other) {
    for (int64_t i = 0; i < count; i++) to[i] = from ? load_one(from, i, half) : other;
}

// ---- Threads ----

// The OpenMP runtime that torch computes with, if its names are to be seen: its threads are there already, which makes
// small tasks worth sharing. Threads of a runtime of our own would compete with them. They are called from here, and not
// by native.in_threads, as to enter Python in each of them takes as long as a norm.
extern void GOMP_parallel(void (*run)(void *), void *data, unsigned threads, unsigned flags) __attribute__((weak));
extern int omp_get_thread_num(void) __attribute__((weak));
extern int omp_get_num_threads(void) __attribute__((weak));

int64_t can_share(void) { return GOMP_parallel && omp_get_thread_num && omp_get_num_threads; }

// Works on a part of ``problem``.
typedef void (*Run)(const void *problem, int64_t first, int64_t last);

typedef struct {
    Run run;
    const void *problem;
    int64_t count;
} Task;

// Of T threads the t-th takes the t-th part, as in torch: it lies in the cache of the core that has made it.
static void take_part(void *data) {
    const Task *task = data;
    const int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads(); // may be fewer than were wanted
    task->run(task->problem, task->count * thread / threads, task->count * (thread + 1) / threads);
}

// Runs for 0..count in so many threads, if that is worth it: they are called within some microseconds.
static void share(Run run, const void *problem, int64_t count, int64_t numbers, int64_t threads) {
    Task task = {run, problem, count};
    if (threads > 1 && numbers >= LEAST_SHARED && can_share()) GOMP_parallel(take_part, &task, (unsigned)threads, 0);
    else run(problem, 0, count);
}

// ---- Layer norms ----

typedef struct {
    const void *tokens;       // (rows, channels)
    const void *branch;       // the same, added to the tokens; or NULL
    const void *scale;        // (channels,), by which the branch is multiplied first; or NULL
    const void *weight, *bias; // (channels,); or NULL
    void *sum;                // (rows, channels); or NULL
    void *normed;             // (rows, channels)
    int64_t channels, half, half_parameters;
    float eps;
} Rows;

// What a thread keeps of the parameters, as floats, and of the rows at hand.
typedef struct {
    float weight[MOST_CHANNELS], bias[MOST_CHANNELS], scale[MOST_CHANNELS];
    float rows[ROWS * (MOST_CHANNELS + LANES)];
} Floor;

// ``count`` rows from the number ``at`` on, side by side: each step of a row waits for the one before it.
INLINE void norm_some(const Rows *p, Floor *of, int64_t at, const int count, const int half) {
    const int64_t channels = p->channels, whole = channels - channels % LANES, width = channels + LANES;
    Floats sums[ROWS] = {};
    float rest[ROWS] = {}, mean[ROWS], factor[ROWS];
    for (int64_t i = 0; i < whole; i += LANES)
        for (int row = 0; row < count; row++) {
            const int64_t place = at + row * channels + i;
            Floats values = load(p->tokens, place, half);
            if (p->branch) values += load(p->branch, place, half) * load(of->scale, i, 0);
            if (p->sum) store(p->sum, place, values, half);
            store(of->rows, row * width + i, values, 0);
            sums[row] += values;
        }
    for (int64_t i = whole; i < channels; i++)
        for (int row = 0; row < count; row++) {
            const int64_t place = at + row * channels + i;
            float value = load_one(p->tokens, place, half);
            if (p->branch) value += load_one(p->branch, place, half) * of->scale[i];
            if (p->sum) store_one(p->sum, place, value, half);
            of->rows[row * width + i] = value;
            rest[row] += value;
        }
    for (int row = 0; row < count; row++) {
        mean[row] = (total(sums[row]) + rest[row]) / (float)channels;
        sums[row] = all(0);
        rest[row] = 0;
    }
    for (int64_t i = 0; i < whole; i += LANES)
        for (int row = 0; row < count; row++) {
            const Floats apart = load(of->rows, row * width + i, 0) - mean[row];
            sums[row] += apart * apart;
        }
    for (int64_t i = whole; i < channels; i++)
        for (int row = 0; row < count; row++) {
            const float apart = of->rows[row * width + i] - mean[row];
            rest[row] += apart * apart;
        }
    for (int row = 0; row < count; row++)
        factor[row] = 1 / sqrtf((total(sums[row]) + rest[row]) / (float)channels + p->eps);
    for (int64_t i = 0; i < whole; i += LANES) {
        const Floats weight = load(of->weight, i, 0), bias = load(of->bias, i, 0);
        for (int row = 0; row < count; row++) {
            const Floats apart = load(of->rows, row * width + i, 0) - mean[row];
            store(p->normed, at + row * channels + i, apart * factor[row] * weight + bias, half);
        }
    }
    for (int64_t i = whole; i < channels; i++)
        for (int row = 0; row < count; row++) {
            const float apart = of->rows[row * width + i] - mean[row];
            store_one(p->normed, at + row * channels + i, apart * factor[row] * of->weight[i] + of->bias[i], half);
        }
}

INLINE void norm_rows(const Rows *p, int64_t first, int64_t last, const int half) {
    Floor of;
    load_parameter(of.weight, p->weight, p->channels, (int)p->half_parameters, 1);
    load_parameter(of.bias, p->bias, p->channels, (int)p->half_parameters, 0);
    load_parameter(of.scale, p->scale, p->channels, (int)p->half_parameters, 1);
    for (; last - first >= ROWS; first += ROWS) norm_some(p, &of, first * p->channels, ROWS, half);
    for (; first < last; first++) norm_some(p, &of, first * p->channels, 1, half);
}

static void norm_rows_of_type(const void *problem, int64_t first, int64_t last) {
    const Rows *p = problem;
    if (p->half) norm_rows(p, first, last, 1);
    else norm_rows(p, first, last, 0);
}

// The members of ``Rows`` one by one: Python passes them faster than it makes a structure.
void add_and_norm(const void *tokens, const void *branch, const void *scale, const void *weight, const void *bias,
                  void *sum, void *normed, int64_t rows, int64_t channels, int64_t half, int64_t half_parameters,
                  float eps, int64_t threads) {
    const Rows p = {tokens, branch, scale, weight, bias, sum, normed, channels, half, half_parameters, eps};
    share(norm_rows_of_type, &p, rows, rows * channels, threads);
}

// ---- Group norms ----

typedef struct {
    const void *map;           // (images, height, width, channels)
    const void *coarser;       // (images, rows, columns, channels), enlarged and added to what is normed; or NULL
    const void *weight, *bias; // (channels,); or NULL
    void *out;                 // like the map
    float *statistics; // (images, blocks, 2, channels): of each block the mean, and the squares of what is apart from it
    float *scales;     // (images, 2, channels): the mean of each channel's group, and what the rest is multiplied by
    int64_t images, height, width, channels, groups, rows, columns;
    int64_t nearest, relu, half, half_parameters;
    float eps;
} Map;

INLINE int64_t blocks_of(const Map *p) { return (p->height * p->width + BLOCK - 1) / BLOCK; }

INLINE int64_t places_in(const Map *p, int64_t block) {
    const int64_t left = p->height * p->width - block * BLOCK;
    return left < BLOCK ? left : BLOCK;
}

// What is summed is apart from the block's first place, so that a large mean costs no accuracy.
INLINE void measure_block(const Map *p, int64_t index, const int half) {
    const int64_t image = index / blocks_of(p), block = index % blocks_of(p), places = places_in(p, block);
    const int64_t channels = p->channels, start = (image * p->height * p->width + block * BLOCK) * channels;
    float origin[MOST_CHANNELS], sums[MOST_CHANNELS], squares[MOST_CHANNELS];
    for (int64_t i = 0; i < channels; i++) {
        origin[i] = load_one(p->map, start + i, half);
        sums[i] = squares[i] = 0;
    }
    for (int64_t at = start; at < start + places * channels; at += channels)
        for (int64_t i = 0; i < channels; i++) {
            const float apart = load_one(p->map, at + i, half) - origin[i];
            sums[i] += apart;
            squares[i] += apart * apart;
        }
    float *restrict mean = p->statistics + index * 2 * channels, *restrict rest = mean + channels;
    for (int64_t i = 0; i < channels; i++) {
        const float apart = sums[i] / (float)places;
        mean[i] = origin[i] + apart;
        rest[i] = squares[i] - apart * sums[i];
    }
}

static void measure(const void *problem, int64_t first, int64_t last) {
    const Map *p = problem;
    for (; first < last; first++)
        if (p->half) measure_block(p, first, 1);
        else measure_block(p, first, 0);
}

// From the statistics of blocks to those of groups (Chan et al. 1979, equation 2.1), and to a scale for every channel.
static void conclude(const Map *p, int64_t image) {
    const int64_t channels = p->channels, each = channels / p->groups, blocks = blocks_of(p);
    const double count = (double)(p->height * p->width);
    const float *statistics = p->statistics + image * blocks * 2 * channels;
    float *means = p->scales + image * 2 * channels, *factors = means + channels;
    double sums[MOST_CHANNELS] = {}, rest[MOST_CHANNELS] = {};
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t i = 0; i < channels; i++)
            sums[i] += (double)places_in(p, block) * statistics[block * 2 * channels + i];
    for (int64_t group = 0; group < channels; group += each) {
        double sum = 0;
        for (int64_t i = group; i < group + each; i++) sum += sums[i];
        for (int64_t i = group; i < group + each; i++) sums[i] = sum / (count * (double)each);
    }
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t i = 0; i < channels; i++) {
            const double apart = statistics[block * 2 * channels + i] - sums[i];
            rest[i] += statistics[(block * 2 + 1) * channels + i] + (double)places_in(p, block) * apart * apart;
        }
    for (int64_t group = 0; group < channels; group += each) {
        double variance = 0;
        for (int64_t i = group; i < group + each; i++) variance += rest[i] / (count * (double)each);
        variance = variance < 0 ? 0 : variance;
        for (int64_t i = group; i < group + each; i++) {
            means[i] = (float)sums[i];
            factors[i] = (float)(1 / sqrt(variance + p->eps)) * (p->weight ? load_one(p->weight, i, (int)p->half_parameters) : 1);
        }
    }
}

// Where a place of the enlarged map reads: ``low`` and ``high``, with the ``part`` of the latter.
typedef struct {
    int64_t low, high;
    float part;
} Tap;

INLINE Tap tap_of(int64_t place, int64_t from, int64_t to, int64_t nearest) {
    const float scale = (float)from / (float)to;
    float source = nearest ? (float)place * scale : scale * ((float)place + 0.5f) - 0.5f;
    source = source < 0 ? 0 : source;
    Tap tap = {(int64_t)source, 0, 0};
    tap.low = tap.low < from - 1 ? tap.low : from - 1;
    tap.high = tap.low < from - 1 ? tap.low + 1 : tap.low;
    const float part = source - (float)tap.low;
    tap.part = part < 1 ? part : 1;
    return tap;
}

// The coarser map at a place of the finer one, as floats.
INLINE void enlarge(const Map *p, int64_t image, Tap row, Tap column, float *restrict to, const int half) {
    const int64_t channels = p->channels, upper = image * p->rows + row.low, lower = image * p->rows + row.high;
    const int64_t at00 = (upper * p->columns + column.low) * channels, at01 = (upper * p->columns + column.high) * channels;
    const int64_t at10 = (lower * p->columns + column.low) * channels, at11 = (lower * p->columns + column.high) * channels;
    const float right = column.part, left = 1 - right, down = row.part, up = 1 - down;
    if (p->nearest) {
        for (int64_t i = 0; i < channels; i++) to[i] = load_one(p->coarser, at00 + i, half);
        return;
    }
    for (int64_t i = 0; i < channels; i++) {
        const float above = load_one(p->coarser, at00 + i, half) * left + load_one(p->coarser, at01 + i, half) * right;
        const float below = load_one(p->coarser, at10 + i, half) * left + load_one(p->coarser, at11 + i, half) * right;
        to[i] = above * up + below * down;
    }
}

// A line of the map: normed, the coarser map added, then what is below zero made zero, each where wanted.
INLINE void finish_line(const Map *p, int64_t index, const int half) {
    const int64_t channels = p->channels, image = index / p->height;
    const float *means = p->scales + image * 2 * channels, least = p->relu ? 0 : -INFINITY;
    float mean[MOST_CHANNELS], factor[MOST_CHANNELS], bias[MOST_CHANNELS], plus[MOST_CHANNELS];
    memcpy(mean, means, sizeof(float) * (size_t)channels);
    memcpy(factor, means + channels, sizeof(float) * (size_t)channels);
    load_parameter(bias, p->bias, channels, (int)p->half_parameters, 0);
    memcpy(plus, bias, sizeof(float) * (size_t)channels);
    const Tap row = tap_of(index % p->height, p->rows, p->height, p->nearest);
    for (int64_t place = 0; place < p->width; place++) {
        const int64_t at = (index * p->width + place) * channels;
        if (p->coarser) {
            enlarge(p, image, row, tap_of(place, p->columns, p->width, p->nearest), plus, half);
            for (int64_t i = 0; i < channels; i++) plus[i] += bias[i];
        }
#pragma GCC ivdep // what is written lies where the same number was read, or nowhere near
        for (int64_t i = 0; i < channels; i++) {
            const float value = (load_one(p->map, at + i, half) - mean[i]) * factor[i] + plus[i];
            store_one(p->out, at + i, value < least ? least : value, half); // NaN stays NaN
        }
    }
}

static void finish(const void *problem, int64_t first, int64_t last) {
    const Map *p = problem;
    for (; first < last; first++)
        if (p->half) finish_line(p, first, 1);
        else finish_line(p, first, 0);
}

void norm_map(const Map *p, int64_t threads) {
    const int64_t numbers = p->images * p->height * p->width * p->channels;
    share(measure, p, p->images * blocks_of(p), numbers, threads);
    for (int64_t image = 0; image < p->images; image++) conclude(p, image);
    share(finish, p, p->images * p->height, numbers, threads);
}
