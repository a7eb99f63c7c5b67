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
  if constexpr (MANY_REGISTERS && OB <= 4)
    for (; c + 6 <= C; c += 6) outer_tile<OB, 6>(P, D, ldd, X + c * ldx, ldx, DW + c, ldw);
  if constexpr (MANY_REGISTERS)
    for (; c + 4 <= C; c += 4) outer_tile<OB, 4>(P, D, ldd, X + c * ldx, ldx, DW + c, ldw);
  for (; c + 3 <= C; c += 3) outer_tile<OB, 3>(P, D, ldd, X + c * ldx, ldx, DW + c, ldw);
  for (; c + 2 <= C; c += 2) outer_tile<OB, 2>(P, D, ldd, X + c * ldx, ldx, DW + c, ldw);
  for (; c < C; c++) outer_tile<OB, 1>(P, D, ldd, X + c * ldx, ldx, DW + c, ldw);
}
template <class T>
static void outer(int O, int C, long P, const T *D, long ldd, const T *X, long ldx, float *DW, int ldw, float *DB) {
  int o = 0;
  if (MANY_REGISTERS && O >= 24)  // many rows: X is read again for each tile of them, from the second cache
    for (; o + 6 <= O; o += 6) outer_row<6>(C, P, D + o * ldd, ldd, X, ldx, DW + (long)o * ldw, ldw);
  for (; o + 4 <= O; o += 4) outer_row<4>(C, P, D + o * ldd, ldd, X, ldx, DW + (long)o * ldw, ldw);
  if (MANY_REGISTERS && O >= 24)
    for (; o + 2 <= O; o += 2) outer_row<2>(C, P, D + o * ldd, ldd, X, ldx, DW + (long)o * ldw, ldw);
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

// DW[o][c] += sum over rows r, positions p and lanes of D[o][r][p] X[at[c] + r * row + p * step].
template <int OB, int CB, class T>
static inline void tap_outer_tile(int rows, int P, const T *D, long ldd, const T *X, const int *at, int row, int step,
                                  float *DW, int ldw) {
  vec acc[OB][CB] = {};
  for (int r = 0; r < rows; r++)
    for (int p = 0; p < P; p++) {
      const T *source = X + (long)r * row + p * step;
      T x[CB];
#pragma GCC unroll 8
      for (int c = 0; c < CB; c++) x[c] = source[at[c]];
#pragma GCC unroll 8
      for (int o = 0; o < OB; o++) {
        T d = D[o * ldd + (long)r * P + p];
#pragma GCC unroll 8
        for (int c = 0; c < CB; c++) acc[o][c] = fused(acc[o][c], d, x[c]);
      }
    }
#pragma GCC unroll 8
  for (int o = 0; o < OB; o++) add_totals<CB>(acc[o], DW + (long)o * ldw);
}
template <int OB, class T>
static inline void tap_outer_row(int C, int rows, int P, const T *D, long ldd, const T *X, const int *at, int row, int step,
                                 float *DW, int ldw) {
  int c = 0;
  for (; c + BROAD <= C; c += BROAD) tap_outer_tile<OB, BROAD>(rows, P, D, ldd, X, at + c, row, step, DW + c, ldw);
  if constexpr (BROAD > 2)
    for (; c + 2 <= C; c += 2) tap_outer_tile<OB, 2>(rows, P, D, ldd, X, at + c, row, step, DW + c, ldw);
  for (; c < C; c++) tap_outer_tile<OB, 1>(rows, P, D, ldd, X, at + c, row, step, DW + c, ldw);
}

// The gradient of a convolution's weights: k x k taps, `step` apart from place to place, of X [I][height][width], at
// h x w places.
struct Taps {
  int k, step, height, width, h, w;
  long plane() const { return (long)height * width; }
};
// Rows as that gradient sums over them: pairs are of two neighbouring rows. D [O][h][w] -> [O][(h + 1) / 2][w].
static inline const vec *by_rows(int, int, int, const vec *D, vec *) { return D; }
#if NARROW
static inline const pairs *by_rows(int O, int h, int w, const pairs *D, pairs *space) {
  long some = (h + 1l) / 2 * w;
  for (int o = 0; o < O; o += 2, D += (long)h * w)
    for (int r = 0; r < h; r += 2)
      for (int j = 0; j < w; j++) {
        pairs both[2];
        turn(D[(long)r * w + j], r + 1 < h ? D[(long)(r + 1) * w + j] : pairs{}, both);
        for (int k = 0; k < 2; k++) space[(o + k) * some + (long)r / 2 * w + j] = both[k];
      }
  return space;
}
#endif
// DW [O][I][k][k], added to. D by rows; I in units of T; space of pairs: 2 * plane().
template <class T>
static void tap_outer(int O, int I, const Taps &taps, const T *D, const T *X, float *DW, T *space) {
  constexpr int N = TOGETHER<T>;
  int rows = (taps.h + N - 1) / N, columns = N * taps.k * taps.k, ldw = I * columns;
  long ldd = (long)rows * taps.w, size = (long)taps.height * taps.width;
  std::vector<int> at;
  for (int n = 0; n < N; n++)
    for (int a = 0; a < taps.k; a++)
      for (int b = 0; b < taps.k; b++) at.push_back(n * size + a * taps.width + b);
  // as many rows of D at once as fit into the first cache beside X: they are read from there for all taps
  long most = 24576 / (6l * taps.w * (long)sizeof(T)), some = most < 1 ? 1 : most < rows ? most : rows;
  for (int i = 0; i < I; i++, X += size, DW += columns) {
    const T *source = X;
    if constexpr (N > 1) {  // each channel's places with those a step below them
      for (int y = 0; y < taps.height; y++)
        for (int x = 0; x < taps.width; x++) {
          T both[2];
          turn(X[(long)y * taps.width + x], y + taps.step < taps.height ? X[(long)(y + taps.step) * taps.width + x] : T{}, both);
          for (int n = 0; n < N; n++) space[n * size + (long)y * taps.width + x] = both[n];
        }
      source = space;
    }
    int row = N * taps.step * taps.width;
    for (int r = 0; r < rows; r += some) {
      int n = rows - r < some ? rows - r : some, o = 0;
      const T *d = D + (long)r * taps.w, *x = source + (long)r * row;
      auto part = [&](auto high) {
        tap_outer_row<decltype(high)::value>(columns, n, taps.w, d + o * ldd, ldd, x, at.data(), row, taps.step,
                                             DW + (long)o * ldw, ldw);
        o += high;
      };
      while (o + 6 <= O) part(std::integral_constant<int, 6>());
      while (o + 4 <= O) part(std::integral_constant<int, 4>());
      while (o + 2 <= O) part(std::integral_constant<int, 2>());
      while (o < O) part(std::integral_constant<int, 1>());
    }
  }
}
