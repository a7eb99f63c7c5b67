// CPU kernels of stack.py. Every feature map is [member][group][channel][height][width][LANES]: the innermost
// axis is LANES images of one group, so that each operation is a full-width vector operation whatever the
// number of channels is, and one group's feature map stays in the second-level cache while it is worked on.
// Parallel over (member, group); weight gradients go to one buffer a thread and are added up at the end.
#include <cmath>
#include <cstring>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_max_threads() { return 1; }
static int omp_get_thread_num() { return 0; }
static void omp_set_num_threads(int) {}
#endif

constexpr int LANES = 16;
typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int ivec __attribute__((vector_size(LANES * 4)));
static inline vec all(float a) { return vec{} + a; }
typedef float vec8 __attribute__((vector_size(32)));
typedef float vec4 __attribute__((vector_size(16)));
static inline float total(vec v) {  // pairwise
  vec8 a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  vec4 b = __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
  return (b[0] + b[2]) + (b[1] + b[3]);
}

// exp to about 1 ulp: 2^round(x log2 e) times a polynomial of the rest.
static inline vec vexp(vec x) {
  x = x < -87.f ? all(-87.f) : x;
  x = x > 88.f ? all(88.f) : x;
  vec n = (x * 1.44269504f + 12582912.f) - 12582912.f;
  vec f = x - n * 0.693145752f - n * 1.42860677e-6f;
  vec p = all(1.3981999e-3f);
  p = p * f + 8.3334519e-3f; p = p * f + 4.1665796e-2f; p = p * f + 1.6666665e-1f;
  p = p * f + 5.0000000e-1f; p = p * f + 1.f; p = p * f + 1.f;
  return p * (vec)((__builtin_convertvector(n, ivec) + 127) << 23);
}

// Activation and its derivative. GELU is the exact one, x Phi(x), with erf by Abramowitz & Stegun 7.1.26
// (absolute error below 1.5e-7).
enum Activation { GELU, RELU, SILU };
static inline vec activate(int kind, vec x, vec *slope) {
  if (kind == RELU) {
    if (slope) *slope = x > 0.f ? all(1.f) : vec{};
    return x > 0.f ? x : vec{};
  }
  if (kind == SILU) {
    vec s = 1.f / (1.f + vexp(-x));
    if (slope) *slope = s * (1.f + x * (1.f - s));
    return x * s;
  }
  vec a = x < 0.f ? -x : x;
  vec e = vexp(-0.5f * x * x);
  vec t = 1.f / (1.f + 0.3275911f * 0.70710678f * a);
  vec p = all(1.061405429f);
  p = p * t - 1.453152027f; p = p * t + 1.421413741f; p = p * t - 0.284496736f; p = p * t + 0.254829592f;
  vec tail = 0.5f * p * t * e;
  vec phi = x < 0.f ? tail : 1.f - tail;
  if (slope) *slope = phi + x * e * 0.39894228f;
  return x * phi;
}

// Y[o][p] (+)= bias[o] + sum_c W[o][c] X[c][p], for p < P vectors.
template <int OB, int PB>
static inline void mm_tile(int C, const float *W, int ldw, const vec *X, long ldx, vec *Y, long ldy,
                           const float *bias, bool add) {
  vec acc[OB][PB];
#pragma GCC unroll 8
  for (int o = 0; o < OB; o++)
#pragma GCC unroll 8
    for (int p = 0; p < PB; p++) acc[o][p] = add ? Y[o * ldy + p] : all(bias ? bias[o] : 0.f);
  for (int c = 0; c < C; c++) {
    vec x[PB];
#pragma GCC unroll 8
    for (int p = 0; p < PB; p++) x[p] = X[c * ldx + p];
#pragma GCC unroll 8
    for (int o = 0; o < OB; o++) {
      vec w = all(W[o * ldw + c]);
#pragma GCC unroll 8
      for (int p = 0; p < PB; p++) acc[o][p] += w * x[p];
    }
  }
#pragma GCC unroll 8
  for (int o = 0; o < OB; o++)
#pragma GCC unroll 8
    for (int p = 0; p < PB; p++) Y[o * ldy + p] = acc[o][p];
}
template <int PB>
static inline void mm_column(int O, int C, const float *W, int ldw, const vec *X, long ldx, vec *Y, long ldy,
                             const float *bias, bool add) {
  int o = 0;
  for (; o + 6 <= O; o += 6) mm_tile<6, PB>(C, W + o * ldw, ldw, X, ldx, Y + o * ldy, ldy, bias ? bias + o : 0, add);
  for (; o + 4 <= O; o += 4) mm_tile<4, PB>(C, W + o * ldw, ldw, X, ldx, Y + o * ldy, ldy, bias ? bias + o : 0, add);
  for (; o + 2 <= O; o += 2) mm_tile<2, PB>(C, W + o * ldw, ldw, X, ldx, Y + o * ldy, ldy, bias ? bias + o : 0, add);
  for (; o < O; o++) mm_tile<1, PB>(C, W + o * ldw, ldw, X, ldx, Y + o * ldy, ldy, bias ? bias + o : 0, add);
}
static void mm(int O, int C, long P, const float *W, int ldw, const vec *X, long ldx, vec *Y, long ldy,
               const float *bias, bool add) {
  long p = 0;
  for (; p + 4 <= P; p += 4) mm_column<4>(O, C, W, ldw, X + p, ldx, Y + p, ldy, bias, add);
  for (; p < P; p++) mm_column<1>(O, C, W, ldw, X + p, ldx, Y + p, ldy, bias, add);
}

// DW[o][c] += sum over p and lanes of D[o][p] X[c][p]; DB[o] += the sum of D[o].
template <int OB, int CB>
static inline void outer_tile(long P, const vec *D, long ldd, const vec *X, long ldx, float *DW, int ldw) {
  vec acc[OB][CB] = {};
  for (long p = 0; p < P; p++) {
    vec x[CB];
#pragma GCC unroll 8
    for (int c = 0; c < CB; c++) x[c] = X[c * ldx + p];
#pragma GCC unroll 8
    for (int o = 0; o < OB; o++) {
      vec d = D[o * ldd + p];
#pragma GCC unroll 8
      for (int c = 0; c < CB; c++) acc[o][c] += d * x[c];
    }
  }
  for (int o = 0; o < OB; o++)
    for (int c = 0; c < CB; c++) DW[o * ldw + c] += total(acc[o][c]);
}
template <int OB>
static inline void outer_row(int C, long P, const vec *D, long ldd, const vec *X, long ldx, float *DW, int ldw) {
  int c = 0;
  for (; c + 6 <= C; c += 6) outer_tile<OB, 6>(P, D, ldd, X + c * ldx, ldx, DW + c, ldw);
  for (; c + 4 <= C; c += 4) outer_tile<OB, 4>(P, D, ldd, X + c * ldx, ldx, DW + c, ldw);
  for (; c + 2 <= C; c += 2) outer_tile<OB, 2>(P, D, ldd, X + c * ldx, ldx, DW + c, ldw);
  for (; c < C; c++) outer_tile<OB, 1>(P, D, ldd, X + c * ldx, ldx, DW + c, ldw);
}
static void outer(int O, int C, long P, const vec *D, long ldd, const vec *X, long ldx, float *DW, int ldw,
                  float *DB) {
  int o = 0;
  for (; o + 4 <= O; o += 4) outer_row<4>(C, P, D + o * ldd, ldd, X, ldx, DW + o * ldw, ldw);
  for (; o < O; o++) outer_row<1>(C, P, D + o * ldd, ldd, X, ldx, DW + o * ldw, ldw);
  if (DB)
    for (o = 0; o < O; o++) {
      vec s = {};
      for (long p = 0; p < P; p++) s += D[o * ldd + p];
      DB[o] += total(s);
    }
}

// One gradient buffer a thread, added up in thread order.
struct Gradients {
  long size;
  std::vector<float> buffer;
  explicit Gradients(long size) : size(size), buffer(size * omp_get_max_threads(), 0.f) {}
  float *mine() { return buffer.data() + size * omp_get_thread_num(); }
  void into(float *out) const {
    std::memset(out, 0, size * sizeof(float));
    for (size_t t = 0; t * size < buffer.size(); t++)
      for (long i = 0; i < size; i++) out[i] += buffer[t * size + i];
  }
};
struct Scratch {  // aligned working memory of one thread
  std::vector<vec> memory;
  explicit Scratch(long vectors) : memory(vectors) {}
  vec *get() { return memory.data(); }
};

struct ConvShape { int I, H, W, O, k, s, p, h, w, depthwise; };
static void gather_row(const ConvShape &z, const vec *x, int row, vec *cols) {  // [I][k][k][w]
  for (int i = 0; i < z.I; i++)
    for (int a = 0; a < z.k; a++)
      for (int b = 0; b < z.k; b++, cols += z.w) {
        int y = row * z.s + a - z.p;
        for (int c = 0; c < z.w; c++) {
          int q = c * z.s + b - z.p;
          cols[c] = (y < 0 || y >= z.H || q < 0 || q >= z.W) ? vec{} : x[((long)i * z.H + y) * z.W + q];
        }
      }
}
// The taps of `count` rows from `row` on of `channels` input channels: [channel][k][k][count * w].
static void gather_rows(const ConvShape &z, const vec *x, int channels, int row, int count, vec *cols) {
  for (int i = 0; i < channels; i++, x += (long)z.H * z.W)
  for (int a = 0; a < z.k; a++)
    for (int b = 0; b < z.k; b++)
      for (int r = row; r < row + count; r++, cols += z.w) {
        int y = r * z.s + a - z.p;
        for (int c = 0; c < z.w; c++) {
          int q = c * z.s + b - z.p;
          cols[c] = (y < 0 || y >= z.H || q < 0 || q >= z.W) ? vec{} : x[(long)y * z.W + q];
        }
      }
}
static void scatter_row(const ConvShape &z, const vec *cols, int row, vec *x) {
  for (int i = 0; i < z.I; i++)
    for (int a = 0; a < z.k; a++)
      for (int b = 0; b < z.k; b++, cols += z.w) {
        int y = row * z.s + a - z.p;
        if (y < 0 || y >= z.H) continue;
        for (int c = 0; c < z.w; c++) {
          int q = c * z.s + b - z.p;
          if (q >= 0 && q < z.W) x[((long)i * z.H + y) * z.W + q] += cols[c];
        }
      }
}

extern "C" {

void threads(int count) { omp_set_num_threads(count); }

// One batch: images uint8 [n][I][H][W] at `index` [T*LANES], moved by the affine map `move` [T*LANES][6] (output pixel
// from the image's centre -> input pixel from the centre: y' = m0 y + m1 x + m2, x' = m3 y + m4 x + m5; bilinear, zero
// outside), normalised as (value / 255 - mean[i]) / deviation[i] -> out [T][I][H][W][LANES]. A null move copies.
void load_batch(const unsigned char *images, const long *index, const float *move, const float *mean,
                const float *deviation, float *out, int T, int I, int H, int W) {
#pragma omp parallel for schedule(dynamic)
  for (int t = 0; t < T; t++)
    for (int lane = 0; lane < LANES; lane++) {
      const float *m = move ? move + ((long)t * LANES + lane) * 6 : nullptr;
      for (int i = 0; i < I; i++) {
        const unsigned char *image = images + (index[(long)t * LANES + lane] * I + i) * H * W;
        float *o = out + ((long)t * I + i) * H * W * LANES + lane;
        float scale = 1 / (255 * deviation[i]), offset = -mean[i] / deviation[i];
        for (int y = 0; y < H; y++)
          for (int x = 0; x < W; x++, o += LANES) {
            if (!m) { *o = image[y * W + x] * scale + offset; continue; }
            float cy = y - 0.5f * (H - 1), cx = x - 0.5f * (W - 1);
            float fy = m[0] * cy + m[1] * cx + m[2] + 0.5f * (H - 1), fx = m[3] * cy + m[4] * cx + m[5] + 0.5f * (W - 1);
            if (!(fy > -1 && fx > -1 && fy < H && fx < W)) { *o = offset; continue; }
            int y0 = (int)(fy + 1) - 1, x0 = (int)(fx + 1) - 1;
            float ay = fy - y0, ax = fx - x0;
            const unsigned char *q = image + y0 * W + x0;
            float v00 = y0 >= 0 && x0 >= 0 ? q[0] : 0, v01 = y0 >= 0 && x0 + 1 < W ? q[1] : 0;
            float v10 = y0 + 1 < H && x0 >= 0 ? q[W] : 0, v11 = y0 + 1 < H && x0 + 1 < W ? q[W + 1] : 0;
            float value = (1 - ay) * ((1 - ax) * v00 + ax * v01) + ay * ((1 - ax) * v10 + ax * v11);
            *o = value * scale + offset;
          }
      }
    }
}

// Convolution: x [K|1][G][I][H][W], weight [K][O][I or 1][k][k], bias [K][O] or null -> y [K][G][O][h][w].
void conv_forward(const float *x, int shared, const float *weight, const float *bias, float *y, int K, int G, int I,
                  int H, int W, int O, int k, int s, int p, int depthwise) {
  ConvShape z{I, H, W, O, k, s, p, (H + 2 * p - k) / s + 1, (W + 2 * p - k) / s + 1, depthwise};
  long in = (long)I * H * W, out = (long)O * z.h * z.w;
  int taps = k * k, rows = I * taps;
#pragma omp parallel
  {
    Scratch cols((long)rows * z.w);
#pragma omp for schedule(dynamic)
    for (int t = 0; t < K * G; t++) {
      const vec *X = (const vec *)x + (shared ? t % G : t) * in;
      vec *Y = (vec *)y + t * out;
      const float *b = bias ? bias + t / G * O : nullptr;
      const float *w = weight + (long)(t / G) * O * (depthwise ? taps : rows);
      for (int r = 0; r < z.h; r++) {
        gather_row(z, X, r, cols.get());
        if (depthwise)
          for (int o = 0; o < O; o++)
            mm(1, taps, z.w, w + o * taps, taps, cols.get() + (long)o * taps * z.w, z.w, Y + ((long)o * z.h + r) * z.w,
               z.w, b ? b + o : nullptr, false);
        else
          mm(O, rows, z.w, w, rows, cols.get(), z.w, Y + (long)r * z.w, (long)z.h * z.w, b, false);
      }
    }
  }
}

// Gradients of conv_forward; dx or dweight may be null. dbias is null where there is no bias.
void conv_backward(const float *x, int shared, const float *weight, const float *dy, float *dx, float *dweight,
                   float *dbias, int K, int G, int I, int H, int W, int O, int k, int s, int p, int depthwise) {
  ConvShape z{I, H, W, O, k, s, p, (H + 2 * p - k) / s + 1, (W + 2 * p - k) / s + 1, depthwise};
  long in = (long)I * H * W, out = (long)O * z.h * z.w;
  int taps = k * k, rows = I * taps;
  long each = (long)O * (depthwise ? taps : rows);
  int strip = 64 / z.w > 1 ? 64 / z.w : 1;  // rows at once
  int some = !depthwise && taps % 2 ? 2 : 1;  // channels at once: 3x3 taps of two fill whole tiles
  Gradients dw(dweight ? K * each : 0), db(dbias ? (long)K * O : 0);
  std::vector<float> turned(dx ? K * each : 0);  // [k][rows][O]
  if (dx && !depthwise)
    for (int m = 0; m < K; m++)
      for (int o = 0; o < O; o++)
        for (int r = 0; r < rows; r++) turned[m * each + (long)r * O + o] = weight[m * each + (long)o * rows + r];
#pragma omp parallel
  {
    Scratch cols(dx ? (long)rows * z.w : 0), patch(dweight ? (long)some * taps * strip * z.w : 0);
#pragma omp for schedule(dynamic)
    for (int t = 0; t < K * G; t++) {
      int m = t / G;
      const vec *D = (const vec *)dy + t * out;
      vec *DX = dx ? (vec *)dx + t * in : nullptr;
      if (DX) std::memset((void *)DX, 0, in * sizeof(vec));
      long ldd = (long)z.h * z.w;
      // several rows at once: the sums over lanes at the end of `outer` are worth many positions
      if (dweight)
        for (int r = 0; r < z.h; r += strip) {
          int n = z.h - r < strip ? z.h - r : strip;
          const vec *d = D + (long)r * z.w;
          for (int i = 0; i < I; i += some) {
            int channels = I - i < some ? I - i : some;
            gather_rows(z, (const vec *)x + (shared ? t % G : t) * in + (long)i * H * W, channels, r, n, patch.get());
            float *b = dbias && (depthwise || i == 0) ? db.mine() + (long)m * O : nullptr;
            if (depthwise)
              outer(1, taps, (long)n * z.w, d + i * ldd, ldd, patch.get(), (long)n * z.w, dw.mine() + m * each + i * taps,
                    taps, b ? b + i : nullptr);
            else
              outer(O, channels * taps, (long)n * z.w, d, ldd, patch.get(), (long)n * z.w, dw.mine() + m * each + i * taps, rows, b);
          }
        }
      for (int r = 0; dx && r < z.h; r++) {
        const vec *d = D + (long)r * z.w;
        if (DX) {
          if (depthwise)
            for (int o = 0; o < O; o++)
              mm(taps, 1, z.w, weight + m * each + o * taps, 1, d + o * ldd, ldd, cols.get() + (long)o * taps * z.w, z.w,
                 nullptr, false);
          else
            mm(rows, O, z.w, turned.data() + m * each, O, d, ldd, cols.get(), z.w, nullptr, false);
          scatter_row(z, cols.get(), r, DX);
        }
      }
    }
  }
  if (dweight) dw.into(dweight);
  if (dbias) db.into(dbias);
}

// Reduction 1x1 (C -> R) and `levels` of Haar. bands[l] is [K][G][4R][H/2^(l+1)][W/2^(l+1)]: LL of each channel,
// then LH, HL, HH of the first channel, of the second, ... (upstream's order).
void down_forward(const float *x, const float *weight, const float *bias, float **bands, int K, int G, int C, int R,
                  int H, int W, int levels) {
#pragma omp parallel
  {
    Scratch reduced((long)R * H * W);
#pragma omp for schedule(dynamic)
    for (int t = 0; t < K * G; t++) {
      int m = t / G;
      mm(R, C, (long)H * W, weight + (long)m * R * C, C, (const vec *)x + (long)t * C * H * W, (long)H * W,
         reduced.get(), (long)H * W, bias ? bias + m * R : nullptr, false);
      const vec *source = reduced.get();
      int h = H, w = W;
      for (int l = 0; l < levels; l++, h /= 2, w /= 2) {
        long plane = (long)h * w / 4;
        vec *out = (vec *)bands[l] + (long)t * 4 * R * plane;
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
        source = out;  // its first R planes are LL
      }
    }
  }
}

void down_backward(const float *x, const float *weight, float **dbands, float *dx, float *dweight, float *dbias, int K,
                   int G, int C, int R, int H, int W, int levels) {
  Gradients dw((long)K * R * C), db((long)K * R);
  std::vector<float> turned((long)K * R * C);
  for (int m = 0; m < K; m++)
    for (int r = 0; r < R; r++)
      for (int c = 0; c < C; c++) turned[((long)m * C + c) * R + r] = weight[((long)m * R + r) * C + c];
#pragma omp parallel
  {
    Scratch space((long)R * H * W * 2);
#pragma omp for schedule(dynamic)
    for (int t = 0; t < K * G; t++) {
      int m = t / G;
      vec *coarse = nullptr, *grad = nullptr;
      for (int l = levels - 1; l >= 0; l--) {
        int h = H >> l, w = W >> l;
        long plane = (long)h * w / 4;
        grad = space.get() + (l % 2) * (long)R * H * W;
        const vec *in = (const vec *)dbands[l] + (long)t * 4 * R * plane;
        for (int c = 0; c < R; c++)
          for (int i = 0; i < h / 2; i++)
            for (int j = 0; j < w / 2; j++) {
              long at = (long)i * (w / 2) + j;
              vec ll = in[c * plane + at];
              if (coarse) ll += coarse[c * plane + at];
              const vec *detail = in + (R + 3 * c) * plane + at;
              vec lh = detail[0], hl = detail[plane], hh = detail[2 * plane];
              vec *q = grad + ((long)c * h + 2 * i) * w + 2 * j;
              q[0] = 0.5f * (ll + lh + hl + hh);
              q[1] = 0.5f * (ll + lh - hl - hh);
              q[w] = 0.5f * (ll - lh + hl - hh);
              q[w + 1] = 0.5f * (ll - lh - hl + hh);
            }
        coarse = grad;
      }
      long P = (long)H * W;
      mm(C, R, P, turned.data() + (long)m * C * R, R, grad, P, (vec *)dx + (long)t * C * P, P, nullptr, false);
      outer(R, C, P, grad, P, (const vec *)x + (long)t * C * P, P, dw.mine() + (long)m * R * C, C,
            db.mine() + (long)m * R);
    }
  }
  dw.into(dweight);
  if (dbias) db.into(dbias);
}

// 1x1 (C -> M), activation, 1x1 (M -> F), over P positions; the hidden layer never leaves the cache.
constexpr long STRIP = 28;
void mlp_forward(const float *u, const float *w1, const float *b1, const float *w2, const float *b2, float *z, int K,
                 int G, int C, int M, int F, long P, int kind) {
#pragma omp parallel
  {
    Scratch hidden(M * STRIP);
#pragma omp for schedule(dynamic)
    for (int t = 0; t < K * G; t++) {
      int m = t / G;
      for (long p = 0; p < P; p += STRIP) {
        long n = P - p < STRIP ? P - p : STRIP;
        mm(M, C, n, w1 + (long)m * M * C, C, (const vec *)u + (long)t * C * P + p, P, hidden.get(), STRIP,
           b1 ? b1 + (long)m * M : nullptr, false);
        for (int i = 0; i < M; i++)
          for (long q = 0; q < n; q++) hidden.get()[i * STRIP + q] = activate(kind, hidden.get()[i * STRIP + q], nullptr);
        mm(F, M, n, w2 + (long)m * F * M, M, hidden.get(), STRIP, (vec *)z + (long)t * F * P + p, P,
           b2 ? b2 + (long)m * F : nullptr, false);
      }
    }
  }
}

void mlp_backward(const float *u, const float *w1, const float *b1, const float *w2, const float *dz, float *du,
                  float *dw1, float *db1, float *dw2, float *db2, int K, int G, int C, int M, int F, long P, int kind) {
  Gradients g1((long)K * M * C), gb1((long)K * M), g2((long)K * F * M), gb2((long)K * F);
  std::vector<float> t1((long)K * M * C), t2((long)K * F * M);
  for (int m = 0; m < K; m++) {
    for (int i = 0; i < M; i++)
      for (int c = 0; c < C; c++) t1[((long)m * C + c) * M + i] = w1[((long)m * M + i) * C + c];
    for (int f = 0; f < F; f++)
      for (int i = 0; i < M; i++) t2[((long)m * M + i) * F + f] = w2[((long)m * F + f) * M + i];
  }
#pragma omp parallel
  {
    Scratch space(3 * M * STRIP);
    vec *hidden = space.get(), *slope = hidden + M * STRIP, *grad = slope + M * STRIP;
#pragma omp for schedule(dynamic)
    for (int t = 0; t < K * G; t++) {
      int m = t / G;
      for (long p = 0; p < P; p += STRIP) {
        long n = P - p < STRIP ? P - p : STRIP;
        const vec *U = (const vec *)u + (long)t * C * P + p, *D = (const vec *)dz + (long)t * F * P + p;
        mm(M, C, n, w1 + (long)m * M * C, C, U, P, hidden, STRIP, b1 ? b1 + (long)m * M : nullptr, false);
        mm(M, F, n, t2.data() + (long)m * M * F, F, D, P, grad, STRIP, nullptr, false);
        for (int i = 0; i < M; i++)
          for (long q = 0; q < n; q++) {
            long at = i * STRIP + q;
            hidden[at] = activate(kind, hidden[at], slope + at);
            grad[at] *= slope[at];
          }
        outer(F, M, n, D, P, hidden, STRIP, g2.mine() + (long)m * F * M, M, gb2.mine() + (long)m * F);
        outer(M, C, n, grad, STRIP, U, P, g1.mine() + (long)m * M * C, C, gb1.mine() + (long)m * M);
        mm(C, M, n, t1.data() + (long)m * C * M, M, grad, STRIP, (vec *)du + (long)t * C * P + p, P, nullptr, false);
      }
    }
  }
  g1.into(dw1); g2.into(dw2);
  if (db1) gb1.into(db1);
  if (db2) gb2.into(db2);
}

// Up-sampling kinds of norm_up: the feature map as it is, nearest, bilinear (align_corners=False).
enum Up { NONE, NEAREST, BILINEAR };

static inline void bilinear(const vec *z, int h, int w, vec *out) {  // [h][w] -> [2h][2w]
  for (int i = 0; i < 2 * h; i++) {
    int near = i / 2, far = i % 2 ? (near + 1 < h ? near + 1 : near) : (near ? near - 1 : 0);
    const vec *a = z + (long)near * w, *b = z + (long)far * w;
    vec *o = out + (long)i * 2 * w;
    vec left = 0.75f * a[0] + 0.25f * b[0], here = left;
    for (int j = 0; j < w; j++) {
      vec right = j + 1 < w ? 0.75f * a[j + 1] + 0.25f * b[j + 1] : here;
      o[2 * j] = 0.75f * here + 0.25f * left;
      o[2 * j + 1] = 0.75f * here + 0.25f * right;
      left = here;
      here = right;
    }
  }
}
static inline void bilinear_adjoint(const vec *d, int h, int w, vec *out) {  // [2h][2w] -> [h][w]
  for (long i = 0; i < (long)h * w; i++) out[i] = vec{};
  for (int i = 0; i < 2 * h; i++) {
    int near = i / 2, far = i % 2 ? (near + 1 < h ? near + 1 : near) : (near ? near - 1 : 0);
    const vec *o = d + (long)i * 2 * w;
    for (int j = 0; j < w; j++) {
      vec s = 0.75f * (o[2 * j] + o[2 * j + 1]);
      s += 0.25f * (j + 1 < w ? o[2 * j + 2] : o[2 * j + 1]);
      s += 0.25f * (j ? o[2 * j - 1] : o[0]);
      out[(long)near * w + j] += 0.75f * s;
      out[(long)far * w + j] += 0.25f * s;
    }
  }
}

// out = base + BatchNorm(up(z)) with the statistics of this batch. z [K][G][F][h][w]; base and out [K][G][F][H][W];
// base may be null. With nearest up-sampling each value repeats four times: the mean and the biased variance are
// those of z, so the statistics are taken at a quarter of the size. mean, variance: [K][F], biased. Where given is
// true, mean and variance are read (evaluation) instead of measured.
void norm_up_forward(const float *z, const float *base, const float *gamma, const float *beta, float *out, float *mean,
                     float *variance, int K, int G, int F, int h, int w, int up, float eps, int given) {
  long q = (long)h * w, full = up == NONE ? q : 4 * q, seen = up == BILINEAR ? full : q;
  std::vector<double> part((long)K * G * F * 2);
  if (!given) {
#pragma omp parallel
    {
      Scratch wide(up == BILINEAR ? full : 1);
#pragma omp for schedule(dynamic)
      for (int t = 0; t < K * G; t++)
        for (int f = 0; f < F; f++) {
          const vec *v = (const vec *)z + ((long)t * F + f) * q;
          if (up == BILINEAR) { bilinear(v, h, w, wide.get()); v = wide.get(); }
          vec s = {}, m2 = {};
          for (long i = 0; i < seen; i++) s += v[i];
          float middle = total(s) / (seen * LANES);
          for (long i = 0; i < seen; i++) { vec d = v[i] - middle; m2 += d * d; }
          part[((long)t * F + f) * 2] = middle;
          part[((long)t * F + f) * 2 + 1] = total(m2);
        }
    }
    for (int m = 0; m < K; m++)
      for (int f = 0; f < F; f++) {
        double sum = 0, m2 = 0;
        for (int g = 0; g < G; g++) sum += part[(((long)m * G + g) * F + f) * 2];
        double middle = sum / G;
        for (int g = 0; g < G; g++) {
          const double *a = &part[(((long)m * G + g) * F + f) * 2];
          m2 += a[1] + (a[0] - middle) * (a[0] - middle) * seen * LANES;
        }
        mean[m * F + f] = middle;
        variance[m * F + f] = m2 / ((double)seen * LANES * G);
      }
  }
#pragma omp parallel
  {
    Scratch wide(up == BILINEAR ? full : 1);
#pragma omp for schedule(dynamic)
    for (int t = 0; t < K * G; t++)
      for (int f = 0; f < F; f++) {
        int at = t / G * F + f;
        float scale = gamma[at] / std::sqrt(variance[at] + eps), shift = beta[at] - mean[at] * scale;
        const vec *v = (const vec *)z + ((long)t * F + f) * q;
        const vec *b = base ? (const vec *)base + ((long)t * F + f) * full : nullptr;
        vec *o = (vec *)out + ((long)t * F + f) * full;
        if (up == NEAREST) {
          for (int i = 0; i < h; i++)
            for (int j = 0; j < w; j++) {
              vec y = v[(long)i * w + j] * scale + shift;
              long a = (long)4 * i * w + 2 * j;
              for (long c : {a, a + 1, a + 2 * w, a + 2 * w + 1}) o[c] = b ? b[c] + y : y;
            }
        } else {
          if (up == BILINEAR) { bilinear(v, h, w, wide.get()); v = wide.get(); }
          for (long i = 0; i < full; i++) { vec y = v[i] * scale + shift; o[i] = b ? b[i] + y : y; }
        }
      }
  }
}

// Gradients of norm_up_forward with measured statistics (that of base is dout itself).
void norm_up_backward(const float *z, const float *dout, const float *gamma, const float *mean, const float *variance,
                      float *dz, float *dgamma, float *dbeta, int K, int G, int F, int h, int w, int up, float eps) {
  long q = (long)h * w, full = up == NONE ? q : 4 * q, seen = up == BILINEAR ? full : q;
  std::vector<double> part((long)K * G * F * 2);
#pragma omp parallel
  {
    Scratch wide(full);
#pragma omp for schedule(dynamic)
    for (int t = 0; t < K * G; t++)
      for (int f = 0; f < F; f++) {
        int at = t / G * F + f;
        float r = 1 / std::sqrt(variance[at] + eps), middle = mean[at];
        const vec *v = (const vec *)z + ((long)t * F + f) * q, *d = (const vec *)dout + ((long)t * F + f) * full;
        if (up == NEAREST) {
          vec *o = (vec *)dz + ((long)t * F + f) * q;
          for (int i = 0; i < h; i++)
            for (int j = 0; j < w; j++) {
              long a = (long)4 * i * w + 2 * j;
              o[(long)i * w + j] = d[a] + d[a + 1] + d[a + 2 * w] + d[a + 2 * w + 1];
            }
          d = o;
        }
        if (up == BILINEAR) { bilinear(v, h, w, wide.get()); v = wide.get(); }
        vec s1 = {}, s2 = {};
        for (long i = 0; i < seen; i++) { s1 += d[i]; s2 += d[i] * (v[i] - middle); }
        part[((long)t * F + f) * 2] = total(s1);
        part[((long)t * F + f) * 2 + 1] = (double)total(s2) * r;
      }
  }
  for (int m = 0; m < K; m++)
    for (int f = 0; f < F; f++) {
      double s1 = 0, s2 = 0;
      for (int g = 0; g < G; g++) {
        s1 += part[(((long)m * G + g) * F + f) * 2];
        s2 += part[(((long)m * G + g) * F + f) * 2 + 1];
      }
      dbeta[m * F + f] = s1;
      dgamma[m * F + f] = s2;
    }
#pragma omp parallel
  {
    Scratch wide(full);
#pragma omp for schedule(dynamic)
    for (int t = 0; t < K * G; t++)
      for (int f = 0; f < F; f++) {
        int at = t / G * F + f;
        float count = (float)seen * LANES * G, r = 1 / std::sqrt(variance[at] + eps);
        float scale = gamma[at] * r, a = dbeta[at] / count, b = dgamma[at] / count * r, middle = mean[at];
        const vec *v = (const vec *)z + ((long)t * F + f) * q, *d = (const vec *)dout + ((long)t * F + f) * full;
        vec *o = (vec *)dz + ((long)t * F + f) * q;
        if (up == BILINEAR) {
          bilinear(v, h, w, wide.get());
          for (long i = 0; i < full; i++) wide.get()[i] = scale * (d[i] - a - (wide.get()[i] - middle) * b);
          bilinear_adjoint(wide.get(), h, w, o);
        } else {
          if (up == NEAREST) d = o;
          for (long i = 0; i < q; i++) o[i] = scale * (d[i] - a - (v[i] - middle) * b);
        }
      }
  }
}
}
