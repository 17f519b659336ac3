/* Sums over all pairs of rows, as in NT-Xent, and their derivative. `pairs.py` has the same in operations of torch on the whole
 * matrix; here each row is done while it is in the cache. Torch computes the matrix products.
 */
#include "vectors.h"

#include <math.h>

/* exp(x) for x below 88, exact to one unit in the last place. x below -87 gives 0, NaN gives NaN.
 *
 * exp(x) = 2^k exp(r), where k is the integer nearest to x / ln 2. ln 2 is split in two parts to keep the last digits of r. */
INLINE vec exp_vec(vec x) {
    vec k = x * 1.44269504f + 12582912.0f - 12582912.0f; /* adding 1.5 * 2^23 rounds to an integer */
    vec r = x - k * 0.693359375f + k * 2.12194440e-4f, sum = splat(1.0f / 5040);
    sum = sum * r + 1.0f / 720; /* Taylor series: |r| < 0.35, so the first omitted term is below 2^-27 */
    sum = sum * r + 1.0f / 120;
    sum = sum * r + 1.0f / 24;
    sum = sum * r + 1.0f / 6;
    sum = sum * r + 0.5f;
    sum = sum * r + 1;
    sum = sum * r + 1;
    mask exponent = (__builtin_convertvector(k, mask) + 127) << 23;
    return blend((mask)(x < splat(-87)), splat(0), sum * (vec)exponent);
}

/* logits (n, n): products of rows. They are divided by the temperature in place, and become -inf where two rows have the same
 * id. total (n,): log of each row's sum of exp, -inf for an empty sum. partner (n,): the logit of the row n / 2 rows away. */
void pair_sums(float *logits, const int64_t *ids, float temperature, float *total, float *partner, int n) {
    for (int a = 0; a < n; a++, logits += n) {
        vec maxima = splat(-INFINITY), sums = {0};
        float max = -INFINITY, sum = 0;
        int b;
        partner[a] = logits[a < n / 2 ? a + n / 2 : a - n / 2] / temperature;
        for (b = 0; b < n; b++) {
            float logit = logits[b] / temperature;
            logits[b] = ids[a] == ids[b] ? -INFINITY : logit;
        }
        for (b = 0; b + SIMD_WIDTH <= n; b += SIMD_WIDTH) /* a NaN is skipped here and reaches the sum */
            maxima = blend((mask)(LOAD(logits + b) > maxima), LOAD(logits + b), maxima);
        for (; b < n; b++) max = logits[b] > max ? logits[b] : max;
        for (int k = 0; k < SIMD_WIDTH; k++) max = maxima[k] > max ? maxima[k] : max;
        float shift = max > -INFINITY ? max : 0;
        for (b = 0; b + SIMD_WIDTH <= n; b += SIMD_WIDTH) sums += exp_vec(LOAD(logits + b) - splat(shift));
        for (; b < n; b++) sum += expf(logits[b] - shift);
        for (int k = 0; k < SIMD_WIDTH; k++) sum += sums[k];
        total[a] = shift + logf(sum);
    }
}

/* logits, total: as `pair_sums` left them. total_grad, partner_grad (n,): gradients of its results. Replaces each logit by the
 * gradient of its product plus that of the transposed one, so that a matrix product with Z gives the gradient of Z.
 * scratch: 2 n floats. */
void pair_sums_backward(
    float *logits, const float *total, const float *total_grad, const float *partner_grad, float temperature, int n,
    float *scratch) {
    float *shift = scratch, *grad = scratch + n;
    for (int a = 0; a < n; a++) { /* an empty sum has no gradient */
        shift[a] = isfinite(total[a]) ? total[a] : 0;
        grad[a] = isfinite(total[a]) ? total_grad[a] / temperature : 0;
    }
    for (int a = 0; a < n; a++, logits += n) {
        int b, partner = a < n / 2 ? a + n / 2 : a - n / 2;
        for (b = 0; b + SIMD_WIDTH <= n; b += SIMD_WIDTH) {
            vec logit = LOAD(logits + b);
            vec transposed = exp_vec(logit - LOAD(shift + b)) * LOAD(grad + b);
            VEC(logits + b) = exp_vec(logit - splat(shift[a])) * splat(grad[a]) + transposed;
        }
        for (; b < n; b++) logits[b] = expf(logits[b] - shift[a]) * grad[a] + expf(logits[b] - shift[b]) * grad[b];
        logits[partner] += (partner_grad[a] + partner_grad[partner]) / temperature;
    }
}
