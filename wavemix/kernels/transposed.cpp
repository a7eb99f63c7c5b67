// All residual blocks of a network with transposed convolutions at once (see lanes.h for the layout and compiled_blocks.py for the
// mathematics). One pass over a group's feature map adds the block before and computes the next one up to its BatchNorm,
// while the map is in the cache; a member's groups meet once a block, for the statistics. Backward walks the same way down: it
// rebuilds each block's input by subtracting what the block had added, so that no input is kept.
//
// T is what maps are kept in and products are of, see narrow.h; what is added up over blocks is float32.
#include "chain.h"
#include "feedforward.h"

// The 4x4 transposed convolution of F channels [h][w] to C channels [2h][2w]. Output (2i + a, 2j + b) sees 2x2 inputs:
// (i + a - 1, j + b - 1) and the next ones, through the weights' rows 3 - a, 1 - a and columns 3 - b, 1 - b.
template <class T>
struct Transposed {
  static constexpr int N = TOGETHER<T>;
  int C, F, h, w;
  std::vector<int> forward, backward;  // where the taps lie in the padded planes [F][h+2][w+2] and [C][2h+2][2w+2]
  Transposed(int C, int F, int h, int w) : C(C), F(F), h(h), w(w) {
    for (int f = 0; f < F / N; f++)
      for (int y = 0; y < 2; y++)
        for (int x = 0; x < 2; x++) forward.push_back((f * (h + 2) + y) * (w + 2) + x);
    for (int c = 0; c < C / N; c++)
      for (int y = 0; y < 4; y++)
        for (int x = 0; x < 4; x++) backward.push_back((c * (2 * h + 2) + y) * (2 * w + 2) + x);
  }
  long narrow() const { return (long)F * (h + 2) * (w + 2); }
  long wide() const { return (long)C * (2 * h + 2) * (2 * w + 2); }
  // weight [F][C][4][4] -> [4 phases][C][F][2][2]
  void phases(const float *weight, float *out) const {
    for (int a = 0; a < 2; a++)
      for (int b = 0; b < 2; b++)
        for (int c = 0; c < C; c++)
          for (int f = 0; f < F; f++)
            for (int y = 0; y < 2; y++)
              for (int x = 0; x < 2; x++)
                *out++ = weight[(((long)f * C + c) * 4 + (3 - a - 2 * y)) * 4 + (3 - b - 2 * x)];
  }
  void pad(const T *z, T *out) const {
    for (int f = 0; f < F / N; f++)
      for (int y = -1; y <= h; y++, out += w + 2) {
        out[0] = out[w + 1] = T{};
        for (int x = 0; x < w; x++) out[x + 1] = y < 0 || y == h ? T{} : z[((long)f * h + y) * w + x];
      }
  }
  // rows of v from `first` to before `end`
  void up(int first, int end, const T *padded, const Weight<T> *phase, const float *bias, T *v) const {
    for (int i = first; i < end; i++)
      for (int b = 0; b < 2; b++)
        tap_row(C, 4 * F / N, w, phase + (long)(i % 2 * 2 + b) * C * 4 * F / N,
                padded + (long)(i / 2 + i % 2) * (w + 2) + b, forward.data(), 1, bias,
                Kept<T>{v + (long)i * 2 * w + b, (long)4 * h * w, 2});
  }
  // dv padded [C][2h+2][2w+2]; weight [F][C][16]
  void down(const T *dv, const Weight<T> *weight, T *dz) const {
    for (int i = 0; i < h; i++)
      tap_row(F, 16 * C / N, w, weight, dv + (long)2 * i * (2 * w + 2), backward.data(), 2, nullptr,
              Kept<T>{dz + (long)i * w, (long)h * w});
  }
  void weight_gradient(const T *dv, const T *z, float *dweight, T *space) const {
    Taps taps{4, 2, 2 * h + 2, 2 * w + 2, h, w};
    const T *D = by_rows(F, h, w, z, space);
    tap_outer(F, C / N, taps, D, dv, dweight, space + (long)F * h * w);
  }
  long gradient_space() const { return N > 1 ? (long)F * h * w + 2l * (2 * h + 2) * (2 * w + 2) : 0; }
};

// The mean and the sum of squared deviations of a T's channels over `seen` pixels, with n more: Chan, Golub & LeVeque 1983.
template <class T>
static void add_moments(const T *map, long n, long seen, double *moments) {
  constexpr int N = TOGETHER<T>;
  vec sum[N] = {}, squares[N] = {}, value[N];
  float middle[N];
  for (long i = 0; i < n; i++) {
    split(map[i], value);
    for (int k = 0; k < N; k++) sum[k] += value[k];
  }
  for (int k = 0; k < N; k++) middle[k] = total(sum[k]) / (n * LANES);
  for (long i = 0; i < n; i++) {
    split(map[i], value);
    for (int k = 0; k < N; k++) { vec e = value[k] - middle[k]; squares[k] += e * e; }
  }
  for (int k = 0; k < N; k++, moments += 2) {
    double apart = seen ? middle[k] - moments[0] : 0, share = (double)n / (seen + n);
    moments[0] = seen ? moments[0] + apart * share : middle[k];
    moments[1] = (seen ? moments[1] : 0) + total(squares[k]) + apart * apart * share * seen * LANES;
  }
}

template <class T>
static void forward(const float *x, float *pooled, float *map, const float *flat, long P, const long *offsets, float **z,
                    float **v, float *mean, float *variance, int K, int G, int C, int M, int F, int H, int W, int D,
                    int kind, float eps, int given) {
  constexpr int N = TOGETHER<T>;
  int h = H / 2, w = W / 2, R = C / 4, per = strip_rows(h, w);
  long full = (long)H * W, q = full / 4, most = (long)per * w, lead = 4 * most + 1;
  Transposed<T> deconv(C, F, h, w);
  std::vector<double> part((long)K * G * C * 2);
  struct Packed { std::vector<Weight<T>> reduction, first, second, up; };
  std::vector<Packed> packed(K);
  struct Own { const Weight<T> *reduction, *first, *second, *up; };
  std::vector<Own> ready(K);
  std::vector<std::vector<float>> turned(K, std::vector<float>(16l * C * F));
  Scratch rows(C * lead), reduced(R * 4 * most), bands(C * most), inside(C * most), hidden(M * LEAD), padded(deconv.narrow());
  auto begin = [&](int d, int m) {
    Block block(flat, P, m, offsets + (long)d * PARTS);
    Packed &to = packed[m];
    deconv.phases(block.part[UP], turned[m].data());
    ready[m] = {weights(R, C, 1, block.part[REDUCTION], to.reduction), weights(M, C, 1, block.part[FIRST], to.first),
                weights(F, M, 1, block.part[SECOND], to.second), weights(4l * C, F, 4, turned[m].data(), to.up)};
  };
  for (int m = 0; m < K; m++) begin(0, m);
  auto item = [&](int d, int m, int g, int worker) {
    long t = (long)m * G + g;
    const long *own = offsets + (long)d * PARTS;
    vec *here = (vec *)map + t * C * full;
    const vec *source = d > 1 ? here : (const vec *)x + t * C * full;
    Affine norm[N];
    auto norms = [&](int c) {  // of the block before
      for (int k = 0; k < N; k++) {
        long at = ((long)(d - 1) * K + m) * C + c + k;
        norm[k] = Block(flat, P, m, own - PARTS).norm(c + k, mean[at], variance[at], eps);
      }
    };
    const T *y = d ? (const T *)v[d - 1] + t * (C / N) * full : nullptr;
    for (int c = 0; d == D && c < C; c += N) {
      norms(c);
      vec sums[N] = {}, more[N];
      const T *Y = y + c / N * full;
      for (long i = 0; i < full; i++) {
        split(Y[i], more);
        for (int k = 0; k < N; k++) sums[k] += source[(c + k) * full + i] + (more[k] * norm[k].scale + norm[k].shift);
      }
      for (int k = 0; k < N; k++) ((vec *)pooled)[t * C + c + k] = sums[k] / (float)full;
    }
    if (d == D) return;
    Block block(flat, P, m, own);
    Own use = ready[m];
    Layers<T> layers{C, M, F, kind, use.first, use.second, block.part[FIRST_BIAS], block.part[SECOND_BIAS]};
    T *Z = (T *)z[d] + t * (F / N) * q, *V = (T *)v[d] + t * (C / N) * full;
    T *X = (T *)rows.of(worker), *U = (T *)inside.of(worker);
    for (int i = 0; i < h; i += per) {
      long small = (long)(h - i < per ? h - i : per) * w, n = 4 * small, start = (long)4 * i * w;
      for (int c = 0; c < C; c += N) {
        if (d) norms(c);
        for (long p = start; p < start + n; p++) {
          vec value[N], more[N];
          for (int k = 0; k < N; k++) value[k] = source[(c + k) * full + p];
          if (d) {
            split(y[c / N * full + p], more);
            for (int k = 0; k < N; k++)
              here[(c + k) * full + p] = value[k] = value[k] + (more[k] * norm[k].scale + norm[k].shift);
          }
          X[c / N * lead + p - start] = join<T>(value);
        }
      }
      mm(R, C / N, n, use.reduction, X, lead, block.part[REDUCTION_BIAS], Written{reduced.of(worker), n});
      haar(reduced.of(worker), R, n / W, W, bands.of(worker));
      pack(C, small, bands.of(worker), small, U, small);
      feedforward(layers, small, U, small, hidden.of(worker), Kept<T>{Z + (long)i * w, q});
    }
    deconv.pad(Z, (T *)padded.of(worker));
    double *moments = &part[t * C * 2];
    for (int i = 0; i < h; i += per) {
      int end = i + per < h ? i + per : h;
      deconv.up(2 * i, 2 * end, (T *)padded.of(worker), use.up, block.part[UP_BIAS], V);
      for (int c = 0; !given && c < C; c += N)
        add_moments<T>(V + c / N * full + 2l * i * W, 2l * (end - i) * W, 2l * i * W, moments + 2 * c);
    }
  };
  stages(K, G, D + 1, item, [&](int d, int m) {
    long at = ((long)d * K + m) * C;
    if (d < D && !given) combine(&part[(long)m * G * C * 2], G, C, (double)full * LANES, mean + at, variance + at);
    if (d + 1 < D) begin(d + 1, m);
  });
}

template <class T>
static void backward(const float *before, const float *dpooled, float *map, float *dx, float *dz, const float *flat, long P,
                     const long *offsets, float **z, float **v, const float *mean, const float *variance,
                     float *dflat, int K, int G, int C, int M, int F, int H, int W, int D, int kind, float eps) {
  constexpr int N = TOGETHER<T>;
  int h = H / 2, w = W / 2, R = C / 4, per = strip_rows(h, w);
  long full = (long)H * W, q = full / 4, most = (long)per * w, lead = 4 * most + 1;
  float count = (float)full * LANES * G;
  Transposed<T> deconv(C, F, h, w);
  std::vector<double> part((long)K * G * C * 2);
  struct Own {
    std::vector<Weight<T>> space[6];
    std::vector<float> turned[3];
    const Weight<T> *reduction, *first, *second, *up, *reduction_back, *first_back, *second_back;
  };
  std::vector<Own> ready(K);
  std::vector<Sums> sums((long)K * C);
  long sizes[GAMMA] = {(long)R * C, R, (long)M * C, M, (long)F * M, F, 16l * C * F, C};
  long starts[GAMMA] = {0}, each_block = 0;
  for (int i = 0; i < GAMMA; i++) { starts[i] = each_block; each_block += sizes[i]; }
  Gradients gradients(K, G, each_block);
  Scratch rows(C * lead), reduced(R * 4 * most), bands(C * most), inside(C * most), back(C * most);
  Scratch space(backward_space(C, M, F) + 2 * R * lead), other(N > 1 ? C * lead : 0), padded(deconv.wide());
  Scratch working(deconv.gradient_space()), seen(2 * C), fresh(C * lead);
  // Sums over a group of a map's gradient and of its product with the normalised map of block d's BatchNorm: of n pixels
  // from `start` on, added to sums [C][2]; gradient(c, i), of pixel start + i, is asked for once.
  auto measure = [&](int d, long t, long start, long n, const auto &gradient, vec *sums) {
    for (int c = 0; c < C; c += N) {
      const T *y = (const T *)v[d] + (t * C + c) / N * full + start;
      vec s1[N] = {}, s2[N] = {}, value[N];
      float middle[N];
      for (int k = 0; k < N; k++) middle[k] = mean[((long)d * K + t / G) * C + c + k];
      for (long i = 0; i < n; i++) {
        split(y[i], value);
        for (int k = 0; k < N; k++) {
          vec g = gradient(c + k, i);
          s1[k] += g;
          s2[k] += g * (value[k] - middle[k]);
        }
      }
      for (int k = 0; k < N; k++) { sums[2 * (c + k)] += s1[k]; sums[2 * (c + k) + 1] += s2[k]; }
    }
  };
  auto measured_all = [&](int d, long t, const vec *sums) {
    for (int c = 0; c < C; c++) {
      part[(t * C + c) * 2] = total(sums[2 * c]);
      part[(t * C + c) * 2 + 1] = (double)total(sums[2 * c + 1]) / std::sqrt(variance[((long)d * K + t / G) * C + c] + eps);
    }
  };
  auto pixel = [&](long t, int c) { return ((const vec *)dpooled)[t * C + c] / (float)full; };  // of the last map
  auto block = [&](int d, int m, int group, int worker) {
    long t = (long)m * G + group;
    Block block(flat, P, m, offsets + (long)d * PARTS);
    const Own &use = ready[m];
    Layers<T> layers{C, M, F, kind, use.first, use.second, block.part[FIRST_BIAS], block.part[SECOND_BIAS]};
    float *mine = gradients.of(t);
    LayerGradients to{mine + starts[FIRST], mine + starts[FIRST_BIAS], mine + starts[SECOND], mine + starts[SECOND_BIAS]};
    vec *g = (vec *)dx + t * C * full, *rebuilt = (vec *)map + t * C * full;
    T *DZ = (T *)dz + t * (F / N) * q, *DV = (T *)padded.of(worker), *X = (T *)rows.of(worker), *U = (T *)inside.of(worker);
    bool last = d == D - 1;
    vec *both = seen.of(worker), *made = fresh.of(worker);
    std::memset((void *)both, 0, 2 * C * sizeof(vec));
    const vec *kept = (const vec *)before + t * C * full, *after = d == D - 2 ? kept : rebuilt;
    const vec *x = last ? kept : rebuilt;  // the map before the block
    for (int c = 0; c < C; c += N) {
      Affine norm[N];
      float a[N], b[N], middle[N];
      for (int k = 0; k < N; k++) {
        long at = ((long)d * K + m) * C + c + k;
        norm[k] = block.norm(c + k, mean[at], variance[at], eps);
        Sums sum = sums[(long)m * C + c + k];
        a[k] = sum.gradient / count;
        b[k] = sum.product / count / std::sqrt(variance[at] + eps);
        middle[k] = mean[at];
      }
      const T *y = (const T *)v[d] + (t * C + c) / N * full;
      T *padding = DV + (long)c / N * (H + 2) * (W + 2);
      vec bias[N] = {}, each[N];
      for (int k = 0; k < N; k++) each[k] = pixel(t, c + k);
      for (int i = -1; i <= H; i++, padding += W + 2) {
        padding[0] = padding[W + 1] = T{};
        for (int j = 0; j < W; j++) {
          if (i < 0 || i == H) { padding[j + 1] = T{}; continue; }
          long pixel = (long)i * W + j;
          vec value[N], grad[N];
          split(y[pixel], value);
          for (int k = 0; k < N; k++) {
            long at = (c + k) * full + pixel;
            vec dy = last ? (g[at] = each[k]) : g[at];
            grad[k] = norm[k].scale * (dy - a[k] - (value[k] - middle[k]) * b[k]);
            bias[k] += grad[k];
            if (!last) rebuilt[at] = after[at] - (value[k] * norm[k].scale + norm[k].shift);
          }
          padding[j + 1] = join<T>(grad);
        }
      }
      for (int k = 0; k < N; k++) mine[starts[UP_BIAS] + c + k] += total(bias[k]);
    }
    deconv.down(DV, use.up, DZ);
    deconv.weight_gradient(DV, (const T *)z[d] + t * (F / N) * q, mine + starts[UP], (T *)working.of(worker));
    for (int i = 0; i < h; i += per) {
      long small = (long)(h - i < per ? h - i : per) * w, n = 4 * small, start = (long)4 * i * w;
      vec *less = reduced.of(worker);
      pack(C, n, x + start, full, X, lead);
      mm(R, C / N, n, use.reduction, X, lead, block.part[REDUCTION_BIAS], Written{less, n});
      haar(less, R, n / W, W, bands.of(worker));
      pack(C, small, bands.of(worker), small, U, small);
      feedforward_backward(layers, use.first_back, use.second_back, small, U, small, DZ + (long)i * w, q, back.of(worker),
                           to, space.of(worker));
      haar_adjoint(back.of(worker), nullptr, R, n / W, W, less, n);
      reduction_backward(C, R, n, use.reduction_back, less, n, turned(C, n, X, lead, (T *)other.of(worker)),
                         Written{made, lead}, mine + starts[REDUCTION], mine + starts[REDUCTION_BIAS], space.of(worker));
      auto gradient = [=](int c, long i) { return g[c * full + start + i] += made[c * lead + i]; };
      if (d) measure(d - 1, t, start, n, gradient, both);
      for (int c = 0; !d && c < C; c++)
        for (long p = 0; p < n; p++) gradient(c, p);
    }
    if (d) measured_all(d - 1, t, both);
  };
  auto begin = [&](long t, int worker) {  // the gradient of the last map is the same everywhere
    vec *both = seen.of(worker);
    std::memset((void *)both, 0, 2 * C * sizeof(vec));
    measure(D - 1, t, 0, full, [&](int c, long) { return pixel(t, c); }, both);
    measured_all(D - 1, t, both);
  };
  // stage 0 begins, stages 1 to D are blocks D - 1 to 0
  auto item = [&](int stage, int m, int g, int worker) {
    if (stage) block(D - stage, m, g, worker);
    else begin((long)m * G + g, worker);
  };
  stages(K, G, D + 1, item, [&](int stage, int m) {
    float *to = dflat + m * P;
    if (const long *own = offsets + (long)(D - stage) * PARTS; stage)
      for (int i = 0; i < GAMMA; i++)
        if (own[i] >= 0) gradients.add(m, starts[i], sizes[i], to + own[i]);
    if (stage == D) return;
    const long *own = offsets + (long)(D - 1 - stage) * PARTS;
    Block block(flat, P, m, own);
    for (int c = 0; c < C; c++) sums[(long)m * C + c] = measured(part, m, G, C, c, own, to);
    Own &use = ready[m];
    use.reduction = weights(R, C, 1, block.part[REDUCTION], use.space[0]);
    use.first = weights(M, C, 1, block.part[FIRST], use.space[1]);
    use.up = weights(F, C, 16, block.part[UP], use.space[2]);
    use.reduction_back = weights(C, R, 1, transposed(block.part[REDUCTION], R, C, use.turned[0]), use.space[3]);
    use.first_back = weights(C, M, 1, transposed(block.part[FIRST], M, C, use.turned[1]), use.space[4]);
    use.second_back = weights(M, F, 1, transposed(block.part[SECOND], F, M, use.turned[2]), use.space[5]);
    gradients.clear(m);
  });
}

extern "C" {

// x [K][G][C][H][W] -> pooled [K][G][C], the means of the map after D blocks. Kept for the backward pass: map, the one
// before the last block (where there is one block: untouched, it is x), z[d] [K][G][F][H/2][W/2] and v[d]
// [K][G][C][H][W], as bfloat16 where `narrow`. mean, variance [D][K][C] are measured, or read where `given`. Without a
// backward pass all z and all v may be the same memory.
void transposed_forward(const float *x, float *pooled, float *map, const float *flat, long P, const long *offsets, float **z, float **v,
                        float *mean, float *variance, int K, int G, int C, int M, int F, int H, int W, int D, int kind,
                        float eps, int given, int narrow) {
  with(narrow, [&](auto kept) {
    forward<decltype(kept)>(x, pooled, map, flat, P, offsets, z, v, mean, variance, K, G, C, M, F, H, W, D, kind, eps, given);
  });
}

// Gradients of transposed_forward with measured statistics, from that of pooled: of x into dx, of the parameters added to
// dflat [K][P]. `before` is the map before the last block, `map` [K][G][C][H][W] and `dz` [K][G][F][H/2][W/2] are working
// memory.
void transposed_backward(const float *before, const float *dpooled, float *map, float *dx, float *dz, const float *flat, long P,
                         const long *offsets, float **z, float **v, const float *mean, const float *variance,
                         float *dflat, int K, int G, int C, int M, int F, int H, int W, int D, int kind, float eps,
                         int narrow) {
  with(narrow, [&](auto kept) {
    backward<decltype(kept)>(before, dpooled, map, dx, dz, flat, P, offsets, z, v, mean, variance, dflat, K, G, C, M, F,
                             H, W, D, kind, eps);
  });
}
}
