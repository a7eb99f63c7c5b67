// What the CPU kernels share. Every feature map is [member][group][channel][height][width][LANES]: the innermost
// axis is LANES images of one group, as many as the processor's vectors hold floats (kernels.py says how many), so that
// each operation is a full-width vector operation whatever the number of channels is, and one group's feature map stays
// in the second-level cache while it is worked on. Kernels are parallel over (member, group), see threads.h; weight
// gradients go to one buffer a group and are added up at the end. The functions here work on one group.
#pragma once
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "threads.h"

#if defined(__AVX512F__) || defined(__aarch64__)  // what tiles of a matrix product are kept in
constexpr bool MANY_REGISTERS = true;  // 32
#else
constexpr bool MANY_REGISTERS = false;  // 16
#endif
typedef float vec4 __attribute__((vector_size(16)));
typedef float vec8 __attribute__((vector_size(32)));
typedef float vec16 __attribute__((vector_size(64)));
typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int ivec __attribute__((vector_size(LANES * 4)));
static inline vec all(float a) { return a - vec{}; }  // vec{} + a stays an addition: 0 + -0 is 0
static inline vec4 low(vec8 v) { return __builtin_shufflevector(v, v, 0, 1, 2, 3); }
static inline vec4 high(vec8 v) { return __builtin_shufflevector(v, v, 4, 5, 6, 7); }
static inline vec8 low(vec16 v) { return __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7); }
static inline vec8 high(vec16 v) { return __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15); }
static inline float total(vec4 v) { return (v[0] + v[2]) + (v[1] + v[3]); }
template <class V>
static inline float total(V v) { return total(low(v) + high(v)); }

// exp to about 1 ulp: 2^round(x log2 e) times a polynomial of the rest.
static inline vec vexp(vec x) {
  x = x < -87.f ? all(-87.f) : x;
  x = x > 80.f ? all(80.f) : x;  // what is divided by more is subnormal, see GELU
  vec n = (x * 1.44269504f + 12582912.f) - 12582912.f;
  vec f = x - n * 0.693145752f - n * 1.42860677e-6f;
  vec p = all(1.3981999e-3f);
  p = p * f + 8.3334519e-3f; p = p * f + 4.1665796e-2f; p = p * f + 1.6666665e-1f;
  p = p * f + 5.0000000e-1f; p = p * f + 1.f; p = p * f + 1.f;
  return p * (vec)((__builtin_convertvector(n, ivec) + 127) << 23);
}

// Activation and its derivative. GELU is the exact one, x Phi(x), with erf by Abramowitz & Stegun 7.1.26
// (absolute error below 1.5e-7). Its tail is zero from |x| = 12 on, where it is below 1e-32: farther out it would be
// subnormal, which takes a processor many times as long.
enum Activation { GELU, RELU, SILU };
static inline vec activate(int kind, vec x, vec *slope) {
  if (kind == RELU) {
    if (slope) *slope = x > 0.f ? all(1.f) : vec{};
    return x < 0.f ? vec{} : x;  // not a number stays one
  }
  if (kind == SILU) {
    vec s = 1.f / (1.f + vexp(-x));
    if (slope) *slope = s * (1.f + x * (1.f - s));
    return x * s;
  }
  vec a = x < 0.f ? -x : x;
  vec e = a > 12.f ? vec{} : vexp(-0.5f * x * x);
  vec t = 1.f / (1.f + 0.3275911f * 0.70710678f * a);
  vec p = all(1.061405429f);
  p = p * t - 1.453152027f; p = p * t + 1.421413741f; p = p * t - 0.284496736f; p = p * t + 0.254829592f;
  vec tail = 0.5f * p * t * e;
  vec phi = x < 0.f ? tail : 1.f - tail;
  if (slope) *slope = phi + x * e * 0.39894228f;
  return x * phi;
}

// Sums of neighbours, the first half of them a's, the second b's.
static inline vec4 fold(vec4 a, vec4 b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
}
static inline vec8 fold(vec8 a, vec8 b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14) + __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
}
static inline vec16 fold(vec16 a, vec16 b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
         __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}
// Sums of neighbours, of theirs, ... until there are four.
static inline vec4 four(vec4 v) { return v; }
template <class V>
static inline vec4 four(V v) { return four(fold(low(v), high(v))); }
// out[i] += the sum of v[i]'s lanes, for N vectors: four at once share the shuffles.
template <int N>
static inline void add_totals(const vec *v, float *out) {
  int i = 0;
  for (; i + 4 <= N; i += 4) {
    vec4 one = four(fold(fold(v[i], v[i + 1]), fold(v[i + 2], v[i + 3])));
    for (int j = 0; j < 4; j++) out[i + j] += one[j];
  }
  for (; i < N; i++) out[i] += total(v[i]);
}

// One gradient buffer a group, added up in the groups' order: which thread worked on what makes no difference.
struct Gradients {
  int members, groups;
  long size;  // of one member's gradients
  std::vector<float> buffer;
  Gradients(int members, int groups, long size)
      : members(members), groups(groups), size(size), buffer((long)members * groups * size, 0.f) {}
  float *of(long group) { return buffer.data() + group * size; }
  void clear(int member) { std::memset(of((long)member * groups), 0, groups * size * sizeof(float)); }
  void add(int member, long start, long count, float *out) const {  // one part of them, onto what is there
    for (int g = 0; g < groups; g++)
      for (long i = 0; i < count; i++) out[i] += buffer[((long)member * groups + g) * size + start + i];
  }
  void into(float *out) const {
    std::memset(out, 0, members * size * sizeof(float));
    for (int m = 0; m < members; m++) add(m, 0, size, out + m * size);
  }
};
struct Scratch {  // working memory for each thread that asks for it
  long vectors;
  std::vector<std::unique_ptr<vec[]>> memory;
  explicit Scratch(long vectors) : vectors(vectors), memory(workers()) {}
  vec *of(int worker) {
    if (!memory[worker]) memory[worker].reset(new vec[vectors]);
    return memory[worker].get();
  }
};

static void transpose(const float *a, int rows, int columns, float *out) {
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < columns; c++) out[(long)c * rows + r] = a[(long)r * columns + c];
}
static const float *transposed(const float *a, int rows, int columns, std::vector<float> &space) {
  space.resize((long)rows * columns);
  transpose(a, rows, columns, space.data());
  return space.data();
}

// One level of Haar of [R][h][w] -> [4R][h/2][w/2]: LL of each channel, then LH, HL, HH of the first channel, of the
// second, ... (upstream's order).
static void haar(const vec *source, int R, int h, int w, vec *out) {
  long plane = (long)h * w / 4;
  for (int c = 0; c < R; c++)
    for (int i = 0; i < h / 2; i++)
      for (int j = 0; j < w / 2; j++) {
        const vec *q = source + ((long)c * h + 2 * i) * w + 2 * j;
        vec a = q[0], b = q[1], d = q[w], e = q[w + 1];
        vec s = a + b, u = a - b, v = d + e, f = d - e;
        long at = (long)i * (w / 2) + j;
        out[c * plane + at] = 0.5f * (s + v);
        vec *detail = out + (R + 3 * c) * plane + at;
        detail[0] = 0.5f * (s - v);
        detail[plane] = 0.5f * (u + f);
        detail[2 * plane] = 0.5f * (u - f);
      }
}
// Its adjoint: the gradient [R][h][w] of `in`'s [4R][h/2][w/2], `apart` from channel to channel; `coarse`
// [R][h/2][w/2], or null, is added to LL's.
static void haar_adjoint(const vec *in, const vec *coarse, int R, int h, int w, vec *grad, long apart) {
  long plane = (long)h * w / 4;
  for (int c = 0; c < R; c++)
    for (int i = 0; i < h / 2; i++)
      for (int j = 0; j < w / 2; j++) {
        long at = (long)i * (w / 2) + j;
        vec ll = in[c * plane + at];
        if (coarse) ll += coarse[c * plane + at];
        const vec *detail = in + (R + 3 * c) * plane + at;
        vec lh = detail[0], hl = detail[plane], hh = detail[2 * plane];
        vec *q = grad + c * apart + (long)2 * i * w + 2 * j;
        q[0] = 0.5f * (ll + lh + hl + hh);
        q[1] = 0.5f * (ll + lh - hl - hh);
        q[w] = 0.5f * (ll - lh + hl - hh);
        q[w + 1] = 0.5f * (ll - lh - hl + hh);
      }
}

// Up-sampling before BatchNorm: none, nearest, bilinear (align_corners=False).
enum Up { NONE, NEAREST, BILINEAR };

// One row of 2w pixels, between the rows `near` and `far` of [h][w]: `put(j, value)` gets each.
template <class Put>
static inline void bilinear_row(const vec *near, const vec *far, int w, Put put) {
  vec left = 0.75f * near[0] + 0.25f * far[0], here = left;
  for (int j = 0; j < w; j++) {
    vec right = j + 1 < w ? 0.75f * near[j + 1] + 0.25f * far[j + 1] : here;
    vec middle = 0.75f * here;
    put(2 * j, middle + 0.25f * left);
    put(2 * j + 1, middle + 0.25f * right);
    left = here;
    here = right;
  }
}
static inline int far_row(int row, int h) {  // of large row `row`, whose near one is row / 2
  int far = row % 2 ? row / 2 + 1 : row / 2 - 1;
  return far < 0 ? 0 : far < h ? far : h - 1;
}
static inline void bilinear(const vec *z, int h, int w, vec *out) {  // [h][w] -> [2h][2w]
  for (int i = 0; i < 2 * h; i++, out += 2 * w)
    bilinear_row(z + (long)i / 2 * w, z + (long)far_row(i, h) * w, w, [=](int j, vec value) { out[j] = value; });
}
// The adjoint: one row of w pixels from the four large rows around it.
static inline void bilinear_adjoint_row(const vec *a, const vec *b, const vec *c, const vec *d, int w, vec *out) {
  auto column = [=](int j) { return 0.75f * (b[j] + c[j]) + 0.25f * (a[j] + d[j]); };
  vec left = column(0), here = left;
  for (int j = 0; j < w; j++) {
    vec right = column(2 * j + 1), next = j + 1 < w ? column(2 * j + 2) : right;
    out[j] = 0.75f * (here + right) + 0.25f * (left + next);
    left = right;
    here = next;
  }
}
static inline void bilinear_adjoint(const vec *d, int h, int w, vec *out) {  // [2h][2w] -> [h][w]
  for (int i = 0; i < h; i++, d += 4 * w)
    bilinear_adjoint_row(i ? d - 2 * w : d, d, d + 2 * w, i + 1 < h ? d + 4 * w : d + 2 * w, w, out + (long)i * w);
}
// One row of what along each axis takes `middle` of a pixel and `beside` of both its neighbours, a border's pixel being
// its own. `a` and `c` are the rows above and below; put(j, value).
template <class Row, class Put>
static inline void bilinear_both_row(Row a, Row b, Row c, int w, float middle, float beside, Put put) {
  auto column = [=](int j) { return middle * b[j] + beside * (a[j] + c[j]); };
  vec left = column(0), here = left;
  for (int j = 0; j < w; j++) {
    vec right = j + 1 < w ? column(j + 1) : here;
    put(j, middle * here + beside * (left + right));
    left = here;
    here = right;
  }
}
// One row of the adjoint of up-sampling after up-sampling, without the large map.
template <class Row, class Put>
static inline void bilinear_gram_row(Row a, Row b, Row c, int w, Put put) {
  bilinear_both_row(a, b, c, w, 1.25f, 0.375f, put);
}

// One member's means and variances from the mean and the sum of squared deviations of each group's channel, put
// together: Chan, Golub & LeVeque 1983. part [G][C][2].
static inline void combine(const double *part, int G, int C, double each, float *mean, float *variance) {
  for (int c = 0; c < C; c++) {
    double sum = 0, squares = 0;
    for (int g = 0; g < G; g++) sum += part[((long)g * C + c) * 2];
    double middle = sum / G;
    for (int g = 0; g < G; g++) {
      const double *a = part + ((long)g * C + c) * 2;
      squares += a[1] + (a[0] - middle) * (a[0] - middle) * each;
    }
    mean[c] = middle;
    variance[c] = squares / (each * G);
  }
}
