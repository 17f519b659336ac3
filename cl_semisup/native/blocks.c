/* A block of a small convolutional network and its derivative: 3 x 3 convolution, batch norm, maximum over 2 x 2 (or none), ReLU.
 *
 * Images are channels-last: (n, h, w, c) in memory. Output channels of a convolution are a multiple of SIMD_WIDTH; input channels
 * may be any number.
 *
 * Why this is faster than separate operations: a few images at a time are processed while they are in the cache. Normalised
 * images and positions of maxima are not stored; both are computed again from the convolution's output. Taps outside of an image
 * are skipped (half of them in 2 x 2 images). A block is one call.
 *
 * With `bf16` factors are rounded to bfloat16; sums and everything else stay in float32. Two bfloat16 share the place of one
 * float: two channels of a pixel where a convolution sums over channels, the same pixel of two images where weight gradients sum
 * over images. So the same loops do both, over half as many places.
 */
#include "vectors.h"

#include <math.h>
#include <string.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#define TILE_CHANNELS (2 * SIMD_WIDTH)
#define TILE_PIXELS 6            /* 12 sums, the two vectors that they share and a factor fit in 16 registers */
#define MAX_IMAGE_CHANNELS 3     /* of grey and colour images */
#define GROUP_BYTES (64 * 1024)  /* of outputs that are processed at a time; TILE_PIXELS images if these are more */
#define CHUNK_BYTES (16 * 1024)  /* of values that are read twice in a row */

typedef struct {
    int n, h, w, cin, cout, pool, bf16;
} shape; /* a block's input is (n, h, w, cin), its convolution's output (n, h, w, cout) */

INLINE int min_int(int a, int b) { return a < b ? a : b; }

int simd_width(void) { return SIMD_WIDTH; }

/* How many images are processed at a time. */
static int group_size(shape s) {
    int some = (int)(GROUP_BYTES / ((size_t)s.h * s.w * s.cout * sizeof(float)));
    return some < TILE_PIXELS ? TILE_PIXELS : some;
}

typedef int32_t bits __attribute__((may_alias));
typedef uint16_t u16_vec __attribute__((vector_size(2 * SIMD_WIDTH), aligned(2), may_alias));

/* Are a block's factors bfloat16? Those of the first block are not: its few input channels make no pairs. */
static int uses_bf16(shape s) { return s.bf16 && s.cin % SIMD_WIDTH == 0; }

/* Rounds to bfloat16. `pack_bf16` puts `low` in the lower half of each place and `high` in the upper one. */
INLINE mask to_bf16(vec x) {
    mask bits = (mask)x, odd = (bits >> 16) & 1, up = ((bits + 0x7fff + odd) >> 16) & 0xffff; /* to nearest, ties to even */
    return (mask)blend((mask)(x == x), (vec)up, (vec)((mask){0} + 0x7fc0));
}
INLINE vec pack_bf16(vec low, vec high) { return (vec)(to_bf16(low) | to_bf16(high) << 16); }

/* sum + the products of both bfloat16 of each place. */
INLINE vec add_products(vec sum, vec a, vec b) {
#if SIMD_WIDTH == 16 && defined(__AVX512BF16__)
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
    sum += (vec)((mask)a << 16) * (vec)((mask)b << 16);
    return sum + (vec)((mask)a & (int32_t)0xffff0000) * (vec)((mask)b & (int32_t)0xffff0000);
#endif
}

/* `count` floats, a multiple of SIMD_WIDTH, with channels last -> two channels in each place. */
static void pair_channels(const float *from, float *to, size_t count) {
    for (size_t k = 0; k < count; k += SIMD_WIDTH)
        *(u16_vec *)((uint16_t *)to + k) = __builtin_convertvector(to_bf16(LOAD(from + k)), u16_vec);
}

/* n images of `size` floats -> two images in each place; an odd last one is paired with zeros. */
static void pair_images(const float *from, float *to, int n, size_t size) {
    for (int i = 0; i < n; i += 2, from += 2 * size, to += size)
        for (size_t k = 0; k < size; k += SIMD_WIDTH)
            VEC(to + k) = pack_bf16(LOAD(from + k), i + 1 < n ? LOAD(from + size + k) : splat(0));
}

/* Weights (cout, cin, 3, 3) of any strides -> (3, 3, cin, cout); `backward`: (3, 3, cout, cin), turned by 180 degrees. With
 * bfloat16 the third axis is in pairs. */
static void pack(const float *weight, const int64_t *stride, float *to, shape s, int backward) {
    int outer = backward ? s.cout : s.cin, inner = backward ? s.cin : s.cout, bf16 = uses_bf16(s);
    int64_t skip = stride[!backward], step = stride[backward];
    for (int tap = 0; tap < 9; tap++) {
        int from = backward ? 8 - tap : tap;
        const float *w = weight + (from / 3) * stride[2] + (from % 3) * stride[3];
        for (int a = 0; a < outer; a += 1 + bf16)
            for (int b = 0; b < inner; b += SIMD_WIDTH, to += SIMD_WIDTH) {
                vec low, high;
                for (int k = 0; k < SIMD_WIDTH; k++) low[k] = w[a * skip + (b + k) * step];
                if (bf16)
                    for (int k = 0; k < SIMD_WIDTH; k++) high[k] = w[(a + 1) * skip + (b + k) * step];
                if (bf16) VEC(to) = pack_bf16(low, high);
                else VEC(to) = low;
            }
    }
}

/* The taps that lie inside the image for a pixel, first to last on each axis. */
typedef struct {
    int top, bottom, left, right;
} taps;

INLINE taps taps_inside(int row, int column, int h, int w) {
    return (taps){row == 0, row == h - 1 ? 1 : 2, column == 0, column == w - 1 ? 1 : 2};
}

/* sum + a * b, or both products of bfloat16; b is one place, the same for all lanes. */
INLINE vec add(vec sum, vec a, const float *b, int bf16) {
    if (!bf16) return sum + a * *b;
    return add_products(sum, a, (vec)(*(const bits *)b - (mask){0}));
}

/* TILE_PIXELS pixels with the same taps inside the image, by one or two vectors of channels. */
INLINE void tile(
    const float *const *in, float *const *out, taps t, size_t row, int cin, int cout, const float *weight, int two, int bf16) {
    vec sum[TILE_PIXELS][2];
    for (int p = 0; p < TILE_PIXELS; p++) sum[p][0] = sum[p][1] = (vec){0};
    for (int y = t.top; y <= t.bottom; y++) {
        ptrdiff_t j = ((ptrdiff_t)y - 1) * row + ((ptrdiff_t)t.left - 1) * cin, end = j + (t.right - t.left + 1) * cin;
        const float *w = weight + (size_t)(3 * y + t.left) * cin * cout;
        for (; j < end; j++, w += cout) {
            vec first = LOAD(w), second = two ? LOAD(w + SIMD_WIDTH) : first;
            for (int p = 0; p < TILE_PIXELS; p++) {
                sum[p][0] = add(sum[p][0], first, in[p] + j, bf16);
                if (two) sum[p][1] = add(sum[p][1], second, in[p] + j, bf16);
            }
        }
    }
    for (int p = 0; p < TILE_PIXELS; p++) {
        VEC(out[p]) = sum[p][0];
        if (two) VEC(out[p] + SIMD_WIDTH) = sum[p][1];
    }
}

/* n images (n, h, w, cin) and packed weights -> (n, h, w, cout). A tile holds inner pixels of a row, or edge pixels of several
 * images. With bfloat16 `cin` counts pairs. */
static void convolve(const float *x, const float *weight, float *y, int n, int h, int w, int cin, int cout, int bf16) {
    size_t row = (size_t)w * cin;
    const float *in[TILE_PIXELS];
    float *out[TILE_PIXELS];
    for (int c = 0; c < cout; c += TILE_CHANNELS)
        for (int r = 0; r < h; r++)
            for (int start = 0, end; start < w; start = end) { /* the first column, those between, the last */
                end = start == 0 || start == w - 1 ? start + 1 : w - 1;
                taps t = taps_inside(r, start, h, w);
                int filled = 0;
                for (int i = 0; i < n; i++) {
                    size_t at = ((size_t)i * h + r) * w + start;
                    const float *from = x + at * cin;
                    float *to = y + at * cout + c;
                    for (int q = start; q < end; q++, from += cin, to += cout) {
                        in[filled] = from;
                        out[filled] = to;
                        if (++filled < TILE_PIXELS && !(i == n - 1 && q == end - 1)) continue;
                        for (; filled < TILE_PIXELS; filled++) in[filled] = from, out[filled] = to; /* fill up with the last one */
                        int two = c + SIMD_WIDTH < cout;
                        if (two && bf16) tile(in, out, t, row, cin, cout, weight + c, 1, 1);
                        else if (two) tile(in, out, t, row, cin, cout, weight + c, 1, 0);
                        else if (bf16) tile(in, out, t, row, cin, cout, weight + c, 0, 1);
                        else tile(in, out, t, row, cin, cout, weight + c, 0, 0);
                        filled = 0;
                    }
                }
            }
}

/* Merges `pixels` x c more values into mean and sum of squared deviations of the `before` earlier ones (Chan's update), which
 * loses no digits as a sum of squares does. */
static void merge_statistics(const float *values, size_t pixels, int c, double before, double *mean, double *deviations) {
    double all = before + pixels;
    for (int k = 0; k < c; k += SIMD_WIDTH) {
        vec sum = {0}, square = {0};
        for (size_t p = 0; p < pixels; p++) sum += LOAD(values + p * c + k);
        vec centre = sum / splat((float)pixels);
        for (size_t p = 0; p < pixels; p++) {
            vec off = LOAD(values + p * c + k) - centre;
            square += off * off;
        }
        for (int lane = 0; lane < SIMD_WIDTH; lane++) {
            double delta = centre[lane] - mean[k + lane];
            mean[k + lane] += delta * pixels / all;
            deviations[k + lane] += square[lane] + delta * delta * before * pixels / all;
        }
    }
}

/* The same in chunks that stay in the cache, since values are read twice. */
static void add_statistics(const float *y, size_t before, size_t pixels, int c, double *mean, double *deviations) {
    size_t near = CHUNK_BYTES / (c * sizeof(float)) + 1, end = before + pixels;
    for (size_t p = before; p < end; p += near)
        merge_statistics(y + p * c, end - p < near ? end - p : near, c, (double)p, mean, deviations);
}

/* Convolution of all images, with mean and sum of squared deviations of each channel. paired: scratch for a group in bfloat16. */
static void convolve_with_statistics(
    const float *x, const float *weight, float *y, shape s, double *mean, double *deviations, float *paired) {
    size_t pixels = (size_t)s.h * s.w;
    int bf16 = uses_bf16(s);
    memset(mean, 0, s.cout * sizeof(double));
    memset(deviations, 0, s.cout * sizeof(double));
    for (int i = 0, some = group_size(s); i < s.n; i += some) {
        int count = min_int(some, s.n - i);
        size_t first = i * pixels, values = count * pixels * s.cin;
        if (bf16) pair_channels(x + first * s.cin, paired, values);
        const float *from = bf16 ? paired : x + first * s.cin;
        convolve(from, weight, y + first * s.cout, count, s.h, s.w, s.cin >> bf16, s.cout, bf16);
        add_statistics(y, first, count * pixels, s.cout, mean, deviations);
    }
}

/* A batch norm: parameters, running statistics (null: not updated), and mean and 1 / sqrt(variance + eps) of the batch. */
typedef struct {
    const float *gamma, *beta;
    float eps, momentum;
    float *running_mean, *running_var, *mean, *inv_std;
} batch_norm;

typedef struct {
    vec centre, scale, shift; /* normalised: (y - centre) * scale + shift */
} norm;

INLINE norm norm_of(const batch_norm *of, int k) {
    return (norm){LOAD(of->mean + k), LOAD(of->gamma + k) * LOAD(of->inv_std + k), LOAD(of->beta + k)};
}

/* Normalised values of `count` pixels at offsets `to`, and their maximum. */
INLINE vec normalized_max(const float *y, const size_t *to, int count, norm by, vec *value) {
    vec best;
    for (int j = 0; j < count; j++) {
        value[j] = (LOAD(y + to[j]) - by.centre) * by.scale + by.shift;
        best = j ? blend((mask)(value[j] > best), value[j], best) : value[0];
    }
    return best;
}

/* The convolution's output y (n, h, w, cout) -> out (n, h', w', cout): normalised, maximum of each cell, ReLU. */
INLINE void norm_pool_relu(const float *y, const batch_norm *of, float *out, shape s, int side) {
    int high = s.h / side, wide = s.w / side;
    size_t line = (size_t)s.w * s.cout, to[4] = {0, s.cout, line, line + s.cout};
    for (int i = 0; i < s.n; i++)
        for (int r = 0; r < high; r++, out += (size_t)wide * s.cout) {
            const float *from = y + ((size_t)i * s.h + (size_t)r * side) * line;
            for (int k = 0; k < s.cout; k += SIMD_WIDTH) {
                norm by = norm_of(of, k);
                for (int q = 0; q < wide; q++) {
                    vec value[4], best = normalized_max(from + (size_t)q * side * s.cout + k, to, side * side, by, value);
                    VEC(out + (size_t)q * s.cout + k) = blend((mask)(best < splat(0)), splat(0), best); /* NaN stays NaN */
                }
            }
        }
}

/* From mean and sum of squared deviations of `values` values a channel. */
static void set_statistics(const batch_norm *to, const double *centre, const double *deviations, double values, int c) {
    for (int k = 0; k < c; k++) {
        to->mean[k] = (float)centre[k];
        to->inv_std[k] = (float)(1 / sqrt(deviations[k] / values + to->eps));
        if (!to->running_mean) continue;
        to->running_mean[k] += to->momentum * (to->mean[k] - to->running_mean[k]);
        to->running_var[k] += to->momentum * ((float)(deviations[k] / (values - 1)) - to->running_var[k]);
    }
}

/* x (n, h, w, cin) -> y, the convolution's output, which `block_backward` needs, and out. */
void block_forward(
    const shape *of, const float *x, const float *weight, const int64_t *stride, const batch_norm *norm, float *y, float *out,
    float *scratch) {
    shape s = *of;
    double *centre = (double *)scratch, *deviations = centre + s.cout;
    float *packed = scratch + 4 * s.cout;
    pack(weight, stride, packed, s, 0);
    convolve_with_statistics(x, packed, y, s, centre, deviations, packed + 9 * (size_t)s.cin * s.cout);
    set_statistics(norm, centre, deviations, (double)s.n * s.h * s.w, s.cout);
    if (s.pool) norm_pool_relu(y, norm, out, s, 2);
    else norm_pool_relu(y, norm, out, s, 1);
}

/* The gradient of each pixel of a cell: that of the output for the first maximum, if it is above zero, else 0. */
INLINE void route_grad(const float *y, const size_t *to, int count, norm by, vec grad, vec *part) {
    vec value[4], best = normalized_max(y, to, count, by, value);
    mask left = (mask)(best > splat(0));
    for (int j = 0; j < count; j++) {
        mask here = (mask)(value[j] == best) & left;
        part[j] = blend(here, grad, splat(0));
        left &= ~here;
    }
}

/* Sums over the batch of g and of g (y - mean), where g is the gradient of normalised values. Sums of an image are float32. */
INLINE void grad_sums(
    const float *grad, const float *y, const batch_norm *of, double *total, double *product, float *image_sums, shape s, int side) {
    int high = s.h / side, wide = s.w / side;
    size_t line = (size_t)s.w * s.cout, to[4] = {0, s.cout, line, line + s.cout};
    memset(total, 0, s.cout * sizeof(double));
    memset(product, 0, s.cout * sizeof(double));
    for (int i = 0; i < s.n; i++) {
        memset(image_sums, 0, 2 * s.cout * sizeof(float));
        for (int r = 0; r < high; r++, grad += (size_t)wide * s.cout) {
            const float *from = y + ((size_t)i * s.h + (size_t)r * side) * line;
            for (int k = 0; k < s.cout; k += SIMD_WIDTH) {
                norm by = norm_of(of, k);
                vec sum = LOAD(image_sums + k), with = LOAD(image_sums + s.cout + k), part[4];
                for (int q = 0; q < wide; q++) {
                    const float *cell = from + (size_t)q * side * s.cout + k;
                    route_grad(cell, to, side * side, by, LOAD(grad + (size_t)q * s.cout + k), part);
                    for (int j = 0; j < side * side; j++) {
                        sum += part[j];
                        with += part[j] * (LOAD(cell + to[j]) - by.centre);
                    }
                }
                VEC(image_sums + k) = sum;
                VEC(image_sums + s.cout + k) = with;
            }
        }
        for (int k = 0; k < s.cout; k++) {
            total[k] += image_sums[k];
            product[k] += image_sums[s.cout + k];
        }
    }
}

/* Gradient dy (n, h, w, cout) of the convolution's output: scale (g - constant - linear (y - mean)). The last two terms come from
 * the batch's mean and variance. */
INLINE void norm_pool_relu_backward(
    const float *grad, const float *y, const batch_norm *of, const float *constant, const float *linear, float *dy, shape s,
    int side) {
    int high = s.h / side, wide = s.w / side;
    size_t line = (size_t)s.w * s.cout, to[4] = {0, s.cout, line, line + s.cout};
    for (int i = 0; i < s.n; i++, y += s.h * line, dy += s.h * line) {
        for (int r = 0; r < high; r++, grad += (size_t)wide * s.cout)
            for (int k = 0; k < s.cout; k += SIMD_WIDTH) {
                norm by = norm_of(of, k);
                vec part[4], flat = LOAD(constant + k), tilt = LOAD(linear + k);
                for (int q = 0; q < wide; q++) {
                    size_t cell = (size_t)r * side * line + (size_t)q * side * s.cout + k;
                    route_grad(y + cell, to, side * side, by, LOAD(grad + (size_t)q * s.cout + k), part);
                    for (int j = 0; j < side * side; j++)
                        VEC(dy + cell + to[j]) = by.scale * (part[j] - flat - tilt * (LOAD(y + cell + to[j]) - by.centre));
                }
            }
        for (int r = 0; r < s.h; r++) /* an odd last row and column belong to no cell */
            for (int q = r < high * side ? wide * side : 0; q < s.w; q++)
                for (int k = 0; k < s.cout; k += SIMD_WIDTH) {
                    norm by = norm_of(of, k);
                    size_t at = r * line + (size_t)q * s.cout + k;
                    vec norm_sums = LOAD(constant + k) + LOAD(linear + k) * (LOAD(y + at) - by.centre);
                    VEC(dy + at) = by.scale * -norm_sums;
                }
    }
}

/* sum[r] += grad of a pixel * input seen[r], for r from `first` to `last`. */
INLINE void gather(vec (*sum)[2], const float *seen, const float *grad, int first, int last, int two, int bf16) {
    vec one = LOAD(grad), other = two ? LOAD(grad + SIMD_WIDTH) : one;
    for (int r = first; r < last; r++) {
        sum[r][0] = add(sum[r][0], one, seen + r, bf16);
        if (two) sum[r][1] = add(sum[r][1], other, seen + r, bf16);
    }
}

/* Adds the sums of `rows` channels to the weights' gradients. */
INLINE void add_sums(vec (*sum)[2], float *dw, int rows, int cout, int two) {
    for (int r = 0; r < rows; r++) {
        VEC(dw + (size_t)r * cout) += sum[r][0];
        if (two) VEC(dw + (size_t)r * cout + SIMD_WIDTH) += sum[r][1];
    }
}

/* `rows` input channels of a tap by one or two vectors of output channels, summed over the pixels where the tap is inside. */
INLINE void weight_tile(
    const float *x, const float *dy, float *dw, int n, int h, int w, int cin, int cout, int tap, int rows, int two, int bf16) {
    int y = tap / 3, z = tap % 3, left = z == 0, right = z == 2;
    vec sum[TILE_PIXELS][2];
    for (int r = 0; r < rows; r++) sum[r][0] = sum[r][1] = (vec){0};
    for (int i = 0; i < n; i++)
        for (int p = y == 0; p < h - (y == 2); p++) {
            size_t at = ((size_t)i * h + p) * w + left;
            const float *grad = dy + at * cout, *from = x + ((ptrdiff_t)at + (ptrdiff_t)(y - 1) * w + z - 1) * cin;
            for (int q = left; q < w - right; q++, from += cin, grad += cout) gather(sum, from, grad, 0, rows, two, bf16);
        }
    add_sums(sum, dw, rows, cout, two);
}

/* The same for 1 to MAX_IMAGE_CHANNELS input channels, which would fill few sums: row y of the kernel at once, since its three
 * taps see adjacent pixels. */
INLINE void weight_row_tile(const float *x, const float *dy, float *dw, int n, int h, int w, int cin, int cout, int y, int two) {
    vec sum[3 * MAX_IMAGE_CHANNELS][2];
    for (int r = 0; r < 3 * cin; r++) sum[r][0] = sum[r][1] = (vec){0};
    for (int i = 0; i < n; i++)
        for (int p = y == 0; p < h - (y == 2); p++) {
            size_t at = ((size_t)i * h + p) * w;
            const float *grad = dy + at * cout, *seen = x + ((ptrdiff_t)at + (ptrdiff_t)(y - 1) * w - 1) * cin;
            if (w == 1) {
                gather(sum, seen, grad, cin, 2 * cin, two, 0);
                continue;
            }
            gather(sum, seen, grad, cin, 3 * cin, two, 0);
            for (int q = 1; q < w - 1; q++) gather(sum, seen += cin, grad += cout, 0, 3 * cin, two, 0);
            gather(sum, seen + cin, grad + cout, 0, 2 * cin, two, 0);
        }
    add_sums(sum, dw, 3 * cin, cout, two);
}

static void add_narrow_weight_grads(const float *x, const float *dy, float *dw, int n, int h, int w, int cin, int cout) {
    for (int y = 0; y < 3; y++)
        for (int c = 0; c < cout; c += TILE_CHANNELS) {
            float *to = dw + (size_t)y * 3 * cin * cout + c;
            int two = c + SIMD_WIDTH < cout;
#define OF(channels) \
    case channels: \
        if (two) weight_row_tile(x, dy + c, to, n, h, w, channels, cout, y, 1); \
        else weight_row_tile(x, dy + c, to, n, h, w, channels, cout, y, 0); \
        break;
            switch (cin) { OF(1) OF(2) OF(3) }
#undef OF
        }
}

/* Adds the weight gradients of n images to dw (3, 3, cin, cout). With bfloat16 `n` counts pairs. */
static void add_weight_grads(const float *x, const float *dy, float *dw, int n, int h, int w, int cin, int cout, int bf16) {
    if (cin <= MAX_IMAGE_CHANNELS) {
        add_narrow_weight_grads(x, dy, dw, n, h, w, cin, cout);
        return;
    }
    for (int tap = 0; tap < 9; tap++)
        for (int c = 0; c < cout; c += TILE_CHANNELS)
            for (int a = 0, rows; a < cin; a += rows) {
                float *to = dw + ((size_t)tap * cin + a) * cout + c;
                int two = c + SIMD_WIDTH < cout;
                rows = min_int(TILE_PIXELS, cin - a);
#define HIGH(r) \
    case r: \
        if (two && bf16) weight_tile(x + a, dy + c, to, n, h, w, cin, cout, tap, r, 1, 1); \
        else if (two) weight_tile(x + a, dy + c, to, n, h, w, cin, cout, tap, r, 1, 0); \
        else if (bf16) weight_tile(x + a, dy + c, to, n, h, w, cin, cout, tap, r, 0, 1); \
        else weight_tile(x + a, dy + c, to, n, h, w, cin, cout, tap, r, 0, 0); \
        break;
                switch (rows) { HIGH(1) HIGH(2) HIGH(3) HIGH(4) HIGH(5) HIGH(6) }
#undef HIGH
            }
}

/* How many floats `block_backward` needs as scratch; `block_forward` needs fewer. */
size_t block_scratch(const shape *of) {
    shape s = *of;
    size_t images = min_int(group_size(s), s.n) + 1, pixels = (size_t)s.h * s.w;
    size_t dy = images * pixels * s.cout, paired = uses_bf16(s) ? dy + images * pixels * s.cin : 0;
    return 18 * (size_t)s.cin * s.cout + 8 * (size_t)s.cout + dy + paired;
}

/* total, product: what `grad_sums` gives; constant, linear: the same for each value; image_sums: scratch. */
typedef struct {
    double *total, *product;
    float *constant, *linear, *image_sums;
} norm_sums;

/* scratch: 8 c floats. */
INLINE norm_sums norm_sums_in(float *scratch, int c) {
    double *total = (double *)scratch;
    float *constant = scratch + 4 * c;
    return (norm_sums){total, total + c, constant, constant + c, constant + 2 * c};
}

/* The gradients of gamma and beta, and `constant` and `linear` of `norm_pool_relu_backward`. */
static void norm_grads(const float *grad, const float *y, const batch_norm *by, norm_sums m, shape s, float *dgamma, float *dbeta) {
    double values = (double)s.n * s.h * s.w;
    if (s.pool) grad_sums(grad, y, by, m.total, m.product, m.image_sums, s, 2);
    else grad_sums(grad, y, by, m.total, m.product, m.image_sums, s, 1);
    for (int k = 0; k < s.cout; k++) {
        double inv_std = by->inv_std[k];
        dbeta[k] = (float)m.total[k];
        dgamma[k] = (float)(m.product[k] * inv_std);
        m.constant[k] = (float)(m.total[k] / values);
        m.linear[k] = (float)(m.product[k] * inv_std * inv_std / values);
    }
}

/* grad (n, h', w', cout) of a block's output -> gradients of its weights (in their strides), of gamma and beta and, unless dx is
 * null, of its input (n, h, w, cin). */
void block_backward(
    const shape *of, const float *grad, const float *x, const float *y, const float *weight, const int64_t *stride,
    const batch_norm *norm, float *dweight, float *dgamma, float *dbeta, float *dx, float *scratch) {
    shape s = *of;
    norm_sums m = norm_sums_in(scratch, s.cout);
    int side = s.pool ? 2 : 1, some = group_size(s), bf16 = uses_bf16(s);
    size_t weights = 9 * (size_t)s.cin * s.cout, in = (size_t)s.h * s.w * s.cin, mid = (size_t)s.h * s.w * s.cout;
    size_t out = (size_t)(s.h / side) * (s.w / side) * s.cout;
    float *dw = scratch + 8 * s.cout, *turned = dw + weights, *dy = turned + weights;
    float *paired = dy + (size_t)min_int(some, s.n) * mid; /* gradients, then inputs */
    norm_grads(grad, y, norm, m, s, dgamma, dbeta);
    memset(dw, 0, weights * sizeof(float));
    if (dx) pack(weight, stride, turned, s, 1);
    for (int i = 0; i < s.n; i += some) { /* gradients of a few images are computed and used at once */
        shape few = s;
        few.n = min_int(some, s.n - i);
        const float *outer = grad + i * out, *made = y + i * mid, *given = x + i * in;
        if (s.pool) norm_pool_relu_backward(outer, made, norm, m.constant, m.linear, dy, few, 2);
        else norm_pool_relu_backward(outer, made, norm, m.constant, m.linear, dy, few, 1);
        if (bf16) {
            int pairs = (few.n + 1) / 2;
            pair_images(dy, paired, few.n, mid);
            pair_images(given, paired + pairs * mid, few.n, in);
            add_weight_grads(paired + pairs * mid, paired, dw, pairs, s.h, s.w, s.cin, s.cout, 1);
            if (dx) pair_channels(dy, paired, few.n * mid);
        } else add_weight_grads(given, dy, dw, few.n, s.h, s.w, s.cin, s.cout, 0);
        if (dx) convolve(bf16 ? paired : dy, turned, dx + i * in, few.n, s.h, s.w, s.cout >> bf16, s.cin, bf16);
    }
    for (int tap = 0; tap < 9; tap++)
        for (int a = 0; a < s.cin; a++)
            for (int b = 0; b < s.cout; b++)
                dweight[b * stride[0] + a * stride[1] + (tap / 3) * stride[2] + (tap % 3) * stride[3]] = *dw++;
}

/* Images (n, pixels, c) -> the mean of each channel (n, c), and its derivative. */
void spatial_mean(const float *x, float *to, int n, int pixels, int c) {
    for (int i = 0; i < n; i++, to += c) {
        for (int k = 0; k < c; k++) to[k] = 0;
        for (int p = 0; p < pixels; p++, x += c)
            for (int k = 0; k < c; k++) to[k] += x[k];
        for (int k = 0; k < c; k++) to[k] /= pixels;
    }
}

void spatial_mean_backward(const float *grad, float *dx, int n, int pixels, int c) {
    for (int i = 0; i < n; i++, grad += c)
        for (int p = 0; p < pixels; p++, dx += c)
            for (int k = 0; k < c; k++) dx[k] = grad[k] / pixels;
}
