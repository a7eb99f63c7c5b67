// Small maps of chain.cpp in strips of rows, and what blocks do to one channel of them: BatchNorm's moments, a depthwise
// convolution, and both backward.
#pragma once
#include "chain.h"
#include "narrow.h"

// Where the rows of a small map [channels][h][w] lie: in strips of `per` rows, each [channels][its rows][w]. A strip stays
// in the first cache through all that is done to it; channels a power of two apart would push each other out.
struct Strips {
  int channels, h, w, per;
  std::vector<vec> zeros;  // a row of them
  Strips(int channels, int h, int w) : channels(channels), h(h), w(w), per(strip_rows(h, w)), zeros(w) {}
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

// A channel's mean over a group, and its pixels' squared deviations from it after up-sampling. row(i): its row i.
template <class Row>
static void moments(const Strips &small, int up, const Row &row, double *out) {
  vec sum = {}, squares = {};
  for (int i = 0; i < small.h; i++) {
    auto here = row(i);
    for (int j = 0; j < small.w; j++) sum += here[j];
  }
  float middle = total(sum) / ((float)small.h * small.w * LANES);
  for (int i = 0; i < small.h; i++) {
    auto here = row(i);
    if (up == BILINEAR)  // gram(z - middle) = gram(z) - 4 middle
      bilinear_gram_row(row(i - 1), here, row(i + 1), small.w, [&](int j, vec e) {
        squares += (here[j] - middle) * (e - 4 * middle);
      });
    else
      for (int j = 0; j < small.w; j++) { vec e = here[j] - middle; squares += e * e; }
  }
  out[0] = middle;
  out[1] = total(squares);
}

// A channel's rows above, at and below row i; zeros outside.
template <class One>
struct Neighbours {
  One row[3];
  template <class Row>
  Neighbours(const Strips &small, int i, const Row &rows) {
    for (int a = 0; a < 3; a++) {
      int at = i + a - 1;
      row[a] = rows(at);
      if (at < 0 || at >= small.h) row[a].row = (decltype(row[a].row))small.zeros.data();
    }
  }
};

// A depthwise 3x3 convolution of one channel, zeros outside, to `out` [h][w]; with `turned` taps it is its own adjoint.
template <class Row>
static void depthwise(const Strips &small, const Row &rows, const float *taps, float bias, bool turned, vec *out) {
  float k[9];
  for (int i = 0; i < 9; i++) k[i] = taps[turned ? 8 - i : i];
  for (int i = 0; i < small.h; i++, out += small.w) {
    Neighbours<decltype(rows(0))> near(small, i, rows);
    vec left[3] = {}, here[3];
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
      out[j] = e;
    }
  }
}

// Gradients of its taps and its bias from that of its output, [h][w], added.
template <class Row>
static void depthwise_backward(const Strips &small, const Row &rows, const vec *g, float *taps, float *bias) {
  vec sums[9] = {}, total_grad = {};
  for (int i = 0; i < small.h; i++, g += small.w) {
    Neighbours<decltype(rows(0))> near(small, i, rows);
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

// BatchNorm of one channel in its backward pass: gradient before it = scale * (g - a - (z - middle) * b).
struct Unnormed { float scale, a, b, middle; };

// The gradient before BatchNorm and up-sampling of one channel in a strip, put(at, value), from g, that of s.
template <class Row, class Put>
static void normalise(const Strips &small, int up, int strip, const Row &rows, const vec *g, Unnormed n, const Put &put) {
  long at = 0;
  for (int i = strip * small.per; i < strip * small.per + small.rows(strip); i++, at += small.w) {
    auto here = rows(i);
    if (up == BILINEAR)  // the adjoint of up-sampling takes ones to fours
      bilinear_gram_row(rows(i - 1), here, rows(i + 1), small.w, [&](int j, vec e) {
        put(at + j, n.scale * (g[at + j] - 4 * n.a - (e - 4 * n.middle) * n.b));
      });
    else
      for (int j = 0; j < small.w; j++) put(at + j, n.scale * (g[at + j] - n.a - (here[j] - n.middle) * n.b));
  }
}
