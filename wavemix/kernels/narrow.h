// Feature maps as float32 vectors or as bfloat16 pairs, and what the kernels that take either ask of them.
//
// A map of `pairs` is [channels / 2][height][width]: each of the 16 lanes (images) holds two channels of one pixel, the
// even one in its low half. One instruction of AVX512-BF16 multiplies the pairs of all lanes and adds both products to
// float32 sums. Where the processor lacks it, NARROW is 0 and every map is of `vec`.
#pragma once
#include <type_traits>

#include "lanes.h"

#if defined(__AVX512BF16__) && LANES == 16
#define NARROW 1
#include <immintrin.h>
#else
#define NARROW 0
#endif

template <class T> struct Of;
template <> struct Of<vec> {
  static constexpr int together = 1;  // channels in one T
  typedef float weight;
};
template <class T> constexpr int TOGETHER = Of<T>::together;
template <class T> using Weight = typename Of<T>::weight;

static inline vec activated(int kind, vec x, vec *slope, vec) { return activate(kind, x, slope); }
static inline vec spread(float w) { return all(w); }
static inline vec fused(vec sum, vec a, vec b) { return sum + a * b; }
static inline void split(vec v, vec *channels) { channels[0] = v; }
template <class T> static inline T join(const vec *channels);
template <> inline vec join<vec>(const vec *channels) { return channels[0]; }

#if NARROW
typedef short pairs __attribute__((vector_size(64)));
struct two { short low, high; };  // weights of two channels
template <> struct Of<pairs> {
  static constexpr int together = 2;
  typedef two weight;
};

static inline pairs spread(two w) {
  int bits;
  std::memcpy(&bits, &w, 4);
  return (pairs)_mm512_set1_epi32(bits);
}
static inline vec fused(vec sum, pairs a, pairs b) {
  return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}
static inline void split(pairs v, vec *channels) {
  channels[0] = (vec)_mm512_slli_epi32((__m512i)v, 16);
  channels[1] = (vec)_mm512_and_si512((__m512i)v, _mm512_set1_epi32(-65536));
}
static inline pairs paired(vec low, vec high) {  // rounded to nearest even
  const pairs order = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23,
                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return (pairs)_mm512_permutexvar_epi16((__m512i)order, (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
}
template <> inline pairs join<pairs>(const vec *channels) { return paired(channels[0], channels[1]); }
// Two pixels' channels -> each channel's two pixels.
static inline void turn(pairs a, pairs b, pairs *out) {
  const pairs even = {0, 32, 2, 34, 4, 36, 6, 38, 8, 40, 10, 42, 12, 44, 14, 46,
                      16, 48, 18, 50, 20, 52, 22, 54, 24, 56, 26, 58, 28, 60, 30, 62};
  out[0] = (pairs)_mm512_permutex2var_epi16((__m512i)a, (__m512i)even, (__m512i)b);
  out[1] = (pairs)_mm512_permutex2var_epi16((__m512i)a, (__m512i)(even + 1), (__m512i)b);
}
// The same of a map: [C / 2][P] -> [C][(P + 1) / 2], a missing last pixel being zero.
static void turn(int C, long P, const pairs *map, long lead, pairs *out, long ldo) {
  for (int c = 0; c < C / 2; c++, map += lead, out += 2 * ldo)
    for (long p = 0; p < P; p += 2) {
      pairs both[2];
      turn(map[p], p + 1 < P ? map[p + 1] : pairs{}, both);
      out[p / 2] = both[0];
      out[ldo + p / 2] = both[1];
    }
}
// GELU to about 1e-5, less than bfloat16 rounds away: as `activate` in lanes.h, with an estimate in place of the division
// and 2^x by the processor's own scaling. exp(-x^2 / 2) stops at 1e-30, before numbers become subnormal.
static inline vec activated(int kind, vec x, vec *slope, pairs) {
  if (kind != GELU) return activate(kind, x, slope);
  vec square = x * x * -0.72134752f, a = (vec)_mm512_abs_ps((__m512)x);
  square = (vec)_mm512_max_ps((__m512)square, _mm512_set1_ps(-100));
  vec whole = (vec)_mm512_roundscale_ps((__m512)square, 0), f = square - whole;
  vec p = 0.00956052f * f + 0.05591712f;
  p = p * f + 0.24024982f; p = p * f + 0.69312196f; p = p * f + 0.99999919f;
  vec e = (vec)_mm512_scalef_ps((__m512)p, (__m512)whole);
  vec t = (vec)_mm512_rcp14_ps((__m512)(1.f + 0.3275911f * 0.70710678f * a));
  p = 1.061405429f * t - 1.453152027f;
  p = p * t + 1.421413741f; p = p * t - 0.284496736f; p = p * t + 0.254829592f;
  vec tail = p * t * (0.5f * e), phi = x < 0.f ? tail : 1.f - tail;
  if (slope) *slope = phi + x * e * 0.39894228f;
  return x * phi;
}
static inline short rounded(float a) {
  unsigned bits;
  std::memcpy(&bits, &a, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return (short)(bits >> 16 | 64);  // not a number stays one
  return (short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
#endif

// Weights [rows][C][rest] as products with a T take them: two channels' side by side, [rows][C / 2][rest]. `space` keeps
// them where they are not the same as in float32.
static inline const float *weights(long, int, int, const float *w, std::vector<float> &) { return w; }
#if NARROW
static inline const two *weights(long rows, int C, int rest, const float *w, std::vector<two> &space) {
  long count = rows * (C / 2) * rest, i = 0;
  space.resize(count);
  two *out = space.data();
  for (; rest == 1 && i + 16 <= count; i += 16) {  // neighbours already
    __m512bh sixteen = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(w + 2 * i + 16), _mm512_loadu_ps(w + 2 * i));
    std::memcpy(out + i, &sixteen, sizeof sixteen);
  }
  for (; i < count; i++) {
    const float *first = w + i / rest * 2 * rest + i % rest;
    out[i] = {rounded(first[0]), rounded(first[rest])};
  }
  return out;
}
#endif

// One channel of a row of T, as vectors.
template <class T, int k>
struct Channel {
  const T *row;
  vec operator[](long i) const {
    vec channels[TOGETHER<T>];
    split(row[i], channels);
    return channels[k];
  }
};
// run(k) for each channel k of a T, a constant.
template <class T, class Run>
static inline void each(const Run &run) {
  run(std::integral_constant<int, 0>());
  if constexpr (TOGETHER<T> == 2) run(std::integral_constant<int, 1>());
}

// A float32 map [C][n] as one of T, and the other way round.
template <class T>
static void pack(int C, long n, const vec *map, long lead, T *out, long ldo) {
  for (int c = 0; c < C; c += TOGETHER<T>, map += TOGETHER<T> * lead, out += ldo)
    for (long p = 0; p < n; p++) {
      vec channels[TOGETHER<T>];
      for (int k = 0; k < TOGETHER<T>; k++) channels[k] = map[k * lead + p];
      out[p] = join<T>(channels);
    }
}
template <class T>
static void unpack(int C, long n, const T *map, long lead, vec *out, long ldo) {
  for (int c = 0; c < C; c += TOGETHER<T>, map += lead, out += TOGETHER<T> * ldo)
    for (long p = 0; p < n; p++) {
      vec channels[TOGETHER<T>];
      split(map[p], channels);
      for (int k = 0; k < TOGETHER<T>; k++) out[k * ldo + p] = channels[k];
    }
}

// A map as `outer` takes it: pairs are of two positions. space: C * (n + 3) / 2.
template <class T> struct Turned { const T *map; long lead, positions; };
static inline Turned<vec> turned(int, long n, const vec *map, long lead, vec *) { return {map, lead, n}; }
#if NARROW
static inline Turned<pairs> turned(int C, long n, const pairs *map, long lead, pairs *space) {
  long half = (n + 1) / 2, apart = half | 1;
  turn(C, n, map, lead, space, apart);
  return {space, apart, half};
}
#endif

// run(T{}) for the kind of maps asked for.
template <class Run>
static void with(int narrow, const Run &run) {
#if NARROW
  if (narrow) return run(pairs{});
#endif
  run(vec{});
}
