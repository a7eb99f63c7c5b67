// All residual blocks of a network whose up-sampling is interpolation, for single images: a vector holds LANES pixels
// of one image, where those of the other kernels (lanes.h) hold one pixel of LANES images. There is nothing to train
// here: BatchNorm is part of the weights (wavemix/compiled.py folds it in).
//
// As in chain.cpp the map before block d is x + up(s), s being the small map that the blocks before have added up.
// Reduction, Haar transform and up-sampling are linear. So Haar's bands of x are made once, for all blocks to reduce, and
// the transform of the up-sampled reduction of s is a stencil on it: no map of full size is needed.
//
// A map [channels][h][w] has `lead` vectors a channel; its pixels lie in the first `count` of them, one after another.
// What the last of these holds behind the last pixel means nothing, and no pixel depends on it.
#include "feedforward.h"

static inline vec at(const float *p) {
  vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// Where a small map's pixels lie, and which of them have no neighbour on a side.
struct Pixels {
  int h, w;
  long count, lead, around;  // vectors; `around`: to either side of memory whose pixels' neighbours are read
  std::vector<int> sides[4];
  enum Side { LEFT, RIGHT, ABOVE, BELOW };
  Pixels(int h, int w) : h(h), w(w), count(((long)h * w + LANES - 1) / LANES), around(w / LANES + 2) {
    lead = count | 1;  // channels a power of two apart would push each other out of the cache
    for (auto &side : sides) side.assign(count * LANES, 0);
    for (int i = 0; i < h; i++)
      for (int j = 0; j < w; j++) {
        int p = i * w + j;
        sides[LEFT][p] = -(j == 0);
        sides[RIGHT][p] = -(j == w - 1);
        sides[ABOVE][p] = -(i == 0);
        sides[BELOW][p] = -(i == h - 1);
      }
  }
  ivec lacks(Side side, long v) const {
    ivec mask;
    std::memcpy(&mask, sides[side].data() + v * LANES, sizeof mask);
    return mask;
  }
};

// Haar's bands [LL, LH, HL, HH][C] of x [C][2h][2w].
static void bands_of(const Pixels &small, int C, const float *x, vec *bands) {
  int h = small.h, w = small.w;
  for (int c = 0; c < C; c++) {
    float *band[4];
    for (int b = 0; b < 4; b++) {
      band[b] = (float *)(bands + ((long)b * C + c) * small.lead);
      ((vec *)band[b])[small.count - 1] = vec{};
    }
    for (int i = 0; i < h; i++, x += 4 * w)
      for (int j = 0; j < w; j++) {
        float a = x[2 * j], b = x[2 * j + 1], d = x[2 * w + 2 * j], e = x[2 * w + 2 * j + 1];
        float s = a + b, u = a - b, v = d + e, f = d - e;
        int p = i * w + j;
        band[0][p] = 0.5f * (s + v);
        band[1][p] = 0.5f * (s - v);
        band[2][p] = 0.5f * (u + f);
        band[3][p] = 0.5f * (u - f);
      }
  }
}

// Haar's bands [4][R] of `reduced` [R] after bilinear up-sampling, added. Along an axis the sum of the two pixels that
// are made of one is 1.5 of it and 0.25 of its neighbours, their difference 0.25 of its neighbours'.
static void add_bilinear(const Pixels &small, int R, const vec *reduced, vec *bands) {
  long plane = R * small.lead;
  for (long v = 0; v < small.count; v++) {
    ivec left = small.lacks(Pixels::LEFT, v), right = small.lacks(Pixels::RIGHT, v);
    ivec above = small.lacks(Pixels::ABOVE, v), below = small.lacks(Pixels::BELOW, v);
    for (int r = 0; r < R; r++) {
      const float *middle = (const float *)(reduced + r * small.lead + v);
      vec sum[3], difference[3];
      for (int i = 0; i < 3; i++) {
        const float *row = middle + (i - 1) * small.w;
        vec here = at(row), before = left ? here : at(row - 1), after = right ? here : at(row + 1);
        sum[i] = 1.5f * here + 0.25f * (before + after);
        difference[i] = 0.25f * (before - after);
      }
      vec *out = bands + r * small.lead + v;
      vec top = above ? sum[1] : sum[0], bottom = below ? sum[1] : sum[2];
      out[0] += 0.75f * sum[1] + 0.125f * (top + bottom);
      out[plane] += 0.125f * (top - bottom);
      top = above ? difference[1] : difference[0];
      bottom = below ? difference[1] : difference[2];
      out[2 * plane] += 0.75f * difference[1] + 0.125f * (top + bottom);
      out[3 * plane] += 0.125f * (top - bottom);
    }
  }
}

// A depthwise 3x3 convolution [C], zeros outside: taps [C][9], then biases [C].
static void depthwise(const Pixels &small, int C, const vec *in, const float *taps, vec *out) {
  const float *biases = taps + 9 * C;
  for (long v = 0; v < small.count; v++) {
    ivec none = {}, column[3] = {small.lacks(Pixels::LEFT, v), none, small.lacks(Pixels::RIGHT, v)};
    ivec row[3] = {small.lacks(Pixels::ABOVE, v), none, small.lacks(Pixels::BELOW, v)};
    for (int c = 0; c < C; c++) {
      const float *middle = (const float *)(in + c * small.lead + v);
      vec sum = all(biases[c]);
      for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++) {
          vec near = at(middle + (a - 1) * small.w + b - 1);
          sum += taps[9 * c + 3 * a + b] * ((row[a] | column[b]) ? vec{} : near);
        }
      out[c * small.lead + v] = sum;
    }
  }
}

extern "C" {

// x [N][C][H][W] -> pooled [N][C], the means of the map after D blocks. `weights` has of each block: reduction [C/4][C],
// first layer [M][C] (inputs band by band) and bias [M], second layer [C][M] and bias [C], and where `convolved` a
// depthwise convolution's taps [C][9] and bias [C].
void image_blocks(const float *x, float *pooled, const float *weights, int N, int C, int M, int H, int W, int D, int up,
                  int kind, int convolved) {
  int R = C / 4;
  const Pixels small(H / 2, W / 2);
  long q = (long)small.h * small.w, map = C * small.lead;
  long each = (long)R * C + 2l * M * C + M + C + (convolved ? 10 * C : 0);
  Scratch bands(4 * map), inside(map), hidden(M * LEAD), total_map(map);
  Scratch reduced(R * small.lead + 2 * small.around), added(map + 2 * small.around);  // neighbours are read in these
  parallel(N, [&](int n, int worker) {
    vec *X = bands.of(worker), *U = inside.of(worker), *S = total_map.of(worker);
    vec *r = reduced.of(worker) + small.around, *Z = added.of(worker) + small.around;
    bands_of(small, C, x + (long)n * C * H * W, X);
    for (int d = 0; d < D; d++) {
      const float *reduction = weights + d * each, *first = reduction + R * C, *first_bias = first + M * C;
      const float *second = first_bias + M, *second_bias = second + M * C;
      for (int b = 0; b < 4; b++)
        mm(R, C, small.count, reduction, C, X + b * map, small.lead, U + b * R * small.lead, small.lead, nullptr, false);
      if (d) {
        mm(R, C, small.count, reduction, C, S, small.lead, r, small.lead, nullptr, false);
        if (up == BILINEAR) add_bilinear(small, R, r, U);
        else  // all of it is in the coarse band
          for (long p = 0; p < R * small.lead; p++) U[p] += 2 * r[p];
      }
      vec *Y = convolved ? Z : d ? Z : S;
      feedforward(Layers<vec>{C, M, C, kind, first, second, first_bias, second_bias}, small.count, U, small.lead,
                  hidden.of(worker), Written{Y, small.lead});
      if (convolved) depthwise(small, C, Z, second_bias + C, d ? U : S);
      const vec *more = convolved ? U : Z;
      for (long p = 0; d && p < map; p++) S[p] += more[p];
    }
    for (int c = 0; c < C; c++) {
      const vec *low = X + c * small.lead, *more = S + c * small.lead;
      vec sums = {};  // a pixel here is four of the map's
      long v = 0;
      for (; (v + 1) * LANES <= q; v++) sums += 2 * low[v] + 4 * more[v];
      vec last = v < small.count ? 2 * low[v] + 4 * more[v] : vec{};
      float sum = total(sums);
      for (int p = 0; p < q - v * LANES; p++) sum += last[p];
      pooled[(long)n * C + c] = sum / (4 * q);
    }
  });
}
}
