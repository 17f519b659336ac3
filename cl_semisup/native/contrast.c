/* Sums over all pairs of rows, as NT-Xent and its relatives take them, and their derivative: what `contrast.py` says in
 * operations on the whole matrix, done row by row while it is in the cache. Rows are multiplied elsewhere.
 */
#include "vectors.h"

#include <math.h>

/* exp(x) of x below 88, to one unit in the last place; 0 below -87, where single precision loses its digits; NaN stays.
 *
 * exp(x) = 2^k exp(r), k being the whole number nearest to x / ln 2. ln 2 comes in two parts, for r's last digits. */
INLINE vec power(vec x) {
    vec k = x * 1.44269504f + 12582912.0f - 12582912.0f; /* adding 1.5 * 2^23 rounds to a whole number */
    vec r = x - k * 0.693359375f + k * 2.12194440e-4f, sum = every(1.0f / 5040);
    sum = sum * r + 1.0f / 720; /* Taylor's series: |r| < 0.35, so the first term left out is below 2^-27 */
    sum = sum * r + 1.0f / 120;
    sum = sum * r + 1.0f / 24;
    sum = sum * r + 1.0f / 6;
    sum = sum * r + 0.5f;
    sum = sum * r + 1;
    sum = sum * r + 1;
    mask exponent = (__builtin_convertvector(k, mask) + 127) << 23;
    return choose((mask)(x < every(-87)), every(0), sum * (vec)exponent);
}

/* Products of rows (n, n), divided by the temperature in place, -inf where two rows have the same number; of each row the
 * log of the sum of exp, -inf if there is none to sum, and what it had for its partner, n / 2 rows away. */
void compare(float *logits, const int64_t *numbers, float temperature, float *total, float *partner, int n) {
    for (int a = 0; a < n; a++, logits += n) {
        vec mosts = every(-INFINITY), sums = {0};
        float most = -INFINITY, sum = 0;
        int b;
        partner[a] = logits[a < n / 2 ? a + n / 2 : a - n / 2] / temperature;
        for (b = 0; b < n; b++) {
            float one = logits[b] / temperature;
            logits[b] = numbers[a] == numbers[b] ? -INFINITY : one;
        }
        for (b = 0; b + LANES <= n; b += LANES) /* what is no number is left to the sum */
            mosts = choose((mask)(GIVEN(logits + b) > mosts), GIVEN(logits + b), mosts);
        for (; b < n; b++) most = logits[b] > most ? logits[b] : most;
        for (int k = 0; k < LANES; k++) most = mosts[k] > most ? mosts[k] : most;
        float from = most > -INFINITY ? most : 0;
        for (b = 0; b + LANES <= n; b += LANES) sums += power(GIVEN(logits + b) - every(from));
        for (; b < n; b++) sum += expf(logits[b] - from);
        for (int k = 0; k < LANES; k++) sum += sums[k];
        total[a] = from + logf(sum);
    }
}

/* What `compare` made of the products, and slopes of totals and partners -> in place of the former the slope of each product
 * and that of its mirror image, so that one product with the rows gives theirs. scratch: 2 n floats. */
void compare_backward(
    float *logits, const float *total, const float *total_slope, const float *partner_slope, float temperature, int n,
    float *scratch) {
    float *from = scratch, *slope = scratch + n;
    for (int a = 0; a < n; a++) { /* a row without a sum has no slope */
        from[a] = isfinite(total[a]) ? total[a] : 0;
        slope[a] = isfinite(total[a]) ? total_slope[a] / temperature : 0;
    }
    for (int a = 0; a < n; a++, logits += n) {
        int b, partner = a < n / 2 ? a + n / 2 : a - n / 2;
        for (b = 0; b + LANES <= n; b += LANES) {
            vec logit = GIVEN(logits + b);
            vec mirrored = power(logit - GIVEN(from + b)) * GIVEN(slope + b);
            AT(logits + b) = power(logit - every(from[a])) * every(slope[a]) + mirrored;
        }
        for (; b < n; b++) logits[b] = expf(logits[b] - from[a]) * slope[a] + expf(logits[b] - from[b]) * slope[b];
        logits[partner] += (partner_slope[a] + partner_slope[partner]) / temperature;
    }
}

INLINE float dot(const float *a, const float *b, int d) {
    vec sums = {0};
    float sum = 0;
    int k = 0;
    for (; k + LANES <= d; k += LANES) sums += GIVEN(a + k) * GIVEN(b + k);
    for (; k < d; k++) sum += a[k] * b[k];
    for (int lane = 0; lane < LANES; lane++) sum += sums[lane];
    return sum;
}

/* Rows (n, d), each divided by its length, or by `least` if that is more; the lengths (n,). */
void unit_rows(const float *x, float least, float *to, float *length, int n, int d) {
    for (int i = 0; i < n; i++, x += d, to += d) {
        length[i] = sqrtf(dot(x, x, d));
        float by = length[i] < least ? least : length[i];
        for (int k = 0; k < d; k++) to[k] = x[k] / by;
    }
}

/* Slopes (n, d) of `to` -> those of x: what lies along a row is lost where the row's length was divided by. */
void unit_rows_backward(const float *slope, const float *to, const float *length, float least, float *dx, int n, int d) {
    for (int i = 0; i < n; i++, slope += d, to += d, dx += d) {
        float along = length[i] < least ? 0 : dot(slope, to, d), by = length[i] < least ? least : length[i];
        for (int k = 0; k < d; k++) dx[k] = (slope[k] - along * to[k]) / by;
    }
}
