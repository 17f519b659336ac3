/* Random views of a batch of images from random numbers that were drawn before. `views.py` has the same in operations of torch
 * on the whole batch; here each image is done while it is in the cache. What happens to a pixel is in views.h.
 *
 * Images are (channels, h, w).
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "views.h"

typedef struct {
    int n, channels, h, w, source; /* the images' own side, if it is larger than that of the views; else that of these */
    float crop_area, crop_log_ratio, flip, rotation, shift, zoom; /* rotation in radians */
    float jitter, strength[CHANGES];
    int changes, order[CHANGES]; /* how many colour changes, and which of them first */
    float grayscale, blur, negate, noise;
} recipe;

/* Random numbers of each step, null for a step that is left out. */
typedef struct {
    const float *crop, *affine, *flip, *jitter, *change[CHANGES], *grayscale, *blur, *negate, *noise;
} draws;

/* Stretches `length` pixels from `start` over `side` pixels: for each of these the source pixel before it, and its distance
 * from that one. */
static void stretch(float start, float length, int side, int *first, float *behind) {
    for (int p = 0; p < side; p++) {
        float at = stretched(start, length, side, p);
        first[p] = (int)at;
        behind[p] = at - first[p];
    }
}

/* Resizes a random box bilinearly to the whole image. */
static void crop(const recipe *r, const float *u, float *x, float *line, float *spare) {
    int h = r->h, w = r->w, first[2][h > w ? h : w];
    float behind[2][h > w ? h : w];
    box b = random_box(r->crop_area, r->crop_log_ratio, u, r->n, h, w);
    stretch(b.top, b.high, h, first[0], behind[0]);
    stretch(b.left, b.wide, w, first[1], behind[1]);
    for (int c = 0; c < r->channels; c++, x += h * w) {
        memcpy(spare, x, (size_t)h * w * sizeof(float));
        for (int p = 0; p < h; p++) {
            const float *upper = spare + first[0][p] * w, *lower = first[0][p] < h - 1 ? upper + w : upper;
            float below = behind[0][p];
            for (int q = 0; q < w; q++) line[q] = (1 - below) * upper[q] + below * lower[q];
            line[w] = line[w - 1];
            for (int q = 0; q < w; q++) {
                const float *two = line + first[1][q];
                x[p * w + q] = (1 - behind[1][q]) * two[0] + behind[1][q] * two[1];
            }
        }
    }
}

/* How many pixels of a side at most make one of a view. */
static size_t most_taps(const recipe *r) { return 2 * (size_t)r->source / r->w + 3; }

/* Bilinear and antialiased: of `length` pixels from `start` those that make each of `side` pixels, the first of them, their
 * number, and `most` weights for each. */
static void taps(float start, float length, int side, size_t most, int *first, int *count, float *weight) {
    for (int p = 0; p < side; p++, weight += most) {
        span s = shrunk(start, length, side, p);
        float sum = 0;
        first[p] = s.low;
        count[p] = s.high - s.low + 1;
        for (int k = s.low; k <= s.high; k++) sum += weight[k - s.low] = span_weight(s, k);
        for (int k = 0; k < count[p]; k++) weight[k] /= sum;
    }
}

/* A view of the whole of a larger image, or of a random box (u may be null), resized to h x w. */
static void from_larger(const recipe *r, const float *u, const uint8_t *image, float *x, float *spare) {
    int side = r->source, h = r->h, w = r->w, first[2][h > w ? h : w], count[2][h > w ? h : w];
    size_t most = most_taps(r);
    float *line = spare, *down = line + side, *across = down + most * h;
    box b = {0, 0, (float)side, (float)side};
    if (u) b = random_box(r->crop_area, r->crop_log_ratio, u, r->n, side, side);
    taps(b.top, b.high, h, most, first[0], count[0], down);
    taps(b.left, b.wide, w, most, first[1], count[1], across);
    int left = (int)b.left, right = (int)(b.left + b.wide);
    for (int c = 0; c < r->channels; c++, image += (size_t)side * side)
        for (int p = 0; p < h; p++, x += w) {
            memset(line + left, 0, (right - left) * sizeof(float));
            for (int k = 0; k < count[0][p]; k++) {
                const uint8_t *row = image + (size_t)(first[0][p] + k) * side;
                float weight = down[p * most + k] / 255;
                for (int q = left; q < right; q++) line[q] += weight * row[q];
            }
            for (int q = 0; q < w; q++) {
                float sum = 0;
                for (int k = 0; k < count[1][q]; k++) sum += across[q * most + k] * line[first[1][q] + k];
                x[q] = sum;
            }
        }
}

/* Rotation, zoom and shift, bilinear, black outside. u: angle, scale, shift across and down. */
static void affine(const recipe *r, const float *u, float *x, float *spare) {
    int h = r->h, w = r->w, row = w + 3, from[w]; /* a border of zeros: one pixel before the image, two after it */
    size_t pixels = (size_t)h * w, bordered = (size_t)(h + 3) * row;
    float below[w], behind[w];
    map m = random_map(r->rotation, r->shift, r->zoom, u, r->n);
    memset(spare, 0, r->channels * bordered * sizeof(float));
    for (int c = 0; c < r->channels; c++)
        for (int p = 0; p < h; p++)
            memcpy(spare + c * bordered + (p + 1) * row + 1, x + c * pixels + p * w, w * sizeof(float));
    for (int p = 0; p < h; p++) {
        for (int q = 0; q < w; q++) {
            float column = mapped_column(m, h, w, p, q) + 1, line = mapped_line(m, h, w, p, q) + 1;
            int i = (int)line, j = (int)column;
            below[q] = line - i;
            behind[q] = column - j;
            from[q] = i * row + j;
        }
        for (int c = 0; c < r->channels; c++)
            for (int q = 0; q < w; q++) {
                const float *at = spare + c * bordered + from[q];
                x[c * pixels + p * w + q] = (1 - below[q]) * ((1 - behind[q]) * at[0] + behind[q] * at[1]) +
                                            below[q] * ((1 - behind[q]) * at[row] + behind[q] * at[row + 1]);
            }
    }
}

static void flip(const recipe *r, float *x) {
    for (int p = 0; p < r->channels * r->h; p++, x += r->w)
        for (int a = 0, b = r->w - 1; a < b; a++, b--) {
            float kept = x[a];
            x[a] = x[b];
            x[b] = kept;
        }
}

static void contrast(float *x, int channels, size_t pixels, float factor) {
    double part[8] = {0}, sum = 0; /* eight sums, so that the compiler can use vectors */
    size_t p = 0;
    for (; p + 8 <= pixels; p += 8)
        for (int k = 0; k < 8; k++) part[k] += channels == 3 ? luma(x, pixels, p + k) : x[p + k];
    for (int k = 0; k < 8; k++) sum += part[k];
    for (; p < pixels; p++) sum += channels == 3 ? luma(x, pixels, p) : x[p];
    float mean = (float)(sum / pixels);
    for (p = 0; p < channels * pixels; p++) x[p] = clamp(lerp(mean, x[p], factor), 0, 1);
}

static void saturation(float *x, size_t pixels, float factor) {
    for (size_t p = 0; p < pixels; p++) {
        float grey = luma(x, pixels, p);
        for (int c = 0; c < 3; c++) x[c * pixels + p] = clamp(lerp(grey, x[c * pixels + p], factor), 0, 1);
    }
}

static void grey(float *x, size_t pixels) {
    for (size_t p = 0; p < pixels; p++) x[p] = x[pixels + p] = x[2 * pixels + p] = luma(x, pixels, p);
}

/* Gaussian blur of a random width. */
static void blur(const recipe *r, float u, float *x, float *spare) {
    int h = r->h, w = r->w, radius = blur_radius(w);
    float weight[2 * MAX_BLUR_RADIUS + 1], sum = 0;
    for (int k = -radius; k <= radius; k++) sum += weight[k + radius] = blur_weight(u, k);
    for (int k = 0; k <= 2 * radius; k++) weight[k] /= sum;
    for (int c = 0; c < r->channels; c++, x += h * w) {
        memset(spare, 0, (size_t)h * w * sizeof(float));
        for (int p = 0; p < h; p++)
            for (int k = -radius; k <= radius; k++) {
                int from = reflected(p + k, h);
                for (int q = 0; q < w; q++) spare[p * w + q] += weight[k + radius] * x[from * w + q];
            }
        memset(x, 0, (size_t)h * w * sizeof(float));
        for (int k = -radius; k <= radius; k++)
            for (int q = 0; q < w; q++) {
                int from = reflected(q + k, w);
                for (int p = 0; p < h; p++) x[p * w + q] += weight[k + radius] * spare[p * w + from];
            }
    }
}

/* Colour change number `which`; u in [0, 1) is its random number. */
static void change_colour(const recipe *r, int which, float u, float *x) {
    int pixels = r->h * r->w;
    float strength = r->strength[which], factor = colour_factor(strength, u);
    if (which == 0)
        for (int p = 0; p < r->channels * pixels; p++) x[p] = clamp(x[p] * factor, 0, 1);
    else if (which == 1) contrast(x, r->channels, pixels, factor);
    else if (which == 2) saturation(x, pixels, factor);
    else
        for (int p = 0; p < pixels; p++) turn_hue(x, pixels, p, (2 * u - 1) * strength);
}

/* How many floats `make_views` needs as scratch. */
size_t views_scratch(const recipe *r) {
    size_t steps = (size_t)(r->w + 1) + (size_t)r->channels * (r->h + 3) * (r->w + 3);
    size_t larger = r->source > r->w ? r->source + most_taps(r) * (r->h + r->w) : 0;
    return steps > larger ? steps : larger;
}

/* images: n of bytes, (channels, source, source). to: n views, (x - mean) / std. The steps' order is that of `draw` in data/views.py. */
void make_views(
    const recipe *r, const draws *u, const uint8_t *images, const float *mean, const float *std, float *to, float *scratch) {
    size_t pixels = (size_t)r->h * r->w, size = r->channels * pixels, n = r->n;
    size_t stored = (size_t)r->channels * r->source * r->source;
    float *line = scratch, *spare = line + r->w + 1, level[256];
    for (int k = 0; k < 256; k++) level[k] = k / 255.0f;
    for (size_t i = 0; i < n; i++, images += stored, to += size) {
        if (r->source > r->w) from_larger(r, u->crop ? u->crop + i : NULL, images, to, scratch);
        else {
            for (size_t p = 0; p < size; p++) to[p] = level[images[p]];
            if (u->crop) crop(r, u->crop + i, to, line, spare);
        }
        if (u->affine) affine(r, u->affine + i, to, spare);
        if (u->flip && u->flip[i] < r->flip) flip(r, to);
        for (int k = 0; k < r->changes; k++)
            if (u->jitter[i] < r->jitter) change_colour(r, r->order[k], u->change[r->order[k]][i], to);
        if (u->grayscale && u->grayscale[i] < r->grayscale) grey(to, pixels);
        if (u->blur && u->blur[n + i] < r->blur) blur(r, u->blur[i], to, spare);
        if (u->negate && u->negate[i] < r->negate)
            for (size_t p = 0; p < size; p++) to[p] = 1 - to[p];
        if (u->noise)
            for (size_t p = 0; p < size; p++) to[p] += r->noise * u->noise[i * size + p];
        for (int c = 0; c < r->channels; c++)
            for (size_t p = c * pixels; p < (c + 1) * pixels; p++) to[p] = (to[p] - mean[c]) / std[c];
    }
}
