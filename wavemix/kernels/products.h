// Matrix products of maps, of float32 vectors or of bfloat16 pairs (narrow.h); sums are float32. Whatever a kernel
// multiplies goes through `mm` and `outer`, or where taps of a convolution lie apart, `tap_row` and `tap_outer`.
// Sizes of channels are in units of T: half as many of pairs.
#pragma once
#include "narrow.h"

// done(o, p, sums) for each tile of sums[o][p] = bias[o] + sum_c W[o][c] X[at(c, p)].
template <int OB, int PB, class T, class At, class Done>
static inline void tile(int o, long p, int C, const Weight<T> *W, int ldw, const T *X, At at, const float *bias,
                        const Done &done) {
  vec sums[OB][PB];
  W += (long)o * ldw;
#pragma GCC unroll 8
  for (int i = 0; i < OB; i++)
#pragma GCC unroll 8
    for (int j = 0; j < PB; j++) sums[i][j] = all(bias ? bias[o + i] : 0.f);
  for (int c = 0; c < C; c++) {
    T x[PB];
#pragma GCC unroll 8
    for (int j = 0; j < PB; j++) x[j] = X[at(c, p + j)];
#pragma GCC unroll 8
    for (int i = 0; i < OB; i++) {
      T w = spread(W[(long)i * ldw + c]);
#pragma GCC unroll 8
      for (int j = 0; j < PB; j++) sums[i][j] = fused(sums[i][j], w, x[j]);
    }
  }
  done(o, p, sums);
}
template <int PB, class T, class At, class Done>
static inline void column(long p, int O, int C, const Weight<T> *W, int ldw, const T *X, At at, const float *bias,
                          const Done &done) {
  int o = 0;
  for (; o + 6 <= O; o += 6) tile<6, PB>(o, p, C, W, ldw, X, at, bias, done);
  for (; o + 4 <= O; o += 4) tile<4, PB>(o, p, C, W, ldw, X, at, bias, done);
  for (; o + 2 <= O; o += 2) tile<2, PB>(o, p, C, W, ldw, X, at, bias, done);
  for (; o < O; o++) tile<1, PB>(o, p, C, W, ldw, X, at, bias, done);
}
constexpr int BROAD = MANY_REGISTERS ? 4 : 2;  // positions of a tile: six by so many sums stay in registers
template <class T, class At, class Done>
static void tiles(int O, int C, long P, const Weight<T> *W, int ldw, const T *X, At at, const float *bias,
                  const Done &done) {
  long p = 0;
  for (; p + BROAD <= P; p += BROAD) column<BROAD>(p, O, C, W, ldw, X, at, bias, done);
  for (; p < P; p++) column<1>(p, O, C, W, ldw, X, at, bias, done);
}

// What becomes of a tile: written as float32, `apart` from position to position; added; or written as a map of T.
struct Written {
  vec *Y;
  long ldy;
  int apart = 1;
  Written from(long p) const { return {Y + p * apart, ldy, apart}; }
  template <int OB, int PB>
  void operator()(int o, long p, const vec (&sums)[OB][PB]) const {
#pragma GCC unroll 8
    for (int i = 0; i < OB; i++)
#pragma GCC unroll 8
      for (int j = 0; j < PB; j++) Y[(o + i) * ldy + (p + j) * apart] = sums[i][j];
  }
};
struct Added {
  vec *Y;
  long ldy;
  template <int OB, int PB>
  void operator()(int o, long p, const vec (&sums)[OB][PB]) const {
#pragma GCC unroll 8
    for (int i = 0; i < OB; i++)
#pragma GCC unroll 8
      for (int j = 0; j < PB; j++) Y[(o + i) * ldy + p + j] += sums[i][j];
  }
};
template <class T>
struct Kept {
  T *Y;
  long ldy;
  int apart = 1;
  Kept from(long p) const { return {Y + p * apart, ldy, apart}; }
  template <int OB, int PB>
  void operator()(int o, long p, const vec (&sums)[OB][PB]) const {
    constexpr int N = TOGETHER<T>;
    if constexpr (OB % N == 0)  // pairs come with even numbers of channels alone
#pragma GCC unroll 8
      for (int i = 0; i < OB; i += N)
#pragma GCC unroll 8
        for (int j = 0; j < PB; j++) {
          vec channels[N];
          for (int k = 0; k < N; k++) channels[k] = sums[i + k][j];
          Y[(o + i) / N * ldy + (p + j) * apart] = join<T>(channels);
        }
  }
};

// Y[o][p] (+)= bias[o] + sum_c W[o][c] X[c][p], for p < P.
template <class T, class Done>
static void mm(int O, int C, long P, const Weight<T> *W, const T *X, long ldx, const float *bias, const Done &done) {
  tiles(O, C, P, W, C, X, [=](int c, long p) { return c * ldx + p; }, bias, done);
}
static void mm(int O, int C, long P, const float *W, int ldw, const vec *X, long ldx, vec *Y, long ldy,
               const float *bias, bool add) {
  auto at = [=](int c, long p) { return c * ldx + p; };
  if (add) tiles(O, C, P, W, ldw, X, at, bias, Added{Y, ldy});
  else tiles(O, C, P, W, ldw, X, at, bias, Written{Y, ldy});
}
// bias[o] + sum_c W[o][c] X[at[c] + p * step]: a convolution's row, its taps where they lie.
template <class T, class Done>
static void tap_row(int O, int C, int P, const Weight<T> *W, const T *X, const int *at, int step, const float *bias,
                    const Done &done) {
  if (step == 1)
    tiles(O, C, P, W, C, X, [=](int c, long p) { return at[c] + p; }, bias, done);
  else
    tiles(O, C, P, W, C, X, [=](int c, long p) { return at[c] + p * step; }, bias, done);
}

// DW[o][c] += sum over p and lanes of D[o][p] X[c][p]; DB[o] += the sum of D[o]. Pairs are of two positions here, see `turn`.
template <int OB, int CB, class T>
static inline void outer_tile(long P, const T *D, long ldd, const T *X, long ldx, float *DW, int ldw) {
  vec acc[OB][CB] = {};
  for (long p = 0; p < P; p++) {
    T x[CB];
#pragma GCC unroll 8
    for (int c = 0; c < CB; c++) x[c] = X[c * ldx + p];
#pragma GCC unroll 8
    for (int o = 0; o < OB; o++) {
      T d = D[o * ldd + p];
#pragma GCC unroll 8
      for (int c = 0; c < CB; c++) acc[o][c] = fused(acc[o][c], d, x[c]);
    }
  }
#pragma GCC unroll 8
  for (int o = 0; o < OB; o++) add_totals<CB>(acc[o], DW + (long)o * ldw);
}
template <int OB, class T>
static inline void outer_row(int C, long P, const T *D, long ldd, const T *X, long ldx, float *DW, int ldw) {
  int c = 0;
  if constexpr (MANY_REGISTERS) {
    for (; c + 6 <= C; c += 6) outer_tile<OB, 6>(P, D, ldd, X + c * ldx, ldx, DW + c, ldw);
    for (; c + 4 <= C; c += 4) outer_tile<OB, 4>(P, D, ldd, X + c * ldx, ldx, DW + c, ldw);
  }
  for (; c + 3 <= C; c += 3) outer_tile<OB, 3>(P, D, ldd, X + c * ldx, ldx, DW + c, ldw);
  for (; c + 2 <= C; c += 2) outer_tile<OB, 2>(P, D, ldd, X + c * ldx, ldx, DW + c, ldw);
  for (; c < C; c++) outer_tile<OB, 1>(P, D, ldd, X + c * ldx, ldx, DW + c, ldw);
}
template <class T>
static void outer(int O, int C, long P, const T *D, long ldd, const T *X, long ldx, float *DW, int ldw, float *DB) {
  int o = 0;
  for (; o + 4 <= O; o += 4) outer_row<4>(C, P, D + o * ldd, ldd, X, ldx, DW + (long)o * ldw, ldw);
  for (; o < O; o++) outer_row<1>(C, P, D + o * ldd, ldd, X, ldx, DW + (long)o * ldw, ldw);
  if (DB)
    for (o = 0; o < O; o++) {
      vec s = {};
      for (long p = 0; p < P; p++) {
        vec channels[TOGETHER<T>];
        split(D[o * ldd + p], channels);
        for (vec d : channels) s += d;
      }
      DB[o] += total(s);
    }
}

// DW[o][c] += sum over rows r, positions p and lanes of D[o][r][p] X[at[c] + r * row + p * step]: C is of taps, in units of
// T, and DW's are [O][channels][taps]. Pairs of D are of two positions, those of X of two channels.
template <int OB, int CB>
static inline void tap_outer_tile(int rows, int P, const vec *D, long ldd, const vec *X, const int *at, int row, int step,
                                  float *DW, int ldw, int) {
  vec acc[OB][CB] = {};
  for (int r = 0; r < rows; r++)
    for (int p = 0; p < P; p++) {
      const vec *source = X + (long)r * row + p * step;
      vec x[CB];
#pragma GCC unroll 8
      for (int c = 0; c < CB; c++) x[c] = source[at[c]];
#pragma GCC unroll 8
      for (int o = 0; o < OB; o++) {
        vec d = D[o * ldd + (long)r * P + p];
#pragma GCC unroll 8
        for (int c = 0; c < CB; c++) acc[o][c] += d * x[c];
      }
    }
#pragma GCC unroll 8
  for (int o = 0; o < OB; o++) add_totals<CB>(acc[o], DW + (long)o * ldw);
}
#if NARROW
template <int OB, int CB>
static inline void tap_outer_tile(int rows, int P, const pairs *D, long ldd, const pairs *X, const int *at, int row,
                                  int step, float *DW, int ldw, int taps) {
  constexpr int N = CB / 2;  // as many taps, of two channels each
  vec acc[OB][CB] = {};
  for (int r = 0; r < rows; r++)
    for (int p = 0; p < P; p++) {
      const pairs *source = X + (long)r * row + 2l * p * step;
      pairs x[CB];
#pragma GCC unroll 8
      for (int c = 0; c < N; c++) turn(source[at[c]], source[at[c] + step], x + 2 * c);
#pragma GCC unroll 8
      for (int o = 0; o < OB; o++) {
        pairs d = D[o * ldd + (long)r * P + p];
#pragma GCC unroll 8
        for (int c = 0; c < CB; c++) acc[o][c] = fused(acc[o][c], d, x[c]);
      }
    }
#pragma GCC unroll 8
  for (int o = 0; o < OB; o++) {
    float sums[CB] = {};
    add_totals<CB>(acc[o], sums);
    for (int c = 0; c < CB; c++) DW[(long)o * ldw + c / 2 + c % 2 * taps] += sums[c];
  }
}
#endif
template <class T>
static void tap_outer(int O, int C, int rows, int P, const T *D, long ldd, const T *X, const int *at, int row, int step,
                      float *DW, int ldw, int taps) {
  constexpr int N = TOGETHER<T>, MOST = BROAD / N;
  auto column = [&](auto wide, int c) {
    constexpr int CB = decltype(wide)::value * N;
    float *dw = DW + (N == 1 ? c : (long)c / taps * N * taps + c % taps);
    int o = 0;
    for (; o + 6 <= O; o += 6)
      tap_outer_tile<6, CB>(rows, P, D + o * ldd, ldd, X, at + c, row, step, dw + (long)o * ldw, ldw, taps);
    for (; o + 4 <= O; o += 4)
      tap_outer_tile<4, CB>(rows, P, D + o * ldd, ldd, X, at + c, row, step, dw + (long)o * ldw, ldw, taps);
    for (; o + 2 <= O; o += 2)
      tap_outer_tile<2, CB>(rows, P, D + o * ldd, ldd, X, at + c, row, step, dw + (long)o * ldw, ldw, taps);
    for (; o < O; o++)
      tap_outer_tile<1, CB>(rows, P, D + o * ldd, ldd, X, at + c, row, step, dw + (long)o * ldw, ldw, taps);
  };
  int c = 0;
  while (c < C)
    if (c + MOST <= C && (N == 1 || c % taps + MOST <= taps)) {
      column(std::integral_constant<int, MOST>(), c);
      c += MOST;
    } else
      column(std::integral_constant<int, 1>(), c++);
}
