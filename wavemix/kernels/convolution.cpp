// Convolutions of operations.py (see lanes.h for the layout). Ordinary ones read their taps where they lie in a padded
// map of T, see narrow.h; depthwise ones, and the gradient of their input where they stride, gather or scatter taps.
#include "products.h"

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

// An ordinary convolution whose taps are read in place.
template <class T>
struct Direct {
  static constexpr int N = TOGETHER<T>;
  ConvShape z;
  int taps, rows;  // of a channel, of all in units of T
  std::vector<int> at, at_back;  // where taps lie in the padded input, and in the padded gradient of the output
  explicit Direct(const ConvShape &z) : z(z), taps(z.k * z.k), rows(z.I / N * taps) {
    for (int i = 0; i < z.I / N; i++)
      for (int a = 0; a < z.k; a++)
        for (int b = 0; b < z.k; b++) at.push_back((i * height() + a) * width() + b);
    for (int o = 0; o < z.O / N; o++)
      for (int a = 0; a < z.k; a++)
        for (int b = 0; b < z.k; b++) at_back.push_back((o * (z.H + z.k - 1) + a) * (z.W + z.k - 1) + b);
  }
  static bool fits(const ConvShape &z) { return !z.depthwise && z.I % N == 0 && z.O % N == 0; }
  bool goes_back() const { return z.s == 1 && z.p < z.k; }
  int height() const { return z.H + 2 * z.p; }
  int width() const { return z.W + 2 * z.p; }
  long padded() const { return (long)z.I * height() * width(); }
  long padded_back() const { return (long)z.O * (z.H + z.k - 1) * (z.W + z.k - 1); }
  static void pad(const vec *x, int channels, int H, int W, int by, T *out) {
    for (int c = 0; c < channels; c += N)
      for (int i = -by; i < H + by; i++)
        for (int j = -by; j < W + by; j++) {
          vec value[N] = {};
          if (i >= 0 && i < H && j >= 0 && j < W)
            for (int k = 0; k < N; k++) value[k] = x[((long)(c + k) * H + i) * W + j];
          *out++ = join<T>(value);
        }
  }
  void forward(const vec *x, const Weight<T> *weight, const float *bias, vec *y, T *space) const {
    pad(x, z.I, z.H, z.W, z.p, space);
    for (int r = 0; r < z.h; r++)
      tap_row(z.O, rows, z.w, weight, space + (long)r * z.s * width(), at.data(), z.s, bias,
              Written{y + (long)r * z.w, (long)z.h * z.w});
  }
  // the weights of the convolution that makes dx of dy, [I][O][k][k]
  void turn_weights(const float *weight, float *out) const {
    for (int i = 0; i < z.I; i++)
      for (int o = 0; o < z.O; o++)
        for (int t = 0; t < taps; t++) *out++ = weight[((long)o * z.I + i) * taps + taps - 1 - t];
  }
  void input_gradient(const vec *dy, const Weight<T> *turned, vec *dx, T *space) const {
    int by = z.k - 1 - z.p, wide = z.w + 2 * by;
    pad(dy, z.O, z.h, z.w, by, space);
    for (int r = 0; r < z.H; r++)
      tap_row(z.I, z.O / N * taps, z.W, turned, space + (long)r * wide, at_back.data(), 1, nullptr,
              Written{dx + (long)r * z.W, (long)z.H * z.W});
  }
  void weight_gradient(const vec *x, const vec *dy, float *dweight, float *dbias, T *space, T *working) const {
    pad(x, z.I, z.H, z.W, z.p, space);
    T *D = working;
    pad(dy, z.O, z.h, z.w, 0, D);
    for (int o = 0; dbias && o < z.O; o += N) {
      vec sums[N] = {}, value[N];
      for (long i = 0; i < (long)z.h * z.w; i++) {
        split(D[o / N * (long)z.h * z.w + i], value);
        for (int k = 0; k < N; k++) sums[k] += value[k];
      }
      for (int k = 0; k < N; k++) dbias[o + k] += total(sums[k]);
    }
    working += (long)z.O * z.h * z.w;
    const T *rows = by_rows(z.O, z.h, z.w, D, working);
    tap_outer(z.O, z.I / N, Taps{z.k, z.s, height(), width(), z.h, z.w}, rows, space, dweight, working + (long)z.O * z.h * z.w);
  }
  long working() const { return 2l * z.O * z.h * z.w + 2l * height() * width(); }
};

template <class T>
static void direct_forward(const ConvShape &z, const float *x, int shared, const float *weight, const float *bias, float *y,
                           int K, int G) {
  const Direct<T> conv(z);
  std::vector<Weight<T>> space;
  const Weight<T> *own = weights((long)K * z.O, z.I, conv.taps, weight, space);
  Scratch padded(conv.padded());
  parallel(K * G, [&](int t, int worker) {
    int m = t / G;
    conv.forward((const vec *)x + (long)(shared ? t % G : t) * z.I * z.H * z.W, own + (long)m * z.O * conv.rows,
                 bias ? bias + m * z.O : nullptr, (vec *)y + (long)t * z.O * z.h * z.w, (T *)padded.of(worker));
  });
}

// But for dx where it does not go back.
template <class T>
static void direct_backward(const ConvShape &z, const float *x, int shared, const float *weight, const float *dy, float *dx,
                            float *dweight, float *dbias, int K, int G) {
  const Direct<T> conv(z);
  long in = (long)z.I * z.H * z.W, out = (long)z.O * z.h * z.w, each = (long)z.O * z.I * conv.taps;
  if (!conv.goes_back()) dx = nullptr;
  std::vector<Weight<T>> space;
  std::vector<float> turned(dx ? K * each : 0);
  for (int m = 0; dx && m < K; m++) conv.turn_weights(weight + m * each, turned.data() + m * each);
  const Weight<T> *back = dx ? weights((long)K * z.I, z.O, conv.taps, turned.data(), space) : nullptr;
  Gradients dw(K, G, dweight ? each : 0), db(K, G, dbias ? z.O : 0);
  Scratch padded(dweight ? conv.padded() : 0), working(dweight ? conv.working() : 0), wide(dx ? conv.padded_back() : 0);
  parallel(K * G, [&](int t, int worker) {
    const vec *X = (const vec *)x + (shared ? t % G : t) * in, *D = (const vec *)dy + t * out;
    if (dweight)
      conv.weight_gradient(X, D, dw.of(t), dbias ? db.of(t) : nullptr, (T *)padded.of(worker), (T *)working.of(worker));
    if (dx)
      conv.input_gradient(D, back + t / G * (each / TOGETHER<T>), (vec *)dx + t * in, (T *)wide.of(worker));
  });
  if (dweight) dw.into(dweight);
  if (dbias) db.into(dbias);
}

extern "C" {

int multiplies_bfloat16() { return NARROW; }

// Convolution: x [K|1][G][I][H][W], weight [K][O][I or 1][k][k], bias [K][O] or null -> y [K][G][O][h][w].
void conv_forward(const float *x, int shared, const float *weight, const float *bias, float *y, int K, int G, int I,
                  int H, int W, int O, int k, int s, int p, int depthwise, int narrow) {
  ConvShape z{I, H, W, O, k, s, p, (H + 2 * p - k) / s + 1, (W + 2 * p - k) / s + 1, depthwise};
#if NARROW
  if (narrow && Direct<pairs>::fits(z)) return direct_forward<pairs>(z, x, shared, weight, bias, y, K, G);
#endif
  long in = (long)I * H * W, out = (long)O * z.h * z.w;
  int taps = k * k, rows = I * taps;
  Scratch cols((long)rows * z.w);
  parallel(K * G, [&](int t, int worker) {
    const vec *X = (const vec *)x + (shared ? t % G : t) * in;
    vec *Y = (vec *)y + t * out;
    const float *b = bias ? bias + t / G * O : nullptr;
    const float *w = weight + (long)(t / G) * O * (depthwise ? taps : rows);
    for (int r = 0; r < z.h; r++) {
      gather_row(z, X, r, cols.of(worker));
      if (depthwise)
        for (int o = 0; o < O; o++)
          mm(1, taps, z.w, w + o * taps, taps, cols.of(worker) + (long)o * taps * z.w, z.w, Y + ((long)o * z.h + r) * z.w,
             z.w, b ? b + o : nullptr, false);
      else
        mm(O, rows, z.w, w, rows, cols.of(worker), z.w, Y + (long)r * z.w, (long)z.h * z.w, b, false);
    }
  });
}

// Gradients of conv_forward; dx or dweight may be null. dbias is null where there is no bias.
void conv_backward(const float *x, int shared, const float *weight, const float *dy, float *dx, float *dweight,
                   float *dbias, int K, int G, int I, int H, int W, int O, int k, int s, int p, int depthwise, int narrow) {
  ConvShape z{I, H, W, O, k, s, p, (H + 2 * p - k) / s + 1, (W + 2 * p - k) / s + 1, depthwise};
#if NARROW
  if (narrow && Direct<pairs>::fits(z)) {
    direct_backward<pairs>(z, x, shared, weight, dy, dx, dweight, dbias, K, G);
    if (!dx || Direct<pairs>(z).goes_back()) return;
    dweight = dbias = nullptr;  // done
  }
#endif
  long in = (long)I * H * W, out = (long)O * z.h * z.w;
  int taps = k * k, rows = I * taps;
  long each = (long)O * (depthwise ? taps : rows);
  int strip = 64 / z.w > 1 ? 64 / z.w : 1;  // rows at once
  int some = !depthwise && taps % 2 ? 2 : 1;  // channels at once: 3x3 taps of two fill whole tiles
  Gradients dw(K, G, dweight ? each : 0), db(K, G, dbias ? O : 0);
  std::vector<float> turned(dx ? K * each : 0);  // [k][rows][O]
  if (dx && !depthwise)
    for (int m = 0; m < K; m++)
      for (int o = 0; o < O; o++)
        for (int r = 0; r < rows; r++) turned[m * each + (long)r * O + o] = weight[m * each + (long)o * rows + r];
  Scratch cols(dx ? (long)rows * z.w : 0), patch(dweight ? (long)some * taps * strip * z.w : 0);
  parallel(K * G, [&](int t, int worker) {
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
          gather_rows(z, (const vec *)x + (shared ? t % G : t) * in + (long)i * H * W, channels, r, n, patch.of(worker));
          float *b = dbias && (depthwise || i == 0) ? db.of(t) : nullptr;
          if (depthwise)
            outer(1, taps, (long)n * z.w, d + i * ldd, ldd, patch.of(worker), (long)n * z.w, dw.of(t) + i * taps,
                  taps, b ? b + i : nullptr);
          else
            outer(O, channels * taps, (long)n * z.w, d, ldd, patch.of(worker), (long)n * z.w, dw.of(t) + i * taps, rows, b);
        }
      }
    for (int r = 0; dx && r < z.h; r++) {
      const vec *d = D + (long)r * z.w;
      if (DX) {
        if (depthwise)
          for (int o = 0; o < O; o++)
            mm(taps, 1, z.w, weight + m * each + o * taps, 1, d + o * ldd, ldd, cols.of(worker) + (long)o * taps * z.w, z.w,
               nullptr, false);
        else
          mm(rows, O, z.w, turned.data() + m * each, O, d, ldd, cols.of(worker), z.w, nullptr, false);
        scatter_row(z, cols.of(worker), r, DX);
      }
    }
  });
  if (dweight) dw.into(dweight);
  if (dbias) db.into(dbias);
}

}
