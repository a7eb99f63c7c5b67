// One level of the Haar transform of ordinary images, planes [N][H][W] of float or double: dwt.py's `haar` on a CPU.
// Written so that the compiler turns the inner loops into vector code: no aliasing, one pass, every byte moved once.
#include "threads.h"

// part(n, i) for every row i < h of every plane n < N, some rows at a time.
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

extern "C" {
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
