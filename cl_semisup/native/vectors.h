/* Vectors of float32 as wide as the processor's registers. VEC(p) and LOAD(p) are the vector at address p. */
#include <stddef.h>
#include <stdint.h>

#ifdef __AVX512F__
#define SIMD_WIDTH 16
#else
#define SIMD_WIDTH 8
#endif
typedef float vec __attribute__((vector_size(4 * SIMD_WIDTH), aligned(4), may_alias));
typedef int32_t mask __attribute__((vector_size(4 * SIMD_WIDTH), aligned(4), may_alias));
#define VEC(p) (*(vec *)(p))
#define LOAD(p) (*(const vec *)(p))
#define INLINE static inline __attribute__((always_inline))

INLINE vec splat(float value) { return value - (vec){0}; }
INLINE vec blend(mask m, vec yes, vec no) { return (vec)(((mask)yes & m) | ((mask)no & ~m)); }
