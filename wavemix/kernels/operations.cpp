// CPU kernels of operations.py, one operation each (see lanes.h for the layout).
#include "feedforward.h"

extern "C" {

// One batch: images uint8 [n][I][H][W] at `index` [T*LANES], moved by the affine map `move` [T*LANES][6] (output pixel
// from the image's centre -> input pixel from the centre: y' = m0 y + m1 x + m2, x' = m3 y + m4 x + m5; bilinear, zero
// or the `border`'s pixels outside), normalised as (value / 255 - mean[i]) / deviation[i] -> out [T][I][H][W][LANES]. A
// null move copies.
void load_batch(const unsigned char *images, const long *index, const float *move, const float *mean,
                const float *deviation, float *out, int T, int I, int H, int W, int border) {
  parallel(T, [&](int t, int) {
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
            if (border) {
              fy = fy > 0 ? (fy < H - 1 ? fy : H - 1) : 0;
              fx = fx > 0 ? (fx < W - 1 ? fx : W - 1) : 0;
            }
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
  });
}

// Reduction 1x1 (C -> R) and `levels` of Haar. bands[l] is [K][G][4R][H/2^(l+1)][W/2^(l+1)]: LL of each channel,
// then LH, HL, HH of the first channel, of the second, ... (upstream's order).
void down_forward(const float *x, const float *weight, const float *bias, float **bands, int K, int G, int C, int R,
                  int H, int W, int levels) {
  Scratch reduced((long)R * H * W);
  parallel(K * G, [&](int t, int worker) {
    int m = t / G;
    mm(R, C, (long)H * W, weight + (long)m * R * C, C, (const vec *)x + (long)t * C * H * W, (long)H * W,
       reduced.of(worker), (long)H * W, bias ? bias + m * R : nullptr, false);
    const vec *source = reduced.of(worker);
    int h = H, w = W;
    for (int l = 0; l < levels; l++, h /= 2, w /= 2) {
      vec *out = (vec *)bands[l] + (long)t * R * h * w;
      haar(source, R, h, w, out);
      source = out;  // its first R planes are LL
    }
  });
}

void down_backward(const float *x, const float *weight, float **dbands, float *dx, float *dweight, float *dbias, int K,
                   int G, int C, int R, int H, int W, int levels) {
  Gradients dw(K, G, (long)R * C), db(K, G, R);
  std::vector<float> turned((long)K * R * C);
  for (int m = 0; m < K; m++) transpose(weight + (long)m * R * C, R, C, turned.data() + (long)m * R * C);
  Scratch space((long)R * H * W * 2);
  parallel(K * G, [&](int t, int worker) {
    int m = t / G;
    vec *coarse = nullptr, *grad = nullptr;
    for (int l = levels - 1; l >= 0; l--) {
      int h = H >> l, w = W >> l;
      grad = space.of(worker) + (l % 2) * (long)R * H * W;
      haar_adjoint((const vec *)dbands[l] + (long)t * R * h * w, coarse, R, h, w, grad, (long)h * w);
      coarse = grad;
    }
    long P = (long)H * W;
    mm(C, R, P, turned.data() + (long)m * C * R, R, grad, P, (vec *)dx + (long)t * C * P, P, nullptr, false);
    outer(R, C, P, grad, P, (const vec *)x + (long)t * C * P, P, dw.of(t), C, db.of(t));
  });
  dw.into(dweight);
  if (dbias) db.into(dbias);
}

void mlp_forward(const float *u, const float *w1, const float *b1, const float *w2, const float *b2, float *z, int K,
                 int G, int C, int M, int F, long P, int kind) {
  Scratch hidden(M * LEAD);
  parallel(K * G, [&](int t, int worker) {
    int m = t / G;
    Layers<vec> own{C, M, F, kind, w1 + (long)m * M * C, w2 + (long)m * F * M, b1 ? b1 + (long)m * M : nullptr,
                    b2 ? b2 + (long)m * F : nullptr};
    feedforward(own, P, (const vec *)u + (long)t * C * P, P, hidden.of(worker), Written{(vec *)z + (long)t * F * P, P});
  });
}

void mlp_backward(const float *u, const float *w1, const float *b1, const float *w2, const float *dz, float *du,
                  float *dw1, float *db1, float *dw2, float *db2, int K, int G, int C, int M, int F, long P, int kind) {
  Gradients g1(K, G, (long)M * C), gb1(K, G, M), g2(K, G, (long)F * M), gb2(K, G, F);
  std::vector<float> t1((long)K * M * C), t2((long)K * F * M);
  for (int m = 0; m < K; m++) {
    transpose(w1 + (long)m * M * C, M, C, t1.data() + (long)m * M * C);
    transpose(w2 + (long)m * F * M, F, M, t2.data() + (long)m * F * M);
  }
  Scratch space(backward_space(C, M, F));
  parallel(K * G, [&](int t, int worker) {
    int m = t / G;
    Layers<vec> own{C, M, F, kind, w1 + (long)m * M * C, nullptr, b1 ? b1 + (long)m * M : nullptr, nullptr};
    feedforward_backward(own, t1.data() + (long)m * M * C, t2.data() + (long)m * F * M, P,
                         (const vec *)u + (long)t * C * P, P, (const vec *)dz + (long)t * F * P, P,
                         (vec *)du + (long)t * C * P, {g1.of(t), gb1.of(t), g2.of(t), gb2.of(t)}, space.of(worker));
  });
  g1.into(dw1); g2.into(dw2);
  if (db1) gb1.into(db1);
  if (db2) gb2.into(db2);
}

// out = base + BatchNorm(up(z)) with the statistics of this batch. z [K][G][F][h][w]; base and out [K][G][F][H][W];
// base may be null. With nearest up-sampling each value repeats four times: the mean and the biased variance are
// those of z, so the statistics are taken at a quarter of the size. mean, variance: [K][F], biased. Where given is
// true, mean and variance are read (evaluation) instead of measured.
void norm_up_forward(const float *z, const float *base, const float *gamma, const float *beta, float *out, float *mean,
                     float *variance, int K, int G, int F, int h, int w, int up, float eps, int given) {
  long q = (long)h * w, full = up == NONE ? q : 4 * q, seen = up == BILINEAR ? full : q;
  std::vector<double> part((long)K * G * F * 2);
  Scratch wide(up == BILINEAR ? full : 1);
  auto large = [&](const vec *v, int worker) {
    if (up != BILINEAR) return v;
    bilinear(v, h, w, wide.of(worker));
    return (const vec *)wide.of(worker);
  };
  auto item = [&](int stage, int m, int g, int worker) {
    long t = (long)m * G + g;
    bool measures = stage == 0 && !given;
    for (int f = 0; f < F; f++) {
      const vec *v = (const vec *)z + (t * F + f) * q;
      if (measures) {
        v = large(v, worker);
        vec s = {}, m2 = {};
        for (long i = 0; i < seen; i++) s += v[i];
        float middle = total(s) / (seen * LANES);
        for (long i = 0; i < seen; i++) { vec d = v[i] - middle; m2 += d * d; }
        part[(t * F + f) * 2] = middle;
        part[(t * F + f) * 2 + 1] = total(m2);
        continue;
      }
      int at = m * F + f;
      float scale = gamma[at] / std::sqrt(variance[at] + eps), shift = beta[at] - mean[at] * scale;
      const vec *b = base ? (const vec *)base + (t * F + f) * full : nullptr;
      vec *o = (vec *)out + (t * F + f) * full;
      if (up == NEAREST) {
        for (int i = 0; i < h; i++)
          for (int j = 0; j < w; j++) {
            vec y = v[(long)i * w + j] * scale + shift;
            long a = (long)4 * i * w + 2 * j;
            for (long c : {a, a + 1, a + 2 * w, a + 2 * w + 1}) o[c] = b ? b[c] + y : y;
          }
      } else {
        v = large(v, worker);
        for (long i = 0; i < full; i++) { vec y = v[i] * scale + shift; o[i] = b ? b[i] + y : y; }
      }
    }
  };
  stages(K, G, given ? 1 : 2, item, [&](int stage, int m) {
    if (stage == 0 && !given)
      combine(&part[(long)m * G * F * 2], G, F, (double)seen * LANES, mean + m * F, variance + m * F);
  });
}

// Gradients of norm_up_forward with measured statistics (that of base is dout itself).
void norm_up_backward(const float *z, const float *dout, const float *gamma, const float *mean, const float *variance,
                      float *dz, float *dgamma, float *dbeta, int K, int G, int F, int h, int w, int up, float eps) {
  long q = (long)h * w, full = up == NONE ? q : 4 * q, seen = up == BILINEAR ? full : q;
  std::vector<double> part((long)K * G * F * 2);
  Scratch wide(full);
  auto item = [&](int stage, int m, int g, int worker) {
    long t = (long)m * G + g;
    for (int f = 0; f < F; f++) {
      int at = m * F + f;
      float count = (float)seen * LANES * G, r = 1 / std::sqrt(variance[at] + eps), middle = mean[at];
      const vec *v = (const vec *)z + (t * F + f) * q, *d = (const vec *)dout + (t * F + f) * full;
      vec *o = (vec *)dz + (t * F + f) * q, *large = wide.of(worker);
      if (up == BILINEAR) bilinear(v, h, w, large);
      if (stage == 0) {
        if (up == NEAREST) {
          for (int i = 0; i < h; i++)
            for (int j = 0; j < w; j++) {
              long a = (long)4 * i * w + 2 * j;
              o[(long)i * w + j] = d[a] + d[a + 1] + d[a + 2 * w] + d[a + 2 * w + 1];
            }
          d = o;
        }
        if (up == BILINEAR) v = large;
        vec s1 = {}, s2 = {};
        for (long i = 0; i < seen; i++) { s1 += d[i]; s2 += d[i] * (v[i] - middle); }
        part[(t * F + f) * 2] = total(s1);
        part[(t * F + f) * 2 + 1] = (double)total(s2) * r;
        continue;
      }
      float scale = gamma[at] * r, a = dbeta[at] / count, b = dgamma[at] / count * r;
      if (up == BILINEAR) {
        for (long i = 0; i < full; i++) large[i] = scale * (d[i] - a - (large[i] - middle) * b);
        bilinear_adjoint(large, h, w, o);
      } else {
        if (up == NEAREST) d = o;
        for (long i = 0; i < q; i++) o[i] = scale * (d[i] - a - (v[i] - middle) * b);
      }
    }
  };
  stages(K, G, 2, item, [&](int stage, int m) {
    for (int f = 0; stage == 0 && f < F; f++) {
      double s1 = 0, s2 = 0;
      for (int g = 0; g < G; g++) {
        const double *sums = &part[(((long)m * G + g) * F + f) * 2];
        s1 += sums[0];
        s2 += sums[1];
      }
      dbeta[m * F + f] = s1;
      dgamma[m * F + f] = s2;
    }
  });
}
}
