// All residual blocks of a network whose up-sampling is interpolation, at once (see lanes.h for the layout and
// compiled_blocks.py for the mathematics). Interpolation is linear and the same in every block, so the map before block d
// is x + up(s), where the small map s is the sum of what the blocks before had added before up-sampling. Reduction and
// wavelet transform are linear too, and so no block touches a map of full size: what they make of x is computed for all
// blocks in one pass over x, what they make of up(s) from the reduced s. Backward likewise: blocks pass on the gradient of
// s, and one pass at the end adds what their reductions pass on to x. (Where there is no backward pass, and so nothing is
// kept, every block reduces x again.) What a block on a coarser level adds is up-sampled to the size of s, see coarse.h. A
// member's groups meet once a block, for BatchNorm's statistics; those of an interpolated map are functions of the small
// one.
//
// T is what u, z and y are kept in and products are of, see narrow.h; s and gradients that add up are float32.
#include "chain.h"
#include "coarse.h"
#include "feedforward.h"

template <class T>
static void forward(const float *x, float *pooled, float *s, const float *flat, long P, const long *offsets,
                    const int *levels, float **u, float **z, float **y, float *mean, float *variance, int K, int G, int C,
                    int M, int H, int W, int D, int up, int kind, float eps, int given) {
  constexpr int N = TOGETHER<T>;
  int h = H / 2, w = W / 2, R = C / 4;
  long full = (long)H * W, q = full / 4;
  const Strips small(C, h, w), units(C / N, h, w);
  long most = small.pixels(0), lead = 4 * most + 4;  // not a power of two
  std::vector<double> part((long)K * G * C * 2);
  struct Own {
    std::vector<Weight<T>> space[3];
    const Weight<T> *reduction, *first, *second;
  };
  std::vector<Own> ready((long)K * D);
  for (int m = 0; m < K; m++)
    for (int d = 0; d < D; d++) {
      Block block(flat, P, m, offsets + (long)d * PARTS);
      Own &own = ready[(long)m * D + d];
      own.reduction = weights(R, C, 1, block.part[REDUCTION], own.space[0]);
      own.first = weights(M, C, 1, block.part[FIRST], own.space[1]);
      own.second = weights(C, M, 1, block.part[SECOND], own.space[2]);
    }
  Scratch rows(C * lead), reduced(R * 4 * most), hidden(M * LEAD), bands(C * most), more(C * most), narrow(R * q);
  Scratch inside(N > 1 ? C * most : 0), planes((N + 2) * q);
  long coarser = take_turns(levels, D) ? R * q : 0;
  Scratch low(coarser), coarse_bands(coarser), coarse_in(coarser), coarse_out(coarser);
  // what the reduction of block d makes of a strip of x, transformed: all bands, or LL with channels `apart`
  auto project = [&](int d, long t, int strip, const T *rows, vec *reduced, vec *bands, long apart) {
    long n = 4 * small.pixels(strip);
    const float *bias = Block(flat, P, t / G, offsets + (long)d * PARTS).part[REDUCTION_BIAS];
    mm(R, C / N, n, ready[t / G * D + d].reduction, rows, lead, bias, Written{reduced, n});
    if (levels[d] > 1) halve(reduced, R, 2 * small.rows(strip), W, bands, apart);
    else haar(reduced, R, 2 * small.rows(strip), W, bands);
  };
  auto load = [&](long t, int strip, T *rows) {
    pack(C, 4 * small.pixels(strip), (const vec *)x + t * C * full + 4 * strip * most, full, rows, lead);
  };
  // what block d - 1 adds, to s; and in `next`, if there is a block d, what its reduction makes of s
  auto add = [&](int d, long t, vec *S, vec *next, T *space) {
    const long *own = offsets + (long)d * PARTS;
    int m = t / G;
    Block before(flat, P, m, own - PARTS);
    const T *Z = (const T *)z[d - 1] + t * (C / N) * q;
    for (int strip = 0; strip < small.count(); strip++) {
      long n = small.pixels(strip), apart = n | 1;
      for (int c = 0; c < C; c += N) {
        Affine norm[N];
        for (int k = 0; k < N; k++) {
          long at = ((long)(d - 1) * K + m) * C + c + k;
          norm[k] = before.norm(c + k, mean[at], variance[at], eps);
        }
        vec *sum = S + small.start(strip) + c * n;
        const T *added = Z + units.start(strip) + c / N * n;
        for (long p = 0; p < n; p++) {
          vec value[N];
          split(added[p], value);
          for (int k = 0; k < N; k++) {
            value[k] = value[k] * norm[k].scale + norm[k].shift;
            if (d > 1) value[k] += sum[k * n + p];
            sum[k * n + p] = value[k];
          }
          if (next) space[c / N * apart + p] = join<T>(value);
        }
      }
      if (next)
        mm(R, C / N, n, ready[(long)m * D + d].reduction, space, apart, nullptr, Written{next + strip * most, q});
    }
  };
  auto pool = [&](long t, const vec *S) {
    for (int c = 0; c < C; c++) {
      const vec *from = (const vec *)x + (t * C + c) * full;
      vec sum = {}, added = {};
      for (long p = 0; p < full; p++) sum += from[p];
      for (int strip = 0; strip < small.count(); strip++)
        for (long p = 0, n = small.pixels(strip); p < n; p++) added += S[small.start(strip) + c * n + p];
      ((vec *)pooled)[t * C + c] = (sum + 4 * added) / (float)full;  // up-sampling makes four of each pixel
    }
  };
  // block d on a coarser level, up to z: `next` is what its reduction makes of s
  auto coarse = [&](int d, long t, const Block &block, const Layers<T> &layers, const vec *next, int worker) {
    Coarse level{R, h, w, levels[d] - 1};
    const Strips map(C, level.height(), level.width());
    long n = level.pixels(), first = t * (C / N) * q;
    vec *L = low.of(worker), *B = coarse_bands.of(worker);
    vec *made = planes.of(worker), *space = made + N * q, *plane = space + q;
    T *U = u[d] ? (T *)u[d] + first : (T *)coarse_in.of(worker);
    T *Y = y[d] ? (T *)y[d] + first : (T *)coarse_out.of(worker);
    if (u[d]) unpack(R, q, U, q, L, q);
    for (int strip = 0; !u[d] && strip < small.count(); strip++) {
      load(t, strip, (T *)rows.of(worker));
      project(d, t, strip, (T *)rows.of(worker), reduced.of(worker), L + strip * most, q);
    }
    for (int r = 0; d && r < R; r++)
      low_of_up(up, next + r * q, h, w, [=](long at, vec e) { L[r * q + at] += e; });
    level.down(L, B);
    pack(C, n, B, n, U, n);
    feedforward(layers, n, U, n, hidden.of(worker), Kept<T>{Y, n});
    for (int c = 0; c < C; c += N) {
      each<T>([&](auto k) {
        auto row = [&](int i) { return Channel<T, k>{Y + c / N * n + (long)i * map.w}; };
        const float *taps = block.part[UP], *bias = block.part[UP_BIAS];
        if (y[d])
          depthwise(map, row, taps + 9 * (c + k), bias ? bias[c + k] : 0, false, plane);
        else
          for (long p = 0; p < n; p++) plane[p] = row(0)[p];
        level.finer(up, plane, made + k * q, space);
      });
      for (int i = 0; i < h; i++) pack(N, w, made + i * w, q, (T *)z[d] + first + units.at(c / N, i), 0);
    }
  };
  auto block = [&](int d, int m, int g, int worker) {
    long t = (long)m * G + g;
    vec *S = (vec *)s + t * C * q, *next = narrow.of(worker);
    T *X = (T *)rows.of(worker);
    auto kept = [&](float **maps, int e) { return (T *)maps[e] + t * (C / N) * q; };
    for (int strip = 0; d == 0 && u[0] && strip < small.count(); strip++) {  // for all blocks, while x is at hand
      load(t, strip, X);
      long n = small.pixels(strip);
      for (int e = 0; e < D; e++) {
        bool lower = levels[e] > 1;
        T *to = kept(u, e) + (lower ? strip * most : units.start(strip));
        vec *made = N > 1 ? bands.of(worker) : (vec *)to;
        project(e, t, strip, X, reduced.of(worker), made, N > 1 ? n : q);
        if (N > 1) pack(lower ? R : C, n, made, n, to, lower ? q : n);
      }
    }
    if (d) add(d, t, S, d < D ? next : nullptr, X);
    if (d == D) return pool(t, S);
    Block block(flat, P, m, offsets + (long)d * PARTS);
    const Own &own = ready[(long)m * D + d];
    Layers<T> layers{C, M, C, kind, own.first, own.second, block.part[FIRST_BIAS], block.part[SECOND_BIAS]};
    T *Z = kept(z, d), *Y = y[d] ? kept(y, d) : Z;
    if (levels[d] > 1) coarse(d, t, block, layers, next, worker);
    for (int strip = 0; levels[d] == 1 && strip < small.count(); strip++) {
      long n = small.pixels(strip);
      T *U = u[d] ? kept(u, d) + units.start(strip) : (T *)inside.of(worker);
      vec *wide = bands.of(worker);  // U in float32
      if (!u[d]) {
        load(t, strip, X);
        project(d, t, strip, X, reduced.of(worker), wide, 0);
      } else if (N > 1 && d)
        unpack(C, n, U, n, wide, n);
      if (N == 1 && u[d]) wide = (vec *)U;
      if (d && up == BILINEAR) {
        vec *o = reduced.of(worker), *wider = more.of(worker);
        for (int r = 0; r < R; r++)
          for (int i = 2 * strip * small.per; i < 2 * (strip * small.per + small.rows(strip)); i++, o += W) {
            const vec *plane = next + r * q;
            bilinear_row(plane + (long)i / 2 * w, plane + (long)far_row(i, h) * w, w, [=](int j, vec e) { o[j] = e; });
          }
        haar(reduced.of(worker), R, 2 * small.rows(strip), W, wider);
        for (long p = 0; p < C * n; p++) wide[p] += wider[p];
      }
      if (d && up == NEAREST)  // all of it is in the coarse band
        for (int r = 0; r < R; r++)
          for (long p = 0; p < n; p++) wide[r * n + p] += 2 * next[r * q + strip * most + p];
      if (N == 1) U = (T *)wide;
      else if (d || !u[d]) pack(C, n, wide, n, U, n);
      feedforward(layers, n, U, n, hidden.of(worker), Kept<T>{Y + units.start(strip), n});
    }
    for (int c = 0; levels[d] == 1 && y[d] && c < C; c += N) {
      vec *made = planes.of(worker);
      each<T>([&](auto k) {
        depthwise(small, [&](int i) { return Channel<T, k>{Y + units.at(c / N, i)}; }, block.part[UP] + 9 * (c + k),
                  block.part[UP_BIAS] ? block.part[UP_BIAS][c + k] : 0, false, made + k * q);
      });
      for (int i = 0; i < h; i++) pack(N, w, made + i * w, q, Z + units.at(c / N, i), 0);
    }
    for (int c = 0; !given && c < C; c += N)
      each<T>([&](auto k) {
        moments(small, up, [&](int i) { return Channel<T, k>{Z + units.at(c / N, i)}; }, &part[(t * C + c + k) * 2]);
      });
  };
  if (given)  // then groups have nothing to do with one another
    return parallel(K * G, [&](int t, int worker) {
      for (int d = 0; d <= D; d++) block(d, t / G, t % G, worker);
    });
  double pixels = (double)(up == NEAREST ? q : full) * LANES;
  stages(K, G, D + 1, block, [&](int d, int m) {
    long at = ((long)d * K + m) * C;
    if (d < D) combine(&part[(long)m * G * C * 2], G, C, pixels, mean + at, variance + at);
  });
}

template <class T>
static void backward(const float *x, const float *dpooled, float *s, float *dx, float *ds, const float *flat, long P,
                     const long *offsets, const int *levels, float **u, float **z, float **y, const float *mean,
                     const float *variance, float *dflat, int K, int G, int C, int M, int H, int W, int D, int up, int kind,
                     float eps) {
  constexpr int N = TOGETHER<T>;
  int h = H / 2, w = W / 2, R = C / 4;
  long full = (long)H * W, q = full / 4;
  const Strips small(C, h, w), units(C / N, h, w);
  long most = small.pixels(0), lead = 4 * most + 4;
  float count = (float)(up == NEAREST ? q : full) * LANES * G;
  std::vector<double> part((long)K * G * C * 2);
  struct Own {  // weights of the block that is at work
    std::vector<Weight<T>> space[3];
    std::vector<float> turned[2];
    const Weight<T> *first, *first_back, *second_back;
  };
  std::vector<Own> ready(K);
  std::vector<std::vector<Weight<T>>> reductions_space((long)K * D);
  std::vector<std::vector<float>> reductions_turned((long)K * D);
  std::vector<const Weight<T> *> reductions_back((long)K * D);
  std::vector<Sums> sums((long)K * C);
  for (int m = 0; m < K; m++)
    for (int d = 0; d < D; d++) {
      long at = (long)m * D + d;
      const float *reduction = Block(flat, P, m, offsets + (long)d * PARTS).part[REDUCTION];
      reductions_back[at] = weights(C, R, 1, transposed(reduction, R, C, reductions_turned[at]), reductions_space[at]);
    }
  const bool convolved = y[0], turns = take_turns(levels, D);
  long sizes[GAMMA] = {(long)R * C, 0, (long)M * C, M, (long)C * M, C, convolved ? 9 * C : 0, convolved ? C : 0};
  long starts[GAMMA] = {0}, each_block = 0;
  for (int i = 0; i < GAMMA; i++) { starts[i] = each_block; each_block += sizes[i]; }
  long each_reduction = R * C + R;  // the reduction's gradient by x, and its bias's
  Gradients gradients(K, G, each_block), reductions(K, G, D * each_reduction);
  Scratch space(backward_space(C, M, C) + 2 * R * (lead + 1)), dz(C * most), back(std::max(C * most, turns ? R * q : 0));
  Scratch smooth(convolved || turns ? C * q : 0), planes(convolved || turns ? 2 * N * q : 0), low(turns ? R * q : 0);
  Scratch wide(up == BILINEAR ? R * full : 0), narrow(R * q), rows(C * lead), grad(C * lead), reduced(R * 4 * most);
  Scratch other(N > 1 ? C * lead : 0);

  // sums over a group of ds and of ds * (normalised z) of block d's BatchNorm
  auto measure = [&](int d, long t) {
    for (int c = 0; c < C; c += N) {
      const long at = ((long)d * K + t / G) * C + c;
      float middle[N];
      for (int k = 0; k < N; k++) middle[k] = mean[at + k];
      vec s1[N] = {}, s2[N] = {}, value[N];
      for (int strip = 0; strip < small.count(); strip++) {
        long n = small.pixels(strip);
        const vec *g = (const vec *)ds + t * C * q + small.start(strip) + c * n;
        const T *Z = (const T *)z[d] + t * (C / N) * q + units.start(strip) + c / N * n;
        for (long p = 0; p < n; p++) {
          split(Z[p], value);
          for (int k = 0; k < N; k++) { s1[k] += g[k * n + p]; s2[k] += g[k * n + p] * (value[k] - middle[k]); }
        }
      }
      for (int k = 0; k < N; k++) {
        part[(t * C + c + k) * 2] = total(s1[k]);
        part[(t * C + c + k) * 2 + 1] = (double)total(s2[k]) / std::sqrt(variance[at + k] + eps);
      }
    }
  };
  auto pixel = [&](long t, int c) { return ((const vec *)dpooled)[t * C + c] / (float)full; };  // of the last map
  auto begin = [&](long t) {
    for (int strip = 0; strip < small.count(); strip++)
      for (int c = 0; c < C; c++) {
        long n = small.pixels(strip);
        vec each = 4 * pixel(t, c), *o = (vec *)ds + t * C * q + small.start(strip) + c * n;
        for (long p = 0; p < n; p++) o[p] = each;
      }
    measure(D - 1, t);
  };
  // block d on a coarser level, from the gradients of z that `before_norm` gives to u's and, in `less`, to those of what its
  // reduction makes of s
  auto coarse = [&](int d, long t, const Block &block, const Layers<T> &layers, const LayerGradients &to,
                    const auto &before_norm, float *mine, vec *less, int worker) {
    Coarse level{R, h, w, levels[d] - 1};
    const Strips map(C, level.height(), level.width());
    const Own &own = ready[t / G];
    long n = level.pixels(), first = t * (C / N) * q;
    vec *L = low.of(worker), *DU = back.of(worker);
    T *dz = (T *)smooth.of(worker), *U = (T *)u[d] + first;
    for (int c = 0; c < C; c += N) {
      vec *grad = planes.of(worker), *made = convolved ? grad + N * q : grad;
      for (int strip = 0; strip < small.count(); strip++)
        before_norm(strip, c, [&](int k, long at, vec value) { grad[k * q + strip * most + at] = value; });
      each<T>([&](auto k) {
        vec *plane = grad + k * q;
        level.finer_adjoint(up, plane);
        if (!convolved) return;
        const float *taps = block.part[UP] + 9 * (c + k);
        const T *Y = (const T *)y[d] + first + c / N * n;
        depthwise_backward(map, [&](int i) { return Channel<T, k>{Y + (long)i * map.w}; }, plane,
                           mine + starts[UP] + 9 * (c + k), mine + starts[UP_BIAS] + c + k);
        depthwise(map, [&](int i) { return Channel<vec, 0>{plane + (long)i * map.w}; }, taps, 0, true, made + k * q);
      });
      pack(N, n, made, q, dz + c / N * n, 0);
    }
    feedforward_backward(layers, own.first_back, own.second_back, n, U, n, dz, n, DU, to, space.of(worker));
    level.down_adjoint(DU, L);
    pack(R, q, L, q, U, q);  // for the pass over x
    for (int r = 0; r < R; r++) low_of_up(up, L + r * q, h, w, [=](long at, vec e) { less[r * q + at] = e; });
  };
  auto block = [&](int d, int m, int g, int worker) {
    long t = (long)m * G + g;
    Block block(flat, P, m, offsets + (long)d * PARTS);
    const Own &own = ready[m];
    Layers<T> layers{C, M, C, kind, own.first, nullptr, block.part[FIRST_BIAS], nullptr};
    float *mine = gradients.of(t);
    LayerGradients to{mine + starts[FIRST], mine + starts[FIRST_BIAS], mine + starts[SECOND], mine + starts[SECOND_BIAS]};
    vec *S = (vec *)s + t * C * q, *DS = (vec *)ds + t * C * q, *DU = back.of(worker);
    vec *large = wide.of(worker), *less = narrow.of(worker);
    T *smoothed = (T *)smooth.of(worker);
    const T *Z = (const T *)z[d] + t * (C / N) * q;
    // takes the block away from s; put(k, at, value): the gradient before its BatchNorm of the channels c + k in a strip
    auto before_norm = [&](int strip, int c, const auto &put) {
      long n = small.pixels(strip), start = small.start(strip) + c * n;
      const T *added = Z + units.start(strip) + c / N * n;
      Affine norm[N];
      Unnormed undo[N];
      for (int k = 0; k < N; k++) {
        long at = ((long)d * K + m) * C + c + k;
        norm[k] = block.norm(c + k, mean[at], variance[at], eps);
        Sums sum = sums[(long)m * C + c + k];
        undo[k] = {norm[k].scale, sum.gradient / count, sum.product / count / std::sqrt(variance[at] + eps), mean[at]};
      }
      for (long p = 0; p < n; p++) {
        vec value[N];
        split(added[p], value);
        for (int k = 0; k < N; k++) S[start + k * n + p] -= value[k] * norm[k].scale + norm[k].shift;
      }
      each<T>([&](auto k) {
        normalise(small, up, strip, [&](int i) { return Channel<T, k>{Z + units.at(c / N, i)}; }, DS + start + k * n,
                  undo[k], [&](long at, vec value) { put(k, at, value); });
      });
    };
    if (levels[d] > 1) coarse(d, t, block, layers, to, before_norm, mine, less, worker);
    for (int c = 0; levels[d] == 1 && convolved && c < C; c += N) {  // a convolution needs its neighbours
      vec *grad = planes.of(worker), *made = grad + N * q;
      for (int strip = 0; strip < small.count(); strip++)
        before_norm(strip, c, [&](int k, long at, vec value) { grad[k * q + strip * most + at] = value; });
      each<T>([&](auto k) {
        const float *taps = block.part[UP] + 9 * (c + k);
        const vec *plane = grad + k * q;
        depthwise_backward(small, [&](int i) { return Channel<T, k>{(const T *)y[d] + t * (C / N) * q + units.at(c / N, i)}; },
                           plane, mine + starts[UP] + 9 * (c + k), mine + starts[UP_BIAS] + c + k);
        depthwise(small, [&](int i) { return Channel<vec, 0>{plane + (long)i * w}; }, taps, 0, true, made + k * q);
      });
      for (int i = 0; i < h; i++) pack(N, w, made + i * w, q, smoothed + units.at(c / N, i), 0);
    }
    for (int strip = 0; levels[d] == 1 && strip < small.count(); strip++) {
      long n = small.pixels(strip), start = units.start(strip);
      T *grad = convolved ? smoothed + start : (T *)dz.of(worker);
      for (int c = 0; !convolved && c < C; c += N) {
        vec *both = N > 1 ? space.of(worker) : (vec *)grad + c * n;
        before_norm(strip, c, [&](int k, long at, vec value) { both[k * n + at] = value; });
        if (N > 1) pack(N, n, both, n, grad + c / N * n, 0);
      }
      T *U = (T *)u[d] + t * (C / N) * q + start;
      feedforward_backward(layers, own.first_back, own.second_back, n, U, n, grad, n, DU, to, space.of(worker));
      pack(C, n, DU, n, U, n);  // for the pass over x
      if (d && up == BILINEAR) haar_adjoint(DU, nullptr, R, 2 * small.rows(strip), W, large + 4 * strip * most, full);
      if (d && up == NEAREST)
        for (int r = 0; r < R; r++)
          for (long p = 0; p < n; p++) less[r * q + strip * most + p] = 2 * DU[r * n + p];
    }
    if (!d) return;  // nothing has been added before the first block
    for (int r = 0; levels[d] == 1 && up == BILINEAR && r < R; r++) bilinear_adjoint(large + r * full, h, w, less + r * q);
    for (int strip = 0; strip < small.count(); strip++) {
      long n = small.pixels(strip), start = small.start(strip), apart = n;
      const T *before = (const T *)(S + start);
      if (N > 1) {
        pack(C, n, S + start, n, (T *)rows.of(worker), apart = n | 1);
        before = (const T *)rows.of(worker);
      }
      reduction_backward(C, R, n, reductions_back[(long)m * D + d], less + strip * most, q,
                         turned(C, n, before, apart, (T *)other.of(worker)), Added{DS + start, n}, mine, nullptr,
                         space.of(worker));
    }
    measure(d - 1, t);
  };
  auto reduce = [&](int m, int g, int worker) {  // what the reductions pass on to x
    long t = (long)m * G + g;
    vec *DX = grad.of(worker), *less = reduced.of(worker);
    T *X = (T *)rows.of(worker);
    for (int strip = 0; strip < small.count(); strip++) {
      long n = 4 * small.pixels(strip), first = t * C * full + 4 * strip * most;
      pack(C, n, (const vec *)x + first, full, X, lead);
      Turned<T> seen = turned(C, n, X, lead, (T *)other.of(worker));
      for (int c = 0; c < C; c++)
        for (long p = 0; p < n; p++) DX[c * lead + p] = pixel(t, c);
      for (int d = 0; d < D; d++) {
        float *mine = reductions.of(t) + d * each_reduction;
        const T *U = (const T *)u[d] + t * (C / N) * q;
        vec *bands = back.of(worker);
        if (levels[d] > 1) {
          unpack(R, n / 4, U + strip * most, q, bands, n / 4);
          halve_adjoint(bands, R, small.rows(strip), w, less, n);
        } else {
          U += units.start(strip);
          if (N > 1) unpack(C, n / 4, U, n / 4, bands, n / 4);
          haar_adjoint(N > 1 ? bands : (vec *)U, nullptr, R, 2 * small.rows(strip), W, less, n);
        }
        reduction_backward(C, R, n, reductions_back[(long)m * D + d], less, n, seen, Added{DX, lead}, mine, mine + R * C,
                           space.of(worker));
      }
      for (int c = 0; c < C; c++) std::memcpy((void *)((vec *)dx + first + c * full), DX + c * lead, n * sizeof(vec));
    }
  };
  // stage 0 begins, stages 1 to D are blocks D - 1 to 0; the last one also reduces, as nothing is left to wait for
  auto item = [&](int stage, int m, int g, int worker) {
    if (!stage) return begin((long)m * G + g);
    block(D - stage, m, g, worker);
    if (stage == D) reduce(m, g, worker);
  };
  stages(K, G, D + 1, item, [&](int stage, int m) {
    float *to = dflat + m * P;
    if (const long *own = offsets + (long)(D - stage) * PARTS; stage)
      for (int i = 0; i < GAMMA; i++)
        if (own[i] >= 0) gradients.add(m, starts[i], sizes[i], to + own[i]);
    if (stage < D) {
      int d = D - 1 - stage;
      const long *own = offsets + (long)d * PARTS;
      Block block(flat, P, m, own);
      for (int c = 0; c < C; c++) sums[(long)m * C + c] = measured(part, m, G, C, c, own, to);
      Own &use = ready[m];
      use.first = weights(M, C, 1, block.part[FIRST], use.space[0]);
      use.first_back = weights(C, M, 1, transposed(block.part[FIRST], M, C, use.turned[0]), use.space[1]);
      use.second_back = weights(M, C, 1, transposed(block.part[SECOND], C, M, use.turned[1]), use.space[2]);
      gradients.clear(m);
      return;
    }
    for (int d = 0; d < D; d++)
      for (int i : {REDUCTION, REDUCTION_BIAS})
        if (long at = offsets[(long)d * PARTS + i]; at >= 0)
          reductions.add(m, d * each_reduction + (i ? R * C : 0), i ? R : R * C, to + at);
  });
}

extern "C" {

// x [K][G][C][H][W] -> pooled [K][G][C], the means of the map after D blocks, which is never made: those of x + up(s).
// Block d's branch is on level levels[d]. Kept for the backward pass, their rows as `Strips` has them: s, u[d] (null: not
// kept), z[d], and y[d], z before a depthwise convolution (null: there is none), each [K][G][C][H/2][W/2], of which u and
// y of a coarser level take less, row after row; all but s as bfloat16 where `narrow`.
// mean, variance [D][K][C] are measured, or read where `given`. Without a backward pass all z may be the same memory, and
// all y.
void chain_forward(const float *x, float *pooled, float *s, const float *flat, long P, const long *offsets,
                   const int *levels, float **u, float **z, float **y, float *mean, float *variance, int K, int G, int C,
                   int M, int H, int W, int D, int up, int kind, float eps, int given, int narrow) {
  with(narrow, [&](auto kept) {
    forward<decltype(kept)>(x, pooled, s, flat, P, offsets, levels, u, z, y, mean, variance, K, G, C, M, H, W, D, up, kind,
                            eps, given);
  });
}

// Gradients of chain_forward with measured statistics, from that of pooled: of x into dx, of the parameters added to
// dflat [K][P]. ds, like s, is working memory; s and u are lost.
void chain_backward(const float *x, const float *dpooled, float *s, float *dx, float *ds, const float *flat, long P,
                    const long *offsets, const int *levels, float **u, float **z, float **y, const float *mean,
                    const float *variance, float *dflat, int K, int G, int C, int M, int H, int W, int D, int up, int kind,
                    float eps, int narrow) {
  with(narrow, [&](auto kept) {
    backward<decltype(kept)>(x, dpooled, s, dx, ds, flat, P, offsets, levels, u, z, y, mean, variance, dflat, K, G, C, M, H,
                             W, D, up, kind, eps);
  });
}
}
