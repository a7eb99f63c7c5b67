// One level of the Haar transform of ordinary images, planes [N][H][W] of float or double: dwt.py's `haar` on a CPU.
// Written so that the compiler turns the inner loops into vector code: no aliasing, one pass, every byte moved once.
#include "threads.h"

// part(n, i) for every row i < h of every plane n < N, some rows at a time; w: a row's numbers.
template <class Part>
static void rows(long N, long h, long w, const Part &part) {
  long some = 1 + 16384 / w, count = (N * h + some - 1) / some;  // worth handing out, and few enough to count
  while (count > 100000) { some *= 2; count = (N * h + some - 1) / some; }
  parallel(count, [&](int t, int) {
    for (long r = t * some; r < N * h && r < (t + 1) * some; r++) part(r / h, r % h);
  });
}

template <typename T>
static void forward(const T *x, T *low, T *details, long N, long H, long W) {
  long h = H / 2, w = W / 2;
  rows(N, h, w, [&](long n, long i) {
    const T *__restrict__ a = x + (n * H + 2 * i) * W, *__restrict__ b = a + W;
    T *__restrict__ ll = low + (n * h + i) * w, *__restrict__ lh = details + (3 * n * h + i) * w;
    T *__restrict__ hl = lh + h * w, *__restrict__ hh = hl + h * w;
    for (long j = 0; j < w; j++) {
      T s = a[2 * j] + a[2 * j + 1], u = a[2 * j] - a[2 * j + 1], v = b[2 * j] + b[2 * j + 1], f = b[2 * j] - b[2 * j + 1];
      ll[j] = T(0.5) * (s + v);
      lh[j] = T(0.5) * (s - v);
      hl[j] = T(0.5) * (u + f);
      hh[j] = T(0.5) * (u - f);
    }
  });
}
template <typename T>
static void adjoint(const T *low, const T *details, T *x, long N, long H, long W) {
  long h = H / 2, w = W / 2;
  rows(N, h, w, [&](long n, long i) {
    T *__restrict__ a = x + (n * H + 2 * i) * W, *__restrict__ b = a + W;
    const T *__restrict__ ll = low + (n * h + i) * w, *__restrict__ lh = details + (3 * n * h + i) * w;
    const T *__restrict__ hl = lh + h * w, *__restrict__ hh = hl + h * w;
    for (long j = 0; j < w; j++) {
      T s = T(0.5) * (ll[j] + lh[j]), v = T(0.5) * (ll[j] - lh[j]);
      T u = T(0.5) * (hl[j] + hh[j]), f = T(0.5) * (hl[j] - hh[j]);
      a[2 * j] = s + u;
      a[2 * j + 1] = s - u;
      b[2 * j] = v + f;
      b[2 * j + 1] = v - f;
    }
  });
}

// The same of maps whose channels lie innermost: x [N][H][W], `apart` from pixel to pixel, to bands [N][h][w][4C], LL of
// each channel, then LH, HL, HH of the first, of the second, ...
template <typename T>
static void forward_last(const T *x, T *bands, long N, long H, long W, long C, long apart) {
  long h = H / 2, w = W / 2;
  rows(N, h, w * C, [&](long n, long i) {
    const T *row = x + (n * H + 2 * i) * W * apart;
    T *__restrict__ out = bands + (n * h + i) * w * 4 * C;
    for (long j = 0; j < w; j++, out += 4 * C) {
      const T *a = row + 2 * j * apart, *b = a + apart, *d = a + W * apart, *e = d + apart;
      for (long c = 0; c < C; c++) {
        T s = a[c] + b[c], u = a[c] - b[c], v = d[c] + e[c], f = d[c] - e[c];
        out[c] = T(0.5) * (s + v);
        out[C + 3 * c] = T(0.5) * (s - v);
        out[C + 3 * c + 1] = T(0.5) * (u + f);
        out[C + 3 * c + 2] = T(0.5) * (u - f);
      }
    }
  });
}
template <typename T>
static void adjoint_last(const T *bands, T *x, long N, long H, long W, long C) {
  long h = H / 2, w = W / 2;
  rows(N, h, w * C, [&](long n, long i) {
    const T *__restrict__ in = bands + (n * h + i) * w * 4 * C;
    T *__restrict__ a = x + (n * H + 2 * i) * W * C, *__restrict__ d = a + W * C;
    for (long j = 0; j < w; j++, in += 4 * C, a += 2 * C, d += 2 * C)
      for (long c = 0; c < C; c++) {
        T ll = in[c], lh = in[C + 3 * c], hl = in[C + 3 * c + 1], hh = in[C + 3 * c + 2];
        T s = T(0.5) * (ll + lh), v = T(0.5) * (ll - lh), u = T(0.5) * (hl + hh), f = T(0.5) * (hl - hh);
        a[c] = s + u;
        a[C + c] = s - u;
        d[c] = v + f;
        d[C + c] = v - f;
      }
  });
}

extern "C" {
void haar_last_forward(const float *x, float *bands, long N, long H, long W, long C, long apart) {
  forward_last(x, bands, N, H, W, C, apart);
}
void haar_last_forward_double(const double *x, double *bands, long N, long H, long W, long C, long apart) {
  forward_last(x, bands, N, H, W, C, apart);
}
void haar_last_adjoint(const float *bands, float *x, long N, long H, long W, long C) {
  adjoint_last(bands, x, N, H, W, C);
}
void haar_last_adjoint_double(const double *bands, double *x, long N, long H, long W, long C) {
  adjoint_last(bands, x, N, H, W, C);
}
void haar_forward(const float *x, float *low, float *details, long N, long H, long W) {
  forward(x, low, details, N, H, W);
}
void haar_forward_double(const double *x, double *low, double *details, long N, long H, long W) {
  forward(x, low, details, N, H, W);
}
void haar_adjoint(const float *low, const float *details, float *x, long N, long H, long W) {
  adjoint(low, details, x, N, H, W);
}
void haar_adjoint_double(const double *low, const double *details, double *x, long N, long H, long W) {
  adjoint(low, details, x, N, H, W);
}
}
