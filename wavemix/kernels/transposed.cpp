// All residual blocks of a network with transposed convolutions at once (see lanes.h for the layout and compiled_blocks.py for the
// mathematics). One pass over a group's feature map adds the block before and computes the next one up to its BatchNorm,
// while the map is in the cache; a member's groups meet once a block, for the statistics. Backward walks the same way down: it
// rebuilds each block's input by subtracting what the block had added, so that no input is kept.
#include "chain.h"

// Y[o][p * step_y] = bias[o] + sum_c W[o][c] X[at[c] + p * step]: a convolution's row, its taps where they lie.
template <int OB, int PB>
static inline void tap_tile(int C, const float *W, const vec *X, const int *at, int step, vec *Y, long ldy, int step_y,
                            const float *bias) {
  vec acc[OB][PB];
#pragma GCC unroll 8
  for (int o = 0; o < OB; o++)
#pragma GCC unroll 8
    for (int p = 0; p < PB; p++) acc[o][p] = all(bias ? bias[o] : 0.f);
  for (int c = 0; c < C; c++) {
    const vec *source = X + at[c];
    vec x[PB];
#pragma GCC unroll 8
    for (int p = 0; p < PB; p++) x[p] = source[p * step];
#pragma GCC unroll 8
    for (int o = 0; o < OB; o++) {
      vec w = all(W[(long)o * C + c]);
#pragma GCC unroll 8
      for (int p = 0; p < PB; p++) acc[o][p] += w * x[p];
    }
  }
#pragma GCC unroll 8
  for (int o = 0; o < OB; o++)
#pragma GCC unroll 8
    for (int p = 0; p < PB; p++) Y[o * ldy + p * step_y] = acc[o][p];
}
template <int PB>
static inline void tap_column(int O, int C, const float *W, const vec *X, const int *at, int step, vec *Y, long ldy,
                              int step_y, const float *bias) {
  int o = 0;
  for (; o + 6 <= O; o += 6)
    tap_tile<6, PB>(C, W + (long)o * C, X, at, step, Y + o * ldy, ldy, step_y, bias ? bias + o : 0);
  for (; o + 2 <= O; o += 2)
    tap_tile<2, PB>(C, W + (long)o * C, X, at, step, Y + o * ldy, ldy, step_y, bias ? bias + o : 0);
  for (; o < O; o++) tap_tile<1, PB>(C, W + (long)o * C, X, at, step, Y + o * ldy, ldy, step_y, bias ? bias + o : 0);
}
static void tap_row(int O, int C, int P, const float *W, const vec *X, const int *at, int step, vec *Y, long ldy,
                    int step_y, const float *bias) {
  int p = 0;
  for (; p + BROAD <= P; p += BROAD) tap_column<BROAD>(O, C, W, X + p * step, at, step, Y + p * step_y, ldy, step_y, bias);
  for (; p < P; p++) tap_column<1>(O, C, W, X + p * step, at, step, Y + p * step_y, ldy, step_y, bias);
}

// DW[o][c] += sum over rows r, positions p and lanes of D[o][r][p] X[at[c] + r * row + p * step].
template <int OB, int CB>
static inline void tap_outer_tile(int rows, int P, const vec *D, long ldd, const vec *X, const int *at, int row, int step,
                                  float *DW, int ldw) {
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
  for (int o = 0; o < OB; o++)
#pragma GCC unroll 8
    for (int c = 0; c < CB; c++) DW[(long)o * ldw + c] += total(acc[o][c]);
}
template <int OB>
static inline void tap_outer_row(int C, int rows, int P, const vec *D, long ldd, const vec *X, const int *at, int row,
                                 int step, float *DW, int ldw) {
  int c = 0;
  for (; c + BROAD <= C; c += BROAD) tap_outer_tile<OB, BROAD>(rows, P, D, ldd, X, at + c, row, step, DW + c, ldw);
  for (; c < C; c++) tap_outer_tile<OB, 1>(rows, P, D, ldd, X, at + c, row, step, DW + c, ldw);
}
static void tap_outer(int O, int C, int rows, int P, const vec *D, long ldd, const vec *X, const int *at, int row,
                      int step, float *DW, int ldw) {
  int o = 0;
  for (; o + 6 <= O; o += 6) tap_outer_row<6>(C, rows, P, D + o * ldd, ldd, X, at, row, step, DW + (long)o * ldw, ldw);
  for (; o + 2 <= O; o += 2) tap_outer_row<2>(C, rows, P, D + o * ldd, ldd, X, at, row, step, DW + (long)o * ldw, ldw);
  for (; o < O; o++) tap_outer_row<1>(C, rows, P, D + o * ldd, ldd, X, at, row, step, DW + (long)o * ldw, ldw);
}

// The 4x4 transposed convolution of F channels [h][w] to C channels [2h][2w]. Output (2i + a, 2j + b) sees 2x2 inputs:
// (i + a - 1, j + b - 1) and the next ones, through the weights' rows 3 - a, 1 - a and columns 3 - b, 1 - b.
struct Transposed {
  int C, F, h, w;
  std::vector<int> forward, backward;  // where the taps lie in the padded planes [F][h+2][w+2] and [C][2h+2][2w+2]
  Transposed(int C, int F, int h, int w) : C(C), F(F), h(h), w(w) {
    for (int f = 0; f < F; f++)
      for (int y = 0; y < 2; y++)
        for (int x = 0; x < 2; x++) forward.push_back((f * (h + 2) + y) * (w + 2) + x);
    for (int c = 0; c < C; c++)
      for (int y = 0; y < 4; y++)
        for (int x = 0; x < 4; x++) backward.push_back((c * (2 * h + 2) + y) * (2 * w + 2) + x);
  }
  long narrow() const { return (long)F * (h + 2) * (w + 2); }
  long wide() const { return (long)C * (2 * h + 2) * (2 * w + 2); }
  // weight [F][C][4][4] -> [4 phases][C][F * 4]
  void phases(const float *weight, float *out) const {
    for (int a = 0; a < 2; a++)
      for (int b = 0; b < 2; b++)
        for (int c = 0; c < C; c++)
          for (int f = 0; f < F; f++)
            for (int y = 0; y < 2; y++)
              for (int x = 0; x < 2; x++)
                *out++ = weight[(((long)f * C + c) * 4 + (3 - a - 2 * y)) * 4 + (3 - b - 2 * x)];
  }
  static void pad(const vec *z, int channels, int h, int w, vec *out) {
    for (int c = 0; c < channels; c++)
      for (int y = -1; y <= h; y++, out += w + 2) {
        out[0] = out[w + 1] = vec{};
        for (int x = 0; x < w; x++) out[x + 1] = y < 0 || y == h ? vec{} : z[((long)c * h + y) * w + x];
      }
  }
  void up(const vec *z, const float *phase, const float *bias, vec *padded, vec *v) const {
    pad(z, F, h, w, padded);
    for (int i = 0; i < 2 * h; i++)
      for (int b = 0; b < 2; b++)
        tap_row(C, 4 * F, w, phase + (long)(i % 2 * 2 + b) * C * 4 * F,
                padded + (long)(i / 2 + i % 2) * (w + 2) + b, forward.data(), 1, v + (long)i * 2 * w + b,
                (long)4 * h * w, 2, bias);
  }
  // dv padded [C][2h+2][2w+2]; weight [F][C * 16]
  void down(const vec *dv, const float *weight, vec *dz) const {
    for (int i = 0; i < h; i++)
      tap_row(F, 16 * C, w, weight, dv + (long)2 * i * (2 * w + 2), backward.data(), 2, dz + (long)i * w, (long)h * w,
              1, nullptr);
  }
  void weight_gradient(const vec *dv, const vec *z, float *dweight) const {
    tap_outer(F, 16 * C, h, w, z, (long)h * w, dv, backward.data(), 2 * (2 * w + 2), 2, dweight, 16 * C);
  }
};

// target = source + sign * (v * scale + shift)
static void add(const vec *v, long count, Affine norm, float sign, const vec *source, vec *target) {
  float scale = sign * norm.scale, shift = sign * norm.shift;
  for (long i = 0; i < count; i++) target[i] = source[i] + (v[i] * scale + shift);
}

extern "C" {

// x [K][G][C][H][W] -> pooled [K][G][C], the means of the map after D blocks. Kept for the backward pass: map, the one
// before the last block (where there is one block: untouched, it is x), z[d] [K][G][F][H/2][W/2] and v[d]
// [K][G][C][H][W]. mean, variance [D][K][C] are measured, or read where `given`. Without a backward pass all z and all v
// may be the same memory.
void transposed_forward(const float *x, float *pooled, float *map, const float *flat, long P, const long *offsets, float **z, float **v,
                        float *mean, float *variance, int K, int G, int C, int M, int F, int H, int W, int D, int kind,
                        float eps, int given) {
  int h = H / 2, w = W / 2, R = C / 4;
  long full = (long)H * W, q = full / 4;
  Transposed deconv(C, F, h, w);
  std::vector<double> part((long)K * G * C * 2);
  std::vector<float> phases((long)K * 16 * C * F);
  Scratch reduced(R * full), hidden(M * STRIP), bands(C * q), padded(deconv.narrow());
  auto begin = [&](int d, int m) {
    deconv.phases(Block(flat, P, m, offsets + (long)d * PARTS).part[UP], phases.data() + (long)m * 16 * C * F);
  };
  for (int m = 0; m < K; m++) begin(0, m);
  auto item = [&](int d, int m, int g, int worker) {
    long t = (long)m * G + g;
    const long *own = offsets + (long)d * PARTS;
    vec *here = (vec *)map + t * C * full;
    const vec *source = d > 1 ? here : (const vec *)x + t * C * full;
    for (int c = 0; d && c < C; c++) {
      long at = ((long)(d - 1) * K + m) * C + c;
      Affine norm = Block(flat, P, m, own - PARTS).norm(c, mean[at], variance[at], eps);
      const vec *y = (const vec *)v[d - 1] + (t * C + c) * full;
      if (d < D) {
        add(y, full, norm, 1, source + c * full, here + c * full);
        continue;
      }
      vec sum = {};
      for (long i = 0; i < full; i++) sum += source[c * full + i] + (y[i] * norm.scale + norm.shift);
      ((vec *)pooled)[t * C + c] = sum / (float)full;
    }
    if (d == D) return;
    if (d) source = here;
    Block block(flat, P, m, own);
    vec *Z = (vec *)z[d] + t * F * q, *V = (vec *)v[d] + t * C * full, *less = reduced.of(worker);
    mm(R, C, full, block.part[REDUCTION], C, source, full, less, full, block.part[REDUCTION_BIAS], false);
    haar(less, R, H, W, bands.of(worker));
    feedforward(C, M, F, q, kind, block.part[FIRST], block.part[FIRST_BIAS], block.part[SECOND],
                block.part[SECOND_BIAS], bands.of(worker), Z, hidden.of(worker));
    deconv.up(Z, phases.data() + (long)m * 16 * C * F, block.part[UP_BIAS], padded.of(worker), V);
    for (int c = 0; !given && c < C; c++) {
      const vec *y = V + c * full;
      vec sum = {}, squares = {};
      for (long i = 0; i < full; i++) sum += y[i];
      float middle = total(sum) / (full * LANES);
      for (long i = 0; i < full; i++) { vec e = y[i] - middle; squares += e * e; }
      part[(t * C + c) * 2] = middle;
      part[(t * C + c) * 2 + 1] = total(squares);
    }
  };
  stages(K, G, D + 1, item, [&](int d, int m) {
    long at = ((long)d * K + m) * C;
    if (d < D && !given) combine(&part[(long)m * G * C * 2], G, C, (double)full * LANES, mean + at, variance + at);
    if (d + 1 < D) begin(d + 1, m);
  });
}

// Gradients of transposed_forward with measured statistics, from that of pooled: of x into dx, of the parameters added to
// dflat [K][P]. `before` is the map before the last block, `map` [K][G][C][H][W] and `dz` [K][G][F][H/2][W/2] are working
// memory.
void transposed_backward(const float *before, const float *dpooled, float *map, float *dx, float *dz, const float *flat, long P,
                         const long *offsets, float **z, float **v, const float *mean, const float *variance,
                         float *dflat, int K, int G, int C, int M, int F, int H, int W, int D, int kind, float eps) {
  int h = H / 2, w = W / 2, R = C / 4;
  long full = (long)H * W, q = full / 4;
  float count = (float)full * LANES * G;
  Transposed deconv(C, F, h, w);
  std::vector<double> part((long)K * G * C * 2);
  std::vector<float> turned((long)K * (R * C + M * C + F * M));  // weights, transposed
  std::vector<Sums> sums((long)K * C);
  long sizes[GAMMA] = {(long)R * C, R, (long)M * C, M, (long)F * M, F, 16l * C * F, C};
  long starts[GAMMA] = {0}, each_block = 0;
  for (int i = 0; i < GAMMA; i++) { starts[i] = each_block; each_block += sizes[i]; }
  Gradients gradients(K, G, each_block);
  Scratch reduced(R * full), space(3 * M * STRIP), bands(C * q), back(C * q), padded(deconv.wide());
  // sums over a group of a map's gradient and of its product with the normalised map of block d's BatchNorm
  auto measure = [&](int d, long t, const vec *gradient) {
    for (int c = 0; c < C; c++) {
      long at = ((long)d * K + t / G) * C + c;
      float middle = mean[at];
      const vec *y = (const vec *)v[d] + (t * C + c) * full, *g = gradient + c * full;
      vec s1 = {}, s2 = {};
      for (long i = 0; i < full; i++) { s1 += g[i]; s2 += g[i] * (y[i] - middle); }
      part[(t * C + c) * 2] = total(s1);
      part[(t * C + c) * 2 + 1] = (double)total(s2) / std::sqrt(variance[at] + eps);
    }
  };
  auto block = [&](int d, int m, int group, int worker) {
    long t = (long)m * G + group;
    Block block(flat, P, m, offsets + (long)d * PARTS);
    const float *transposed = turned.data() + (long)m * (R * C + M * C + F * M);
    float *mine = gradients.of(t);
    vec *g = (vec *)dx + t * C * full, *rebuilt = (vec *)map + t * C * full, *DZ = (vec *)dz + t * F * q;
    vec *less = reduced.of(worker), *DV = padded.of(worker);
    bool last = d == D - 1;
    const vec *kept = (const vec *)before + t * C * full, *after = d == D - 2 ? kept : rebuilt;
    const vec *x = last ? kept : rebuilt;  // the map before the block
    for (int c = 0; c < C; c++) {
      long at = ((long)d * K + m) * C + c;
      Affine norm = block.norm(c, mean[at], variance[at], eps);
      Sums sum = sums[(long)m * C + c];
      float a = sum.gradient / count, b = sum.product / count / std::sqrt(variance[at] + eps), middle = mean[at];
      const vec *y = (const vec *)v[d] + (t * C + c) * full, *dy = g + c * full;
      vec *rows = DV + (long)c * (H + 2) * (W + 2), bias = {};
      for (int i = -1; i <= H; i++, rows += W + 2) {
        rows[0] = rows[W + 1] = vec{};
        for (int j = 0; j < W; j++) {
          if (i < 0 || i == H) { rows[j + 1] = vec{}; continue; }
          long pixel = (long)i * W + j;
          rows[j + 1] = norm.scale * (dy[pixel] - a - (y[pixel] - middle) * b);
          bias += rows[j + 1];
        }
      }
      mine[starts[UP_BIAS] + c] += total(bias);
      if (!last) add(y, full, norm, -1, after + c * full, rebuilt + c * full);
    }
    deconv.down(DV, block.part[UP], DZ);
    deconv.weight_gradient(DV, (const vec *)z[d] + t * F * q, mine + starts[UP]);
    mm(R, C, full, block.part[REDUCTION], C, x, full, less, full, block.part[REDUCTION_BIAS], false);
    haar(less, R, H, W, bands.of(worker));
    feedforward_backward(C, M, F, q, kind, block.part[FIRST], block.part[FIRST_BIAS], transposed + R * C,
                         transposed + R * C + M * C, bands.of(worker), DZ, back.of(worker), mine + starts[FIRST],
                         mine + starts[FIRST_BIAS], mine + starts[SECOND], mine + starts[SECOND_BIAS], space.of(worker));
    haar_adjoint(back.of(worker), nullptr, R, H, W, less, full);
    mm(C, R, full, transposed, R, less, full, g, full, nullptr, true);
    outer(R, C, full, less, full, x, full, mine + starts[REDUCTION], C, mine + starts[REDUCTION_BIAS]);
    if (d) measure(d - 1, t, g);
  };
  auto begin = [&](long t) {  // the gradient of the last map is the same everywhere
    vec *g = (vec *)dx + t * C * full;
    for (int c = 0; c < C; c++) {
      vec each = ((const vec *)dpooled)[t * C + c] / (float)full;
      for (long i = 0; i < full; i++) g[c * full + i] = each;
    }
    measure(D - 1, t, g);
  };
  // stage 0 begins, stages 1 to D are blocks D - 1 to 0
  auto item = [&](int stage, int m, int g, int worker) {
    if (stage) block(D - stage, m, g, worker);
    else begin((long)m * G + g);
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
    float *transposed = turned.data() + (long)m * (R * C + M * C + F * M);
    transpose(block.part[REDUCTION], R, C, transposed);
    transpose(block.part[FIRST], M, C, transposed + R * C);
    transpose(block.part[SECOND], F, M, transposed + R * C + M * C);
    gradients.clear(m);
  });
}
}
