/* A block of a small convolutional network and its derivative: 3 x 3 convolution, batch norm, maximum over 2 x 2 (or none),
 * ReLU.
 *
 * Pictures are channels-last, (n, h, w, c) in memory. Channels that a convolution makes are a multiple of LANES; those that
 * it reads may be any number.
 *
 * Why this is faster than the same operations one by one: a few pictures at a time are worked on while they are in the cache,
 * neither normalised pictures nor the places of maxima are written down (both are computed again from the convolution's
 * output), taps that fall outside of a picture are left out (half of them where pictures are 2 x 2), and a block is one call.
 */
#include "vectors.h"

#include <math.h>
#include <string.h>

#define WIDE (2 * LANES)     /* channels of a tile */
#define TILE 6               /* its pixels: 12 sums, two vectors that they share and a factor fit in 16 registers */
#define GROUP (64 * 1024)    /* bytes of outputs that are worked on at a time, or TILE pictures if these are more */
#define NEAR (16 * 1024)     /* bytes that are read twice in a row */

typedef struct {
    int n, h, w, cin, cout, pool;
} shape; /* of a block: its inputs are (n, h, w, cin), its convolution's outputs (n, h, w, cout) */

INLINE int smaller(int a, int b) { return a < b ? a : b; }

int lanes(void) { return LANES; }

/* Pictures that are worked on at a time. */
static int group(shape s) {
    int some = (int)(GROUP / ((size_t)s.h * s.w * s.cout * sizeof(float)));
    return some < TILE ? TILE : some;
}

/* Weights (cout, cin, 3, 3) of any strides -> (3, 3, cin, cout); `backward`: (3, 3, cout, cin), turned by half a circle. */
static void pack(const float *weight, const int64_t *stride, float *to, shape s, int backward) {
    int outer = backward ? s.cout : s.cin, inner = backward ? s.cin : s.cout;
    int64_t skip = stride[!backward], step = stride[backward];
    for (int tap = 0; tap < 9; tap++) {
        int from = backward ? 8 - tap : tap;
        const float *w = weight + (from / 3) * stride[2] + (from % 3) * stride[3];
        for (int a = 0; a < outer; a++)
            for (int b = 0; b < inner; b++) *to++ = w[a * skip + b * step];
    }
}

/* What a pixel of a row and column is reached by: taps first to last of each axis; the other ones fall outside. */
typedef struct {
    int top, bottom, left, right;
} taps;

INLINE taps reach(int row, int column, int h, int w) {
    return (taps){row == 0, row == h - 1 ? 1 : 2, column == 0, column == w - 1 ? 1 : 2};
}

/* TILE pixels that are reached by the same taps, by one or two vectors of channels. */
INLINE void tile(
    const float *const *in, float *const *out, taps t, size_t row, int cin, int cout, const float *weight, int two) {
    vec sum[TILE][2];
    for (int p = 0; p < TILE; p++) sum[p][0] = sum[p][1] = (vec){0};
    for (int y = t.top; y <= t.bottom; y++) {
        ptrdiff_t j = ((ptrdiff_t)y - 1) * row + ((ptrdiff_t)t.left - 1) * cin, end = j + (t.right - t.left + 1) * cin;
        const float *w = weight + (size_t)(3 * y + t.left) * cin * cout;
        for (; j < end; j++, w += cout) {
            vec first = GIVEN(w), second = two ? GIVEN(w + LANES) : first;
            for (int p = 0; p < TILE; p++) {
                sum[p][0] += first * in[p][j];
                if (two) sum[p][1] += second * in[p][j];
            }
        }
    }
    for (int p = 0; p < TILE; p++) {
        AT(out[p]) = sum[p][0];
        if (two) AT(out[p] + LANES) = sum[p][1];
    }
}

/* n pictures (n, h, w, cin) and packed weights -> (n, h, w, cout). Tiles hold inner pixels of a row, or edges of many pictures. */
static void convolve(const float *x, const float *weight, float *y, int n, int h, int w, int cin, int cout) {
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
                        if (c + LANES < cout) tile(in, out, t, row, cin, cout, weight + c, 1);
                        else tile(in, out, t, row, cin, cout, weight + c, 0);
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

/* Convolution of all pictures, with mean and squared distance of each channel. */
static void convolve_and_measure(const float *x, const float *weight, float *y, shape s, double *mean, double *distance) {
    size_t pixels = (size_t)s.h * s.w, near = NEAR / (s.cout * sizeof(float)) + 1;
    memset(mean, 0, s.cout * sizeof(double));
    memset(distance, 0, s.cout * sizeof(double));
    for (int i = 0, some = group(s); i < s.n; i += some) {
        int count = smaller(some, s.n - i);
        size_t first = i * pixels, end = first + count * pixels;
        convolve(x + first * s.cin, weight, y + first * s.cout, count, s.h, s.w, s.cin, s.cout);
        for (size_t p = first; p < end; p += near)
            join(y + p * s.cout, end - p < near ? end - p : near, s.cout, (double)p, mean, distance);
    }
}

typedef struct {
    vec centre, scale, shift; /* what is normalised is (y - centre) * scale + shift */
} norm;

INLINE norm norm_of(const float *mean, const float *deviation, const float *gamma, const float *beta, int k) {
    return (norm){GIVEN(mean + k), GIVEN(gamma + k) * GIVEN(deviation + k), GIVEN(beta + k)};
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
INLINE void finish(
    const float *y, const float *mean, const float *deviation, const float *gamma, const float *beta, float *out, shape s,
    int side) {
    int high = s.h / side, wide = s.w / side;
    size_t line = (size_t)s.w * s.cout, to[4] = {0, s.cout, line, line + s.cout};
    for (int i = 0; i < s.n; i++)
        for (int r = 0; r < high; r++, out += (size_t)wide * s.cout) {
            const float *from = y + ((size_t)i * s.h + (size_t)r * side) * line;
            for (int k = 0; k < s.cout; k += LANES) {
                norm by = norm_of(mean, deviation, gamma, beta, k);
                for (int q = 0; q < wide; q++) {
                    vec value[4], best = largest(from + (size_t)q * side * s.cout + k, to, side * side, by, value);
                    AT(out + (size_t)q * s.cout + k) = choose((mask)(best < every(0)), every(0), best); /* NaN stays NaN */
                }
            }
        }
}

/* A block: x -> y, which `block_backward` needs, and out.
 *
 * mean, deviation (cout) are made: those of the batch, deviation being 1 / sqrt(variance + eps). running_mean, ..._variance
 * move by `momentum` unless they are null. */
void block_forward(
    const shape *of, const float *x, const float *weight, const int64_t *stride, const float *gamma, const float *beta,
    float eps, float momentum, float *running_mean, float *running_variance, float *y, float *mean, float *deviation,
    float *out, float *scratch) {
    shape s = *of;
    double *centre = (double *)scratch, *distance = centre + s.cout, values = (double)s.n * s.h * s.w;
    float *packed = scratch + 4 * s.cout;
    pack(weight, stride, packed, s, 0);
    convolve_and_measure(x, packed, y, s, centre, distance);
    for (int k = 0; k < s.cout; k++) {
        mean[k] = (float)centre[k];
        deviation[k] = (float)(1 / sqrt(distance[k] / values + eps));
        if (!running_mean) continue;
        running_mean[k] += momentum * (mean[k] - running_mean[k]);
        running_variance[k] += momentum * ((float)(distance[k] / (values - 1)) - running_variance[k]);
    }
    if (s.pool) finish(y, mean, deviation, gamma, beta, out, s, 2);
    else finish(y, mean, deviation, gamma, beta, out, s, 1);
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
    const float *slope, const float *y, const float *mean, const float *deviation, const float *gamma, const float *beta,
    double *total, double *product, float *picture, shape s, int side) {
    int high = s.h / side, wide = s.w / side;
    size_t line = (size_t)s.w * s.cout, to[4] = {0, s.cout, line, line + s.cout};
    memset(total, 0, s.cout * sizeof(double));
    memset(product, 0, s.cout * sizeof(double));
    for (int i = 0; i < s.n; i++) {
        memset(picture, 0, 2 * s.cout * sizeof(float));
        for (int r = 0; r < high; r++, slope += (size_t)wide * s.cout) {
            const float *from = y + ((size_t)i * s.h + (size_t)r * side) * line;
            for (int k = 0; k < s.cout; k += LANES) {
                norm by = norm_of(mean, deviation, gamma, beta, k);
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
    const float *slope, const float *y, const float *mean, const float *deviation, const float *gamma, const float *beta,
    const float *constant, const float *linear, float *dy, shape s, int side) {
    int high = s.h / side, wide = s.w / side;
    size_t line = (size_t)s.w * s.cout, to[4] = {0, s.cout, line, line + s.cout};
    for (int i = 0; i < s.n; i++, y += s.h * line, dy += s.h * line) {
        for (int r = 0; r < high; r++, slope += (size_t)wide * s.cout)
            for (int k = 0; k < s.cout; k += LANES) {
                norm by = norm_of(mean, deviation, gamma, beta, k);
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
                    norm by = norm_of(mean, deviation, gamma, beta, k);
                    size_t at = r * line + (size_t)q * s.cout + k;
                    vec moved = GIVEN(constant + k) + GIVEN(linear + k) * (GIVEN(y + at) - by.centre);
                    AT(dy + at) = by.scale * -moved;
                }
    }
}

/* `rows` input channels of a tap by one or two vectors of output channels, summed over the pixels that the tap reaches. */
INLINE void weight_tile(
    const float *x, const float *dy, float *dw, int n, int h, int w, int cin, int cout, int tap, int rows, int two) {
    int y = tap / 3, z = tap % 3, left = z == 0, right = z == 2;
    vec sum[TILE][2];
    for (int r = 0; r < rows; r++) sum[r][0] = sum[r][1] = (vec){0};
    for (int i = 0; i < n; i++)
        for (int p = y == 0; p < h - (y == 2); p++) {
            size_t at = ((size_t)i * h + p) * w + left;
            const float *slope = dy + at * cout, *from = x + ((ptrdiff_t)at + (ptrdiff_t)(y - 1) * w + z - 1) * cin;
            for (int q = left; q < w - right; q++, from += cin, slope += cout) {
                vec first = GIVEN(slope), second = two ? GIVEN(slope + LANES) : first;
                for (int r = 0; r < rows; r++) {
                    sum[r][0] += first * from[r];
                    if (two) sum[r][1] += second * from[r];
                }
            }
        }
    for (int r = 0; r < rows; r++) {
        AT(dw + (size_t)r * cout) += sum[r][0];
        if (two) AT(dw + (size_t)r * cout + LANES) += sum[r][1];
    }
}

/* Inputs and slopes of outputs of n pictures: their part of the weights' slopes is added to dw (3, 3, cin, cout). */
static void add_weight_slopes(const float *x, const float *dy, float *dw, int n, int h, int w, int cin, int cout) {
    for (int tap = 0; tap < 9; tap++)
        for (int c = 0; c < cout; c += WIDE)
            for (int a = 0, rows; a < cin; a += rows) {
                float *to = dw + ((size_t)tap * cin + a) * cout + c;
                int two = c + LANES < cout;
                rows = smaller(TILE, cin - a);
#define HIGH(r) \
    case r: \
        if (two) weight_tile(x + a, dy + c, to, n, h, w, cin, cout, tap, r, 1); \
        else weight_tile(x + a, dy + c, to, n, h, w, cin, cout, tap, r, 0); \
        break;
                switch (rows) { HIGH(1) HIGH(2) HIGH(3) HIGH(4) HIGH(5) HIGH(6) }
#undef HIGH
            }
}

/* How many floats `block_backward` works in, and `block_forward` with fewer. */
size_t block_scratch(const shape *of) {
    shape s = *of;
    size_t dy = (size_t)smaller(group(s), s.n) * s.h * s.w * s.cout;
    return 18 * (size_t)s.cin * s.cout + 8 * (size_t)s.cout + dy;
}

/* Slope (n, h', w', cout) of a block's out -> slopes of its weights (in their strides), of gamma and beta and, unless dx is
 * null, of its inputs (n, h, w, cin). */
void block_backward(
    const shape *of, const float *slope, const float *x, const float *y, const float *mean, const float *deviation,
    const float *weight, const int64_t *stride, const float *gamma, const float *beta, float *dweight, float *dgamma,
    float *dbeta, float *dx, float *scratch) {
    shape s = *of;
    int side = s.pool ? 2 : 1, some = group(s);
    size_t weights = 9 * (size_t)s.cin * s.cout, in = (size_t)s.h * s.w * s.cin, mid = (size_t)s.h * s.w * s.cout;
    size_t out = (size_t)(s.h / side) * (s.w / side) * s.cout;
    double *total = (double *)scratch, *product = total + s.cout, values = (double)s.n * s.h * s.w;
    float *constant = scratch + 4 * s.cout, *linear = constant + s.cout, *picture = linear + s.cout;
    float *dw = picture + 2 * s.cout, *turned = dw + weights, *dy = turned + weights;
    if (s.pool) sums(slope, y, mean, deviation, gamma, beta, total, product, picture, s, 2);
    else sums(slope, y, mean, deviation, gamma, beta, total, product, picture, s, 1);
    for (int k = 0; k < s.cout; k++) {
        dbeta[k] = (float)total[k];
        dgamma[k] = (float)(product[k] * deviation[k]);
        constant[k] = (float)(total[k] / values);
        linear[k] = (float)(product[k] * deviation[k] * deviation[k] / values);
    }
    memset(dw, 0, weights * sizeof(float));
    if (dx) pack(weight, stride, turned, s, 1);
    for (int i = 0; i < s.n; i += some) { /* slopes of a few pictures are made and used up at a time */
        shape few = s;
        few.n = smaller(some, s.n - i);
        const float *outer = slope + i * out, *made = y + i * mid, *given = x + i * in;
        if (s.pool) through_norm(outer, made, mean, deviation, gamma, beta, constant, linear, dy, few, 2);
        else through_norm(outer, made, mean, deviation, gamma, beta, constant, linear, dy, few, 1);
        add_weight_slopes(given, dy, dw, few.n, s.h, s.w, s.cin, s.cout);
        if (dx) convolve(dy, turned, dx + i * in, few.n, s.h, s.w, s.cout, s.cin);
    }
    for (int tap = 0; tap < 9; tap++)
        for (int a = 0; a < s.cin; a++)
            for (int b = 0; b < s.cout; b++)
                dweight[b * stride[0] + a * stride[1] + (tap / 3) * stride[2] + (tap % 3) * stride[3]] = *dw++;
}
