// The feed-forward of a block, forward and backward, on maps of T. Its hidden layer never leaves the cache.
#pragma once
#include "products.h"

constexpr long STRIP = 32;
constexpr long LEAD = STRIP + 1;  // of working memory: channels a power of two apart would push each other out

template <class T>
struct Activated {  // what becomes of a tile of the hidden layer
  int kind;
  T *hidden, *slope;  // null: not wanted
  template <int OB, int PB>
  void operator()(int o, long p, const vec (&sums)[OB][PB]) const {
    constexpr int N = TOGETHER<T>;
    if constexpr (OB % N == 0)
      for (int i = 0; i < OB; i += N)
        for (int j = 0; j < PB; j++) {
          vec value[N], its_slope[N];
          for (int k = 0; k < N; k++) value[k] = activated(kind, sums[i + k][j], slope ? its_slope + k : nullptr, T{});
          long at = (o + i) / N * LEAD + p + j;
          hidden[at] = join<T>(value);
          if (slope) slope[at] = join<T>(its_slope);
        }
  }
};
template <class T>
struct Sloped {  // what becomes of a tile of its gradient
  const T *slope;
  T *gradient;
  template <int OB, int PB>
  void operator()(int o, long p, const vec (&sums)[OB][PB]) const {
    constexpr int N = TOGETHER<T>;
    if constexpr (OB % N == 0)
      for (int i = 0; i < OB; i += N)
        for (int j = 0; j < PB; j++) {
          long at = (o + i) / N * LEAD + p + j;
          vec value[N];
          split(slope[at], value);
          for (int k = 0; k < N; k++) value[k] *= sums[i + k][j];
          gradient[at] = join<T>(value);
        }
  }
};

template <class T>
struct Layers {  // a member's weights, [M][C] and [F][M], and biases
  int C, M, F, kind;
  const Weight<T> *first, *second;
  const float *first_bias, *second_bias;
};

// 1x1 (C -> M), activation, 1x1 (M -> F), over P positions of u, channels `lead` apart; done(o, p, sums) as for `mm`.
// space: M * LEAD.
template <class T, class Done>
static void feedforward(const Layers<T> &own, long P, const T *u, long lead, vec *space, const Done &done) {
  constexpr int N = TOGETHER<T>;
  T *hidden = (T *)space;
  for (long p = 0; p < P; p += STRIP) {
    long n = P - p < STRIP ? P - p : STRIP;
    mm(own.M, own.C / N, n, own.first, u + p, lead, own.first_bias, Activated<T>{own.kind, hidden, nullptr});
    mm(own.F, own.M / N, n, own.second, hidden, LEAD, own.second_bias, done.from(p));
  }
}

// The gradients of the weights, added to.
struct LayerGradients { float *first, *first_bias, *second, *second_bias; };

// Gradients of `feedforward` from dz: of u into du (float32), of the weights added to `to`. back1, back2: the weights
// transposed, [C][M] and [M][F]. space: `backward_space`.
static long backward_space(int C, int M, int F) { return (4l * M + C + F) * (LEAD + 2); }
template <class T>
static void feedforward_backward(const Layers<T> &own, const Weight<T> *back1, const Weight<T> *back2, long P, const T *u,
                                 long lead, const T *dz, long lead_dz, vec *du, const LayerGradients &to, vec *space) {
  constexpr int N = TOGETHER<T>;
  int C = own.C, M = own.M, F = own.F;
  T *hidden = (T *)space, *slope = hidden + M * LEAD / N, *gradient = slope + M * LEAD / N;
  for (long p = 0; p < P; p += STRIP) {
    long n = P - p < STRIP ? P - p : STRIP;
    mm(M, C / N, n, own.first, u + p, lead, own.first_bias, Activated<T>{own.kind, hidden, slope});
    mm(M, F / N, n, back2, dz + p, lead_dz, nullptr, Sloped<T>{slope, gradient});
    mm(C, M / N, n, back1, gradient, LEAD, nullptr, Written{du + p, P});
    T *free = gradient + M * LEAD / N, *more = free + M * (LEAD + 2) / 2;
    Turned<T> out = turned(F, n, dz + p, lead_dz, more), in = turned(M, n, hidden, LEAD, free);
    outer(F, M, out.positions, out.map, out.lead, in.map, in.lead, to.second, M, to.second_bias);
    out = turned(M, n, gradient, LEAD, free), in = turned(C, n, u + p, lead, more);
    outer(M, C, out.positions, out.map, out.lead, in.map, in.lead, to.first, C, to.first_bias);
  }
}

// Gradients of a reduction (C -> R) of X over n positions: of X to `done`, from that of its output, of its weights added.
// back: the weights transposed; space: 2 * R * (n + 1).
template <class T, class Done>
static void reduction_backward(int C, int R, long n, const Weight<T> *back, const vec *less, long ldl, const Turned<T> &X,
                               const Done &done, float *weight, float *bias, vec *space) {
  const T *narrow = (const T *)less;
  if constexpr (TOGETHER<T> > 1) {
    pack(R, n, less, ldl, (T *)space, n + 1);
    narrow = (const T *)space;
    ldl = n + 1;
  }
  mm(C, R / TOGETHER<T>, n, back, narrow, ldl, nullptr, done);
  Turned<T> out = turned(R, n, narrow, ldl, (T *)space + R * (n + 1));
  outer(R, C, out.positions, out.map, out.lead, X.map, X.lead, weight, C, bias);
}
