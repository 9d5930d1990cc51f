// What the C sources of the package share: vectors, and numbers that are float32 or bfloat16 in memory.

#pragma once

#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define LANES 16

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Integers __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));

// Number ``index`` of ``base``; ``half``: bfloat16, else float32.
INLINE float load_one(const void *base, int64_t index, int half) {
    if (!half) return ((const float *)base)[index];
    const uint32_t bits = (uint32_t)((const uint16_t *)base)[index] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE void store_one(void *base, int64_t index, float value, int half) {
    if (half) {
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        bits = value == value ? bits + 0x7fff + (bits >> 16 & 1) : 0x7fc00000; // to nearest even; NaN stays NaN
        ((uint16_t *)base)[index] = (uint16_t)(bits >> 16);
    } else {
        ((float *)base)[index] = value;
    }
}

// The sum of all lanes, by halves: one after the other they would wait for each other.
INLINE float total(Floats values) {
    float lanes[LANES];
    memcpy(lanes, &values, sizeof lanes);
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int lane = 0; lane < width; lane++) lanes[lane] += lanes[lane + width];
    return lanes[0];
}
