// All residual blocks of a network whose up-sampling is interpolation, at once (see lanes.h for the layout and compiled_blocks.py
// for the mathematics). Interpolation is linear and the same in every block, so the map before block d is x + up(s), where
// the small map s is the sum of what the blocks before had added before up-sampling. Reduction and wavelet transform are
// linear too, and so no block touches a map of full size: what they make of x is computed for all blocks in one pass over
// x, what they make of up(s) from the reduced s. Backward likewise: blocks pass on the gradient of s, and one pass at the
// end adds what their reductions pass on to x. (Where there is no backward pass, and so nothing is kept, every block
// reduces x again.) A member's groups meet once a block, for BatchNorm's statistics; those of an interpolated map are
// functions of the small one.
#include "chain.h"

// Where the rows of a small map [channels][h][w] lie: in strips of `per` rows, each [channels][its rows][w]. A strip stays
// in the first cache through all that is done to it; channels a power of two apart would push each other out.
struct Strips {
  int channels, h, w, per;
  std::vector<vec> zeros;  // a row of them
  Strips(int channels, int h, int w) : channels(channels), h(h), w(w), zeros(w) {
    for (per = 1; per < h && (per * w < 28 || per * w % 4); per++) {}
  }
  int count() const { return (h + per - 1) / per; }
  int rows(int strip) const { return h - strip * per < per ? h - strip * per : per; }
  long pixels(int strip) const { return (long)rows(strip) * w; }
  long start(int strip) const { return (long)strip * per * channels * w; }
  long at(int c, int row) const {  // the nearest one where there is no such row
    row = row < 0 ? 0 : row < h ? row : h - 1;
    int strip = row / per;
    return start(strip) + c * pixels(strip) + (long)(row - strip * per) * w;
  }
};

// A channel's mean over a group, and its pixels' squared deviations from it after up-sampling.
static void moments(const Strips &small, int up, int c, const vec *z, double *out) {
  vec sum = {}, squares = {};
  for (int i = 0; i < small.h; i++)
    for (int j = 0; j < small.w; j++) sum += z[small.at(c, i) + j];
  float middle = total(sum) / ((float)small.h * small.w * LANES);
  for (int i = 0; i < small.h; i++) {
    const vec *here = z + small.at(c, i);
    if (up == BILINEAR)  // gram(z - middle) = gram(z) - 4 middle
      bilinear_gram_row(z + small.at(c, i - 1), here, z + small.at(c, i + 1), small.w, [&](int j, vec e) {
        squares += (here[j] - middle) * (e - 4 * middle);
      });
    else
      for (int j = 0; j < small.w; j++) { vec e = here[j] - middle; squares += e * e; }
  }
  out[0] = middle;
  out[1] = total(squares);
}

// A channel's rows above, at and below row i; zeros outside.
struct Neighbours {
  const vec *row[3];
  Neighbours(const Strips &small, int c, int i, const vec *map) {
    for (int a = 0; a < 3; a++) {
      int at = i + a - 1;
      row[a] = at < 0 || at >= small.h ? small.zeros.data() : map + small.at(c, at);
    }
  }
};

// A depthwise 3x3 convolution of one channel, zeros outside; with `turned` taps it is its own adjoint.
static void depthwise(const Strips &small, int c, const vec *in, const float *taps, float bias, bool turned, vec *out) {
  float k[9];
  for (int i = 0; i < 9; i++) k[i] = taps[turned ? 8 - i : i];
  for (int i = 0; i < small.h; i++) {
    Neighbours near(small, c, i, in);
    vec *o = out + small.at(c, i), left[3] = {}, here[3];
    for (int a = 0; a < 3; a++) here[a] = near.row[a][0];
    for (int j = 0; j < small.w; j++) {
      vec e = all(bias);
#pragma GCC unroll 3
      for (int a = 0; a < 3; a++) {
        vec right = j + 1 < small.w ? near.row[a][j + 1] : vec{};
        e += k[3 * a] * left[a] + k[3 * a + 1] * here[a] + k[3 * a + 2] * right;
        left[a] = here[a];
        here[a] = right;
      }
      o[j] = e;
    }
  }
}

// Gradients of its taps and its bias from that of its output, added.
static void depthwise_backward(const Strips &small, int c, const vec *in, const vec *grad, float *taps, float *bias) {
  vec sums[9] = {}, total_grad = {};
  for (int i = 0; i < small.h; i++) {
    Neighbours near(small, c, i, in);
    const vec *g = grad + small.at(c, i);
    vec left[3] = {}, here[3];
    for (int a = 0; a < 3; a++) here[a] = near.row[a][0];
    for (int j = 0; j < small.w; j++) {
      total_grad += g[j];
#pragma GCC unroll 3
      for (int a = 0; a < 3; a++) {
        vec right = j + 1 < small.w ? near.row[a][j + 1] : vec{};
        sums[3 * a] += g[j] * left[a];
        sums[3 * a + 1] += g[j] * here[a];
        sums[3 * a + 2] += g[j] * right;
        left[a] = here[a];
        here[a] = right;
      }
    }
  }
  add_totals<9>(sums, taps);
  *bias += total(total_grad);
}

// The gradient before BatchNorm and up-sampling of one channel of a strip, from that of s.
static void normalise(const Strips &small, int up, int strip, int c, const vec *z, const vec *ds, float scale, float a,
                      float b, float middle, vec *dz) {
  for (int i = strip * small.per; i < strip * small.per + small.rows(strip); i++, dz += small.w) {
    const vec *here = z + small.at(c, i), *g = ds + small.at(c, i);
    if (up == BILINEAR)  // the adjoint of up-sampling takes ones to fours
      bilinear_gram_row(z + small.at(c, i - 1), here, z + small.at(c, i + 1), small.w, [=](int j, vec e) {
        dz[j] = scale * (g[j] - 4 * a - (e - 4 * middle) * b);
      });
    else
      for (int j = 0; j < small.w; j++) dz[j] = scale * (g[j] - a - (here[j] - middle) * b);
  }
}

extern "C" {

// x [K][G][C][H][W] -> pooled [K][G][C], the means of the map after D blocks, which is never made: those of x + up(s).
// Kept for the backward pass, their rows as `Strips` has them: s, u[d] (null: not kept), z[d], and y[d], z before a
// depthwise convolution (null: there is none), each [K][G][C][H/2][W/2].
// mean, variance [D][K][C] are measured, or read where `given`. Without a backward pass all z may be the same memory, and compiled_blocks.py
// all y.
void chain_forward(const float *x, float *pooled, float *s, const float *flat, long P, const long *offsets, float **u,
                   float **z, float **y, float *mean, float *variance, int K, int G, int C, int M, int H, int W, int D,
                   int up, int kind, float eps, int given) {
  int h = H / 2, w = W / 2, R = C / 4;
  long full = (long)H * W, q = full / 4;
  const Strips small(C, h, w);
  long most = small.pixels(0), lead = 4 * most + 4;  // not a power of two
  std::vector<double> part((long)K * G * C * 2);
  Scratch rows(C * lead), reduced(R * 4 * most), hidden(M * STRIP), bands(C * most), more(C * most), narrow(R * q);
  auto project = [&](int d, long t, int strip, const vec *rows, vec *reduced, vec *bands) {
    Block block(flat, P, t / G, offsets + (long)d * PARTS);
    long n = 4 * small.pixels(strip);
    mm(R, C, n, block.part[REDUCTION], C, rows, lead, reduced, n, block.part[REDUCTION_BIAS], false);
    haar(reduced, R, 2 * small.rows(strip), W, bands);
  };
  auto load = [&](long t, int strip, vec *rows) {
    for (int c = 0; c < C; c++)
      std::memcpy((void *)(rows + c * lead), (const vec *)x + (t * C + c) * full + 4 * strip * most,
                  4 * small.pixels(strip) * sizeof(vec));
  };
  // what block d - 1 adds, to s; and in `next`, if there is a block d, what its reduction makes of s
  auto add = [&](int d, long t, vec *S, vec *next) {
    const long *own = offsets + (long)d * PARTS;
    int m = t / G;
    Block before(flat, P, m, own - PARTS);
    const vec *Z = (const vec *)z[d - 1] + t * C * q;
    for (int strip = 0; strip < small.count(); strip++) {
      long n = small.pixels(strip), start = small.start(strip);
      for (int c = 0; c < C; c++, start += n) {
        long at = ((long)(d - 1) * K + m) * C + c;
        Affine norm = before.norm(c, mean[at], variance[at], eps);
        for (long p = start; p < start + n; p++)
          S[p] = d > 1 ? S[p] + (Z[p] * norm.scale + norm.shift) : Z[p] * norm.scale + norm.shift;
      }
      if (next)
        mm(R, C, n, Block(flat, P, m, own).part[REDUCTION], C, S + small.start(strip), n, next + strip * most, q,
           nullptr, false);
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
  auto block = [&](int d, int m, int g, int worker) {
    long t = (long)m * G + g;
    vec *S = (vec *)s + t * C * q, *next = narrow.of(worker);
    for (int strip = 0; d == 0 && u[0] && strip < small.count(); strip++) {  // for all blocks, while x is at hand
      load(t, strip, rows.of(worker));
      for (int e = 0; e < D; e++)
        project(e, t, strip, rows.of(worker), reduced.of(worker), (vec *)u[e] + t * C * q + small.start(strip));
    }
    if (d) add(d, t, S, d < D ? next : nullptr);
    if (d == D) return pool(t, S);
    Block block(flat, P, m, offsets + (long)d * PARTS);
    vec *Z = (vec *)z[d] + t * C * q, *Y = y[d] ? (vec *)y[d] + t * C * q : Z;
    for (int strip = 0; strip < small.count(); strip++) {
      long n = small.pixels(strip);
      vec *U = u[d] ? (vec *)u[d] + t * C * q + small.start(strip) : bands.of(worker);
      if (!u[d]) {
        load(t, strip, rows.of(worker));
        project(d, t, strip, rows.of(worker), reduced.of(worker), U);
      }
      if (d && up == BILINEAR) {
        vec *o = reduced.of(worker), *wider = more.of(worker);
        for (int r = 0; r < R; r++)
          for (int i = 2 * strip * small.per; i < 2 * (strip * small.per + small.rows(strip)); i++, o += W) {
            const vec *plane = next + r * q;
            bilinear_row(plane + (long)i / 2 * w, plane + (long)far_row(i, h) * w, w, [=](int j, vec e) { o[j] = e; });
          }
        haar(reduced.of(worker), R, 2 * small.rows(strip), W, wider);
        for (long p = 0; p < C * n; p++) U[p] += wider[p];
      }
      if (d && up == NEAREST)  // all of it is in the coarse band
        for (int r = 0; r < R; r++)
          for (long p = 0; p < n; p++) U[r * n + p] += 2 * next[r * q + strip * most + p];
      feedforward(C, M, C, n, kind, block.part[FIRST], block.part[FIRST_BIAS], block.part[SECOND],
                  block.part[SECOND_BIAS], U, Y + small.start(strip), hidden.of(worker));
    }
    for (int c = 0; y[d] && c < C; c++)
      depthwise(small, c, Y, block.part[UP] + 9 * c, block.part[UP_BIAS] ? block.part[UP_BIAS][c] : 0, false, Z);
    for (int c = 0; !given && c < C; c++) moments(small, up, c, Z, &part[(t * C + c) * 2]);
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

// Gradients of chain_forward with measured statistics, from that of pooled: of x into dx, of the parameters added to
// dflat [K][P]. ds, like s, is working memory; s and u are lost.
void chain_backward(const float *x, const float *dpooled, float *s, float *dx, float *ds, const float *flat, long P,
                    const long *offsets, float **u, float **z, float **y, const float *mean, const float *variance,
                    float *dflat, int K, int G, int C, int M, int H, int W, int D, int up, int kind, float eps) {
  int h = H / 2, w = W / 2, R = C / 4;
  long full = (long)H * W, q = full / 4;
  const Strips small(C, h, w);
  long most = small.pixels(0), lead = 4 * most + 4;
  float count = (float)(up == NEAREST ? q : full) * LANES * G;
  std::vector<double> part((long)K * G * C * 2);
  std::vector<float> turned((long)K * D * R * C), deeper((long)K * 2 * M * C);  // weights, transposed
  std::vector<Sums> sums((long)K * C);
  for (int m = 0; m < K; m++)
    for (int d = 0; d < D; d++)
      transpose(Block(flat, P, m, offsets + (long)d * PARTS).part[REDUCTION], R, C, turned.data() + ((long)m * D + d) * R * C);
  bool convolved = y[0];
  long sizes[GAMMA] = {(long)R * C, 0, (long)M * C, M, (long)C * M, C, convolved ? 9 * C : 0, convolved ? C : 0};
  long starts[GAMMA] = {0}, each_block = 0;
  for (int i = 0; i < GAMMA; i++) { starts[i] = each_block; each_block += sizes[i]; }
  long each_reduction = R * C + R;  // the reduction's gradient by x, and its bias's
  Gradients gradients(K, G, each_block), reductions(K, G, D * each_reduction);
  Scratch space(3 * M * STRIP), dz(convolved ? 2 * C * q : C * most), back(C * most);
  Scratch wide(up == BILINEAR ? R * full : 0), narrow(R * q), rows(C * lead), grad(C * lead), reduced(R * 4 * most);

  // sums over a group of ds and of ds * (normalised z) of block d's BatchNorm
  auto measure = [&](int d, long t) {
    for (int c = 0; c < C; c++) {
      long at = ((long)d * K + t / G) * C + c;
      float middle = mean[at];
      vec s1 = {}, s2 = {};
      for (int strip = 0; strip < small.count(); strip++) {
        long start = t * C * q + small.start(strip) + c * small.pixels(strip);
        const vec *g = (const vec *)ds + start, *Z = (const vec *)z[d] + start;
        for (long p = 0; p < small.pixels(strip); p++) { s1 += g[p]; s2 += g[p] * (Z[p] - middle); }
      }
      part[(t * C + c) * 2] = total(s1);
      part[(t * C + c) * 2 + 1] = (double)total(s2) / std::sqrt(variance[at] + eps);
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
  auto block = [&](int d, int m, int g, int worker) {
    long t = (long)m * G + g;
    Block block(flat, P, m, offsets + (long)d * PARTS);
    const float *transposed = deeper.data() + (long)m * 2 * M * C;
    float *mine = gradients.of(t);
    vec *S = (vec *)s + t * C * q, *DS = (vec *)ds + t * C * q, *DZ = dz.of(worker), *DU = back.of(worker);
    vec *large = wide.of(worker), *less = narrow.of(worker);
    const vec *Z = (const vec *)z[d] + t * C * q;
    auto before_norm = [&](int strip, vec *grad) {
      long n = small.pixels(strip), start = small.start(strip);
      for (int c = 0; c < C; c++) {
        long at = ((long)d * K + m) * C + c;
        Affine norm = block.norm(c, mean[at], variance[at], eps);
        Sums sum = sums[(long)m * C + c];
        for (long p = start + c * n; p < start + (c + 1) * n; p++) S[p] -= Z[p] * norm.scale + norm.shift;
        normalise(small, up, strip, c, Z, DS, norm.scale, sum.gradient / count,
                  sum.product / count / std::sqrt(variance[at] + eps), mean[at], grad + c * n);
      }
    };
    for (int strip = 0; convolved && strip < small.count(); strip++)  // a convolution's strips need their neighbours
      before_norm(strip, DZ + C * q + small.start(strip));
    for (int c = 0; convolved && c < C; c++) {
      depthwise_backward(small, c, (const vec *)y[d] + t * C * q, DZ + C * q, mine + starts[UP] + 9 * c,
                         mine + starts[UP_BIAS] + c);
      depthwise(small, c, DZ + C * q, block.part[UP] + 9 * c, 0, true, DZ);
    }
    for (int strip = 0; strip < small.count(); strip++) {
      long n = small.pixels(strip), start = small.start(strip);
      const vec *grad = convolved ? DZ + start : DZ;
      if (!convolved) before_norm(strip, DZ);
      vec *U = (vec *)u[d] + t * C * q + start;
      feedforward_backward(C, M, C, n, kind, block.part[FIRST], block.part[FIRST_BIAS], transposed, transposed + M * C, U,
                           grad, DU, mine + starts[FIRST], mine + starts[FIRST_BIAS], mine + starts[SECOND],
                           mine + starts[SECOND_BIAS], space.of(worker));
      std::memcpy((void *)U, DU, C * n * sizeof(vec));  // for the pass over x
      if (d && up == BILINEAR) haar_adjoint(DU, nullptr, R, 2 * small.rows(strip), W, large + 4 * strip * most, full);
      if (d && up == NEAREST)
        for (int r = 0; r < R; r++)
          for (long p = 0; p < n; p++) less[r * q + strip * most + p] = 2 * DU[r * n + p];
    }
    if (!d) return;  // nothing has been added before the first block
    for (int r = 0; up == BILINEAR && r < R; r++) bilinear_adjoint(large + r * full, h, w, less + r * q);
    for (int strip = 0; strip < small.count(); strip++) {
      long n = small.pixels(strip), start = small.start(strip);
      const vec *reduced = less + strip * most;
      mm(C, R, n, turned.data() + ((long)m * D + d) * R * C, R, reduced, q, DS + start, n, nullptr, true);
      outer(R, C, n, reduced, q, S + start, n, mine, C, nullptr);
    }
    measure(d - 1, t);
  };
  auto reduce = [&](int m, int g, int worker) {  // what the reductions pass on to x
    long t = (long)m * G + g;
    vec *X = rows.of(worker), *DX = grad.of(worker), *less = reduced.of(worker);
    for (int strip = 0; strip < small.count(); strip++) {
      long n = 4 * small.pixels(strip), first = t * C * full + 4 * strip * most;
      for (int c = 0; c < C; c++) {
        std::memcpy((void *)(X + c * lead), (const vec *)x + first + c * full, n * sizeof(vec));
        for (long p = 0; p < n; p++) DX[c * lead + p] = pixel(t, c);
      }
      for (int d = 0; d < D; d++) {
        float *mine = reductions.of(t) + d * each_reduction;
        haar_adjoint((const vec *)u[d] + t * C * q + small.start(strip), nullptr, R, 2 * small.rows(strip), W, less, n);
        mm(C, R, n, turned.data() + ((long)m * D + d) * R * C, R, less, n, DX, lead, nullptr, true);
        outer(R, C, n, less, n, X, lead, mine, C, mine + R * C);
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
      transpose(block.part[FIRST], M, C, deeper.data() + (long)m * 2 * M * C);
      transpose(block.part[SECOND], C, M, deeper.data() + ((long)m * 2 + 1) * M * C);
      gradients.clear(m);
      return;
    }
    for (int d = 0; d < D; d++)
      for (int i : {REDUCTION, REDUCTION_BIAS})
        if (long at = offsets[(long)d * PARTS + i]; at >= 0)
          reductions.add(m, d * each_reduction + (i ? R * C : 0), i ? R : R * C, to + at);
  });
}
}
