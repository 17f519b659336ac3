/* Random views on a GPU, as views.c makes them on a CPU: one kernel, in which a block of threads makes the view of one image.
 *
 * A thread has pixels of its own in all channels (`p` in EACH_PIXEL). A step that only changes them needs no barrier; before
 * and after a step that reads those of other threads there is one. Conditions are the same for all threads of a block.
 */
#include "views.h"

#define MOST_THREADS 256 /* a power of 2, as each block's number is */
/* Loops are not unrolled, which would take the compiler three times as long. */
#define EACH_PIXEL(p) _Pragma("unroll 1") for (int p = threadIdx.x; p < side * side; p += blockDim.x)
#define EACH_CHANNEL(c) _Pragma("unroll 1") for (int c = 0; c < channels; c++)

/* Steps that happen at all, bits of `steps`. */
enum { CROP = 1, AFFINE = 2, FLIP = 4, JITTER = 8, GRAYSCALE = 16, BLUR = 32, NEGATE = 64, NOISE = 128 };

/* A view of the whole of a larger image, or of a box, antialiased. */
static inline void from_larger(const unsigned char *image, box b, int channels, int side, int source, float *to) {
    EACH_PIXEL(p) {
        span down = shrunk(b.top, b.high, side, p / side), across = shrunk(b.left, b.wide, side, p % side);
        float high = 0, wide = 0;
        for (int k = down.low; k <= down.high; k++) high += span_weight(down, k);
        for (int k = across.low; k <= across.high; k++) wide += span_weight(across, k);
        EACH_CHANNEL(c) {
            float sum = 0;
            for (int k = down.low; k <= down.high; k++) {
                const unsigned char *row = image + ((size_t)c * source + k) * source;
                float line = 0;
                for (int j = across.low; j <= across.high; j++) line += span_weight(across, j) * row[j];
                sum += span_weight(down, k) * line;
            }
            to[c * side * side + p] = sum / (high * wide) / 255;
        }
    }
}

/* A box, stretched over the whole view. */
static inline void crop_to(const unsigned char *image, box b, int channels, int side, float *to) {
    EACH_PIXEL(p) {
        float line = stretched(b.top, b.high, side, p / side), column = stretched(b.left, b.wide, side, p % side);
        int i = (int)line, j = (int)column, below = i < side - 1 ? i + 1 : i, right = j < side - 1 ? j + 1 : j;
        float down = line - i, across = column - j;
        EACH_CHANNEL(c) {
            const unsigned char *from = image + c * side * side;
            float one = (1 - down) * (from[i * side + j] / 255.0f) + down * (from[below * side + j] / 255.0f);
            float two = (1 - down) * (from[i * side + right] / 255.0f) + down * (from[below * side + right] / 255.0f);
            to[c * side * side + p] = (1 - across) * one + across * two;
        }
    }
}

static inline float pixel_or_black(const float *x, int side, int i, int j) {
    return i >= 0 && j >= 0 && i < side && j < side ? x[i * side + j] : 0;
}

static inline void affine(map m, int channels, int side, float *x, float *spare) {
    EACH_PIXEL(p)
        EACH_CHANNEL(c) spare[c * side * side + p] = x[c * side * side + p];
    __syncthreads();
    EACH_PIXEL(p) {
        float line = mapped_line(m, side, side, p / side, p % side) + 1;
        float column = mapped_column(m, side, side, p / side, p % side) + 1;
        int i = (int)line - 1, j = (int)column - 1; /* of numbers that are not negative */
        float below = line - (i + 1), behind = column - (j + 1);
        EACH_CHANNEL(c) {
            const float *from = spare + c * side * side;
            float one = pixel_or_black(from, side, i, j), two = pixel_or_black(from, side, i, j + 1);
            float three = pixel_or_black(from, side, i + 1, j), four = pixel_or_black(from, side, i + 1, j + 1);
            x[c * side * side + p] = (1 - below) * ((1 - behind) * one + behind * two) +
                                     below * ((1 - behind) * three + behind * four);
        }
    }
    __syncthreads();
}

static inline void flip_sides(int channels, int side, float *x) {
    __syncthreads();
    for (int k = threadIdx.x; k < channels * side * (side / 2); k += blockDim.x) {
        float *row = x + k / (side / 2) * side;
        int a = k % (side / 2), b = side - 1 - a;
        float kept = row[a];
        row[a] = row[b];
        row[b] = kept;
    }
    __syncthreads();
}

/* The sum over the threads of a block, in a fixed order. */
static inline float block_sum(float part) {
    __shared__ float parts[MOST_THREADS];
    parts[threadIdx.x] = part;
    for (int half = blockDim.x / 2; half; half /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
    }
    __syncthreads();
    return parts[0];
}

static inline void contrast(int channels, int side, float *x, float factor) {
    float part = 0;
    EACH_PIXEL(p) part += channels == 3 ? luma(x, side * side, p) : x[p];
    float mean = block_sum(part) / (side * side);
    EACH_PIXEL(p)
        EACH_CHANNEL(c)
            x[c * side * side + p] = clamp(lerp(mean, x[c * side * side + p], factor), 0, 1);
}

/* Change of colour number `which`; u in [0, 1) is its random number. */
static inline void change_colour(int which, int channels, int side, float *x, float strength, float u) {
    float factor = colour_factor(strength, u);
    if (which == 1) {
        contrast(channels, side, x, factor);
        return;
    }
    EACH_PIXEL(p) {
        float grey = which == 2 ? luma(x, side * side, p) : 0;
        if (which == 3) turn_hue(x, side * side, p, (2 * u - 1) * strength);
        else
            EACH_CHANNEL(c) {
                float *at = x + c * side * side + p;
                *at = clamp(which == 2 ? lerp(grey, *at, factor) : *at * factor, 0, 1);
            }
    }
}

static inline void blur_sides(float u, int channels, int side, float *x, float *spare) {
    __shared__ float weight[2 * MAX_BLUR_RADIUS + 1];
    int radius = blur_radius(side);
    float sum = 0;
    for (int k = threadIdx.x; k <= 2 * radius; k += blockDim.x) weight[k] = blur_weight(u, k - radius);
    __syncthreads();
    for (int k = 0; k <= 2 * radius; k++) sum += weight[k];
    EACH_PIXEL(p)
        EACH_CHANNEL(c) {
            float found = 0;
            for (int k = -radius; k <= radius; k++)
                found += weight[k + radius] * x[(c * side + reflected(p / side + k, side)) * side + p % side];
            spare[c * side * side + p] = found / sum;
        }
    __syncthreads();
    EACH_PIXEL(p)
        EACH_CHANNEL(c) {
            float found = 0;
            for (int k = -radius; k <= radius; k++)
                found += weight[k + radius] * spare[(c * side + p / side) * side + reflected(p % side + k, side)];
            x[c * side * side + p] = found / sum;
        }
}

/* images: n of bytes, (channels, source, source). to: n views of a side, (x - mean) / std; spare: as large. Random numbers of
 * each step, and then strengths and chances. order: the changes of colour, the first as the lowest digit in base 5, from 1. */
extern "C" __global__ void make_views(
    const unsigned char *images, const float *mean, const float *std, float *to, float *spare, const float *u_crop,
    const float *u_affine, const float *u_flip, const float *u_jitter, const float *u_brightness, const float *u_contrast,
    const float *u_saturation, const float *u_hue, const float *u_grayscale, const float *u_blur, const float *u_negate,
    const float *noise, int steps, int order, int n, int channels, int side, int source, double crop_area,
    double crop_log_ratio, double flip, double rotation, double shift, double zoom, double jitter, double brightness,
    double contrast_strength, double saturation, double hue, double grayscale, double blur, double negate, double noise_size) {
    int i = blockIdx.x, pixels = side * side;
    const float *u_change[CHANGES] = {u_brightness, u_contrast, u_saturation, u_hue};
    float strength[CHANGES] = {(float)brightness, (float)contrast_strength, (float)saturation, (float)hue};
    images += (size_t)i * channels * source * source;
    to += (size_t)i * channels * pixels;
    spare += (size_t)i * channels * pixels;

    box b = {0, 0, (float)source, (float)source};
    if (steps & CROP) b = random_box((float)crop_area, (float)crop_log_ratio, u_crop + i, n, source, source);
    if (source > side) from_larger(images, b, channels, side, source, to);
    else crop_to(images, b, channels, side, to);
    if (steps & AFFINE) {
        map m = random_map((float)rotation, (float)shift, (float)zoom, u_affine + i, n);
        affine(m, channels, side, to, spare);
    }
    if (steps & FLIP && u_flip[i] < (float)flip) flip_sides(channels, side, to);
    if (steps & JITTER && u_jitter[i] < (float)jitter)
        for (; order; order /= 5) {
            int which = order % 5 - 1;
            change_colour(which, channels, side, to, strength[which], u_change[which][i]);
        }
    if (steps & GRAYSCALE && u_grayscale[i] < (float)grayscale)
        EACH_PIXEL(p) to[p] = to[pixels + p] = to[2 * pixels + p] = luma(to, pixels, p);
    if (steps & BLUR && u_blur[n + i] < (float)blur) blur_sides(u_blur[i], channels, side, to, spare);
    EACH_PIXEL(p)
        EACH_CHANNEL(c) {
            float x = to[c * pixels + p];
            if (steps & NEGATE && u_negate[i] < (float)negate) x = 1 - x;
            if (steps & NOISE) x += (float)noise_size * noise[((size_t)i * channels + c) * pixels + p];
            to[c * pixels + p] = (x - mean[c]) / std[c];
        }
}
