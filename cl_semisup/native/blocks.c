/* A block of a small convolutional network and its derivative: 3 x 3 convolution, batch norm, maximum over 2 x 2 (or none),
 * ReLU. Batch norm and ReLU alone, for what other layers give.
 *
 * Pictures are channels-last, (n, h, w, c) in memory. Channels that a convolution makes are a multiple of LANES; those that
 * it reads may be any number.
 *
 * Why this is faster than the same operations one by one: a few pictures at a time are worked on while they are in the cache,
 * neither normalised pictures nor the places of maxima are written down (both are computed again from the convolution's
 * output), taps that fall outside of a picture are left out (half of them where pictures are 2 x 2), and a block is one call.
 *
 * In half precision (`half`) numbers are multiplied as bfloat16 and summed in single precision; all else is in the latter. Two
 * bfloat16 lie in the place of one number: two channels of a pixel side by side where a convolution sums over channels, a
 * pixel of two pictures where the weights' slopes sum over pictures. So the same loops do both, over half as many.
 */
#include "vectors.h"

#include <math.h>
#include <string.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#define WIDE (2 * LANES)     /* channels of a tile */
#define TILE 6               /* its pixels: 12 sums, two vectors that they share and a factor fit in 16 registers */
#define NARROW 3             /* channels of grey and colour images */
#define GROUP (64 * 1024)    /* bytes of outputs that are worked on at a time, or TILE pictures if these are more */
#define NEAR (16 * 1024)     /* bytes that are read twice in a row */

typedef struct {
    int n, h, w, cin, cout, pool, half;
} shape; /* of a block: its inputs are (n, h, w, cin), its convolution's outputs (n, h, w, cout) */

INLINE int smaller(int a, int b) { return a < b ? a : b; }

int lanes(void) { return LANES; }

/* Pictures that are worked on at a time. */
static int group(shape s) {
    int some = (int)(GROUP / ((size_t)s.h * s.w * s.cout * sizeof(float)));
    return some < TILE ? TILE : some;
}

typedef int32_t bits __attribute__((may_alias));
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

/* Are a block's numbers multiplied as bfloat16? Images are not: their few channels make no pairs. */
static int halved(shape s) { return s.half && s.cin % LANES == 0; }

/* Numbers, rounded to bfloat16, in pairs: of `low` the lower half of a place, of `high` the other. */
INLINE mask rounded(vec x) {
    mask bits = (mask)x, odd = (bits >> 16) & 1, up = ((bits + 0x7fff + odd) >> 16) & 0xffff; /* to nearest, ties to even */
    return (mask)choose((mask)(x == x), (vec)up, (vec)((mask){0} + 0x7fc0));
}
INLINE vec pair(vec low, vec high) { return (vec)(rounded(low) | rounded(high) << 16); }

/* The sum, and the products of two bfloat16 of each place. */
INLINE vec add_products(vec sum, vec a, vec b) {
#if LANES == 16 && defined(__AVX512BF16__)
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
    sum += (vec)((mask)a << 16) * (vec)((mask)b << 16);
    return sum + (vec)((mask)a & (int32_t)0xffff0000) * (vec)((mask)b & (int32_t)0xffff0000);
#endif
}

/* `count` numbers, a multiple of LANES, channels of pixels -> the channels in pairs. */
static void pair_channels(const float *from, float *to, size_t count) {
    for (size_t k = 0; k < count; k += LANES)
        *(halves *)((uint16_t *)to + k) = __builtin_convertvector(rounded(GIVEN(from + k)), halves);
}

/* Pictures of `size` numbers -> every two of them as one; an odd last one has nothing beside it. */
static void pair_pictures(const float *from, float *to, int n, size_t size) {
    for (int i = 0; i < n; i += 2, from += 2 * size, to += size)
        for (size_t k = 0; k < size; k += LANES) AT(to + k) = pair(GIVEN(from + k), i + 1 < n ? GIVEN(from + size + k) : every(0));
}

/* Weights (cout, cin, 3, 3) of any strides -> (3, 3, cin, cout); `backward`: (3, 3, cout, cin), turned by half a circle. The
 * third axis is in pairs if they are halved. */
static void pack(const float *weight, const int64_t *stride, float *to, shape s, int backward) {
    int outer = backward ? s.cout : s.cin, inner = backward ? s.cin : s.cout, half = halved(s);
    int64_t skip = stride[!backward], step = stride[backward];
    for (int tap = 0; tap < 9; tap++) {
        int from = backward ? 8 - tap : tap;
        const float *w = weight + (from / 3) * stride[2] + (from % 3) * stride[3];
        for (int a = 0; a < outer; a += 1 + half)
            for (int b = 0; b < inner; b += LANES, to += LANES) {
                vec low, high;
                for (int k = 0; k < LANES; k++) low[k] = w[a * skip + (b + k) * step];
                if (half)
                    for (int k = 0; k < LANES; k++) high[k] = w[(a + 1) * skip + (b + k) * step];
                if (half) AT(to) = pair(low, high);
                else AT(to) = low;
            }
    }
}

/* What a pixel of a row and column is reached by: taps first to last of each axis; the other ones fall outside. */
typedef struct {
    int top, bottom, left, right;
} taps;

INLINE taps reach(int row, int column, int h, int w) {
    return (taps){row == 0, row == h - 1 ? 1 : 2, column == 0, column == w - 1 ? 1 : 2};
}

/* One more product, or two of bfloat16; of `b` every place has the same. */
INLINE vec add(vec sum, vec a, const float *b, int half) {
    if (!half) return sum + a * *b;
    return add_products(sum, a, (vec)(*(const bits *)b - (mask){0}));
}

/* TILE pixels that are reached by the same taps, by one or two vectors of channels. */
INLINE void tile(
    const float *const *in, float *const *out, taps t, size_t row, int cin, int cout, const float *weight, int two, int half) {
    vec sum[TILE][2];
    for (int p = 0; p < TILE; p++) sum[p][0] = sum[p][1] = (vec){0};
    for (int y = t.top; y <= t.bottom; y++) {
        ptrdiff_t j = ((ptrdiff_t)y - 1) * row + ((ptrdiff_t)t.left - 1) * cin, end = j + (t.right - t.left + 1) * cin;
        const float *w = weight + (size_t)(3 * y + t.left) * cin * cout;
        for (; j < end; j++, w += cout) {
            vec first = GIVEN(w), second = two ? GIVEN(w + LANES) : first;
            for (int p = 0; p < TILE; p++) {
                sum[p][0] = add(sum[p][0], first, in[p] + j, half);
                if (two) sum[p][1] = add(sum[p][1], second, in[p] + j, half);
            }
        }
    }
    for (int p = 0; p < TILE; p++) {
        AT(out[p]) = sum[p][0];
        if (two) AT(out[p] + LANES) = sum[p][1];
    }
}

/* n pictures (n, h, w, cin) and packed weights -> (n, h, w, cout). Tiles hold inner pixels of a row, or edges of many pictures.
 * `cin` counts pairs if they are halved. */
static void convolve(const float *x, const float *weight, float *y, int n, int h, int w, int cin, int cout, int half) {
    size_t row = (size_t)w * cin;
    const float *in[TILE];
    float *out[TILE];
    for (int c = 0; c < cout; c += WIDE)
        for (int r = 0; r < h; r++)
            for (int start = 0, end; start < w; start = end) { /* the first column, those between, the last */
                end = start == 0 || start == w - 1 ? start + 1 : w - 1;
                taps t = reach(r, start, h, w);
                int filled = 0;
                for (int i = 0; i < n; i++) {
                    size_t at = ((size_t)i * h + r) * w + start;
                    const float *from = x + at * cin;
                    float *to = y + at * cout + c;
                    for (int q = start; q < end; q++, from += cin, to += cout) {
                        in[filled] = from;
                        out[filled] = to;
                        if (++filled < TILE && !(i == n - 1 && q == end - 1)) continue;
                        for (; filled < TILE; filled++) in[filled] = from, out[filled] = to; /* the last one, again */
                        int two = c + LANES < cout;
                        if (two && half) tile(in, out, t, row, cin, cout, weight + c, 1, 1);
                        else if (two) tile(in, out, t, row, cin, cout, weight + c, 1, 0);
                        else if (half) tile(in, out, t, row, cin, cout, weight + c, 0, 1);
                        else tile(in, out, t, row, cin, cout, weight + c, 0, 0);
                        filled = 0;
                    }
                }
            }
}

/* Join more values, `pixels` x c, to mean and squared distance from it of the `before` ones (Chan's update), which loses no
 * digits as sums of squares do. */
static void join(const float *values, size_t pixels, int c, double before, double *mean, double *distance) {
    double all = before + pixels;
    for (int k = 0; k < c; k += LANES) {
        vec sum = {0}, square = {0};
        for (size_t p = 0; p < pixels; p++) sum += GIVEN(values + p * c + k);
        vec centre = sum / every((float)pixels);
        for (size_t p = 0; p < pixels; p++) {
            vec off = GIVEN(values + p * c + k) - centre;
            square += off * off;
        }
        for (int lane = 0; lane < LANES; lane++) {
            double apart = centre[lane] - mean[k + lane];
            mean[k + lane] += apart * pixels / all;
            distance[k + lane] += square[lane] + apart * apart * before * pixels / all;
        }
    }
}

/* Join the values of `pixels` pixels after `before` ones, a few at a time, which are read twice. */
static void measure(const float *y, size_t before, size_t pixels, int c, double *mean, double *distance) {
    size_t near = NEAR / (c * sizeof(float)) + 1, end = before + pixels;
    for (size_t p = before; p < end; p += near)
        join(y + p * c, end - p < near ? end - p : near, c, (double)p, mean, distance);
}

/* Convolution of all pictures, with mean and squared distance of each channel. `paired`: a group's halved pictures. */
static void convolve_and_measure(
    const float *x, const float *weight, float *y, shape s, double *mean, double *distance, float *paired) {
    size_t pixels = (size_t)s.h * s.w;
    int half = halved(s);
    memset(mean, 0, s.cout * sizeof(double));
    memset(distance, 0, s.cout * sizeof(double));
    for (int i = 0, some = group(s); i < s.n; i += some) {
        int count = smaller(some, s.n - i);
        size_t first = i * pixels, values = count * pixels * s.cin;
        if (half) pair_channels(x + first * s.cin, paired, values);
        const float *from = half ? paired : x + first * s.cin;
        convolve(from, weight, y + first * s.cout, count, s.h, s.w, s.cin >> half, s.cout, half);
        measure(y, first, count * pixels, s.cout, mean, distance);
    }
}

/* What a batch norm is given and makes of a batch: mean and deviation, 1 / sqrt(variance + eps), of each channel. Running mean
 * and variance move by `momentum` unless they are null. */
typedef struct {
    const float *gamma, *beta;
    float eps, momentum;
    float *running_mean, *running_variance, *mean, *deviation;
} batch_norm;

typedef struct {
    vec centre, scale, shift; /* what is normalised is (y - centre) * scale + shift */
} norm;

INLINE norm norm_of(const batch_norm *of, int k) {
    return (norm){GIVEN(of->mean + k), GIVEN(of->gamma + k) * GIVEN(of->deviation + k), GIVEN(of->beta + k)};
}

/* The values, normalised, of `count` pixels at offsets `to`, and the largest of them. */
INLINE vec largest(const float *y, const size_t *to, int count, norm by, vec *value) {
    vec best;
    for (int j = 0; j < count; j++) {
        value[j] = (GIVEN(y + to[j]) - by.centre) * by.scale + by.shift;
        best = j ? choose((mask)(value[j] > best), value[j], best) : value[0];
    }
    return best;
}

/* The convolution's output y (n, h, w, cout) -> out (n, h', w', cout): normalised, the largest of each cell, rectified. */
INLINE void finish(const float *y, const batch_norm *of, float *out, shape s, int side) {
    int high = s.h / side, wide = s.w / side;
    size_t line = (size_t)s.w * s.cout, to[4] = {0, s.cout, line, line + s.cout};
    for (int i = 0; i < s.n; i++)
        for (int r = 0; r < high; r++, out += (size_t)wide * s.cout) {
            const float *from = y + ((size_t)i * s.h + (size_t)r * side) * line;
            for (int k = 0; k < s.cout; k += LANES) {
                norm by = norm_of(of, k);
                for (int q = 0; q < wide; q++) {
                    vec value[4], best = largest(from + (size_t)q * side * s.cout + k, to, side * side, by, value);
                    AT(out + (size_t)q * s.cout + k) = choose((mask)(best < every(0)), every(0), best); /* NaN stays NaN */
                }
            }
        }
}

/* From mean and squared distance of `values` values a channel. */
static void settle(const batch_norm *to, const double *centre, const double *distance, double values, int c) {
    for (int k = 0; k < c; k++) {
        to->mean[k] = (float)centre[k];
        to->deviation[k] = (float)(1 / sqrt(distance[k] / values + to->eps));
        if (!to->running_mean) continue;
        to->running_mean[k] += to->momentum * (to->mean[k] - to->running_mean[k]);
        to->running_variance[k] += to->momentum * ((float)(distance[k] / (values - 1)) - to->running_variance[k]);
    }
}

/* A block: x -> y, which `block_backward` needs, and out. */
void block_forward(
    const shape *of, const float *x, const float *weight, const int64_t *stride, const batch_norm *norm, float *y, float *out,
    float *scratch) {
    shape s = *of;
    double *centre = (double *)scratch, *distance = centre + s.cout;
    float *packed = scratch + 4 * s.cout;
    pack(weight, stride, packed, s, 0);
    convolve_and_measure(x, packed, y, s, centre, distance, packed + 9 * (size_t)s.cin * s.cout);
    settle(norm, centre, distance, (double)s.n * s.h * s.w, s.cout);
    if (s.pool) finish(y, norm, out, s, 2);
    else finish(y, norm, out, s, 1);
}

/* Batch norm and ReLU of rows y (n, c) -> out. scratch: 4 c floats. */
void norm_forward(const float *y, int n, int c, const batch_norm *norm, float *out, float *scratch) {
    double *centre = (double *)scratch, *distance = centre + c;
    memset(scratch, 0, 2 * c * sizeof(double));
    measure(y, 0, n, c, centre, distance);
    settle(norm, centre, distance, n, c);
    finish(y, norm, out, (shape){n, 1, 1, c, c, 0, 0}, 1);
}

/* What of an output's slope reaches each of its pixels: all of it the first of the largest, if that is above zero. */
INLINE void share(const float *y, const size_t *to, int count, norm by, vec slope, vec *part) {
    vec value[4], best = largest(y, to, count, by, value);
    mask left = (mask)(best > every(0));
    for (int j = 0; j < count; j++) {
        mask here = (mask)(value[j] == best) & left;
        part[j] = choose(here, slope, every(0));
        left &= ~here;
    }
}

/* Sums over the batch: of the slopes g of what is normalised, and of g (y - mean). Of a picture in single precision. */
INLINE void sums(
    const float *slope, const float *y, const batch_norm *of, double *total, double *product, float *picture, shape s, int side) {
    int high = s.h / side, wide = s.w / side;
    size_t line = (size_t)s.w * s.cout, to[4] = {0, s.cout, line, line + s.cout};
    memset(total, 0, s.cout * sizeof(double));
    memset(product, 0, s.cout * sizeof(double));
    for (int i = 0; i < s.n; i++) {
        memset(picture, 0, 2 * s.cout * sizeof(float));
        for (int r = 0; r < high; r++, slope += (size_t)wide * s.cout) {
            const float *from = y + ((size_t)i * s.h + (size_t)r * side) * line;
            for (int k = 0; k < s.cout; k += LANES) {
                norm by = norm_of(of, k);
                vec sum = GIVEN(picture + k), with = GIVEN(picture + s.cout + k), part[4];
                for (int q = 0; q < wide; q++) {
                    const float *cell = from + (size_t)q * side * s.cout + k;
                    share(cell, to, side * side, by, GIVEN(slope + (size_t)q * s.cout + k), part);
                    for (int j = 0; j < side * side; j++) {
                        sum += part[j];
                        with += part[j] * (GIVEN(cell + to[j]) - by.centre);
                    }
                }
                AT(picture + k) = sum;
                AT(picture + s.cout + k) = with;
            }
        }
        for (int k = 0; k < s.cout; k++) {
            total[k] += picture[k];
            product[k] += picture[s.cout + k];
        }
    }
}

/* Slopes dy (n, h, w, cout) of the convolution's outputs: scale (g - constant - linear (y - mean)), where the last two terms
 * are what moves with the batch's mean and variance. */
INLINE void through_norm(
    const float *slope, const float *y, const batch_norm *of, const float *constant, const float *linear, float *dy, shape s,
    int side) {
    int high = s.h / side, wide = s.w / side;
    size_t line = (size_t)s.w * s.cout, to[4] = {0, s.cout, line, line + s.cout};
    for (int i = 0; i < s.n; i++, y += s.h * line, dy += s.h * line) {
        for (int r = 0; r < high; r++, slope += (size_t)wide * s.cout)
            for (int k = 0; k < s.cout; k += LANES) {
                norm by = norm_of(of, k);
                vec part[4], flat = GIVEN(constant + k), tilt = GIVEN(linear + k);
                for (int q = 0; q < wide; q++) {
                    size_t cell = (size_t)r * side * line + (size_t)q * side * s.cout + k;
                    share(y + cell, to, side * side, by, GIVEN(slope + (size_t)q * s.cout + k), part);
                    for (int j = 0; j < side * side; j++)
                        AT(dy + cell + to[j]) = by.scale * (part[j] - flat - tilt * (GIVEN(y + cell + to[j]) - by.centre));
                }
            }
        for (int r = 0; r < s.h; r++) /* an odd last row and column, over which no maximum is taken */
            for (int q = r < high * side ? wide * side : 0; q < s.w; q++)
                for (int k = 0; k < s.cout; k += LANES) {
                    norm by = norm_of(of, k);
                    size_t at = r * line + (size_t)q * s.cout + k;
                    vec moved = GIVEN(constant + k) + GIVEN(linear + k) * (GIVEN(y + at) - by.centre);
                    AT(dy + at) = by.scale * -moved;
                }
    }
}

/* From a pixel's slopes and what its taps see, channels `first` to `last` of them, to the sums. */
INLINE void gather(vec (*sum)[2], const float *seen, const float *slope, int first, int last, int two, int half) {
    vec one = GIVEN(slope), other = two ? GIVEN(slope + LANES) : one;
    for (int r = first; r < last; r++) {
        sum[r][0] = add(sum[r][0], one, seen + r, half);
        if (two) sum[r][1] = add(sum[r][1], other, seen + r, half);
    }
}

/* The sums of `rows` channels, to the weights' slopes. */
INLINE void add_sums(vec (*sum)[2], float *dw, int rows, int cout, int two) {
    for (int r = 0; r < rows; r++) {
        AT(dw + (size_t)r * cout) += sum[r][0];
        if (two) AT(dw + (size_t)r * cout + LANES) += sum[r][1];
    }
}

/* `rows` input channels of a tap by one or two vectors of output channels, summed over the pixels that the tap reaches. */
INLINE void weight_tile(
    const float *x, const float *dy, float *dw, int n, int h, int w, int cin, int cout, int tap, int rows, int two, int half) {
    int y = tap / 3, z = tap % 3, left = z == 0, right = z == 2;
    vec sum[TILE][2];
    for (int r = 0; r < rows; r++) sum[r][0] = sum[r][1] = (vec){0};
    for (int i = 0; i < n; i++)
        for (int p = y == 0; p < h - (y == 2); p++) {
            size_t at = ((size_t)i * h + p) * w + left;
            const float *slope = dy + at * cout, *from = x + ((ptrdiff_t)at + (ptrdiff_t)(y - 1) * w + z - 1) * cin;
            for (int q = left; q < w - right; q++, from += cin, slope += cout) gather(sum, from, slope, 0, rows, two, half);
        }
    add_sums(sum, dw, rows, cout, two);
}

/* The same for inputs of 1 to NARROW channels, which would fill few sums: the three taps of row y of the kernel at once, which
 * see what lies side by side. */
INLINE void weight_row_tile(const float *x, const float *dy, float *dw, int n, int h, int w, int cin, int cout, int y, int two) {
    vec sum[3 * NARROW][2];
    for (int r = 0; r < 3 * cin; r++) sum[r][0] = sum[r][1] = (vec){0};
    for (int i = 0; i < n; i++)
        for (int p = y == 0; p < h - (y == 2); p++) {
            size_t at = ((size_t)i * h + p) * w;
            const float *slope = dy + at * cout, *seen = x + ((ptrdiff_t)at + (ptrdiff_t)(y - 1) * w - 1) * cin;
            if (w == 1) {
                gather(sum, seen, slope, cin, 2 * cin, two, 0);
                continue;
            }
            gather(sum, seen, slope, cin, 3 * cin, two, 0);
            for (int q = 1; q < w - 1; q++) gather(sum, seen += cin, slope += cout, 0, 3 * cin, two, 0);
            gather(sum, seen + cin, slope + cout, 0, 2 * cin, two, 0);
        }
    add_sums(sum, dw, 3 * cin, cout, two);
}

static void add_narrow_weight_slopes(const float *x, const float *dy, float *dw, int n, int h, int w, int cin, int cout) {
    for (int y = 0; y < 3; y++)
        for (int c = 0; c < cout; c += WIDE) {
            float *to = dw + (size_t)y * 3 * cin * cout + c;
            int two = c + LANES < cout;
#define OF(channels) \
    case channels: \
        if (two) weight_row_tile(x, dy + c, to, n, h, w, channels, cout, y, 1); \
        else weight_row_tile(x, dy + c, to, n, h, w, channels, cout, y, 0); \
        break;
            switch (cin) { OF(1) OF(2) OF(3) }
#undef OF
        }
}

/* Inputs and slopes of outputs of n pictures: their part of the weights' slopes is added to dw (3, 3, cin, cout). `n` counts
 * pairs if they are halved. */
static void add_weight_slopes(const float *x, const float *dy, float *dw, int n, int h, int w, int cin, int cout, int half) {
    if (cin <= NARROW) {
        add_narrow_weight_slopes(x, dy, dw, n, h, w, cin, cout);
        return;
    }
    for (int tap = 0; tap < 9; tap++)
        for (int c = 0; c < cout; c += WIDE)
            for (int a = 0, rows; a < cin; a += rows) {
                float *to = dw + ((size_t)tap * cin + a) * cout + c;
                int two = c + LANES < cout;
                rows = smaller(TILE, cin - a);
#define HIGH(r) \
    case r: \
        if (two && half) weight_tile(x + a, dy + c, to, n, h, w, cin, cout, tap, r, 1, 1); \
        else if (two) weight_tile(x + a, dy + c, to, n, h, w, cin, cout, tap, r, 1, 0); \
        else if (half) weight_tile(x + a, dy + c, to, n, h, w, cin, cout, tap, r, 0, 1); \
        else weight_tile(x + a, dy + c, to, n, h, w, cin, cout, tap, r, 0, 0); \
        break;
                switch (rows) { HIGH(1) HIGH(2) HIGH(3) HIGH(4) HIGH(5) HIGH(6) }
#undef HIGH
            }
}

/* How many floats `block_backward` works in, and `block_forward` with fewer. */
size_t block_scratch(const shape *of) {
    shape s = *of;
    size_t pictures = smaller(group(s), s.n) + 1, pixels = (size_t)s.h * s.w;
    size_t dy = pictures * pixels * s.cout, paired = halved(s) ? dy + pictures * pixels * s.cin : 0;
    return 18 * (size_t)s.cin * s.cout + 8 * (size_t)s.cout + dy + paired;
}

/* What a batch norm's slopes are made of. `total`, `product`: sums over the batch; the other ones that, per value. */
typedef struct {
    double *total, *product;
    float *constant, *linear, *picture;
} moved;

/* scratch: 8 c floats. */
INLINE moved moved_in(float *scratch, int c) {
    double *total = (double *)scratch;
    float *constant = scratch + 4 * c;
    return (moved){total, total + c, constant, constant + c, constant + 2 * c};
}

/* The slopes of gamma and beta, and how the batch's mean and variance move. */
static void slopes_of_norm(const float *slope, const float *y, const batch_norm *by, moved m, shape s, float *dgamma, float *dbeta) {
    double values = (double)s.n * s.h * s.w;
    if (s.pool) sums(slope, y, by, m.total, m.product, m.picture, s, 2);
    else sums(slope, y, by, m.total, m.product, m.picture, s, 1);
    for (int k = 0; k < s.cout; k++) {
        double deviation = by->deviation[k];
        dbeta[k] = (float)m.total[k];
        dgamma[k] = (float)(m.product[k] * deviation);
        m.constant[k] = (float)(m.total[k] / values);
        m.linear[k] = (float)(m.product[k] * deviation * deviation / values);
    }
}

/* Slope (n, h', w', cout) of a block's out -> slopes of its weights (in their strides), of gamma and beta and, unless dx is
 * null, of its inputs (n, h, w, cin). */
void block_backward(
    const shape *of, const float *slope, const float *x, const float *y, const float *weight, const int64_t *stride,
    const batch_norm *norm, float *dweight, float *dgamma, float *dbeta, float *dx, float *scratch) {
    shape s = *of;
    moved m = moved_in(scratch, s.cout);
    int side = s.pool ? 2 : 1, some = group(s), half = halved(s);
    size_t weights = 9 * (size_t)s.cin * s.cout, in = (size_t)s.h * s.w * s.cin, mid = (size_t)s.h * s.w * s.cout;
    size_t out = (size_t)(s.h / side) * (s.w / side) * s.cout;
    float *dw = scratch + 8 * s.cout, *turned = dw + weights, *dy = turned + weights;
    float *paired = dy + (size_t)smaller(some, s.n) * mid; /* slopes, then inputs */
    slopes_of_norm(slope, y, norm, m, s, dgamma, dbeta);
    memset(dw, 0, weights * sizeof(float));
    if (dx) pack(weight, stride, turned, s, 1);
    for (int i = 0; i < s.n; i += some) { /* slopes of a few pictures are made and used up at a time */
        shape few = s;
        few.n = smaller(some, s.n - i);
        const float *outer = slope + i * out, *made = y + i * mid, *given = x + i * in;
        if (s.pool) through_norm(outer, made, norm, m.constant, m.linear, dy, few, 2);
        else through_norm(outer, made, norm, m.constant, m.linear, dy, few, 1);
        if (half) {
            int pairs = (few.n + 1) / 2;
            pair_pictures(dy, paired, few.n, mid);
            pair_pictures(given, paired + pairs * mid, few.n, in);
            add_weight_slopes(paired + pairs * mid, paired, dw, pairs, s.h, s.w, s.cin, s.cout, 1);
            if (dx) pair_channels(dy, paired, few.n * mid);
        } else add_weight_slopes(given, dy, dw, few.n, s.h, s.w, s.cin, s.cout, 0);
        if (dx) convolve(half ? paired : dy, turned, dx + i * in, few.n, s.h, s.w, s.cout >> half, s.cin, half);
    }
    for (int tap = 0; tap < 9; tap++)
        for (int a = 0; a < s.cin; a++)
            for (int b = 0; b < s.cout; b++)
                dweight[b * stride[0] + a * stride[1] + (tap / 3) * stride[2] + (tap % 3) * stride[3]] = *dw++;
}

/* Slope (n, c) of what `norm_forward` gave -> that of y, and of gamma and beta. scratch: 8 c floats. */
void norm_backward(
    const float *slope, const float *y, int n, int c, const batch_norm *norm, float *dy, float *dgamma, float *dbeta,
    float *scratch) {
    shape s = {n, 1, 1, c, c, 0, 0};
    moved m = moved_in(scratch, c);
    slopes_of_norm(slope, y, norm, m, s, dgamma, dbeta);
    through_norm(slope, y, norm, m.constant, m.linear, dy, s, 1);
}

/* The mean of each channel of pictures (n, pixels, c), and its slope back. */
void spatial_mean(const float *x, float *to, int n, int pixels, int c) {
    for (int i = 0; i < n; i++, to += c) {
        for (int k = 0; k < c; k++) to[k] = 0;
        for (int p = 0; p < pixels; p++, x += c)
            for (int k = 0; k < c; k++) to[k] += x[k];
        for (int k = 0; k < c; k++) to[k] /= pixels;
    }
}

void spatial_mean_backward(const float *slope, float *dx, int n, int pixels, int c) {
    for (int i = 0; i < n; i++, slope += c)
        for (int p = 0; p < pixels; p++, dx += c)
            for (int k = 0; k < c; k++) dx[k] = slope[k] / pixels;
}
