/* What a view of an image is, pixel by pixel: shared by views.c, which makes views on a CPU, and views.cu, for a GPU.
 *
 * Random numbers of a step are (rows, n): those of image i are u[i], u[n + i], ...; `u` begins at the image's own.
 */
#define CROP_BOXES 10      /* candidate boxes of a crop, as in views.py */
#define CHANGES 4          /* of colour: brightness, contrast, saturation, hue */
#define MAX_BLUR_RADIUS 64 /* in pixels */

static inline float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }
static inline float lerp(float from, float to, float weight) { /* exact at both ends, as torch.lerp */
    return weight < 0.5f ? from + weight * (to - from) : to - (to - from) * (1 - weight);
}

/* As in views.py: ITU-R 601. */
static inline float luma(const float *x, int pixels, int p) {
    return 0.2989f * x[p] + 0.587f * x[pixels + p] + 0.114f * x[2 * pixels + p];
}

typedef struct {
    float left, top, wide, high;
} box;

/* A box of random area and aspect in an image of h x w pixels. u: areas, aspects, left and top of CROP_BOXES boxes. */
static inline box random_box(float least_area, float log_ratio, const float *u, int n, int h, int w) {
    box found = {0, 0, (float)w, (float)h};
    for (int k = 0; k < CROP_BOXES; k++) {
        float area = (least_area + (1 - least_area) * u[k * n]) * (float)(h * w);
        float ratio = expf((2 * u[(CROP_BOXES + k) * n] - 1) * log_ratio);
        float a = rintf(sqrtf(area * ratio)), b = rintf(sqrtf(area / ratio));
        a = a < 1 ? 1 : a;
        b = b < 1 ? 1 : b;
        if (a <= w && b <= h) {
            found.wide = a;
            found.high = b;
            break;
        }
    }
    found.left = floorf(u[2 * CROP_BOXES * n] * (w - found.wide + 1));
    found.top = floorf(u[3 * CROP_BOXES * n] * (h - found.high + 1));
    return found;
}

/* Where pixel p of `side` lies if these stretch `length` pixels from `start`. */
static inline float stretched(float start, float length, int side, int p) {
    return clamp(start + (p + 0.5f) * (length / side) - 0.5f, start, start + length - 1);
}

/* Of `length` pixels from `start` those that make pixel p of `side`, bilinear and antialiased. */
typedef struct {
    float at, scale;
    int low, high;
} span;

static inline span shrunk(float start, float length, int side, int p) {
    float scale = length > side ? length / side : 1, last = start + length - 1;
    float at = start + (p + 0.5f) * (length / side) - 0.5f;
    span found = {at, scale, (int)clamp(ceilf(at - scale), start, last), (int)clamp(floorf(at + scale), start, last)};
    return found;
}

static inline float span_weight(span s, int k) { /* before they are divided by their sum */
    float w = 1 - fabsf(s.at - k) / s.scale;
    return w > 0 ? w : 0;
}

/* Where pixels come from under rotation, zoom and shift. u: angle, scale, shift across and down. */
typedef struct {
    float cosine, sine, left, top;
} map;

static inline map random_map(float rotation, float shift, float zoom, const float *u, int n) {
    float angle = (2 * u[0] - 1) * rotation, scale = 1 / (1 + zoom * (2 * u[n] - 1));
    float cosine = cosf(angle) * scale, sine = sinf(angle) * scale;
    float across = 2 * shift * (2 * u[2 * n] - 1), down = 2 * shift * (2 * u[3 * n] - 1);
    map found = {cosine, sine, -cosine * across - sine * down, sine * across - cosine * down};
    return found;
}

/* Line and column of pixel (p, q) before the map, from -1, which is black, to h and w, which are too. */
static inline float mapped_line(map m, int h, int w, int p, int q) {
    float y = (2 * p + 1) / (float)h - 1, z = (2 * q + 1) / (float)w - 1;
    return clamp((-m.sine * z + m.cosine * y + m.top + 1) * (0.5f * h) - 0.5f, -1, (float)h);
}

static inline float mapped_column(map m, int h, int w, int p, int q) {
    float y = (2 * p + 1) / (float)h - 1, z = (2 * q + 1) / (float)w - 1;
    return clamp((m.cosine * z + m.sine * y + m.left + 1) * (0.5f * w) - 0.5f, -1, (float)w);
}

/* The factor of a change of colour; u in [0, 1) is its random number. */
static inline float colour_factor(float strength, float u) {
    float low = strength < 1 ? 1 - strength : 0;
    return low + (1 + strength - low) * u;
}

/* Turns the hue of pixel p by `turn` of a circle; value and saturation stay (HSV). */
static inline void turn_hue(float *x, int pixels, int p, float turn) {
    float r = x[p], g = x[pixels + p], b = x[2 * pixels + p];
    float value = r > g ? r : g, least = r < g ? r : g;
    value = value > b ? value : b;
    least = least < b ? least : b;
    float chroma = value - least, safe = chroma > 0 ? 1 / chroma : 1;
    float angle = value == r ? (g - b) * safe : value == g ? 2 + (b - r) * safe : 4 + (r - g) * safe;
    angle += 6 * turn;
    for (int c = 0; c < 3; c++) {
        float k = 5 - 2 * c + angle;
        k -= 6 * floorf(k * (1.0f / 6));
        k = k < 4 - k ? k : 4 - k;
        x[c * pixels + p] = value - chroma * clamp(k, 0, 1);
    }
}

/* A Gaussian's weight at k pixels, before it is divided by the sum of all; u in [0, 1) is the random number of its width. */
static inline float blur_weight(float u, int k) {
    float sigma = 0.1f + 1.9f * u;
    return expf(-0.5f * (k / sigma) * (k / sigma));
}

static inline int blur_radius(int w) { return w / 20 < 1 ? 1 : w / 20; }

/* The border is reflected at the first and the last pixel. */
static inline int reflected(int p, int side) {
    int from = p < 0 ? -p : p;
    return from < side ? from : 2 * (side - 1) - from;
}
