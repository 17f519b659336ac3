/* Random views of a batch of pictures, from numbers that were drawn before: what `views.py` says in operations on the whole
 * batch, done picture by picture while it is in the cache.
 *
 * Pictures are (channels, h, w) here; a random number of a picture is one of a row of n, and rows come in the order in which
 * `views.py` draws them.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TRIES 10   /* boxes that are drawn for a crop */
#define CHANGES 4  /* brightness, contrast, saturation, hue */
#define REACH 64   /* of a blur, in pixels, at most */

typedef struct {
    int n, channels, h, w;
    float crop_area, crop_log_ratio, flip, rotation, shift, zoom; /* crop_area 1: no crop; rotation in radians */
    float jitter, strength[CHANGES];                              /* strength 0: no such change */
    int order[CHANGES];
    float grayscale, blur, negate, noise;
} recipe;

static const float GREY[3] = {0.2989f, 0.587f, 0.114f}; /* as in views.py */

static inline float between(float x, float low, float high) { return x < low ? low : x > high ? high : x; }
static inline float mix(float from, float to, float share) { /* exact at both ends */
    return share < 0.5f ? from + share * (to - from) : to - (to - from) * (1 - share);
}

/* Of each of `side` pixels of the stretched axis: the pixel before it in the box, and how far it lies behind that one. */
static void stretch(float start, float length, int side, int *first, float *behind) {
    for (int p = 0; p < side; p++) {
        float at = start + (p + 0.5f) * (length / side) - 0.5f;
        at = between(at, start, start + length - 1);
        first[p] = (int)at;
        behind[p] = at - first[p];
    }
}

/* A box of random area and aspect, resized bilinearly to the whole picture. `u`: 4 x TRIES rows of n. */
static void crop(const recipe *r, const float *u, float *x, float *line, float *spare) {
    int h = r->h, w = r->w, first[2][h > w ? h : w];
    float behind[2][h > w ? h : w], wide = (float)w, high = (float)h;
    size_t n = r->n;
    for (int try = 0; try < TRIES; try++) {
        float area = (r->crop_area + (1 - r->crop_area) * u[try * n]) * (float)(h * w);
        float ratio = expf((2 * u[(TRIES + try) * n] - 1) * r->crop_log_ratio);
        float a = rintf(sqrtf(area * ratio)), b = rintf(sqrtf(area / ratio));
        a = a < 1 ? 1 : a;
        b = b < 1 ? 1 : b;
        if (a <= w && b <= h) {
            wide = a;
            high = b;
            break;
        }
    }
    stretch(floorf(u[3 * TRIES * n] * (h - high + 1)), high, h, first[0], behind[0]);
    stretch(floorf(u[2 * TRIES * n] * (w - wide + 1)), wide, w, first[1], behind[1]);
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

/* Rotation, shift and zoom, bilinear, black outside. `u`: 4 rows of n. */
static void move(const recipe *r, const float *u, float *x, float *spare) {
    int h = r->h, w = r->w, row = w + 3, from[w]; /* a border of zeros: one pixel before the picture, two behind it */
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
            float column = between((cosine * z + sine * y + left + 1) * (0.5f * w) - 0.5f, -1, (float)w) + 1;
            float line = between((-sine * z + cosine * y + top + 1) * (0.5f * h) - 0.5f, -1, (float)h) + 1;
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

static void mirror(const recipe *r, float *x) {
    for (int p = 0; p < r->channels * r->h; p++, x += r->w)
        for (int a = 0, b = r->w - 1; a < b; a++, b--) {
            float kept = x[a];
            x[a] = x[b];
            x[b] = kept;
        }
}

static inline float luma(const float *x, size_t pixels, size_t p) {
    return GREY[0] * x[p] + GREY[1] * x[pixels + p] + GREY[2] * x[2 * pixels + p];
}

static void contrast(float *x, int channels, size_t pixels, float factor) {
    double part[8] = {0}, sum = 0; /* eight sums side by side, which one instruction adds to */
    size_t p = 0;
    for (; p + 8 <= pixels; p += 8)
        for (int k = 0; k < 8; k++) part[k] += channels == 3 ? luma(x, pixels, p + k) : x[p + k];
    for (int k = 0; k < 8; k++) sum += part[k];
    for (; p < pixels; p++) sum += channels == 3 ? luma(x, pixels, p) : x[p];
    float mean = (float)(sum / pixels);
    for (p = 0; p < channels * pixels; p++) x[p] = between(mix(mean, x[p], factor), 0, 1);
}

static void saturation(float *x, size_t pixels, float factor) {
    for (size_t p = 0; p < pixels; p++) {
        float grey = luma(x, pixels, p);
        for (int c = 0; c < 3; c++) x[c * pixels + p] = between(mix(grey, x[c * pixels + p], factor), 0, 1);
    }
}

/* Turn the hue by `turn` of a circle; value and saturation stay (HSV). */
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
            colour[c][p] = value - chroma * between(k, 0, 1);
        }
    }
}

static void grey(float *x, size_t pixels) {
    for (size_t p = 0; p < pixels; p++) x[p] = x[pixels + p] = x[2 * pixels + p] = luma(x, pixels, p);
}

/* Gaussian blur; a pixel outside is its mirror image at the first or the last one. */
static void blur(const recipe *r, float sigma, float *x, float *spare) {
    int h = r->h, w = r->w, radius = w / 20 < 1 ? 1 : w / 20;
    float weight[2 * REACH + 1], sum = 0;
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

/* One of CHANGES, `u` being its row's number. */
static void change(const recipe *r, int which, float u, float *x) {
    size_t pixels = (size_t)r->h * r->w;
    float strength = r->strength[which], low = strength < 1 ? 1 - strength : 0;
    float factor = low + (1 + strength - low) * u;
    if (which == 0)
        for (size_t p = 0; p < r->channels * pixels; p++) x[p] = between(x[p] * factor, 0, 1);
    else if (which == 1) contrast(x, r->channels, pixels, factor);
    else if (which == 2) saturation(x, pixels, factor);
    else hue(x, pixels, (2 * u - 1) * strength);
}

/* Floats of `work`. */
size_t view_work(const recipe *r) { return (size_t)(r->w + 1) + (size_t)r->channels * (r->h + 3) * (r->w + 3); }

/* n pictures of bytes -> n views, (x - mean) / std. `u`: rows of n numbers in [0, 1); noise: as large as `to`, or null. */
void make_views(
    const recipe *r, const uint8_t *images, const float *u, const float *noise, const float *mean, const float *std,
    float *to, float *work) {
    size_t pixels = (size_t)r->h * r->w, size = r->channels * pixels, n = r->n;
    float *line = work, *spare = line + r->w + 1, level[256];
    for (int k = 0; k < 256; k++) level[k] = k / 255.0f;
    for (size_t i = 0; i < n; i++, images += size, to += size) {
        const float *drawn = u + i;
        for (size_t p = 0; p < size; p++) to[p] = level[images[p]];
        if (r->crop_area < 1) {
            crop(r, drawn, to, line, spare);
            drawn += 4 * TRIES * n;
        }
        if (r->rotation > 0 || r->shift > 0 || r->zoom > 0) {
            move(r, drawn, to, spare);
            drawn += 4 * n;
        }
        if (r->flip > 0) {
            if (*drawn < r->flip) mirror(r, to);
            drawn += n;
        }
        if (r->jitter > 0) {
            int on = *drawn < r->jitter;
            drawn += n;
            for (int k = 0; k < CHANGES; k++)
                if (r->strength[r->order[k]] > 0) {
                    if (on) change(r, r->order[k], *drawn, to);
                    drawn += n;
                }
        }
        if (r->grayscale > 0) {
            if (*drawn < r->grayscale) grey(to, pixels);
            drawn += n;
        }
        if (r->blur > 0) {
            if (drawn[n] < r->blur) blur(r, 0.1f + 1.9f * drawn[0], to, spare);
            drawn += 2 * n;
        }
        if (r->negate > 0) {
            if (*drawn < r->negate)
                for (size_t p = 0; p < size; p++) to[p] = 1 - to[p];
            drawn += n;
        }
        if (noise)
            for (size_t p = 0; p < size; p++) to[p] += r->noise * noise[i * size + p];
        for (int c = 0; c < r->channels; c++)
            for (size_t p = c * pixels; p < (c + 1) * pixels; p++) to[p] = (to[p] - mean[c]) / std[c];
    }
}
