/* Random views of a batch of images from random numbers that were drawn before. `views.py` has the same in operations of torch
 * on the whole batch; here each image is done while it is in the cache.
 *
 * Images are (channels, h, w). Random numbers of a step are (rows, n): those of image i are u[i], u[n + i], ...
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define CROP_BOXES 10      /* candidate boxes of a crop, as in views.py */
#define CHANGES 4          /* of colour: brightness, contrast, saturation, hue */
#define MAX_BLUR_RADIUS 64 /* in pixels */

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

static const float LUMA[3] = {0.2989f, 0.587f, 0.114f}; /* as in views.py */

static inline float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }
static inline float lerp(float from, float to, float weight) { /* exact at both ends, as torch.lerp */
    return weight < 0.5f ? from + weight * (to - from) : to - (to - from) * (1 - weight);
}

/* Stretches `length` pixels from `start` over `side` pixels: for each of these the source pixel before it, and its distance
 * from that one. */
static void stretch(float start, float length, int side, int *first, float *behind) {
    for (int p = 0; p < side; p++) {
        float at = start + (p + 0.5f) * (length / side) - 0.5f;
        at = clamp(at, start, start + length - 1);
        first[p] = (int)at;
        behind[p] = at - first[p];
    }
}

typedef struct {
    float left, top, wide, high;
} box;

/* A box of random area and aspect in an image of h x w pixels. u: areas, aspects, left and top of CROP_BOXES boxes. */
static inline box random_box(const recipe *r, const float *u, int h, int w) {
    float wide = (float)w, high = (float)h;
    size_t n = r->n;
    for (int try = 0; try < CROP_BOXES; try++) {
        float area = (r->crop_area + (1 - r->crop_area) * u[try * n]) * (float)(h * w);
        float ratio = expf((2 * u[(CROP_BOXES + try) * n] - 1) * r->crop_log_ratio);
        float a = rintf(sqrtf(area * ratio)), b = rintf(sqrtf(area / ratio));
        a = a < 1 ? 1 : a;
        b = b < 1 ? 1 : b;
        if (a <= w && b <= h) {
            wide = a;
            high = b;
            break;
        }
    }
    float left = floorf(u[2 * CROP_BOXES * n] * (w - wide + 1)), top = floorf(u[3 * CROP_BOXES * n] * (h - high + 1));
    return (box){left, top, wide, high};
}

/* Resizes a random box bilinearly to the whole image. */
static void crop(const recipe *r, const float *u, float *x, float *line, float *spare) {
    int h = r->h, w = r->w, first[2][h > w ? h : w];
    float behind[2][h > w ? h : w];
    box b = random_box(r, u, h, w);
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
    float scale = length > side ? length / side : 1, last = start + length - 1;
    for (int p = 0; p < side; p++, weight += most) {
        float at = start + (p + 0.5f) * (length / side) - 0.5f, sum = 0;
        int low = (int)clamp(ceilf(at - scale), start, last), high = (int)clamp(floorf(at + scale), start, last);
        first[p] = low;
        count[p] = high - low + 1;
        for (int k = low; k <= high; k++) {
            float w = 1 - fabsf(at - k) / scale;
            sum += weight[k - low] = w > 0 ? w : 0;
        }
        for (int k = 0; k < count[p]; k++) weight[k] /= sum;
    }
}

/* A view of the whole of a larger image, or of a random box (u may be null), resized to h x w. */
static void from_larger(const recipe *r, const float *u, const uint8_t *image, float *x, float *spare) {
    int side = r->source, h = r->h, w = r->w, first[2][h > w ? h : w], count[2][h > w ? h : w];
    size_t most = most_taps(r);
    float *line = spare, *down = line + side, *across = down + most * h;
    box b = u ? random_box(r, u, side, side) : (box){0, 0, (float)side, (float)side};
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
    size_t n = r->n, pixels = (size_t)h * w, bordered = (size_t)(h + 3) * row;
    float below[w], behind[w];
    float angle = (2 * u[0] - 1) * r->rotation, scale = 1 / (1 + r->zoom * (2 * u[n] - 1));
    float cosine = cosf(angle) * scale, sine = sinf(angle) * scale;
    float across = 2 * r->shift * (2 * u[2 * n] - 1), down = 2 * r->shift * (2 * u[3 * n] - 1);
    float left = -cosine * across - sine * down, top = sine * across - cosine * down;
    memset(spare, 0, r->channels * bordered * sizeof(float));
    for (int c = 0; c < r->channels; c++)
        for (int p = 0; p < h; p++)
            memcpy(spare + c * bordered + (p + 1) * row + 1, x + c * pixels + p * w, w * sizeof(float));
    for (int p = 0; p < h; p++) {
        float y = (2 * p + 1) / (float)h - 1;
        for (int q = 0; q < w; q++) {
            float z = (2 * q + 1) / (float)w - 1;
            float column = clamp((cosine * z + sine * y + left + 1) * (0.5f * w) - 0.5f, -1, (float)w) + 1;
            float line = clamp((-sine * z + cosine * y + top + 1) * (0.5f * h) - 0.5f, -1, (float)h) + 1;
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

static inline float luma(const float *x, size_t pixels, size_t p) {
    return LUMA[0] * x[p] + LUMA[1] * x[pixels + p] + LUMA[2] * x[2 * pixels + p];
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

/* Turns the hue by `turn` of a circle; value and saturation stay (HSV). */
static void hue(float *x, size_t pixels, float turn) {
    float *red = x, *green = x + pixels, *blue = green + pixels;
    for (size_t p = 0; p < pixels; p++) {
        float r = red[p], g = green[p], b = blue[p];
        float value = r > g ? r : g, least = r < g ? r : g;
        value = value > b ? value : b;
        least = least < b ? least : b;
        float chroma = value - least, safe = chroma > 0 ? 1 / chroma : 1;
        float angle = value == r ? (g - b) * safe : value == g ? 2 + (b - r) * safe : 4 + (r - g) * safe;
        angle += 6 * turn;
        float *colour[3] = {red, green, blue};
        for (int c = 0; c < 3; c++) {
            float k = 5 - 2 * c + angle;
            k -= 6 * floorf(k * (1.0f / 6));
            k = k < 4 - k ? k : 4 - k;
            colour[c][p] = value - chroma * clamp(k, 0, 1);
        }
    }
}

static void grey(float *x, size_t pixels) {
    for (size_t p = 0; p < pixels; p++) x[p] = x[pixels + p] = x[2 * pixels + p] = luma(x, pixels, p);
}

/* Gaussian blur; the border is reflected at the first and the last pixel. */
static void blur(const recipe *r, float sigma, float *x, float *spare) {
    int h = r->h, w = r->w, radius = w / 20 < 1 ? 1 : w / 20;
    float weight[2 * MAX_BLUR_RADIUS + 1], sum = 0;
    for (int k = -radius; k <= radius; k++) sum += weight[k + radius] = expf(-0.5f * (k / sigma) * (k / sigma));
    for (int k = 0; k <= 2 * radius; k++) weight[k] /= sum;
    for (int c = 0; c < r->channels; c++, x += h * w) {
        memset(spare, 0, (size_t)h * w * sizeof(float));
        for (int p = 0; p < h; p++)
            for (int k = -radius; k <= radius; k++) {
                int from = p + k < 0 ? -(p + k) : p + k;
                from = from < h ? from : 2 * (h - 1) - from;
                for (int q = 0; q < w; q++) spare[p * w + q] += weight[k + radius] * x[from * w + q];
            }
        memset(x, 0, (size_t)h * w * sizeof(float));
        for (int k = -radius; k <= radius; k++)
            for (int q = 0; q < w; q++) {
                int from = q + k < 0 ? -(q + k) : q + k;
                from = from < w ? from : 2 * (w - 1) - from;
                for (int p = 0; p < h; p++) x[p * w + q] += weight[k + radius] * spare[p * w + from];
            }
    }
}

/* Colour change number `which`; u in [0, 1) is its random number. */
static void change_colour(const recipe *r, int which, float u, float *x) {
    size_t pixels = (size_t)r->h * r->w;
    float strength = r->strength[which], low = strength < 1 ? 1 - strength : 0;
    float factor = low + (1 + strength - low) * u;
    if (which == 0)
        for (size_t p = 0; p < r->channels * pixels; p++) x[p] = clamp(x[p] * factor, 0, 1);
    else if (which == 1) contrast(x, r->channels, pixels, factor);
    else if (which == 2) saturation(x, pixels, factor);
    else hue(x, pixels, (2 * u - 1) * strength);
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
        if (u->blur && u->blur[n + i] < r->blur) blur(r, 0.1f + 1.9f * u->blur[i], to, spare);
        if (u->negate && u->negate[i] < r->negate)
            for (size_t p = 0; p < size; p++) to[p] = 1 - to[p];
        if (u->noise)
            for (size_t p = 0; p < size; p++) to[p] += r->noise * u->noise[i * size + p];
        for (int c = 0; c < r->channels; c++)
            for (size_t p = c * pixels; p < (c + 1) * pixels; p++) to[p] = (to[p] - mean[c]) / std[c];
    }
}
